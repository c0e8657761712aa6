"""The service over HTTP, for programs: ``Client(url, token)`` and what it answers.

Needs httpx and nothing of the program but its errors and states. A service's
``/openapi.json`` tells what is behind each method.
"""

from __future__ import annotations

import os
import time
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import httpx

from backoffice import __version__
from backoffice.client.answers import (
    EVERYTHING,
    Attempt,
    Event,
    File,
    Filter,
    Input,
    Job,
    JobPlan,
    Output,
    PlannedTask,
    Profile,
    Publication,
    Queue,
    Refusal,
    Result,
    Schedule,
    Submitted,
    Task,
    Worker,
    Workflow,
    WorkflowInput,
    WorkflowParameter,
    WorkflowTask,
    build,
)
from backoffice.client.connection import Connection, bearer, place, problem
from backoffice.client.download import download
from backoffice.errors import Invalid, ServiceFault, ServiceUnreachable
from backoffice.states import JOB_ENDED

__all__ = [
    "EVERYTHING",
    "Attempt",
    "Client",
    "Event",
    "File",
    "Filter",
    "Input",
    "Job",
    "JobPlan",
    "Output",
    "PlannedTask",
    "Profile",
    "Publication",
    "Queue",
    "Refusal",
    "Result",
    "Schedule",
    "Submitted",
    "Task",
    "Worker",
    "Workflow",
    "WorkflowInput",
    "WorkflowParameter",
    "WorkflowTask",
]

PATIENCE = 60.0  # seconds that a service may be away while a job is followed
PAGE = 200  # records in one answer
_FIRST_LOOK, _BUSY, _IDLE = 0.2, 1.0, 5.0  # seconds between two looks at a job

T = TypeVar("T")


class Client:
    """One service. Safe to share between threads; close it, or use it in a ``with``.

    ``url`` is where the service is: https://host, with a path if it is mounted
    there, or http+unix:///path/to/socket; ``uds`` is the path of a socket for any
    other URL. A token is not sent in the clear over a network unless ``insecure``.
    ``timeout`` is in seconds and for each part of an answer. ``transport`` is
    httpx's, for tests.

    What only looks, and a submission with a key, is repeated a few times while the
    service is away or asks to wait; anything else could be done twice, and is not.
    Raises Invalid, NotAllowed, NotFound, Conflict, ServiceUnreachable and
    ServiceFault, with the service's own words where it had any.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        timeout: float = 30.0,
        user_agent: str = f"backoffice/{__version__}",
        uds: str | None = None,
        insecure: bool = False,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        where = place(url, uds)
        headers = {"User-Agent": user_agent, **bearer(token, where, insecure)}
        self._connection = Connection(where, headers, timeout, transport, sleep)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    # Jobs

    def submit(
        self,
        workflow: str,
        inputs: Iterable[tuple[str, str]] = (),
        *,
        title: str = "",
        key: str = "",
        priority: int = 50,
        parameters: Mapping[str, str] | None = None,
        metadata: Mapping[str, str] | None = None,
        delay: float = 0.0,
    ) -> Submitted:
        """``inputs`` are pairs of role and file URL, of files where the service is;
        ``delay`` is in seconds. With a ``key`` the same submission gives the same job."""
        document = _submission(
            workflow, inputs, title, key, priority, parameters or {}, metadata or {}, delay
        )
        answer = self._connection.post("/jobs", document, again=bool(key))
        job = self._read(Submitted, answer)
        return job if answer.status_code == HTTPStatus.CREATED else _known(job)

    def dry_run(
        self,
        workflow: str,
        inputs: Iterable[tuple[str, str]] = (),
        *,
        title: str = "",
        key: str = "",
        priority: int = 50,
        parameters: Mapping[str, str] | None = None,
        metadata: Mapping[str, str] | None = None,
        delay: float = 0.0,
    ) -> JobPlan:
        """What such a job would do: its tasks, commands and outputs. Nothing is stored."""
        document = _submission(
            workflow, inputs, title, key, priority, parameters or {}, metadata or {}, delay
        )
        return self._read(JobPlan, self._connection.post("/jobs/dry-run", document, again=True))

    def jobs(
        self, wanted: Filter = EVERYTHING, *, limit: int | None = None, after: str = ""
    ) -> Iterator[Job]:
        """The newest first, ``limit`` at most; fetched a page at a time. ``after`` is
        a cursor out of the Link header of an answer."""
        return self._pages(Job, "jobs", {**wanted.parameters(), "after": after}, limit)

    def job(self, job: int) -> Job:
        return self._read(Job, self._connection.get(f"/jobs/{job}"))

    def why(self, job: int) -> tuple[str, ...]:
        """Why it is not running, a sentence a reason."""
        return self._reasons(f"/jobs/{job}/why")

    def cancel(self, job: int) -> Job:
        return self._act(job, "cancel")

    def pause(self, job: int) -> Job:
        return self._act(job, "pause")

    def resume(self, job: int) -> Job:
        return self._act(job, "resume")

    def retry(self, job: int) -> Job:
        return self._act(job, "retry")

    def clone(self, job: int) -> Job:
        """The job that asks for the same again."""
        return self._act(job, "clone")

    def priority(self, job: int, value: int) -> Job:
        """0 is first, 100 is last."""
        return self._read(Job, self._connection.post(f"/jobs/{job}/priority", {"value": value}))

    def _act(self, job: int, action: str) -> Job:
        return self._read(Job, self._connection.post(f"/jobs/{job}/{action}"))

    def act(
        self,
        action: str,
        wanted: Filter | Iterable[int],
        *,
        value: int | None = None,
        preview: bool = False,
    ) -> Result:
        """cancel, pause, resume, retry or priority (to ``value``), of all jobs that
        match a filter or have these ids; with ``preview`` only counted."""
        document: dict[str, object] = {"name": action, "preview": preview}
        if value is not None:
            document["value"] = value
        if isinstance(wanted, Filter):
            document["filter"] = wanted.parameters()
        else:
            document["jobs"] = [{"id": job} for job in wanted]
        return self._read(Result, self._connection.post("/jobs/actions", document, again=preview))

    def follow(self, job: int) -> Iterator[Job]:
        """The job as it is now, and again whenever it has changed, until it has ended.

        Asks less and less often while nothing happens. Raises ServiceUnreachable
        when the service was away for ``PATIENCE`` after it had been there.
        """
        tag, pause, away = "", _FIRST_LOOK, 0.0
        while True:
            try:
                answer = self._connection.once(
                    "GET", f"/jobs/{job}", headers=_unless(tag), also=_AS_IT_WAS
                )
            except ServiceUnreachable as error:
                pause = max(pause, error.after)
                away += pause
                if not tag or away > PATIENCE:
                    raise
            else:
                away = 0.0
                changed = answer.status_code not in _AS_IT_WAS
                if changed:
                    seen = self._read(Job, answer)
                    yield seen
                    if seen.state in JOB_ENDED:
                        return
                    tag = answer.headers.get("ETag", "")
                pause = min(pause * 1.5, _BUSY if changed else _IDLE)
            self._connection.sleep(pause)

    # Tasks

    def job_tasks(self, job: int) -> tuple[Task, ...]:
        """Those of a job, in the order of its plan."""
        return self._list(Task, "tasks", f"/jobs/{job}/tasks")

    def tasks(
        self,
        *,
        job: int | None = None,
        state: str | None = None,
        limit: int | None = None,
        after: str = "",
    ) -> Iterator[Task]:
        """The newest first."""
        return self._pages(Task, "tasks", {"job": job, "state": state, "after": after}, limit)

    def task(self, task: int) -> Task:
        return self._read(Task, self._connection.get(f"/tasks/{task}"))

    def attempts(self, task: int) -> tuple[Attempt, ...]:
        """The first one first."""
        return self._list(Attempt, "attempts", f"/tasks/{task}/attempts")

    def why_task(self, task: int) -> tuple[str, ...]:
        return self._reasons(f"/tasks/{task}/why")

    def log(
        self, task: int, *, attempt: int | None = None, offset: int = 0, size: int | None = None
    ) -> bytes:
        """The log of the newest attempt, or of another one: ``size`` bytes at most
        from ``offset`` on; none if there are not so many."""
        last = "" if size is None else offset + size - 1
        ranged = offset > 0 or size is not None
        answer = self._connection.get(
            f"/tasks/{task}/log",
            {"attempt": attempt},
            headers={"Range": f"bytes={offset}-{last}"} if ranged else {},
            also=(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,),
        )
        if answer.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return b""
        data = answer.content
        if answer.status_code == HTTPStatus.PARTIAL_CONTENT or not ranged:
            return data
        return data[offset:][:size]

    # Files and publications

    def files(
        self,
        *,
        job: int | None = None,
        text: str = "",
        limit: int | None = None,
        after: str = "",
    ) -> Iterator[File]:
        """The newest first; with ``job`` only what it made."""
        return self._pages(File, "files", {"job": job, "q": text, "after": after}, limit)

    def file(self, file: int) -> File:
        return self._read(File, self._connection.get(f"/files/{file}"))

    def register(self, href: str, metadata: Mapping[str, str] | None = None) -> File:
        """Make a file known that is where the service is."""
        document = {"href": href, "metadata": dict(metadata or {})}
        return self._read(File, self._connection.post("/files", document))

    def thumbnail(self, file: int) -> bytes:
        """A still of it, as JPEG."""
        return self._connection.get(f"/files/{file}/thumbnail").content

    def download(self, file: int, path: str | os.PathLike[str], *, member: str = "") -> Path:
        """Bring the bytes of a file to ``path``, whole or not at all.

        A broken connection is taken up again where it broke; a download that was
        given up goes on later if the file's digest is known. Raises Conflict if
        what came is not the file. Of a package, which is a folder, ``member`` is the
        part that is wanted, by its path in it.
        """
        goal = Path(path)
        download(self._connection, self.file(file), goal, member)
        return goal

    def publications(
        self,
        *,
        job: int | None = None,
        state: str | None = None,
        limit: int | None = None,
        after: str = "",
    ) -> Iterator[Publication]:
        """The newest first."""
        return self._pages(
            Publication, "publications", {"job": job, "state": state, "after": after}, limit
        )

    def publication(self, publication: int) -> Publication:
        return self._read(Publication, self._connection.get(f"/publications/{publication}"))

    def retract(self, publication: int) -> Job:
        """The job that takes it back."""
        return self._read(Job, self._connection.post(f"/publications/{publication}/retract"))

    # Queues, workers, schedules

    def queues(self) -> tuple[Queue, ...]:
        return self._list(Queue, "queues")

    def queue(self, name: str) -> Queue:
        return self._read(Queue, self._connection.get(f"/queues/{quote(name, safe='')}"))

    def queue_pause(self, name: str) -> Queue:
        return self._read(Queue, self._connection.post(f"/queues/{quote(name, safe='')}/pause"))

    def queue_resume(self, name: str) -> Queue:
        return self._read(Queue, self._connection.post(f"/queues/{quote(name, safe='')}/resume"))

    def queue_limit(self, name: str, limit: int | None) -> Queue:
        """How many of its tasks may run at once; None for as many as there are."""
        value = "none" if limit is None else limit
        return self._read(
            Queue, self._connection.post(f"/queues/{quote(name, safe='')}/limit", {"value": value})
        )

    def workers(self, states: Iterable[str] = ()) -> tuple[Worker, ...]:
        """The newest first."""
        return self._list(Worker, "workers", parameters={"state": " ".join(states)})

    def worker(self, worker: int) -> Worker:
        return self._read(Worker, self._connection.get(f"/workers/{worker}"))

    def drain(self, worker: int) -> Worker:
        """Let it finish what it runs, and stop."""
        return self._read(Worker, self._connection.post(f"/workers/{worker}/drain"))

    def schedules(self) -> tuple[Schedule, ...]:
        return self._list(Schedule, "schedules")

    # Definitions

    def workflows(self) -> tuple[Workflow, ...]:
        return self._list(Workflow, "workflows")

    def workflow(self, name: str) -> Workflow:
        return self._read(Workflow, self._connection.get(f"/workflows/{quote(name, safe='')}"))

    def profiles(self) -> tuple[Profile, ...]:
        return self._list(Profile, "profiles")

    def profile(self, name: str) -> Profile:
        return self._read(Profile, self._connection.get(f"/profiles/{quote(name, safe='')}"))

    # The history, and how the service is

    def events(
        self,
        after: int | None = None,
        *,
        job: int | None = None,
        actor: str = "",
        action: str = "",
        subject: str = "",
        limit: int | None = None,
    ) -> Iterator[Event]:
        """What happened after the event with this id, the oldest first, as far as
        it is known now; without ``after`` the newest 50, or ``limit``."""
        wanted = {"job": job, "actor": actor, "action": action, "subject": subject}
        if after is None and limit != 0:
            return iter(self._list(Event, "events", parameters={**wanted, "limit": limit}))
        return self._pages(Event, "events", {**wanted, "after": after}, limit)

    def health(self) -> tuple[str, ...]:
        """Why the service cannot work now, a sentence a reason; none if it can."""
        answer = self._connection.once(
            "GET", "/health/ready", also=(HTTPStatus.SERVICE_UNAVAILABLE,)
        )
        if answer.status_code == HTTPStatus.OK:
            return ()
        told = problem(answer)
        reasons = [str(one.get("message", "")) for one in told.get("errors", ())]
        return tuple(reasons) or (str(told.get("detail") or answer.reason_phrase),)

    def version(self) -> str:
        """Of the service."""
        return str(self._connection.document(self._connection.get("/")).get("version", ""))

    # What it makes of answers

    def _read(self, kind: type[T], answer: httpx.Response) -> T:
        return self._built(kind, [self._connection.document(answer)])[0]

    def _built(self, kind: type[T], found: object) -> tuple[T, ...]:
        try:
            return tuple(build(kind, one) for one in typing.cast("list[object]", found))
        except (TypeError, ValueError) as error:
            text = f"the service at {self._connection.where} answers what is not understood"
            raise ServiceFault(f"{text}: {error}") from error

    def _list(
        self,
        kind: type[T],
        name: str,
        path: str = "",
        parameters: Mapping[str, object] | None = None,
    ) -> tuple[T, ...]:
        answer = self._connection.get(path or f"/{name}", parameters)
        return self._built(kind, self._connection.document(answer).get(name))

    def _pages(
        self, kind: type[T], name: str, parameters: Mapping[str, object], limit: int | None
    ) -> Iterator[T]:
        if limit == 0:
            return
        size = PAGE if limit is None else min(limit, PAGE)
        answer = self._connection.get(f"/{name}", {**parameters, "limit": size})
        left = limit
        while True:
            found = self._built(kind, self._connection.document(answer).get(name))
            yield from found[:left]
            left = None if left is None else left - len(found)
            following = self._connection.following(answer)
            if following is None or (left is not None and left <= 0):
                return
            answer = self._connection.get(following)

    def _reasons(self, path: str) -> tuple[str, ...]:
        answer = self._connection.get(path)
        return tuple(map(str, self._connection.document(answer).get("reasons", ())))


_AS_IT_WAS = (HTTPStatus.NOT_MODIFIED,)


def _submission(
    workflow: str,
    inputs: Iterable[tuple[str, str]],
    title: str,
    key: str,
    priority: int,
    parameters: Mapping[str, str],
    metadata: Mapping[str, str],
    delay: float,
) -> dict[str, object]:
    return {
        "workflow": workflow,
        "priority": priority,
        "inputs": [{"role": role, "href": href} for role, href in inputs],
        "parameters": dict(parameters),
        "metadata": dict(metadata),
        **({"title": title} if title else {}),
        **({"key": key} if key else {}),
        **({"delay": _span(delay)} if delay else {}),
    }


def _unless(tag: str) -> dict[str, str]:
    return {"If-None-Match": tag} if tag else {}


def _span(seconds: float) -> str:
    """As submissions have it, to the millisecond where there is room."""
    if seconds < 0:
        raise Invalid("a delay is from 0 s to ten years")
    thousandths = round(seconds * 1000)
    return f"{thousandths}ms" if thousandths < 10**9 else f"{round(seconds)}s"


def _known(job: Submitted) -> Submitted:
    return Submitted(**{**vars(job), "new": False})
