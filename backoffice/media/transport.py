"""Transport streams: missing packets, and recordings that were joined.

Each packet of a stream carries a counter (ISO/IEC 13818-1, 2.4.3.3). Where it does not run
on, ffmpeg calls what it has gathered corrupt. Where one recording was put behind
another, all counters begin anew at once, with the tables, and each stream begins with
the beginning of a frame: nothing is missing there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

PACKETS: Final = (188, 192, 204)  # bytes: plain; with a time stamp; with error correction
IN_A_ROW: Final = 8  # packets that must begin with the mark: by chance they hardly ever do
_SYNC: Final = 0x47  # the first byte of each packet
_BLOCK: Final = 20_000  # packets that are read at once
_NULL: Final = 0x1FFF
_TABLES: Final = frozenset({0x00, 0x11})  # the identifiers of PAT and SDT
_NEAR: Final = 2_000  # packets within which all streams of a recording have begun


def first_packet(head: bytes) -> tuple[int, int] | None:
    """Where the first whole packet begins, and the length of each."""
    for start in range(max(PACKETS)):
        for length in PACKETS:
            marks = head[start : start + length * IN_A_ROW : length]
            if len(marks) == IN_A_ROW and set(marks) == {_SYNC}:
                # The time stamp comes before the mark.
                return (start - 4) % length if length == 192 else start, length
    return None


@dataclass
class _Break:
    """Where counters do not run on: of which streams, and whether all begin a frame."""

    packet: int
    streams: set[int] = field(default_factory=set)
    at_frames: bool = True

    @property
    def joined(self) -> bool:
        return self.at_frames and len(self.streams) > 1 and bool(self.streams & _TABLES)


def only_joined(path: Path) -> bool:
    """Whether each place of a transport stream where counters break is a joint of
    recordings, none of which lacks a packet there."""
    breaks: list[_Break] = []
    for number, stream, begins in _broken(path):
        if not breaks or number - breaks[-1].packet > _NEAR or stream in breaks[-1].streams:
            breaks.append(_Break(number))
        breaks[-1].streams.add(stream)
        breaks[-1].at_frames &= begins
    return bool(breaks) and all(one.joined for one in breaks)


def _broken(path: Path) -> Iterator[tuple[int, int, bool]]:
    """The packets whose counter does not run on: number, stream, whether it begins a
    frame or a table."""
    last: dict[int, int] = {}
    for number, stream, begins, control in _packets(path):
        if stream == _NULL or not control & 0x10:  # without content it is not counted
            continue
        before, counter = last.get(stream), control & 0x0F
        last[stream] = counter
        # The same packet may come twice.
        if before is not None and counter not in (before, (before + 1) % 16):
            yield number, stream, begins


def _packets(path: Path) -> Iterator[tuple[int, int, bool, int]]:
    """Number, stream, whether something begins, and the fourth byte of each packet."""
    with path.open("rb") as source:
        found = first_packet(source.read(max(PACKETS) * (IN_A_ROW + 1)))
        if found is None:
            return
        start, length = found
        mark = start + (4 if length == 192 else 0)
        source.seek(mark)
        number = 0
        while block := source.read(length * _BLOCK):
            columns = (block[n::length] for n in (1, 2, 3))
            for high, low, control in zip(*columns, strict=False):
                yield number, (high & 0x1F) << 8 | low, bool(high & 0x40), control
                number += 1
