"""How many there are of each, for Prometheus, who asks every few seconds.

What is quickly counted is counted when somebody asks, and true at that moment.
Of more than ``figures.COUNTED`` it tells what a scheduler has counted last,
which takes a hundredth of its time at most. Reads indexes alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from storm.locals import Store

from backoffice.data import counter_store
from backoffice.data.counters import Key
from backoffice.data.database import Database, use_index
from backoffice.reports import queue_depths
from backoffice.reports.queue_depths import COUNTED
from backoffice.reports.records import Record
from backoffice.states import JOB_STATES, READY

EVERY = 15.0  # seconds between two counts, at least
REST = 100  # and so many times as long as the last one took
JOBS, READY_TASKS = "jobs", "queue_ready_tasks"  # names of metrics

Kept = Mapping[Key, float]  # of the ledger


def jobs(store: Store, kept: Kept) -> dict[str, float]:
    """How many there are in each state."""
    counts = {state: _some(store, state) for state in JOB_STATES}
    return {state: _full(count, (JOBS, (state,)), kept) for state, count in counts.items()}


def queues(store: Store, kept: Kept) -> list[Record]:
    """Like ``figures.depths``, with all that is ready."""
    return [
        one | {"ready": _full(one["ready"], (READY_TASKS, (one["name"],)), kept)}
        for one in queue_depths.queues(store, COUNTED + 1)
    ]


def _full(count: int, key: Key, kept: Kept) -> float:
    return count if count <= COUNTED else max(count, kept.get(key, 0))


def _some(store: Store, state: str) -> int:
    rows = f"job{use_index(store, 'job_state')} WHERE state = ?"
    return queue_depths.count(store, rows, state, most=COUNTED + 1)


class Census:
    """Counts what is too many to be counted whenever somebody asks."""

    def __init__(self, database: Database, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.database = database
        self.monotonic = monotonic
        self.due = monotonic()

    def run(self) -> None:
        """Count if it is time to; call it often."""
        began = self.monotonic()
        if began < self.due:
            return
        counts = self.database.read(_many)
        if counts:
            self.database.transact(counter_store.put, counts)
        self.due = began + max(EVERY, REST * (self.monotonic() - began))


def _many(store: Store) -> dict[Key, float]:
    states = [state for state in JOB_STATES if _some(store, state) > COUNTED]
    full = [
        one["name"] for one in queue_depths.queues(store, COUNTED + 1) if one["ready"] > COUNTED
    ]
    return {(JOBS, (state,)): _jobs(store, state) for state in states} | {
        (READY_TASKS, (name,)): _ready(store, name) for name in full
    }


def _jobs(store: Store, state: str) -> int:
    (count,) = store.execute(
        f"SELECT COUNT(*) FROM job{use_index(store, 'job_state')} WHERE state = ?", (state,)
    ).get_one()
    return int(count)


def _ready(store: Store, queue: str) -> int:
    (count,) = store.execute(
        f"SELECT COUNT(*) FROM task{use_index(store, 'task_claim')} WHERE state = '{READY}'"
        " AND lane_id IN (SELECT id FROM lane WHERE queue = ?)",
        (queue,),
    ).get_one()
    return int(count)
