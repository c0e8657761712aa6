"""Workers, the leases they hold, and what they report while they hold them.

All of it is fenced: every statement names task, attempt and worker and counts
rows; none matched means that the task has been given to somebody else, and
nothing is changed. Functions get the store and the database's time, and never
commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from storm.locals import Store

from backoffice.data import model
from backoffice.data.database import for_update, marks, moment
from backoffice.engine import transitions, worker_registry
from backoffice.engine.claims import Held
from backoffice.states import ACTIVE, LOST, RUNNING

OURS = f"id = ? AND attempt = ? AND worker_id = ? AND state = '{RUNNING}'"


@dataclass(frozen=True)
class HeartbeatResult:
    kept: frozenset[Held]
    cancelled: frozenset[Held]  # of those kept: somebody asked to cancel
    draining: bool


def heartbeat(
    store: Store, worker_id: int, held: Sequence[Held], lease: float, now: datetime
) -> HeartbeatResult:
    """Renew the leases of ``held`` and tell which are still ours. A worker
    that was given up as lost is active again: it is plainly alive."""
    until = now + timedelta(seconds=lease)
    kept = frozenset(
        one
        for one in sorted(held, key=lambda h: h.task_id)
        if _changed(store, f"UPDATE task SET lease_until = ? WHERE {OURS}", (until, *one.key))
    )
    _changed(
        store,
        f"UPDATE worker SET heartbeat = ?, state = CASE state WHEN '{LOST}' THEN '{ACTIVE}'"
        " ELSE state END WHERE id = ?",
        (now, worker_id),
    )
    return HeartbeatResult(
        kept,
        cancel_requests(store, sorted(kept, key=lambda h: h.task_id)),
        worker_registry.is_draining(store, worker_id),
    )


def cancel_requests(store: Store, held: Sequence[Held]) -> frozenset[Held]:
    if not held:
        return frozenset()
    rows = store.execute(
        f"SELECT id FROM task WHERE id IN ({marks(held)}) AND cancel_requested IS NOT NULL",
        [one.task_id for one in held],
    ).get_all()
    wanted = {row[0] for row in rows}
    return frozenset(one for one in held if one.task_id in wanted)


def report_progress(
    store: Store, held: Held, percent: float, speed: str, eta: float | None
) -> bool:
    """Progress of an attempt (percent; ETA in seconds) and of its job; False
    when the task is no longer ours. The job's row is locked first, as
    everywhere: two that lock in different orders would deadlock."""
    store.execute(f"SELECT 1 FROM job WHERE id = ?{for_update(store)}", (held.job_id,))
    steps = transitions.load(store, held.job_id)
    ours = own_step(steps, held)
    if ours is None:
        return False
    ours.progress = percent
    store.execute(
        "UPDATE job SET progress = ? WHERE id = ?",
        (transitions.progress(steps), held.job_id),
        noresult=True,
    )
    return _changed(
        store,
        f"UPDATE task SET progress = ?, speed = ?, eta = ? WHERE {OURS}",
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
    row = store.execute(f"SELECT 1 FROM task WHERE {OURS}{for_update(store)}", held.key).get_one()
    return row is not None


def own_step(steps: Iterable[transitions.Step], held: Held) -> transitions.Step | None:
    """The task that is held, if it still is, among those of its job."""
    for step in steps:
        if (step.id, step.attempt, step.worker_id) == held.key and step.state == RUNNING:
            return step
    return None


def fence(store: Store, held: Held, lease: float, now: datetime) -> bool:
    """Renew one lease just before something that others can see; False when
    the task is no longer ours, or is to be cancelled."""
    return _changed(
        store,
        f"UPDATE task SET lease_until = ? WHERE {OURS} AND cancel_requested IS NULL",
        (now + timedelta(seconds=lease), *held.key),
    )


@dataclass(frozen=True)
class LeaseRecord:
    """A lease as somebody saw it: unchanged means not renewed."""

    held: Held
    until: datetime
    length: float  # seconds
    name: str = ""  # of the task, as its type
    type: str = ""


def current(store: Store) -> list[LeaseRecord]:
    """Every lease there is now."""
    rows = store.execute(
        "SELECT t.id, t.attempt, t.worker_id, t.job_id, t.lease_until, w.lease, t.name, t.type"
        f" FROM task t LEFT JOIN worker w ON w.id = t.worker_id WHERE t.state = '{RUNNING}'"
    ).get_all()
    return [
        LeaseRecord(
            Held(task, attempt, worker, job), moment(until) or datetime.min, lease or 0.0, *told
        )
        for task, attempt, worker, job, until, lease, *told in rows
    ]


def still_running(store: Store, attempts: Iterable[tuple[int, int]]) -> set[tuple[int, int]]:
    """Those of the attempts (task, number) that still hold their tasks."""
    asked = set(attempts)
    tasks = sorted({task for task, _ in asked})
    rows = store.execute(
        f"SELECT id, attempt FROM task WHERE state = '{RUNNING}' AND id IN ({marks(tasks)})", tasks
    ).get_all()
    return asked & {(task, attempt) for task, attempt in rows}


def _changed(store: Store, statement: str, params: Sequence[Any]) -> bool:
    return bool(store.execute(statement, params).rowcount)
