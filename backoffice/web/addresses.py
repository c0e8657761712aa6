"""The table of addresses: every route with its handler, parameters and role.

A new one is a line here, a method of a class in ``api``, and a function in ``pages`` if
browsers are shown its document. The tree that CherryPy walks and the OpenAPI
document are made from the same table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from backoffice.web import openapi, queries
from backoffice.web.api.events import Events
from backoffice.web.api.files import Files, Publications
from backoffice.web.api.jobs import Job, Jobs
from backoffice.web.api.metrics import Metrics
from backoffice.web.api.queues import Queues, Schedules
from backoffice.web.api.recipes import Profiles, Workflows
from backoffice.web.api.service import Schemas, Service
from backoffice.web.api.submission import Submission
from backoffice.web.api.tasks import Tasks
from backoffice.web.api.tokens import Tokens
from backoffice.web.api.workers import Nodes, Workers
from backoffice.web.pages import actions, overview, recipes, site, submit
from backoffice.web.pages import files as file_pages
from backoffice.web.pages import jobs as job_pages
from backoffice.web.pages import tasks as task_pages
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

Handler = Callable[..., Any]
Page = Callable[..., bytes]

CHANGES = (409, 413, 415, 422)  # how what changes something may be refused


def _routes() -> tuple[Route, ...]:
    """Paths of templates, in the order in which the documentation shows them."""
    return (
        *_of_service(),
        *_of_jobs(),
        *_of_tasks(),
        *_of_files(),
        *_of_queues_and_workers(),
        *_of_recipes(),
        *_of_forms(),
        *_of_history_and_interface(),
    )


def _of_service() -> tuple[Route, ...]:
    return (_look("/", service.show, "What there is", "service", overview.overview, store=False),)


def _of_jobs() -> tuple[Route, ...]:
    jobs, job = Jobs(), Job()
    return (
        _look(
            "/jobs",
            jobs.index,
            "Jobs, newest first",
            "jobs",
            job_pages.jobs,
            query=(*queries.JOBS, queries.LONG_LIMIT, queries.AFTER),
        ),
        Route(
            "POST",
            "/jobs",
            jobs.submit,
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
            jobs.act,
            "One action on many jobs",
            gives="result",
            takes="action",
            role=OPERATOR,
            refuses=CHANGES,
            page=actions.result,
            store=False,
        ),
        _page(
            "/jobs/actions",
            jobs.acted,
            "What an action on many did, as a page",
            template="jobs/done.html",
            query=queries.OUTCOME,
            store=False,
        ),
        _page(
            "/jobs/find",
            jobs.find,
            "From a typed filter to the list that it means",
            query=(queries.TYPED,),
            store=False,
        ),
        Route(
            "POST",
            "/jobs/dry-run",
            jobs.dry_run,
            "What a job would do: its tasks, commands and outputs",
            gives="plan",
            takes="submission",
            role=OPERATOR,
            refuses=CHANGES,
            page=submit.plan,
            store=False,
        ),
        _look("/jobs/{id}", job.show, "A job with its tasks", "job", job_pages.job),
        _look("/jobs/{id}/tasks", job.tasks, "Its tasks", "tasks", task_pages.tasks),
        _look("/jobs/{id}/why", job.why, "Why it is not running", "why", task_pages.reasons),
        _action("/jobs/{id}/cancel", job.cancel, "Cancel it; what runs is stopped"),
        _action("/jobs/{id}/pause", job.pause, "Start no more of its tasks"),
        _action("/jobs/{id}/resume", job.resume, "Go on after a pause"),
        _action("/jobs/{id}/retry", job.retry, "Run it on from where it broke"),
        _action("/jobs/{id}/clone", job.clone, "Submit the same again", status=201),
        Route(
            "POST",
            "/jobs/{id}/priority",
            job.prioritise,
            "Move it up or down",
            gives="job",
            takes="priority",
            role=OPERATOR,
            query=(queries.VALUE,),
            refuses=CHANGES,
        ),
    )


def _of_tasks() -> tuple[Route, ...]:
    tasks = Tasks()
    return (
        _look(
            "/tasks",
            tasks.index,
            "Tasks, newest first",
            "tasks",
            task_pages.tasks,
            query=(*queries.TASKS, *queries.PAGE),
        ),
        _look("/tasks/{id}", tasks.show, "A task", "task", task_pages.task),
        _look(
            "/tasks/{id}/attempts",
            tasks.attempts,
            "Its attempts",
            "attempts",
            task_pages.attempts,
        ),
        _page(
            "/tasks/{id}/compare",
            tasks.compare,
            "Two of its attempts beside each other, as a page",
            template="tasks/compare.html",
            query=queries.COMPARED,
        ),
        _look("/tasks/{id}/why", tasks.why, "Why it is not running", "why", task_pages.reasons),
        Route(
            "GET",
            "/tasks/{id}/log",
            tasks.log,
            "The log of its newest attempt; Range gives a part",
            query=(queries.ATTEMPT,),
            media_type="text/plain",
        ),
    )


def _of_files() -> tuple[Route, ...]:
    files, publications = Files(), Publications()
    return (
        _look(
            "/files",
            files.index,
            "Files, newest first",
            "files",
            file_pages.files,
            query=(queries.JOB, queries.TEXT, *queries.PAGE),
        ),
        Route(
            "POST",
            "/files",
            files.register,
            "Make a file known",
            gives="file",
            takes="registration",
            role=OPERATOR,
            status=201,
            refuses=(413, 415, 422),
        ),
        _look("/files/{id}", files.show, "A file", "file", file_pages.file),
        _bytes("/files/{id}/content", files.content, "Its bytes; Range gives a part"),
        _bytes("/files/{id}/content/{path}", files.member, "A part of a package"),
        _bytes("/files/{id}/thumbnail", files.thumbnail, "A still of it", "image/jpeg"),
        _look(
            "/publications",
            publications.index,
            "Publications, newest first",
            "publications",
            file_pages.publications,
            query=(*queries.PUBLICATIONS, *queries.PAGE),
        ),
        _look(
            "/publications/{id}",
            publications.show,
            "One",
            "publication",
            file_pages.publication,
        ),
        _action("/publications/{id}/retract", publications.retract, "Take it back", status=201),
    )


def _of_queues_and_workers() -> tuple[Route, ...]:
    queues, workers = Queues(), Workers()
    return (
        _look("/queues", queues.index, "Queues by name", "queues", site.queues),
        _look("/queues/{name}", queues.show, "A queue", "queue", site.queue),
        _control("/queues/{name}/pause", queues.pause, "Give out no more of its tasks", "queue"),
        _control("/queues/{name}/resume", queues.resume, "Go on after a pause", "queue"),
        _control("/queues/{name}/limit", queues.limit, "How many at once", "queue", "limit"),
        _look(
            "/workers",
            workers.index,
            "Workers, newest first",
            "workers",
            site.workers,
            query=queries.WORKERS,
        ),
        _look("/workers/{id}", workers.show, "A worker", "worker", site.worker),
        _control("/workers/{id}/drain", workers.drain, "Finish what it runs, and stop", "worker"),
        _look(
            "/nodes",
            Nodes().index,
            "Servers of the database",
            "nodes",
            site.nodes,
            store=False,
        ),
        _look("/schedules", Schedules().index, "Schedules by name", "schedules", site.schedules),
    )


def _of_recipes() -> tuple[Route, ...]:
    workflows, profiles = Workflows(), Profiles()
    return (
        _look(
            "/workflows",
            workflows.index,
            "Workflows by name",
            "workflows",
            recipes.workflows,
            store=False,
        ),
        _look(
            "/workflows/{name}",
            workflows.show,
            "A workflow",
            "workflow",
            recipes.workflow,
            store=False,
        ),
        _look(
            "/profiles",
            profiles.index,
            "Profiles by name",
            "profiles",
            recipes.profiles,
            store=False,
        ),
        _look(
            "/profiles/{name}",
            profiles.show,
            "A profile",
            "profile",
            recipes.profile,
            store=False,
        ),
    )


def _of_forms() -> tuple[Route, ...]:
    """Pages without a document."""
    submission, tokens = Submission(), Tokens()
    return (
        _page(
            "/submit",
            submission.ask,
            "The form that submits a job, as a page",
            role=OPERATOR,
            query=(queries.RECIPE, queries.FILE),
            refuses=(422,),
        ),
        Route(
            "POST",
            "/submit",
            submission.take,
            "What the form's buttons do",
            role=OPERATOR,
            status=303,
            media_type="text/html",
            refuses=CHANGES,
        ),
        _page(
            "/tokens",
            tokens.show,
            "Who has an API token, as a page",
            template="system/tokens.html",
            role=ADMIN,
        ),
        Route(
            "POST",
            "/tokens",
            tokens.create,
            "Make a token; its secret is shown once",
            template="system/tokens.html",
            role=ADMIN,
            status=201,
            media_type="text/html",
            refuses=CHANGES,
        ),
        Route(
            "POST",
            "/tokens/{id}/revoke",
            tokens.revoke,
            "It is good no more",
            role=ADMIN,
            status=303,
            refuses=CHANGES,
        ),
        _page("/about", service.about, "Versions, health, keys", template="system/about.html"),
    )


def _of_history_and_interface() -> tuple[Route, ...]:
    schemas = Schemas()
    return (
        _look(
            "/events",
            Events().index,
            "What happened",
            "events",
            file_pages.events,
            query=EVENTS,
        ),
        Route(
            "GET",
            "/schema",
            schemas.index,
            "Schemas, a line each",
            media_type="text/plain",
            store=False,
        ),
        _bytes("/schema/{name}", schemas.schema, "An XML Schema", "application/xml"),
        _bytes("/schema/examples/{name}", schemas.example, "An example", "application/xml"),
        _bytes("/openapi.json", service.openapi, "This interface", "application/json"),
        _bytes("/metrics", Metrics().show, "Figures for Prometheus", "text/plain"),
    )


def _look(path: str, handler: Handler, summary: str, gives: str, page: Page, **more: Any) -> Route:
    return Route("GET", path, handler, summary, gives=gives, page=page, **more)


def _page(path: str, handler: Handler, summary: str, **more: Any) -> Route:
    return Route("GET", path, handler, summary, media_type="text/html", **more)


def _action(path: str, handler: Handler, summary: str, *, status: int = 200) -> Route:
    return Route(
        "POST",
        path,
        handler,
        summary,
        gives="job",
        role=OPERATOR,
        status=status,
        refuses=CHANGES,
    )


def _control(path: str, handler: Handler, summary: str, gives: str, takes: str = "") -> Route:
    return Route(
        "POST", path, handler, summary, gives=gives, takes=takes, role=ADMIN, refuses=CHANGES
    )


def _bytes(path: str, handler: Handler, summary: str, media_type: str = "*/*") -> Route:
    return Route("GET", path, handler, summary, media_type=media_type)


service = Service(lambda base: openapi.document(ROUTES, base))
ROUTES: tuple[Route, ...] = _routes()
