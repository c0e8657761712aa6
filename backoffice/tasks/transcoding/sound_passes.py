"""What is done for the sounds of a source around its encoding: they are listened to,
unpacked and measured before it, and counted after it.

All encodings of one command have the same source, and what is found of it is so for all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from backoffice.errors import TaskFailed
from backoffice.media import amr, decoding, ffmpeg, listening, profiles, shortfall, soundtracks
from backoffice.media.profiles import Audio, Facts, Loudness
from backoffice.media.soundtracks import Soundtrack
from backoffice.states import Reason
from backoffice.tasks import Context
from backoffice.tasks.transcoding.encoding import Encoding

Encodings = Sequence[Encoding]

MEASURING = 0.25  # of the progress, when loudness takes a pass of its own


def inputs(context: Context, encodings: Encodings) -> list[str]:
    """ffmpeg's arguments: the source, and what is read in the place of its sounds."""
    first = encodings[0]
    return [*ffmpeg.input_arguments(first.source.path, context.settings), *first.extra]


# Which are silent


def listen_command(context: Context, encodings: Encodings) -> list[str]:
    """Empty if nothing depends on it."""
    unsure = _unsure(encodings)
    if not unsure:
        return []
    return [
        *ffmpeg.command(context.settings, level="info"),
        *ffmpeg.input_arguments(encodings[0].source.path, context.settings),
        *listening.arguments(unsure),
    ]


def listened(context: Context, encodings: Encodings) -> Encodings:
    """Without those of which nothing is to be heard."""
    unsure, facts = _unsure(encodings), encodings[0].facts
    if not unsure:
        return encodings
    stderr = context.execute(listen_command(context, encodings), share=0.0)
    alone = len(unsure) == len(soundtracks.candidates(facts))
    silent = listening.silent(unsure, stderr, only=alone)
    return _about(encodings, soundtracks.without(facts, silent, "it is silent"))


def _unsure(encodings: Encodings) -> Sequence[Soundtrack]:
    return next((one.unsure for one in encodings if one.unsure), ())


def _about(encodings: Encodings, facts: Facts) -> Encodings:
    return [one.about(facts) for one in encodings]


# Copies that can be decoded


def unpacked(context: Context, encodings: Encodings) -> tuple[Encodings, amr.Unpacked]:
    used = [
        stream["index"]
        for one in encodings
        if not one.profile.copy
        for track in one.sounds
        for stream in track.streams
    ]
    first = encodings[0]
    copies = amr.unpacked(first.source.path, first.facts, used, context.folder, context.settings)
    return [replace(one, facts=copies.facts, extra=copies.inputs) for one in encodings], copies


# Loudness


@dataclass(frozen=True)
class Measured:
    """Of one encoding: a filter for each sound, what was measured, what must be told."""

    filters: Sequence[str] = ()
    measured: Sequence[dict[str, float] | None] = ()
    warnings: Sequence[str] = ()

    @property
    def report(self) -> dict[str, Any]:
        if not any(self.measured):
            return {}
        found = self.measured
        return {"loudness": found[0] if len(found) == 1 else list(found)}


def measure_commands(context: Context, encodings: Encodings) -> list[list[str]]:
    """Each once, though several encodings may need it."""
    commands = {
        tuple(_measure_command(context, one, audio, track)): None
        for one in encodings
        for audio, _, track in _measured(one)
    }
    return [list(command) for command in commands]


def planned_filters(encodings: Encodings) -> list[list[str]]:
    """As far as they are known before anything has been measured."""
    return [
        [profiles.loudness_filter(target, None) for _, target, _ in _measured(one)]
        for one in encodings
    ]


def loudness(context: Context, encodings: Encodings) -> list[Measured]:
    """Measured for each of the encodings."""
    commands = measure_commands(context, encodings)
    share = MEASURING / max(1, len(commands))
    said = {
        tuple(command): context.execute(
            command,
            duration=encodings[0].expected.duration or None,
            start=number * share,
            share=share,
        )
        for number, command in enumerate(commands)
    }
    return [_loudness(context, one, said) for one in encodings]


def _loudness(context: Context, one: Encoding, said: Mapping[tuple[str, ...], str]) -> Measured:
    filters, measured, told = [], [], []
    for audio, target, track in _measured(one):
        stderr = said[tuple(_measure_command(context, one, audio, track))]
        found = profiles.measured_loudness(stderr)
        filters.append(profiles.loudness_filter(target, found) if found else "")
        measured.append(found)
        if not found:
            name = soundtracks.name(one.facts, track)
            told.append(f"{name} is silent or too short: its loudness was left as it is")
    return Measured(filters, measured, told)


def _measured(one: Encoding) -> Iterator[tuple[Audio, Loudness, Soundtrack]]:
    """The sounds that come out at a loudness that is asked for."""
    audio = one.profile.audio
    if audio and audio.loudness:
        for track in one.sounds:
            yield audio, audio.loudness, track


def _measure_command(context: Context, one: Encoding, audio: Audio, track: Soundtrack) -> list[str]:
    return [
        *ffmpeg.command(context.settings, level="info"),
        *inputs(context, [one]),
        *profiles.measure_arguments(audio, track),
    ]


# What was decoded of them


class Undecodable(TaskFailed):
    """Nothing to speak of could be decoded of the stream with that index."""

    def __init__(self, index: int, message: str) -> None:
        super().__init__(message, retry=False, reason=Reason.DAMAGED_SOURCE)
        self.index = index


_GIVEN_UP = re.compile(r"Cannot determine format of input stream 0:(\d+) after EOF")


def without_undecodable(encodings: Encodings, error: TaskFailed) -> Encodings:
    """The encodings without such a sound; empty if they failed for another reason."""
    match = _GIVEN_UP.search(str(error))
    gone = error.index if isinstance(error, Undecodable) else int(match[1]) if match else -1
    facts = encodings[0].facts
    if gone not in {stream["index"] for stream in facts["audio"]}:
        return ()
    facts = soundtracks.without(facts, {gone}, "nothing of it can be decoded")
    for one in encodings:
        if why := profiles.unfit(one.profile, facts):
            raise TaskFailed(
                f"{one.title} {why}", retry=False, reason=Reason.DAMAGED_SOURCE
            ) from error
    return _about(encodings, facts)


def check_decoded(context: Context, encodings: Encodings, stderr: str) -> list[str]:
    """Tell sounds with gaps. Raises TaskFailed where packets were there, and much of
    them could not be decoded."""
    told: list[str] = []
    seen: set[int] = set()
    for one, stream, length in _used(encodings):
        if stream["index"] not in seen:
            told += _gaps(context, one, stream, length, stderr)
            seen.add(stream["index"])
    return told


def _used(encodings: Encodings) -> Iterator[tuple[Encoding, Facts, float]]:
    """Those that are decoded, each with the seconds that it must last."""
    for one in encodings:
        if not one.profile.copy:
            for track, span in zip(one.sounds, one.expected.sounds, strict=True):
                for stream in track.streams:
                    yield one, stream, span.length


def _gaps(context: Context, one: Encoding, stream: Facts, length: float, stderr: str) -> list[str]:
    found = shortfall.of(
        stream,
        length,
        stderr,
        source=one.source.path,
        facts=one.facts,
        settings=context.settings,
    )
    if found is None:
        return []
    if found.verdict == decoding.NOTHING:
        raise Undecodable(stream["index"], found.message)
    if found.verdict == decoding.HOLES and not one.tolerant:
        raise TaskFailed(
            f"{one.title} is damaged: only {found.message}",
            retry=False,
            reason=Reason.DAMAGED_SOURCE,
        )
    return [f"{found.message}; the rest is silence"]


def decodes_sound(encodings: Encodings) -> bool:
    return any(one.sounds and not one.profile.copy for one in encodings)
