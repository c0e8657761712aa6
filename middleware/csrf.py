"""CSRF protection.

``application = CSRFProtection(application, secret=secret)``

A request that changes something is refused if the browser says that it comes
from another site, and a browser's form must carry a token:
``environ["middleware.csrf_token"]``, as the form field ``csrf_token`` or the
header X-CSRF-Token. Scripts need none if they send a Bearer token or nothing
that only browsers send. There are no cookies and no session: itsdangerous
signs the token, which is bound to the user's name. Authentication belongs
outside of it, and TrustedProxy too, which sets the scheme and checks the host.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from secrets import token_urlsafe
from urllib.parse import unquote_plus
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from middleware import paste, signing
from middleware.buffering import buffer_input
from middleware.problem import Problem
from middleware.signing import SignedValues

KEY = "middleware.csrf_token"
FIELD = "csrf_token"
MAX_FORM_PREFIX = 1 << 16  # bytes at the start of a form that are searched for the field

_OWN_HOST = "middleware.own_host"  # set by TrustedProxy
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
# The types that a page can send to another site without a CORS preflight. A body
# without a type is one of them.
_FORM_TYPES = frozenset(
    {"", "application/x-www-form-urlencoded", "multipart/form-data", "text/plain"}
)
_BROWSER_HEADERS = (
    "HTTP_ORIGIN",
    "HTTP_COOKIE",
    "HTTP_REFERER",
    "HTTP_SEC_FETCH_SITE",
    "HTTP_SEC_FETCH_MODE",
    "HTTP_SEC_FETCH_DEST",
    "HTTP_SEC_FETCH_USER",
)
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}

_boundary = re.compile(r'boundary=(?:"([^"]{1,70})"|([^\s;,"]{1,70}))', re.I).search
_has_field_name = re.compile(rb'name="?' + FIELD.encode() + rb'"?\s*(?:;|\r\n|\Z)', re.I).search


class CSRFProtection:
    """``origins``, such as "https://backoffice.example.org", are trusted besides
    the request's own scheme and host. Those count only if TrustedProxy knows the
    host: after DNS rebinding, a hostile page's Origin equals its Host. A token
    lives ``lifetime`` seconds; ``clock`` returns seconds since 1970.
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
        self.app = app
        self.origins = frozenset(map(_normalized, origins))
        self._tokens = SignedValues(secret, KEY, lifetime, clock)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] not in _SAFE_METHODS:
            problem = self._problem(environ)
            if problem:
                return problem(environ, start_response)
        environ[KEY] = _Token(self, _user(environ))
        return self.app(environ, start_response)

    def token(self, user: str) -> str:
        """A new token for ``user``."""
        # Random, so that the size of a compressed page does not reveal it (BREACH).
        return self._tokens.sign([token_urlsafe(9), user])

    def valid(self, token: str, user: str) -> bool:
        """Whether ``token`` was made for ``user``, at most ``lifetime`` seconds ago."""
        value = self._tokens.verified(token)
        return value is not None and bool(value[1] == user)

    def _problem(self, environ: WSGIEnvironment) -> Problem | None:
        site = environ.get("HTTP_SEC_FETCH_SITE")
        if site is not None and site not in ("same-origin", "none"):
            return Problem(403, "the request comes from a page of another site")
        origin = environ.get("HTTP_ORIGIN")
        if origin is not None and not self._is_trusted(origin, environ):
            return Problem(403, "the Origin of the request is another site")
        if _is_form(environ) and _is_browser(environ) and not self._has_token(environ):
            return Problem(
                403, "the form has no valid token, or its token has expired: load the page again"
            )
        return None

    def _is_trusted(self, origin: str, environ: WSGIEnvironment) -> bool:
        host, given = environ.get(_OWN_HOST), _normalized(origin)
        if host and given == _normalized(f"{environ['wsgi.url_scheme']}://{host}"):
            return True
        return given in self.origins

    def _has_token(self, environ: WSGIEnvironment) -> bool:
        token = environ.get("HTTP_X_CSRF_TOKEN")
        if token is None:
            start, _ = buffer_input(environ, MAX_FORM_PREFIX)
            token = _form_field(start, environ.get("CONTENT_TYPE", ""))
        return self.valid(token, _user(environ))


class _Token:
    """One token per request, made when a page shows it; few do."""

    def __init__(self, component: CSRFProtection, user: str) -> None:
        self._component = component
        self._user = user
        self._text = ""

    def __str__(self) -> str:
        self._text = self._text or self._component.token(self._user)
        return self._text


def _user(environ: WSGIEnvironment) -> str:
    identity = environ.get("middleware.identity")
    return str(identity.name if identity else environ.get("REMOTE_USER") or "")


def _normalized(origin: str) -> str:
    """In lower case and without the scheme's default port."""
    origin = origin.strip().lower().rstrip("/")
    return origin.removesuffix(_DEFAULT_PORTS.get(origin.partition(":")[0], ""))


def _is_form(environ: WSGIEnvironment) -> bool:
    media_type = environ.get("CONTENT_TYPE", "").partition(";")[0]
    return media_type.strip().lower() in _FORM_TYPES


def _is_browser(environ: WSGIEnvironment) -> bool:
    if environ.get("HTTP_AUTHORIZATION", "")[:7].lower() == "bearer ":
        return False  # a page of another site cannot send one
    if any(header in environ for header in _BROWSER_HEADERS):
        return True
    return "text/html" in environ.get("HTTP_ACCEPT", "").lower()


def _form_field(start: bytes, content_type: str) -> str:
    """The token, if its field is in ``start``, the beginning of the form."""
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        return _multipart_field(start, content_type)
    pairs = start.split(b"\r\n" if media_type == "text/plain" else b"&")
    name = FIELD.encode() + b"="
    value = next((pair[len(name) :] for pair in pairs if pair.startswith(name)), b"")
    return unquote_plus(value.decode("latin-1"))


def _multipart_field(start: bytes, content_type: str) -> str:
    boundary = _boundary(content_type)
    if boundary is None:
        return ""
    delimiter = b"\r\n--" + (boundary[1] or boundary[2]).encode("latin-1")
    for part in (b"\r\n" + start).split(delimiter):
        head, _, value = part.partition(b"\r\n\r\n")
        if _has_field_name(head):
            return value.decode("latin-1")
    return ""


filter_factory = paste.factory(
    CSRFProtection, secret=signing.secret, origins=paste.words, lifetime=paste.number
)
