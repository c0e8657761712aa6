"""Request ids for logs and error reports.

``application = RequestID(application)``

Sets ``environ["middleware.request_id"]``, the response's header and, during the
request, the context variable ``current`` for log formatters. It does not log;
AccessLog and ErrorHandler do, and belong inside of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from secrets import token_hex
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from middleware import paste
from middleware.buffering import close

KEY = "middleware.request_id"

# The id of the request that this thread handles; empty outside of requests.
current: ContextVar[str] = ContextVar("request_id", default="")

_well_formed = re.compile(r"[A-Za-z0-9._-]{1,64}").fullmatch


class RequestID:
    """With ``trust``, a well-formed id in the request's ``header`` is kept.

    Set it only behind a proxy that makes the ids and drops those of clients.
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
    """Clears ``current`` when it is closed."""

    def __init__(self, body: Iterable[bytes]) -> None:
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def close(self) -> None:
        try:
            close(self._body)
        finally:
            current.set("")


filter_factory = paste.factory(RequestID, header=paste.text, trust=paste.flag)
