"""Buffering for other components: response heads, first pieces, request bodies.

For components that must see more of an exchange before they pass it on. This
module is a library, not a component.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

Headers = list[tuple[str, str]]


class BufferedStart:
    """A ``start_response`` that keeps the head until ``send``.

    An app that calls ``write`` wants its response on the wire at once:
    ``before_write`` is called, then the head is sent.
    """

    __slots__ = ("_start", "_write", "before_write", "exc_info", "headers", "status")

    def __init__(
        self, start_response: StartResponse, before_write: Callable[[], object] | None = None
    ) -> None:
        self._start = start_response
        self._write: Callable[[bytes], object] | None = None
        self.before_write = before_write
        self.status = ""
        self.headers: Headers = []
        self.exc_info: Any = None

    def __call__(self, status: str, headers: Headers, exc_info: Any = None, /) -> Any:
        if self._write is not None:
            return self._start(status, headers, exc_info)  # the server raises if it is too late
        if self.status and exc_info is None:
            raise AssertionError("start_response was called twice")
        self.status, self.headers, self.exc_info = status, headers, exc_info
        return self.write

    @property
    def sent(self) -> bool:
        return self._write is not None

    def send(self) -> Callable[[bytes], object]:
        """Start the response with the current head; later calls do nothing."""
        if self._write is None:
            self._write = self._start(self.status, self.headers, self.exc_info)
            self.exc_info = None  # the traceback keeps all its frames alive
        return self._write

    def write(self, data: bytes) -> None:
        if self._write is None and self.before_write is not None:
            self.before_write()
        self.send()(data)


class PrefetchedBody:
    """The pieces read so far, then the rest of ``inner``.

    The first ``close`` closes ``inner``, then calls ``after_close``.
    """

    def __init__(
        self, pieces: list[bytes], rest: Iterator[bytes], inner: Iterable[bytes] | None
    ) -> None:
        self._pieces = chain(pieces, rest)
        self._inner = inner
        self.after_close: Callable[[], object] | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._pieces)

    def close(self) -> None:
        inner, after_close = self._inner, self.after_close
        self._inner = self.after_close = None
        try:
            close(inner)
        finally:
            if after_close is not None:
                after_close()


def prefetch(body: Iterable[bytes]) -> Iterable[bytes]:
    """``body``, with its first non-empty piece read.

    An app may call ``start_response`` as late as that; now its head is final. A
    list is returned unchanged. If the app fails here, its iterable is closed.
    """
    if isinstance(body, list | tuple):
        return body
    try:
        rest = iter(body)
        first = next((piece for piece in rest if piece), b"")
        return PrefetchedBody([first] if first else [], rest, body)
    except BaseException:
        with suppress(Exception):  # report the first failure
            close(body)
        raise


def read_ahead(body: Iterable[bytes], limit: int) -> tuple[list[bytes], Iterable[bytes]]:
    """Read pieces until they exceed ``limit`` bytes or the body ends.

    Returns the pieces and a body that still gives all of them. If the app fails
    here, its iterable stays open.
    """
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
    return pieces, PrefetchedBody(list(pieces), rest, body)


def close(body: object) -> None:
    """Close an iterable as a WSGI server does."""
    if hasattr(body, "close"):
        body.close()


def buffer_input(environ: WSGIEnvironment, limit: int) -> tuple[bytes, bool]:
    """The first ``limit`` bytes of a request's body, and whether that is all.

    ``wsgi.input`` is replaced and still gives the whole body.
    """
    length = _content_length(environ)
    if length == 0:
        # Some servers leave a chunked body to apps that know where it ends.
        return b"", "HTTP_TRANSFER_ENCODING" not in environ
    stream = environ["wsgi.input"]
    data = _read(stream, limit + 1 if length is None else min(length, limit))
    # Without a length, one byte over the limit shows that there is more.
    complete = len(data) <= limit if length is None else length <= limit
    if complete:
        environ["wsgi.input"] = io.BytesIO(data)
    else:
        remaining = None if length is None else length - len(data)
        environ["wsgi.input"] = io.BufferedReader(_RejoinedInput(data, stream, remaining))
    return data[:limit], complete


def _content_length(environ: WSGIEnvironment) -> int | None:
    """In bytes; None if the server marks the end of the body, as for chunked ones."""
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


class _RejoinedInput(io.RawIOBase):
    """The bytes read so far, then at most ``remaining`` bytes of the stream."""

    def __init__(self, data: bytes, stream: Any, remaining: int | None) -> None:
        self._data = data
        self._stream = stream
        self._remaining = remaining

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
        size = size if self._remaining is None else min(size, self._remaining)
        piece = self._stream.read(size) if size else b""
        if self._remaining is not None:
            self._remaining -= len(piece)
        return piece
