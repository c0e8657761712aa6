"""HLS playlists: the master playlist and those of key frames (RFC 8216bis).

ffmpeg writes segments and their playlists. Its master playlist lacks what players
ask for, so that is written here, from what lies in the folder.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from backoffice import mp4

_SOUNDS, _TEXTS = "sound", "subtitles"  # groups of renditions
_HEAD = ("#EXTM3U", "#EXT-X-VERSION:7", "#EXT-X-INDEPENDENT-SEGMENTS")
_SHORTEST, _LONGEST = 0.5, 1.5  # of the target duration: over so much a peak is measured


@dataclass(frozen=True)
class Picture:
    """A rung; its playlist is ``NAME.m3u8``."""

    name: str
    width: int
    height: int
    frame_rate: float
    video_range: str  # SDR, PQ or HLG


@dataclass(frozen=True)
class Sound:
    """A rendition of the sound; its playlist is ``NAME.m3u8``."""

    name: str
    title: str  # for people; unlike those of the others
    language: str  # of BCP 47; empty: not known
    channels: int
    default: bool
    characteristics: str = ""  # for accessibility, such as "public.accessibility.describes-video"
    autoselect: bool = True  # a player may take it by itself, by its language


@dataclass(frozen=True)
class Text:
    """Subtitles in WebVTT; its playlist is ``NAME.m3u8``, its one segment ``NAME.vtt``."""

    name: str
    title: str  # for people; unlike those of the others
    language: str  # of BCP 47; empty: not known
    forced: bool = False  # only what is not in the language of the sound
    characteristics: str = ""
    autoselect: bool = True


@dataclass(frozen=True)
class Segment:
    path: Path
    seconds: float
    size: int  # bytes

    @property
    def bits(self) -> int:
        return 8 * self.size


@dataclass(frozen=True)
class Playlist:
    """A media playlist whose files are all there."""

    init: Path
    segments: Sequence[Segment]
    target: int  # seconds

    @property
    def seconds(self) -> float:
        return math.fsum(one.seconds for one in self.segments)

    @property
    def average(self) -> int:
        """Bits a second."""
        return math.ceil(sum(one.bits for one in self.segments) / self.seconds)

    @property
    def peak(self) -> int:
        """Bits a second of the largest of all runs of segments that last from half to
        one and a half target durations; of the whole, if that is shorter."""
        return max(map(math.ceil, self._runs()), default=self.average)

    def _runs(self) -> Iterator[float]:
        for first in range(len(self.segments)):
            bits, seconds = 0, 0.0
            for segment in self.segments[first:]:
                bits, seconds = bits + segment.bits, seconds + segment.seconds
                if seconds > _LONGEST * self.target:
                    break
                if seconds >= _SHORTEST * self.target:
                    yield bits / seconds


def read(path: Path) -> Playlist:
    """Raises ValueError for one that has no end, and OSError for files that are not there."""
    text = path.read_text()
    if "#EXT-X-ENDLIST" not in text:
        raise ValueError(f"{path.name} has no end")
    lengths = [float(seconds) for seconds in re.findall(r"#EXTINF:([\d.]+)", text)]
    names = [line for line in text.splitlines() if line and not line.startswith("#")]
    init = re.search(r'^#EXT-X-MAP:URI="([^"]+)"', text, re.MULTILINE)
    target = re.search(r"^#EXT-X-TARGETDURATION:(\d+)", text, re.MULTILINE)
    if not names or len(lengths) != len(names) or not init or not target:
        raise ValueError(f"{path.name} has {len(names)} segments")
    files = [path.parent / name for name in names]
    segments = [
        Segment(file, seconds, file.stat().st_size)
        for file, seconds in zip(files, lengths, strict=True)
    ]
    return Playlist(path.parent / init[1], segments, int(target[1]))


def write_master(
    path: Path, pictures: Sequence[Picture], sounds: Sequence[Sound], texts: Sequence[Text] = ()
) -> None:
    """Beside the playlists, which must be whole, and a playlist of key frames for
    each picture. Raises ValueError and OSError as ``read``."""
    heard = [read(path.parent / f"{one.name}.m3u8") for one in sounds]
    codecs = list(dict.fromkeys(mp4.codec(one.init.read_bytes()) for one in heard))
    lines = [*_HEAD, *(_media(one) for one in sounds), *(_subtitles(one) for one in texts)]
    frames = []
    for picture in pictures:
        playlist = read(path.parent / f"{picture.name}.m3u8")
        own = mp4.codec(playlist.init.read_bytes())
        bandwidth = {
            "BANDWIDTH": playlist.peak + max((one.peak for one in heard), default=0),
            "AVERAGE-BANDWIDTH": playlist.average + max((one.average for one in heard), default=0),
        }
        more = {
            "CODECS": _quoted(",".join([own, *codecs])),
            **_shape(picture),
            "FRAME-RATE": f"{picture.frame_rate:.3f}" if picture.frame_rate else None,
            "VIDEO-RANGE": picture.video_range,
            "AUDIO": _quoted(_SOUNDS) if sounds else None,
            "SUBTITLES": _quoted(_TEXTS) if texts else None,
        }
        lines += [_tag("EXT-X-STREAM-INF", bandwidth | more), f"{picture.name}.m3u8"]
        frames.append(_frames(path.parent, picture, playlist, own))
    path.write_text("\n".join([*lines, *frames, ""]))


def _media(sound: Sound) -> str:
    attributes = {
        "TYPE": "AUDIO",
        "GROUP-ID": _quoted(_SOUNDS),
        "NAME": _quoted(sound.title),
        "LANGUAGE": _quoted(sound.language) if sound.language else None,
        "DEFAULT": "YES" if sound.default else "NO",
        "AUTOSELECT": "YES" if sound.autoselect else "NO",
        "CHARACTERISTICS": _quoted(sound.characteristics) if sound.characteristics else None,
        "CHANNELS": _quoted(str(sound.channels)),
        "URI": _quoted(f"{sound.name}.m3u8"),
    }
    return _tag("EXT-X-MEDIA", attributes)


def _subtitles(text: Text) -> str:
    """Never shown by default: files mark their first subtitles so without meaning it."""
    attributes = {
        "TYPE": "SUBTITLES",
        "GROUP-ID": _quoted(_TEXTS),
        "NAME": _quoted(text.title),
        "LANGUAGE": _quoted(text.language) if text.language else None,
        "DEFAULT": "NO",
        "AUTOSELECT": "YES" if text.autoselect else "NO",
        "FORCED": "YES" if text.forced else "NO",
        "CHARACTERISTICS": _quoted(text.characteristics) if text.characteristics else None,
        "URI": _quoted(f"{text.name}.m3u8"),
    }
    return _tag("EXT-X-MEDIA", attributes)


def write_text(folder: Path, name: str, webvtt: str, seconds: float) -> None:
    """A rendition of subtitles that lasts as long as the pictures, in one segment.
    The segments of the pictures count their time from zero, and so does its map
    (RFC 8216bis, section 3.1.4)."""
    head, _, cues = webvtt.partition("\n\n")
    mapped = f"{head}\nX-TIMESTAMP-MAP=MPEGTS:0,LOCAL:00:00:00.000\n\n{cues}"
    (folder / f"{name}.vtt").write_text(mapped, encoding="utf-8")
    lines = [
        "#EXTM3U",
        "#EXT-X-VERSION:7",
        f"#EXT-X-TARGETDURATION:{math.ceil(seconds)}",
        "#EXT-X-MEDIA-SEQUENCE:0",
        "#EXT-X-PLAYLIST-TYPE:VOD",
        f"#EXTINF:{seconds:.6f},",
        f"{name}.vtt",
        "#EXT-X-ENDLIST",
        "",
    ]
    (folder / f"{name}.m3u8").write_text("\n".join(lines))


def _shape(picture: Picture) -> dict[str, object]:
    return {"RESOLUTION": f"{picture.width}x{picture.height}"}


def _frames(folder: Path, picture: Picture, playlist: Playlist, codec: str) -> str:
    """Write a playlist of the first frame of each segment; the line that names it."""
    name = f"{picture.name}-frames.m3u8"
    lines = [
        "#EXTM3U",
        "#EXT-X-VERSION:7",
        f"#EXT-X-TARGETDURATION:{playlist.target}",
        "#EXT-X-MEDIA-SEQUENCE:0",
        "#EXT-X-PLAYLIST-TYPE:VOD",
        "#EXT-X-I-FRAMES-ONLY",
        f'#EXT-X-MAP:URI="{playlist.init.name}"',
    ]
    rates, bits = [], 0
    for segment in playlist.segments:
        begin, size = mp4.first_frame(segment.path)
        lines += [f"#EXTINF:{segment.seconds:.6f},", f"#EXT-X-BYTERANGE:{size}@{begin}"]
        lines.append(segment.path.name)
        rates.append(8 * size / segment.seconds)
        bits += 8 * size
    (folder / name).write_text("\n".join([*lines, "#EXT-X-ENDLIST", ""]))
    attributes = {
        "BANDWIDTH": math.ceil(max(rates)),
        "AVERAGE-BANDWIDTH": math.ceil(bits / playlist.seconds),
        "CODECS": _quoted(codec),
        **_shape(picture),
        "VIDEO-RANGE": picture.video_range,
        "URI": _quoted(name),
    }
    return _tag("EXT-X-I-FRAME-STREAM-INF", attributes)


def _tag(name: str, attributes: Mapping[str, object]) -> str:
    given = [f"{key}={value}" for key, value in attributes.items() if value is not None]
    return f"#{name}:{','.join(given)}"


def _quoted(text: str) -> str:
    """Quotes and line ends have no escape in a playlist."""
    return '"' + re.sub(r'["\r\n\x00-\x1f]', "'", text) + '"'
