"""API tokens as a page: who has one, make one, revoke one."""

from __future__ import annotations

from datetime import timedelta

from genshi.core import Markup
from webob import Response

from backoffice.data import tokens
from backoffice.errors import Invalid
from backoffice.reports import records
from backoffice.reports.records import Record
from backoffice.states import ACTIVE
from backoffice.web import render
from backoffice.web.call import ROLES, Call
from backoffice.web.render import moment, row, state

LIFETIMES = {"1": "a day", "30": "30 days", "90": "90 days", "365": "a year", "": "until revoked"}
USUAL = "90"


def show(call: Call) -> Response:
    return _page(call)


def create(call: Call) -> Response:
    """The answer shows the secret: there is no address at which it could be seen
    again."""
    asked = {name: call.fields.get(name, "") for name in ("name", "role", "days")}
    days = asked["days"]
    if days not in LIFETIMES:
        raise Invalid(f"{days[:50]!r} is no lifetime that is offered; choose one of the list")
    lifetime = timedelta(days=int(days)) if days else None
    name, role = asked["name"].strip(), asked["role"]
    try:
        _, secret = tokens.create(call.store, name, role, call.user, lifetime)
    except Invalid as error:
        return _page(call, status=422, asked=asked, fault=str(error))
    return _page(call, status=201, secret=secret, name=name)


def revoke(call: Call, id: int) -> Response:
    tokens.revoke(call.store, id, call.user)
    response = Response(status=303, location=call.url("/tokens"), content_type=None)
    response.headers["Cache-Control"] = "no-store"
    return response


def _page(
    call: Call,
    *,
    status: int = 200,
    asked: dict[str, str] | None = None,
    fault: str = "",
    secret: str = "",
    name: str = "",
) -> Response:
    found = records.tokens(call.store)
    response = render.page(
        *(call, "tokens.html"),
        title="Tokens",
        status=status,
        rows=render.join([_row(call, one) for one in found]),
        asked=asked or {"name": "", "role": "operator", "days": USUAL},
        roles=ROLES,
        lifetimes=LIFETIMES,
        fault=fault,
        secret=secret,
        made=name,
    )
    response.headers["Cache-Control"] = "no-store"
    return response


def _row(call: Call, one: Record) -> Markup:
    return row(
        '<tr><th scope="row" dir="auto">%s</th><td>%s</td><td>%s</td><td>%s</td>'
        '<td dir="auto">%s</td><td>%s</td><td>%s</td><td>%s</td></tr>',
        one["name"],
        state(one["state"]),
        one["role"],
        moment(one["created"]),
        one["created_by"],
        moment(one["expires"]) if one["expires"] else "never",
        moment(one["last_used"]) if one["last_used"] else "never",
        _revoking(call, one) if one["state"] == ACTIVE else "",
    )


def _revoking(call: Call, one: Record) -> Markup:
    return row(
        '<details class="confirm"><summary>Revoke …</summary><p>Whoever uses <b dir="auto">%s</b>'
        " is refused from now on. This cannot be undone; a new token can be made.</p>"
        '<form method="post" action="%s"><input type="hidden" name="csrf_token" value="%s"/>'
        '<button class="danger">Revoke it</button></form></details>',
        one["name"],
        call.url(f"/tokens/{one['id']}/revoke"),
        call.environ.get("middleware.csrf_token", ""),
    )
