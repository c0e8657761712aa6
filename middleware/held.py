"""Holding back what passes: a response's head, its first piece, a request's body.

For components that must see more than one moment of an exchange before they
let it go on. It decides nothing and is no component: there is nothing to paste.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

Headers = list[tuple[str, str]]


class HeldStart:
    """A ``start_response`` that keeps the head until ``release``.

    An app that calls ``write`` wants its response on the wire now: that
    releases the head, after ``settle`` was called.
    """

    __slots__ = ("_start", "_write", "exc_info", "headers", "settle", "status")

    def __init__(
        self, start_response: StartResponse, settle: Callable[[], object] | None = None
    ) -> None:
        self._start = start_response
        self._write: Callable[[bytes], object] | None = None
        self.settle = settle
        self.status = ""
        self.headers: Headers = []
        self.exc_info: Any = None

    def __call__(self, status: str, headers: Headers, exc_info: Any = None, /) -> Any:
        if self._write is not None:
            return self._start(status, headers, exc_info)  # the server knows whether it can
        if self.status and exc_info is None:
            raise AssertionError("start_response was called twice")
        self.status, self.headers, self.exc_info = status, headers, exc_info
        return self.write

    @property
    def released(self) -> bool:
        return self._write is not None

    def release(self) -> Callable[[bytes], object]:
        """Start the response as it stands now; does so once."""
        if self._write is None:
            self._write = self._start(self.status, self.headers, self.exc_info)
            self.exc_info = None  # it holds a traceback, and that all its frames
        return self._write

    def write(self, data: bytes) -> None:
        if self._write is None and self.settle is not None:
            self.settle()
        self.release()(data)


class Begun:
    """The pieces of ``inner``, of which some were taken already.

    Closing it closes ``inner``, then calls ``after``; once.
    """

    def __init__(
        self, taken: list[bytes], rest: Iterator[bytes], inner: Iterable[bytes] | None
    ) -> None:
        self._pieces = chain(taken, rest)
        self._inner = inner
        self.after: Callable[[], object] | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._pieces)

    def close(self) -> None:
        inner, after = self._inner, self.after
        self._inner = self.after = None
        try:
            close(inner)
        finally:
            if after is not None:
                after()


def begin(body: Iterable[bytes]) -> Iterable[bytes]:
    """``body`` when its first piece is there, so that the head is final.

    An app may set its head as late as that. A list is ready as it is. If the
    app fails here, its iterable has been closed.
    """
    if isinstance(body, list | tuple):
        return body
    try:
        rest = iter(body)
        return Begun([piece] if (piece := _first(rest)) else [], rest, body)
    except BaseException:
        with suppress(Exception):  # what it failed with first is what counts
            close(body)
        raise


def _first(pieces: Iterator[bytes]) -> bytes:
    return next((piece for piece in pieces if piece), b"")


def read(body: Iterable[bytes], limit: int) -> tuple[list[bytes], Iterable[bytes]]:
    """Its pieces, until they are more than ``limit`` bytes; and a body that
    still gives all of them. If the app fails here, the iterable is still open."""
    if isinstance(body, list | tuple):
        return list(body), body
    pieces: list[bytes] = []
    rest = iter(body)
    size = 0
    for piece in rest:
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            break
    return pieces, Begun(list(pieces), rest, body)


def close(body: object) -> None:
    """Close an iterable as a server does."""
    if hasattr(body, "close"):
        body.close()


def hold_input(environ: WSGIEnvironment, limit: int) -> tuple[bytes, bool]:
    """The first ``limit`` bytes of a request's body, and whether that is all.

    ``environ`` gets an input that gives the whole body from its start.
    """
    length = _length(environ)
    if length == 0:
        # A server may leave a chunked body to apps that know where it ends.
        return b"", "HTTP_TRANSFER_ENCODING" not in environ
    stream = environ["wsgi.input"]
    data = _read(stream, limit + 1 if length is None else min(length, limit))
    # One byte over the limit tells that there is more, when no length does.
    whole = len(data) <= limit if length is None else length <= limit
    if whole:
        environ["wsgi.input"] = io.BytesIO(data)
    else:
        left = None if length is None else length - len(data)
        environ["wsgi.input"] = io.BufferedReader(_Rejoined(data, stream, left))
    return data[:limit], whole


def _length(environ: WSGIEnvironment) -> int | None:
    """In bytes; None when the body ends by itself, as a chunked one does."""
    text = environ.get("CONTENT_LENGTH") or ""
    if text.isascii() and text.isdigit():
        return int(text)
    return None if environ.get("wsgi.input_terminated") else 0


def _read(stream: Any, size: int) -> bytes:
    pieces = []
    while size > 0 and (piece := stream.read(size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


class _Rejoined(io.RawIOBase):
    """What was read, then the rest of the stream, no further than ``left`` bytes."""

    def __init__(self, data: bytes, stream: Any, left: int | None) -> None:
        self._data = data
        self._stream = stream
        self._left = left

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._take(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def _take(self, size: int) -> bytes:
        if self._data:
            piece, self._data = self._data[:size], self._data[size:]
            return piece
        size = size if self._left is None else min(size, self._left)
        piece = self._stream.read(size) if size else b""
        if self._left is not None:
            self._left -= len(piece)
        return piece
