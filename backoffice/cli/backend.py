"""What commands ask for: one interface with two implementations.

``database_backend`` works on the database of this installation, ``http_backend``
on a service over HTTP. Records are plain dicts, as ``reports`` makes them and
the documents hold them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import IO, Any, Protocol

Record = dict[str, Any]


@dataclass(frozen=True)
class Submission:
    """A job as the command line asks for it. An input without a role takes the first
    role of the workflow; ``delay`` is in seconds."""

    workflow: str
    inputs: Sequence[tuple[str | None, str]] = ()
    title: str = ""
    key: str = ""
    priority: int = 50
    parameters: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0


@dataclass(frozen=True)
class JobFilter:
    """Which jobs are meant; an empty field does not matter. Times are naive UTC."""

    states: Sequence[str] = ()
    workflow: str = ""
    submitter: str = ""
    text: str = ""
    submitted_after: datetime | None = None
    submitted_before: datetime | None = None


EVERY_JOB = JobFilter()


@dataclass(frozen=True)
class Page:
    """Where a list begins and how long it may be: records below the id ``before``."""

    limit: int
    before: int | None = None


class Backend(Protocol):
    # Submitting

    def submit(self, submission: Submission) -> tuple[int, bool]:
        """The job's id, and False for a job that was there with the same key."""

    def clone(self, job: int) -> int: ...

    def plan(self, submission: Submission) -> Record:
        """What the job would do, as the document ``plan`` has it."""

    def follow(self, job: int) -> Iterator[Record]:
        """The job as it is, and again whenever it changes, until it has ended."""

    # Looking

    def jobs(self, wanted: JobFilter, page: Page) -> list[Record]: ...

    def job(self, job: int) -> Record: ...

    def tasks(self, job: int | None, state: str | None, page: Page) -> list[Record]: ...

    def task(self, task: int) -> Record: ...

    def attempts(self, task: int) -> list[Record]: ...

    def log(self, task: int, attempt: int | None) -> IO[str]:
        """The log of the newest attempt, or of the one with this number."""

    def files(self, job: int | None, page: Page) -> list[Record]: ...

    def file(self, file: int) -> Record: ...

    def publications(self, job: int | None, state: str | None, page: Page) -> list[Record]: ...

    def workers(self, states: Sequence[str]) -> list[Record]: ...

    def queues(self) -> list[Record]: ...

    def schedules(self) -> list[Record]: ...

    def events(self, after: int | None, job: int | None, limit: int) -> list[Record]: ...

    def job_reasons(self, job: int) -> Sequence[str]: ...

    def task_reasons(self, task: int) -> Sequence[str]: ...

    # Control

    def act(self, action: str, job: int, value: int | None) -> None:
        """cancel, pause, resume or retry one job, or set its priority to ``value``."""

    def preview(self, action: str, wanted: JobFilter, value: int | None) -> Record:
        """The document ``result``: how many jobs the action would change."""

    def act_on_all(self, action: str, wanted: JobFilter, value: int | None) -> Record:
        """The document ``result``: what became of all jobs that match."""

    def matching(self, wanted: JobFilter, limit: int | None = None) -> Iterable[int]:
        """Ids of the jobs that match, the newest first."""

    def pause_queue(self, name: str) -> None: ...

    def resume_queue(self, name: str) -> None: ...

    def limit_queue(self, name: str, limit: int | None) -> None: ...

    def drain(self, worker: int) -> None: ...
