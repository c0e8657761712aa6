"""Authentication by Bearer token or by the proxy's user name.

``application = Authentication(application, tokens=find, role_of=role_of)``

Sets ``environ["middleware.identity"]`` to an ``Identity`` and REMOTE_USER to its
name, or answers 401 or 403. It trusts the REMOTE_USER that it is given:
TrustedProxy belongs outside of it and removes a forged one. Roles decides what a
role may do.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from middleware import paste
from middleware.problem import Problem

KEY = "middleware.identity"

_scheme = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+) +([\x21-\x7e][\x20-\x7e]*)").fullmatch
_token = re.compile(r"[A-Za-z0-9._~+/-]+=*").fullmatch  # RFC 6750, b64token


@dataclass(frozen=True, slots=True)
class Identity:
    """``via`` is "proxy", "token" or "anonymous"."""

    name: str
    role: str
    via: str


class Authentication:
    """``tokens`` returns the owner of a token, ``role_of`` the role of a user; None
    if unknown. Their exceptions pass.

    ``anonymous`` is the identity of requests without credentials; None refuses
    them. Paths that begin with one of ``exempt`` need no identity. ``reserved``
    are names that the proxy's users cannot have, because the application gives
    them to tokens and to itself; one that ends in a colon is a prefix.
    """

    def __init__(
        self,
        app: WSGIApplication,
        *,
        tokens: Callable[[str], Identity | None] | None = None,
        role_of: Callable[[str], str | None] | None = None,
        anonymous: Identity | None = None,
        exempt: Sequence[str] = (),
        reserved: Sequence[str] = (),
    ) -> None:
        self.app = app
        self.tokens = tokens
        self.role_of = role_of
        self.anonymous = anonymous
        self.exempt = tuple(exempt)
        self.reserved = frozenset(reserved)
        self._prefixes = tuple(name for name in reserved if name.endswith(":"))

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ.pop(KEY, None)
        if self._exempt(environ.get("PATH_INFO", "")):
            return self.app(environ, start_response)
        identity = self._identity(environ)
        if isinstance(identity, Problem):
            return identity(environ, start_response)
        environ[KEY] = identity
        environ["REMOTE_USER"] = identity.name
        return self.app(environ, start_response)

    def _exempt(self, path: str) -> bool:
        # An app may resolve dots: /health/../jobs is not exempt.
        return path.startswith(self.exempt) and "/../" not in f"{path}/"

    def _identity(self, environ: WSGIEnvironment) -> Identity | Problem:
        user = environ.get("REMOTE_USER")
        given = environ.get("HTTP_AUTHORIZATION")
        if given is not None:
            return self._authorized(given, user)
        if user:
            return self._user(user)
        return self.anonymous or _unknown("log in, or send a token")

    def _authorized(self, given: str, user: str | None) -> Identity | Problem:
        """Wrong credentials never fall back to another identity."""
        parts = _scheme(given.strip())
        if parts is None:
            return _unknown("the Authorization header is malformed")
        if parts[1].lower() == "bearer":
            return self._owner(parts[2])
        # A proxy that authenticates by Basic or Negotiate may pass the header on.
        return self._user(user) if user else _unknown(f"{parts[1]} is not taken; send a token")

    def _owner(self, token: str) -> Identity | Problem:
        if not _token(token):
            return _unknown("the token is malformed", error="invalid_token")
        identity = self.tokens(token) if self.tokens else None
        return identity or _unknown(
            "the token is unknown, revoked or has expired", error="invalid_token"
        )

    def _user(self, name: str) -> Identity | Problem:
        if self._is_reserved(name):
            return Problem(403, f"{name} is a reserved name; the proxy must give another")
        role = self.role_of(name) if self.role_of else None
        if role is None:
            return Problem(403, f"{name} has no role here; an administrator gives one")
        return Identity(name, role, "proxy")

    def _is_reserved(self, name: str) -> bool:
        # A database may compare names without regard to case and accents.
        bare = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
        return bare in self.reserved or bare.startswith(self._prefixes)


def _unknown(detail: str, error: str = "") -> Problem:
    challenge = f'Bearer error="{error}"' if error else "Bearer"
    return Problem(401, detail, headers=[("WWW-Authenticate", challenge)])


def _anonymous(role: str) -> Identity:
    return Identity("anonymous", paste.text(role), "anonymous")


filter_factory = paste.factory(
    Authentication,
    tokens=paste.thing,
    role_of=paste.thing,
    anonymous=_anonymous,
    exempt=paste.words,
    reserved=paste.words,
)
