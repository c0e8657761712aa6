"""Jobs and tasks as pages."""

from __future__ import annotations

from typing import Any

from webob import Response

from backoffice.web import render
from backoffice.web.call import Call
from backoffice.web.render import link, moment, row, state


def jobs(call: Call, found: list[dict[str, Any]], headers: list[tuple[str, str]]) -> Response:
    rows = [
        row(
            "<tr><td>%s</td><td>%s</td><td>%s</td><td>%s</td><td>%s</td></tr>",
            link(call, f"/jobs/{one['id']}", one["id"]),
            state(one["state"]),
            one["title"],
            one["workflow"],
            moment(one["submitted"]),
        )
        for one in found
    ]
    return render.page(call, "jobs.html", title="Jobs", headers=headers, rows=render.join(rows))
