"""Security headers: Content-Security-Policy, HSTS, nosniff and others.

``application = SecurityHeaders(application)``

A header that the app sets itself is kept. Pages cannot use inline scripts and
styles.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from middleware import paste

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " media-src 'self' blob:; connect-src 'self'; form-action 'self'; frame-ancestors 'none';"
    " base-uri 'none'"
)
YEAR = 365 * 24 * 3600


class SecurityHeaders:
    """``policy`` is the Content-Security-Policy. ``hsts`` is the max-age of
    Strict-Transport-Security in seconds, sent over https; 0 omits the header."""

    def __init__(self, app: WSGIApplication, *, policy: str = POLICY, hsts: int = YEAR) -> None:
        self.app = app
        headers = [
            ("Content-Security-Policy", policy),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "same-origin"),
            ("X-Frame-Options", "DENY"),
            ("Cross-Origin-Opener-Policy", "same-origin"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=()"),
        ]
        self._plain = {name.lower(): (name, value) for name, value in headers}
        self._secure = dict(self._plain)
        if hsts:
            pair = ("Strict-Transport-Security", f"max-age={hsts}")
            self._secure[pair[0].lower()] = pair

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            # TrustedProxy may be inside, and sets the scheme while the app runs.
            added = self._secure if environ["wsgi.url_scheme"] == "https" else self._plain
            return start_response(status, _merged(headers, added), exc_info)

        return self.app(environ, start)


def _merged(
    headers: list[tuple[str, str]], added: dict[str, tuple[str, str]]
) -> list[tuple[str, str]]:
    given = {name.lower() for name, _ in headers}
    if given.isdisjoint(added):
        return [*headers, *added.values()]
    return [*headers, *(pair for name, pair in added.items() if name not in given)]


filter_factory = paste.factory(SecurityHeaders, policy=paste.text, hsts=paste.whole)
