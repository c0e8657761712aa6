"""MP4 files: codecs of an init segment, key frames of fragments, encrypted tracks, edits.

Reads the boxes of ISO/IEC 14496-12 that these need, and no more.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

_HEADER = 8  # bytes of a box: its length and its type
_HEAD_OF_SAMPLES = 8  # of stsd: version, flags, count
# Bytes of a sample entry before the boxes in it.
_PICTURE_ENTRY, _SOUND_ENTRY = 78, 28
# In the flags of tfhd and trun: which fields are there.
_TFHD_FIELDS = ((0x01, 8), (0x02, 4), (0x08, 4))  # before the default size of samples
_TFHD_SIZE = 0x10
_TRUN_OFFSET, _TRUN_FIRST_FLAGS, _TRUN_DURATION, _TRUN_SIZE = 0x01, 0x04, 0x100, 0x200
_INDEX = 256 << 20  # bytes; a larger moov is not looked into
_BOXES = 10_000  # that are passed on the way to it
# Sample entries of encrypted tracks: of ISO/IEC 23001-7, and of FairPlay.
_ENCRYPTED = frozenset({b"encv", b"enca", b"enct", b"encs", b"encm"})
_FAIRPLAY = frozenset({b"drms", b"drmi"})
_NAMED = {b"ac-3": "ac-3", b"ec-3": "ec-3", b"Opus": "Opus", b"fLaC": "fLaC"}


class Box(NamedTuple):
    type: bytes
    begin: int  # of its header
    start: int  # of its content
    end: int


def boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[Box]:
    """Those side by side. Raises ValueError where one does not fit in."""
    end = len(data) if end is None else end
    while start < end:
        if end - start < _HEADER:
            raise ValueError("ends within a box")
        length, kind = struct.unpack_from(">I4s", data, start)
        if length < _HEADER or start + length > end:
            raise ValueError(f"the box {kind!r} is longer than what holds it")
        yield Box(kind, start, start + _HEADER, start + length)
        start += length


def find(data: bytes, *path: bytes) -> Box:
    """The first box at ``path``. Raises ValueError if there is none."""
    found = Box(b"", 0, 0, len(data))
    for kind in path:
        inside = (one for one in boxes(data, found.start, found.end) if one.type == kind)
        box = next(inside, None)
        if box is None:
            raise ValueError(f"there is no box {kind.decode('latin-1')}")
        found = box
    return found


def codec(init: bytes) -> str:
    """What CODECS says of the track of an init segment (RFC 6381). Raises ValueError."""
    stsd = find(init, b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")
    entry = next(boxes(init, stsd.start + _HEAD_OF_SAMPLES, stsd.end))
    if entry.type in _NAMED:
        return _NAMED[entry.type]
    reader = _READERS.get(entry.type)
    if reader is None:
        raise ValueError(f"samples of the kind {entry.type!r} are not known")
    name, offset, function = reader
    inside = boxes(init, entry.start + offset, entry.end)
    box = next((one for one in inside if one.type == name), None)
    if box is None:
        raise ValueError(f"the samples have no {name.decode()}")
    return function(entry.type.decode(), init[box.start : box.end])


def _avc(kind: str, config: bytes) -> str:
    return f"{kind}.{config[1:4].hex()}"


def _hevc(kind: str, config: bytes) -> str:
    """ISO/IEC 14496-15, annex E: compatibility flags in reverse, no trailing zeros."""
    space = ("", "A", "B", "C")[config[1] >> 6]
    tier = "H" if config[1] & 0x20 else "L"
    flags = int(f"{int.from_bytes(config[2:6], 'big'):032b}"[::-1], 2)
    constraints = config[6:12].rstrip(b"\0")
    parts = [kind, f"{space}{config[1] & 0x1F}", f"{flags:x}", f"{tier}{config[12]}"]
    return ".".join([*parts, *(f"{byte:x}" for byte in constraints)])


def _av1(kind: str, config: bytes) -> str:
    tier = "H" if config[2] & 0x80 else "M"
    depth = 12 if config[2] & 0x20 else 10 if config[2] & 0x40 else 8
    return f"{kind}.{config[1] >> 5}.{config[1] & 0x1F:02}{tier}.{depth:02}"


def _mpeg4_sound(kind: str, config: bytes) -> str:
    """The object type of the decoder, and for MPEG-4 that of the sound."""
    decoder = _descriptor(config[4:], 3)[3:]
    settings = _descriptor(decoder, 4)
    if settings[0] != 0x40:
        return f"{kind}.{settings[0]:x}"
    bits = int.from_bytes(_descriptor(settings[13:], 5)[:2], "big")
    known = bits >> 11
    return f"{kind}.40.{known if known < 31 else 32 + (bits >> 5 & 0x3F)}"


def _descriptor(data: bytes, tag: int) -> bytes:
    """The content of a descriptor of ISO/IEC 14496-1; its length takes 7 bits a byte."""
    if not data or data[0] != tag:
        raise ValueError(f"there is no descriptor {tag}")
    length, position = 0, 1
    while True:
        byte = data[position]
        length, position = length << 7 | byte & 0x7F, position + 1
        if not byte & 0x80:
            return data[position : position + length]


_READERS = {
    b"avc1": (b"avcC", _PICTURE_ENTRY, _avc),
    b"avc3": (b"avcC", _PICTURE_ENTRY, _avc),
    b"hvc1": (b"hvcC", _PICTURE_ENTRY, _hevc),
    b"hev1": (b"hvcC", _PICTURE_ENTRY, _hevc),
    b"av01": (b"av1C", _PICTURE_ENTRY, _av1),
    b"mp4a": (b"esds", _SOUND_ENTRY, _mpeg4_sound),
}


def first_frame(segment: Path) -> tuple[int, int]:
    """Where the fragment with the first frame of a segment begins, and the bytes to
    the end of that frame: what a player fetches to show it. Raises ValueError."""
    data = segment.read_bytes()
    moof = find(data, b"moof")
    inside = data[moof.begin : moof.end]
    run = find(inside, b"moof", b"traf", b"trun")
    flags = int.from_bytes(inside[run.start + 1 : run.start + 4], "big")
    if not flags & _TRUN_OFFSET:
        raise ValueError(f"{segment.name} does not say where its samples begin")
    position = run.start + 8  # after the flags and the count
    (offset,) = struct.unpack_from(">i", inside, position)
    position += 4 + (4 if flags & _TRUN_FIRST_FLAGS else 0)
    position += 4 if flags & _TRUN_DURATION else 0
    if flags & _TRUN_SIZE:
        (size,) = struct.unpack_from(">I", inside, position)
    else:
        size = _default_size(inside)
    return moof.begin, offset + size


def _default_size(inside: bytes) -> int:
    head = find(inside, b"moof", b"traf", b"tfhd")
    flags = int.from_bytes(inside[head.start + 1 : head.start + 4], "big")
    if not flags & _TFHD_SIZE:
        raise ValueError("its samples have no size")
    position = head.start + 8 + sum(length for flag, length in _TFHD_FIELDS if flags & flag)
    size: int = struct.unpack_from(">I", inside, position)[0]
    return size


def encrypted_tracks(path: Path) -> dict[int, str]:
    """The numbers of the encrypted tracks of a file, with the name of the scheme.
    Of a file whose boxes are not in order nothing is known."""
    try:
        index = _index(path)
        found = [(_number(track), _encryption(track)) for track in _tracks(index)]
    except (ValueError, struct.error):
        return {}
    return {number: scheme for number, scheme in found if scheme}


def empty_edits(path: Path) -> dict[int, list[tuple[float, float]]]:
    """From when to when, in seconds, nothing is shown amid each track, by the numbers of
    those of which that is so (ISO/IEC 14496-12, 8.6.6)."""
    try:
        index = _index(path)
        scale = _scale(index) if index else 1
        found = [(_number(track), _empty_edits(track, scale)) for track in _tracks(index)]
    except (ValueError, struct.error):
        return {}
    return {number: edits for number, edits in found if edits}


def _index(path: Path) -> bytes:
    with path.open("rb") as stream:
        return _moov(stream)


def _tracks(index: bytes) -> Iterator[bytes]:
    return (index[box.start : box.end] for box in boxes(index) if box.type == b"trak")


def _scale(index: bytes) -> int:
    """Units a second in which the edits are told."""
    header = find(index, b"mvhd")
    scale: int = struct.unpack_from(
        ">I", index, header.start + (20 if index[header.start] else 12)
    )[0]
    return scale or 1


def _empty_edits(track: bytes, scale: int) -> list[tuple[float, float]]:
    """Those at the beginning are left out: they only make the track begin late."""
    if not any(box.type == b"edts" for box in boxes(track)):
        return []
    table = find(track, b"edts", b"elst")
    entry = ">QqI" if track[table.start] else ">IiI"
    size = struct.calcsize(entry)
    (count,) = struct.unpack_from(">I", track, table.start + 4)
    found, now, begun = [], 0, False
    for place in range(table.start + 8, min(table.end, table.start + 8 + count * size), size):
        length, media, _ = struct.unpack_from(entry, track, place)
        if media == -1 and begun:
            found.append((now / scale, (now + length) / scale))
        begun, now = begun or media != -1, now + length
    return found


def _moov(stream: BinaryIO) -> bytes:
    """The content of the first one; empty if there is none of a reasonable size."""
    for _ in range(_BOXES):
        head = stream.read(_HEADER)
        if len(head) < _HEADER:
            break
        length, kind = struct.unpack(">I4s", head)
        read = _HEADER
        if length == 1:
            (length,), read = struct.unpack(">Q", stream.read(8)), 16
        if kind == b"moov":
            return stream.read(length - read) if read < length <= _INDEX else b""
        if length < read:
            break
        stream.seek(length - read, 1)
    return b""


def _number(track: bytes) -> int:
    header = find(track, b"tkhd")
    number: int = struct.unpack_from(
        ">I", track, header.start + (20 if track[header.start] else 12)
    )[0]
    return number


def _encryption(track: bytes) -> str:
    """The name of the scheme; empty if there is none."""
    stsd = find(track, b"mdia", b"minf", b"stbl", b"stsd")
    for entry in boxes(track, stsd.start + _HEAD_OF_SAMPLES, stsd.end):
        if entry.type in _FAIRPLAY:
            return "FairPlay"
        if entry.type in _ENCRYPTED:
            return _scheme(track[entry.start : entry.end])
    return ""


def _scheme(entry: bytes) -> str:
    """From the box schm, wherever the entry holds it."""
    at = entry.find(b"schm")
    name = entry[at + 8 : at + 12] if at >= 0 else b""
    return name.decode("ascii") if name.isalnum() and name.isascii() else "CENC"
