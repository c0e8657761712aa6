"""Records: rows as dicts of what may be shown, for documents, pages and commands.

Owns which fields of a job, a task, a file … are visible; writes nothing. Lists are
paged by keyset, the newest first where not said otherwise, and need the same few
queries whatever their length. Times are naive UTC.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from storm.expr import SQL, And, Desc, Join, LeftJoin, Select
from storm.locals import Store
from storm.variables import Variable

from backoffice.config.redaction import shown
from backoffice.data import model, search
from backoffice.data.model import Attempt, File, Job, JobInput, Lane, Publication, Task, Worker
from backoffice.data.search import EVERYTHING
from backoffice.data.search import Filter as Filter
from backoffice.data.sql import clock, is_mysql, marks, moment, use_index
from backoffice.engine.submission import Submitted, title_of
from backoffice.engine.workflows import TaskSpec
from backoffice.errors import NotFound
from backoffice.states import ACTIVE, EXPIRED, QUEUED, READY, REVOKED, RUNNING
from backoffice.system.files import href as href_of

Record = dict[str, Any]

_MANY = 10_000  # ids read at a time
_SETTLED = timedelta(seconds=5)  # after which a missing event id will not be committed
_STILLS_FROM = 20  # newest jobs of a file, in which a still of it is looked for


# Jobs -----------------------------------------------------------------------


def job(store: Store, job_id: int) -> Record:
    """A job with all that belongs to it. Raises NotFound."""
    record = timed_job(store, job_id)
    del record["now"]
    return record


def timed_job(store: Store, job_id: int) -> Record:
    """``job`` and the time by the database's clock as ``now``, for what tells how long."""
    found = list(_jobs(store, Job.id == job_id))
    if not found:
        raise NotFound(f"there is no job {job_id}")
    _attach(store, found)
    record = found[0] | {"outputs": [], "publications": [], "tasks": tasks(store, job=job_id)}
    if record["started"] is not None:
        record["outputs"] = _outputs(store, job_id)
        record["publications"] = publications(store, limit=1000, job=job_id)[::-1]
    return record


def jobs(
    store: Store,
    wanted: Filter = EVERYTHING,
    *,
    limit: int,
    before: int | None = None,
    attached: bool = True,
) -> list[Record]:
    """Jobs with ids below ``before``, without tasks and outputs; ``attached`` with their
    inputs, parameters and metadata."""
    ids = search.ids(store, wanted, limit=limit, before=before)
    found = list(_jobs(store, Job.id.is_in(ids))) if ids else []
    if attached:
        _attach(store, found)
    return found


def last_job(
    store: Store, wanted: Filter = EVERYTHING, *, limit: int, before: int | None = None
) -> int | None:
    """The id of the last of so many jobs; None if there are not so many."""
    while page := search.ids(store, wanted, limit=min(limit, _MANY), before=before):
        before, limit = page[-1], limit - len(page)
        if not limit:
            return before
    return None


def submitted(store: Store, made: Submitted) -> Record:
    """What ``job`` gives of a job that was submitted in this transaction; nothing of it
    is read back unless it has moved on."""
    if not made.tasks:
        return job(store, made.job)
    prepared = made.prepared
    request, workflow = prepared.request, prepared.workflow
    given = zip(prepared.inputs, made.files, strict=True)
    planned = zip(made.plan, made.tasks, strict=True)
    return {
        "id": made.job,
        "title": title_of(prepared),
        "state": QUEUED,
        "workflow": workflow.name,
        "version": workflow.version,
        "priority": request.priority,
        "progress": 0.0,
        "submitter": made.submitter,
        "submitted": made.submitted,
        **dict.fromkeys(("started", "finished", "cancel_requested")),
        "message": "",
        "key": request.key,
        "inputs": [
            {"role": role, "file": file, "href": href_of(path)} for (role, path, _), file in given
        ],
        "parameters": {k: shown(v) for k, v in sorted(prepared.parameters.items())},
        "metadata": dict(sorted(request.metadata.items())),
        "outputs": [],
        "publications": [],
        "tasks": [_planned(made, task, number, state) for task, (number, state) in planned],
    }


def _planned(made: Submitted, task: TaskSpec, number: int, state: str) -> Record:
    """A task that has not run, as ``_task`` gives it."""
    never = ("run_at", "started", "finished", "worker", "host", "eta", "reason")
    more = ("cancel_requested", "lease_until")
    return {
        "id": number,
        "job": made.job,
        "name": task.name,
        "type": task.type,
        "state": state,
        "priority": made.prepared.request.priority,
        "attempt": 0,
        "attempts": task.attempts,
        "progress": 0.0,
        "speed": "",
        "message": "",
        "failures": 0,
        "report": {},
        **dict.fromkeys((*never, *more)),
        "ready_at": made.submitted if state == READY else None,
        "title": task.title or task.name,
        "needs": list(task.needs),
        "queue": task.queue,
        "tags": sorted(task.tags),
    }


_JOB = tuple(
    (
        "id title state workflow version priority progress submitter submitted started"
        " finished cancel_requested message"
    ).split()
)


class _Value(SQL):  # type: ignore[misc]
    """An expression that a query may give beside columns."""

    variable_factory = Variable


def _jobs(store: Store, *conditions: Any) -> Iterable[Record]:
    """Each with the time by the database's clock as ``now``."""
    found = store.find(Job, *conditions).order_by(Desc(Job.id))
    now = _Value("UTC_TIMESTAMP(6)" if is_mysql(store) else "NULL")
    for *row, token, at in found.values(*(getattr(Job, name) for name in _JOB), Job.token, now):
        record = dict(zip(_JOB, row, strict=True))
        key = token.removeprefix(model.KEY) if token.startswith(model.KEY) else ""
        progress = _percent(record["progress"])
        yield record | {"key": key, "progress": progress, "now": at or clock(store)}


def _attach(store: Store, records: Sequence[Record]) -> None:
    """Inputs, parameters and metadata, for all of them at once."""
    by_id = {record["id"]: record for record in records}
    for record in records:
        record |= {"inputs": [], "parameters": {}, "metadata": {}}
    for kind, owner, _, name, file, text in _attachments(store, list(by_id)):
        record = by_id[owner]
        if kind == "input":
            record["inputs"].append({"role": name, "file": file, "href": text})
        elif kind == "parameter":
            record["parameters"][name] = shown(text)
        else:
            record["metadata"][name] = text


def _attachments(store: Store, ids: Sequence[int]) -> list[tuple[Any, ...]]:
    """Kind, job, position, role or name, file, and URL or value; a job's in their order."""
    if not ids:
        return []
    some = marks(ids)
    rows: list[tuple[Any, ...]] = store.execute(
        "SELECT 'input', i.job_id, i.position, i.role, f.id, f.href"
        f" FROM job_input i JOIN file f ON f.id = i.file_id WHERE i.job_id IN ({some})"
        " UNION ALL SELECT 'parameter', job_id, 0, name, 0, value"
        f" FROM job_parameter WHERE job_id IN ({some})"
        " UNION ALL SELECT 'metadata', job_id, 0, name, 0, value"
        f" FROM job_metadata WHERE job_id IN ({some})",
        [*ids, *ids, *ids],
    ).get_all()
    return sorted(rows)


def _outputs(store: Store, job_id: int) -> list[Record]:
    rows = (
        store.using(File, LeftJoin(Task, Task.id == File.task_id))
        .find(File, File.job_id == job_id)
        .order_by(File.id)
        .values(File.role, File.id, File.href, Task.name, File.media_type, File.size, File.sha256)
    )
    names = ("role", "file", "href", "task", "media_type", "size", "sha256")
    return [dict(zip(names, row, strict=True)) for row in rows]


def _pairs(
    store: Store, table: str, column: str, ids: Sequence[int]
) -> dict[int, Mapping[str, str]]:
    """Names and values of many owners. Table and column are constants."""
    if not ids:
        return {}
    rows = store.execute(
        f"SELECT {column}, name, value FROM {table} WHERE {column} IN ({marks(ids)})"
        f" ORDER BY {column}, name",
        ids,
    ).get_all()
    by_owner: dict[int, dict[str, str]] = {}
    for owner, name, value in rows:
        by_owner.setdefault(owner, {})[name] = value
    return {**by_owner}


# Tasks and attempts ---------------------------------------------------------


def task(store: Store, task_id: int) -> Record:
    """Raises NotFound."""
    records = _tasks(store, Task.id == task_id)
    if not records:
        raise NotFound(f"there is no task {task_id}")
    return records[0]


def tasks(
    store: Store,
    *,
    job: int | None = None,
    state: str | None = None,
    limit: int | None = None,
    before: int | None = None,
) -> list[Record]:
    """Tasks of a job in the order of its plan; of all jobs, the newest first."""
    conditions = []
    if job is not None:
        conditions.append(Task.job_id == job)
    if state is not None:
        conditions.append(Task.state == state)
    if before is not None:
        conditions.append(Task.id < before)
    return _tasks(store, *conditions, limit=limit, newest_first=job is None)


def attempts(store: Store, task_id: int) -> list[Record]:
    """All attempts of a task, the first one first."""
    model.get(store, Task, task_id, "task")
    return _attempts(store, Attempt.task_id == task_id)


def attempt_with_log(store: Store, task_id: int, number: int | None) -> Record:
    """The newest attempt of a task, or the one with this number, which wrote a log.

    Raises NotFound without such an attempt, or without its log.
    """
    matching = [
        attempt for attempt in attempts(store, task_id) if number in (None, attempt["number"])
    ]
    if not matching:
        which = f"no attempt {number}" if number else "no attempt yet"
        raise NotFound(f"task {task_id} has had {which}")
    chosen = matching[-1]
    if not chosen["log"]:
        raise NotFound(f"attempt {chosen['number']} of task {task_id} wrote no log")
    return chosen


def job_attempts(store: Store, job_id: int) -> list[Record]:
    """All attempts of all tasks of a job, task by task."""
    return _attempts(store, Attempt.task_id.is_in(Select(Task.id, Task.job_id == job_id)))


_ATTEMPT = tuple(
    (
        "number state reason host started finished message ffmpeg id exit_status"
        " cpu_seconds peak_memory wall_seconds log log_size"
    ).split()
)


def _attempts(store: Store, condition: Any) -> list[Record]:
    rows = (
        store.find(Attempt, condition)
        .order_by(Attempt.task_id, Attempt.number)
        .values(
            Attempt.task_id,
            Attempt.worker_id,
            Attempt.commands_json,
            Attempt.report_json,
            *(getattr(Attempt, name) for name in _ATTEMPT),
        )
    )
    return [
        {
            "task": task,
            "worker": worker,
            "argv": json.loads(commands),
            "report": json.loads(report),
            **_with_reason(dict(zip(_ATTEMPT, row, strict=True))),
        }
        for task, worker, commands, report, *row in rows
    ]


def _with_reason(record: Record) -> Record:
    """Its code, or None where there is none."""
    return record | {"reason": record["reason"] or None}


_TASK = {
    "id": Task.id,
    "job": Task.job_id,
    "name": Task.name,
    "type": Task.type,
    "state": Task.state,
    "priority": Task.priority,
    "attempt": Task.attempt,
    "attempts": Task.max_attempts,
    "progress": Task.progress,
    "speed": Task.speed,
    "eta": Task.eta,
    "worker": Task.worker_id,
    "message": Task.message,
    "reason": Task.reason,
    "run_at": Task.run_at,
    "started": Task.started,
    "finished": Task.finished,
    "ready_at": Task.ready_at,
    "failures": Task.failures,
    "cancel_requested": Task.cancel_requested,
    "lease_until": Task.lease_until,
    "spec": Task.spec_json,
    "queue": Lane.queue,
    "tags": Lane.tags,
    "host": Attempt.host,
    "report": Attempt.report_json,
}


def _tasks(
    store: Store, *conditions: Any, limit: int | None = None, newest_first: bool = False
) -> list[Record]:
    order = Desc(Task.id) if newest_first else Task.id
    if limit is not None:
        # Chosen first: over the join MySQL would sort every task there is.
        chosen = store.find(Task, *conditions).order_by(order).config(limit=limit)
        conditions = (Task.id.is_in(list(chosen.values(Task.id))),)
    newest = And(Attempt.task_id == Task.id, Attempt.number == Task.attempt)
    rows = (
        store.using(Task, Join(Lane, Lane.id == Task.lane_id), LeftJoin(Attempt, newest))
        .find(Task, *conditions)
        .order_by(order)
        .values(*_TASK.values())
    )
    return [_task(dict(zip(_TASK, row, strict=True))) for row in rows]


def _task(record: Record) -> Record:
    spec = json.loads(record.pop("spec"))
    report = record.pop("report")
    running = record["state"] == RUNNING
    return _with_reason(record) | {
        "title": spec["title"] or record["name"],
        "needs": list(spec["needs"]),
        "tags": record["tags"].split(),
        "progress": _percent(record["progress"]),
        "speed": record["speed"] if running else "",
        "eta": record["eta"] if running else None,
        "host": record["host"] if record["worker"] else None,
        "report": json.loads(report) if report else {},
    }


def _percent(value: float) -> float:
    return round(min(100.0, max(0.0, value)), 1)


# Files and publications -----------------------------------------------------

_FILE = {
    "id": File.id,
    "href": File.href,
    "name": File.name,
    "role": File.role,
    "size": File.size,
    "sha256": File.sha256,
    "media_type": File.media_type,
    "state": File.state,
    "job": File.job_id,
    "made_by": File.task_id,
    "created": File.created,
    "facts": File.facts_json,
}


def file(store: Store, file_id: int) -> Record:
    """Raises NotFound."""
    records = _files(store, File.id == file_id)
    if not records:
        raise NotFound(f"there is no file {file_id}")
    return records[0]


def files(
    store: Store,
    *,
    limit: int,
    before: int | None = None,
    job: int | None = None,
    text: str = "",
) -> list[Record]:
    """Files of all jobs, or the outputs of one; with ``text`` those whose names
    have words that begin so."""
    if text:
        ids = search.file_ids(store, text, limit=limit, before=before, job=job)
        return _files(store, File.id.is_in(ids)) if ids else []
    conditions = []
    if before is not None:
        conditions.append(File.id < before)
    if job is not None:
        conditions.append(File.job_id == job)
    return _files(store, *conditions, limit=limit)


def _files(store: Store, *conditions: Any, limit: int | None = None) -> list[Record]:
    rows = store.find(File, *conditions).order_by(Desc(File.id)).config(limit=limit)
    records = [dict(zip(_FILE, row, strict=True)) for row in rows.values(*_FILE.values())]
    metadata = _pairs(store, "file_metadata", "file_id", [record["id"] for record in records])
    for record in records:
        record["facts"] = json.loads(record["facts"])
        record["metadata"] = metadata.get(record["id"], {})
    return records


def still_of(store: Store, file: File) -> File | None:
    """The newest still that a job made of a file, or of what it was made from."""
    if file.job_id is not None:
        made_by = [file.job_id]
    else:
        inputs = store.find(JobInput, file_id=file.id).order_by(Desc(JobInput.job_id))
        made_by = list(inputs.config(limit=_STILLS_FROM).values(JobInput.job_id))
    stills = store.find(File, File.job_id.is_in(made_by), role="thumbnail")
    newest: File | None = stills.order_by(Desc(File.id)).first() if made_by else None
    return newest


_PUBLICATION = {
    "id": Publication.id,
    "job": Publication.job_id,
    "task": Publication.task_id,
    "file": Publication.file_id,
    "target": Publication.target,
    "path": Publication.path,
    "href": Publication.href,
    "state": Publication.state,
    "sha256": Publication.sha256,
    "size": Publication.size,
    "published": Publication.published,
    "retracted": Publication.retracted,
}


def publication(store: Store, publication_id: int) -> Record:
    """Raises NotFound."""
    records = _publications(store, Publication.id == publication_id)
    if not records:
        raise NotFound(f"there is no publication {publication_id}")
    return records[0]


def publications(
    store: Store,
    *,
    limit: int,
    before: int | None = None,
    job: int | None = None,
    state: str | None = None,
) -> list[Record]:
    conditions = []
    if before is not None:
        conditions.append(Publication.id < before)
    if job is not None:
        conditions.append(Publication.job_id == job)
    if state is not None:
        conditions.append(Publication.state == state)
    return _publications(store, *conditions, limit=limit)


def _publications(store: Store, *conditions: Any, limit: int | None = None) -> list[Record]:
    query = store.find(Publication, *conditions).order_by(Desc(Publication.id)).config(limit=limit)
    rows = query.values(*_PUBLICATION.values())
    return [dict(zip(_PUBLICATION, row, strict=True)) for row in rows]


# Workers, queues, schedules and the history ---------------------------------


def worker(store: Store, worker_id: int) -> Record:
    """Raises NotFound."""
    records = _workers(store, Worker.id == worker_id)
    if not records:
        raise NotFound(f"there is no worker {worker_id}")
    return records[0]


def workers(store: Store, *, states: Collection[str] = (), limit: int = 1000) -> list[Record]:
    """Workers and the ids of the tasks they run."""
    conditions = [Worker.state.is_in(sorted(states))] if states else []
    return _workers(store, *conditions, limit=limit)


def _workers(store: Store, *conditions: Any, limit: int | None = None) -> list[Record]:
    names = ("id", "host", "pid", "state", "slots", "started", "heartbeat", "version")
    rows = (
        store.find(Worker, *conditions)
        .order_by(Desc(Worker.id))
        .config(limit=limit)
        .values(Worker.queues, Worker.tags, *(getattr(Worker, name) for name in names))
    )
    records = [
        {"queues": queues.split(), "tags": tags.split(), **dict(zip(names, row, strict=True))}
        for queues, tags, *row in rows
    ]
    running: dict[int, list[int]] = {}
    held = store.execute(f"SELECT worker_id, id FROM task WHERE state = '{RUNNING}' ORDER BY id")
    for owner, task in held.get_all():
        running.setdefault(owner, []).append(task)
    for record in records:
        record["name"] = f"{record['host']}:{record['pid']}"
        record["running"] = running.get(record["id"], [])
    return records


def worker_counts(store: Store) -> dict[str, int]:
    """How many workers there are in each state that any is in."""
    return dict(store.execute("SELECT state, COUNT(*) FROM worker GROUP BY state").get_all())


def schedules(store: Store) -> list[Record]:
    """The schedules as the scheduler knows them, by name."""
    rows = store.execute(
        "SELECT name, cron, next_run, last_run, last_job, message FROM schedule ORDER BY name"
    ).get_all()
    return [
        {
            "name": name,
            "cron": cron,
            "next_run": moment(coming),
            "last_run": moment(last),
            "last_job": last_job,
            "message": message,
        }
        for name, cron, coming, last, last_job, message in rows
    ]


def tokens(store: Store) -> list[Record]:
    """API tokens, the newest first, also those that are no longer good."""
    names = ("id", "name", "role", "created", "created_by", "expires", "revoked", "last_used")
    rows = store.execute(f"SELECT {', '.join(names)} FROM token ORDER BY id DESC").get_all()
    now = clock(store)
    records = []
    for row in rows:
        record = dict(zip(names, row, strict=True))
        record |= {name: moment(record[name]) for name in (*names[5:], "created")}
        records.append(record | {"state": _token_state(record, now)})
    return records


def _token_state(record: Record, now: datetime) -> str:
    if record["revoked"] is not None:
        return REVOKED
    return EXPIRED if record["expires"] is not None and record["expires"] <= now else ACTIVE


_EVENT = tuple("id at actor action subject job_id task_id detail reason host".split())


def events(
    store: Store,
    *,
    after: int | None = None,
    before: int | None = None,
    limit: int,
    job: int | None = None,
    actor: str | None = None,
    action: str | None = None,
    subject: str | None = None,
) -> list[Record]:
    """The history after an event, oldest first; without ``after`` its end, or
    that of what was before an event.

    Nothing that is committed later comes before what was given out here: what
    lies behind an id that may still be coming waits until that is settled.
    """
    given = {"job_id": job, "actor": actor, "action": action, "subject": subject}
    filters = {column: value for column, value in given.items() if value not in (None, "")}
    where = ["id > ?", "id <= ?", *(f"{column} = ?" for column in filters)]
    newest = newest_event(store)
    last = newest if before is None else min(newest, before - 1)
    values = [after or 0, last, *filters.values()]
    if subject and job is None:
        owner = _job_of(store, subject)
        where.append("job_id IS NULL" if owner is None else f"job_id = {owner:d}")
    index = use_index(store, _EVENT_INDEXES[next(iter(filters))]) if len(filters) == 1 else ""
    order = "DESC" if after is None else "ASC"
    rows = store.execute(
        f"SELECT {', '.join(_EVENT)} FROM event{index} WHERE {' AND '.join(where)}"
        f" ORDER BY id {order} LIMIT ?",
        (*values, limit),
    ).get_all()
    return [_event(row) for row in (rows if after is not None else rows[::-1])]


def job_events(store: Store, job: int, *, limit: int) -> list[Record]:
    """The newest events of a job, the newest first. They are all shown anew each time,
    so one that is committed late is not missed."""
    rows = store.execute(
        f"SELECT {', '.join(_EVENT)} FROM event{use_index(store, 'event_job')}"
        " WHERE job_id = ? ORDER BY id DESC LIMIT ?",
        (job, limit),
    ).get_all()
    return [_event(row) for row in rows]


# A subject has no index of its own: its job has one.
_EVENT_INDEXES = {
    "job_id": "event_job",
    "subject": "event_job",
    "actor": "event_actor",
    "action": "event_action",
}


def _event(row: Sequence[Any]) -> Record:
    record = dict(zip(_EVENT, row, strict=True))
    record["at"] = moment(record["at"])
    record |= {"job": record.pop("job_id"), "task": record.pop("task_id")}
    return _with_reason(record) | {"host": record["host"] or None}


def _job_of(store: Store, subject: str) -> int | None:
    """The job that events on this subject belong to; once it has been pruned,
    what is told of it belongs to none."""
    asked = {
        "job": "SELECT id FROM job WHERE id = ?",
        "task": "SELECT job_id FROM task WHERE id = ?",
    }
    kind, _, number = subject.partition(" ")
    if kind not in asked or not re.fullmatch("[0-9]{1,18}", number):
        return None
    row = store.execute(asked[kind], (int(number),)).get_one()
    return row[0] if row else None


def last_event(store: Store) -> int:
    """The highest id; those below it may still be about to be committed."""
    (last,) = store.execute("SELECT MAX(id) FROM event").get_one()
    return int(last or 0)


def newest_event(store: Store) -> int:
    """The last event that is given out so far; 0 if there is none.

    Ids are given out before they are committed. Where one is missing, it may
    still be coming, until the event after it is ``_SETTLED`` old.
    """
    if not is_mysql(store):  # one writer at a time: they come in order
        return int(store.execute("SELECT MAX(id) FROM event").get_one()[0] or 0)
    settled = clock(store) - _SETTLED
    known = _without_gap(store, settled)
    return _up_to_a_gap(store, settled) if known is None else known


def _without_gap(store: Store, settled: datetime) -> int | None:
    """The last event, if none is missing since the last settled one: as it mostly
    is, and counted by the server."""
    anchor = store.execute(
        "SELECT id FROM event WHERE at <= ? ORDER BY id DESC LIMIT 1", (settled,)
    ).get_one()
    first = int(anchor[0]) if anchor else 0
    last, count = store.execute(
        "SELECT MAX(id), COUNT(*) FROM event WHERE id > ?", (first,)
    ).get_one()
    return first + int(count) if not count or last - first == count else None


def _up_to_a_gap(store: Store, settled: datetime) -> int:
    rows = _newest_events(store, settled)
    known = rows[-1][0]
    for event, is_settled in reversed(rows[:-1]):
        if event != known + 1 and not is_settled:
            break
        known = event
    return known


def _newest_events(store: Store, settled: datetime) -> list[tuple[int, bool]]:
    """Ids, the highest first, and whether each is settled; the last one is. What
    came before the first event of all is."""
    events: list[tuple[int, bool]] = []
    below, size = (1 << 63) - 1, 100
    while not events or not events[-1][1]:
        rows = store.execute(
            "SELECT id, at FROM event WHERE id < ? ORDER BY id DESC LIMIT ?", (below, size)
        ).get_all()
        events += [(event, (moment(at) or settled) <= settled) for event, at in rows]
        if len(rows) < size:
            events.append((0, True))
        below, size = events[-1][0], _MANY
    return events
