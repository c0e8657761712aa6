"""Role-based access control: 403 unless the user's role is high enough.

``application = Roles(application, required=required_role)``

Authentication belongs outside of it and sets the identity.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from middleware import paste
from middleware.authentication import KEY
from middleware.problem import Problem


class Roles:
    """``required`` returns the lowest role that may send a request; None: everyone.

    ``order`` has the roles from the lowest to the highest. ValueError if
    ``required`` returns another one; an identity's unknown role is below all.
    """

    def __init__(
        self,
        app: WSGIApplication,
        *,
        required: Callable[[WSGIEnvironment], str | None],
        order: Sequence[str] = ("viewer", "operator", "admin"),
    ) -> None:
        self.app = app
        self.required = required
        self._rank = {role: number for number, role in enumerate(order)}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        role = self.required(environ)
        if role is not None:
            problem = self._problem(role, environ)
            if problem:
                return problem(environ, start_response)
        return self.app(environ, start_response)

    def _problem(self, role: str, environ: WSGIEnvironment) -> Problem | None:
        if role not in self._rank:
            raise ValueError(f"{role!r} is not one of the roles {', '.join(self._rank)}")
        identity = environ.get(KEY)
        if identity is None:
            challenge = [("WWW-Authenticate", "Bearer")]
            return Problem(401, "log in, or send a token", headers=challenge)
        if self._rank.get(identity.role, -1) < self._rank[role]:
            return Problem(403, f"this needs the role {role}; {identity.name} is {identity.role}")
        return None


filter_factory = paste.factory(Roles, required=paste.thing, order=paste.words)
