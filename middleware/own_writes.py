"""Nobody reads older data than what he has just written, wherever it is read.

``application = OwnWrites(application, secret=secret, merged=merged)``

For applications that read from replicas, which may be a little late. It carries
a position, a text that only the application understands, from each response of
a client to its next request: in the header X-Own-Writes for scripts, in signed
cookies for browsers. ``environ["middleware.after"]`` tells what the reader must
see at least; empty: nothing. The application puts a function into
``environ["middleware.position"]``, which returns what this request has written
or may have seen. It is called when the head goes out, so StorePerRequest, which
commits before that, belongs inside of it. Where nothing is put there, or it
returns nothing, nothing is sent.

A header that ``merged`` refuses is answered 400. A cookie that we did not sign,
or that has expired, counts for nothing. Browsers ask for several things at once,
and keep the cookie of the answer that came last; so that no late answer to a
question takes a write away, what was written has a cookie of its own. Scripts
get no cookie.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from webob import Request
from webob.cookies import SignedCookieProfile

from middleware import paste
from middleware.problem import Problem

AFTER = "middleware.after"
POSITION = "middleware.position"

_SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_SEEN, _WRITTEN = "seen", "written"  # which cookie
_is_signed = re.compile(r"[A-Za-z0-9_=-]{1,4096}").fullmatch


class OwnWrites:
    """``merged`` gives the position that covers two others, and raises ValueError
    for what is none. ``header`` and ``cookie`` are names; ``lifetime``, that of
    a cookie in seconds, should be longer than any replica is late."""

    def __init__(
        self,
        app: WSGIApplication,
        *,
        secret: bytes,
        merged: Callable[[str, str], str],
        header: str = "X-Own-Writes",
        cookie: str = "own",
        lifetime: int = 3600,
    ) -> None:
        if len(secret) < 16:
            raise ValueError("secret: is shorter than 16 bytes; anybody could guess it")
        self.app = app
        self.merged = merged
        self.header = header
        self._key = f"HTTP_{header.upper().replace('-', '_')}"
        self._profiles = {
            kind: SignedCookieProfile(
                *(secret, f"own writes {kind}", f"{cookie}_{kind}"),
                **{"max_age": lifetime, "httponly": True, "samesite": "Lax", "hashalg": "sha256"},
            )
            for kind in (_SEEN, _WRITTEN)
        }

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        given = environ.get(self._key)
        try:
            known = self._cookies(environ) if given is None else {"": self.merged("", given)}
        except ValueError as error:
            detail = f"{self.header}: {error}; send it as it was given, or leave it out"
            return Problem(400, detail)(environ, start_response)
        environ[AFTER] = self._all(known)
        environ.pop(POSITION, None)

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            return start_response(status, [*headers, *self._told(environ, known)], exc_info)

        return self.app(environ, start)

    def _all(self, known: Mapping[str, str]) -> str:
        after = ""
        for position in known.values():
            after = self.merged(after, position)
        return after

    # Cookies

    def _cookies(self, environ: WSGIEnvironment) -> dict[str, str]:
        """What they hold, by kind, of those that are there."""
        if "HTTP_COOKIE" not in environ:
            return {}
        request = Request({"HTTP_COOKIE": self._own(environ["HTTP_COOKIE"])})
        found = {kind: one.bind(request).get_value() for kind, one in self._profiles.items()}
        return {kind: value for kind, value in found.items() if self._is_position(value)}

    def _own(self, cookies: str) -> str:
        """Of a header Cookie, what may be from here. WebOb takes time that grows with
        the square of a long word without "="."""
        names = {profile.cookie_name for profile in self._profiles.values()}
        pairs = (pair.strip().partition("=") for pair in cookies.split(";"))
        own = {name: value for name, _, value in pairs if name in names and _is_signed(value)}
        return "; ".join(f"{name}={value}" for name, value in own.items())

    def _is_position(self, value: object) -> bool:
        """One that we signed may be of another kind of server, from before."""
        try:
            return isinstance(value, str) and bool(self.merged("", value))
        except ValueError:
            return False

    # The response

    def _told(self, environ: WSGIEnvironment, known: Mapping[str, str]) -> list[tuple[str, str]]:
        ask = environ.get(POSITION)
        position = ask() if ask is not None else ""
        if not position:
            return []
        told = [(self.header, self.merged(environ[AFTER], position))]
        if "" not in known and _is_browser(environ, known):
            told += self._renewed(environ, known, position)
        return told

    def _renewed(
        self, environ: WSGIEnvironment, known: Mapping[str, str], position: str
    ) -> list[tuple[str, str]]:
        kind = _SEEN if environ["REQUEST_METHOD"] in _SAFE else _WRITTEN
        before = known.get(kind, "")
        after = self.merged(before, position)
        if after == before:
            return []
        headers: list[tuple[str, str]] = self._profiles[kind].get_headers(
            after,
            path=environ.get("SCRIPT_NAME") or "/",
            secure=environ["wsgi.url_scheme"] == "https",
        )
        return headers


def _is_browser(environ: WSGIEnvironment, known: Mapping[str, str]) -> bool:
    """A script that kept cookies would pass for a browser with whoever looks for them."""
    if environ.get("HTTP_AUTHORIZATION", "")[:7].lower() == "bearer ":
        return False
    return bool(known) or "text/html" in environ.get("HTTP_ACCEPT", "").lower()


def _secret(text: str) -> bytes:
    return paste.text(text).encode()


filter_factory = paste.factory(
    OwnWrites,
    secret=_secret,
    merged=paste.thing,
    header=paste.text,
    cookie=paste.text,
    lifetime=paste.whole,
)
