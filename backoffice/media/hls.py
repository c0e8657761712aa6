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

from backoffice.media import mp4

_SOUNDS, _TEXTS, _CAPTIONS = "sound", "subtitles", "captions"  # groups of renditions
_HEAD = ("#EXTM3U", "#EXT-X-VERSION:7", "#EXT-X-INDEPENDENT-SEGMENTS")
_SHORTEST, _LONGEST = 0.5, 1.5  # of the target duration: over so much a peak is measured
_FIRST = 2_000_000  # bits a second of the rung that players begin with (Apple's rule 1.32)
_UNKNOWN = "und"  # Apple's rule 8.10 wants a language everywhere


@dataclass(frozen=True)
class Picture:
    """A rung; its playlist is ``NAME.m3u8``."""

    name: str
    width: int
    height: int
    frame_rate: float
    video_range: str  # SDR, PQ or HLG
    captions: bool = False  # CEA-608 or CEA-708 within the stream


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
    folder = path.parent
    names = [*(one.name for one in pictures), *(one.name for one in sounds)]
    _share_target([folder / f"{name}.m3u8" for name in names])
    heard = [read(folder / f"{one.name}.m3u8") for one in sounds]
    shown = [read(folder / f"{one.name}.m3u8") for one in pictures]
    captioned = any(one.captions for one in pictures)
    groups = {
        "AUDIO": _quoted(_SOUNDS) if sounds else None,
        "SUBTITLES": _quoted(_TEXTS) if texts else None,
        # Players look for captions in the pictures unless told that there are none.
        "CLOSED-CAPTIONS": None if captioned else "NONE",
    }
    variants = [
        (playlist.average, _variant(picture, playlist, heard, groups))
        for picture, playlist in zip(pictures, shown, strict=True)
    ]
    frames = [
        _frames(folder, picture, playlist)
        for picture, playlist in zip(pictures, shown, strict=True)
    ]
    lines = [*_HEAD, *(_media(one) for one in sounds), *(_subtitles(one) for one in texts)]
    lines += [_closed_captions()] if captioned else []
    path.write_text("\n".join([*lines, *_first_to_play(variants), *frames, ""]))


def _share_target(paths: Sequence[Path]) -> None:
    """Give the playlists one target duration, the longest (RFC 8216bis, section 6.2.4)."""
    target = max(read(path).target for path in paths)
    for path in paths:
        line = f"#EXT-X-TARGETDURATION:{target}"
        path.write_text(re.sub(r"#EXT-X-TARGETDURATION:\d+", line, path.read_text(), count=1))


def _variant(
    picture: Picture,
    playlist: Playlist,
    heard: Sequence[Playlist],
    groups: Mapping[str, str | None],
) -> str:
    codecs = dict.fromkeys(mp4.codec(one.init.read_bytes()) for one in (playlist, *heard))
    attributes = {
        "BANDWIDTH": playlist.peak + max((one.peak for one in heard), default=0),
        "AVERAGE-BANDWIDTH": playlist.average + max((one.average for one in heard), default=0),
        "CODECS": _quoted(",".join(codecs)),
        **_shape(picture),
        "FRAME-RATE": f"{picture.frame_rate:.3f}" if picture.frame_rate else None,
        "VIDEO-RANGE": picture.video_range,
        **groups,
    }
    if picture.captions:
        attributes["CLOSED-CAPTIONS"] = _quoted(_CAPTIONS)
    return f"{_tag('EXT-X-STREAM-INF', attributes)}\n{picture.name}.m3u8"


def _first_to_play(variants: Sequence[tuple[int, str]]) -> list[str]:
    """The variants, with that first of which the average is next to ``_FIRST``: players
    begin with it, before they have measured anything."""
    _, first = min(variants, key=lambda one: abs(one[0] - _FIRST))
    return [first, *(variant for _, variant in variants if variant is not first)]


def _media(sound: Sound) -> str:
    attributes = {
        "TYPE": "AUDIO",
        "GROUP-ID": _quoted(_SOUNDS),
        "NAME": _quoted(sound.title),
        "LANGUAGE": _quoted(sound.language or _UNKNOWN),
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
        "LANGUAGE": _quoted(text.language or _UNKNOWN),
        "DEFAULT": "NO",
        "AUTOSELECT": "YES" if text.autoselect else "NO",
        "FORCED": "YES" if text.forced else "NO",
        "CHARACTERISTICS": _quoted(text.characteristics) if text.characteristics else None,
        "URI": _quoted(f"{text.name}.m3u8"),
    }
    return _tag("EXT-X-MEDIA", attributes)


def _closed_captions() -> str:
    """Which languages and channels there are is not known: the first is named."""
    attributes = {
        "TYPE": "CLOSED-CAPTIONS",
        "GROUP-ID": _quoted(_CAPTIONS),
        "NAME": _quoted("Closed captions"),
        "LANGUAGE": _quoted(_UNKNOWN),
        "AUTOSELECT": "YES",
        "INSTREAM-ID": _quoted("CC1"),
    }
    return _tag("EXT-X-MEDIA", attributes)


def write_text(folder: Path, name: str, webvtt: str, seconds: float, lead: float) -> None:
    """A rendition of subtitles that lasts as long as the pictures, in one segment. Its
    map (RFC 8216bis, section 3.1.4) says that the pictures begin ``lead`` seconds after
    zero."""
    head, _, cues = webvtt.partition("\n\n")
    start = f"MPEGTS:{round(lead * 90_000)}"
    mapped = f"{head}\nX-TIMESTAMP-MAP={start},LOCAL:00:00:00.000\n\n{cues}"
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


def _frames(folder: Path, picture: Picture, playlist: Playlist) -> str:
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
        "CODECS": _quoted(mp4.codec(playlist.init.read_bytes())),
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
