"""Interlaced, telecined or progressive, of one colour or of several: found by looking at
frames.

Headers are wrong either way: DV says nothing, H.264 is often flagged progressive while
its fields differ, and films are flagged interlaced. ffmpeg's ``idet`` compares fields
at several places; here is what its answers mean.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from backoffice.config.settings import Settings
from backoffice.media import colour, ffmpeg
from backoffice.media.pictures import IDET, INTERLACED, MIXED, PROGRESSIVE, TELECINE
from backoffice.system.confinement import of_tools

_PLACES: Final = (0.05, 0.3, 0.55, 0.8)  # of the length
_FRAMES: Final = 60  # looked at in each place
_LONGEST: Final = 60.0  # seconds that the look may take in all
# Interlacing was made for screens of 50 and 60 fields: at more frames a second than
# half of that there is none.
_FASTEST: Final = 31.0
_FEWEST: Final = 3  # frames of which idet must have been sure
# Fine patterns that move look like fields of either order in turn; real fields have one.
_ONE_ORDER: Final = 0.9
_SMALLEST: Final = 120  # lines; none was ever interlaced, and idet needs some to compare
_MOST: Final = 0.8  # share of frames whose fields differ, or all but so many
_SOME: Final = 0.2  # a smaller share is chance
_FILM: Final = (29.9, 30.1)  # frames a second that telecine makes of 24
# Codecs whose stream itself says what its colour is, anew with each key frame.
_CHANGING: Final = frozenset({"h264", "hevc", "mpeg2video", "vp9", "av1"})
_MOST_CHANGES: Final = 10  # that are kept
_CYCLE: Final = 5  # frames that telecine makes of four


@dataclass(frozen=True)
class Seen:
    """How the pictures of a source are scanned. ``first`` is the field that is shown
    first, top or bottom; empty for progressive ones."""

    scan: str
    first: str = ""


@dataclass(frozen=True)
class Fields:
    """What idet says of frames that follow each other, a letter each. ``order``: t or b
    for the field that comes first of two that differ, p for a whole picture, u for one
    that does not tell. ``repeated``: t or b for a field that was there before, or n."""

    order: str = ""
    repeated: str = ""

    def parts(self) -> list[Fields]:
        """Of ``_FRAMES`` each: an edit breaks the cadence of telecine."""
        return [
            Fields(self.order[n : n + _FRAMES], self.repeated[n : n + _FRAMES])
            for n in range(0, len(self.order), _FRAMES)
        ]


@dataclass(frozen=True)
class _Source:
    path: Path
    name: str
    settings: Settings
    log: Callable[[str], None]


def looked(
    facts: Mapping[str, Any],
    path: Path,
    settings: Settings,
    log: Callable[[str], None] = lambda line: None,
    *,
    name: str = "",
) -> dict[str, Any]:
    """``facts`` of :func:`media.probe`, in which the first picture tells how it is
    scanned; one that tells it already is left as it is."""
    first, *others = facts.get("video") or [{}]
    if not first or "scan" in first:
        return dict(facts)
    source = _Source(path, name or path.name, settings, log)
    seen = judge(_fields(source, first, float(facts.get("duration", 0.0))), first)
    log(
        f"stream {first['index']} is {seen.scan}"
        + (f", {seen.first} field first" * bool(seen.first))
    )
    known = {
        "scan": seen.scan,
        "first_field": seen.first,
        "interlaced": seen.scan in (INTERLACED, MIXED),
        **_colour_changes(facts, source),
    }
    return {**facts, "video": [{**first, **known}, *others]}


def _colour_changes(facts: Mapping[str, Any], source: _Source) -> dict[str, Any]:
    """Most containers keep one description of the colour for a whole stream. Of MP4 those
    alone are looked at that may hold HDR."""
    first = facts["video"][0]
    deep = re.search(r"1\d(le|be)$", str(first.get("pixel_format", ""))) is not None
    if first["codec"] not in _CHANGING or ("mov" in facts["format"].split(",") and not deep):
        return {}
    seen = ffmpeg.colours(source.path, facts, source.settings, source.log, name=source.name)
    found = colour.changes(first, seen)
    return {"colour_changes": found[:_MOST_CHANGES]} if found else {}


def judge(places: Sequence[Fields], picture: Mapping[str, Any]) -> Seen:
    """What was seen in several places, as one."""
    letters = "".join(place.order for place in places)
    top, bottom, whole = (letters.count(letter) for letter in "tbp")
    combed = top + bottom
    if combed + whole < _FEWEST:
        return _told(picture)
    first = "top" if top >= bottom else "bottom"
    if combed < _SOME * (combed + whole) or max(top, bottom) < _ONE_ORDER * combed:
        return Seen(PROGRESSIVE)
    if _is_film(places, picture):
        return Seen(TELECINE, first)
    return Seen(INTERLACED if combed >= _MOST * (combed + whole) else MIXED, first)


def _told(picture: Mapping[str, Any]) -> Seen:
    """By the header, for pictures that do not move."""
    if not picture["interlaced"]:
        return Seen(PROGRESSIVE)
    return Seen(INTERLACED, "bottom" if picture.get("field_order") in ("bb", "tb") else "top")


def _is_film(places: Sequence[Fields], picture: Mapping[str, Any]) -> bool:
    """Whether fields repeat as telecine makes them, and nothing speaks against it where
    something moves."""
    low, high = _FILM
    moving = [part for place in places for part in place.parts() if part.order.strip("u")]
    repeats = [_repeats(part.repeated) for part in moving]
    fits = [found or _alternates(part.order) for found, part in zip(repeats, moving, strict=True)]
    return low <= picture["frame_rate"] <= high and any(repeats) and all(fits)


def _repeats(repeated: str) -> bool:
    """Of each five frames one repeats a top field and one a bottom field, always the
    same two."""
    often = "".join(
        next((letter for letter in "tbn" if _share(phase, letter) >= _MOST), "?")
        for phase in _phases(repeated)
    )
    return sorted(often) == sorted("tbnnn")


def _alternates(order: str) -> bool:
    """Of each five frames the same ones are whole. Fields do not repeat exactly where a
    source was encoded coarsely."""
    whole = [_share(phase.replace("u", ""), "p") for phase in _phases(order)]
    return any(one >= _MOST for one in whole) and any(one <= 1 - _MOST for one in whole)


def _phases(letters: str) -> list[str]:
    return [letters[n::_CYCLE] for n in range(_CYCLE)]


def _share(letters: str, letter: str) -> float:
    return letters.count(letter) / len(letters) if letters else 0.0


def _fields(source: _Source, picture: Mapping[str, Any], length: float) -> list[Fields]:
    """Of each place that was looked at."""
    if picture["frame_rate"] > _FASTEST or picture["height"] < _SMALLEST:
        return []
    seconds = float(picture.get("duration", 0.0)) or length
    until = time.monotonic() + _LONGEST
    return [
        _look(source, int(picture["index"]), start, frames, until)
        for start, frames in _windows(seconds, picture["frame_rate"])
    ]


def _windows(seconds: float, rate: float) -> list[tuple[float, int]]:
    """Where to begin, in seconds, and how many frames to look at."""
    if not seconds or seconds * rate <= 2 * _FRAMES * len(_PLACES):
        return [(0.0, _FRAMES * len(_PLACES))]
    return [(seconds * place, _FRAMES) for place in _PLACES]


class _TimeIsUp(Exception):
    pass


def _look(source: _Source, index: int, start: float, frames: int, until: float) -> Fields:
    """Of the frames from ``start`` on; none when the time is up."""

    def check() -> None:
        if time.monotonic() > until:
            raise _TimeIsUp

    try:
        done = ffmpeg.run(
            _command(source, index, start, frames),
            folder=Path("/"),
            log=source.log,
            on_tick=check,
            confined=of_tools(source.settings, read=[source.path.absolute()]),
            names=ffmpeg.name_of_descriptor(source.path, source.name),
        )
    except _TimeIsUp:
        source.log("the look at fields took too long and was ended")
        return Fields()
    if done.signal:
        raise ffmpeg.failure(done)
    return Fields(
        "".join(re.findall(r"idet\.single\.current_frame=(\w)", done.stdout)),
        "".join(re.findall(r"idet\.repeated\.current_frame=(\w)", done.stdout)),
    )


def _command(source: _Source, index: int, start: float, frames: int) -> list[str]:
    return [
        source.settings.tools.ffmpeg,
        "-hide_banner",
        "-nostdin",
        "-nostats",
        "-loglevel",
        "error",
        *(["-ss", f"{start:.3f}"] if start else []),
        *ffmpeg.input_arguments(source.path, source.settings),
        "-map",
        f"0:{index}",
        "-frames:v",
        str(frames),
        "-fps_mode",
        "passthrough",
        "-vf",
        f"{IDET},metadata=mode=print:file=-",
        "-f",
        "null",
        "-",
    ]
