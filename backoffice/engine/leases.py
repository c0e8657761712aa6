"""Leases: heartbeats, progress and fences of running attempts.

Every statement names task, attempt and worker, and counts rows: no row matched means
that another worker has the task, and nothing is changed. Functions get the store and
the database's time, and never commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from storm.locals import Store

from backoffice.data import model
from backoffice.data.sql import for_update, marks, moment
from backoffice.engine import transitions, worker_registry
from backoffice.engine.claims import Claim
from backoffice.states import ACTIVE, LOST, RUNNING

OURS = f"id = ? AND attempt = ? AND worker_id = ? AND state = '{RUNNING}'"


@dataclass(frozen=True)
class HeartbeatResult:
    kept: frozenset[Claim]
    cancelled: frozenset[Claim]  # of those kept: a user asked to cancel
    draining: bool


def heartbeat(
    store: Store, worker_id: int, claims: Sequence[Claim], lease: float, now: datetime
) -> HeartbeatResult:
    """Renew the leases of ``claims``; the result says which still hold their tasks. A
    worker that was declared lost is active again."""
    until = now + timedelta(seconds=lease)
    kept = frozenset(
        claim
        for claim in sorted(claims, key=lambda claim: claim.task_id)
        if _changed(store, f"UPDATE task SET lease_until = ? WHERE {OURS}", (until, *claim.key))
    )
    _changed(
        store,
        f"UPDATE worker SET heartbeat = ?, state = CASE state WHEN '{LOST}' THEN '{ACTIVE}'"
        " ELSE state END WHERE id = ?",
        (now, worker_id),
    )
    return HeartbeatResult(
        kept,
        cancel_requests(store, sorted(kept, key=lambda claim: claim.task_id)),
        worker_registry.is_draining(store, worker_id),
    )


def cancel_requests(store: Store, claims: Sequence[Claim]) -> frozenset[Claim]:
    if not claims:
        return frozenset()
    rows = store.execute(
        f"SELECT id FROM task WHERE id IN ({marks(claims)}) AND cancel_requested IS NOT NULL",
        [claim.task_id for claim in claims],
    ).get_all()
    wanted = {row[0] for row in rows}
    return frozenset(claim for claim in claims if claim.task_id in wanted)


def report_progress(
    store: Store, claim: Claim, percent: float, speed: str, eta: float | None
) -> bool:
    """Progress of an attempt (percent; ETA in seconds) and of its job; False
    when the task is no longer ours. The job's row is locked first, as
    everywhere: two that lock in different orders would deadlock."""
    store.execute(f"SELECT 1 FROM job WHERE id = ?{for_update(store)}", (claim.job_id,))
    tasks = transitions.load(store, claim.job_id)
    ours = own_task(tasks, claim)
    if ours is None:
        return False
    ours.progress = percent
    store.execute(
        "UPDATE job SET progress = ? WHERE id = ?",
        (transitions.progress(tasks), claim.job_id),
        noresult=True,
    )
    return _changed(
        store,
        f"UPDATE task SET progress = ?, speed = ?, eta = ? WHERE {OURS}",
        (percent, speed[:32], eta, *claim.key),
    )


def report_command(
    store: Store, claim: Claim, commands: Sequence[Sequence[str]], ffmpeg: str, log: str
) -> bool:
    """What the attempt runs: exact arguments, ffmpeg's version, the log's path."""
    if not still_ours(store, claim):
        return False
    store.execute(
        "UPDATE attempt SET commands = ?, ffmpeg = ?, log = ? WHERE task_id = ? AND number = ?",
        (model.dump(commands), ffmpeg, log, claim.task_id, claim.attempt),
        noresult=True,
    )
    return True


def still_ours(store: Store, claim: Claim) -> bool:
    row = store.execute(f"SELECT 1 FROM task WHERE {OURS}{for_update(store)}", claim.key).get_one()
    return row is not None


def own_task(tasks: Iterable[transitions.JobTask], claim: Claim) -> transitions.JobTask | None:
    """The task that is held, if it still is, among those of its job."""
    for task in tasks:
        if (task.id, task.attempt, task.worker_id) == claim.key and task.state == RUNNING:
            return task
    return None


def fence(store: Store, claim: Claim, lease: float, now: datetime) -> bool:
    """Renew one lease just before a visible change; False when another worker has the
    task, or it is to be cancelled."""
    return _changed(
        store,
        f"UPDATE task SET lease_until = ? WHERE {OURS} AND cancel_requested IS NULL",
        (now + timedelta(seconds=lease), *claim.key),
    )


@dataclass(frozen=True)
class LeaseRecord:
    """A lease as the database has it at one moment; unchanged later: not renewed."""

    claim: Claim
    until: datetime
    length: float  # seconds
    name: str = ""  # of the task, as its type
    type: str = ""


def current(store: Store) -> list[LeaseRecord]:
    """The leases of all running tasks."""
    rows = store.execute(
        "SELECT t.id, t.attempt, t.worker_id, t.job_id, t.lease_until, w.lease, t.name, t.type"
        f" FROM task t LEFT JOIN worker w ON w.id = t.worker_id WHERE t.state = '{RUNNING}'"
    ).get_all()
    return [
        LeaseRecord(
            Claim(task, attempt, worker, job), moment(until) or datetime.min, lease or 0.0, *told
        )
        for task, attempt, worker, job, until, lease, *told in rows
    ]


def still_running(store: Store, attempts: Iterable[tuple[int, int]]) -> set[tuple[int, int]]:
    """Which of the attempts (task, number) still hold their tasks."""
    asked = set(attempts)
    tasks = sorted({task for task, _ in asked})
    rows = store.execute(
        f"SELECT id, attempt FROM task WHERE state = '{RUNNING}' AND id IN ({marks(tasks)})", tasks
    ).get_all()
    return asked & {(task, attempt) for task, attempt in rows}


def _changed(store: Store, statement: str, params: Sequence[Any]) -> bool:
    return bool(store.execute(statement, params).rowcount)
