"""Commands on the database of this installation."""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO

from storm.locals import Store

from backoffice.cli.backend import JobFilter, Page, Record, Submission
from backoffice.config.settings import Settings
from backoffice.data import migrations, model, search
from backoffice.data.database import Database
from backoffice.data.search import Filter
from backoffice.engine import (
    bulk_actions,
    catalogue,
    dry_run,
    jobs,
    queue_control,
    submission,
    worker_registry,
)
from backoffice.engine.catalogue import Catalogue
from backoffice.errors import DatabaseUnavailable, NotFound
from backoffice.reports import queue_depths, records, why
from backoffice.states import JOB_ENDED

POLL = 0.5  # seconds between two looks at a job
PATIENCE = 60.0  # seconds that the database may be away while a job is followed
_PAGE = 1000  # ids selected at a time


@contextmanager
def opened(settings: Settings) -> Iterator[Database]:
    """The database, if its schema is the one that this program knows."""
    database = Database(settings.database)
    try:
        migrations.require_current(database)
        yield database
    finally:
        database.close()


def actor() -> str:
    """The name of this process's user, as the history shows it."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


class DatabaseBackend:
    """Implements :class:`backoffice.cli.backend.Backend`.

    The database is opened when it is first needed: a plan needs none.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings = settings
        self._sleep = sleep
        self._opened = database
        self._actor = actor()

    def __enter__(self) -> DatabaseBackend:
        return self

    def __exit__(self, *error: object) -> None:
        if self._opened is not None:
            self._opened.close()

    @property
    def _database(self) -> Database:
        if self._opened is None:
            self._opened = Database(self._settings.database)
            migrations.require_current(self._opened)
        return self._opened

    # Submitting

    def submit(self, wanted: Submission) -> tuple[int, bool]:
        prepared = self._prepared(wanted)
        return self._database.transact(submission.submit, prepared, self._actor)

    def clone(self, job: int) -> int:
        known = catalogue.load(self._settings)
        request = self._database.read(submission.request_of, job)
        prepared = known.prepare(request, self._settings)
        clone, _ = self._database.transact(submission.submit, prepared, self._actor)
        return clone

    def plan(self, wanted: Submission) -> Record:
        return dry_run.record(self._prepared(wanted), self._settings)

    def _prepared(self, wanted: Submission) -> submission.PreparedJob:
        known = catalogue.load(self._settings)
        request = submission.JobRequest(**{**vars(wanted), "inputs": _inputs(wanted, known)})
        return known.prepare(request, self._settings)

    def follow(self, job: int) -> Iterator[Record]:
        """Raises DatabaseUnavailable after the database was away for ``PATIENCE``."""
        away = 0.0
        while True:
            try:
                seen = self._database.read(_seen, job)
            except DatabaseUnavailable as error:
                away += POLL
                if error.refused or away > PATIENCE:
                    raise
            else:
                away = 0.0
                yield seen
                if seen["state"] in JOB_ENDED:
                    return
            self._sleep(POLL)

    # Looking

    def jobs(self, wanted: JobFilter, page: Page) -> list[Record]:
        return self._database.read(records.jobs, _filter(wanted), **vars(page))

    def job(self, job: int) -> Record:
        return self._database.read(records.job, job)

    def tasks(self, job: int | None, state: str | None, page: Page) -> list[Record]:
        return self._database.read(records.tasks, job=job, state=state, **vars(page))

    def task(self, task: int) -> Record:
        return self._database.read(records.task, task)

    def attempts(self, task: int) -> list[Record]:
        return self._database.read(records.attempts, task)

    def log(self, task: int, attempt: int | None) -> IO[str]:
        chosen = self._database.read(records.attempt_with_log, task, attempt)
        try:
            return open(chosen["log"], encoding="utf-8", errors="replace")
        except OSError as error:
            raise NotFound(
                f"{chosen['log']} cannot be read ({error.strerror});"
                f" it was written on {chosen['host']}"
            ) from error

    def files(self, job: int | None, page: Page) -> list[Record]:
        return self._database.read(records.files, job=job, **vars(page))

    def file(self, file: int) -> Record:
        return self._database.read(records.file, file)

    def publications(self, job: int | None, state: str | None, page: Page) -> list[Record]:
        return self._database.read(records.publications, job=job, state=state, **vars(page))

    def workers(self, states: Sequence[str]) -> list[Record]:
        return self._database.read(records.workers, states=states)

    def queues(self) -> list[Record]:
        return self._database.read(queue_depths.queues)

    def schedules(self) -> list[Record]:
        return self._database.read(records.schedules)

    def events(self, after: int | None, job: int | None, limit: int) -> list[Record]:
        return self._database.read(records.events, after=after, limit=limit, job=job)

    def job_reasons(self, job: int) -> Sequence[str]:
        return self._database.read(why.job, job)

    def task_reasons(self, task: int) -> Sequence[str]:
        return self._database.read(why.task, task)

    # Control

    def act(self, action: str, job: int, value: int | None) -> None:
        if value is not None:
            self._database.transact(jobs.prioritise, job, value, self._actor)
        else:
            self._database.transact(_ACTIONS[action], job, self._actor)

    def preview(self, action: str, wanted: JobFilter, value: int | None) -> Record:
        return bulk_actions.preview(self._database, action, _filter(wanted))

    def act_on_all(self, action: str, wanted: JobFilter, value: int | None) -> Record:
        return bulk_actions.apply(self._database, action, _filter(wanted), self._actor, value)

    def matching(self, wanted: JobFilter, limit: int | None = None) -> Iterator[int]:
        before: int | None = None
        size = _PAGE if limit is None else limit
        while ids := self._database.read(search.ids, _filter(wanted), limit=size, before=before):
            yield from ids
            if limit is not None:
                return
            before = ids[-1]

    def pause_queue(self, name: str) -> None:
        self._database.transact(queue_control.pause, name, self._actor)

    def resume_queue(self, name: str) -> None:
        self._database.transact(queue_control.resume, name, self._actor)

    def limit_queue(self, name: str, limit: int | None) -> None:
        self._database.transact(queue_control.limit, name, limit, self._actor)

    def drain(self, worker: int) -> None:
        self._database.transact(worker_registry.drain, worker, self._actor)


_ACTIONS: dict[str, Callable[[Store, int, str], None]] = {
    "cancel": jobs.cancel,
    "pause": jobs.pause,
    "resume": jobs.resume,
    "retry": jobs.retry,
}


def _filter(wanted: JobFilter) -> Filter:
    return Filter(**asdict(wanted))


def _inputs(wanted: Submission, known: Catalogue) -> list[tuple[str, str]]:
    workflow = known.workflows.get(wanted.workflow)
    first = workflow.first_role if workflow else "source"
    return [(role or first, _absolute(name)) for role, name in wanted.inputs]


def _absolute(name: str) -> str:
    """Only ``file:///…`` is a URL here: a file may be called ``http:x.mp4``."""
    return name if name.startswith("file://") else str(Path.cwd() / name)


def _seen(store: Store, job_id: int) -> Record:
    """No more of a job than is shown while it runs: it is read again and again."""
    row = model.get(store, model.Job, job_id, "job")
    return {
        "id": job_id,
        "state": row.state,
        "progress": row.progress,
        "message": row.message,
        "tasks": records.tasks(store, job=job_id),
    }
