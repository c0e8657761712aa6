"""Error responses in place of responses that fail before their first byte.

Shared by ErrorHandler, BodyLimit and TimeLimit. This module is a library, not a
component; the caller's ``answer`` chooses the response to each exception.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from middleware.buffering import close
from middleware.problem import Problem

# Takes the exception; returns the problem to send, or None to raise it again.
Answer = Callable[[Exception], Problem | None]


class ErrorResponse:
    """The response of ``app``, or a problem if it raises before its first byte.

    Later exceptions are given to ``answer`` too but always raised again: the
    server must break the connection, or the client takes half a body for a whole.
    """

    def __init__(
        self,
        app: WSGIApplication,
        environ: WSGIEnvironment,
        start_response: StartResponse,
        answer: Answer,
    ) -> None:
        self._environ = environ
        self._start_response = start_response
        self._answer = answer
        self._sent = False
        self._body: Iterable[bytes] = ()
        try:
            self._body = app(environ, self._start)
        except Exception as error:
            self._body = self._problem(error)

    def _start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        write = self._start_response(status, headers, exc_info)

        def write_and_note(data: bytes) -> object:
            self._sent = True
            return write(data)

        return write_and_note

    def __iter__(self) -> Iterator[bytes]:
        try:
            for piece in self._body:
                if piece:
                    self._sent = True
                yield piece
        except Exception as error:
            yield from self._problem(error)

    def _problem(self, error: Exception) -> Iterable[bytes]:
        problem = self._answer(error)
        if problem is None or self._sent:
            raise error
        # The app may have called start_response already; exc_info replaces its head.
        exc_info: Any = (type(error), error, error.__traceback__)

        def restart(status: str, headers: list[tuple[str, str]], _: Any = None) -> Any:
            return self._start_response(status, headers, exc_info)

        return problem(self._environ, restart)

    def close(self) -> None:
        close(self._body)
