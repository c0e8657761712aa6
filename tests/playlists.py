"""A validator of HLS packages for tests: rules of RFC 8216bis ("RFC", by section), and of
Apple's authoring specification ("Apple", by number) where they apply to video on demand.
Parses by itself, on purpose.

Two of Apple's rules do not hold, by choice: 8.3 and 8.7 (all playlists cover the same
time), since each stream keeps the length that it has in the source. 1.30, 9.9 and 9.10
(peaks, and numbers of variants) follow from the source.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from tests import fragments

# What a tag of a master playlist must and may have.
STREAM = set(
    ("BANDWIDTH AVERAGE-BANDWIDTH CODECS RESOLUTION FRAME-RATE VIDEO-RANGE CLOSED-CAPTIONS").split()
)
FRAMES = set("BANDWIDTH AVERAGE-BANDWIDTH CODECS RESOLUTION VIDEO-RANGE URI".split())
RENDITION = {"TYPE", "GROUP-ID", "NAME", "LANGUAGE", "AUTOSELECT"}  # RFC 4.4.6.1; Apple 8.10
OF_TYPE = {
    "AUDIO": {"CHANNELS", "URI", "DEFAULT"},
    "SUBTITLES": {"FORCED", "URI", "DEFAULT"},
    "CLOSED-CAPTIONS": {"INSTREAM-ID"},
}
NOMINAL = 6.0  # seconds of a segment (Apple 7.5, 7.6)
FIRST = 2_000_000  # bits a second of the default variant (Apple 1.32)
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
    timescale: int

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
    captions: list[Mapping[str, str]]


def attributes(line: str) -> dict[str, str]:
    found = ATTRIBUTE.findall(line.partition(":")[2])
    names = [name for name, _ in found]
    assert len(names) == len(set(names)), line
    return {name: value.strip('"') for name, value in found}


def media(path: Path) -> Media:
    lines = path.read_text().splitlines()
    assert lines[0] == "#EXTM3U", path  # RFC 4.4.1.1
    assert lines[-1] == "#EXT-X-ENDLIST", path  # RFC 4.4.3.4
    tags = _tags(lines, once=not path.name.endswith("-frames.m3u8"))
    target = int(tags["#EXT-X-TARGETDURATION"])
    # RFC 8: MAP takes version 6, or 5 with I-FRAMES-ONLY.
    assert int(tags["#EXT-X-VERSION"]) >= (5 if "#EXT-X-I-FRAMES-ONLY" in tags else 6)
    assert tags["#EXT-X-PLAYLIST-TYPE"] == "VOD"  # Apple 8.6
    assert "#EXT-X-DISCONTINUITY" not in tags  # Apple 8.13, 8.15
    segments, seconds, part = [], 0.0, ""
    for line in lines:
        if line.startswith("#EXTINF:"):
            seconds = float(line.removeprefix("#EXTINF:").split(",")[0])
            assert round(seconds) <= target, path  # RFC 4.4.3.1
            assert seconds <= target + 0.5, path  # Apple 7.7
        elif line.startswith("#EXT-X-BYTERANGE:"):
            part = line.partition(":")[2]
        elif line and not line.startswith("#"):
            segments.append(_segment(path.parent / line, seconds, part))
    assert segments
    init = path.parent / attributes(f":{tags['#EXT-X-MAP']}")["URI"]  # Apple 8.20
    return Media(path, init, segments, target, fragments.timescale(init.read_bytes()))


def _tags(lines: list[str], *, once: bool) -> dict[str, str]:
    """By name; those of the whole playlist occur once (RFC 4.4.3)."""
    found = [line.partition(":")[::2] for line in lines if line.startswith("#EXT")]
    of_segments = {"#EXTINF", "#EXT-X-BYTERANGE"}
    names = [name for name, _ in found if name not in of_segments]
    assert len(names) == len(set(names)), names
    assert not (once and "#EXT-X-BYTERANGE" in dict(found))
    return dict(found)


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
    assert "#EXT-X-INDEPENDENT-SEGMENTS" in lines  # Apple 9.11
    assert "#EXT-X-VERSION:7" in lines
    found = Master(path, [], [], [], [], [])
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        if line.startswith("#EXT-X-STREAM-INF:"):
            found.variants.append((attributes(line), media(path.parent / after)))
        elif line.startswith("#EXT-X-I-FRAME-STREAM-INF:"):
            given = attributes(line)
            found.frames.append((given, media(path.parent / given["URI"])))
        elif line.startswith("#EXT-X-MEDIA:"):
            _add_rendition(found, attributes(line))
    _check(found)
    return found


def _add_rendition(found: Master, given: Mapping[str, str]) -> None:
    needed = RENDITION | OF_TYPE[given["TYPE"]]
    assert needed <= set(given) <= needed | {"CHARACTERISTICS"}, given
    if given["TYPE"] == "CLOSED-CAPTIONS":
        found.captions.append(given)
        return
    path = found.path.parent / given["URI"]
    if given["TYPE"] == "AUDIO":
        found.sounds.append((given, media(path)))
    else:
        found.subtitles.append((given, path))


def _check(found: Master) -> None:
    assert found.variants
    _check_renditions(found)
    _check_captions(found)
    _check_default(found)
    for given, playlist in found.variants:
        assert STREAM <= set(given) <= STREAM | {"AUDIO", "SUBTITLES"}, given
        _check_rates(found, given, playlist)
        _check_picture(given, playlist)
        _check_cuts(given, playlist)
        assert ("AUDIO" in given, "SUBTITLES" in given) == (
            bool(found.sounds),
            bool(found.subtitles),
        )
    _check_together(found)
    for given, playlist in found.sounds:
        _check_times(playlist, 1 / 40)  # of a frame of the sound, at most
        assert given["URI"] == playlist.path.name
    for _, path in found.subtitles:
        _check_subtitles(path, max(one.seconds for _, one in found.variants))
    _check_frames(found)


def _check_captions(found: Master) -> None:
    """RFC 4.4.6.2: NONE everywhere, or a group that is there."""
    said = {given["CLOSED-CAPTIONS"] for given, _ in found.variants}
    assert said == ({one["GROUP-ID"] for one in found.captions} or {"NONE"})


def _check_default(found: Master) -> None:
    """Apple 1.32, without what the sound takes."""
    distances = [abs(playlist.average() - FIRST) for _, playlist in found.variants]
    assert distances[0] == min(distances)


def _check_rates(found: Master, given: Mapping[str, str], playlist: Media) -> None:
    """Apple 1.26, 1.27 and 9.13: within 10 %; here within what rounding makes."""
    loudest = max((one.peak() for _, one in found.sounds), default=0.0)
    mean = max((one.average() for _, one in found.sounds), default=0.0)
    assert abs(int(given["BANDWIDTH"]) - playlist.peak() - loudest) <= 3, given
    assert abs(int(given["AVERAGE-BANDWIDTH"]) - playlist.average() - mean) <= 3, given
    assert int(given["AVERAGE-BANDWIDTH"]) <= int(given["BANDWIDTH"]), given


def _check_together(found: Master) -> None:
    """What players rely on when they go from one playlist to another."""
    playlists = [playlist for _, playlist in (*found.variants, *found.sounds)]
    assert len({one.target for one in playlists}) == 1  # RFC 6.2.4; Apple 8.2
    assert len({one.init for one in playlists}) == len(playlists)
    cuts = {tuple(one.seconds for one in playlist.segments) for _, playlist in found.variants}
    assert len(cuts) == 1  # Apple 8.22: all rungs are cut at the same moments
    starts = {_start(playlist) for _, playlist in found.variants}
    assert len(starts) == 1  # RFC 6.2.4: the same time stamps
    shapes = [_shape(given) for given, _ in found.variants]
    assert max(shapes) / min(shapes) < 1.05  # Apple 1.33, rounded to even sizes


def _shape(given: Mapping[str, str]) -> float:
    width, _, height = given["RESOLUTION"].partition("x")
    return int(width) / int(height)


def _start(playlist: Media) -> float:
    first = fragments.fragments(playlist.segments[0].path.read_bytes(), playlist.init.read_bytes())[
        0
    ]
    return round(first.decode_time / playlist.timescale, 3)


def _check_times(playlist: Media, frame: float) -> None:
    """Apple 7.3 and 8.1: decode times go on from segment to segment, and the playlist
    tells durations within a frame."""
    init, expected = playlist.init.read_bytes(), None
    assert not fragments.waits(init), playlist.path
    for segment in playlist.segments:
        parts = fragments.fragments(segment.path.read_bytes(), init)
        for part in parts:
            assert expected in (None, part.decode_time), (segment.path, expected, part)
            expected = part.decode_time + part.duration
        length = sum(part.duration for part in parts) / playlist.timescale
        assert abs(length - segment.seconds) <= frame, (segment.path, length)


def _check_cuts(given: Mapping[str, str], playlist: Media) -> None:
    """Apple 7.4 and 7.6: each segment begins with an IDR picture, and lasts six seconds,
    to the frame, unless it is the last."""
    frame = 1 / float(given["FRAME-RATE"])
    _check_times(playlist, 1.01 * frame)
    for segment in playlist.segments[:-1]:
        assert abs(segment.seconds - NOMINAL) <= 1.01 * frame, segment
    init = playlist.init.read_bytes()
    for segment in playlist.segments:
        (first, *_) = fragments.fragments(segment.path.read_bytes(), init)
        assert fragments.begins_with_idr(first.first, given["CODECS"]), segment.path


def _check_subtitles(path: Path, seconds: float) -> None:
    """Apple 5.2, 5.3, 5.5 and 5.7; RFC 3.1.4."""
    lines = path.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("#EXTM3U", "#EXT-X-ENDLIST")
    tags = _tags(lines, once=True)
    assert tags["#EXT-X-PLAYLIST-TYPE"] == "VOD"
    lengths = [float(one) for one in re.findall(r"^#EXTINF:([\d.]+)", path.read_text(), re.M)]
    assert max(map(round, lengths)) <= int(tags["#EXT-X-TARGETDURATION"])
    assert sum(lengths) >= seconds - 0.001
    for name in (line for line in lines if line and not line.startswith("#")):
        webvtt((path.parent / name).read_text(encoding="utf-8"), mapped=True)


_TIME = r"(?:(\d\d+):)?([0-5]\d):([0-5]\d\.\d{3})"
_TIMING = re.compile(rf"{_TIME} --> {_TIME}((?: \S+:\S+)*)")
_MARKUP = re.compile(r"(</?[biu]>|&(?:amp|lt|gt|nbsp|lrm|rlm);|[^<>&])*")


def webvtt(text: str, *, mapped: bool) -> list[str]:
    """The texts of the cues, each checked: its times, and that a browser shows all of it."""
    head, *blocks = text.rstrip("\n").split("\n\n")
    mark = r"\nX-TIMESTAMP-MAP=MPEGTS:\d+,LOCAL:00:00:00\.000" if mapped else ""
    assert re.fullmatch(f"WEBVTT{mark}", head)
    found = []
    for block in blocks:
        timing, _, cue = block.partition("\n")
        times = _TIMING.fullmatch(timing)
        assert times, block
        begin, end = _clock(times.groups()[:3]), _clock(times.groups()[3:6])
        assert begin < end, block
        assert cue, block
        assert _MARKUP.fullmatch(cue.replace("\n", " ")), block
        found.append(cue)
    return found


def _clock(parts: tuple[str, ...]) -> float:
    hours, minutes, seconds = parts
    return int(hours or 0) * 3600 + int(minutes) * 60 + float(seconds)


def _check_frames(found: Master) -> None:
    """Apple 6.1, 6.8 to 6.10; RFC 4.4.3.6 and 4.4.6.3."""
    assert len(found.frames) == len(found.variants)
    codecs = {given["RESOLUTION"]: given["CODECS"] for given, _ in found.variants}
    first = found.variants[0][1]
    for given, playlist in found.frames:
        assert set(given) == FRAMES, given
        assert "#EXT-X-I-FRAMES-ONLY" in playlist.path.read_text().splitlines()
        assert codecs[given["RESOLUTION"]].split(",")[0] == given["CODECS"]
        rates = [8 * one.size / one.seconds for one in playlist.segments]
        assert int(given["BANDWIDTH"]) >= max(rates)
        assert abs(playlist.seconds - first.seconds) < 0.1
        for segment in playlist.segments:
            _check_one_frame(playlist, segment)


def _check_renditions(found: Master) -> None:
    """RFC 4.4.6.1.1: unlike names, one group, at most one default."""
    for renditions in (found.sounds, found.subtitles):
        names = [given["NAME"] for given, _ in renditions]
        assert len(names) == len(set(names))
        assert all(names)
        groups = {given["GROUP-ID"] for given, _ in renditions}
        assert len(groups) <= 1
        _check_choice([given for given, _ in renditions])
    for given, _ in found.variants:
        for kind, renditions in (("AUDIO", found.sounds), ("SUBTITLES", found.subtitles)):
            assert not renditions or given[kind] == renditions[0][0]["GROUP-ID"]
    defaults = [given for given, _ in found.sounds if given["DEFAULT"] == "YES"]
    assert len(defaults) == (1 if found.sounds else 0)
    for given, playlist in found.sounds:
        stream = probe(playlist)
        assert given["CHANNELS"].split("/")[0] == str(stream["channels"])


def _check_choice(renditions: list[Mapping[str, str]]) -> None:
    """What a player may choose by itself, it can tell apart (RFC 4.4.6.1); what is
    for the deaf or the blind is among that (Apple 2.13, 4.6), and forced text (5.11)."""
    chosen = [one for one in renditions if one["AUTOSELECT"] == "YES"]
    keys = [(one["LANGUAGE"], one.get("FORCED"), one.get("CHARACTERISTICS")) for one in chosen]
    assert len(keys) == len(set(keys)), keys
    for one in renditions:
        assert one["DEFAULT"] == "NO" or one["AUTOSELECT"] == "YES"
        if "CHARACTERISTICS" in one or one.get("FORCED") == "YES":
            key = (one["LANGUAGE"], one.get("FORCED"), one.get("CHARACTERISTICS"))
            assert key in keys, one


def _check_picture(given: Mapping[str, str], playlist: Media) -> None:
    stream = probe(playlist)
    assert given["VIDEO-RANGE"] in ("SDR", "PQ", "HLG")
    assert given["RESOLUTION"] == f"{stream['width']}x{stream['height']}"
    rate = float(Fraction(str(stream["avg_frame_rate"])))
    assert abs(float(given["FRAME-RATE"]) - rate) < 0.1, (given, rate)
    assert rate <= 60  # Apple 1.19
    kinds = {"h264": "avc1.", "hevc": "hvc1.", "av1": "av01."}  # Apple 1.1, 1.10
    assert given["CODECS"].startswith(kinds[str(stream["codec_name"])])
    if stream["codec_name"] == "h264":
        assert int(given["CODECS"].split(",")[0][-2:], 16) == stream["level"]


def _check_one_frame(playlist: Media, segment: Segment) -> None:
    """The bytes of an entry, after the init section, decode to one key frame."""
    data = segment.path.read_bytes()[segment.offset : segment.offset + segment.size]
    assert data[4:8] == b"moof"  # Apple 6.10
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
