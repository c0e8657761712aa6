"""A validator of DASH packages for tests: a schema of what may be written of ISO/IEC
23009-1 (``dash.xsd``), and rules that no schema can tell. Parses by itself, on purpose."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from lxml import etree

from tests import fragments, playlists

SCHEMA = Path(__file__).with_name("dash.xsd")
_MPD = "{urn:mpeg:dash:schema:mpd:2011}"


@dataclass(frozen=True)
class Stream:
    """A Representation with segments."""

    given: Mapping[str, str]
    init: Path
    segments: list[tuple[Path, int, int]]  # with begin and duration in the timescale
    timescale: int
    offset: int  # of the presentation's begin, in the timescale

    @property
    def end(self) -> float:
        """Seconds after the begin of the presentation."""
        _, begin, duration = self.segments[-1]
        return (begin + duration - self.offset) / self.timescale

    def content(self) -> bytes:
        return b"".join(
            path.read_bytes() for path in (self.init, *(path for path, _, _ in self.segments))
        )


@dataclass(frozen=True)
class Manifest:
    path: Path
    root: etree._Element

    def sets(self, kind: str) -> list[etree._Element]:
        return [one for one in self.root.iter(f"{_MPD}AdaptationSet") if _kind(one) == kind]

    @property
    def texts(self) -> list[list[str]]:
        """The cues of each set of subtitles."""
        names = [one.findtext(f".//{_MPD}BaseURL", "") for one in self.sets("text")]
        files = [(self.path.parent / name).read_text(encoding="utf-8") for name in names]
        return [playlists.webvtt(file, mapped=False) for file in files]


def manifest(path: Path) -> Manifest:
    """Checked, with all that it names."""
    found = Manifest(path, etree.parse(str(path)).getroot())
    etree.XMLSchema(etree.parse(str(SCHEMA))).assertValid(found.root)
    streams = []
    for kind in ("video", "audio"):
        for one in found.sets(kind):
            streams += _check_set(path.parent, one, found)
    _check_lengths(found, streams)
    roles = [_role(one) for one in found.sets("audio")]
    assert roles.count("main") == (1 if roles else 0)
    for one in found.sets("text"):
        assert {"mimeType", "id"} <= set(one.attrib)
        assert _role(one) in ("subtitle", "caption", "forced-subtitle")
    assert all(found.texts)
    return found


def _kind(element: etree._Element) -> str:
    return element.get("contentType", "")


def _role(element: etree._Element) -> str:
    return str(element.find(f"{_MPD}Role").get("value"))  # type: ignore[union-attr]


def _seconds(found: Manifest, name: str) -> float:
    return float(found.root.get(name, "").removeprefix("PT").removesuffix("S"))


def _check_set(folder: Path, element: etree._Element, found: Manifest) -> list[Stream]:
    streams = [_stream(folder, one) for one in element.iter(f"{_MPD}Representation")]
    for stream in streams:
        _check_bandwidth(stream, _seconds(found, "minBufferTime"))
        _check_times(stream)
        _check_codec(element, stream)
    if element.get("segmentAlignment") == "true":  # 5.3.3.2
        cuts = {(one.offset, *(times[1:] for times in one.segments)) for one in streams}
        assert len(cuts) == 1
    if _kind(element) == "video":
        assert _role(element) == "main"
        sizes = [(int(one.given["width"]), int(one.given["height"])) for one in streams]
        largest = (int(element.get("maxWidth", "")), int(element.get("maxHeight", "")))
        assert largest == max(sizes)
    return streams


def _stream(folder: Path, representation: etree._Element) -> Stream:
    given = {str(name): str(value) for name, value in representation.attrib.items()}
    template = representation.find(f"{_MPD}SegmentTemplate")
    assert template is not None
    segments: list[tuple[Path, int, int]] = []
    now = 0
    for span in template.iter(f"{_MPD}S"):
        now = int(span.get("t", now))
        for _ in range(int(span.get("r", 0)) + 1):
            name = f"chunk-stream{given['id']}-{len(segments) + 1:05}.m4s"
            segments.append((folder / name, now, int(span.get("d", ""))))
            now += int(span.get("d", ""))
    init = folder / f"init-stream{given['id']}.m4s"
    timescale = int(template.get("timescale", ""))
    assert fragments.timescale(init.read_bytes()) == timescale
    assert not (folder / f"chunk-stream{given['id']}-{len(segments) + 1:05}.m4s").exists()
    offset = int(template.get("presentationTimeOffset", ""))
    return Stream(given, init, segments, timescale, offset)


def _check_bandwidth(stream: Stream, buffered: float) -> None:
    """5.3.5.2: who has fetched for ``minBufferTime`` at that rate never runs dry; and it
    is no more than a tenth above what some segment needs."""
    rate = int(stream.given["bandwidth"])
    sizes = [8 * path.stat().st_size for path, _, _ in stream.segments]
    lengths = [duration / stream.timescale for _, _, duration in stream.segments]
    for first in range(len(sizes)):
        for last in range(first, len(sizes)):
            needed = sum(sizes[first : last + 1])
            assert needed <= rate * (buffered + sum(lengths[first:last])) + 8, stream.given
    assert rate <= 1.1 * max(s / t for s, t in zip(sizes, lengths, strict=True)) + 8


def _check_times(stream: Stream) -> None:
    """5.3.9.6: the timeline tells the decode times and durations of the segments."""
    init = stream.init.read_bytes()
    assert not fragments.waits(init), stream.init
    for path, begin, duration in stream.segments:
        parts = fragments.fragments(path.read_bytes(), init)
        assert parts[0].decode_time == begin, (path, parts[0], begin)
        assert sum(part.duration for part in parts) == duration, path


def _check_codec(element: etree._Element, stream: Stream) -> None:
    argv = ["ffprobe", "-v", "error", "-of", "json", "-show_streams", "-i", "-"]
    done = subprocess.run(argv, input=stream.content(), capture_output=True, check=True)
    (shown,) = json.loads(done.stdout)["streams"]
    given = stream.given
    codecs = {"h264": "avc1.", "hevc": "hvc1.", "aac": "mp4a.40.2", "ac3": "ac-3", "eac3": "ec-3"}
    assert given["codecs"].startswith(codecs[shown["codec_name"]])
    if shown["codec_name"] == "h264":
        assert int(given["codecs"][-2:], 16) == shown["level"]
    if _kind(element) == "video":
        assert given["mimeType"] == "video/mp4"
        assert (int(given["width"]), int(given["height"])) == (shown["width"], shown["height"])
        rate = Fraction(element.get("frameRate", ""))
        assert abs(float(rate) - float(Fraction(shown["avg_frame_rate"]))) < 0.1
    else:
        assert given["mimeType"] == "audio/mp4"
        assert given["audioSamplingRate"] == shown["sample_rate"]
        (channels,) = re.findall(r'config[^>]+value="(\d+)"', etree.tostring(element).decode())
        assert int(channels) == shown["channels"]


def _check_lengths(found: Manifest, streams: list[Stream]) -> None:
    """5.3.1.2: to the millisecond; a player stops at the presentation's end."""
    end = max(one.end for one in streams)
    assert 0 <= _seconds(found, "mediaPresentationDuration") - end < 2e-3
    longest = max(d / one.timescale for one in streams for _, _, d in one.segments)
    assert 0 <= _seconds(found, "maxSegmentDuration") - longest < 2e-3
