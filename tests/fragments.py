"""Fragments of MP4 for tests: their decode times, and how a segment begins.

Parses by itself, on purpose: it checks what the package reads with other code.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

_CONTAINERS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf", b"edts"}
_H264_IDR, _HEVC_IDR = {5}, {19, 20}
_H264_SLICES, _HEVC_SLICES = set(range(1, 6)), set(range(32))


@dataclass(frozen=True)
class Fragment:
    decode_time: int  # in the track's timescale
    duration: int
    first: bytes  # the first sample


def boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[bytes, int, int]]:
    """Kind, begin of the content and end, of each box at any depth."""
    end = len(data) if end is None else end
    while start < end:
        length, kind = struct.unpack_from(">I4s", data, start)
        assert 8 <= length <= end - start, (kind, length)
        yield kind, start + 8, start + length
        if kind in _CONTAINERS:
            yield from boxes(data, start + 8, start + length)
        start += length


def timescale(init: bytes) -> int:
    ((start, _),) = [(start, end) for kind, start, end in boxes(init) if kind == b"mdhd"]
    return int(struct.unpack_from(">I", init, start + (20 if init[start] else 12))[0])


def waits(init: bytes) -> bool:
    """Whether an edit list begins with nothing, which browsers do not follow."""
    lists = [(start, end) for kind, start, end in boxes(init) if kind == b"elst"]
    return any(
        int.from_bytes(init[place : place + 4], "big", signed=True) == -1
        for start, _ in lists
        for place in [start + (16 if init[start] else 12)]
    )


def fragments(segment: bytes, init: bytes) -> list[Fragment]:
    """Those of one track."""
    default, found = _trex(init), []
    for kind, start, end in boxes(segment):
        if kind == b"moof":
            found.append(_fragment(segment, start - 8, end, default))
    assert found, "the segment has no fragment"
    return found


def _trex(init: bytes) -> tuple[int, int]:
    """Duration and size of samples that say none."""
    mvex = next((start, end) for kind, start, end in boxes(init) if kind == b"mvex")
    trex = next(start for kind, start, _ in boxes(init, *mvex) if kind == b"trex")
    duration, size = struct.unpack_from(">II", init, trex + 12)
    return duration, size


def _fragment(data: bytes, moof: int, end: int, default: tuple[int, int]) -> Fragment:
    parts = {kind: start for kind, start, _ in boxes(data, moof + 8, end)}
    runs = [start for kind, start, _ in boxes(data, moof + 8, end) if kind == b"trun"]
    duration, size = _tfhd(data, parts[b"tfhd"], default)
    tfdt = parts[b"tfdt"]
    form = ">Q" if data[tfdt] else ">I"
    whole = 0
    first = b""
    for run in runs:
        offset, samples = _trun(data, run, duration, size)
        whole += sum(length for length, _ in samples)
        first = first or data[moof + offset : moof + offset + samples[0][1]]
    return Fragment(struct.unpack_from(form, data, tfdt + 4)[0], whole, first)


def _tfhd(data: bytes, start: int, default: tuple[int, int]) -> tuple[int, int]:
    flags, position = int.from_bytes(data[start + 1 : start + 4], "big"), start + 8
    position += (8 if flags & 1 else 0) + (4 if flags & 2 else 0)
    found = list(default)
    for place, flag in enumerate((0x08, 0x10)):
        if flags & flag:
            (found[place],) = struct.unpack_from(">I", data, position)
            position += 4
    return found[0], found[1]


def _trun(data: bytes, start: int, duration: int, size: int) -> tuple[int, list[tuple[int, int]]]:
    """Where its samples begin, from the moof; duration and size of each."""
    flags = int.from_bytes(data[start + 1 : start + 4], "big")
    count, offset = struct.unpack_from(">Ii", data, start + 4)
    assert flags & 1, "the run does not say where its samples begin"
    position = start + 12 + (4 if flags & 4 else 0)
    samples = []
    for _ in range(count):
        found = [duration, size]
        for place, flag in enumerate((0x100, 0x200)):
            if flags & flag:
                (found[place],) = struct.unpack_from(">I", data, position)
                position += 4
        position += 4 * bool(flags & 0x400) + 4 * bool(flags & 0x800)
        samples.append((found[0], found[1]))
    return offset, samples


def begins_with_idr(sample: bytes, codec: str) -> bool:
    """Whether the first slice of a sample of H.264 or HEVC is of an IDR picture."""
    hevc = codec.startswith("hvc1")
    slices, wanted = (_HEVC_SLICES, _HEVC_IDR) if hevc else (_H264_SLICES, _H264_IDR)
    kinds = (unit[0] >> 1 & 0x3F if hevc else unit[0] & 0x1F for unit in _units(sample))
    return next(kind for kind in kinds if kind in slices) in wanted


def _units(sample: bytes) -> Iterator[bytes]:
    position = 0
    while position < len(sample):
        (length,) = struct.unpack_from(">I", sample, position)
        yield sample[position + 4 : position + 4 + length]
        position += 4 + length
