"""A validator of HLS packages for tests: rules of RFC 8216bis, and of Apple's authoring
specification where they apply to video on demand. Parses by itself, on purpose."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

ATTRIBUTE = re.compile(r'([A-Z0-9-]+)=("[^"]*"|[^,]*)(?:,|$)')


@dataclass(frozen=True)
class Segment:
    path: Path
    seconds: float
    offset: int
    size: int


@dataclass(frozen=True)
class Media:
    """A media playlist, checked by itself."""

    path: Path
    init: Path
    segments: list[Segment]
    target: int

    @property
    def seconds(self) -> float:
        return sum(one.seconds for one in self.segments)

    def peak(self) -> float:
        """RFC 8216bis, 4.4.6.2: over runs of 0.5 to 1.5 target durations."""
        rates = []
        for first in range(len(self.segments)):
            for last in range(first + 1, len(self.segments) + 1):
                run = self.segments[first:last]
                length = sum(one.seconds for one in run)
                if 0.5 * self.target <= length <= 1.5 * self.target:
                    rates.append(8 * sum(one.size for one in run) / length)
        return max(rates, default=self.average())

    def average(self) -> float:
        return 8 * sum(one.size for one in self.segments) / self.seconds

    def content(self) -> bytes:
        return self.init.read_bytes() + b"".join(one.path.read_bytes() for one in self.segments)


@dataclass(frozen=True)
class Master:
    path: Path
    variants: list[tuple[Mapping[str, str], Media]]
    sounds: list[tuple[Mapping[str, str], Media]]
    subtitles: list[tuple[Mapping[str, str], Path]]
    frames: list[tuple[Mapping[str, str], Media]]


def attributes(line: str) -> dict[str, str]:
    found = ATTRIBUTE.findall(line.partition(":")[2])
    names = [name for name, _ in found]
    assert len(names) == len(set(names)), line
    return {name: value.strip('"') for name, value in found}


def media(path: Path) -> Media:
    lines = path.read_text().splitlines()
    assert lines[0] == "#EXTM3U", path
    assert lines[-1] == "#EXT-X-ENDLIST", path
    tags = {line.partition(":")[0]: line.partition(":")[2] for line in lines if line[:1] == "#"}
    target = int(tags["#EXT-X-TARGETDURATION"])
    assert int(tags["#EXT-X-VERSION"]) >= (4 if "#EXT-X-I-FRAMES-ONLY" in tags else 6)
    assert tags["#EXT-X-PLAYLIST-TYPE"] == "VOD"
    segments, seconds, part = [], 0.0, ""
    for line in lines:
        if line.startswith("#EXTINF:"):
            seconds = float(line.removeprefix("#EXTINF:").split(",")[0])
            assert round(seconds) <= target, path
        elif line.startswith("#EXT-X-BYTERANGE:"):
            part = line.partition(":")[2]
        elif line and not line.startswith("#"):
            segments.append(_segment(path.parent / line, seconds, part))
    assert segments
    return Media(path, path.parent / attributes_of_map(lines), segments, target)


def attributes_of_map(lines: list[str]) -> str:
    (line,) = [one for one in lines if one.startswith("#EXT-X-MAP:")]
    return attributes(line)["URI"]


def _segment(path: Path, seconds: float, part: str) -> Segment:
    whole = path.stat().st_size
    if not part:
        return Segment(path, seconds, 0, whole)
    size, offset = map(int, part.split("@"))
    assert 0 <= offset < offset + size <= whole
    return Segment(path, seconds, offset, size)


def master(path: Path) -> Master:
    """Every playlist that it names, each checked, and all of them against each other."""
    lines = path.read_text().splitlines()
    assert lines[0] == "#EXTM3U"
    assert "#EXT-X-INDEPENDENT-SEGMENTS" in lines
    found = Master(path, [], [], [], [])
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        if line.startswith("#EXT-X-STREAM-INF:"):
            found.variants.append((attributes(line), media(path.parent / after)))
        elif line.startswith("#EXT-X-I-FRAME-STREAM-INF:"):
            given = attributes(line)
            found.frames.append((given, media(path.parent / given["URI"])))
        elif line.startswith("#EXT-X-MEDIA:"):
            given = attributes(line)
            if given["TYPE"] == "AUDIO":
                found.sounds.append((given, media(path.parent / given["URI"])))
            else:
                found.subtitles.append((given, path.parent / given["URI"]))
    _check(found)
    return found


def _check(found: Master) -> None:
    assert found.variants
    _check_renditions(found)
    loudest = max((one.peak() for _, one in found.sounds), default=0.0)
    mean = max((one.average() for _, one in found.sounds), default=0.0)
    first = found.variants[0][1]
    for given, playlist in found.variants:
        assert abs(int(given["BANDWIDTH"]) - playlist.peak() - loudest) <= 3, given
        assert abs(int(given["AVERAGE-BANDWIDTH"]) - playlist.average() - mean) <= 3, given
        assert given["VIDEO-RANGE"] in ("SDR", "PQ", "HLG")
        _check_picture(given, playlist)
        assert ("AUDIO" in given) == bool(found.sounds)
        # All rungs are cut at the same moments.
        cuts = [one.seconds for one in playlist.segments]
        assert cuts == [one.seconds for one in first.segments]
    assert len(found.frames) == len(found.variants)
    for given, playlist in found.frames:
        rates = [8 * one.size / one.seconds for one in playlist.segments]
        assert int(given["BANDWIDTH"]) >= max(rates)
        assert abs(playlist.seconds - first.seconds) < 0.1
        for segment in playlist.segments:
            _check_one_frame(playlist, segment)


def _check_renditions(found: Master) -> None:
    for renditions in (found.sounds, found.subtitles):
        names = [given["NAME"] for given, _ in renditions]
        assert len(names) == len(set(names))
        assert all(names)
        groups = {given["GROUP-ID"] for given, _ in renditions}
        assert len(groups) <= 1
    defaults = [given for given, _ in found.sounds if given["DEFAULT"] == "YES"]
    assert len(defaults) == (1 if found.sounds else 0)
    for given, playlist in found.sounds:
        stream = probe(playlist)
        assert given["CHANNELS"].split("/")[0] == str(stream["channels"])


def _check_picture(given: Mapping[str, str], playlist: Media) -> None:
    stream = probe(playlist)
    assert given["RESOLUTION"] == f"{stream['width']}x{stream['height']}"
    rate = float(Fraction(str(stream["avg_frame_rate"])))
    assert abs(float(given["FRAME-RATE"]) - rate) < 0.1, (given, rate)
    kinds = {"h264": "avc1.", "hevc": "hvc1.", "av1": "av01."}
    assert given["CODECS"].startswith(kinds[str(stream["codec_name"])])
    if stream["codec_name"] == "h264":
        assert int(given["CODECS"].split(",")[0][-2:], 16) == stream["level"]


def _check_one_frame(playlist: Media, segment: Segment) -> None:
    """The bytes of an entry, after the init section, decode to one key frame."""
    data = segment.path.read_bytes()[segment.offset : segment.offset + segment.size]
    argv = ["ffprobe", "-v", "error", "-of", "json", "-count_frames", "-show_streams", "-i", "-"]
    done = subprocess.run(
        argv, input=playlist.init.read_bytes() + data, capture_output=True, check=True
    )
    (stream,) = json.loads(done.stdout)["streams"]
    assert stream["nb_read_frames"] == "1"


def probe(playlist: Media) -> Mapping[str, object]:
    """The stream of a playlist's segments, put together."""
    argv = ["ffprobe", "-v", "error", "-of", "json", "-show_streams", "-i", "-"]
    done = subprocess.run(argv, input=playlist.content(), capture_output=True, check=True)
    (stream,) = json.loads(done.stdout)["streams"]
    return dict(stream)
