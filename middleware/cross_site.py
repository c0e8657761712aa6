"""Nobody changes anything by a page of another site.

``application = CrossSite(application, secret=secret)``

Requests that change something are refused when the browser says that they come
from elsewhere, and a browser's form must carry a token of ours:
``environ["middleware.csrf_token"]``, whose text goes into the field
``csrf_token`` or the header X-CSRF-Token. Scripts that send a Bearer token, or
nothing that a browser would, need none. It sets no cookie and keeps nothing:
the token is signed and bound to the user's name. Authentication belongs
outside of it, and TrustedProxy too, which knows our scheme and tells whether the
host that was asked for is ours.
"""

from __future__ import annotations

import hmac
import re
import secrets
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Sequence
from urllib.parse import unquote_plus
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from middleware import paste
from middleware.held import hold_input
from middleware.problem import Problem

KEY = "middleware.csrf_token"
FIELD = "csrf_token"
PEEK = 1 << 16  # bytes of a form in which the field must stand

_OWN_HOST = "middleware.own_host"  # set by TrustedProxy
_SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
# What a page can send to another site without asking it first. A body without
# a type is among it.
_FORMS = frozenset({"", "application/x-www-form-urlencoded", "multipart/form-data", "text/plain"})
_MARKS = (
    *("HTTP_ORIGIN", "HTTP_COOKIE", "HTTP_REFERER"),
    *("HTTP_SEC_FETCH_SITE", "HTTP_SEC_FETCH_MODE", "HTTP_SEC_FETCH_DEST", "HTTP_SEC_FETCH_USER"),
)
_PORTS = {"http": ":80", "https": ":443"}
_STAMP, _NONCE, _SIGNATURE = 5, 9, 16  # bytes

_boundary = re.compile(r'boundary=(?:"([^"]{1,70})"|([^\s;,"]{1,70}))', re.I).search
_named = re.compile(rb'name="?' + FIELD.encode() + rb'"?\s*(?:;|\r\n|\Z)', re.I).search


class CrossSite:
    """``origins``, such as "https://backoffice.example.org", are as good as the
    scheme and host of the request itself, which count only where TrustedProxy has
    found the host among its own: a page whose name leads here has an Origin that
    is the same as Host. A token lives ``lifetime`` seconds;
    ``clock`` tells the time in seconds since 1970.
    """

    def __init__(
        self,
        app: WSGIApplication,
        *,
        secret: bytes,
        origins: Sequence[str] = (),
        lifetime: float = 12 * 3600,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if len(secret) < 16:
            raise ValueError("secret: is shorter than 16 bytes; anybody could guess it")
        self.app = app
        self.secret = secret
        self.origins = frozenset(map(_plain, origins))
        self.lifetime = lifetime
        self.clock = clock

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] not in _SAFE:
            problem = self._refusal(environ)
            if problem:
                return problem(environ, start_response)
        environ[KEY] = _Token(self, _user(environ))
        return self.app(environ, start_response)

    def token(self, user: str) -> str:
        """A fresh token for ``user``."""
        stamped = int(self.clock()).to_bytes(_STAMP, "big") + secrets.token_bytes(_NONCE)
        return urlsafe_b64encode(stamped + self._signature(stamped, user)).decode()

    def valid(self, token: str, user: str) -> bool:
        """Whether ``token`` was given to ``user``, and not too long ago."""
        try:
            raw = urlsafe_b64decode(token.encode("ascii"))
        except ValueError:
            return False
        stamped, signature = raw[: _STAMP + _NONCE], raw[_STAMP + _NONCE :]
        if not hmac.compare_digest(signature, self._signature(stamped, user)):
            return False
        age = self.clock() - int.from_bytes(stamped[:_STAMP], "big")
        return -60 <= age <= self.lifetime  # several hosts' clocks differ a little

    def _signature(self, stamped: bytes, user: str) -> bytes:
        told = b"csrf\0" + stamped + user.encode("utf-8", "surrogatepass")
        return hmac.digest(self.secret, told, "sha256")[:_SIGNATURE]

    def _refusal(self, environ: WSGIEnvironment) -> Problem | None:
        site = environ.get("HTTP_SEC_FETCH_SITE")
        if site is not None and site not in ("same-origin", "none"):
            return Problem(403, "the request comes from a page of another site")
        origin = environ.get("HTTP_ORIGIN")
        if origin is not None and not self._ours(origin, environ):
            return Problem(403, "the Origin of the request is another site")
        if _is_form(environ) and _is_browser(environ) and not self._has_token(environ):
            return Problem(
                403, "the form has no valid token, or its token has expired: load the page again"
            )
        return None

    def _ours(self, origin: str, environ: WSGIEnvironment) -> bool:
        own, asked = environ.get(_OWN_HOST), _plain(origin)
        if own and asked == _plain(f"{environ['wsgi.url_scheme']}://{own}"):
            return True
        return asked in self.origins

    def _has_token(self, environ: WSGIEnvironment) -> bool:
        given = environ.get("HTTP_X_CSRF_TOKEN")
        if given is None:
            start, _ = hold_input(environ, PEEK)
            given = _field(start, environ.get("CONTENT_TYPE", ""))
        return self.valid(given, _user(environ))


class _Token:
    """Made when a page shows it, which few requests do; one a request."""

    def __init__(self, component: CrossSite, user: str) -> None:
        self._component = component
        self._user = user
        self._text = ""

    def __str__(self) -> str:
        self._text = self._text or self._component.token(self._user)
        return self._text


def _user(environ: WSGIEnvironment) -> str:
    identity = environ.get("middleware.identity")
    return str(identity.name if identity else environ.get("REMOTE_USER") or "")


def _plain(origin: str) -> str:
    """An origin without the port that goes without saying."""
    origin = origin.strip().lower().rstrip("/")
    return origin.removesuffix(_PORTS.get(origin.partition(":")[0], ""))


def _is_form(environ: WSGIEnvironment) -> bool:
    media_type = environ.get("CONTENT_TYPE", "").partition(";")[0]
    return media_type.strip().lower() in _FORMS


def _is_browser(environ: WSGIEnvironment) -> bool:
    if environ.get("HTTP_AUTHORIZATION", "")[:7].lower() == "bearer ":
        return False  # a page of another site cannot send one
    if any(mark in environ for mark in _MARKS):
        return True
    return "text/html" in environ.get("HTTP_ACCEPT", "").lower()


def _field(start: bytes, content_type: str) -> str:
    """The token among the form's fields, if it stands in its ``start``."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return _part(start, content_type)
    pairs = start.split(b"\r\n" if kind == "text/plain" else b"&")
    name = FIELD.encode() + b"="
    found = next((pair[len(name) :] for pair in pairs if pair.startswith(name)), b"")
    return unquote_plus(found.decode("latin-1"))


def _part(start: bytes, content_type: str) -> str:
    boundary = _boundary(content_type)
    if boundary is None:
        return ""
    marker = b"\r\n--" + (boundary[1] or boundary[2]).encode("latin-1")
    for part in (b"\r\n" + start).split(marker):
        head, _, value = part.partition(b"\r\n\r\n")
        if _named(head):
            return value.decode("latin-1")
    return ""


def _secret(text: str) -> bytes:
    return paste.text(text).encode()


filter_factory = paste.factory(
    CrossSite, secret=_secret, origins=paste.words, lifetime=paste.number
)
