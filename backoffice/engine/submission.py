"""Submission: a request is checked and planned, and becomes a job with its tasks.

Files are read in ``prepare``, with no transaction open. ``submit`` runs inside
``Database.transact``.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from storm.exceptions import IntegrityError
from storm.locals import Store

from backoffice.data import events, model
from backoffice.data.sql import (
    clock,
    insert_many,
    insert_numbered,
    insert_one,
    is_mysql,
    marks,
    moment,
)
from backoffice.engine import claims, file_registry, transitions, variants, workflows
from backoffice.engine.field_limits import (
    DEFAULT_PRIORITY,
    LONGEST,
    check_ends,
    check_length,
    check_pairs,
    check_priority,
)
from backoffice.engine.workflows import TaskSpec, Workflow
from backoffice.errors import Conflict, Invalid, NotFound
from backoffice.states import ACTIVE, BLOCKED, PUBLISHED, QUEUED, READY
from backoffice.system import files

_TASK_COLUMNS = (
    "job_id",
    "name",
    "type",
    "state",
    "lane_id",
    "priority",
    "max_attempts",
    "ready_at",
    "message",
    "spec",
)
_LaneName = tuple[str, frozenset[str]]  # a queue, and the tags that its tasks ask for


@dataclass(frozen=True)
class JobRequest:
    """A job as a user or a program asks for it. ``inputs`` are pairs of role and file
    (absolute path or file: URL). ``delay`` is in seconds."""

    workflow: str
    inputs: Sequence[tuple[str, str]] = ()
    title: str = ""
    key: str = ""
    priority: int = DEFAULT_PRIORITY
    parameters: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0


@dataclass(frozen=True)
class PreparedJob:
    """A request that has been checked and planned."""

    request: JobRequest
    workflow: Workflow
    parameters: Mapping[str, str]
    plan: tuple[TaskSpec, ...]
    inputs: tuple[tuple[str, Path, int], ...]  # role, path, size in bytes
    fingerprint: str
    token: str


@dataclass(frozen=True)
class Submitted:
    """What became of a submission: a new job, or the job that has its key already."""

    job: int
    new: bool
    prepared: PreparedJob
    plan: Sequence[TaskSpec]  # the tasks that were inserted
    submitter: str
    submitted: datetime
    files: Sequence[int] = ()  # ids of the inputs
    # Ids and states of the tasks; empty if the job has moved on and must be read.
    tasks: Sequence[tuple[int, str]] = ()


def prepare(
    request: JobRequest, catalogue: Mapping[str, Workflow], roots: Sequence[Path]
) -> PreparedJob:
    """Check everything about a request that needs no database.

    Raises NotFound for an unknown workflow, Invalid for anything else that
    is wrong with it.
    """
    workflow = catalogue.get(request.workflow)
    if workflow is None:
        names = ", ".join(sorted(catalogue)) or "none"
        raise NotFound(f"there is no workflow {request.workflow!r}; there are: {names}")
    _check(request)
    workflows.check_inputs(workflow, [role for role, _ in request.inputs])
    inputs = []
    for role, name in request.inputs:
        path = files.resolve(name, roots)
        inputs.append((role, path, path.stat().st_size))
    return PreparedJob(
        request=request,
        workflow=workflow,
        parameters=workflows.resolve_parameters(workflow, request.parameters),
        plan=workflows.plan(workflow, request.parameters),
        inputs=tuple(inputs),
        fingerprint=_fingerprint(request, inputs),
        token=model.KEY + request.key if request.key else model.ID + uuid.uuid4().hex,
    )


def _check(request: JobRequest) -> None:
    check_priority(request.priority)
    check_length("title", request.title)
    check_length("key", request.key)
    check_ends("key", request.key)
    if not 0 <= request.delay <= timedelta(days=3650).total_seconds():
        raise Invalid("a delay is from 0 s to ten years")
    check_pairs(request.parameters)
    check_pairs(request.metadata)


def _fingerprint(request: JobRequest, inputs: Sequence[tuple[str, Path, int]]) -> str:
    content = vars(request) | {"inputs": [(role, str(path)) for role, path, _ in inputs]}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def submit(
    store: Store, prepared: PreparedJob, submitter: str, request: str = ""
) -> tuple[int, bool]:
    """Store the job; returns its id and whether it is new. ``request`` is the id of
    the HTTP request that brought it.

    The same key with the same content gives the job there is; with other
    content it raises Conflict.
    """
    submitted = add(store, prepared, submitter, request)
    return submitted.job, submitted.new


def add(store: Store, prepared: PreparedJob, submitter: str, request: str = "") -> Submitted:
    """Like ``submit``; the result is enough for ``records.submitted`` to show the job
    without reading back what was just written."""
    plan = _planned(store, prepared.plan)
    hrefs = {files.href(path) for _, path, _ in prepared.inputs}
    known = _look_up(store, {(task.queue, task.tags) for task in plan}, hrefs)
    now = known.now
    try:
        job = _insert_job(store, prepared, submitter, request, now)
    except IntegrityError:
        return Submitted(_known(store, prepared), False, prepared, plan, submitter, now)
    inputs = _insert_inputs(store, job, prepared, known)
    _insert_pairs(store, "job_parameter", job, prepared.parameters)
    _insert_pairs(store, "job_metadata", job, prepared.request.metadata)
    tasks = _insert_tasks(store, job, prepared, plan, known)
    happened = [events.of_job("submitted", job, submitter, prepared.request.title)]
    if not _is_settled(plan, tasks):
        happened += _advance(store, job, now)
        tasks = []
    events.append(store, now, *happened)
    return Submitted(job, True, prepared, plan, submitter, now, inputs, tasks)


def _advance(store: Store, job: int, now: datetime) -> list[events.Event]:
    locked = transitions.lock(store, job)
    assert locked is not None  # it was inserted in this transaction
    return transitions.advance(store, locked, now)


def _known(store: Store, prepared: PreparedJob) -> int:
    """The id of the job that has the token already."""
    job, fingerprint = store.execute(
        "SELECT id, fingerprint FROM job WHERE token = ?", (prepared.token,)
    ).get_one()
    if fingerprint != prepared.fingerprint:
        raise Conflict(
            f"key {prepared.request.key!r} belongs to job {job}, which is different;"
            " choose another key"
        )
    return int(job)


def _insert_job(
    store: Store, prepared: PreparedJob, submitter: str, request: str, now: datetime
) -> int:
    check_length("submitter", submitter)
    job = {
        "token": prepared.token,
        "fingerprint": prepared.fingerprint,
        "title": title_of(prepared),
        "workflow": prepared.workflow.name,
        "version": prepared.workflow.version,
        "state": QUEUED,
        "priority": prepared.request.priority,
        "submitter": submitter,
        "request": request,
        "submitted": now,
        "message": "",
    }
    return insert_one(store, "job", list(job), list(job.values()))


def title_of(prepared: PreparedJob) -> str:
    """The requested title, else the names of the files."""
    if prepared.request.title:
        return prepared.request.title
    names = ", ".join(path.name for _, path, _ in prepared.inputs)
    return (names or prepared.workflow.title)[: LONGEST["title"]]


def _insert_inputs(store: Store, job: int, prepared: PreparedJob, known: _Known) -> list[int]:
    """The ids of the files."""
    sizes = {path: size for _, path, size in prepared.inputs}
    by_path = file_registry.find_or_add_all(store, sizes, known.files, known.now, known.step)
    ids = [by_path[path] for _, path, _ in prepared.inputs]
    rows = [
        (job, position, role, file)
        for position, ((role, _, _), file) in enumerate(zip(prepared.inputs, ids, strict=True))
    ]
    insert_many(store, "job_input", ("job_id", "position", "role", "file_id"), rows)
    return ids


def _insert_pairs(store: Store, table: str, job: int, pairs: Mapping[str, str]) -> None:
    rows = [(job, name, value) for name, value in pairs.items()]
    insert_many(store, table, ("job_id", "name", "value"), rows)


def _planned(store: Store, plan: Sequence[TaskSpec]) -> tuple[TaskSpec, ...]:
    """Several hosts share the variants of a task; a single host makes them in one run,
    which decodes the source once."""
    with_variants = [task for task in plan if task.variants]
    if not with_variants:
        return tuple(plan)
    workers = store.execute(
        "SELECT host, queues, tags FROM worker WHERE state = ?", (ACTIVE,)
    ).get_all()
    shared = [task.name for task in with_variants if len(_hosts(workers, task)) > 1]
    return variants.apart(plan, shared)


def _hosts(workers: Sequence[tuple[str, str, str]], task: TaskSpec) -> set[str]:
    """The hosts of the workers, given by host, queues and tags, that may claim the task."""
    return {
        host
        for host, queues, tags in workers
        if claims.serves(queues.split(), task.queue) and task.tags <= set(tags.split())
    }


def _insert_tasks(
    store: Store, job: int, prepared: PreparedJob, plan: Sequence[TaskSpec], known: _Known
) -> list[tuple[int, str]]:
    """The ids and states of the tasks."""
    rows = [_task_row(job, task, prepared, known) for task in plan]
    if not rows:
        return []
    ids = insert_numbered(store, "task", _TASK_COLUMNS, rows, known.step)
    return [(number, row[3]) for number, row in zip(ids, rows, strict=True)]


def _task_row(job: int, task: TaskSpec, prepared: PreparedJob, known: _Known) -> tuple[Any, ...]:
    """The values of _TASK_COLUMNS."""
    delay = prepared.request.delay
    is_free = _is_free(task, delay)
    return (
        job,
        task.name,
        task.type,
        READY if is_free else BLOCKED,
        known.lanes[task.queue, task.tags],
        prepared.request.priority,
        task.attempts,
        known.now if is_free else None,
        "",
        model.dump(_spec(task, delay)),
    )


def _is_settled(plan: Sequence[TaskSpec], tasks: Sequence[tuple[int, str]]) -> bool:
    """True if each task is ready or needs another one: then the job need not be
    locked and read back to advance it. Most jobs begin so."""
    pairs = zip(plan, tasks, strict=True)
    return bool(tasks) and all(task.needs or state == READY for task, (_, state) in pairs)


def _is_free(task: TaskSpec, delay: float) -> bool:
    """True if the task can begin at once, and nothing must be known first."""
    return not (task.needs or task.when or task.variants or task.delay or delay)


def _spec(task: TaskSpec, delay: float) -> dict[str, object]:
    """The first tasks wait for the job's delay."""
    spec: dict[str, object] = {
        "title": task.title,
        "needs": list(task.needs),
        "inputs": [asdict(source) for source in task.inputs],
        "parameters": dict(task.parameters),
        "when": [asdict(condition) for condition in task.when],
        "variants": [],
        "timeout": task.timeout,
        "stall": task.stall,
        "backoff": task.backoff,
        "delay": task.delay + (0 if task.needs else delay),
        "weight": task.weight,
    }
    return variants.narrowed(spec, task.variants) if task.variants else spec


def lane(store: Store, queue: str, tags: frozenset[str]) -> int:
    """The id of the lane for tasks of this queue with these tags."""
    return _look_up(store, {(queue, tags)}).lanes[queue, tags]


@dataclass(frozen=True)
class _Known:
    """What a submission must know of the database: ids of lanes, ids and sizes of files
    by URL, the time, and the step between the ids of one INSERT."""

    lanes: Mapping[_LaneName, int]
    files: Mapping[str, tuple[int, int]]
    now: datetime
    step: int


def _look_up(store: Store, lanes: Collection[_LaneName], hrefs: Collection[str] = ()) -> _Known:
    """One statement for all of it, because each costs a round trip. New lanes are
    inserted."""
    names = {(queue, " ".join(sorted(tags))): (queue, tags) for queue, tags in lanes}
    now = "UTC_TIMESTAMP(6), '', @@auto_increment_increment" if is_mysql(store) else "NULL, '', 1"
    parts = [f"SELECT 'now', {now}, 0"]
    if names:
        pairs = " OR ".join(["(queue = ? AND tags = ?)"] * len(names))
        parts.append(f"SELECT 'lane', queue, tags, id, 0 FROM lane WHERE {pairs}")
    if hrefs:
        urls = marks(list(hrefs))
        parts.append(f"SELECT 'file', href, '', id, size FROM file WHERE href IN ({urls})")
    values = [*(name for pair in names for name in pair), *hrefs]
    rows = store.execute(" UNION ALL ".join(parts), values).get_all()
    ids = {names[queue, tags]: id for kind, queue, tags, id, _ in rows if kind == "lane"}
    for name in sorted(names):
        if names[name] not in ids:
            ids[names[name]] = insert_one(store, "lane", ("queue", "tags"), name)
    known_files = {href: (id, size) for kind, href, _, id, size in rows if kind == "file"}
    at, step = next((at, step) for kind, at, _, step, _ in rows if kind == "now")
    return _Known(ids, known_files, moment(at) or clock(store), int(step))


def request_of(store: Store, job_id: int) -> JobRequest:
    """The request that a job was made from, for a clone; without its key."""
    job = model.get(store, model.Job, job_id, "job")
    inputs = store.execute(
        "SELECT i.role, f.href FROM job_input i JOIN file f ON f.id = i.file_id"
        " WHERE i.job_id = ? ORDER BY i.position",
        (job_id,),
    ).get_all()
    return JobRequest(
        workflow=job.workflow,
        inputs=inputs,
        title=job.title,
        priority=job.priority,
        parameters=model.pairs(store, "job_parameter", "job_id", job_id),
        metadata=model.pairs(store, "job_metadata", "job_id", job_id),
    )


def retraction(publication: Mapping[str, Any]) -> JobRequest:
    """The request for a job that retracts a publication (a record). A job does it
    because a target may be reachable from workers alone. Raises Conflict if it was
    retracted before."""
    if publication["state"] != PUBLISHED:
        raise Conflict(f"publication {publication['id']} is {publication['state']} already")
    return JobRequest(
        workflow="retract",
        title=f"Retract {publication['path']}"[: LONGEST["title"]].strip(),
        parameters={"publication": str(publication["id"])},
    )
