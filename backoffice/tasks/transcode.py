"""Encode one source with a profile, and see that the result is what was asked."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from backoffice.errors import Invalid, TaskFailed
from backoffice.media import (
    amr,
    colour,
    decoding,
    ffmpeg,
    listening,
    pictures,
    profiles,
    rendering,
    renditions,
    scan,
    shortfall,
    soundtracks,
    subtitles,
)
from backoffice.media.hls import Text
from backoffice.media.profiles import Expected, Facts, Loudness, Profile
from backoffice.media.soundtracks import Soundtrack
from backoffice.states import Reason
from backoffice.system import files
from backoffice.tasks import DAMAGE, Context, Output, Plan, Result, Source, package, tolerates

PARAMETERS: Mapping[str, str] = {
    "profile": "the name of the encoding profile",
    "damage": DAMAGE,
    "only": "picture: leave sound and subtitles to other tasks",
}
REQUIRED: frozenset[str] = frozenset({"profile"})

MEASURING = 0.25  # of the progress, when loudness takes a pass of its own


@dataclass(frozen=True)
class _Work:
    profile: Profile
    source: Source
    facts: Facts
    expected: Expected
    tolerant: bool = False  # of a source with faults, of which less may come out
    only: str = ""
    extra: Sequence[str] = ()  # ffmpeg's arguments for more inputs

    @property
    def sounds(self) -> Sequence[Soundtrack]:
        return profiles.sounds(self.profile, self.facts)

    @property
    def texts(self) -> Sequence[Facts]:
        """The subtitles that go into a package."""
        packs = self.profile.package and not self.only
        return subtitles.textual(self.facts) if packs else ()

    @property
    def unsure(self) -> Sequence[Soundtrack]:
        """Sounds between which nothing chooses but whether anything is to be heard."""
        audio = self.profile.audio
        if self.profile.copy or not audio or audio.streams == "all":
            return ()
        tracks = soundtracks.candidates(self.facts, audio.languages)
        unsure = listening.unsure(tracks)
        return unsure if audio.streams == "languages" or tracks[:1] == unsure[:1] else ()

    def about(self, facts: Facts) -> _Work:
        """The same work on a source of which something else is known."""
        return replace(self, facts=facts, expected=profiles.expected(self.profile, facts))

    @property
    def title(self) -> str:
        return self.source.title

    def target(self, folder: Path) -> Path:
        """Where the result lies; for a ladder, where a player starts."""
        if self.profile.package:
            name = files.output_name(self.title, f"-{self.profile.name}")
            return folder / name / self.profile.package.manifest
        assert self.profile.container is not None
        extension = self.profile.container.extension
        return folder / files.output_name(self.title, f"-{self.profile.name}.{extension}")


def plan(context: Context) -> Plan:
    work = _prepare(context)
    target = work.target(context.folder)
    commands, notes = [], []
    if work.unsure:
        commands.append(_listen_command(context, work))
        notes.append("sounds in which the first command hears nothing are left out")
    work, copies = _unpacked(context, work)
    commands += copies.commands
    loudness: list[str] = []
    if audio := _with_loudness(work):
        commands += [_measure_command(context, work, track) for track in work.sounds]
        loudness = [profiles.loudness_filter(audio, None) for _ in work.sounds]
        notes.append("the loudness that is measured first goes into the last command")
    commands.append(_encode_command(context, work, loudness, target))
    if work.texts:
        commands.append(_text_command(context, work, target.parent))
    return Plan(commands, [_output(work, target, _planned_facts(work))], notes)


def run(context: Context) -> Result:
    work = _prepare(context)
    while True:
        try:
            return _run(context, _listened(context, work))
        except TaskFailed as error:
            smaller = _without_undecodable(work, error)
            if smaller is None:
                raise
            context.log(f"once more without what cannot be decoded: {error}")
            work = smaller


def _run(context: Context, given: _Work) -> Result:
    work, copies = _unpacked(context, given)
    for command in copies.commands:
        context.execute(command, share=0.0)
    loudness, report, warnings = _corrections(context, work)
    start = MEASURING if loudness or warnings else 0.0
    partial = _partial(context.folder, work)
    stderr = context.execute(
        _encode_command(context, work, loudness, partial),
        duration=work.expected.duration or None,
        start=start,
        share=0.98 - start,
    )
    ffmpeg.require_written(stderr)
    warnings += _check_decoded(context, work, stderr) + _left_out(work)
    if work.texts:
        ffmpeg.require_written(context.execute(_text_command(context, work, partial.parent)))
    copies.remove()
    facts = _known_by(work, _verify(context, work, partial))
    warnings += _missing(work, facts) + _warnings(work, stderr)
    target = _accept(work, partial, work.target(context.folder))
    context.progress(1.0)
    report |= {"profile": work.profile.name, "duration": facts["duration"]}
    if work.sounds:
        report["sounds"] = [soundtracks.name(work.facts, track) for track in work.sounds]
    if said := _rendered(work):
        report["colour"] = said
    return Result([_output(work, target, facts)], report=report, warnings=warnings)


def _prepare(context: Context) -> _Work:
    name = context.parameters.get("profile", "")
    known = profiles.load(context.settings.paths.profiles)
    if name not in known:
        raise TaskFailed(
            f"there is no profile {name!r}; there are {', '.join(sorted(known))}",
            retry=False,
            reason=Reason.BAD_PARAMETER,
        )
    if len(context.sources) != 1:
        raise TaskFailed(
            f"transcode takes one file, and got {len(context.sources)}; check the workflow",
            retry=False,
            reason=Reason.BAD_PARAMETER,
        )
    source, profile, only = context.sources[0], known[name], context.parameters.get("only", "")
    if only not in ("", "picture") or (only and (profile.copy or not profile.video)):
        raise TaskFailed(
            f"only is {only!r}; it may be picture, where the profile encodes one",
            retry=False,
            reason=Reason.BAD_PARAMETER,
        )
    if only:
        profile = replace(profile, audio=None)
    facts = source.facts or ffmpeg.probe(
        source.path, context.settings, context.log, name=source.title
    )
    if profile.video:
        facts = scan.looked(facts, source.path, context.settings, context.log, name=source.title)
    if reason := profiles.unfit(profile, facts):
        raise TaskFailed(f"{source.title} {reason}", retry=False, reason=Reason.UNUSABLE_SOURCE)
    try:
        wanted = profiles.expected(profile, facts)
        return _Work(profile, source, facts, wanted, tolerates(context.parameters), only)
    except Invalid as error:
        raise TaskFailed(
            f"{source.title}: {error}", retry=False, reason=Reason.UNUSABLE_SOURCE
        ) from error


def _unused_pictures(work: _Work) -> list[str]:
    """Pictures beside the one that is encoded, and frames beyond what the profile allows."""
    if not work.profile.video:
        return []
    capped = profiles.capped(work.profile, work.facts)
    return [*pictures.unused(work.facts["video"]), *([capped] if capped else [])]


# Sound


def _listen_command(context: Context, work: _Work) -> list[str]:
    return [
        *ffmpeg.command(context.settings, level="info"),
        *ffmpeg.input_arguments(work.source.path, context.settings),
        *listening.arguments(work.unsure),
    ]


def _listened(context: Context, work: _Work) -> _Work:
    if not work.unsure:
        return work
    stderr = context.execute(_listen_command(context, work), share=0.0)
    alone = len(work.unsure) == len(soundtracks.candidates(work.facts))
    silent = listening.silent(work.unsure, stderr, only=alone)
    return work.about(soundtracks.without(work.facts, silent, "it is silent"))


_GIVEN_UP = re.compile(r"Cannot determine format of input stream 0:(\d+) after EOF")


class _Undecodable(TaskFailed):
    """Nothing to speak of could be decoded of the stream with that index."""

    def __init__(self, index: int, message: str) -> None:
        super().__init__(message, retry=False)
        self.index = index


def _without_undecodable(work: _Work, error: TaskFailed) -> _Work | None:
    """The work without such a sound; None if it failed for another reason."""
    match = _GIVEN_UP.search(str(error))
    gone = error.index if isinstance(error, _Undecodable) else int(match[1]) if match else -1
    if gone not in {stream["index"] for stream in work.facts["audio"]}:
        return None
    facts = soundtracks.without(work.facts, {gone}, "nothing of it can be decoded")
    if why := profiles.unfit(work.profile, facts):
        raise TaskFailed(
            f"{work.title} {why}", retry=False, reason=Reason.DAMAGED_SOURCE
        ) from error
    return work.about(facts)


def _unpacked(context: Context, work: _Work) -> tuple[_Work, amr.Unpacked]:
    sounds = () if work.profile.copy else work.sounds
    used = [stream["index"] for track in sounds for stream in track.streams]
    copies = amr.unpacked(work.source.path, work.facts, used, context.folder, context.settings)
    return replace(work, facts=copies.facts, extra=copies.inputs), copies


def _with_loudness(work: _Work) -> Loudness | None:
    audio = work.profile.audio
    return audio.loudness if audio and work.sounds else None


def _corrections(context: Context, work: _Work) -> tuple[list[str], dict[str, Any], list[str]]:
    """A filter for each sound, what was measured, and what must be told."""
    target = _with_loudness(work)
    if target is None:
        return [], {}, []
    filters, measured, told = [], [], []
    for number, track in enumerate(work.sounds):
        share = MEASURING / len(work.sounds)
        stderr = context.execute(
            _measure_command(context, work, track),
            duration=work.expected.duration or None,
            start=number * share,
            share=share,
        )
        found = profiles.measured_loudness(stderr)
        filters.append(profiles.loudness_filter(target, found) if found else "")
        measured.append(found)
        if not found:
            name = soundtracks.name(work.facts, track)
            told.append(f"{name} is silent or too short: its loudness was left as it is")
    first = measured[0] if len(measured) == 1 else measured
    return filters, {"loudness": first} if any(measured) else {}, told


def _measure_command(context: Context, work: _Work, track: Soundtrack) -> list[str]:
    audio = work.profile.audio
    assert audio is not None
    return [
        *ffmpeg.command(context.settings, level="info"),
        *_inputs(context, work),
        *profiles.measure_arguments(audio, track),
    ]


def _inputs(context: Context, work: _Work) -> list[str]:
    return [*ffmpeg.input_arguments(work.source.path, context.settings), *work.extra]


def _check_decoded(context: Context, work: _Work, stderr: str) -> list[str]:
    """Tell sounds with gaps. Raises TaskFailed where packets were there, and much of
    them could not be decoded."""
    if work.profile.copy:
        return []
    told = []
    for track, span in zip(work.sounds, work.expected.sounds, strict=True):
        for stream in track.streams:
            told += _gaps(context, work, stream, span.length, stderr)
    return told


def _gaps(context: Context, work: _Work, stream: Facts, length: float, stderr: str) -> list[str]:
    found = shortfall.of(
        *(stream, length, stderr),
        source=work.source.path,
        facts=work.facts,
        settings=context.settings,
    )
    if found is None:
        return []
    if found.verdict == decoding.NOTHING:
        raise _Undecodable(stream["index"], found.message)
    if found.verdict == decoding.HOLES and not work.tolerant:
        raise TaskFailed(
            f"{work.title} is damaged: only {found.message}",
            retry=False,
            reason=Reason.DAMAGED_SOURCE,
        )
    return [f"{found.message}; the rest is silence"]


def _known_by(work: _Work, facts: dict[str, Any]) -> dict[str, Any]:
    """With what MP4 cannot say of its sounds, for the tasks that come after it."""
    if work.profile.package:
        return facts
    pairs = zip(facts["audio"], work.sounds, strict=True)
    return facts | {"audio": [_named(made, track) for made, track in pairs]}


def _named(made: Facts, track: Soundtrack) -> dict[str, Any]:
    known = {"language": track.language, "title": track.title}
    if track.role != soundtracks.MAIN:
        known["role"] = track.role
    return {**made, **{key: value for key, value in known.items() if value}}


# What is left out


def _left_out(work: _Work) -> list[str]:
    if work.only:
        return _unused_pictures(work)
    told = _unused_pictures(work) + [
        f"left out: {soundtracks.name(work.facts, track)}: {_why_left_out(work, track)}"
        for track in soundtracks.left_out(work.facts, work.sounds)
    ]
    told += [
        f"left out: {soundtracks.name(work.facts, Soundtrack((one,)))}: {one['reason']}"
        for one in work.facts.get("unusable", ())
        if one["kind"] == "sound" and one not in work.source.facts.get("unusable", ())
    ]
    if work.sounds and work.sounds[0].role != soundtracks.MAIN and not work.profile.copy:
        name = soundtracks.name(work.facts, work.sounds[0])
        told.append(f"there is no main sound that can be used: {name} comes first")
    return told + _channels_left_out(work) + _texts_left_out(work)


def _why_left_out(work: _Work, track: Soundtrack) -> str:
    audio = work.profile.audio
    if audio is None:
        return f"the profile {work.profile.name} makes no sound"
    if audio.streams == "main":
        return f"the profile {work.profile.name} takes one sound"
    return "another of its language is taken"


def _channels_left_out(work: _Work) -> list[str]:
    audio = work.profile.audio
    return [
        f"left out: channels 3 to {track.channels} of {soundtracks.name(work.facts, track)}:"
        " nothing says what they are"
        for track in work.sounds
        if audio and profiles.programme_pair(audio, track)
    ]


def _texts_left_out(work: _Work) -> list[str]:
    if work.profile.sound_only:
        return []
    used = [*work.texts, *profiles.texts(work.profile, work.facts)]
    reason = f"the profile {work.profile.name} takes no subtitles"
    return subtitles.left_out(work.facts, used, reason)


def _text_command(context: Context, work: _Work, folder: Path) -> list[str]:
    names = renditions.text_names(work.texts)
    return [
        *ffmpeg.command(context.settings),
        *ffmpeg.input_arguments(work.source.path, context.settings),
        *subtitles.extraction(work.texts, [folder / f"{name}.vtt" for name in names]),
    ]


# Encoding


def _encode_command(
    context: Context, work: _Work, loudness: Sequence[str], target: Path
) -> list[str]:
    package_of = work.profile.package
    level = decoding.LEVEL if work.sounds and not work.profile.copy else "warning"
    return [
        *ffmpeg.command(context.settings, level=level),
        *_decoder(work),
        *_inputs(context, work),
        *profiles.encode_arguments(work.profile, work.facts, loudness=loudness),
        *ffmpeg.threads_arguments(context.settings),
        *(profiles.package_output(package_of, target.parent) if package_of else [str(target)]),
    ]


def _warnings(work: _Work, stderr: str) -> list[str]:
    picture = profiles.first_picture(work.facts)
    if picture is None or not work.profile.video:
        return []
    return [f"{work.title} {said}" for said in rendering.warnings(picture, stderr)]


def _rendered(work: _Work) -> str:
    """What became of HDR."""
    picture = profiles.first_picture(work.facts)
    videos = profiles.rungs(work.profile, work.facts) if picture else ()
    said = (colour.rendered(picture, profiles.made_colour(v, picture)) for v in videos if picture)
    return next(filter(None, said), "")


def _decoder(work: _Work) -> list[str]:
    picture = profiles.first_picture(work.facts)
    return rendering.decoder(picture) if picture and work.profile.video else []


def _partial(folder: Path, work: _Work) -> Path:
    """Where it is written until it has been checked."""
    final = work.target(folder)
    if not work.profile.package:
        return folder / f"partial{final.suffix}"
    shutil.rmtree(folder / "partial", ignore_errors=True)  # of a try before
    (folder / "partial").mkdir()
    return folder / "partial" / final.name


def _accept(work: _Work, partial: Path, target: Path) -> Path:
    if work.profile.package:
        partial.parent.rename(target.parent)
    else:
        partial.rename(target)
    return target


def _verify(context: Context, work: _Work, partial: Path) -> dict[str, Any]:
    wanted = work.expected
    if work.profile.package:
        # Playlists begin with the first frame, wherever the source's clock did.
        ladder = package.ladder(work.profile, work.facts, lengths=not work.tolerant)
        ladder = replace(ladder, texts=_described(work))
        facts = package.verify(context, work.profile.package, partial.parent, ladder)
    else:
        facts = ffmpeg.probe(partial, context.settings, context.log)
    _check_streams(wanted, facts)
    if not (work.profile.package or work.tolerant):
        _check_lengths(work, facts)
    return facts


def _missing(work: _Work, facts: Facts) -> list[str]:
    """What is not there of a source whose faults are tolerated."""
    wanted, made = work.expected.duration, float(facts["duration"])
    if not work.tolerant or made >= wanted - ffmpeg.tolerance(wanted):
        return []
    return [f"{work.title} lasts {wanted:.1f} s, and only {made:.1f} s of it came out"]


def _described(work: _Work) -> Sequence[Text]:
    return renditions.texts(work.texts, renditions.text_names(work.texts))


def _check_lengths(work: _Work, facts: Facts) -> None:
    """Each stream against its own: the longest of the source may be another."""
    wanted = work.expected
    pairs = [(wanted.picture, one) for one in facts["video"]]
    for span, stream in (*pairs, *zip(wanted.sounds, facts["audio"], strict=True)):
        if span and span.length and (made := float(stream.get("duration", 0.0))):
            package.check_length(work.title, made, span)
    if facts["duration"] < wanted.whole - ffmpeg.tolerance(wanted.whole) - _late(work.facts):
        raise package.too_short(work.title, facts["duration"], wanted.whole)


def _late(facts: Facts) -> float:
    """The source's length may count from zero while its pictures begin later."""
    return max(0.0, float(facts.get("start", 0.0)))


def _check_streams(wanted: Expected, facts: Facts) -> None:
    sizes = sorted((v["width"], v["height"]) for v in facts["video"])
    if len(sizes) != len(wanted.pictures) or not all(
        _same_size(made, asked) for made, asked in zip(sizes, sorted(wanted.pictures), strict=True)
    ):
        asked_for, made = _sizes(wanted.pictures), _sizes(sizes)
        raise TaskFailed(
            f"pictures of {asked_for} were asked for, {made} came out", reason=Reason.WRONG_OUTPUT
        )
    if len(facts["audio"]) != len(wanted.sounds):
        raise TaskFailed(
            f"{len(wanted.sounds)} sound streams were asked for, {len(facts['audio'])} came out",
            reason=Reason.WRONG_OUTPUT,
        )


def _same_size(made: tuple[int, int], asked: tuple[int, int]) -> bool:
    """Pixels that are not quite square shift the size as displayed by one."""
    return abs(made[0] - asked[0]) <= 1 and abs(made[1] - asked[1]) <= 1


def _sizes(sizes: Sequence[tuple[int, int]]) -> str:
    return ", ".join(f"{width}×{height}" for width, height in sizes) or "no size"


def _output(work: _Work, target: Path, facts: Facts) -> Output:
    if package_of := work.profile.package:
        return Output("package", target, package_of.media_type, tree=True, facts=facts)
    assert work.profile.container is not None
    role = "audio" if work.profile.sound_only else "rendition"
    return Output(role, target, work.profile.container.media_type, facts=facts)


_CODECS = {"libx264": "h264", "libx265": "hevc", "prores_ks": "prores"}


def _planned_facts(work: _Work) -> dict[str, Any]:
    """Enough for the tasks that come after it to be planned too."""
    wanted, profile = work.expected, work.profile
    shown = _planned_pictures(work)
    sounds = profiles.sounds(profile, work.facts)
    return {
        "duration": wanted.duration,
        "start": 0.0,
        "video": [
            {
                **(work.facts["video"][0] if work.facts["video"] else {}),
                **{"index": n, "width": width, "height": height},
                **{"interlaced": False, "scan": pictures.PROGRESSIVE, "rotation": 0},
                **picture,
            }
            for n, (picture, (width, height)) in enumerate(zip(shown, wanted.pictures, strict=True))
        ],
        "audio": [
            {
                **{**track.first, **track.described},
                **{"index": len(shown) + n, "codec": _sound_codec(profile, track.first)},
            }
            for n, track in enumerate(sounds)
        ],
        "subtitle": [],
    }


def _planned_pictures(work: _Work) -> list[dict[str, Any]]:
    if work.profile.copy:
        return [{"codec": picture["codec"]} for picture in work.facts["video"]]
    return [
        {
            "codec": _CODECS[video.codec],
            "pixel_format": video.pixel_format,
            "colour": asdict(profiles.made_colour(video, work.facts["video"][0])),
        }
        for video in profiles.rungs(work.profile, work.facts)
    ]


def _sound_codec(profile: Profile, sound: Facts) -> str:
    return profile.audio.codec if profile.audio else str(sound["codec"])
