"""Time limit for request bodies: 408 Request Timeout.

``application = TimeLimit(application, seconds=30)``

Adds up the time that the application waits in reads of ``wsgi.input``. Over the
limit the read raises the 408, which is the answer if it leaves the application
before the response has started. It cannot interrupt a read that hangs; the
server needs its own timeout for that. It does not limit how long the
application runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from middleware import paste
from middleware.error_response import ErrorResponse
from middleware.problem import Problem


class TimeLimit:
    """``clock`` returns monotonic seconds."""

    def __init__(
        self, app: WSGIApplication, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.app = app
        self.seconds = seconds
        self.clock = clock

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("CONTENT_LENGTH") in (None, "", "0") and not (
            "HTTP_TRANSFER_ENCODING" in environ or environ.get("wsgi.input_terminated")
        ):
            return self.app(environ, start_response)
        reader = environ["wsgi.input"] = _Timed(environ["wsgi.input"], self.seconds, self.clock)
        return ErrorResponse(self.app, environ, start_response, reader.answer)


class _Timed:
    """``wsgi.input`` that may be waited for ``seconds`` in total."""

    def __init__(self, stream: Any, seconds: float, clock: Callable[[], float]) -> None:
        self._stream = stream
        self._remaining = seconds
        self._clock = clock
        self._problem = Problem(408, f"The body did not arrive within {seconds:g} seconds.")

    def answer(self, error: Exception) -> Problem | None:
        return self._problem if error is self._problem else None

    def read(self, *size: int) -> bytes:
        return bytes(self._timed(self._stream.read, *size))

    def readline(self, *size: int) -> bytes:
        return bytes(self._timed(self._stream.readline, *size))

    def readlines(self, *hint: int) -> list[bytes]:
        return list(self._timed(self._stream.readlines, *hint))

    def __iter__(self) -> Iterator[bytes]:
        while line := self.readline():
            yield line

    def _timed(self, read: Callable[..., Any], *size: int) -> Any:
        started = self._clock()
        data = read(*size)
        self._remaining -= self._clock() - started
        if self._remaining < 0:
            raise self._problem
        return data


filter_factory = paste.factory(TimeLimit, seconds=paste.number)
