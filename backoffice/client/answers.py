"""What a service answers, as frozen dataclasses, and how they are made from JSON.

Their fields are named and ordered as the program's own records are. Times are
aware and in UTC. A key that is unknown here is left out; one that is missing or
null leaves a field as it is by default.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, TypeVar

from backoffice.errors import Invalid

T = TypeVar("T")


@dataclass(frozen=True)
class Input:
    role: str
    file: int
    href: str = ""


@dataclass(frozen=True)
class Output:
    role: str
    file: int
    href: str = ""
    task: str | None = None  # its name
    media_type: str = ""
    size: int | None = None  # bytes
    sha256: str = ""


@dataclass(frozen=True)
class Task:
    """``progress`` is in percent, ``eta`` in seconds."""

    id: int
    job: int
    name: str
    type: str = ""
    state: str = ""
    priority: int = 50
    attempt: int = 0  # the number of the newest
    attempts: int = 1  # how many it may have
    progress: float = 0.0
    speed: str = ""
    eta: float | None = None
    worker: int | None = None
    message: str = ""
    run_at: datetime | None = None
    started: datetime | None = None
    finished: datetime | None = None
    queue: str = ""
    tags: tuple[str, ...] = ()
    host: str | None = None
    title: str = ""
    needs: tuple[str, ...] = ()
    report: Any = None
    reason: str | None = None  # a code of ``states.Reason``


@dataclass(frozen=True)
class Publication:
    id: int
    job: int | None = None
    task: int | None = None
    file: int | None = None
    target: str = ""
    path: str = ""
    href: str = ""
    state: str = ""
    sha256: str = ""
    size: int | None = None  # bytes
    published: datetime | None = None
    retracted: datetime | None = None


@dataclass(frozen=True)
class Job:
    """``progress`` is in percent. Jobs of a list come without ``outputs``,
    ``publications`` and ``tasks``."""

    id: int
    title: str = ""
    state: str = ""
    workflow: str = ""
    version: int = 0
    priority: int = 50
    progress: float = 0.0
    submitter: str = ""
    submitted: datetime | None = None
    started: datetime | None = None
    finished: datetime | None = None
    cancel_requested: datetime | None = None
    message: str = ""
    key: str = ""
    inputs: tuple[Input, ...] = ()
    parameters: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    outputs: tuple[Output, ...] = ()
    publications: tuple[Publication, ...] = ()
    tasks: tuple[Task, ...] = ()


@dataclass(frozen=True)
class Submitted(Job):
    """``new`` is false for a job that was there before, with the same key."""

    new: bool = True


@dataclass(frozen=True)
class Attempt:
    """``argv`` holds its commands; ``peak_memory`` and ``log_size`` are in bytes."""

    id: int
    task: int
    number: int
    worker: int | None = None
    argv: tuple[tuple[str, ...], ...] = ()
    state: str = ""
    host: str = ""
    started: datetime | None = None
    finished: datetime | None = None
    message: str = ""
    ffmpeg: str = ""
    exit_status: int | None = None
    cpu_seconds: float | None = None
    peak_memory: int | None = None
    wall_seconds: float | None = None
    log: str = ""
    log_size: int | None = None
    reason: str | None = None  # a code of ``states.Reason``


@dataclass(frozen=True)
class File:
    """``facts`` is what was found in it; size and digest of a package are those
    of its folder."""

    id: int
    href: str = ""
    name: str = ""
    role: str = ""
    size: int | None = None  # bytes
    sha256: str = ""
    media_type: str = ""
    state: str = ""
    job: int | None = None
    made_by: int | None = None
    created: datetime | None = None
    facts: Any = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Queue:
    """``oldest`` is for how many seconds its first task has been ready."""

    name: str
    paused: bool = False
    limit: int | None = None
    ready: int = 0
    running: int = 0
    oldest: float | None = None


@dataclass(frozen=True)
class Worker:
    """``running`` holds ids of tasks."""

    id: int
    queues: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    host: str = ""
    pid: int = 0
    state: str = ""
    slots: int = 0
    started: datetime | None = None
    heartbeat: datetime | None = None
    version: str = ""
    name: str = ""
    running: tuple[int, ...] = ()


@dataclass(frozen=True)
class Event:
    id: int
    at: datetime
    actor: str = ""
    action: str = ""
    job: int | None = None
    task: int | None = None
    subject: str = ""
    detail: Any = None
    reason: str | None = None  # a code of ``states.Reason``
    host: str | None = None


@dataclass(frozen=True)
class Schedule:
    name: str
    cron: str = ""
    next_run: datetime | None = None
    last_run: datetime | None = None
    last_job: int | None = None
    message: str = ""


@dataclass(frozen=True)
class WorkflowInput:
    role: str
    optional: bool = False
    many: bool = False


@dataclass(frozen=True)
class WorkflowParameter:
    name: str
    type: str = ""
    default: str | None = None
    required: bool = False
    title: str = ""
    description: str = ""
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class WorkflowTask:
    name: str
    type: str = ""
    queue: str = ""
    tags: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    title: str = ""


@dataclass(frozen=True)
class Workflow:
    name: str
    version: int = 0
    title: str = ""
    description: str = ""
    inputs: tuple[WorkflowInput, ...] = ()
    parameters: tuple[WorkflowParameter, ...] = ()
    tasks: tuple[WorkflowTask, ...] = ()


@dataclass(frozen=True)
class Profile:
    name: str
    format: str = ""
    title: str = ""
    description: str = ""


@dataclass(frozen=True)
class PlannedTask:
    """``fails`` says why it would fail, ``skipped`` why it would not run; ``argv`` holds
    its commands."""

    name: str
    type: str = ""
    fails: str = ""
    skipped: str = ""
    notes: tuple[str, ...] = ()
    argv: tuple[tuple[str, ...], ...] = ()
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class JobPlan:
    """What a job would do."""

    workflow: str
    version: int = 0
    tasks: tuple[PlannedTask, ...] = ()


@dataclass(frozen=True)
class Refusal:
    job: int
    message: str = ""


@dataclass(frozen=True)
class Result:
    """What an action on many jobs came to. ``possible`` is for how many of those
    that matched; ``more`` says that counting stopped before the end; of the
    refusals there are the first few."""

    action: str
    preview: bool = False
    matched: int = 0
    possible: int = 0
    done: int = 0
    more: bool = False
    refusals: tuple[Refusal, ...] = ()


@dataclass(frozen=True)
class Filter:
    """Which jobs are meant; what is empty does not matter. ``text`` is words of
    titles, file names and metadata, or a key. Times are aware."""

    states: Sequence[str] = ()
    workflow: str = ""
    submitter: str = ""
    text: str = ""
    submitted_after: datetime | None = None
    submitted_before: datetime | None = None

    def parameters(self) -> dict[str, str]:
        """As the service calls them."""
        values = {
            "state": " ".join(self.states),
            "workflow": self.workflow,
            "submitter": self.submitter,
            "q": self.text,
            "submitted-after": _moment(self.submitted_after),
            "submitted-before": _moment(self.submitted_before),
        }
        return {name: value for name, value in values.items() if value}


EVERYTHING = Filter()


def _moment(value: datetime | None) -> str:
    if value is None:
        return ""
    if value.tzinfo is None:
        raise Invalid(f"{value} has no time zone; give one, such as tzinfo=UTC")
    return f"{value.astimezone(UTC).replace(tzinfo=None).isoformat()}Z"


def build(kind: type[T], data: object) -> T:
    """A dataclass from what JSON has. Raises TypeError or ValueError."""
    if not isinstance(data, dict):
        raise TypeError(f"{kind.__name__} is no object")
    converters = _converters(typing.cast(typing.Hashable, kind))
    known = {
        name: converters[name](value)
        for name, value in data.items()
        if name in converters and value is not None
    }
    return kind(**known)


@cache
def _converters(kind: Any) -> Mapping[str, Callable[[Any], Any]]:
    hints = typing.get_type_hints(kind)
    return {one.name: _converter(hints[one.name]) for one in fields(kind)}


def _converter(hint: Any) -> Callable[[Any], Any]:
    """From what JSON has to what the field's type says."""
    arguments = typing.get_args(hint)
    if isinstance(hint, types.UnionType):
        return _converter(arguments[0])  # None was left out before
    if typing.get_origin(hint) is tuple:
        inner = _converter(arguments[0])
        return lambda values: tuple(inner(one) for one in values)
    if hint is datetime:
        return datetime.fromisoformat
    if isinstance(hint, type) and is_dataclass(hint):
        return lambda value: build(hint, value)
    return lambda value: value
