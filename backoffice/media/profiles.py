"""Encoding profiles: XML documents, and the ffmpeg arguments that follow from them.

Owns what a profile means for a source of which the facts are known: which rungs
are made, in which size, from which streams. Pure but for :func:`load`: it starts
nothing and looks at no media.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Final, NoReturn, TypeVar

from lxml import etree

from backoffice.documents import safe_xml
from backoffice.errors import DefinitionError, Invalid
from backoffice.media import (
    colour,
    decoding,
    languages,
    rates,
    rendering,
    soundtracks,
    subtitles,
    timeline,
)
from backoffice.media.colour import Facts as Facts
from backoffice.media.pictures import IDET, INTERLACED, MIXED, PROGRESSIVE, TELECINE
from backoffice.media.soundtracks import Soundtrack

_T = TypeVar("_T")
_D = TypeVar("_D")


@dataclass(frozen=True)
class Container:
    """A file format. ``codecs`` are the streams that may be copied into it."""

    format: str  # ffmpeg's muxer
    extension: str
    media_type: str
    encoders: frozenset[str]
    codecs: frozenset[str]
    options: tuple[str, ...] = ()


_MP4_CODECS = frozenset(
    [
        "h264",
        "hevc",
        "av1",
        "vp9",
        "mpeg4",
        "mpeg2video",
        "aac",
        "mp3",
        "mp2",
        "ac3",
        "eac3",
        "alac",
        "opus",
        "flac",
    ]
)
_MOV_CODECS = _MP4_CODECS | frozenset(
    ["prores", "dnxhd", "mjpeg", "pcm_s16le", "pcm_s24le", "pcm_s16be", "pcm_s24be"]
)
_X26X = frozenset({"libx264", "libx265", "aac"})
_FASTSTART = ("-movflags", "+faststart")

# A timecode track would be a stream that nobody asked for.
_MP4 = Container(
    "mp4",
    "mp4",
    "video/mp4",
    _X26X | {"flac"},
    _MP4_CODECS,
    (*_FASTSTART, "-write_tmcd", "0"),
)
_MOV = Container(
    "mov",
    "mov",
    "video/quicktime",
    _X26X | {"prores_ks", "pcm_s16le", "pcm_s24le"},
    _MOV_CODECS,
    _FASTSTART,
)
_MATROSKA = Container(
    "matroska",
    "mkv",
    "video/x-matroska",
    _X26X | {"prores_ks", "pcm_s16le", "pcm_s24le", "flac"},
    _MOV_CODECS | frozenset(["ffv1", "vp8", "theora", "vorbis", "dts", "truehd", "pcm_s32le"]),
)
_SOUND_MP4 = Container("mp4", "m4a", "audio/mp4", _MP4.encoders, _MP4_CODECS, _FASTSTART)
CONTAINERS: Final = {"mp4": _MP4, "mov": _MOV, "matroska": _MATROSKA}

# encoder → its profiles, with the pixel formats each can hold
_LOW, _HIGH = frozenset({"yuv420p"}), frozenset({"yuv420p", "yuv420p10le"})
_RICH = _HIGH | {"yuv422p", "yuv422p10le"}
_DEEP = frozenset({"yuv422p10le"})
ENCODER_PROFILES: Final[Mapping[str, Mapping[str, frozenset[str]]]] = {
    "libx264": {"baseline": _LOW, "main": _LOW, "high": _LOW, "high10": _HIGH, "high422": _RICH},
    "libx265": {"main": _LOW, "main10": _HIGH},
    "prores_ks": {"proxy": _DEEP, "lt": _DEEP, "standard": _DEEP, "hq": _DEEP},
}


@dataclass(frozen=True)
class Video:
    """One picture to make. Rates are in kb/s."""

    codec: str
    name: str = ""
    profile: str = ""
    preset: str = ""
    pixel_format: str = "yuv420p"
    height: int = 0  # the shorter side; 0: as the source
    quality: int | None = None  # constant rate factor
    rate: int = 0
    maximum: int = 0
    buffer: int = 0
    keyframes: float = 0.0  # seconds; 0: as the encoder likes
    frame_rate: float = 60.0  # at most
    fields: bool = False  # of interlaced pictures each field becomes a frame: 50i, 50p
    dynamic_range: str = "sdr"  # or keep: PQ and HLG stay what they are


@dataclass(frozen=True)
class Loudness:
    """A target of EBU R128."""

    integrated: float  # LUFS
    peak: float  # dBTP
    range: float  # LU


@dataclass(frozen=True)
class Audio:
    """The sound to make. ``streams`` says of which of the source: ``main`` (the best
    one), ``languages`` (one a language and role) or ``all`` (each as it is)."""

    codec: str
    rate: int = 0  # kb/s
    channels: int = 0  # 0: as the source
    sample_rate: int = 48000
    streams: str = "main"
    languages: tuple[str, ...] = ()  # of BCP 47, those wanted first; empty: as the source
    loudness: Loudness | None = None


@dataclass(frozen=True)
class Package:
    """A folder of segments: ``hls`` or ``dash``."""

    format: str
    segment: float  # seconds

    @property
    def manifest(self) -> str:
        return {"hls": "master.m3u8", "dash": "manifest.mpd"}[self.format]

    @property
    def media_type(self) -> str:
        return {"hls": "application/vnd.apple.mpegurl", "dash": "application/dash+xml"}[self.format]


# What of a source's metadata is in what is made of it: only languages; titles of sound
# streams too; all, with chapters.
NOTHING, STREAMS, KEEP = "none", "streams", "keep"


@dataclass(frozen=True)
class Profile:
    """A profile that was checked whole. It has a container or a package."""

    name: str
    title: str
    description: str
    source: str  # the file it came from
    container: Container | None = None
    package: Package | None = None
    copy: bool = False
    maximum: float = 0.0  # seconds; 0: all
    video: tuple[Video, ...] = ()  # the tallest first
    audio: Audio | None = None
    metadata: str = NOTHING

    @property
    def sound_only(self) -> bool:
        return not self.copy and not self.video

    @property
    def encoders(self) -> frozenset[str]:
        """The encoders that ffmpeg must have for it."""
        names = {video.codec for video in self.video}
        return frozenset(names | {self.audio.codec} if self.audio else names)


@dataclass(frozen=True)
class Span:
    """When a stream of the source is there, in seconds after the source's start."""

    start: float
    length: float  # 0: not known

    @property
    def end(self) -> float:
        return self.start + self.length


@dataclass(frozen=True)
class Expected:
    """What must come out of an encoding, to be compared with what did. Each stream
    has its own length: sound may be shorter or longer than the picture."""

    pictures: tuple[tuple[int, int], ...]
    picture: Span | None  # of all pictures: they are made of one
    sounds: tuple[Span, ...]
    whole: float = 0.0  # seconds that the longest stream must last; 0: not known

    @property
    def duration(self) -> float:
        """Seconds, for progress; 0: not known."""
        spans = (*self.sounds, *([self.picture] if self.picture else ()))
        return max([self.whole, *(span.end for span in spans if span.length)], default=0.0)


# What is made of a source


NEAR: Final = 1.2  # times as many lines as a rung has: a taller source gets one of its own


def rungs(profile: Profile, facts: Facts) -> tuple[Video, ...]:
    """The pictures to make: none taller than the source, and one as tall as the source
    is, unless the next below has nearly its lines."""
    picture = first_picture(facts)
    if picture is None or not profile.video:
        return ()
    lines = min(picture["width"], picture["height"])
    fitting = tuple(video for video in profile.video if video.height <= lines)
    above = profile.video[: len(profile.video) - len(fitting)]
    if above and (not fitting or lines >= NEAR * fitting[0].height):
        return (_cut_down(above[-1], lines), *fitting)
    return fitting


def _cut_down(video: Video, lines: int) -> Video:
    """A rung at the source's own height; a name that tells the height tells that."""
    height = max(2, lines // 2 * 2)
    named = video.name == f"{video.height}p"
    return replace(video, height=height, name=f"{height}p" if named else video.name)


def frame_rate(video: Video, picture: Facts) -> Fraction:
    """Frames a second that come out of a picture; constant."""
    return rates.shown(_scanned_rate(video, picture), rates.exact(video.frame_rate))


def capped(profile: Profile, facts: Facts) -> str:
    """What people are told where frames are left out; empty where all are kept."""
    picture, videos = first_picture(facts), rungs(profile, facts)
    if picture is None or not videos:
        return ""
    had, made = _scanned_rate(videos[0], picture), frame_rate(videos[0], picture)
    return f"{float(had):g} frames a second became {float(made):g}" if made < had else ""


def _scanned_rate(video: Video, picture: Facts) -> Fraction:
    rate = rates.exact(picture.get("frame_rate", 0.0)) or rates.USUAL
    if _scan(picture) == TELECINE:
        return rate * 4 / 5
    return 2 * rate if _shows_fields(video, picture) else rate


def _shows_fields(video: Video, picture: Facts) -> bool:
    fits = 2 * picture.get("frame_rate", 0.0) <= video.frame_rate
    return video.fields and fits and _scan(picture) in (INTERLACED, MIXED)


def _scan(picture: Facts) -> str:
    """As found by looking; by the header for a picture that was not looked at."""
    told = INTERLACED if picture.get("interlaced") else PROGRESSIVE
    return str(picture.get("scan", told))


def deinterlacing(picture: Facts, *, fields: bool = False) -> list[str]:
    """The filters that make whole frames of a picture, one of each frame or of each
    field. Flags of frames may be wrong, so none is asked: of a mixed picture idet
    tells for each frame, as it did for the whole."""
    scanned = _scan(picture)
    if scanned == INTERLACED:
        return [_bwdif(picture, "all", fields=fields)]
    if scanned == MIXED:
        return [IDET, _bwdif(picture, "interlaced", fields=fields)]
    if scanned == TELECINE:
        steady = f"fps={rates.exact(picture['frame_rate'])}"
        matched = f"fieldmatch=order={_parity(picture)}:combmatch=full"
        return [steady, matched, _bwdif(picture, "interlaced"), "decimate"]
    return []


def deinterlacing_stills(picture: Facts) -> list[str]:
    """For frames that do not follow each other, among which there is no cadence."""
    return [] if _scan(picture) == PROGRESSIVE else [_bwdif(picture, "all")]


def _bwdif(picture: Facts, frames: str, *, fields: bool = False) -> str:
    mode = "send_field" if fields else "send_frame"
    return f"bwdif=mode={mode}:parity={_parity(picture)}:deint={frames}"


def _parity(picture: Facts) -> str:
    return "bff" if picture.get("first_field") == "bottom" else "tff"


def dimensions(picture: Facts, height: int = 0) -> tuple[int, int]:
    """Width and height in square pixels, both even: the shorter side becomes
    ``height``, never more than it is."""
    width, tall = picture["width"], picture["height"]
    shorter = min(width, tall)
    if shorter < 2:
        raise Invalid(f"a picture of {width}×{tall} cannot be encoded")
    target = min(height or shorter, shorter) // 2 * 2
    scale = target / shorter
    return _even(width * scale), _even(tall * scale)


def _even(length: float) -> int:
    # Rounded to the nearest; an odd source must not grow, hence the small step down.
    return max(2, round((length - 0.01) / 2) * 2)


def first_picture(facts: Facts) -> Facts | None:
    return next(iter(facts.get("video", ())), None)


def sounds(profile: Profile, facts: Facts) -> Sequence[Soundtrack]:
    """The sounds to make, the default one first."""
    audio = profile.audio
    if profile.copy or (audio and audio.streams == "all"):
        return soundtracks.every(facts)
    if audio is None:
        return ()
    found = soundtracks.candidates(facts, audio.languages)
    return found[:1] if audio.streams == "main" else soundtracks.one_a_language(found)


def texts(profile: Profile, facts: Facts) -> Sequence[Facts]:
    """The subtitles of the source that a copy of it keeps."""
    return subtitles.textual(facts) if profile.copy else ()


def expected(profile: Profile, facts: Facts) -> Expected:
    """What encoding a source must give."""
    picture = first_picture(facts)
    if profile.copy:
        sizes = [(v["width"], v["height"]) for v in facts.get("video", ())]
    else:
        sizes = [dimensions(picture, v.height) for v in rungs(profile, facts)] if picture else []
    used = sounds(profile, facts)
    streams = [stream for track in used for stream in track.streams]
    shown = picture if picture and sizes else None
    return Expected(
        pictures=tuple(sizes),
        picture=span(shown, facts, profile.maximum) if shown else None,
        sounds=tuple(_sound_span(track, facts, profile.maximum) for track in used),
        whole=_whole(facts, [*streams, *([shown] if shown else [])], profile.maximum),
    )


def span(stream: Facts, facts: Facts, maximum: float = 0.0) -> Span:
    """When a stream of the source is there, of its first ``maximum`` seconds."""
    start = max(0.0, float(stream.get("start", 0.0)) - float(facts.get("start", 0.0)))
    length = 0.0 if facts.get("estimated") else float(stream.get("duration", 0.0))
    if whole := float(facts.get("duration", 0.0)):
        # In Matroska the length of a stream may be written as the time of its end.
        length = min(length, max(0.0, whole - start))
    if maximum:
        start, length = min(start, maximum), min(length, max(0.0, maximum - start))
    return Span(start, length)


def _sound_span(track: Soundtrack, facts: Facts, maximum: float) -> Span:
    """From the first to the last of its channels."""
    spans = [span(stream, facts, maximum) for stream in track.streams]
    start = min(one.start for one in spans)
    known = all(one.length for one in spans)
    return Span(start, max(one.end for one in spans) - start if known else 0.0)


def _whole(facts: Facts, used: Sequence[Facts], maximum: float) -> float:
    """The source's own length counts only where its streams have none: a stream that
    is left out may be the longest."""
    lengths = [float(stream.get("duration", 0.0)) for stream in used]
    if facts.get("estimated"):
        return 0.0
    whole = max(lengths) if lengths and all(lengths) else float(facts.get("duration", 0.0))
    return min(whole, maximum) if maximum else whole


def unfit(profile: Profile, facts: Facts) -> str:
    """Why the source cannot be encoded so, as the end of a sentence about it;
    empty if it can."""
    pictures, streams = facts.get("video", ()), facts.get("audio", ())
    if not (pictures or profile.sound_only) and (why := decoding.sentence(facts, "picture")):
        return f"cannot be encoded: {why}"
    if profile.video and not pictures:
        return f"has sound but no picture; the profile {profile.name} needs a picture"
    picture = first_picture(facts)
    if profile.video and picture and (reason := colour.unusable(picture)):
        return reason
    if profile.sound_only and not streams:
        if why := decoding.sentence(facts, "sound"):
            return f"cannot be encoded: {why}"
        return f"has no sound; the profile {profile.name} needs it"
    if profile.copy and profile.container:
        for stream in (*pictures, *streams):
            if stream["codec"] not in profile.container.codecs:
                return (
                    f"holds {stream['codec']}, which {profile.container.format} cannot hold;"
                    " use a profile that encodes"
                )
        if any("empty_edits" in stream for stream in pictures):
            return (
                "has an edit that shows no picture, which a copy loses; use a profile that encodes"
            )
    return ""


# ffmpeg's arguments


def encode_arguments(
    profiles: Sequence[Profile], facts: Facts, *, loudness: Sequence[Sequence[str]] = ()
) -> list[list[str]]:
    """For each of the profiles all between the input and the name of its output, in one
    command that decodes the picture once. ``loudness`` has of each profile the filter
    from :func:`loudness_filter` for each sound."""
    graph, mapped = _pictures(profiles, facts)
    outputs = [
        [*pictures, *_beside_pictures(profile, facts, corrections)]
        for profile, pictures, corrections in zip(
            profiles, mapped, loudness or [()] * len(profiles), strict=True
        )
    ]
    return [[*timeline.arguments(facts), *graph, *outputs[0]], *outputs[1:]]


def _beside_pictures(profile: Profile, facts: Facts, loudness: Sequence[str]) -> list[str]:
    arguments = _sounds(profile, facts, loudness)
    arguments += [*([] if texts(profile, facts) else ["-sn"]), "-dn"]
    described = [track.described for track in sounds(profile, facts)]
    arguments += metadata_arguments(profile.metadata, described, languages=profile.copy)
    if profile.metadata != KEEP:
        for n, stream in enumerate(texts(profile, facts)):
            arguments += [f"-metadata:s:s:{n}", f"language={stream.get('language', 'und')}"]
    if profile.maximum:
        arguments += ["-t", f"{profile.maximum:g}"]
    if profile.package:
        names = [video.name for video in rungs(profile, facts)]
        shape = expected(profile, facts).pictures[0]
        rate = profile.audio.sample_rate if profile.audio else 0
        made = [{**stream, "sample_rate": rate} for stream in described]
        return arguments + package_arguments(profile.package, names, shape=shape, sounds=made)
    container = profile.container
    assert container is not None
    return [*arguments, *container.options, "-f", container.format]


def metadata_arguments(kept: str, sounds: Sequence[Facts], *, languages: bool = True) -> list[str]:
    """Which tags come out. Sources tell places, persons, devices and remarks, in tags of
    the file, of each stream and in the titles of chapters. Without ``languages``, those
    of the sounds are set elsewhere."""
    if kept == KEEP:
        return ["-map_metadata", "0", "-map_chapters", "0"]
    arguments = ["-map_metadata", "-1", "-map_chapters", "-1"]
    for number, stream in enumerate(sounds):
        at = f"-metadata:s:a:{number}"
        if languages:
            arguments += [at, f"language={stream.get('language', 'und')}"]
        if kept == STREAMS and stream.get("title"):
            arguments += [at, f"title={stream['title']}"]
    return arguments


def _copy(profile: Profile, facts: Facts) -> list[str]:
    streams = (*facts.get("video", ()), *facts.get("audio", ()), *texts(profile, facts))
    maps = [word for stream in streams for word in ("-map", f"0:{stream['index']}")]
    # MP4 and MOV hold text in a form of their own; Matroska takes it as it is.
    text = profile.container is None or profile.container.format != "matroska"
    as_text = ["-c:s", "mov_text"] if text and texts(profile, facts) else []
    return [
        *maps,
        "-c",
        "copy",
        *as_text,
        *_without_empty_edits(facts),
        "-avoid_negative_ts",
        "make_zero",
    ]


def _without_empty_edits(facts: Facts) -> list[str]:
    """Filters of the sounds. Pictures that would be left out may be needed by others."""
    arguments = []
    for n, stream in enumerate(facts.get("audio", ())):
        if shown := timeline.is_shown(stream, "pts*tb"):
            arguments += [f"-bsf:a:{n}", f"noise=drop='not({shown})'"]
    return arguments


def made_colour(video: Video, picture: Facts) -> colour.Colour:
    """The colour of what is made of a source's picture."""
    return colour.kept(picture) if video.dynamic_range == "keep" else colour.BT709


def _pictures(profiles: Sequence[Profile], facts: Facts) -> tuple[list[str], list[list[str]]]:
    """The graph that feeds them all, and for each profile the arguments that map and
    encode its pictures."""
    picture = first_picture(facts)
    rows = [() if profile.copy else rungs(profile, facts) for profile in profiles]
    videos = [video for row in rows for video in row]
    graph = _graph(videos, picture) if picture else []
    mapped, fed = [], 0
    for profile, row in zip(profiles, rows, strict=True):
        arguments = _copy(profile, facts) if profile.copy else [] if row else ["-vn"]
        if picture:
            arguments += _feeds(row, fed, picture, graph=bool(graph))
        mapped.append(arguments)
        fed += len(row)
    return graph, mapped


def _feeds(videos: Sequence[Video], first: int, picture: Facts, *, graph: bool) -> list[str]:
    """The pictures of one profile; ``first`` is the number of the first in the graph."""
    arguments = []
    for number, video in enumerate(videos, first):
        if graph:
            arguments += ["-map", f"[v{number}]"]
        else:
            filters = [*_before_scale(video, picture), _scale(video, picture)]
            arguments += ["-map", f"0:{picture['index']}", "-vf", ",".join(filters)]
    for number, video in enumerate(videos):
        arguments += _encoder(video, number, picture)
    return arguments


def _graph(videos: Sequence[Video], picture: Facts) -> list[str]:
    """One decoding for all of them; those of the same frames share the deinterlacing and
    the frame rate too. Empty where one alone needs none."""
    mapped = _tone_mapped(videos, picture)
    if len(videos) <= 1 and not mapped:
        return []
    source = f"[0:{picture['index']}]"
    groups: dict[str, list[int]] = {}
    for number, video in enumerate(videos):
        groups.setdefault(",".join(_before_scale(video, picture)), []).append(number)
    # Of a graph with one input ffmpeg gives the source's metadata of HDR to the
    # result, hence a second that goes nowhere.
    parts = [f"{source}nullsink"] if mapped else []
    for filters, numbers in groups.items():
        labels = "".join(f"[s{number}]" for number in numbers)
        parts.append(f"{source}{filters},split={len(numbers)}{labels}")
    parts += [
        f"[s{number}]{_scale(video, picture, told=number == 0)}[v{number}]"
        for number, video in enumerate(videos)
    ]
    return ["-filter_complex", ";".join(parts)]


def _before_scale(video: Video, picture: Facts) -> list[str]:
    shown = timeline.is_shown(picture)
    chosen = [f"select='{shown}'"] if shown else []
    fields = _shows_fields(video, picture)
    rate = f"fps={frame_rate(video, picture)}"
    return [*chosen, *deinterlacing(picture, fields=fields), rate]


def _tone_mapped(videos: Sequence[Video], picture: Facts) -> bool:
    source = colour.of(picture).video_range
    return any(made_colour(video, picture).video_range != source for video in videos)


def _scale(video: Video, picture: Facts, *, told: bool = True) -> str:
    size, made = dimensions(picture, video.height), made_colour(video, picture)
    return ",".join(rendering.filters(picture, size, made, video.pixel_format, told=told))


def _encoder(video: Video, number: int, picture: Facts) -> list[str]:
    at = f":v:{number}"
    given = [
        (f"-c{at}", video.codec),
        (f"-profile{at}", video.profile),
        (f"-preset{at}", video.preset),
        (f"-crf{at}", "" if video.quality is None else str(video.quality)),
        (f"-b{at}", f"{video.rate}k" if video.rate else ""),
        (f"-maxrate{at}", f"{video.maximum}k" if video.maximum else ""),
        (f"-bufsize{at}", f"{video.buffer}k" if video.buffer else ""),
        # By the clock, so that all rungs can be cut at the same places.
        (f"-force_key_frames{at}", _keyframes(video)),
        (f"-sc_threshold{at}", "0" if video.keyframes and video.codec == "libx264" else ""),
        # Longer than any distance asked for, else the encoder adds its own.
        (f"-g{at}", "600" if video.keyframes else ""),
        (f"-tag{at}", "hvc1" if video.codec == "libx265" else ""),
        # Frames that are doubled or left out would double or tear the captions with them.
        (f"-a53cc{at}", "0" if video.codec == "libx264" else ""),
        (f"-forced-idr{at}", "1" if video.keyframes and video.codec == "libx265" else ""),
        (f"-x265-params{at}", _x265(video, picture) if video.codec == "libx265" else ""),
    ]
    return [word for pair in given if pair[1] for word in pair]


def _x265(video: Video, picture: Facts) -> str:
    """Its own options. Segments must be independent of each other, and cut alike in
    all rungs; the metadata of HDR tell screens how to show it."""
    options = ["log-level=error"]
    if video.keyframes:
        options += ["open-gop=0", "scenecut=0"]
    if made_colour(video, picture).video_range != "SDR":
        options += ["repeat-headers=1"]
        if "mastering" in picture:
            options += ["hdr10=1", f"master-display={picture['mastering']}"]
        if "content_light" in picture:
            options += [f"max-cll={picture['content_light']}"]
    return ":".join(options)


def _keyframes(video: Video) -> str:
    return f"expr:gte(t,n_forced*{video.keyframes:g})" if video.keyframes else ""


def _sounds(profile: Profile, facts: Facts, loudness: Sequence[str]) -> list[str]:
    audio, tracks = profile.audio, sounds(profile, facts)
    if audio is None or not tracks:
        return [] if profile.copy else ["-an"]
    code = languages.quicktime if profile.container is _MOV else languages.code
    best = soundtracks.candidates(facts, audio.languages)[0].first["index"]
    arguments = []
    for n, track in enumerate(tracks):
        corrected = loudness[n] if loudness else ""
        arguments += sound_arguments(audio, track, n, corrected)
        arguments += [f"-metadata:s:a:{n}", f"language={code(track.language)}"]
        arguments += [f"-disposition:a:{n}", _marks(track, track.first["index"] == best)]
    arguments += ["-c:a", audio.codec]
    if audio.rate:
        arguments += ["-b:a", f"{audio.rate}k"]
    return [*arguments, "-ar", str(audio.sample_rate)]


def sound_arguments(audio: Audio, track: Soundtrack, number: int, last: str) -> list[str]:
    """Map a sound to the output's sound ``number``; ``last`` is its last filter."""
    chain = _sound_filter(audio, track, last)
    if len(track.streams) == 1:
        return [
            "-map",
            input_of(track.first),
            f"-filter:a:{number}",
            f"{_gapless(track.first)},{chain}",
        ]
    return ["-filter_complex", _joining(track, number, chain), "-map", f"[sound{number}]"]


# Seconds by which sound may be off before a gap is filled with silence or what overlaps is
# cut off: more than the times of containers are blurred by, and less than is noticed.
_OFF: Final = 0.03
_GAPS: Final = f"aresample=async=1:min_hard_comp={_OFF:g}:first_pts=0"


def _gapless(stream: Facts) -> str:
    """Filters that fill gaps with silence, lest sound and picture drift apart."""
    shown = timeline.is_shown(stream)
    return f"{_GAPS},volume=0:enable='not({shown})'" if shown else _GAPS


def input_of(stream: Facts) -> str:
    """What ffmpeg calls a stream of its inputs: ``0:3``, or where a copy of it is read."""
    return str(stream.get("input", f"0:{stream['index']}"))


def _joining(track: Soundtrack, number: int, chain: str) -> str:
    """Each mono track becomes a channel. ``join`` would end with the shortest of them;
    sums of sounds that are silent in all other channels do not."""
    parts, labels = [], ""
    for place, stream in enumerate(track.streams):
        label = f"[sound{number}-{place}]"
        parts.append(
            f"[{input_of(stream)}]{_gapless(stream)},pan={track.layout}|c{place}=c0{label}"
        )
        labels += label
    mix = f"amix=inputs={len(track.streams)}:duration=longest:normalize=0"
    return ";".join([*parts, f"{labels}{mix},{chain}[sound{number}]"])


def _sound_filter(audio: Audio, track: Soundtrack, last: str) -> str:
    """Channels are mixed before the loudness is measured, since that changes it. Of
    channels without labels the first two are the programme; the others may be other
    languages, and are never mixed into it."""
    pair = "pan=stereo|c0=c0|c1=c1" if programme_pair(audio, track) else ""
    layout = {0: "", 1: "aformat=channel_layouts=mono", 2: "aformat=channel_layouts=stereo"}
    return ",".join(part for part in (pair, layout[audio.channels], last) if part) or "anull"


def programme_pair(audio: Audio, track: Soundtrack) -> bool:
    """Whether the first two channels alone are taken. Plain samples can keep all."""
    return track.unlabelled and (bool(audio.channels) or not audio.codec.startswith("pcm"))


_MARKS: Final[Mapping[str, str]] = {
    soundtracks.COMMENTARY: "comment",
    soundtracks.DESCRIPTION: "visual_impaired",
    soundtracks.KARAOKE: "karaoke",
}


def _marks(track: Soundtrack, default: bool) -> str:
    """ffmpeg's disposition: whether it is the one to play, and its role."""
    marks = ["default"] if default else []
    return "+".join([*marks, *([_MARKS[track.role]] if track.role in _MARKS else [])]) or "0"


def package_arguments(
    package: Package, names: Sequence[str], *, shape: tuple[int, int], sounds: Sequence[Facts]
) -> list[str]:
    """The muxer's arguments for a ladder of pictures ``names`` and renditions of the sound.

    ``shape`` is the size of the tallest, of which the others are smaller copies.
    """
    # Browsers know no edit lists that begin with nothing, by which ffmpeg would tell when
    # a stream begins: its fragments tell it themselves, and none begins before zero.
    times = ["-avoid_negative_ts", "disabled", "-output_ts_offset", f"{lead(sounds):.6f}"]
    if package.format == "hls":
        return [*_hls(package, names, sound_names(sounds)), *times]
    return [*_dash(package, len(names), shape, sounds), *times]


_PRIMING: Final = 2048  # samples that an encoder of sound may put before the first


def lead(sounds: Sequence[Facts]) -> float:
    """Seconds by which all of a package begins later than zero: the priming of the sound
    comes before the picture."""
    return max((_PRIMING / int(one["sample_rate"]) for one in sounds), default=0.0)


# The first fragment of a stream tells when it begins.
_STARTS: Final = "movflags=+frag_discont"


def sound_names(sounds: Sequence[Facts]) -> list[str]:
    """What the renditions of the sound are called in a package."""
    if len(sounds) == 1:
        return ["sound"]
    tags = [languages.tag(str(stream.get("language", ""))) for stream in sounds]
    return [f"sound-{n}-{tag or languages.UNKNOWN}" for n, tag in enumerate(tags, 1)]


def _hls(package: Package, names: Sequence[str], sounds: Sequence[str]) -> list[str]:
    """Without a master playlist: what players ask of that, ffmpeg does not write."""
    group = ",agroup:sound" if sounds else ""
    streams = [f"v:{n}{group},name:{name}" for n, name in enumerate(names)]
    streams += [f"a:{n},agroup:sound,name:{name}" for n, name in enumerate(sounds)]
    # Of a lone variant ffmpeg leaves the %v in this one name as it is.
    first = "%v-init.mp4" if len(streams) > 1 else f"{names[0]}-init.mp4"
    return [
        "-f",
        "hls",
        "-hls_time",
        f"{package.segment:g}",
        "-hls_playlist_type",
        "vod",
        *"-hls_flags independent_segments -hls_segment_type fmp4".split(),
        "-hls_segment_options",
        _STARTS,
        "-hls_fmp4_init_filename",
        first,
        "-var_stream_map",
        " ".join(streams),
    ]


def _dash(
    package: Package, pictures: int, shape: tuple[int, int], sounds: Sequence[Facts]
) -> list[str]:
    """Rungs rounded to even sizes differ in shape by a hair, over which the muxer
    stumbles: all get the shape of the tallest. Each language is a set of its own."""
    width, height = shape
    sets = ["id=0,streams=v", *(f"id={n + 1},streams={pictures + n}" for n in range(len(sounds)))]
    tags = []
    for n, stream in enumerate(sounds):
        tag = languages.tag(str(stream.get("language", "")))
        tags += [f"-metadata:s:a:{n}", f"language={tag or languages.UNKNOWN}"]
    return [
        "-aspect:v",
        f"{width}:{height}",
        "-f",
        "dash",
        "-seg_duration",
        f"{package.segment:g}",
        *"-use_template 1 -use_timeline 1".split(),
        "-format_options",
        _STARTS,
        "-adaptation_sets",
        " ".join(sets),
        *tags,
    ]


def package_output(package: Package, folder: Path) -> list[str]:
    """The last arguments: where the segments and the playlists go."""
    if package.format == "dash":
        return [str(folder / package.manifest)]
    return ["-hls_segment_filename", str(folder / "%v-%05d.m4s"), str(folder / "%v.m3u8")]


# Loudness in two passes


def measure_arguments(audio: Audio, track: Soundtrack) -> list[str]:
    """The first pass, which measures; its outcome is on stderr at level info."""
    assert audio.loudness is not None
    target = f"{_target(audio.loudness)}:print_format=json"
    return [*sound_arguments(audio, track, 0, target), "-vn", "-sn", "-dn", "-f", "null", "-"]


def _target(loudness: Loudness) -> str:
    return f"loudnorm=I={loudness.integrated:g}:TP={loudness.peak:g}:LRA={loudness.range:g}"


# measured value → the filter's option for it, with the range that it accepts
_MEASURED: Final[Mapping[str, tuple[str, float, float]]] = {
    "input_i": ("measured_I", -99, 0),
    "input_tp": ("measured_TP", -99, 99),
    "input_lra": ("measured_LRA", 0, 99),
    "input_thresh": ("measured_thresh", -99, 0),
    "target_offset": ("offset", -99, 99),
}


def measured_loudness(stderr: str) -> dict[str, float] | None:
    """What the first pass has found; None when there is nothing but silence."""
    found = dict(re.findall(r'"(\w+)"\s*:\s*"([^"]*)"', stderr))
    values = {name: _finite(found.get(name, "")) for name in _MEASURED}
    known = {name: value for name, value in values.items() if value is not None}
    return known if len(known) == len(_MEASURED) else None


def _finite(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def loudness_filter(loudness: Loudness, measured: Mapping[str, float] | None) -> str:
    """The second pass; None for ``measured`` shows what is yet to be filled in."""
    target = _reachable(loudness, measured) if measured else loudness
    parts = [_target(target)]
    for name, (option, low, high) in _MEASURED.items():
        value = "…" if measured is None else f"{min(high, max(low, measured[name])):g}"
        parts.append(f"{option}={value}")
    return ":".join([*parts, "linear=true"])


def _reachable(loudness: Loudness, measured: Mapping[str, float]) -> Loudness:
    """The filter compresses sound of a wider range than its target, and then misses
    the integrated loudness by a decibel or two. Where one gain for all keeps the
    peak in bounds, the range is left as it is, and the loudness comes out exact.
    """
    gain = loudness.integrated - measured["input_i"]
    if measured["input_tp"] + gain > loudness.peak:
        return loudness
    return replace(loudness, range=min(50.0, max(loudness.range, measured["input_lra"])))


# Loading


def load(folders: Sequence[Path]) -> dict[str, Profile]:
    """Every profile in ``folders``, by name; a later folder's wins.

    Raises DefinitionError with file and line for the first fault.
    """
    found: dict[str, Profile] = {}
    for folder in folders:
        found.update(_load_folder(folder))
    return found


def _load_folder(folder: Path) -> dict[str, Profile]:
    if not folder.is_dir():
        raise DefinitionError("no such folder; see [paths] profiles", source=str(folder))
    found: dict[str, Profile] = {}
    for path in sorted(folder.glob("*.xml")):
        profile = _Reader(path).profile()
        if profile.name in found:
            other = found[profile.name].source
            raise DefinitionError(f"profile {profile.name} is in {other} too", source=str(path))
        found[profile.name] = profile
    return found


class _Reader:
    """Turns one document into a Profile, or refuses it with file and line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.root = safe_xml.definition(self.path, "profile")

    def profile(self) -> Profile:
        copies = self._all("copy")
        videos = tuple(self._video(element) for element in self._all("video"))
        audios = [self._audio(element) for element in self._all("audio")]
        if not (copies or videos or audios):
            self._refuse(self.root, "a profile needs video, audio or copy")
        files, packages = self._all("file"), self._all("package")
        profile = Profile(
            name=self.root.get("name", ""),
            title=self._text("title") or self.root.get("name", ""),
            description=self._text("description"),
            source=str(self.path),
            container=self._container(files[0], videos, copies) if files else None,
            package=self._package(packages[0], videos, copies) if packages else None,
            copy=bool(copies),
            maximum=float(files[0].get("maximum", 0)) if files else 0.0,
            video=videos,
            audio=audios[0] if audios else None,
            metadata=self.root.get("metadata", NOTHING),
        )
        self._check(profile)
        return profile

    def _refuse(self, element: etree._Element, message: str) -> NoReturn:
        safe_xml.refuse(self.path, element, message)

    def _all(self, tag: str) -> list[etree._Element]:
        return [element for element in self.root if safe_xml.local(element) == tag]

    def _text(self, tag: str) -> str:
        return next((safe_xml.text(element) for element in self._all(tag)), "")

    def _video(self, element: etree._Element) -> Video:
        video = Video(
            codec=element.get("codec", ""),
            name=element.get("name", ""),
            profile=element.get("profile", ""),
            preset=element.get("preset", ""),
            pixel_format=element.get("pixel-format", "yuv420p"),
            height=_given(element, "height", int, 0),
            quality=_given(element, "quality", int, None),
            rate=_given(element, "rate", int, 0),
            maximum=_given(element, "maximum", int, 0),
            buffer=_given(element, "buffer", int, 0),
            keyframes=_given(element, "keyframes", float, 0.0),
            frame_rate=_given(element, "frame-rate", float, 60.0),
            fields=element.get("deinterlace") == "fields",
            dynamic_range=element.get("dynamic-range", "sdr"),
        )
        self._check_encoder(element, video)
        self._check_rates(element, video)
        return video

    def _check_encoder(self, element: etree._Element, video: Video) -> None:
        profiles = ENCODER_PROFILES[video.codec]
        if video.profile and video.profile not in profiles:
            known = ", ".join(profiles)
            self._refuse(element, f"{video.codec} has no profile {video.profile!r}; it has {known}")
        allowed = (
            profiles[video.profile] if video.profile else frozenset().union(*profiles.values())
        )
        if video.pixel_format not in allowed:
            self._refuse(
                element,
                f"{video.codec} {video.profile} cannot hold {video.pixel_format};"
                f" it can hold {', '.join(sorted(allowed))}",
            )
        if video.dynamic_range == "keep" and (
            video.codec == "libx264" or "10" not in video.pixel_format
        ):
            self._refuse(element, "to keep HDR takes libx265 or prores_ks and 10 bits")
        if video.codec == "prores_ks" and (video.preset or video.keyframes):
            self._refuse(element, "prores_ks has neither presets nor keyframes")

    def _check_rates(self, element: etree._Element, video: Video) -> None:
        ways = (video.quality is not None) + bool(video.rate)
        if video.codec == "prores_ks":
            if ways or video.maximum or video.buffer:
                self._refuse(element, "prores_ks has no rate or quality; its profile sets them")
        elif ways != 1:
            self._refuse(element, f"{video.codec} needs either rate or quality")
        if bool(video.maximum) != bool(video.buffer):
            self._refuse(element, "maximum and buffer are given together or not at all")
        if video.maximum and video.maximum < video.rate:
            self._refuse(element, "maximum is lower than rate")

    def _audio(self, element: etree._Element) -> Audio:
        audio = Audio(
            codec=element.get("codec", ""),
            rate=_given(element, "rate", int, 0),
            channels=_given(element, "channels", int, 0),
            sample_rate=_given(element, "sample-rate", int, 48000),
            streams=element.get("streams", "main"),
            languages=tuple(element.get("languages", "").split()),
            loudness=next((_loudness(child) for child in element), None),
        )
        if (audio.codec == "aac") != bool(audio.rate):
            self._refuse(element, "aac needs a rate, and no other codec has one")
        if unknown := [one for one in audio.languages if not languages.tag(one)]:
            self._refuse(
                element, f"{unknown[0]!r} is no language; give tags such as 'de' or 'pt-BR'"
            )
        return audio

    def _container(
        self, element: etree._Element, videos: Sequence[Video], copies: Sequence[object]
    ) -> Container:
        if len(videos) > 1:
            self._refuse(element, "a file holds one video; a ladder needs package")
        container = CONTAINERS[element.get("format", "")]
        if container is _MP4 and not videos and not copies:
            return _SOUND_MP4
        return container

    def _package(
        self, element: etree._Element, videos: Sequence[Video], copies: Sequence[object]
    ) -> Package:
        if copies or not videos:
            self._refuse(element, "a package needs video to encode")
        segment = _given(element, "segment", float, 4.0)
        for rung, child in zip(videos, self._all("video"), strict=True):
            if not rung.name:
                self._refuse(child, "each video of a package needs a name")
            if not rung.height:
                self._refuse(child, "each video of a package needs a height")
            if not rung.keyframes or not _divides(rung.keyframes, segment):
                self._refuse(child, f"keyframes must divide the segment of {segment:g} s evenly")
        for (above, below), child in zip(pairwise(videos), self._all("video")[1:], strict=True):
            if below.height >= above.height:
                self._refuse(child, "videos of a package go from the tallest to the smallest")
        if len({(video.frame_rate, video.fields) for video in videos}) > 1:
            # Else they could not all be cut at the same frames.
            self._refuse(element, "videos need the same frame-rate and deinterlace")
        names = [video.name for video in videos]
        reserved = any(name.startswith(("sound", "subtitles")) for name in names)
        if reserved or len(set(names)) < len(names):
            self._refuse(element, "videos need different names, none like 'sound' or 'subtitles'")
        return Package(element.get("format", ""), segment)

    def _check(self, profile: Profile) -> None:
        allowed = profile.container.encoders if profile.container else _X26X
        into = profile.container.format if profile.container else "a package"
        for tag in ("video", "audio"):
            for element in self._all(tag):
                codec = element.get("codec", "")
                if codec not in allowed:
                    known = ", ".join(sorted(allowed))
                    self._refuse(element, f"{codec} does not go into {into}; these do: {known}")


def _given(element: etree._Element, name: str, kind: Callable[[str], _T], default: _D) -> _T | _D:
    value = element.get(name)
    return default if value is None else kind(value)


def _divides(part: float, whole: float) -> bool:
    return abs(whole / part - round(whole / part)) < 1e-6


def _loudness(element: etree._Element) -> Loudness:
    return Loudness(
        integrated=float(element.get("integrated", -23)),
        peak=float(element.get("peak", -1)),
        range=float(element.get("range", 7)),
    )
