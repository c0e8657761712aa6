"""Frame rates: the real rate of a source, and the rate of what is made of it.

Headers tell an average and a base rate, either of which may be a clock's (1000 or
90000 ticks a second). Where they cannot be relied on, time stamps decide. Pure:
starts nothing and looks at no media.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any, Final

FASTEST: Final = 240  # frames a second; a header that says more tells a clock, not a rate
_FASTEST_COUNTED: Final = 999  # where the header counts frames: cameras reach it
USUAL: Final = Fraction(25)  # of a picture that has too few frames to tell
# Frames that come when they like are put on a grid, which moves them by up to half a
# step; at this rate that is 33 ms, and sound and picture may differ by 40 ms.
_SLOWEST_GRID: Final = Fraction(15)
_NTSC = Fraction(1000, 1001)
STANDARD: Final = tuple(
    sorted(
        {Fraction(n) for n in (1, 2, 5, 10, 12, 15, 20, 24, 25, 30, 48, 50, 60, 100, 120, 240)}
        | {Fraction(25, 2)}
        | {n * _NTSC for n in (15, 24, 30, 48, 60, 120, 240)}
    )
)
# Containers whose header cannot differ from their time stamps: both come from one table.
_COUNTED: Final = frozenset({"mov", "avi", "mxf", "dv", "gxf"})
_AT_LEAST: Final = 0.99 / FASTEST  # seconds between two frames
_NEAR: Final = Fraction(2, 1000)  # of a rate: what clocks of a millisecond blur
_OFF: Final = 0.2  # of a step: by how much a frame of a steady rate may be early or late
_STEADY: Final = 0.85  # of the frames must lie on the grid of a steady rate
_AT_ONCE: Final = 0.25  # of the frames must follow the one before by one step


def settled(stream: Mapping[str, Any], container: str) -> bool:
    """Whether what ffprobe tells of a stream is its rate, without a look at its times."""
    told = _told(stream, _FASTEST_COUNTED)
    return told is not None and bool(_COUNTED & set(container.split(",")))


def real(stream: Mapping[str, Any], windows: Sequence[Sequence[float]] = ()) -> Fraction:
    """Frames a second of a stream that ffprobe describes; never 0.

    ``windows`` are the times, in seconds, of frames that follow each other; none if
    the header settles it. Steady ones give their own rate, others the nearest standard
    rate to their average.
    """
    told = _told(stream, FASTEST if windows else _FASTEST_COUNTED)
    steps = [step for times in windows for step in _steps(times)]
    if not steps:
        return told or _sane(stream.get("avg_frame_rate"), FASTEST) or USUAL
    steady = _steady(steps)
    if steady is not None:
        return _named(steady, told)
    average = Fraction(len(steps) / sum(steps))
    if told is not None and told >= average:
        return told
    return _nearest(max(average, _SLOWEST_GRID))


def exact(rate: float) -> Fraction:
    """The fraction that a rate stands for: 24000/1001 for 23.976024."""
    return Fraction(rate).limit_denominator(1001)


def shown(rate: Fraction, most: Fraction) -> Fraction:
    """``rate``, or the largest part of it that ``most`` allows: every second frame of
    119.88, every fourth of 240. Each frame kept stays as long as the others."""
    return rate / max(1, -(-rate // most))


def _told(stream: Mapping[str, Any], most: int) -> Fraction | None:
    """What average and base rate agree on."""
    average = _sane(stream.get("avg_frame_rate"), most)
    return average if average == _sane(stream.get("r_frame_rate"), most) else None


def _sane(text: object, most: int) -> Fraction | None:
    try:
        rate = Fraction(str(text))
    except (ValueError, ZeroDivisionError):
        return None
    return rate if 0 < rate <= most else None


def _steps(times: Sequence[float]) -> list[float]:
    """Between frames; of those that come at once, faster than any screen, one counts."""
    kept: list[float] = []
    for moment in sorted(times):
        if not kept or moment - kept[-1] >= _AT_LEAST:
            kept.append(moment)
    return [after - before for before, after in pairwise(kept)]


def _steady(steps: Sequence[float]) -> float | None:
    """The rate of frames that lie on one grid, some of whose places may be empty."""
    shortest = sorted(steps)[len(steps) // 10]
    alike = [step for step in steps if abs(step - shortest) <= 0.3 * shortest]
    step = sum(alike) / len(alike)
    counts = [max(1, round(one / step)) for one in steps]
    fitting = [
        (one, count)
        for one, count in zip(steps, counts, strict=True)
        if abs(one - count * step) <= _OFF * step
    ]
    at_once = sum(1 for _, count in fitting if count == 1)
    if len(fitting) < _STEADY * len(steps) or at_once < _AT_ONCE * len(steps):
        return None
    return sum(count for _, count in fitting) / sum(one for one, _ in fitting)


def _named(rate: float, told: Fraction | None) -> Fraction:
    """The exact one that a measured rate stands for."""
    measured = Fraction(rate)
    if told is not None and abs(measured / told - 1) <= 5 * _NEAR:
        return told
    nearest = _nearest(measured)
    return nearest if abs(measured / nearest - 1) <= _NEAR else measured.limit_denominator(100)


def _nearest(rate: Fraction) -> Fraction:
    return min(STANDARD, key=lambda one: max(one / rate, rate / one))
