"""Truncation: whether a media file has lost its end, as far as its bytes prove it.

Some containers do not say how long they last, so that decoding what is left
finds nothing amiss; but they are made of parts whose sizes are known, and a
file that was cut seldom ends where a part does. One that was cut exactly there
looks like a shorter film, and is taken for one. Owns no judgement on what can
be decoded: that is the quality task's.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO, Final

from backoffice.media import transport

_HEAD: Final = 64 << 10  # bytes in which the first parts are looked for
_MP3_FRAME: Final = 1441  # bytes, at most; encoders differ by one in what they count
_OGG_PAGE: Final = 65307  # bytes, at most
_FIRST_BOXES: Final = frozenset({b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"})
_NEEDED_BOXES: Final = frozenset({b"moov", b"moof", b"mdat"})  # cameras append others, badly made
_MOST_BOXES: Final = 1_000_000  # that are looked at; a fragment has two
_EBML: Final = b"\x1a\x45\xdf\xa3"
_SEGMENT: Final = b"\x18\x53\x80\x67"
_PARTITION: Final = bytes.fromhex("060e2b34020501010d01020101")  # the key of a partition pack
# Sizes written by programs that could not go back to fill them in, less some headers.
_UNKNOWN_SIZES: Final = (range(1), range(0x7FFFF000, 0x80001000), range(0xFFFFF000, 1 << 32))


def missing(path: Path) -> str:
    """What proves that the file lacks its end, for operators; else empty."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
        if head[:4] in (b"RIFF", b"RIFX"):
            return _of_riff(head, size)
        if head[:4] == b"OggS":
            return _of_ogg(stream, size)
        if head[4:8] in _FIRST_BOXES:
            return _of_boxes(stream, size)
        if head[:4] == _EBML:
            return _of_matroska(head, size)
        if head[: len(_PARTITION)] == _PARTITION:
            return _of_mxf(head, size)
        return _of_packets(head, size) or _of_mp3(stream, head, size)


def _of_riff(head: bytes, size: int) -> str:
    """AVI and WAV begin with the size of what follows."""
    form = "<I" if head[:4] == b"RIFF" else ">I"
    declared = struct.unpack(form, head[4:8].ljust(4, b"\0"))[0]
    # Some writers count these first 8 bytes twice.
    unknown = any(declared in sizes for sizes in _UNKNOWN_SIZES)
    return "" if unknown else _compare(declared + 8, size, slack=8)


def _compare(declared: int, size: int, slack: int) -> str:
    return f"{declared} bytes declared, {size} there" if size < declared - slack else ""


def _of_boxes(stream: BinaryIO, size: int) -> str:
    """MP4 and MOV are a row of boxes, each with its size and kind in front."""
    end = 0
    for _ in range(_MOST_BOXES):
        stream.seek(end)
        length, kind, longer = struct.unpack(">I4sQ", stream.read(16).ljust(16, b"\0"))
        if length == 1:
            length = longer
        if length < 8:  # the file has ended, or the box goes on until it does
            return ""
        end += length
        if end > size and kind in _NEEDED_BOXES:
            return _compare(end, size, slack=0)
    return ""


def _of_matroska(head: bytes, size: int) -> str:
    """Matroska and WebM: a header, and a segment with its size in front. What was
    written to a pipe says that it is not known, by ones in all bits."""
    start = 4 + sum(_ebml_size(head[4:12]))
    if head[start : start + 4] != _SEGMENT or len(head) < start + 12:
        return ""
    width, length = _ebml_size(head[start + 4 : start + 12])
    unknown = length == (1 << 7 * width) - 1
    return "" if unknown else _compare(start + 4 + width + length, size, slack=0)


def _ebml_size(data: bytes) -> tuple[int, int]:
    """How many bytes a size takes, and the size (RFC 8794, 4)."""
    first = data[0] if data else 0
    width = 9 - first.bit_length()
    value = int.from_bytes(data[:width]) & ((1 << 7 * width) - 1)
    return width, value


def _of_mxf(head: bytes, size: int) -> str:
    """The first partition says where the last one begins; 0 while it is not written
    (SMPTE ST 377-1, 7.1)."""
    first = int.from_bytes(head[16:17])
    at = 17 + (first & 0x7F if first & 0x80 else 0) + 24
    footer = int.from_bytes(head[at : at + 8])
    if not footer or len(head) < at + 8:
        return ""
    return _compare(footer + len(_PARTITION), size, slack=0)


def _of_packets(head: bytes, size: int) -> str:
    """A transport stream is made of packets of one length. Its first may be
    cut, for one may begin to record at any time; its last may not."""
    found = transport.first_packet(head)
    if found is None:
        return ""
    start, length = found
    rest = (size - start) % length
    return f"its last packet has {rest} of {length} bytes" if rest else ""


def _of_mp3(stream: BinaryIO, head: bytes, size: int) -> str:
    """Most begin with a frame that tells how many bytes there are; a tag with
    a cover may come before it."""
    start = 0
    if head[:3] == b"ID3" and len(head) >= 10:
        high, middle, low, lowest = head[6:10]
        start = 10 + (high << 21 | middle << 14 | low << 7 | lowest)
    stream.seek(start)
    frame = stream.read(200)
    if frame[:1] != b"\xff":
        return ""
    for mark in (b"Xing", b"Info"):
        at = frame.find(mark)
        fields = frame[at + 4 : at + 16].ljust(12, b"\0")
        flags = fields[3]
        if at > 0 and flags & 2:
            count = struct.unpack(">I", fields[8:12] if flags & 1 else fields[4:8])[0]
            return _compare(start + count, size, slack=_MP3_FRAME)
    return ""


def _of_ogg(stream: BinaryIO, size: int) -> str:
    """Each page has a table of the sizes of its parts."""
    stream.seek(max(0, size - _OGG_PAGE))
    tail = stream.read()
    page = tail[tail.rfind(b"OggS") :] if b"OggS" in tail else b""
    if len(page) < 27 or len(page) < 27 + page[26]:
        return "its last page is incomplete"
    declared = 27 + page[26] + sum(page[27 : 27 + page[26]])
    return "its last page is incomplete" if len(page) < declared else ""
