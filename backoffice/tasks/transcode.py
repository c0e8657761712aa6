"""Encode one source with a profile, and see that the result is what was asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from backoffice import colour, files, media, profiles, rendering
from backoffice.errors import Invalid, TaskFailed
from backoffice.profiles import Expected, Facts, Profile
from backoffice.tasks import Context, Output, Plan, Result, Source, package

PARAMETERS: Mapping[str, str] = {"profile": "the name of the encoding profile"}
REQUIRED: frozenset[str] = frozenset({"profile"})

MEASURING = 0.25  # of the progress, when loudness takes a pass of its own


@dataclass(frozen=True)
class _Work:
    profile: Profile
    source: Source
    facts: Facts
    expected: Expected

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
    audio = work.profile.audio
    commands, notes = [], []
    loudness = ""
    if audio and audio.loudness and work.expected.sounds:
        commands.append(_measure_command(context, work))
        loudness = profiles.loudness_filter(audio.loudness, None)
        notes.append("the loudness that the first command measures goes into the second")
    commands.append(_encode_command(context, work, loudness, target))
    return Plan(commands, [_output(work, target, _planned_facts(work))], notes)


def run(context: Context) -> Result:
    work = _prepare(context)
    measured = _measure(context, work)
    audio = work.profile.audio
    loudness, start, warnings = "", 0.0, []
    if audio and audio.loudness and work.expected.sounds:
        start = MEASURING
        if measured:
            loudness = profiles.loudness_filter(audio.loudness, measured)
        else:
            warnings.append("the sound is silence; its loudness was left as it is")
    partial = _partial(context.folder, work)
    stderr = context.execute(
        _encode_command(context, work, loudness, partial),
        duration=work.expected.duration or None,
        start=start,
        share=0.98 - start,
    )
    media.require_written(stderr)
    facts = _verify(context, work, partial)
    warnings += _warnings(work, stderr)
    target = _accept(work, partial, work.target(context.folder))
    context.progress(1.0)
    report: dict[str, Any] = {"profile": work.profile.name, "duration": facts["duration"]}
    if measured:
        report["loudness"] = measured
    if said := _rendered(work):
        report["colour"] = said
    return Result([_output(work, target, facts)], report=report, warnings=warnings)


def _prepare(context: Context) -> _Work:
    name = context.parameters.get("profile", "")
    known = profiles.load(context.settings.paths.profiles)
    if name not in known:
        raise TaskFailed(
            f"there is no profile {name!r}; there are {', '.join(sorted(known))}", retry=False
        )
    if len(context.sources) != 1:
        raise TaskFailed(
            f"transcode takes one file, and got {len(context.sources)}; check the workflow",
            retry=False,
        )
    source, profile = context.sources[0], known[name]
    facts = source.facts or media.probe(
        source.path, context.settings, context.log, name=source.title
    )
    if reason := profiles.unfit(profile, facts):
        raise TaskFailed(f"{source.title} {reason}", retry=False)
    try:
        return _Work(profile, source, facts, profiles.expected(profile, facts))
    except Invalid as error:
        raise TaskFailed(f"{source.title}: {error}", retry=False) from error


def _measure_command(context: Context, work: _Work) -> list[str]:
    return [
        *media.command(context.settings, level="info"),
        *media.input_arguments(work.source.path, context.settings),
        *profiles.measure_arguments(work.profile, work.facts),
    ]


def _measure(context: Context, work: _Work) -> dict[str, float] | None:
    audio = work.profile.audio
    if not (audio and audio.loudness and work.expected.sounds):
        return None
    stderr = context.execute(
        _measure_command(context, work), duration=work.expected.duration or None, share=MEASURING
    )
    return profiles.measured_loudness(stderr)


def _encode_command(context: Context, work: _Work, loudness: str, target: Path) -> list[str]:
    package_of = work.profile.package
    return [
        *media.command(context.settings),
        *_decoder(work),
        *media.input_arguments(work.source.path, context.settings),
        *profiles.encode_arguments(work.profile, work.facts, loudness=loudness),
        *media.threads_arguments(context.settings),
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
        ladder = package.ladder(work.profile, work.facts)
        facts = package.verify(context, work.profile.package, partial.parent, ladder)
    else:
        facts = media.probe(partial, context.settings, context.log)
    _check_streams(wanted, facts)
    if not work.profile.package:
        _check_lengths(work, facts)
    return facts


def _check_lengths(work: _Work, facts: Facts) -> None:
    """Each stream against its own: the longest of the source may be another."""
    wanted = work.expected
    pairs = [(wanted.picture, one) for one in facts["video"]]
    for span, stream in (*pairs, *zip(wanted.sounds, facts["audio"], strict=True)):
        if span and span.length and (made := float(stream.get("duration", 0.0))):
            package.check_length(work.title, made, span)
    if facts["duration"] < wanted.whole - media.tolerance(wanted.whole) - _late(work.facts):
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
        raise TaskFailed(f"pictures of {asked_for} were asked for, {made} came out")
    if len(facts["audio"]) != len(wanted.sounds):
        raise TaskFailed(
            f"{len(wanted.sounds)} sound streams were asked for, {len(facts['audio'])} came out"
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
    pictures = _planned_pictures(work)
    sounds = profiles.sounds(profile, work.facts)
    return {
        "duration": wanted.duration,
        "start": 0.0,
        "video": [
            {
                **(work.facts["video"][0] if work.facts["video"] else {}),
                **{"index": n, "width": width, "height": height},
                **{"interlaced": False, "rotation": 0},
                **picture,
            }
            for n, (picture, (width, height)) in enumerate(
                zip(pictures, wanted.pictures, strict=True)
            )
        ],
        "audio": [
            {**sound, "index": len(pictures) + n, "codec": _sound_codec(profile, sound)}
            for n, sound in enumerate(sounds)
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
