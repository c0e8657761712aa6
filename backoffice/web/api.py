"""Every address there is: the table of routes.

A new one is a line here and a handler in ``jobs_api``, ``files_api`` or
``site_api``. The OpenAPI document is made from the same table.
"""

from __future__ import annotations

from collections.abc import Callable

from webob import Response

from backoffice.web import (
    action_pages,
    files_api,
    job_pages,
    jobs_api,
    metrics_api,
    openapi,
    queries,
    site_api,
    site_pages,
    submit_pages,
    task_pages,
    token_pages,
)
from backoffice.web.call import Call
from backoffice.web.routes import ADMIN, OPERATOR, Route

EVENTS = (
    queries.AFTER_EVENT,
    queries.BEFORE_EVENT,
    queries.LIMIT,
    queries.JOB,
    queries.ACTOR,
    queries.ACTION,
    queries.SUBJECT,
)


CHANGES = (409, 413, 415, 422)  # how what changes something may be refused


def _routes() -> tuple[Route, ...]:
    """Paths of templates, in the order in which the documentation shows them."""
    j, f, s = jobs_api, files_api, site_api
    return (
        Route("GET", "/", s.show_service, "What there is", gives="service"),
        # Jobs
        Route(
            "GET",
            "/jobs",
            j.list_jobs,
            "Jobs, newest first",
            gives="jobs",
            query=(*queries.JOBS, queries.LONG_LIMIT, queries.AFTER),
        ),
        Route(
            "POST",
            "/jobs",
            j.submit,
            "Submit a job",
            gives="job",
            takes="submission",
            role=OPERATOR,
            status=201,
            refuses=CHANGES,
        ),
        Route(
            "POST",
            "/jobs/actions",
            j.act_on_many,
            "One action on many jobs",
            gives="result",
            takes="action",
            role=OPERATOR,
            refuses=CHANGES,
        ),
        Route(
            "GET",
            "/jobs/actions",
            action_pages.done,
            "What an action on many did, as a page",
            query=queries.OUTCOME,
            media_type="text/html",
        ),
        Route(
            "GET",
            "/jobs/find",
            job_pages.find,
            "From a typed filter to the list that it means",
            query=(queries.TYPED,),
            media_type="text/html",
        ),
        Route(
            "POST",
            "/jobs/dry-run",
            j.dry_run,
            "What a job would do: its tasks, commands and outputs",
            gives="plan",
            takes="submission",
            role=OPERATOR,
            refuses=CHANGES,
        ),
        Route("GET", "/jobs/{id}", j.show_job, "A job with its tasks", gives="job"),
        Route("GET", "/jobs/{id}/tasks", j.list_job_tasks, "Its tasks", gives="tasks"),
        Route("GET", "/jobs/{id}/why", j.why_job, "Why it is not running", gives="why"),
        _action("/jobs/{id}/cancel", j.cancel, "Cancel it; what runs is stopped"),
        _action("/jobs/{id}/pause", j.pause, "Start no more of its tasks"),
        _action("/jobs/{id}/resume", j.resume, "Go on after a pause"),
        _action("/jobs/{id}/retry", j.retry, "Run it on from where it broke"),
        _action("/jobs/{id}/clone", j.clone, "Submit the same again", status=201),
        Route(
            "POST",
            "/jobs/{id}/priority",
            j.prioritise,
            "Move it up or down",
            gives="job",
            takes="priority",
            role=OPERATOR,
            query=(queries.VALUE,),
            refuses=CHANGES,
        ),
        # Tasks
        Route(
            "GET",
            "/tasks",
            j.list_tasks,
            "Tasks, newest first",
            gives="tasks",
            query=(*queries.TASKS, *queries.PAGE),
        ),
        Route("GET", "/tasks/{id}", j.show_task, "A task", gives="task"),
        Route("GET", "/tasks/{id}/attempts", j.list_attempts, "Its attempts", gives="attempts"),
        Route(
            "GET",
            "/tasks/{id}/compare",
            task_pages.compare,
            "Two of its attempts beside each other, as a page",
            query=queries.COMPARED,
            media_type="text/html",
        ),
        Route("GET", "/tasks/{id}/why", j.why_task, "Why it is not running", gives="why"),
        Route(
            "GET",
            "/tasks/{id}/log",
            j.show_log,
            "The log of its newest attempt; Range gives a part",
            query=(queries.ATTEMPT,),
            media_type="text/plain",
        ),
        # Files
        Route(
            "GET",
            "/files",
            f.list_files,
            "Files, newest first",
            gives="files",
            query=(queries.JOB, queries.TEXT, *queries.PAGE),
        ),
        Route(
            "POST",
            "/files",
            f.register,
            "Make a file known",
            gives="file",
            takes="registration",
            role=OPERATOR,
            status=201,
            refuses=(413, 415, 422),
        ),
        Route("GET", "/files/{id}", f.show_file, "A file", gives="file"),
        _bytes("/files/{id}/content", f.fetch, "Its bytes; Range gives a part"),
        _bytes("/files/{id}/content/{path}", f.fetch_member, "A part of a package"),
        _bytes("/files/{id}/thumbnail", f.fetch_thumbnail, "A still of it", "image/jpeg"),
        # Publications
        Route(
            "GET",
            "/publications",
            f.list_publications,
            "Publications, newest first",
            gives="publications",
            query=(*queries.PUBLICATIONS, *queries.PAGE),
        ),
        Route("GET", "/publications/{id}", f.show_publication, "One", gives="publication"),
        _action("/publications/{id}/retract", f.retract, "Take it back", status=201),
        # Queues, workers, schedules
        Route("GET", "/queues", s.list_queues, "Queues by name", gives="queues"),
        Route("GET", "/queues/{name}", s.show_queue, "A queue", gives="queue"),
        _control("/queues/{name}/pause", s.pause_queue, "Give out no more of its tasks", "queue"),
        _control("/queues/{name}/resume", s.resume_queue, "Go on after a pause", "queue"),
        _control("/queues/{name}/limit", s.limit_queue, "How many at once", "queue", "limit"),
        Route(
            "GET",
            "/workers",
            s.list_workers,
            "Workers, newest first",
            gives="workers",
            query=queries.WORKERS,
        ),
        Route("GET", "/workers/{id}", s.show_worker, "A worker", gives="worker"),
        _control("/workers/{id}/drain", s.drain, "Finish what it runs, and stop", "worker"),
        Route("GET", "/nodes", s.list_nodes, "Servers of the database", gives="nodes"),
        Route("GET", "/schedules", s.list_schedules, "Schedules by name", gives="schedules"),
        # Definitions
        Route("GET", "/workflows", s.list_workflows, "Workflows by name", gives="workflows"),
        Route("GET", "/workflows/{name}", s.show_workflow, "A workflow", gives="workflow"),
        Route("GET", "/profiles", s.list_profiles, "Profiles by name", gives="profiles"),
        Route("GET", "/profiles/{name}", s.show_profile, "A profile", gives="profile"),
        # Pages without a document
        Route(
            *("GET", "/submit", submit_pages.ask, "The form that submits a job, as a page"),
            role=OPERATOR,
            query=(queries.RECIPE, queries.FILE),
            media_type="text/html",
            refuses=(422,),
        ),
        Route(
            *("POST", "/submit", submit_pages.take, "What the form's buttons do"),
            role=OPERATOR,
            status=303,
            media_type="text/html",
            refuses=CHANGES,
        ),
        Route(
            *("GET", "/tokens", token_pages.show, "Who has an API token, as a page"),
            role=ADMIN,
            media_type="text/html",
        ),
        Route(
            *("POST", "/tokens", token_pages.create, "Make a token; its secret is shown once"),
            role=ADMIN,
            status=201,
            media_type="text/html",
            refuses=CHANGES,
        ),
        Route(
            *("POST", "/tokens/{id}/revoke", token_pages.revoke, "It is good no more"),
            role=ADMIN,
            status=303,
            refuses=CHANGES,
        ),
        _bytes("/about", site_pages.about, "Versions, health, keys", "text/html"),
        # The history
        Route("GET", "/events", s.list_events, "What happened", gives="events", query=EVENTS),
        # The interface itself
        Route("GET", "/schema", s.list_schemas, "Schemas, a line each", media_type="text/plain"),
        _bytes("/schema/{name}", s.show_schema, "An XML Schema", "application/xml"),
        _bytes("/schema/examples/{name}", s.show_example, "An example", "application/xml"),
        _bytes("/openapi.json", _show_openapi, "This interface", "application/json"),
        _bytes("/metrics", metrics_api.show_metrics, "Figures for Prometheus", "text/plain"),
    )


def _action(
    path: str, handler: Callable[..., Response], summary: str, *, status: int = 200
) -> Route:
    return Route(
        *("POST", path, handler, summary),
        gives="job",
        role=OPERATOR,
        status=status,
        refuses=CHANGES,
    )


def _control(
    path: str, handler: Callable[..., Response], summary: str, gives: str, takes: str = ""
) -> Route:
    return Route(
        *("POST", path, handler, summary), gives=gives, takes=takes, role=ADMIN, refuses=CHANGES
    )


def _bytes(
    path: str, handler: Callable[..., Response], summary: str, media_type: str = "*/*"
) -> Route:
    return Route("GET", path, handler, summary, media_type=media_type)


def _show_openapi(call: Call) -> Response:
    return call.respond(openapi.document(ROUTES, call.url("")), "application/json")


ROUTES = _routes()
