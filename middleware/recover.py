"""A response that may still become another while none of it was sent.

What ErrorHandler, BodyLimit and TimeLimit share. It is no component: there is
nothing to paste. It decides nothing; ``answer`` does, for each exception.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from middleware.held import close
from middleware.problem import Problem

# Given the exception; returns the problem to send, or None to raise it again.
Answer = Callable[[Exception], Problem | None]


class Recovering:
    """The iterable of ``app``'s response; exceptions before its first byte are answered.

    Later ones are given to ``answer`` too, but raised again whatever it returns:
    the server must break the connection, or a client takes half for the whole.
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
        self._result: Iterable[bytes] = ()
        try:
            self._result = app(environ, self._start)
        except Exception as error:
            self._result = self._instead(error)

    def _start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        write = self._start_response(status, headers, exc_info)

        def noting(data: bytes) -> object:
            self._sent = True
            return write(data)

        return noting

    def __iter__(self) -> Iterator[bytes]:
        try:
            for chunk in self._result:
                if chunk:
                    self._sent = True
                yield chunk
        except Exception as error:
            yield from self._instead(error)

    def _instead(self, error: Exception) -> Iterable[bytes]:
        problem = self._answer(error)
        if problem is None or self._sent:
            raise error
        # The app may have started its own response already.
        exc_info: Any = (type(error), error, error.__traceback__)

        def again(status: str, headers: list[tuple[str, str]], _: Any = None) -> Any:
            return self._start_response(status, headers, exc_info)

        return problem(self._environ, again)

    def close(self) -> None:
        close(self._result)
