"""What a role may do: each request needs one, and a higher one will do.

``application = Roles(application, needed=role_needed)``

It does not find out who asks: Authentication, outside of it, has done that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from middleware import paste
from middleware.authentication import KEY
from middleware.problem import Problem


class Roles:
    """``needed`` tells the role that a request needs, None for none at all.

    ``order`` has the roles from the lowest up. A role of ``needed`` that is not
    among them is a fault of ours (ValueError); an identity's is below all.
    """

    def __init__(
        self,
        app: WSGIApplication,
        *,
        needed: Callable[[WSGIEnvironment], str | None],
        order: Sequence[str] = ("viewer", "operator", "admin"),
    ) -> None:
        self.app = app
        self.needed = needed
        self._rank = {role: number for number, role in enumerate(order)}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        role = self.needed(environ)
        if role is not None:
            problem = self._refusal(role, environ)
            if problem:
                return problem(environ, start_response)
        return self.app(environ, start_response)

    def _refusal(self, role: str, environ: WSGIEnvironment) -> Problem | None:
        if role not in self._rank:
            raise ValueError(f"{role!r} is not one of the roles {', '.join(self._rank)}")
        identity = environ.get(KEY)
        if identity is None:
            challenge = [("WWW-Authenticate", "Bearer")]
            return Problem(401, "log in, or send a token", headers=challenge)
        if self._rank.get(identity.role, -1) < self._rank[role]:
            return Problem(403, f"this needs the role {role}; {identity.name} is {identity.role}")
        return None


filter_factory = paste.factory(Roles, needed=paste.thing, order=paste.words)
