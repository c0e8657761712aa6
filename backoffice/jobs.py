"""What may be done with jobs, queues and workers from outside.

Handlers and the command line call this and nothing deeper. Functions that
take a store run inside ``Database.transact``; each leaves an event with its
actor. Those that take a database act on many jobs, in transactions of their
own. Reading files happens before, in ``prepare``, with no transaction open.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from storm.exceptions import IntegrityError
from storm.locals import Store

from backoffice import events, files, flow, media_types, model, search, workflows
from backoffice.database import (
    Database,
    clock,
    insert_many,
    insert_numbered,
    insert_one,
    is_mysql,
    marks,
    moment,
)
from backoffice.errors import Conflict, Invalid, NotFound
from backoffice.search import Filter
from backoffice.states import (
    ACTIVE,
    BLOCKED,
    CANCELLED,
    DRAINING,
    FAILED,
    JOB_ACTIONS,
    JOB_STATES,
    PAUSED,
    PUBLISHED,
    QUEUED,
    READY,
    RUNNING,
    TASK_ENDED,
    guard,
)
from backoffice.workflows import TaskSpec, Workflow

PRIORITIES = range(101)  # 0 is first
DEFAULT_PRIORITY = 50
COUNTED_BY_WORDS = 1_000  # of those that are searched for, which takes longer
COUNTED = 10_000  # jobs that match a filter; that there are more is said without a number
REFUSALS = 10  # named of those that an action on many is not possible for
_BATCH = 50  # jobs changed in one transaction
LONGEST = {"title": 500, "key": 200, "name": 128, "value": 10_000, "submitter": 255}
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


_Lane = tuple[str, frozenset[str]]  # a queue, and the tags that its tasks ask for


@dataclass(frozen=True)
class Request:
    """A job as somebody asks for it. ``inputs`` are pairs of role and file
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
class Prepared:
    """A request that has been checked and planned."""

    request: Request
    workflow: Workflow
    parameters: Mapping[str, str]
    plan: tuple[TaskSpec, ...]
    inputs: tuple[tuple[str, Path, int], ...]  # role, path, size in bytes
    fingerprint: str
    token: str


@dataclass(frozen=True)
class Submitted:
    """What became of a submission: a new job, or the one that has its key already."""

    job: int
    new: bool
    prepared: Prepared
    submitter: str
    submitted: datetime
    files: Sequence[int] = ()  # ids of the inputs
    # Ids and states of the tasks; none if what moved on since must be read.
    tasks: Sequence[tuple[int, str]] = ()


def prepare(request: Request, catalogue: Mapping[str, Workflow], roots: Sequence[Path]) -> Prepared:
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
    return Prepared(
        request=request,
        workflow=workflow,
        parameters=workflows.settle(workflow, request.parameters),
        plan=workflows.plan(workflow, request.parameters),
        inputs=tuple(inputs),
        fingerprint=_fingerprint(request, inputs),
        token=model.KEY + request.key if request.key else model.ID + uuid.uuid4().hex,
    )


def submit(store: Store, prepared: Prepared, submitter: str, request: str = "") -> tuple[int, bool]:
    """Store the job; returns its id and whether it is new. ``request`` is the id of
    the HTTP request that brought it.

    The same key with the same content gives the job there is; with other
    content it raises Conflict.
    """
    submitted = add(store, prepared, submitter, request)
    return submitted.job, submitted.new


def add(store: Store, prepared: Prepared, submitter: str, request: str = "") -> Submitted:
    """``submit``, for who shows the job at once: ``records.submitted`` needs not read back
    what was just written."""
    hrefs = {files.href(path) for _, path, _ in prepared.inputs}
    there = _there(store, {(task.queue, task.tags) for task in prepared.plan}, hrefs)
    now = there.now
    try:
        job = _insert_job(store, prepared, submitter, request, now)
    except IntegrityError:
        return Submitted(_known(store, prepared), False, prepared, submitter, now)
    inputs = _insert_inputs(store, job, prepared, there)
    _insert_pairs(store, "job_parameter", job, prepared.parameters)
    _insert_pairs(store, "job_metadata", job, prepared.request.metadata)
    tasks = _insert_tasks(store, job, prepared, there)
    settled = _is_settled(prepared, tasks)
    happened = [events.of_job("submitted", job, submitter, prepared.request.title)]
    if not settled:
        happened += _settled(store, job, now)
    events.append(store, now, *happened)
    tasks = tasks if settled else []
    return Submitted(job, True, prepared, submitter, now, inputs, tasks)


def _known(store: Store, prepared: Prepared) -> int:
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


def request_of(store: Store, job_id: int) -> Request:
    """What a job was asked for, for a clone; without its key."""
    job = model.get(store, model.Job, job_id, "job")
    inputs = store.execute(
        "SELECT i.role, f.href FROM job_input i JOIN file f ON f.id = i.file_id"
        " WHERE i.job_id = ? ORDER BY i.position",
        (job_id,),
    ).get_all()
    return Request(
        workflow=job.workflow,
        inputs=inputs,
        title=job.title,
        priority=job.priority,
        parameters=model.pairs(store, "job_parameter", "job_id", job_id),
        metadata=model.pairs(store, "job_metadata", "job_id", job_id),
    )


def cancel(store: Store, job_id: int, actor: str) -> None:
    """Ask for the end of a job: what waits is cancelled now, what runs is told
    to stop. Asking twice changes nothing."""
    whole = _locked(store, job_id)
    guard("cancel", job_id, whole.state)
    if whole.cancelling:
        return
    now = clock(store)
    store.execute("UPDATE job SET cancel_requested = ? WHERE id = ?", (now, job_id))
    store.execute(
        "UPDATE task SET cancel_requested = ? WHERE job_id = ? AND state = 'running'",
        (now, job_id),
    )
    whole.cancelling = True
    asked = events.of_job("cancel-requested", job_id, actor)
    events.append(store, now, asked, *flow.settle(store, whole, now))


def pause(store: Store, job_id: int, actor: str) -> None:
    """Start no more tasks; those that run finish."""
    _change(store, job_id, "pause", PAUSED, actor)


def resume(store: Store, job_id: int, actor: str) -> None:
    _change(store, job_id, "resume", _going(store, job_id), actor)


def retry(store: Store, job_id: int, actor: str) -> None:
    """Run a failed or cancelled job on from where it broke: what succeeded
    stays, what did not starts again with all its attempts."""
    whole = _locked(store, job_id)
    guard("retry", job_id, whole.state)
    again = [step for step in whole.steps if step.state in (FAILED, CANCELLED)]
    store.execute(
        "UPDATE task SET state = 'blocked', failures = 0, losses = 0, progress = 0, message = '',"
        " finished = NULL, cancel_requested = NULL"
        " WHERE job_id = ? AND state IN ('failed', 'cancelled')",
        (job_id,),
    )
    for step in again:
        step.state, step.progress = BLOCKED, 0.0
    state = _going(store, job_id)
    store.execute(
        "UPDATE job SET state = ?, finished = NULL, cancel_requested = NULL, message = ''"
        " WHERE id = ?",
        (state, job_id),
    )
    whole.state, whole.cancelling = state, False
    now = clock(store)
    asked = events.of_job("retried", job_id, actor, ", ".join(step.name for step in again))
    events.append(store, now, asked, *flow.settle(store, whole, now))


def prioritise(store: Store, job_id: int, priority: int, actor: str) -> None:
    """Set the priority (0 first, 100 last) of a job and its waiting tasks."""
    _check_priority(priority)
    whole = _locked(store, job_id)
    guard("priority", job_id, whole.state)
    store.execute("UPDATE job SET priority = ? WHERE id = ?", (priority, job_id))
    store.execute(
        f"UPDATE task SET priority = ? WHERE job_id = ? AND state NOT IN ({marks(TASK_ENDED)})",
        (priority, job_id, *TASK_ENDED),
    )
    events.append(store, clock(store), events.of_job("priority", job_id, actor, str(priority)))


def retraction(publication: Mapping[str, Any]) -> Request:
    """The job that takes a publication (a record) back from its target, for
    ``prepare`` and ``submit``: workers may be the only ones to reach a target.
    Raises Conflict if it was retracted before."""
    if publication["state"] != PUBLISHED:
        raise Conflict(f"publication {publication['id']} is {publication['state']} already")
    return Request(
        workflow="retract",
        title=f"Retract {publication['path']}"[: LONGEST["title"]].strip(),
        parameters={"publication": str(publication["id"])},
    )


# Many jobs at once ----------------------------------------------------------

Selection = Filter | Sequence[int]
Result = dict[str, Any]  # what became of it, as ``schema/result.xsd`` has it


def preview(database: Database, action: str, wanted: Selection) -> Result:
    """How many jobs match and how many of them the action is possible for, and
    why not for some of the others; no more than ``COUNTED`` are counted, or
    ``COUNTED_BY_WORDS``."""
    return database.read(_count, action, wanted)


def apply(
    database: Database, action: str, wanted: Selection, actor: str, value: int | None = None
) -> Result:
    """cancel, pause, resume, retry or priority (``value``) on every job that
    matches now, a few in each transaction. One that cannot be changed does not
    keep the others. Raises Invalid for another action or value."""
    act = _action(action, value)
    result = preview(database, action, wanted) | {"preview": False}
    for batch in _batches(database, action, wanted):
        done, refusals = database.transact(_act_on, act, batch, actor)
        result["done"] += done
        result["refusals"] += refusals
    for name in ("matched", "possible"):
        result[name] = max(result[name], result["done"])
    return result | {"refusals": result["refusals"][:REFUSALS]}


def _action(action: str, value: int | None) -> Callable[[Store, int, str], None]:
    if action == "priority":
        if value is None:
            raise Invalid("say which priority: a value from 0 (first) to 100 (last)")
        _check_priority(value)
        return partial(_prioritise, priority=value)
    known = {"cancel": cancel, "pause": pause, "resume": resume, "retry": retry}
    if action not in known:
        raise Invalid(
            f"{action!r} is no action on many jobs; there are {', '.join(known)}, priority"
        )
    return known[action]


def _prioritise(store: Store, job_id: int, actor: str, priority: int) -> None:
    prioritise(store, job_id, priority, actor)


def _count(store: Store, action: str, wanted: Selection) -> Result:
    most = COUNTED
    if isinstance(wanted, Filter):
        most = COUNTED_BY_WORDS if wanted.text else COUNTED
        matched = len(search.ids(store, wanted, limit=most + 1))
        able = len(_matching(store, wanted, JOB_ACTIONS[action], most + 1))
        unable = _matching(store, wanted, set(JOB_STATES) - JOB_ACTIONS[action], REFUSALS)
    else:
        matched, possible = len(wanted), set(_able(store, action, wanted))
        able = len(possible)
        unable = [job for job in wanted if job not in possible][:REFUSALS]
    states = _states(store, unable)
    return {
        **{"action": action, "preview": True, "done": 0, "more": matched > most},
        **{"matched": min(matched, most), "possible": min(able, most)},
        "refusals": [_refusal(job, _why_not(action, job, states.get(job))) for job in unable],
    }


def _matching(
    store: Store, wanted: Filter, states: Collection[str], limit: int, before: int | None = None
) -> list[int]:
    """Those that match and are in one of these states."""
    asked = set(wanted.states or JOB_STATES) & set(states)
    if not asked:
        return []
    return search.ids(store, replace(wanted, states=tuple(asked)), limit=limit, before=before)


def _able(store: Store, action: str, jobs: Sequence[int]) -> list[int]:
    states = _states(store, jobs)
    return [job for job in jobs if states.get(job) in JOB_ACTIONS[action]]


def _states(store: Store, jobs: Sequence[int]) -> dict[int, str]:
    if not jobs:
        return {}
    rows = store.execute(f"SELECT id, state FROM job WHERE id IN ({marks(jobs)})", jobs)
    return dict(rows.get_all())


def _batches(database: Database, action: str, wanted: Selection) -> Iterator[Sequence[int]]:
    if isinstance(wanted, Filter):
        before: int | None = None
        possible = JOB_ACTIONS[action]
        while page := database.read(_matching, wanted, possible, _BATCH, before):
            yield page
            before = page[-1]
    else:
        able = database.read(_able, action, wanted)
        for start in range(0, len(able), _BATCH):
            yield able[start : start + _BATCH]


def _act_on(
    store: Store, act: Callable[[Store, int, str], None], jobs: Sequence[int], actor: str
) -> tuple[int, list[Result]]:
    """In the order in which all lock jobs. What is refused has changed nothing."""
    done, refusals = 0, []
    for job in sorted(jobs):
        try:
            act(store, job, actor)
            done += 1
        except (Conflict, NotFound) as error:
            refusals.append(_refusal(job, str(error)))
    return done, refusals


def _refusal(job: int, message: str) -> Result:
    return {"job": job, "message": message}


def _why_not(action: str, job: int, state: str | None) -> str:
    if state is None:
        return f"there is no job {job}"
    try:
        guard(action, job, state)
    except Conflict as error:
        return str(error)
    return ""


# Queues, workers and files --------------------------------------------------


def pause_queue(store: Store, name: str, actor: str) -> None:
    """Workers take no more tasks from the queue; those that run finish."""
    _set_queue(store, name, "paused", True, actor, "paused")


def resume_queue(store: Store, name: str, actor: str) -> None:
    _set_queue(store, name, "paused", False, actor, "resumed")


def limit_queue(store: Store, name: str, capacity: int | None, actor: str) -> None:
    """How many tasks of the queue may run at once, over all workers; None: no limit."""
    if capacity is not None and not 0 <= capacity <= 100_000:
        raise Invalid("a limit is a number from 0 to 100000, or none")
    _set_queue(store, name, "capacity", capacity, actor, "limited")


def drain(store: Store, worker_id: int, actor: str) -> None:
    """Let a worker finish what it runs, take nothing new, and stop."""
    worker = model.get(store, model.Worker, worker_id, "worker")
    if worker.state == DRAINING:
        return
    if worker.state != ACTIVE:
        raise Conflict(f"worker {worker_id} is {worker.state}; only an active one can be drained")
    worker.state = DRAINING
    event = events.Event("worker.drained", f"worker {worker_id}", actor=actor)
    events.append(store, clock(store), event)


# Parts ----------------------------------------------------------------------


def register_file(
    store: Store, path: Path, size: int, actor: str, metadata: Mapping[str, str]
) -> tuple[int, bool]:
    """Make a file known that lies under the roots (``files.resolve``); returns
    its id and whether it is new. Metadata is added to what there is, and wins.
    The same once more changes nothing. Raises Invalid."""
    _check_pairs(metadata)
    now = clock(store)
    known = store.find(model.File, href=files.href(path)).one()
    before = None if known is None else (known.size, _metadata(store, known.id))
    file = known_file(store, path, size, now)
    _add_metadata(store, file, metadata)
    if before != (size, _metadata(store, file)):
        action = "file.registered" if before is None else "file.changed"
        event = events.Event(action, f"file {file}", actor=actor, detail=files.href(path))
        events.append(store, now, event)
    return file, before is None


def _metadata(store: Store, file: int) -> dict[str, str]:
    return model.pairs(store, "file_metadata", "file_id", file)


def _add_metadata(store: Store, file: int, metadata: Mapping[str, str]) -> None:
    if metadata:
        store.execute(
            f"DELETE FROM file_metadata WHERE file_id = ? AND name IN ({marks([*metadata])})",
            (file, *metadata),
        )
    rows = [(file, name, value) for name, value in metadata.items()]
    insert_many(store, "file_metadata", ("file_id", "name", "value"), rows)


def _check(request: Request) -> None:
    _check_priority(request.priority)
    _check_length("title", request.title)
    _check_length("key", request.key)
    _check_ends("key", request.key)
    if not 0 <= request.delay <= timedelta(days=3650).total_seconds():
        raise Invalid("a delay is from 0 s to ten years")
    _check_pairs(request.parameters)
    _check_pairs(request.metadata)


def _check_pairs(pairs: Mapping[str, str]) -> None:
    for name, value in pairs.items():
        _check_length("name", name)
        _check_ends("name", name)
        _check_length("value", value)


def _check_priority(priority: int) -> None:
    if priority not in PRIORITIES:
        raise Invalid(f"priority {priority} is not from 0 (first) to 100 (last)")


def _check_length(what: str, text: str) -> None:
    if len(text) > LONGEST[what]:
        raise Invalid(f"a {what} has at most {LONGEST[what]} characters; this has {len(text)}")
    if "\0" in text:
        raise Invalid(f"a {what} cannot hold a NUL character")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise Invalid(f"a {what} is not UTF-8: {text!r}")


def _check_ends(what: str, text: str) -> None:
    """MySQL takes names that differ only in blanks at their end for the same."""
    if text != text.strip():
        raise Invalid(f"a {what} cannot begin or end with a blank: {text!r}")


def _fingerprint(request: Request, inputs: Sequence[tuple[str, Path, int]]) -> str:
    content = vars(request) | {"inputs": [(role, str(path)) for role, path, _ in inputs]}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _insert_job(
    store: Store, prepared: Prepared, submitter: str, request: str, now: datetime
) -> int:
    _check_length("submitter", submitter)
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


def title_of(prepared: Prepared) -> str:
    """What was asked for, else the names of its files."""
    if prepared.request.title:
        return prepared.request.title
    names = ", ".join(path.name for _, path, _ in prepared.inputs)
    return (names or prepared.workflow.title)[: LONGEST["title"]]


def _insert_inputs(store: Store, job: int, prepared: Prepared, there: _There) -> list[int]:
    """The ids of the files."""
    files_there = _register(store, {path: size for _, path, size in prepared.inputs}, there)
    ids = [files_there[path] for _, path, _ in prepared.inputs]
    rows = [
        (job, position, role, file)
        for position, ((role, _, _), file) in enumerate(zip(prepared.inputs, ids, strict=True))
    ]
    insert_many(store, "job_input", ("job_id", "position", "role", "file_id"), rows)
    return ids


def _register(store: Store, sizes: Mapping[Path, int], there: _There) -> dict[Path, int]:
    """The ids of these files, of which those that are new are stored together."""
    ids, new = {}, []
    for path, size in sizes.items():
        if (known := there.files.get(files.href(path))) is None:
            new.append(path)
        else:
            ids[path] = known[0]
            _refresh(store, known, size)
    if new:
        rows = [list(_new_file(path, sizes[path], there.now).values()) for path in new]
        columns = list(_new_file(new[0], 0, there.now))
        ids |= dict(
            zip(new, insert_numbered(store, "file", columns, rows, there.step), strict=True)
        )
    return ids


def known_file(store: Store, path: Path, size: int, now: datetime) -> int:
    """The id of the file at ``path``, registered now if it was not known. What
    was known of a file that has changed its size is forgotten."""
    href = files.href(path)
    known = store.execute("SELECT id, size FROM file WHERE href = ?", (href,)).get_one()
    if known is None:
        file = _new_file(path, size, now)
        return insert_one(store, "file", list(file), list(file.values()))
    _refresh(store, known, size)
    return int(known[0])


def _new_file(path: Path, size: int, now: datetime) -> dict[str, object]:
    return {
        "href": files.href(path),
        "name": path.name[:255],
        "role": "",
        "tree": False,
        "media_type": media_types.of_name(path.name),
        "created": now,
        "size": size,
        "sha256": "",
        "facts": "{}",
        "state": "present",
    }


def _refresh(store: Store, known: tuple[int, int], size: int) -> None:
    """Forget what was known of a file, by id and size, that has another size now."""
    file, before = known
    if before != size:
        store.execute(
            "UPDATE file SET size = ?, sha256 = '', facts = '{}', state = 'present' WHERE id = ?",
            (size, file),
        )


def _insert_pairs(store: Store, table: str, job: int, pairs: Mapping[str, str]) -> None:
    rows = [(job, name, value) for name, value in pairs.items()]
    insert_many(store, table, ("job_id", "name", "value"), rows)


def _insert_tasks(
    store: Store, job: int, prepared: Prepared, there: _There
) -> list[tuple[int, str]]:
    """Ids and states. A task is ready at once if nothing keeps it."""
    rows = [_task_row(job, task, prepared, there) for task in prepared.plan]
    if not rows:
        return []
    ids = insert_numbered(store, "task", _TASK_COLUMNS, rows, there.step)
    return [(number, row[3]) for number, row in zip(ids, rows, strict=True)]


def _task_row(job: int, task: TaskSpec, prepared: Prepared, there: _There) -> tuple[Any, ...]:
    """The values of _TASK_COLUMNS."""
    delay = prepared.request.delay
    is_free = not (task.needs or task.when or task.delay or delay)
    return (
        job,
        task.name,
        task.type,
        READY if is_free else BLOCKED,
        there.lanes[task.queue, task.tags],
        prepared.request.priority,
        task.attempts,
        there.now if is_free else None,
        "",
        model.dump(_spec(task, delay)),
    )


def _is_settled(prepared: Prepared, tasks: Sequence[tuple[int, str]]) -> bool:
    """Whether each task is ready or needs another one. Most jobs begin so, and need
    not be locked and read back."""
    pairs = zip(prepared.plan, tasks, strict=True)
    return bool(tasks) and all(task.needs or state == READY for task, (_, state) in pairs)


def _spec(task: TaskSpec, delay: float) -> dict[str, object]:
    """The job's delay is waited for by its first tasks."""
    return {
        "title": task.title,
        "needs": list(task.needs),
        "inputs": [asdict(one) for one in task.inputs],
        "parameters": dict(task.parameters),
        "when": [asdict(one) for one in task.when],
        "timeout": task.timeout,
        "stall": task.stall,
        "backoff": task.backoff,
        "delay": task.delay + (0 if task.needs else delay),
        "weight": task.weight,
    }


def lane(store: Store, queue: str, tags: frozenset[str]) -> int:
    """The id of the lane for tasks of this queue with these tags."""
    return _there(store, {(queue, tags)}).lanes[queue, tags]


@dataclass(frozen=True)
class _There:
    """What a submission needs of the database: ids of lanes, ids and sizes of files by
    URL, the time, and the step between ids of one INSERT."""

    lanes: Mapping[_Lane, int]
    files: Mapping[str, tuple[int, int]]
    now: datetime
    step: int


def _there(store: Store, lanes: Collection[_Lane], hrefs: Collection[str] = ()) -> _There:
    """In one statement, as each costs a way to the server and back. Lanes that are new
    are made."""
    names = {(queue, " ".join(sorted(tags))): (queue, tags) for queue, tags in lanes}
    now = "UTC_TIMESTAMP(6), '', @@auto_increment_increment" if is_mysql(store) else "NULL, '', 1"
    parts = [f"SELECT 'now', {now}, 0"]
    if names:
        some = " OR ".join(["(queue = ? AND tags = ?)"] * len(names))
        parts.append(f"SELECT 'lane', queue, tags, id, 0 FROM lane WHERE {some}")
    if hrefs:
        some = marks(list(hrefs))
        parts.append(f"SELECT 'file', href, '', id, size FROM file WHERE href IN ({some})")
    values = [*(name for pair in names for name in pair), *hrefs]
    rows = store.execute(" UNION ALL ".join(parts), values).get_all()
    found = {names[one, two]: id for kind, one, two, id, _ in rows if kind == "lane"}
    for name in sorted(names):
        if names[name] not in found:
            found[names[name]] = insert_one(store, "lane", ("queue", "tags"), name)
    files_there = {href: (id, size) for kind, href, _, id, size in rows if kind == "file"}
    at, step = next((at, step) for kind, at, _, step, _ in rows if kind == "now")
    return _There(found, files_there, moment(at) or clock(store), int(step))


def _locked(store: Store, job_id: int) -> flow.Whole:
    whole = flow.lock(store, job_id)
    if whole is None:
        raise NotFound(f"there is no job {job_id}")
    return whole


def _settled(store: Store, job_id: int, now: datetime) -> list[events.Event]:
    return flow.settle(store, _locked(store, job_id), now)


def _going(store: Store, job_id: int) -> str:
    """The state of a job that goes on: queued if none of its tasks has ever run."""
    (started,) = store.execute("SELECT MAX(started) FROM job WHERE id = ?", (job_id,)).get_one()
    return QUEUED if started is None else RUNNING


def _change(store: Store, job_id: int, action: str, state: str, actor: str) -> None:
    whole = _locked(store, job_id)
    guard(action, job_id, whole.state)
    store.execute("UPDATE job SET state = ? WHERE id = ?", (state, job_id))
    whole.state = state
    now = clock(store)
    done = events.of_job(f"{action}d", job_id, actor)
    events.append(store, now, done, *flow.settle(store, whole, now))


def _set_queue(store: Store, name: str, column: str, value: object, actor: str, verb: str) -> None:
    if store.find(model.Lane, queue=name).is_empty():
        raise NotFound(f"there is no queue {name!r}; a queue appears with its first task")
    if store.get(model.Queue, name) is None:
        store.execute("INSERT INTO queue (name) VALUES (?)", (name,))
    store.execute(f"UPDATE queue SET {column} = ? WHERE name = ?", (value, name))
    event = events.Event(f"queue.{verb}", f"queue {name}", actor=actor, detail=str(value))
    events.append(store, clock(store), event)
