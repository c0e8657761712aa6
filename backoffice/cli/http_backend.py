"""Commands on a service over HTTP, with the typed client."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, fields, is_dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote

from backoffice.cli.backend import JobFilter, Page, Record, Submission
from backoffice.client import Client, Filter
from backoffice.documents import paging
from backoffice.errors import Invalid

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_OF_ONE = ("outputs", "publications", "tasks")  # lists of jobs do not show them
_PART = 1 << 20  # bytes of a log asked for at a time


class HTTPBackend:
    """Implements :class:`backoffice.cli.backend.Backend`."""

    def __init__(self, service: Client) -> None:
        self._service = service

    def __enter__(self) -> HTTPBackend:
        return self

    def __exit__(self, *error: object) -> None:
        self._service.close()

    # Submitting

    def submit(self, submission: Submission) -> tuple[int, bool]:
        job = self._service.submit(submission.workflow, **self._request(submission))
        return job.id, job.new

    def clone(self, job: int) -> int:
        return self._service.clone(job).id

    def plan(self, submission: Submission) -> Record:
        plan = self._service.dry_run(submission.workflow, **self._request(submission))
        return _record(plan)

    def _request(self, submission: Submission) -> dict[str, Any]:
        hrefs = [(role, _href(name)) for role, name in submission.inputs]
        if any(role is None for role, _ in hrefs):
            workflow = self._service.workflow(submission.workflow)
            first = workflow.inputs[0].role if workflow.inputs else "source"
            hrefs = [(role or first, href) for role, href in hrefs]
        given = {name: value for name, value in vars(submission).items() if name != "workflow"}
        return {**given, "inputs": hrefs}

    def follow(self, job: int) -> Iterator[Record]:
        return map(_record, self._service.follow(job))

    # Looking

    def jobs(self, wanted: JobFilter, page: Page) -> list[Record]:
        jobs = _records(self._service.jobs(_filter(wanted), **_page(page)))
        return [{key: job[key] for key in job if key not in _OF_ONE} for job in jobs]

    def job(self, job: int) -> Record:
        return _record(self._service.job(job))

    def tasks(self, job: int | None, state: str | None, page: Page) -> list[Record]:
        """Those of a job in the order of its plan, all others the newest first."""
        if job is None:
            return _records(self._service.tasks(state=state, **_page(page)))
        tasks = (
            task
            for task in self._service.job_tasks(job)
            if state in (None, task.state) and (page.before is None or task.id < page.before)
        )
        return _records(islice(tasks, page.limit))

    def task(self, task: int) -> Record:
        return _record(self._service.task(task))

    def attempts(self, task: int) -> list[Record]:
        return _records(self._service.attempts(task))

    def log(self, task: int, attempt: int | None) -> IO[str]:
        def part(offset: int) -> bytes:
            return self._service.log(task, attempt=attempt, offset=offset, size=_PART)

        stream = io.BufferedReader(_LogParts(part), _PART)
        return io.TextIOWrapper(stream, encoding="utf-8", errors="replace")

    def files(self, job: int | None, page: Page) -> list[Record]:
        return _records(self._service.files(job=job, **_page(page)))

    def file(self, file: int) -> Record:
        return _record(self._service.file(file))

    def publications(self, job: int | None, state: str | None, page: Page) -> list[Record]:
        return _records(self._service.publications(job=job, state=state, **_page(page)))

    def workers(self, states: Sequence[str]) -> list[Record]:
        return _records(self._service.workers(states))

    def queues(self) -> list[Record]:
        return _records(self._service.queues())

    def schedules(self) -> list[Record]:
        return _records(self._service.schedules())

    def events(self, after: int | None, job: int | None, limit: int) -> list[Record]:
        return _records(self._service.events(after, job=job, limit=limit))

    def job_reasons(self, job: int) -> Sequence[str]:
        return self._service.why(job)

    def task_reasons(self, task: int) -> Sequence[str]:
        return self._service.why_task(task)

    # Control

    def act(self, action: str, job: int, value: int | None) -> None:
        if value is not None:
            self._service.priority(job, value)
        else:
            getattr(self._service, action)(job)

    def preview(self, action: str, wanted: JobFilter, value: int | None) -> Record:
        return _record(self._service.act(action, _filter(wanted), value=value, preview=True))

    def act_on_all(self, action: str, wanted: JobFilter, value: int | None) -> Record:
        """In one request: only the service knows all jobs."""
        return _record(self._service.act(action, _filter(wanted), value=value))

    def matching(self, wanted: JobFilter, limit: int | None = None) -> Iterator[int]:
        return (job.id for job in self._service.jobs(_filter(wanted), limit=limit))

    def pause_queue(self, name: str) -> None:
        self._service.queue_pause(name)

    def resume_queue(self, name: str) -> None:
        self._service.queue_resume(name)

    def limit_queue(self, name: str, limit: int | None) -> None:
        self._service.queue_limit(name, limit)

    def drain(self, worker: int) -> None:
        self._service.drain(worker)


class _LogParts(io.RawIOBase):
    """A log that is fetched as it is read; it may be long."""

    def __init__(self, fetch: Callable[[int], bytes]) -> None:
        self._fetch = fetch
        self._offset = 0
        self._part = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._part:
            self._part = self._fetch(self._offset)
            self._offset += len(self._part)
        taken = self._part[: len(buffer)]
        buffer[: len(taken)] = taken
        self._part = self._part[len(taken) :]
        return len(taken)


def _record(answer: DataclassInstance) -> Record:
    """An answer of the client as the records that documents and tables know."""
    return {member.name: _plain(getattr(answer, member.name)) for member in fields(answer)}


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _record(value)
    return [_plain(member) for member in value] if isinstance(value, tuple) else value


def _records(answers: Iterable[DataclassInstance]) -> list[Record]:
    return [_record(answer) for answer in answers]


def _page(page: Page) -> dict[str, Any]:
    after = "" if page.before is None else paging.cursor_after(page.before)
    return {"limit": page.limit, "after": after}


def _filter(wanted: JobFilter) -> Filter:
    times = {
        name: _aware(getattr(wanted, name)) for name in ("submitted_after", "submitted_before")
    }
    return Filter(**{**asdict(wanted), **times})


def _aware(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=UTC)


def _href(name: str) -> str:
    if name.startswith("file://"):
        return name
    if not name.startswith("/"):
        raise Invalid(
            f"{name}: with --url a file is one of the service's host; give its absolute path there"
        )
    return f"file://{quote(os.fsencode(name))}"
