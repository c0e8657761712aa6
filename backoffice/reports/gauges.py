"""Gauges for Prometheus, which asks every few seconds: jobs and ready tasks by state.

Up to COUNTED are counted at each request. Larger numbers are those that a scheduler
has counted last, which takes at most a hundredth of its time. Only indexes are read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from storm.locals import Store

from backoffice.data import counter_store
from backoffice.data.counters import Key
from backoffice.data.database import Database
from backoffice.data.sql import use_index
from backoffice.reports import queue_depths
from backoffice.reports.queue_depths import COUNTED
from backoffice.reports.records import Record
from backoffice.states import JOB_STATES, READY

EVERY = 15.0  # seconds between two counts, at least
REST = 100  # pause after a count, in times of its duration
JOBS, READY_TASKS = "jobs", "queue_ready_tasks"  # names of metrics

Kept = Mapping[Key, float]  # as ``counter_store.read`` gives them


def jobs(store: Store, kept: Kept) -> dict[str, float]:
    """How many there are in each state."""
    counts = {state: _some(store, state) for state in JOB_STATES}
    return {state: _full(count, (JOBS, (state,)), kept) for state, count in counts.items()}


def queues(store: Store, kept: Kept) -> list[Record]:
    """Like ``queue_depths.queues``, with all ready tasks."""
    return [
        queue | {"ready": _full(queue["ready"], (READY_TASKS, (queue["name"],)), kept)}
        for queue in queue_depths.queues(store, COUNTED + 1)
    ]


def _full(count: int, key: Key, kept: Kept) -> float:
    return count if count <= COUNTED else max(count, kept.get(key, 0))


def _some(store: Store, state: str) -> int:
    rows = f"job{use_index(store, 'job_state')} WHERE state = ?"
    return queue_depths.count(store, rows, state, most=COUNTED + 1)


class LargeCounts:
    """Counts what is too much to be counted at each request."""

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
