"""Queue depths: how many tasks of each queue are ready and run, and for how long.

The one source of these numbers: documents and commands count all that is ready,
pages and metrics count up to COUNTED. Only indexes are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from storm.locals import Store

from backoffice.data.sql import clock, moment, use_index
from backoffice.states import READY, RUNNING

COUNTED = 10_000  # a count that is one more means "more than"

Record = dict[str, Any]


@dataclass
class LaneDepth:
    """The tasks of a queue that ask for the same tags. ``oldest`` is for how many
    seconds the one that was submitted first has been ready."""

    id: int
    queue: str
    tags: frozenset[str]
    paused: bool
    limit: int | None
    ready: int = 0
    running: int = 0
    oldest: float | None = None


def queues(store: Store, most: int | None = None) -> list[Record]:
    """Queues by name: name, paused, limit, ready, running, oldest (seconds, or None).
    ``ready`` is at most ``most``."""
    depths = lanes(store, clock(store), running(store), most)
    return [queue(name, group, most) for name, group in by_queue(depths).items()]


def queue(name: str, group: Sequence[LaneDepth], most: int | None = None) -> Record:
    """The record of a queue with these lanes."""
    ages = [lane.oldest for lane in group if lane.oldest is not None]
    ready = sum(lane.ready for lane in group)
    return {
        "name": name,
        "paused": group[0].paused,
        "limit": group[0].limit,
        "ready": ready if most is None else min(ready, most),
        "running": sum(lane.running for lane in group),
        "oldest": max(ages, default=None),
    }


def by_queue(depths: Iterable[LaneDepth]) -> Mapping[str, list[LaneDepth]]:
    groups: dict[str, list[LaneDepth]] = {}
    for lane in sorted(depths, key=lambda lane: lane.queue):
        groups.setdefault(lane.queue, []).append(lane)
    return groups


def running(store: Store) -> list[tuple[int, int]]:
    """Lane and worker of each task that runs: no more than workers have slots."""
    rows: list[tuple[int, int]] = store.execute(
        f"SELECT lane_id, worker_id FROM task{use_index(store, 'task_claim')}"
        f" WHERE state = '{RUNNING}'"
    ).get_all()
    return rows


def lanes(
    store: Store, now: datetime, running: Iterable[tuple[int, int]], most: int | None = None
) -> list[LaneDepth]:
    """Read after ``running``: a lane may appear at any time, and is never removed."""
    rows = store.execute(
        "SELECT lane.id, lane.queue, lane.tags, queue.paused, queue.capacity FROM lane"
        " LEFT JOIN queue ON queue.name = lane.queue ORDER BY lane.queue, lane.tags"
    ).get_all()
    depths = {
        lane: LaneDepth(lane, queue, frozenset(tags.split()), bool(paused), limit)
        for lane, queue, tags, paused, limit in rows
    }
    for number, _ in running:
        depths[number].running += 1
    for lane in depths.values():
        ready_at = _first_ready(store, lane.id)
        if ready_at is not None:
            lane.ready = _count_ready(store, lane.id, most)
            lane.oldest = max(0.0, round((now - ready_at).total_seconds(), 1))
    return list(depths.values())


def _first_ready(store: Store, lane: int) -> datetime | None:
    """Since when the task has been ready that was submitted first. The index has
    it first of its priority, so each priority costs one step."""
    first: tuple[int, datetime] | None = None
    priority = -1
    while row := store.execute(
        f"SELECT priority, id, ready_at FROM task WHERE state = '{READY}' AND lane_id = ?"
        " AND priority > ? ORDER BY priority, id LIMIT 1",
        (lane, priority),
    ).get_one():
        priority, task, ready_at = row[0], row[1], moment(row[2])
        if ready_at is not None and (first is None or task < first[0]):
            first = task, ready_at
    return first[1] if first else None


def _count_ready(store: Store, lane: int, most: int | None) -> int:
    rows = f"task{use_index(store, 'task_claim')} WHERE state = '{READY}' AND lane_id = ?"
    if most is not None:
        return count(store, rows, lane, most=most)
    (ready,) = store.execute(f"SELECT COUNT(*) FROM {rows}", (lane,)).get_one()
    return int(ready)


def count(store: Store, rows: str, *values: object, most: int) -> int:
    """How many such rows there are, and no further than ``most``."""
    (counted,) = store.execute(
        f"SELECT COUNT(*) FROM (SELECT 1 FROM {rows} LIMIT ?) some", (*values, most)
    ).get_one()
    return int(counted)
