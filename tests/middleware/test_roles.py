"""A role or a higher one is needed."""

from __future__ import annotations

import pytest

from middleware.authentication import Identity
from middleware.roles import Roles
from tests.middleware.wsgi import Answer, call, hello


def ask(needed: str | None, role: str | None) -> Answer:
    app = Roles(hello, required=lambda environ: needed)
    identity = Identity("alice", role, "proxy") if role else None
    return call(app, **{"middleware.identity": identity})


@pytest.mark.parametrize(
    ("needed", "allowed"),
    [
        (None, [None, "viewer", "operator", "admin", "guest"]),
        ("viewer", ["viewer", "operator", "admin"]),
        ("operator", ["operator", "admin"]),
        ("admin", ["admin"]),
    ],
)
@pytest.mark.parametrize("role", [None, "guest", "viewer", "operator", "admin"])
def test_a_role_may_do_what_those_below_it_may(
    needed: str | None, allowed: list[str | None], role: str | None
) -> None:
    refused = 403 if role else 401
    assert ask(needed, role).status == (200 if role in allowed else refused)


def test_a_refusal_names_the_role() -> None:
    assert "needs the role admin; alice is viewer" in ask("admin", "viewer").text


def test_nobody_is_told_how_to_come_in() -> None:
    assert ask("viewer", None).headers["WWW-Authenticate"] == "Bearer"


def test_another_order_of_other_roles() -> None:
    app = Roles(hello, required=lambda environ: "b", order=("a", "b", "c"))
    statuses = [
        call(app, **{"middleware.identity": Identity("x", role, "proxy")}).status for role in "abc"
    ]
    assert statuses == [403, 200, 200]


def test_a_role_that_there_is_not_is_a_fault_of_ours() -> None:
    with pytest.raises(ValueError, match="'boss' is not one of the roles viewer, operator, admin"):
        ask("boss", "admin")
