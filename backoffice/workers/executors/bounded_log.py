"""A log file of bounded size that keeps its head and its tail.

The file is only appended to, so that a reader's byte ranges stay valid. After the
first half of the limit, lines go to two pieces beside the file, a quarter each; the
older piece is removed when a third one begins. At the end the pieces are appended,
after a line that says how many bytes between head and tail are missing. A piece's name
says how many bytes since the head came before it, so that any process can join what a
killed one has left.
"""

from __future__ import annotations

import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

LEAST: Final = 64 << 10  # bytes; a limit below this leaves no room for two lines
LINE: Final = 8 << 10  # bytes of one line that are kept
_FULL = (
    b"[This log has reached half of its limit, [limits] log. What follows is kept apart, and"
    b" its end is appended when the attempt ends.]\n"
)
_LEFT_OUT = "[{} bytes were left out here: the log is longer than its limit, [limits] log.]\n"


class BoundedLog:
    """Takes lines. Raises OSError."""

    def __init__(self, path: Path, limit: int) -> None:
        self._path = path
        self._limit = max(limit, LEAST)
        self._stream: BinaryIO = open(path, "ab", buffering=0)  # noqa: SIM115
        self._room = self._limit // 2 - self._stream.tell()
        self._before = 0  # bytes since the head, in pieces that have ended
        self._in_tail = False

    def write(self, text: str) -> None:
        data = _bounded(text.encode("utf-8", "replace")) + b"\n"
        if len(data) > self._room:
            self._begin_piece()
        self._stream.write(data)
        self._room -= len(data)

    def close(self) -> None:
        self._stream.close()
        join(self._path)

    def _begin_piece(self) -> None:
        size = self._limit // 4
        if self._in_tail:
            self._before += size - self._room
        else:
            self._stream.write(_FULL)
        piece = open(_piece(self._path, self._before), "ab", buffering=0)  # noqa: SIM115
        self._stream.close()
        self._stream, self._room, self._in_tail = piece, size, True
        for _, older in _pieces(self._path)[:-2]:
            older.unlink()


def join(path: Path) -> None:
    """Append the tail to the log, if there is one. A second call does nothing."""
    pieces = _pieces(path)
    if not pieces:
        return
    left_out = pieces[0][0]
    with open(path, "ab") as whole:
        if left_out:
            whole.write(_LEFT_OUT.format(left_out).encode())
        for _, piece in pieces:
            with open(piece, "rb") as stream:
                shutil.copyfileobj(stream, whole)
    for _, piece in pieces:
        piece.unlink()


def _bounded(data: bytes) -> bytes:
    if len(data) <= LINE:
        return data
    kept = data[:LINE].decode("utf-8", "ignore").encode()
    return kept + f" [{len(data) - len(kept)} bytes of this line were left out]".encode()


def _piece(path: Path, before: int) -> Path:
    return path.with_name(f"{path.name}.tail-{before}")


def _pieces(path: Path) -> list[tuple[int, Path]]:
    """In order, each with the number of bytes since the head that came before it."""
    pieces = []
    with suppress(FileNotFoundError):
        for piece in path.parent.iterdir():
            match = re.fullmatch(re.escape(path.name) + r"\.tail-([0-9]+)", piece.name)
            if match:
                pieces.append((int(match[1]), piece))
    return sorted(pieces)
