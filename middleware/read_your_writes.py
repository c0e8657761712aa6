"""Read-your-writes consistency for applications that read from replicas.

``application = ReadYourWrites(application, secret=secret, merged=merged)``

Carries a replication position, a text that only the application understands,
from each response of a client to its next request: scripts get it in the header
X-Read-Your-Writes, browsers in signed cookies. ``environ["middleware.read_after"]``
is the position that a replica must have reached; empty: none. The application
sets ``environ["middleware.position"]`` to a function that returns the position
that this request has written or may have seen. It is called when the head is
sent, so TransactionPerRequest, which commits before that, belongs inside of it.
Without a function or a position nothing is sent.

A header that ``merged`` refuses is answered 400. A cookie that is forged or too
old is ignored. A browser sends several requests at once and keeps the cookie of
the last response; written positions have their own cookie, so that a late
response to a GET does not discard a write. Scripts get no cookie.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from webob.cookies import make_cookie

from middleware import paste, signing
from middleware.problem import Problem
from middleware.signing import SignedValues

READ_AFTER = "middleware.read_after"
POSITION = "middleware.position"

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_SEEN, _WRITTEN = "seen", "written"  # the kinds of cookies
_HEADER = ""  # the kind of a position that came in the header


class ReadYourWrites:
    """``merged`` returns the position that covers two others; ValueError for a
    malformed one. ``header`` and ``cookie`` are names. ``lifetime`` of a cookie is
    in seconds and should exceed the longest lag of a replica; ``clock`` returns
    seconds since 1970."""

    def __init__(
        self,
        app: WSGIApplication,
        *,
        secret: bytes,
        merged: Callable[[str, str], str],
        header: str = "X-Read-Your-Writes",
        cookie: str = "position",
        lifetime: int = 3600,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.app = app
        self.merged = merged
        self.header = header
        self.lifetime = lifetime
        self._key = f"HTTP_{header.upper().replace('-', '_')}"
        self._names = {kind: f"{cookie}_{kind}" for kind in (_SEEN, _WRITTEN)}
        self._values = {
            kind: SignedValues(secret, f"{POSITION} {kind}", lifetime, clock)
            for kind in self._names
        }

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            known = self._known(environ)
        except ValueError as error:
            detail = f"{self.header}: {error}; send it as it was given, or leave it out"
            return Problem(400, detail)(environ, start_response)
        environ[READ_AFTER] = self._all(known)
        environ.pop(POSITION, None)

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            return start_response(status, [*headers, *self._headers(environ, known)], exc_info)

        return self.app(environ, start)

    # The request

    def _known(self, environ: WSGIEnvironment) -> dict[str, str]:
        """The client's positions by kind; those in cookies only if there is no header."""
        given = environ.get(self._key)
        if given is not None:
            return {_HEADER: self.merged("", given)}
        cookies = _cookies(environ.get("HTTP_COOKIE", ""))
        values = {
            kind: self._values[kind].verified(cookies[name])
            for kind, name in self._names.items()
            if name in cookies
        }
        return {kind: value for kind, value in values.items() if self._is_position(value)}

    def _all(self, known: Mapping[str, str]) -> str:
        after = ""
        for position in known.values():
            after = self.merged(after, position)
        return after

    def _is_position(self, value: object) -> bool:
        """A signed value may stem from another kind of database, used before."""
        try:
            return isinstance(value, str) and bool(self.merged("", value))
        except ValueError:
            return False

    # The response

    def _headers(self, environ: WSGIEnvironment, known: Mapping[str, str]) -> list[tuple[str, str]]:
        current = environ.get(POSITION)
        position = current() if current is not None else ""
        if not position:
            return []
        headers = [(self.header, self.merged(environ[READ_AFTER], position))]
        if _HEADER not in known and _is_browser(environ, known):
            headers += self._set_cookie(environ, known, position)
        return headers

    def _set_cookie(
        self, environ: WSGIEnvironment, known: Mapping[str, str], position: str
    ) -> list[tuple[str, str]]:
        kind = _SEEN if environ["REQUEST_METHOD"] in _SAFE_METHODS else _WRITTEN
        before = known.get(kind, "")
        after = self.merged(before, position)
        if after == before:
            return []
        cookie = make_cookie(
            self._names[kind],
            self._values[kind].sign(after),
            max_age=self.lifetime,
            path=environ.get("SCRIPT_NAME") or "/",
            secure=environ["wsgi.url_scheme"] == "https",
            httponly=True,
            samesite="Lax",
        )
        return [("Set-Cookie", cookie)]


def _cookies(header: str) -> dict[str, str]:
    """Without WebOb, whose time grows with the square of a long word without "="."""
    pairs = (pair.strip().partition("=") for pair in header.split(";"))
    return {name: value for name, _, value in pairs}


def _is_browser(environ: WSGIEnvironment, known: Mapping[str, str]) -> bool:
    """No cookies for scripts: CSRFProtection takes clients with cookies for browsers."""
    if environ.get("HTTP_AUTHORIZATION", "")[:7].lower() == "bearer ":
        return False
    return bool(known) or "text/html" in environ.get("HTTP_ACCEPT", "").lower()


filter_factory = paste.factory(
    ReadYourWrites,
    secret=signing.secret,
    merged=paste.thing,
    header=paste.text,
    cookie=paste.text,
    lifetime=paste.whole,
)
