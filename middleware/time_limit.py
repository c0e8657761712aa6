"""A client that takes too long to send its body: 408.

``application = TimeLimit(application, seconds=30)``

Counts the time that the application waits in reads of ``wsgi.input``, in all;
over the limit the read raises the 408, which is the answer if the application
lets it through before its response has started. It cannot interrupt a read that
hangs: for that the server needs a time limit of its own. It does not limit how
long the application works.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from middleware import paste
from middleware.problem import Problem
from middleware.recover import Recovering


class TimeLimit:
    """``clock`` gives monotonic seconds."""

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
        return Recovering(self.app, environ, start_response, reader.answer)


class _Timed:
    """``wsgi.input`` for so many seconds of waiting."""

    def __init__(self, stream: Any, seconds: float, clock: Callable[[], float]) -> None:
        self._stream = stream
        self._left = seconds
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
        begun = self._clock()
        data = read(*size)
        self._left -= self._clock() - begun
        if self._left < 0:
            raise self._problem
        return data


filter_factory = paste.factory(TimeLimit, seconds=paste.number)
