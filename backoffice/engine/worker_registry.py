"""Worker registry: workers register, sign off, are drained or declared lost.

Owns the table ``worker``. Functions get the store and the database's time, and
never commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from storm.locals import Store

from backoffice.data import events, model
from backoffice.data.sql import clock, moment
from backoffice.errors import Conflict
from backoffice.states import ACTIVE, DRAINING, LOST, STOPPED, Reason


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
    worker.state, worker.started, worker.heartbeat = ACTIVE, now, now
    worker.lease, worker.version = lease, version
    store.add(worker)
    store.flush()
    worker_id: int = worker.id
    events.append(
        store, now, events.Event("worker.started", f"worker {worker_id}", detail=f"{host}:{pid}")
    )
    return worker_id


def change_settings(
    store: Store,
    worker_id: int,
    *,
    slots: int,
    queues: Iterable[str],
    tags: Iterable[str],
    lease: float,
) -> None:
    """After a reload of its settings."""
    store.execute(
        "UPDATE worker SET slots = ?, queues = ?, tags = ?, lease = ? WHERE id = ?",
        (slots, " ".join(queues), " ".join(sorted(tags)), lease, worker_id),
        noresult=True,
    )


def sign_off(store: Store, worker_id: int, now: datetime) -> None:
    """The worker stops by itself and holds no task."""
    stopped = store.execute(
        "UPDATE worker SET state = ?, heartbeat = ? WHERE id = ? AND state <> ?",
        (STOPPED, now, worker_id, STOPPED),
    )
    if stopped.rowcount:
        events.append(store, now, events.Event("worker.stopped", f"worker {worker_id}"))


def drain(store: Store, worker_id: int, actor: str) -> None:
    """Let a worker finish its tasks, claim no new ones, and stop."""
    worker = model.get(store, model.Worker, worker_id, "worker")
    if worker.state == DRAINING:
        return
    if worker.state != ACTIVE:
        raise Conflict(f"worker {worker_id} is {worker.state}; only an active one can be drained")
    worker.state = DRAINING
    event = events.Event("worker.drained", f"worker {worker_id}", actor=actor)
    events.append(store, clock(store), event)


def is_draining(store: Store, worker_id: int) -> bool:
    row = store.execute("SELECT state FROM worker WHERE id = ?", (worker_id,)).get_one()
    return row is None or row[0] in (DRAINING, STOPPED)


class LivingWorker(NamedTuple):
    """A worker that is active or draining, as far as the database knows."""

    id: int
    heartbeat: datetime
    lease: float  # seconds
    host: str
    pid: int


def living(store: Store) -> list[LivingWorker]:
    rows = store.execute(
        "SELECT id, heartbeat, lease, host, pid FROM worker"
        f" WHERE state IN ('{ACTIVE}', '{DRAINING}')"
    ).get_all()
    return [
        LivingWorker(worker, moment(beat) or datetime.min, *rest) for worker, beat, *rest in rows
    ]


def mark_lost(store: Store, silent: Sequence[LivingWorker], now: datetime) -> None:
    """Declare workers lost; one that has sent another heartbeat since is not."""
    for worker in silent:
        lost = store.execute(
            "UPDATE worker SET state = ? WHERE id = ? AND heartbeat = ? AND state IN (?, ?)",
            (LOST, worker.id, worker.heartbeat, ACTIVE, DRAINING),
        )
        if lost.rowcount:
            events.append(store, now, _lost(worker))


def _lost(worker: LivingWorker) -> events.Event:
    detail = (
        f"process {worker.pid} on {worker.host} sent no heartbeat for {worker.lease:g} s;"
        " other workers get its tasks"
    )
    return events.Event(
        "worker.lost",
        f"worker {worker.id}",
        detail=detail,
        reason=Reason.LOST_WORKER,
        host=worker.host,
    )
