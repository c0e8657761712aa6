"""An id for each request, for logs and for who asks what went wrong.

``application = RequestID(application)``

Puts it into ``environ["middleware.request_id"]``, into the response and, while
the request lasts, into ``current``, for who formats lines of a log. It does not
log; AccessLog and ErrorHandler do, and belong inside of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from secrets import token_hex
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from middleware import paste
from middleware.held import close

KEY = "middleware.request_id"

# The id of the request that this thread is at work on; empty if there is none.
current: ContextVar[str] = ContextVar("request_id", default="")

_well_formed = re.compile(r"[A-Za-z0-9._-]{1,64}").fullmatch


class RequestID:
    """With ``trust``, a well-formed id that comes in ``header`` is kept.

    That is for a proxy in front that makes ids and lets none of others through.
    """

    def __init__(
        self, app: WSGIApplication, header: str = "X-Request-ID", trust: bool = False
    ) -> None:
        self.app = app
        self.header = header
        self.trust = trust
        self._key = "HTTP_" + header.upper().replace("-", "_")
        self._lower = header.lower()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request_id = environ[KEY] = self._id(environ)

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            kept = [pair for pair in headers if pair[0].lower() != self._lower]
            kept.append((self.header, request_id))
            return start_response(status, kept, exc_info)

        current.set(request_id)
        try:
            return _Response(self.app(environ, start))
        except BaseException:
            current.set("")
            raise

    def _id(self, environ: WSGIEnvironment) -> str:
        if self.trust:
            given = environ.get(self._key, "")
            if _well_formed(given):
                return str(given)
        return token_hex(8)


class _Response:
    def __init__(self, result: Iterable[bytes]) -> None:
        self._result = result

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._result)

    def close(self) -> None:
        try:
            close(self._result)
        finally:
            current.set("")


filter_factory = paste.factory(RequestID, header=paste.text, trust=paste.flag)
