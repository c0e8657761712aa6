"""Times of a source that go on unevenly: jumps of its clock, holes in one stream, and
edits that show nothing.

The clock of a transport stream jumps where recordings were joined or cut. ffmpeg takes
every step of more than ten seconds in one stream for that and closes it, so that a hole
of such a length in the sound alone would put all that follows out of step with the
picture. Owns how the two are told apart, and what follows for ffmpeg and for the lengths
to expect. Pure: it is handed the times of packets.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

Facts = Mapping[str, Any]

CLOCKED: Final = frozenset({"mpegts", "mpeg"})  # containers of which ffmpeg mends the clock
_CLOSED: Final = 10.0  # seconds; ffmpeg's own -dts_delta_threshold
_BACK: Final = -0.1  # seconds; ffmpeg closes every larger step back
_ALIKE: Final = 2.0  # seconds by which streams that jump together may differ
_NEAR: Final = 5.0  # seconds between places in two streams that lie side by side in a file
_MOST: Final = 1000  # steps of one stream that are kept; a source with more is noise


@dataclass(frozen=True)
class _Step:
    at: float  # seconds of the stream's clock, before it
    by: float  # seconds


@dataclass
class _Stream:
    first: float
    last: float
    most: float
    steps: list[_Step] = field(default_factory=list)

    def note(self, time: float) -> None:
        by = time - self.last
        if not _BACK <= by <= _CLOSED and len(self.steps) < _MOST:
            self.steps.append(_Step(self.last, by))
        self.last, self.most = time, max(self.most, time)

    def forward(self) -> list[_Step]:
        """Those that the next step does not undo: one packet may have a wrong time."""
        pairs = pairwise([*self.steps, _Step(0.0, 0.0)])
        return [one for one, after in pairs if one.by > 0 and abs(one.by + after.by) > _ALIKE]

    def goes_along(self, step: _Step) -> bool:
        """Whether it makes the same step, or has ended or not begun there."""
        alike = (o for o in self.steps if abs(o.by - step.by) < _ALIKE)
        together = any(abs(one.at - step.at) < _NEAR for one in alike)
        return together or self.first > step.at or self.most < step.at + _ALIKE


class Times:
    """The times of the packets of each stream, in the order of the file."""

    def __init__(self, start: float) -> None:
        self._start = start  # seconds; of the file
        self._streams: dict[int, _Stream] = {}

    def note(self, index: int, time: float) -> None:
        if index in self._streams:
            self._streams[index].note(time)
        else:
            self._streams[index] = _Stream(time, time, time)

    def facts(self) -> dict[str, Any]:
        """``holes``: [stream, from, to]; ``jumps``: [at, by], of the first stream that has
        some; ``closed``: by stream, the seconds that ffmpeg takes out (or, below 0, that the
        header did not count). Empty for an even source. Places are seconds after the start."""
        holes = [
            [index, round(step.at - self._start, 3), round(step.at + step.by - self._start, 3)]
            for index, stream in sorted(self._streams.items())
            for step in stream.forward()
            if not self._is_jump(index, step)
        ]
        least = threshold(holes)
        jumps = {
            index: [step for step in stream.steps if step.by < _BACK or step.by > least]
            for index, stream in sorted(self._streams.items())
        }
        told = next(filter(None, jumps.values()), [])
        if not (holes or told):
            return {}
        places = [[round(one.at - self._start, 3), round(one.by, 3)] for one in told]
        closed = {str(n): round(math.fsum(s.by for s in steps), 3) for n, steps in jumps.items()}
        return {"holes": holes, "jumps": places, "closed": closed}

    def _is_jump(self, index: int, step: _Step) -> bool:
        others = (stream for number, stream in self._streams.items() if number != index)
        return all(other.goes_along(step) for other in others)


def threshold(holes: Iterable[Sequence[float]]) -> float:
    """Seconds that ffmpeg must not close."""
    return max([_CLOSED, *(1 + math.ceil(end - begin) for _, begin, end in holes)])


def arguments(facts: Facts) -> list[str]:
    """Of ffmpeg, wherever they stand: what it must not close."""
    holes = facts.get("clock", {}).get("holes", ())
    return ["-dts_delta_threshold", f"{threshold(holes):g}"] if holes else []


def corrected(facts: dict[str, Any], clock: Facts) -> dict[str, Any]:
    """``facts`` with the lengths that are left when ffmpeg has closed the jumps."""
    if not clock:
        return facts
    closed = {int(index): seconds for index, seconds in clock["closed"].items()}
    kinds = {
        kind: [_shortened(one, closed.get(one["index"], 0.0)) for one in facts[kind]]
        for kind in ("video", "audio")
    }
    whole = next((closed[index] for index in sorted(closed) if closed[index]), 0.0)
    return {**_shortened(facts, whole), **kinds, "clock": dict(clock)}


def _shortened(facts: Facts, seconds: float) -> dict[str, Any]:
    length = float(facts.get("duration", 0.0))
    return {**facts, "duration": round(max(0.0, length - seconds), 6)} if length else dict(facts)


def told(facts: Facts) -> list[str]:
    """What people must know, as ends of sentences about the source."""
    clock = facts.get("clock", {})
    holes = [
        f"has nothing in stream {index} from {begin:.1f} to {end:.1f} s"
        for index, begin, end in clock.get("holes", ())
    ]
    jumps = [
        f"has a clock that jumps by {by:+.1f} s at {at:.1f} s; what follows is joined without a gap"
        for at, by in clock.get("jumps", ())[:_TOLD]
    ]
    more = len(clock.get("jumps", ())) - _TOLD
    return [*holes, *jumps, *([f"has a clock that jumps {more} times more"] if more > 0 else [])]


_TOLD: Final = 3  # jumps that are told one by one


# Edit lists of MP4 and MOV


def is_shown(stream: Facts, time: str = "t") -> str:
    """An expression of ffmpeg's that is 0 within the edits of a stream that show nothing,
    else 1; empty if there are none. There ffmpeg repeats the beginning of the stream."""
    edits = stream.get("empty_edits", ())
    inside = "+".join(f"gte({time},{begin:.6f})*lt({time},{end:.6f})" for begin, end in edits)
    return f"not({inside})" if inside else ""
