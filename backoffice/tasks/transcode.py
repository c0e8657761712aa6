"""Encode one source with a profile, or with several at once, and see that the results
are what was asked."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from backoffice.errors import Invalid, TaskFailed
from backoffice.media import (
    decoding,
    ffmpeg,
    profiles,
    renditions,
    scan,
    soundtracks,
    subtitles,
)
from backoffice.media.profiles import Expected, Facts, Profile
from backoffice.states import Reason
from backoffice.tasks import (
    DAMAGE,
    Context,
    Plan,
    Result,
    Source,
    facts_of,
    only_source,
    package,
    tolerates,
)
from backoffice.tasks.transcoding import omissions, sound_passes
from backoffice.tasks.transcoding.encoding import Encoding

PARAMETERS: Mapping[str, str] = {
    "profile": "the name of the encoding profile",
    "damage": DAMAGE,
    "only": "picture: leave sound and subtitles to other tasks",
}
REQUIRED: frozenset[str] = frozenset({"profile"})
VARIANTS = True

Encodings = Sequence[Encoding]


def plan(context: Context) -> Plan:
    given = _prepare(context)
    listen = sound_passes.listen_command(context, given)
    encodings, copies = sound_passes.unpacked(context, given)
    measure = sound_passes.measure_commands(context, encodings)
    notes = []
    if listen:
        notes.append("sounds in which the first command hears nothing are left out")
    if measure:
        notes.append("the loudness that is measured first goes into the last command")
    targets = [one.target(context.folder) for one in encodings]
    filters = sound_passes.planned_filters(encodings)
    commands = [
        *([listen] if listen else []),
        *copies.commands,
        *measure,
        _encode_command(context, encodings, filters, targets),
        *_text_commands(context, encodings, targets),
    ]
    outputs = [one.planned(path) for one, path in zip(encodings, targets, strict=True)]
    return Plan(commands, outputs, notes)


def run(context: Context) -> Result:
    encodings = _prepare(context)
    while True:
        try:
            return _run(context, sound_passes.listened(context, encodings))
        except TaskFailed as error:
            smaller = sound_passes.without_undecodable(encodings, error)
            if not smaller:
                raise
            context.log(f"once more without what cannot be decoded: {error}")
            encodings = smaller


def _run(context: Context, given: Encodings) -> Result:
    encodings, copies = sound_passes.unpacked(context, given)
    for command in copies.commands:
        context.execute(command, share=0.0)
    loudness = sound_passes.loudness(context, encodings)
    partials = [_partial(context.folder, one) for one in encodings]
    stderr = _encode(context, encodings, [one.filters for one in loudness], partials)
    warnings = [said for one in loudness for said in one.warnings]
    warnings += sound_passes.check_decoded(context, encodings, stderr)
    warnings += [said for one in encodings for said in omissions.of(one)]
    for command in _text_commands(context, encodings, partials):
        ffmpeg.require_written(context.execute(command))
    for one, partial in zip(encodings, partials, strict=True):
        subtitles.convert(one.texts, _text_paths(one, partial))
    copies.remove()
    outputs = []
    for one, partial in zip(encodings, partials, strict=True):
        facts = one.known_by(_verify(context, one, partial))
        warnings += [*one.missing(facts), *omissions.of_shape(one, stderr)]
        outputs.append(one.output(_accept(one, partial, one.target(context.folder)), facts))
    context.progress(1.0)
    reports = [
        _report(one, output.facts) | measured.report
        for one, output, measured in zip(encodings, outputs, loudness, strict=True)
    ]
    report = reports[0] if len(reports) == 1 else {"variants": reports}
    return Result(outputs, report=report, warnings=list(dict.fromkeys(warnings)))


def _report(one: Encoding, facts: Facts) -> dict[str, Any]:
    report = {"profile": one.profile.name, "duration": facts["duration"]}
    if one.sounds:
        report["sounds"] = [soundtracks.name(one.facts, track) for track in one.sounds]
    if said := one.rendered():
        report["colour"] = said
    return report


# What is to be made


def _prepare(context: Context) -> Encodings:
    known = profiles.load(context.settings.paths.profiles)
    sets = context.variants or [context.parameters]
    chosen = [_profile(known, parameters) for parameters in sets]
    if len({one.name for one in chosen}) < len(chosen):
        raise TaskFailed(
            "two variants have the same profile; check the workflow",
            retry=False,
            reason=Reason.BAD_PARAMETER,
        )
    source = only_source(context)
    facts = facts_of(context, source)
    if any(one.video for one in chosen):
        facts = scan.looked(facts, source.path, context.settings, context.log, name=source.title)
    return [
        _encoding(source, facts, profile, parameters)
        for profile, parameters in zip(chosen, sets, strict=True)
    ]


def _profile(known: Mapping[str, Profile], parameters: Mapping[str, str]) -> Profile:
    name, only = parameters.get("profile", ""), parameters.get("only", "")
    if name not in known:
        raise TaskFailed(
            f"there is no profile {name!r}; there are {', '.join(sorted(known))}",
            retry=False,
            reason=Reason.BAD_PARAMETER,
        )
    profile = known[name]
    if only not in ("", "picture") or (only and (profile.copy or not profile.video)):
        raise TaskFailed(
            f"only is {only!r}; it may be picture, where the profile encodes one",
            retry=False,
            reason=Reason.BAD_PARAMETER,
        )
    return replace(profile, audio=None) if only else profile


def _encoding(
    source: Source, facts: Facts, profile: Profile, parameters: Mapping[str, str]
) -> Encoding:
    if reason := profiles.unfit(profile, facts):
        raise TaskFailed(f"{source.title} {reason}", retry=False, reason=Reason.UNUSABLE_SOURCE)
    try:
        wanted = profiles.expected(profile, facts)
    except Invalid as error:
        raise TaskFailed(
            f"{source.title}: {error}", retry=False, reason=Reason.UNUSABLE_SOURCE
        ) from error
    tolerant, only = tolerates(parameters), parameters.get("only", "")
    return Encoding(profile, source, facts, wanted, tolerant, only)


# Encoding


def _encode(
    context: Context,
    encodings: Encodings,
    loudness: Sequence[Sequence[str]],
    partials: Sequence[Path],
) -> str:
    start = sound_passes.MEASURING if any(loudness) else 0.0
    stderr = context.execute(
        _encode_command(context, encodings, loudness, partials),
        duration=max(one.expected.duration for one in encodings) or None,
        start=start,
        share=0.98 - start,
    )
    ffmpeg.require_written(stderr)
    return stderr


def _encode_command(
    context: Context,
    encodings: Encodings,
    loudness: Sequence[Sequence[str]],
    targets: Sequence[Path],
) -> list[str]:
    """All of them out of one decoding."""
    level = decoding.LEVEL if sound_passes.decodes_sound(encodings) else "warning"
    outputs = profiles.encode_arguments(
        [one.profile for one in encodings], encodings[0].facts, loudness=loudness
    )
    argv = [
        *ffmpeg.command(context.settings, level=level),
        *next((one.decoder for one in encodings if one.decoder), []),
        *sound_passes.inputs(context, encodings),
    ]
    for one, arguments, target in zip(encodings, outputs, targets, strict=True):
        argv += [*arguments, *ffmpeg.threads_arguments(context.settings)]
        packs = one.profile.package
        argv += profiles.package_output(packs, target.parent) if packs else [str(target)]
    return argv


def _text_commands(
    context: Context, encodings: Encodings, targets: Sequence[Path]
) -> list[list[str]]:
    return [
        [
            *ffmpeg.command(context.settings),
            *ffmpeg.input_arguments(one.source.path, context.settings),
            *subtitles.extraction(one.texts, _text_paths(one, target)),
        ]
        for one, target in zip(encodings, targets, strict=True)
        if one.texts
    ]


def _text_paths(one: Encoding, target: Path) -> list[Path]:
    return [target.parent / f"{name}.vtt" for name in renditions.text_names(one.texts)]


def _partial(folder: Path, one: Encoding) -> Path:
    """Where it is written until it has been checked."""
    final = one.target(folder)
    partial = folder / f"partial-{one.profile.name}"
    if not one.profile.package:
        return partial.with_name(partial.name + final.suffix)
    shutil.rmtree(partial, ignore_errors=True)  # of a try before
    partial.mkdir()
    return partial / final.name


def _accept(one: Encoding, partial: Path, target: Path) -> Path:
    if one.profile.package:
        partial.parent.rename(target.parent)
    else:
        partial.rename(target)
    return target


# What came out


def _verify(context: Context, one: Encoding, partial: Path) -> dict[str, Any]:
    wanted = one.expected
    if one.profile.package:
        # Playlists begin with the first frame, wherever the source's clock did.
        ladder = package.ladder(one.profile, one.facts, lengths=not one.tolerant)
        ladder = replace(ladder, texts=one.described_texts)
        facts = package.verify(context, one.profile.package, partial.parent, ladder)
    else:
        facts = _made(context, one, partial)
    _check_streams(wanted, facts)
    if not (one.profile.package or one.tolerant):
        _check_lengths(one, facts)
    return facts


def _made(context: Context, one: Encoding, partial: Path) -> dict[str, Any]:
    try:
        return ffmpeg.probe(partial, context.settings, context.log)
    except TaskFailed as error:
        length = f"{one.facts['duration']:.2f} s"
        message = f"nothing that plays came out of {one.title}, which lasts {length}: {error}"
        raise TaskFailed(message, retry=False, reason=Reason.OUTPUT_TOO_SMALL) from error


def _check_lengths(one: Encoding, facts: Facts) -> None:
    """Each stream against its own: the longest of the source may be another."""
    wanted = one.expected
    pairs = [(wanted.picture, one) for one in facts["video"]]
    for span, stream in (*pairs, *zip(wanted.sounds, facts["audio"], strict=True)):
        if span and span.length and (made := float(stream.get("duration", 0.0))):
            package.check_length(one.title, made, span)
    if facts["duration"] < wanted.whole - ffmpeg.tolerance(wanted.whole) - _late(one.facts):
        raise package.too_short(one.title, facts["duration"], wanted.whole)


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
