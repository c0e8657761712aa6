"""Request body size limit: 413 Content Too Large.

``application = BodyLimit(application, limit=10_000_000)``

A Content-Length over the limit is refused before the application is called. If
the length is unknown or wrong, reading past the limit raises the 413 in the
application; it is the answer if it leaves the application before the response
has started. The body is not stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from middleware import paste
from middleware.error_response import ErrorResponse
from middleware.problem import Problem


class BodyLimit:
    """``limit`` is in bytes."""

    def __init__(self, app: WSGIApplication, limit: int) -> None:
        self.app = app
        self.limit = limit

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        declared = environ.get("CONTENT_LENGTH") or ""
        if declared == "0" or (not declared and not _may_follow(environ)):
            return self.app(environ, start_response)
        if declared and not (declared.isascii() and declared.isdigit()):
            return Problem(400, "Content-Length is not a number.")(environ, start_response)
        # Python refuses to convert thousands of digits.
        if declared and (len(declared) > 18 or int(declared) > self.limit):
            return too_large(self.limit)(environ, start_response)
        reader = environ["wsgi.input"] = _Limited(environ["wsgi.input"], self.limit)
        return ErrorResponse(self.app, environ, start_response, reader.answer)


def too_large(limit: int) -> Problem:
    return Problem(413, f"The body has more than {limit} bytes.")


def _may_follow(environ: WSGIEnvironment) -> bool:
    """Whether there may be a body without a Content-Length."""
    return "HTTP_TRANSFER_ENCODING" in environ or bool(environ.get("wsgi.input_terminated"))


class _Limited:
    """``wsgi.input`` up to a limit."""

    def __init__(self, stream: Any, limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self._remaining = limit
        self._problem = too_large(limit)

    def answer(self, error: Exception) -> Problem | None:
        return self._problem if error is self._problem else None

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size >= 0:
            return self._count(self._stream.read(min(size, self._remaining + 1)))
        pieces = []
        while piece := self.read(self._remaining + 1):
            pieces.append(piece)
        return b"".join(pieces)

    def readline(self, size: int | None = -1) -> bytes:
        bound = self._remaining + 1 if size is None or size < 0 else min(size, self._remaining + 1)
        return self._count(self._stream.readline(bound))

    def readlines(self, hint: int | None = -1) -> list[bytes]:
        lines: list[bytes] = []
        size = 0
        for line in self:
            lines.append(line)
            size += len(line)
            if hint is not None and 0 < hint <= size:
                break
        return lines

    def __iter__(self) -> Iterator[bytes]:
        while line := self.readline():
            yield line

    def _count(self, data: bytes) -> bytes:
        self._remaining -= len(data)
        if self._remaining < 0:
            self._remaining = 0
            raise self._problem
        return data


filter_factory = paste.factory(BodyLimit, limit=paste.whole)
