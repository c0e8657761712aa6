"""Which page shows which kind of record: the HTML beside XML and JSON.

A page is a function of the call and the record, in a module of its subject; to
add one is a line here. What a browser changed is followed by a redirect, so
that reloading changes nothing again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote

from webob import Response

from backoffice.web import (
    action_pages,
    file_pages,
    job_pages,
    overview_page,
    recipe_pages,
    site_pages,
    submit_pages,
    task_pages,
)
from backoffice.web.call import Call

Page = Callable[[Call, Any, list[tuple[str, str]]], Response]

PAGES: dict[str, Page] = {
    "service": overview_page.overview,
    "queues": site_pages.queues,
    "queue": site_pages.queue,
    "workers": site_pages.workers,
    "worker": site_pages.worker,
    "nodes": site_pages.nodes,
    "schedules": site_pages.schedules,
    "workflows": recipe_pages.workflows,
    "workflow": recipe_pages.workflow,
    "profiles": recipe_pages.profiles,
    "profile": recipe_pages.profile,
    "jobs": job_pages.jobs,
    "job": job_pages.job,
    "tasks": task_pages.tasks,
    "task": task_pages.task,
    "attempts": task_pages.attempts,
    "why": task_pages.reasons,
    "files": file_pages.files,
    "file": file_pages.file,
    "publications": file_pages.publications,
    "publication": file_pages.publication,
    "events": file_pages.events,
}
# What answers a change itself; all others are followed by a redirect.
ANSWERS: dict[str, Page] = {"result": action_pages.result, "plan": submit_pages.plan}


def show(
    call: Call, kind: str, record: Any, status: int, headers: Iterable[tuple[str, str]]
) -> Response | None:
    """The page for a record; None if there is none, and XML must do."""
    if call.environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
        if kind in ANSWERS:
            return ANSWERS[kind](call, record, list(headers))
        return _redirect(call, dict(headers).get("Location", ""))
    page = PAGES.get(kind)
    return page(call, record, list(headers)) if page else None


def _redirect(call: Call, where: str) -> Response:
    """To what was made, or to what was changed: its address without the verb."""
    path = quote(call.environ["PATH_INFO"].encode("latin-1")).rpartition("/")[0]
    response = Response(status=303, location=where or call.url(path or "/"), content_type=None)
    response.headers["Cache-Control"] = "no-store"
    return response
