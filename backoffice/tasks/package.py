"""Put renditions into one HLS or DASH package, as they are, without encoding."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from lxml import etree

from backoffice.errors import TaskFailed
from backoffice.media import colour, dash, ffmpeg, hls, profiles, renditions, subtitles
from backoffice.media.colour import Colour
from backoffice.media.hls import Picture, Sound, Text
from backoffice.media.profiles import Facts, Package, Profile, Span
from backoffice.states import Reason
from backoffice.tasks import Context, Output, Plan, Result, Source, facts_of

PARAMETERS: Mapping[str, str] = {
    "profile": "a ladder profile, of which the kind of package and its segments are used",
}
REQUIRED: frozenset[str] = frozenset({"profile"})

_FORMATS = {"hls": "hls,mov", "dash": "dash,mov"}
_PICTURES = frozenset({"h264", "hevc"})
_SOUNDS = frozenset({"aac", "ac3", "eac3", "mp3"})


@dataclass(frozen=True)
class _Rendition:
    source: Source
    facts: Facts

    @property
    def name(self) -> str:
        return self.source.title

    @property
    def picture(self) -> Facts:
        return cast(Facts, self.facts["video"][0])


@dataclass(frozen=True)
class _Work:
    package: Package
    pictures: Sequence[_Rendition]  # the tallest first
    sound: _Rendition | None  # all of its streams are used
    texts: Sequence[Source] = ()  # subtitles in WebVTT

    @property
    def names(self) -> list[str]:
        """What each rung is called; the second of the same height gets a number."""
        names: list[str] = []
        for rendition in self.pictures:
            name = f"{min(_shape(rendition))}p"
            same = sum(1 for other in names if other.split("-")[0] == name)
            names.append(f"{name}-{same + 1}" if same else name)
        return names

    @property
    def sounds(self) -> Sequence[Facts]:
        return self.sound.facts["audio"] if self.sound else ()

    @property
    def duration(self) -> float:
        return max(float(r.facts["duration"]) for r in self.pictures)

    @property
    def ladder(self) -> Ladder:
        pictures = [
            _picture(name, _shape(rendition), rendition.picture, colour.of(rendition.picture))
            for name, rendition in zip(self.names, self.pictures, strict=True)
        ]
        spans = [_made_span(rendition.picture, rendition.facts) for rendition in self.pictures]
        heard = [_made_span(stream, self.sound.facts) for stream in self.sounds if self.sound]
        lead = profiles.lead(self.sounds)
        return Ladder(pictures, spans, sounds_of(self.sounds), heard, self.described_texts, lead)

    @property
    def described_texts(self) -> Sequence[Text]:
        streams = [source.facts["subtitle"][0] for source in self.texts]
        return renditions.texts(streams, renditions.text_names(streams))


@dataclass(frozen=True)
class Ladder:
    """What a package must hold, each stream with the time that it must last."""

    pictures: Sequence[Picture]
    picture_spans: Sequence[Span]
    sounds: Sequence[Sound]
    sound_spans: Sequence[Span]
    texts: Sequence[Text] = ()  # whose files NAME.vtt lie in the folder
    lead: float = 0.0  # seconds; see profiles.lead

    def of_any_length(self) -> Ladder:
        unknown = Span(0.0, 0.0)
        pictures, sounds = [unknown] * len(self.pictures), [unknown] * len(self.sounds)
        return replace(self, picture_spans=pictures, sound_spans=sounds)

    @property
    def spans(self) -> Sequence[tuple[str, Span]]:
        """By the names of their playlists, the pictures first."""
        names = [*(one.name for one in self.pictures), *(one.name for one in self.sounds)]
        return list(zip(names, (*self.picture_spans, *self.sound_spans), strict=True))


def ladder(profile: Profile, facts: Facts, *, lengths: bool = True) -> Ladder:
    """What encoding a source with a ladder profile must give; without ``lengths``,
    each stream may be of any."""
    wanted, source = profiles.expected(profile, facts), profiles.first_picture(facts)
    assert source is not None
    assert wanted.picture is not None
    rungs = zip(profiles.rungs(profile, facts), wanted.pictures, strict=True)
    pictures = [
        _picture(
            video.name,
            size,
            {**source, "frame_rate": profiles.frame_rate(video, source), "captions": False},
            profiles.made_colour(video, source),
        )
        for video, size in rungs
    ]
    spans = [wanted.picture] * len(pictures)
    mixed = profile.audio.channels if profile.audio else 0
    sounds = [
        track.described | ({"channels": mixed} if mixed else {})
        for track in profiles.sounds(profile, facts)
    ]
    rate = profile.audio.sample_rate if profile.audio else 0
    lead = profiles.lead([{"sample_rate": rate} for _ in sounds])
    found = Ladder(pictures, spans, sounds_of(sounds), wanted.sounds, lead=lead)
    return found if lengths else found.of_any_length()


def _picture(name: str, size: tuple[int, int], facts: Facts, made: Colour) -> Picture:
    rate, captions = float(facts.get("frame_rate", 0.0)), bool(facts.get("captions"))
    return Picture(name, *size, rate, made.video_range, captions)


def sounds_of(streams: Sequence[Facts]) -> list[Sound]:
    """The renditions of the sound, the first one by default."""
    return renditions.sounds(streams, profiles.sound_names(streams))


def _made_span(stream: Facts, facts: Facts) -> Span:
    """Of a rendition; one without a length of its own lasts as long as its file."""
    return Span(0.0, float(stream.get("duration", 0.0)) or float(facts["duration"]))


def plan(context: Context) -> Plan:
    work = _prepare(context)
    folder = context.folder / work.package.format
    return Plan(
        commands=[_command(context, work, folder)],
        outputs=[_output(work.package, folder, {"duration": work.duration})],
        notes=[f"packages {', '.join(work.names)} as {work.package.format.upper()}"],
    )


def run(context: Context) -> Result:
    work = _prepare(context)
    partial = context.folder / "partial"
    partial.mkdir()
    stderr = context.execute(_command(context, work, partial), duration=work.duration, share=0.95)
    ffmpeg.require_written(stderr)
    for source, text in zip(work.texts, work.described_texts, strict=True):
        shutil.copyfile(source.path, partial / f"{text.name}.vtt")
    facts = verify(context, work.package, partial, work.ladder)
    folder = partial.rename(context.folder / work.package.format)
    context.progress(1.0)
    return Result(
        outputs=[_output(work.package, folder, facts)],
        report={"renditions": work.names, "duration": facts["duration"]},
        warnings=_warnings(work),
    )


def _prepare(context: Context) -> _Work:
    name = context.parameters.get("profile", "")
    known = profiles.load(context.settings.paths.profiles)
    package = known[name].package if name in known else None
    if package is None:
        ladders = ", ".join(sorted(p.name for p in known.values() if p.package))
        raise TaskFailed(
            f"profile is {name!r}; a package can be made by {ladders}",
            retry=False,
            reason=Reason.BAD_PARAMETER,
        )
    texts = [one for one in context.sources if one.media_type == subtitles.MEDIA_TYPE]
    given = [_rendition(context, source) for source in context.sources if source not in texts]
    pictures = [r for r in given if r.facts["video"]]
    pictures.sort(key=_lines, reverse=True)
    if not pictures:
        raise TaskFailed(
            "there is no rendition with a picture to package; check the workflow's inputs",
            retry=False,
            reason=Reason.BAD_PARAMETER,
        )
    _check_shapes(pictures)
    return _Work(package, pictures, _sound(given), texts)


def _sound(given: Sequence[_Rendition]) -> _Rendition | None:
    """One that is sound alone goes first; of the others that with the most languages."""
    heard = [one for one in given if one.facts["audio"]]
    return max(
        heard, key=lambda one: (not one.facts["video"], len(one.facts["audio"])), default=None
    )


def _rendition(context: Context, source: Source) -> _Rendition:
    facts = facts_of(context, source)
    rendition = _Rendition(source, facts)
    for kind, allowed in (("video", _PICTURES), ("audio", _SOUNDS)):
        for stream in facts[kind][:1]:
            if stream["codec"] not in allowed:
                raise TaskFailed(
                    f"{rendition.name} holds {stream['codec']}; a package can hold"
                    f" {', '.join(sorted(allowed))}",
                    retry=False,
                    reason=Reason.UNUSABLE_SOURCE,
                )
    return rendition


def _shape(rendition: _Rendition) -> tuple[int, int]:
    picture = rendition.facts["video"][0]
    return picture["width"], picture["height"]


def _check_shapes(pictures: Sequence[_Rendition]) -> None:
    """A player switches between renditions: they must show the same picture."""
    width, height = _shape(pictures[0])
    for rendition in pictures[1:]:
        other, tall = _shape(rendition)
        if abs(other * height / (tall * width) - 1) > 0.05:
            raise TaskFailed(
                f"{rendition.name} is {other}×{tall}, which has another shape than the"
                f" {width}×{height} of {pictures[0].name}; package them apart",
                retry=False,
                reason=Reason.UNUSABLE_SOURCE,
            )


def _lines(rendition: _Rendition) -> tuple[int, int]:
    return min(_shape(rendition)), int(rendition.facts.get("bit_rate", 0))


def _command(context: Context, work: _Work, folder: Path) -> list[str]:
    argv = ffmpeg.command(context.settings)
    inputs: list[_Rendition | None] = list(work.pictures)
    if work.sound and work.sound not in inputs:
        inputs.append(work.sound)
    for rendition in inputs:
        assert rendition is not None
        # Else each file would begin at zero, whatever its first time, and out of step.
        late = float(rendition.facts.get("start", 0.0))
        argv += ["-itsoffset", f"{late:.6f}"] if late > 0 else []
        argv += ffmpeg.input_arguments(rendition.source.path)
    for number, rendition in enumerate(work.pictures):
        argv += ["-map", f"{number}:{rendition.facts['video'][0]['index']}"]
    for stream in work.sounds:
        argv += ["-map", f"{inputs.index(work.sound)}:{stream['index']}"]
    argv += ["-c", "copy", *profiles.metadata_arguments(profiles.NOTHING, work.sounds)]
    argv += profiles.package_arguments(
        work.package, work.names, shape=_shape(work.pictures[0]), sounds=work.sounds
    )
    return argv + profiles.package_output(work.package, folder)


def _output(package: Package, folder: Path, facts: Facts) -> Output:
    return Output(
        role=package.format,
        path=folder / package.manifest,
        media_type=package.media_type,
        tree=True,
        facts=facts,
    )


def _warnings(work: _Work) -> list[str]:
    """Renditions of different length are legal, and odd."""
    return [
        f"{r.name} lasts {r.facts['duration']:.1f} s, the longest {work.duration:.1f} s"
        for r in work.pictures
        if work.duration - r.facts["duration"] > ffmpeg.tolerance(work.duration)
    ]


def verify(context: Context, package: Package, folder: Path, ladder: Ladder) -> dict[str, Any]:
    """The facts of a package just written; TaskFailed if something is missing.

    Every playlist must be closed, name segments that are there, and last as long
    as its own stream must; then ffprobe must be able to play it. The master playlist
    of HLS is written here, and what ffmpeg leaves out of a manifest of DASH.
    """
    manifest = folder / package.manifest
    try:
        found = _read_whole(package, folder, ladder)
        if package.format == "hls":
            for text in ladder.texts:
                webvtt = (folder / f"{text.name}.vtt").read_text(encoding="utf-8")
                hls.write_text(folder, text.name, webvtt, max(found), ladder.lead)
            hls.write_master(manifest, ladder.pictures, ladder.sounds, ladder.texts)
    except (OSError, ValueError, struct.error, etree.XMLSyntaxError) as error:
        # The muxers end well even when they could not write.
        if ffmpeg.disk_full(folder):
            raise TaskFailed(
                "the disk is full; make room and retry", reason=Reason.DISK_FULL
            ) from error
        raise TaskFailed(f"the package is broken: {error}", reason=Reason.WRONG_OUTPUT) from error
    for (name, span), seconds in zip(ladder.spans, found, strict=True):
        if span.length:
            check_length(name, seconds, span)
    facts = ffmpeg.probe(manifest, context.settings, context.log, formats=_FORMATS[package.format])
    if package.format == "dash":
        # Afterwards: ffprobe would follow the subtitles, and opens no text here.
        dash.describe(manifest, ladder.sounds, ladder.texts, ladder.lead)
    return _described(facts, ladder) | {"duration": round(max(found), 3)}


def _described(facts: dict[str, Any], ladder: Ladder) -> dict[str, Any]:
    """ffprobe tells a rung once for each rendition of the sound that goes with it."""
    pictures = {(one["width"], one["height"]) for one in facts["video"]}
    if len(pictures) < len({(one.width, one.height) for one in ladder.pictures}):
        raise TaskFailed(
            f"the package has {len(pictures)} renditions of {len(ladder.pictures)}",
            reason=Reason.WRONG_OUTPUT,
        )
    return facts


def check_length(name: str, seconds: float, span: Span) -> None:
    """Raise TaskFailed if a stream does not last as long as it must. It may begin with
    what fills the time before it."""
    if seconds < span.length - ffmpeg.tolerance(span.length):
        raise too_short(name, seconds, span.length)
    if seconds > span.end + ffmpeg.tolerance(span.end):
        raise TaskFailed(
            f"{name} must last {span.length:.1f} s, but {seconds:.1f} s came out;"
            " the time stamps of the source are probably damaged",
            retry=False,
            reason=Reason.DAMAGED_SOURCE,
        )


def too_short(name: str, seconds: float, wanted: float) -> TaskFailed:
    return TaskFailed(
        f"only {seconds:.1f} s of {wanted:.1f} s came out as {name};"
        " the source is probably truncated or damaged: copy it again",
        retry=False,
        reason=Reason.OUTPUT_TOO_SMALL,
    )


def _require_whole(path: Path) -> None:
    """A segment is a row of boxes that tell their size; it may not end within one."""
    size = path.stat().st_size
    position = 0
    with open(path, "rb") as stream:
        while position < size:
            stream.seek(position)
            length = int.from_bytes(stream.read(4), "big")
            if length < 8:  # no muxer of ours writes the long form
                break
            position += length
    if size == 0 or position != size:
        raise ValueError(f"{path.name} is incomplete")


def _read_whole(package: Package, folder: Path, ladder: Ladder) -> list[float]:
    """The seconds of each stream, whose files are there and whole. Raises ValueError
    and OSError."""
    if package.format == "hls":
        playlists = [hls.read(folder / f"{name}.m3u8") for name, _ in ladder.spans]
    else:
        playlists = dash.read(folder / package.manifest)
    for playlist in playlists:
        for path in (playlist.init, *(segment.path for segment in playlist.segments)):
            _require_whole(path)
    if len(playlists) != len(ladder.spans):
        raise ValueError(f"it has {len(playlists)} streams of {len(ladder.spans)}")
    return [playlist.seconds for playlist in playlists]
