"""The overview, and pages of what is neither a job nor a file."""

from __future__ import annotations

from typing import Any

from webob import Response

from backoffice import records
from backoffice.web import render
from backoffice.web.call import Call


def overview(call: Call, record: Any, headers: list[tuple[str, str]]) -> Response:
    running = records.tasks(call.store, state="running", limit=50)
    return render.page(call, "overview.html", title="Overview", running=running)
