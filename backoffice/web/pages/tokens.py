"""The page of API tokens, with the form that creates one."""

from __future__ import annotations

from typing import Any

from genshi.core import Markup

from backoffice.reports import records
from backoffice.reports.records import Record
from backoffice.states import ACTIVE
from backoffice.web.context import ROLES, RequestContext
from backoffice.web.pages import render
from backoffice.web.pages.render import moment, row, state

LIFETIMES = {"1": "a day", "30": "30 days", "90": "90 days", "365": "a year", "": "until revoked"}
USUAL = "90"


def tokens(
    context: RequestContext,
    *,
    asked: dict[str, str] | None = None,
    fault: str = "",
    secret: str = "",
    name: str = "",
) -> dict[str, Any]:
    found = records.tokens(context.store)
    return {
        "title": "Tokens",
        "rows": render.join([_row(context, one) for one in found]),
        "asked": asked or {"name": "", "role": "operator", "days": USUAL},
        "roles": ROLES,
        "lifetimes": LIFETIMES,
        "fault": fault,
        "secret": secret,
        "made": name,
    }


def _row(context: RequestContext, one: Record) -> Markup:
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
        _revoking(context, one) if one["state"] == ACTIVE else "",
    )


def _revoking(context: RequestContext, one: Record) -> Markup:
    return row(
        '<details class="confirm"><summary>Revoke …</summary><p>Whoever uses <b dir="auto">%s</b>'
        " is refused from now on. This cannot be undone; a new token can be made.</p>"
        '<form method="post" action="%s"><input type="hidden" name="csrf_token" value="%s"/>'
        '<button class="danger">Revoke it</button></form></details>',
        one["name"],
        context.url(f"/tokens/{one['id']}/revoke"),
        context.environ.get("middleware.csrf_token", ""),
    )
