"""Put renditions into one HLS or DASH package, as they are, without encoding."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lxml import etree

from backoffice import media, profiles
from backoffice.errors import TaskFailed
from backoffice.profiles import Facts, Package
from backoffice.tasks import Context, Output, Plan, Result, Source

PARAMETERS: Mapping[str, str] = {
    "profile": "a ladder profile, of which the kind of package and its segments are used",
}
REQUIRED: frozenset[str] = frozenset({"profile"})

_FORMATS = {"hls": "hls,mov", "dash": "dash,mov"}
_PICTURES = frozenset({"h264", "hevc"})
_SOUNDS = frozenset({"aac", "ac3", "eac3", "mp3"})
_DASH = "{urn:mpeg:dash:schema:mpd:2011}"


@dataclass(frozen=True)
class _Rendition:
    source: Source
    facts: Facts

    @property
    def name(self) -> str:
        return self.source.name or self.source.path.name


@dataclass(frozen=True)
class _Work:
    package: Package
    pictures: Sequence[_Rendition]  # the tallest first
    sound: _Rendition | None

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
    def duration(self) -> float:
        return max(float(r.facts["duration"]) for r in self.pictures)


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
    media.require_written(stderr)
    facts = verify(context, work.package, partial, len(work.pictures), work.duration)
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
        raise TaskFailed(f"profile is {name!r}; a package can be made by {ladders}", retry=False)
    renditions = [_rendition(context, source) for source in context.sources]
    pictures = [r for r in renditions if r.facts["video"]]
    pictures.sort(key=_lines, reverse=True)
    if not pictures:
        raise TaskFailed(
            "there is no rendition with a picture to package; check the workflow's inputs",
            retry=False,
        )
    _check_shapes(pictures)
    with_sound = [r for r in renditions if not r.facts["video"]] + pictures
    return _Work(package, pictures, next((r for r in with_sound if r.facts["audio"]), None))


def _rendition(context: Context, source: Source) -> _Rendition:
    facts = source.facts or media.probe(
        source.path, context.settings, context.log, name=source.title
    )
    rendition = _Rendition(source, facts)
    for kind, allowed in (("video", _PICTURES), ("audio", _SOUNDS)):
        for stream in facts[kind][:1]:
            if stream["codec"] not in allowed:
                raise TaskFailed(
                    f"{rendition.name} holds {stream['codec']}; a package can hold"
                    f" {', '.join(sorted(allowed))}",
                    retry=False,
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
            )


def _lines(rendition: _Rendition) -> tuple[int, int]:
    return min(_shape(rendition)), int(rendition.facts.get("bit_rate", 0))


def _command(context: Context, work: _Work, folder: Path) -> list[str]:
    argv = media.command(context.settings)
    inputs = list(work.pictures)
    if work.sound and work.sound not in inputs:
        inputs.append(work.sound)
    for rendition in inputs:
        argv += media.input_arguments(rendition.source.path)
    for number, rendition in enumerate(work.pictures):
        argv += ["-map", f"{number}:{rendition.facts['video'][0]['index']}"]
    if work.sound:
        index = work.sound.facts["audio"][0]["index"]
        argv += ["-map", f"{inputs.index(work.sound)}:{index}"]
    argv += ["-c", "copy", "-map_metadata", "-1", "-map_chapters", "-1"]
    argv += profiles.package_arguments(
        work.package, work.names, shape=_shape(work.pictures[0]), sound=work.sound is not None
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
        if work.duration - r.facts["duration"] > media.tolerance(work.duration)
    ]


def verify(
    context: Context, package: Package, folder: Path, pictures: int, duration: float
) -> dict[str, Any]:
    """The facts of a package just written; TaskFailed if something is missing.

    Every playlist must be closed, name segments that are there, and add up to
    the duration (seconds; 0 if unknown); then ffprobe must be able to play it.
    """
    manifest = folder / package.manifest
    lengths = _hls_lengths if package.format == "hls" else _dash_lengths
    try:
        found = dict(lengths(manifest))
        if not found:
            raise ValueError(f"{manifest.name} names nothing to play")
    except (OSError, ValueError, etree.XMLSyntaxError) as error:
        # The muxers end well even when they could not write.
        if media.disk_full(folder):
            raise TaskFailed("the disk is full; make room and retry") from error
        raise TaskFailed(f"the package is broken: {error}") from error
    for name, seconds in found.items():
        if duration and abs(seconds - duration) > media.tolerance(duration):
            raise TaskFailed(
                f"only {seconds:.1f} s of {duration:.1f} s came out as {name};"
                " the source is probably truncated or damaged: copy it again",
                retry=False,
            )
    facts = media.probe(manifest, context.settings, context.log, formats=_FORMATS[package.format])
    if len(facts["video"]) != pictures:
        raise TaskFailed(f"the package has {len(facts['video'])} renditions of {pictures}")
    # Of a DASH manifest ffprobe tells whole seconds only.
    return facts | {"duration": round(max(found.values()), 3)}


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


def _hls_lengths(master: Path) -> Iterator[tuple[str, float]]:
    text = master.read_text()
    names = [line for line in text.splitlines() if line and not line.startswith("#")]
    names += re.findall(r'^#EXT-X-MEDIA:.*URI="([^"]+)"', text, re.MULTILINE)
    for name in names:
        yield name, _hls_length(master.parent / name)


def _hls_length(playlist: Path) -> float:
    text = playlist.read_text()
    if "#EXT-X-ENDLIST" not in text:
        raise ValueError(f"{playlist.name} has no end")
    segments = [line for line in text.splitlines() if line and not line.startswith("#")]
    for name in (*segments, *re.findall(r'#EXT-X-MAP:URI="([^"]+)"', text)):
        _require_whole(playlist.parent / name)
    lengths = [float(seconds) for seconds in re.findall(r"#EXTINF:([\d.]+)", text)]
    if not segments or len(lengths) != len(segments):
        raise ValueError(f"{playlist.name} has {len(segments)} segments")
    return math.fsum(lengths)


def _dash_lengths(manifest: Path) -> Iterator[tuple[str, float]]:
    root = etree.parse(str(manifest), etree.XMLParser(resolve_entities=False)).getroot()
    for representation in root.iter(f"{_DASH}Representation"):
        identity = representation.get("id", "")
        template = representation.find(f"{_DASH}SegmentTemplate")
        if template is None:
            raise ValueError(f"{manifest.name}: representation {identity} has no segments")
        yield identity, _dash_length(manifest.parent, template, identity)


def _dash_length(folder: Path, template: etree._Element, identity: str) -> float:
    first = int(template.get("startNumber", "1"))
    spans = [
        int(span.get("d", "0"))
        for span in template.iter(f"{_DASH}S")
        for _ in range(int(span.get("r", "0")) + 1)
    ]
    _require_whole(folder / _dash_name(template.get("initialization", ""), identity, first))
    for number in range(first, first + len(spans)):
        _require_whole(folder / _dash_name(template.get("media", ""), identity, number))
    return sum(spans) / int(template.get("timescale", "1"))


def _dash_name(template: str, identity: str, number: int) -> str:
    name = template.replace("$RepresentationID$", identity)
    return re.sub(r"\$Number%0(\d+)d\$", lambda match: f"{number:0{match[1]}d}", name)
