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

ORDER = ("viewer", "operator", "admin")  # from the lowest up


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
        order: Sequence[str] = ORDER,
    ) -> None:
        self.app = app
        self.needed = needed
        self.order = tuple(order)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        role = self.needed(environ)
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


filter_factory = paste.factory(Roles, needed=paste.thing, order=paste.words)
