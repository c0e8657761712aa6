"""Claims: which ready tasks a worker may have, and taking them.

A claim gives a worker a task under a lease. Task, attempt number and worker together
are a :class:`Claim`, which every later report must name (``leases``, ``outcomes``).
Functions get the store and the database's time, and never commit: the worker's loop
decides what belongs to one transaction.
"""

from __future__ import annotations

import fnmatch
import heapq
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from storm.locals import Store

from backoffice.data import events
from backoffice.data.sql import for_update, insert_many, marks
from backoffice.states import BLOCKED, PAUSED, QUEUED, READY, RUNNING, SCHEDULED

DUE_BATCH = 500
# A task that lost its worker so often is a suspect: a worker runs one suspect at a
# time, so that a task that was lost because of its neighbour soon runs without it.
SUSPECT = 2


@dataclass(frozen=True)
class ClaimableLane:
    id: int
    queue: str
    capacity: int | None  # of the whole queue
    room: int | None  # tasks that may start now; None: any number


@dataclass(frozen=True)
class Claim:
    """A task that a worker holds under a lease: what every report must name."""

    task_id: int
    attempt: int
    worker_id: int
    job_id: int

    @property
    def key(self) -> tuple[int, int, int]:
        return self.task_id, self.attempt, self.worker_id


@dataclass(frozen=True)
class ClaimedTask:
    claim: Claim
    name: str
    type: str
    spec: Mapping[str, Any]
    suspect: bool = False


def lanes(store: Store, queues: Collection[str], tags: Collection[str]) -> list[ClaimableLane]:
    """The lanes that a worker of these queues (patterns) and tags may claim
    from now: not those of paused or full queues, nor those that ask for other
    tags."""
    rows = store.execute(
        "SELECT lane.id, lane.queue, lane.tags, queue.capacity FROM lane"
        " LEFT JOIN queue ON queue.name = lane.queue"
        " WHERE COALESCE(queue.paused, 0) = 0"
    ).get_all()
    candidates = [
        ClaimableLane(lane, queue, capacity, _room(store, queue, capacity))
        for lane, queue, wanted, capacity in rows
        if serves(queues, queue) and set(wanted.split()) <= set(tags)
    ]
    # A full queue must not hide the others behind its first tasks.
    return [lane for lane in candidates if lane.room is None or lane.room > 0]


def _room(store: Store, queue: str, capacity: int | None) -> int | None:
    return None if capacity is None else capacity - running_in(store, queue)


def serves(queues: Collection[str], queue: str) -> bool:
    return any(fnmatch.fnmatchcase(queue, pattern) for pattern in queues)


def waiting(
    store: Store, candidates: Sequence[ClaimableLane], limit: int, *, suspects: bool = True
) -> list[tuple[ClaimableLane, int]]:
    """How many tasks to take from each lane so that the ``limit`` first by
    priority and age are taken. Locks nothing."""
    heads = [
        [(priority, task, number) for priority, task in _heads(store, lane, limit, suspects)]
        for number, lane in enumerate(candidates)
    ]
    first = list(heapq.merge(*heads))[:limit]
    counts = Counter(number for _, _, number in first)
    return [(candidates[number], count) for number, count in counts.items()]


def _heads(store: Store, lane: ClaimableLane, limit: int, suspects: bool) -> list[tuple[int, int]]:
    query = (
        f"SELECT priority, id FROM task WHERE state = '{READY}' AND lane_id = ?"
        " ORDER BY priority, id LIMIT ?"
    )
    rows: list[tuple[int, int]] = store.execute(
        query if suspects else _unsuspected(query),
        (lane.id, limit if lane.room is None else min(limit, lane.room)),
    ).get_all()
    return rows


# The index task_claim serves this without a sort; with one, MySQL would lock
# the whole queue. A test holds EXPLAIN against it.
CLAIM = (
    "SELECT id, job_id, name, type, attempt, spec, losses FROM task"
    f" WHERE state = '{READY}' AND lane_id = ? ORDER BY priority, id LIMIT ?"
)


def _unsuspected(query: str) -> str:
    return query.replace(" ORDER BY", f" AND losses < {SUSPECT} ORDER BY")


def claim(
    store: Store,
    worker_id: int,
    host: str,
    take: Sequence[tuple[ClaimableLane, int]],
    lease: float,
    now: datetime,
    *,
    suspects: bool = True,
) -> list[ClaimedTask]:
    """Claim up to so many tasks from each lane. Of suspects at most one is claimed,
    and none without ``suspects``: the worker runs one already."""
    claimed: list[ClaimedTask] = []
    taken: Counter[str] = Counter()  # by queue: several lanes may be of one
    for lane, count in take:
        allowed = _allowed(store, lane, count, taken[lane.queue])
        if allowed:
            tasks = _claim_lane(store, worker_id, lane, allowed, suspects)
            suspects = suspects and not any(task.suspect for task in tasks)
            taken[lane.queue] += len(tasks)
            claimed += tasks
    if claimed:
        _mark_claimed(store, claimed, worker_id, host, now + timedelta(seconds=lease), now)
    return claimed


def _allowed(store: Store, lane: ClaimableLane, count: int, taken: int) -> int:
    """``count``, or less if the queue's limit leaves less; ``taken`` is how many this
    claim has from the queue already. The lock on the queue's row makes claimers of
    a limited queue take turns."""
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
        f"SELECT COUNT(*) FROM task WHERE state = '{RUNNING}'"
        " AND lane_id IN (SELECT id FROM lane WHERE queue = ?)",
        (queue,),
    ).get_one()
    return int(count)


def _claim_lane(
    store: Store, worker_id: int, lane: ClaimableLane, count: int, suspects: bool
) -> list[ClaimedTask]:
    query = (CLAIM if suspects else _unsuspected(CLAIM)) + for_update(store, skip_locked=True)
    claimed: list[ClaimedTask] = []
    for task, job, name, type_, attempt, spec, losses in store.execute(
        query, (lane.id, count)
    ).get_all():
        suspect = losses >= SUSPECT
        if not (suspect and any(task.suspect for task in claimed)):
            claim = Claim(task, attempt + 1, worker_id, job)
            claimed.append(ClaimedTask(claim, name, type_, json.loads(spec), suspect))
    return claimed


def _mark_claimed(
    store: Store,
    claimed: Sequence[ClaimedTask],
    worker_id: int,
    host: str,
    until: datetime,
    now: datetime,
) -> None:
    tasks = [task.claim.task_id for task in claimed]
    jobs = sorted({task.claim.job_id for task in claimed})
    store.execute(
        f"UPDATE task SET state = '{RUNNING}', attempt = attempt + 1, worker_id = ?,"
        " lease_until = ?, started = ?, finished = NULL, run_at = NULL, progress = 0,"
        f" speed = '', eta = NULL, message = '', reason = ''"
        f" WHERE id IN ({marks(tasks)})",
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
            (task.claim.task_id, task.claim.attempt, worker_id, host, RUNNING, now, "", "[]", "{}")
            for task in claimed
        ],
    )
    queued = [
        row[0]
        for row in store.execute(
            f"SELECT id FROM job WHERE id IN ({marks(jobs)}) AND state = '{QUEUED}' ORDER BY id"
            + for_update(store),
            jobs,
        ).get_all()
    ]
    if queued:
        store.execute(
            f"UPDATE job SET state = '{RUNNING}', started = ? WHERE id IN ({marks(queued)})",
            [now, *queued],
            noresult=True,
        )
    started = [events.of_job("started", job) for job in queued]
    started += [
        events.of_task(
            "started",
            task.claim.job_id,
            task.claim.task_id,
            f"{task.name}, attempt {task.claim.attempt}, {host}",
        )
        for task in claimed
    ]
    events.append(store, now, *started)


def promote(store: Store, now: datetime) -> int:
    """Make due tasks ready; returns how many. Tasks of paused jobs wait as
    blocked instead."""
    rows = store.execute(
        f"SELECT id, job_id FROM task WHERE state = '{SCHEDULED}' AND run_at <= ?"
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
        state = BLOCKED if row is not None and row[0] == PAUSED else READY
        result = store.execute(
            "UPDATE task SET state = ?, ready_at = ?"
            f" WHERE id IN ({marks(tasks)}) AND state = '{SCHEDULED}' AND run_at <= ?",
            [state, now, *tasks, now],
        )
        count += result.rowcount
    return count
