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

ORDER = ("viewer", "operator", "admin")  # from the lowest up


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
        order: Sequence[str] = ORDER,
    ) -> None:
        self.app = app
        self.required = required
        self.order = tuple(order)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        role = self.required(environ)
        problem = None if role is None else refusal(environ, role, self.order)
        return (problem or self.app)(environ, start_response)


def refusal(environ: WSGIEnvironment, role: str, order: Sequence[str] = ORDER) -> Problem | None:
    """401 or 403 unless the identity has this role, or a higher one."""
    if role not in order:
        raise ValueError(f"{role!r} is not one of the roles {', '.join(order)}")
    identity = environ.get(KEY)
    if identity is None:
        return Problem(401, "log in, or send a token", headers=[("WWW-Authenticate", "Bearer")])
    if identity.role not in order or order.index(identity.role) < order.index(role):
        return Problem(403, f"this needs the role {role}; {identity.name} is {identity.role}")
    return None


filter_factory = paste.factory(Roles, required=paste.thing, order=paste.words)
