"""Claiming tasks and everything a worker reports about them, all of it fenced.

A claim gives a worker a task under a lease: task, attempt number and worker
together are a :class:`Held`. Every later statement names all three and counts
rows; none matched means that the task has been given to somebody else, and
nothing is changed. Functions get the store and the database's time, and never
commit: the worker's loop decides what belongs together.
"""

from __future__ import annotations

import fnmatch
import hashlib
import heapq
import json
import random
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from storm.locals import Store

from backoffice import events, flow, model
from backoffice.database import for_update, insert_many, marks, moment
from backoffice.states import (
    CANCELLED,
    DRAINING,
    FAILED,
    LOST,
    PAUSED,
    PUBLISHED,
    READY,
    RELEASED,
    RETRACTED,
    RUNNING,
    SCHEDULED,
    STOPPED,
    SUCCEEDED,
)

MAX_LOSSES = 5  # of its worker, before a task is set aside
LONGEST_BACKOFF = timedelta(hours=1)
DUE_BATCH = 500
LONGEST_MESSAGE = 4000  # characters; the rest is in the log


@dataclass(frozen=True)
class Lane:
    id: int
    queue: str
    capacity: int | None  # of the whole queue
    room: int | None  # tasks that may start now; None: any number


@dataclass(frozen=True)
class Held:
    """A task that a worker holds: what every report must name."""

    task_id: int
    attempt: int
    worker_id: int
    job_id: int

    @property
    def key(self) -> tuple[int, int, int]:
        return self.task_id, self.attempt, self.worker_id


@dataclass(frozen=True)
class Claimed:
    held: Held
    name: str
    type: str
    spec: Mapping[str, Any]


@dataclass(frozen=True)
class MadeFile:
    """An output as it is stored; size and digest of the folder for a tree."""

    href: str
    name: str
    role: str
    media_type: str
    tree: bool
    size: int
    sha256: str
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class PublishedFile:
    file_id: int
    target: str
    path: str
    href: str
    tree: bool
    sha256: str
    size: int


@dataclass(frozen=True)
class DeliveryMade:
    url: str
    status: int
    message: str
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended. ``state`` is succeeded, failed, cancelled, lost
    (its process died under it: costs no retry) or released (handed back)."""

    state: str
    message: str = ""
    retry: bool = True  # of a failed one: could another try help?
    outputs: Sequence[MadeFile] = ()
    facts: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    checksums: Mapping[int, str] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)
    published: Sequence[PublishedFile] = ()
    retracted: Sequence[int] = ()
    deliveries: Sequence[DeliveryMade] = ()
    exit_status: int | None = None
    cpu_seconds: float | None = None
    peak_memory: int | None = None  # bytes
    wall_seconds: float | None = None
    commands: Sequence[Sequence[str]] = ()
    ffmpeg: str = ""  # its version, where it was used
    log: str = ""  # path
    log_size: int | None = None


# Workers --------------------------------------------------------------------


def register(
    store: Store,
    now: datetime,
    *,
    host: str,
    pid: int,
    slots: int,
    queues: Iterable[str],
    tags: Iterable[str],
    lease: float,
    version: str,
) -> int:
    """A new worker's row; returns its id."""
    worker = model.Worker()
    worker.host, worker.pid, worker.slots = host, pid, slots
    worker.queues, worker.tags = " ".join(queues), " ".join(sorted(tags))
    worker.state, worker.started, worker.heartbeat = "active", now, now
    worker.lease, worker.version = lease, version
    store.add(worker)
    store.flush()
    worker_id: int = worker.id
    events.append(
        store, now, events.Event("worker.started", f"worker {worker_id}", detail=f"{host}:{pid}")
    )
    return worker_id


def sign_off(store: Store, worker_id: int, now: datetime) -> None:
    """The worker stops of its own will, holding nothing."""
    if _changed(
        store,
        "UPDATE worker SET state = ?, heartbeat = ? WHERE id = ? AND state <> ?",
        (STOPPED, now, worker_id, STOPPED),
    ):
        events.append(store, now, events.Event("worker.stopped", f"worker {worker_id}"))


@dataclass(frozen=True)
class Beat:
    kept: frozenset[Held]
    cancelled: frozenset[Held]  # of those kept: somebody asked to cancel
    draining: bool


def beat(store: Store, worker_id: int, held: Sequence[Held], lease: float, now: datetime) -> Beat:
    """Renew the leases of ``held`` and tell which are still ours. A worker
    that was given up as lost is active again: it is plainly alive."""
    until = now + timedelta(seconds=lease)
    kept = frozenset(
        one
        for one in sorted(held, key=lambda h: h.task_id)
        if _changed(store, f"UPDATE task SET lease_until = ? WHERE {_OURS}", (until, *one.key))
    )
    _changed(
        store,
        "UPDATE worker SET heartbeat = ?, state = CASE state WHEN 'lost' THEN 'active'"
        " ELSE state END WHERE id = ?",
        (now, worker_id),
    )
    return Beat(
        kept,
        cancel_requests(store, sorted(kept, key=lambda h: h.task_id)),
        is_draining(store, worker_id),
    )


def is_draining(store: Store, worker_id: int) -> bool:
    row = store.execute("SELECT state FROM worker WHERE id = ?", (worker_id,)).get_one()
    return row is None or row[0] in (DRAINING, STOPPED)


def cancel_requests(store: Store, held: Sequence[Held]) -> frozenset[Held]:
    if not held:
        return frozenset()
    rows = store.execute(
        f"SELECT id FROM task WHERE id IN ({marks(held)}) AND cancel_requested IS NOT NULL",
        [one.task_id for one in held],
    ).get_all()
    wanted = {row[0] for row in rows}
    return frozenset(one for one in held if one.task_id in wanted)


# Claiming -------------------------------------------------------------------


def lanes(store: Store, queues: Collection[str], tags: Collection[str]) -> list[Lane]:
    """The lanes that a worker of these queues (patterns) and tags may claim
    from now: not those of paused or full queues, nor those that ask for other
    tags."""
    rows = store.execute(
        "SELECT lane.id, lane.queue, lane.tags, queue.capacity FROM lane"
        " LEFT JOIN queue ON queue.name = lane.queue"
        " WHERE COALESCE(queue.paused, 0) = 0"
    ).get_all()
    found = [
        Lane(lane, queue, capacity, _room(store, queue, capacity))
        for lane, queue, wanted, capacity in rows
        if serves(queues, queue) and set(wanted.split()) <= set(tags)
    ]
    # A full queue must not hide the others behind its first tasks.
    return [lane for lane in found if lane.room is None or lane.room > 0]


def _room(store: Store, queue: str, capacity: int | None) -> int | None:
    return None if capacity is None else capacity - running_in(store, queue)


def serves(queues: Collection[str], queue: str) -> bool:
    return any(fnmatch.fnmatchcase(queue, pattern) for pattern in queues)


def waiting(store: Store, candidates: Sequence[Lane], limit: int) -> list[tuple[Lane, int]]:
    """How many tasks to take from each lane so that the ``limit`` first by
    priority and age are taken. Locks nothing."""
    heads = [
        [(priority, task, number) for priority, task in _heads(store, lane, limit)]
        for number, lane in enumerate(candidates)
    ]
    first = list(heapq.merge(*heads))[:limit]
    counts = Counter(number for _, _, number in first)
    return [(candidates[number], count) for number, count in counts.items()]


def _heads(store: Store, lane: Lane, limit: int) -> list[tuple[int, int]]:
    rows: list[tuple[int, int]] = store.execute(
        "SELECT priority, id FROM task WHERE state = 'ready' AND lane_id = ?"
        " ORDER BY priority, id LIMIT ?",
        (lane.id, limit if lane.room is None else min(limit, lane.room)),
    ).get_all()
    return rows


# The index task_claim serves this without a sort; with one, MySQL would lock
# the whole queue. A test holds EXPLAIN against it.
CLAIM = (
    "SELECT id, job_id, name, type, attempt, spec FROM task"
    " WHERE state = 'ready' AND lane_id = ? ORDER BY priority, id LIMIT ?"
)


def claim(
    store: Store,
    worker_id: int,
    host: str,
    take: Sequence[tuple[Lane, int]],
    lease: float,
    now: datetime,
) -> list[Claimed]:
    """Claim up to so many tasks from each lane."""
    claimed: list[Claimed] = []
    taken: Counter[str] = Counter()  # by queue: several lanes may be of one
    for lane, count in take:
        allowed = _allowed(store, lane, count, taken[lane.queue])
        if allowed:
            found = _claim_lane(store, worker_id, lane, allowed)
            taken[lane.queue] += len(found)
            claimed += found
    if claimed:
        _mark_claimed(store, claimed, worker_id, host, now + timedelta(seconds=lease), now)
    return claimed


def _allowed(store: Store, lane: Lane, count: int, taken: int) -> int:
    """``count``, or less where the queue's limit leaves less; ``taken`` are
    those that this claim has from it already. The lock on the queue's row
    makes claimers of a limited queue take turns."""
    if lane.capacity is None:
        return count
    row = store.execute(
        f"SELECT capacity, paused FROM queue WHERE name = ?{for_update(store)}", (lane.queue,)
    ).get_one()
    if row is None or row[1]:
        return 0
    if row[0] is None:
        return count
    return max(0, min(count, int(row[0]) - running_in(store, lane.queue) - taken))


def running_in(store: Store, queue: str) -> int:
    (count,) = store.execute(
        "SELECT COUNT(*) FROM task WHERE state = 'running'"
        " AND lane_id IN (SELECT id FROM lane WHERE queue = ?)",
        (queue,),
    ).get_one()
    return int(count)


def _claim_lane(store: Store, worker_id: int, lane: Lane, count: int) -> list[Claimed]:
    rows = store.execute(CLAIM + for_update(store, skip_locked=True), (lane.id, count)).get_all()
    return [
        Claimed(Held(task, attempt + 1, worker_id, job), name, type_, json.loads(spec))
        for task, job, name, type_, attempt, spec in rows
    ]


def _mark_claimed(
    store: Store,
    claimed: Sequence[Claimed],
    worker_id: int,
    host: str,
    until: datetime,
    now: datetime,
) -> None:
    tasks = [one.held.task_id for one in claimed]
    jobs = sorted({one.held.job_id for one in claimed})
    store.execute(
        "UPDATE task SET state = 'running', attempt = attempt + 1, worker_id = ?,"
        " lease_until = ?, started = ?, finished = NULL, run_at = NULL, progress = 0,"
        f" speed = '', eta = NULL, message = '' WHERE id IN ({marks(tasks)})",
        [worker_id, until, now, *tasks],
        noresult=True,
    )
    insert_many(
        store,
        "attempt",
        (
            "task_id",
            "number",
            "worker_id",
            "host",
            "state",
            "started",
            "message",
            "commands",
            "report",
        ),
        [
            (one.held.task_id, one.held.attempt, worker_id, host, RUNNING, now, "", "[]", "{}")
            for one in claimed
        ],
    )
    queued = [
        row[0]
        for row in store.execute(
            f"SELECT id FROM job WHERE id IN ({marks(jobs)}) AND state = 'queued' ORDER BY id"
            + for_update(store),
            jobs,
        ).get_all()
    ]
    if queued:
        store.execute(
            f"UPDATE job SET state = 'running', started = ? WHERE id IN ({marks(queued)})",
            [now, *queued],
            noresult=True,
        )
    started = [events.of_job("started", job) for job in queued]
    started += [
        events.of_task(
            "started",
            one.held.job_id,
            one.held.task_id,
            f"{one.name}, attempt {one.held.attempt}, {host}",
        )
        for one in claimed
    ]
    events.append(store, now, *started)


# Reports --------------------------------------------------------------------

_OURS = "id = ? AND attempt = ? AND worker_id = ? AND state = 'running'"


def report_progress(
    store: Store, held: Held, percent: float, speed: str, eta: float | None
) -> bool:
    """Progress of an attempt (percent; ETA in seconds) and of its job; False
    when the task is no longer ours. The job's row is locked first, as
    everywhere: two that lock in different orders would deadlock."""
    store.execute(f"SELECT 1 FROM job WHERE id = ?{for_update(store)}", (held.job_id,))
    steps = flow.load(store, held.job_id)
    ours = _ours(steps, held)
    if ours is None:
        return False
    ours.progress = percent
    store.execute(
        "UPDATE job SET progress = ? WHERE id = ?",
        (flow.progress(steps), held.job_id),
        noresult=True,
    )
    return _changed(
        store,
        f"UPDATE task SET progress = ?, speed = ?, eta = ? WHERE {_OURS}",
        (percent, speed[:32], eta, *held.key),
    )


def report_command(
    store: Store, held: Held, commands: Sequence[Sequence[str]], ffmpeg: str, log: str
) -> bool:
    """What the attempt runs: exact arguments, ffmpeg's version, the log's path."""
    if not still_ours(store, held):
        return False
    store.execute(
        "UPDATE attempt SET commands = ?, ffmpeg = ?, log = ? WHERE task_id = ? AND number = ?",
        (model.dump(commands), ffmpeg, log, held.task_id, held.attempt),
        noresult=True,
    )
    return True


def still_ours(store: Store, held: Held) -> bool:
    row = store.execute(f"SELECT 1 FROM task WHERE {_OURS}{for_update(store)}", held.key).get_one()
    return row is not None


def fence(store: Store, held: Held, lease: float, now: datetime) -> bool:
    """Renew one lease just before something that others can see; False when
    the task is no longer ours, or is to be cancelled."""
    return _changed(
        store,
        f"UPDATE task SET lease_until = ? WHERE {_OURS} AND cancel_requested IS NULL",
        (now + timedelta(seconds=lease), *held.key),
    )


def finish(store: Store, held: Held, outcome: Outcome, now: datetime) -> bool:
    """Like :func:`finish_all` for one attempt."""
    return finish_all(store, [(held, outcome)], now)[held]


def finish_all(
    store: Store, outcomes: Sequence[tuple[Held, Outcome]], now: datetime
) -> dict[Held, bool]:
    """Record how attempts ended and move their jobs on.

    False for an attempt that was no longer ours: nothing is changed and its
    outcome must be thrown away. True again when asked twice, since the answer
    to the first may have been lost on the way.
    """
    wholes = flow.lock_all(store, [held.job_id for held, _ in outcomes])
    accepted: dict[Held, bool] = {}
    happened: list[events.Event] = []
    ended: dict[Held, flow.Step] = {}
    for held, outcome in outcomes:
        step = _ours(wholes[held.job_id].steps if held.job_id in wholes else (), held)
        if step is None:
            accepted[held] = _recorded(store, held, outcome)
            continue
        happened += _end_attempt(store, held, outcome, step, now)
        accepted[held] = True
        ended[held] = step
    _put_succeeded(store, ended.values(), now)
    happened += flow.settle_all(store, [wholes[job] for job in {h.job_id for h in ended}], now)
    events.append(store, now, *happened)
    return accepted


def _end_attempt(
    store: Store, held: Held, outcome: Outcome, step: flow.Step, now: datetime
) -> list[events.Event]:
    outcome = replace(outcome, message=outcome.message[:LONGEST_MESSAGE])
    step.message = outcome.message
    step.state, happened = _AFTER[outcome.state](store, held, outcome, step, now)
    step.progress = 100.0 * (step.state == SUCCEEDED)
    _close_attempt(store, held, outcome, now)
    return happened


def _ours(steps: Iterable[flow.Step], held: Held) -> flow.Step | None:
    for step in steps:
        if (step.id, step.attempt, step.worker_id) == held.key and step.state == RUNNING:
            return step
    return None


_Moved = tuple[str, list[events.Event]]  # the task's new state, and what happened


def _succeeded(
    store: Store, held: Held, outcome: Outcome, step: flow.Step, now: datetime
) -> _Moved:
    _store_outputs(store, held, outcome, now)
    return SUCCEEDED, [_event(held, SUCCEEDED, step.name)]


def _failed(store: Store, held: Held, outcome: Outcome, step: flow.Step, now: datetime) -> _Moved:
    _store_deliveries(store, held, outcome, now)
    if step.cancelling:
        return _cancelled(store, held, outcome, step, now)
    failures = step.failures + 1
    if not outcome.retry or failures >= step.max_attempts:
        _put(store, held, FAILED, failures=failures, finished=now, message=outcome.message)
        return FAILED, [_event(held, FAILED, f"{step.name}: {outcome.message}")]
    run_at = now + backoff(step.spec["backoff"], failures)
    _put(
        store,
        held,
        SCHEDULED,
        failures=failures,
        run_at=run_at,
        message=outcome.message,
        worker_id=None,
    )
    detail = f"{step.name}: {outcome.message}; again at {run_at:%H:%M:%S} UTC"
    return SCHEDULED, [_event(held, "retrying", detail)]


def _cancelled(
    store: Store, held: Held, outcome: Outcome, step: flow.Step, now: datetime
) -> _Moved:
    _put(store, held, CANCELLED, finished=now, message=outcome.message)
    return CANCELLED, [_event(held, CANCELLED, step.name)]


def _lost(store: Store, held: Held, outcome: Outcome, step: flow.Step, now: datetime) -> _Moved:
    if step.cancelling:
        return _cancelled(store, held, outcome, step, now)
    losses = step.losses + 1
    happened = [_event(held, LOST, f"{step.name}: {outcome.message}")]
    if losses < MAX_LOSSES:
        _put(
            store,
            held,
            READY,
            losses=losses,
            ready_at=now,
            message=outcome.message,
            worker_id=None,
        )
        return READY, happened
    message = f"set aside: it lost its worker {losses} times; the last time: {outcome.message}"
    step.message = message  # the job's own message is made of it
    _put(store, held, FAILED, losses=losses, finished=now, message=message)
    return FAILED, [*happened, _event(held, FAILED, f"{step.name}: {message}")]


def _released(store: Store, held: Held, outcome: Outcome, step: flow.Step, now: datetime) -> _Moved:
    if step.cancelling:
        return _cancelled(store, held, outcome, step, now)
    _put(store, held, READY, ready_at=now, message="", worker_id=None)
    return READY, [_event(held, RELEASED, step.name)]


_AFTER = {
    SUCCEEDED: _succeeded,
    FAILED: _failed,
    CANCELLED: _cancelled,
    LOST: _lost,
    RELEASED: _released,
}


def _event(held: Held, action: str, detail: str) -> events.Event:
    return events.of_task(action, held.job_id, held.task_id, detail)


def _put_succeeded(store: Store, steps: Iterable[flow.Step], now: datetime) -> None:
    """Many at once: they differ in their warnings at most."""
    by_message: dict[str, list[int]] = {}
    for step in steps:
        if step.state == SUCCEEDED:
            by_message.setdefault(step.message, []).append(step.id)
    for message, tasks in by_message.items():
        _put_all(store, tasks, SUCCEEDED, progress=100.0, finished=now, message=message, eta=None)


def _put(store: Store, held: Held, state: str, **columns: object) -> None:
    _put_all(store, [held.task_id], state, **columns)


def _put_all(store: Store, tasks: Sequence[int], state: str, **columns: object) -> None:
    assignments = "".join(f", {column} = ?" for column in columns)
    store.execute(
        f"UPDATE task SET state = ?, lease_until = NULL, cancel_requested = NULL{assignments}"
        f" WHERE id IN ({marks(tasks)})",
        [state, *columns.values(), *tasks],
        noresult=True,
    )


def backoff(first: float, failures: int) -> timedelta:
    """Exponential, with "equal jitter": half of it is random, so that tasks
    that failed together do not come back together."""
    full = min(first * 2 ** (failures - 1), LONGEST_BACKOFF.total_seconds())
    return timedelta(seconds=full * random.uniform(0.5, 1.0))


def _recorded(store: Store, held: Held, outcome: Outcome) -> bool:
    row = store.execute(
        "SELECT state FROM attempt WHERE task_id = ? AND number = ? AND worker_id = ?", held.key
    ).get_one()
    return row is not None and row[0] == outcome.state


def _close_attempt(store: Store, held: Held, outcome: Outcome, now: datetime) -> None:
    store.execute(
        "UPDATE attempt SET state = ?, finished = ?, message = ?, exit_status = ?,"
        " cpu_seconds = ?, peak_memory = ?, wall_seconds = ?, commands = ?, ffmpeg = ?, log = ?,"
        " log_size = ?, report = ? WHERE task_id = ? AND number = ?",
        (
            outcome.state,
            now,
            outcome.message,
            outcome.exit_status,
            outcome.cpu_seconds,
            outcome.peak_memory,
            outcome.wall_seconds,
            model.dump(outcome.commands),
            outcome.ffmpeg,
            outcome.log,
            outcome.log_size,
            model.dump(outcome.report),
            held.task_id,
            held.attempt,
        ),
        noresult=True,
    )


def _store_outputs(store: Store, held: Held, outcome: Outcome, now: datetime) -> None:
    insert_many(
        store,
        "file",
        (
            "href",
            "name",
            "role",
            "media_type",
            "tree",
            "size",
            "sha256",
            "state",
            "facts",
            "job_id",
            "task_id",
            "created",
        ),
        [
            (
                f.href,
                f.name[:255],
                f.role,
                f.media_type,
                f.tree,
                f.size,
                f.sha256,
                "present",
                model.dump(f.facts),
                held.job_id,
                held.task_id,
                now,
            )
            for f in outcome.outputs
        ],
    )
    for file_id, facts in outcome.facts.items():
        store.execute("UPDATE file SET facts = ? WHERE id = ?", (model.dump(facts), file_id))
    for file_id, checksum in outcome.checksums.items():
        store.execute("UPDATE file SET sha256 = ? WHERE id = ?", (checksum, file_id))
    for published in outcome.published:
        _store_publication(store, held, published, now)
    for publication_id in outcome.retracted:
        _changed(
            store,
            "UPDATE publication SET state = ?, active_key = NULL, retracted = ?"
            " WHERE id = ? AND state = ?",
            (RETRACTED, now, publication_id, PUBLISHED),
        )
        events.append(
            store,
            now,
            events.Event("publication.retracted", f"publication {publication_id}", held.job_id),
        )
    _store_deliveries(store, held, outcome, now)


def _store_publication(store: Store, held: Held, published: PublishedFile, now: datetime) -> None:
    """One row a place: what was already there with the same content keeps its
    row, what was overwritten is retracted."""
    key = hashlib.sha256(f"{published.target}\0{published.path}".encode()).hexdigest()
    row = store.execute(
        f"SELECT id, sha256 FROM publication WHERE active_key = ?{for_update(store)}", (key,)
    ).get_one()
    if row is not None and row[1] == published.sha256:
        return
    if row is not None:
        store.execute(
            "UPDATE publication SET state = ?, active_key = NULL, retracted = ? WHERE id = ?",
            (RETRACTED, now, row[0]),
        )
    insert_many(
        store,
        "publication",
        (
            "active_key",
            "file_id",
            "job_id",
            "task_id",
            "target",
            "path",
            "href",
            "state",
            "tree",
            "sha256",
            "size",
            "published",
        ),
        [
            (
                key,
                published.file_id,
                held.job_id,
                held.task_id,
                published.target,
                published.path,
                published.href,
                PUBLISHED,
                published.tree,
                published.sha256,
                published.size,
                now,
            )
        ],
    )
    events.append(
        store,
        now,
        events.Event(
            "publication.published",
            f"file {published.file_id}",
            held.job_id,
            held.task_id,
            published.href,
        ),
    )


def _store_deliveries(store: Store, held: Held, outcome: Outcome, now: datetime) -> None:
    insert_many(
        store,
        "delivery",
        ("task_id", "number", "at", "url", "status", "message", "seconds"),
        [
            (held.task_id, held.attempt, now, d.url, d.status, d.message, d.seconds)
            for d in outcome.deliveries
        ],
    )


# The scheduler's part -------------------------------------------------------


def promote(store: Store, now: datetime) -> int:
    """Make due tasks ready; returns how many. Tasks of paused jobs wait as
    blocked instead."""
    rows = store.execute(
        "SELECT id, job_id FROM task WHERE state = 'scheduled' AND run_at <= ?"
        " ORDER BY run_at LIMIT ?",
        (now, DUE_BATCH),
    ).get_all()
    by_job: dict[int, list[int]] = {}
    for task, job in rows:
        by_job.setdefault(job, []).append(task)
    count = 0
    for job, tasks in sorted(by_job.items()):
        # The job's lock keeps a pause from happening in between.
        row = store.execute(
            f"SELECT state FROM job WHERE id = ?{for_update(store)}", (job,)
        ).get_one()
        state = "blocked" if row is not None and row[0] == PAUSED else READY
        result = store.execute(
            "UPDATE task SET state = ?, ready_at = ?"
            f" WHERE id IN ({marks(tasks)}) AND state = 'scheduled' AND run_at <= ?",
            [state, now, *tasks, now],
        )
        count += result.rowcount
    return count


@dataclass(frozen=True)
class Lease:
    """A lease as somebody saw it: unchanged means not renewed."""

    held: Held
    until: datetime
    length: float  # seconds
    name: str = ""  # of the task


def leases(store: Store) -> list[Lease]:
    """Every lease there is now."""
    rows = store.execute(
        "SELECT t.id, t.attempt, t.worker_id, t.job_id, t.lease_until, w.lease, t.name FROM task t"
        " LEFT JOIN worker w ON w.id = t.worker_id WHERE t.state = 'running'"
    ).get_all()
    return [
        Lease(Held(task, attempt, worker, job), moment(until) or datetime.min, lease or 0.0, name)
        for task, attempt, worker, job, until, lease, name in rows
    ]


def rescue(store: Store, lease: Lease, now: datetime) -> bool:
    """Give back the task of a lease that has ended, unless it was renewed
    meanwhile. Its worker counts as lost."""
    row = store.execute(
        f"SELECT lease_until FROM task WHERE {_OURS}{for_update(store)}", lease.held.key
    ).get_one()
    if row is None or moment(row[0]) != lease.until:
        return False
    worker = store.execute(
        "SELECT host, pid FROM worker WHERE id = ?", (lease.held.worker_id,)
    ).get_one()
    place = f" on {worker[0]}, process {worker[1]}" if worker else ""
    message = f"worker {lease.held.worker_id}{place} was lost"
    return finish(store, lease.held, Outcome(LOST, message), now)


def mark_lost_workers(store: Store, silent: Sequence[int], now: datetime) -> None:
    """Workers that have not been heard of for a lease."""
    for worker_id in silent:
        if _changed(
            store,
            "UPDATE worker SET state = ? WHERE id = ? AND state IN ('active', 'draining')",
            (LOST, worker_id),
        ):
            events.append(store, now, events.Event("worker.lost", f"worker {worker_id}"))


def _changed(store: Store, statement: str, params: Sequence[Any]) -> bool:
    return bool(store.execute(statement, params).rowcount)
