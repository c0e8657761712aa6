"""What the overview shows of the present: what runs, what waits and for what,
and when a queue will be empty.

Reads indexes alone, and counts no further than people care to know, however
many jobs there are. Writes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from storm.locals import Store

from backoffice.data import counter_store
from backoffice.data.database import clock, marks, moment, use_index
from backoffice.engine import claims
from backoffice.reports import records
from backoffice.reports.records import Record
from backoffice.states import ACTIVE, FAILED, PAUSED, READY, RUNNING, SCHEDULED, SUCCEEDED

COUNTED = 10_000  # of one kind, at most; what counts one more says "more than"
_SAMPLE = 500  # newest ends of tasks that tell how fast queues go
_RECENT = timedelta(hours=1)
_SILENT = timedelta(minutes=2)  # much longer than a scheduler needs to be heard of
_SHORTEST = 60.0  # seconds; a rate over less would mean nothing
_ROWS = 1000  # ids in one statement


def running(store: Store, limit: int) -> list[Record]:
    """Tasks that run, the newest first, each with its job's title and workflow."""
    return _with_jobs(store, records.tasks(store, state=RUNNING, limit=limit))


def running_on(store: Store, tasks: Sequence[int]) -> list[Record]:
    """The same of a worker's tasks."""
    return _with_jobs(store, [records.task(store, one) for one in tasks])


def _with_jobs(store: Store, found: Sequence[Record]) -> list[Record]:
    jobs = sorted({one["job"] for one in found})
    rows = (
        store.execute(f"SELECT id, title, workflow FROM job WHERE id IN ({marks(jobs)})", jobs)
        if jobs
        else ()
    )
    told = {job: {"job_title": title, "workflow": workflow} for job, title, workflow in rows}
    return [one | told.get(one["job"], {"job_title": "", "workflow": ""}) for one in found]


# Queues ---------------------------------------------------------------------


def queues(store: Store) -> list[Record]:
    """Queues by name. ``ready`` is at most COUNTED + 1. ``oldest`` is for how many
    seconds its first task has been ready, ``empty_in`` after how many more the
    queue will be empty; None: nobody knows. ``waits`` is why what is ready does
    not run, and empty if nothing waits. ``lanes`` are the tags that are asked for."""
    now = clock(store)
    running = _running(store)
    lanes = _lanes(store, now, running)
    rates = _rates(store, now, {lane.id: lane.queue for lane in lanes})
    workers = _workers(store, Counter(worker for _, worker in running))
    return [
        _queue(name, [lane for lane in lanes if lane.queue == name], rates.get(name), workers)
        for name in sorted({lane.queue for lane in lanes})
    ]


def depths(store: Store) -> list[Record]:
    """The cheaper part of the same: name, paused, limit, ready, running, oldest."""
    lanes = _lanes(store, clock(store), _running(store))
    return [
        _depth(name, [lane for lane in lanes if lane.queue == name])
        for name in sorted({lane.queue for lane in lanes})
    ]


@dataclass
class _Lane:
    id: int
    queue: str
    tags: frozenset[str]
    paused: bool
    limit: int | None
    ready: int = 0
    running: int = 0
    oldest: float | None = None


def _queue(
    name: str, lanes: Sequence[_Lane], rate: float | None, workers: Sequence[_Worker]
) -> Record:
    depth = _depth(name, lanes)
    ready, active = depth["ready"], depth["running"]
    return depth | {
        "empty_in": _empty_in(ready, active, rate, lanes[0].paused),
        "waits": _waits(lanes, active, workers) if ready else "",
        "lanes": [
            {"tags": sorted(lane.tags), "ready": lane.ready, "running": lane.running}
            for lane in lanes
        ],
    }


def _depth(name: str, lanes: Sequence[_Lane]) -> Record:
    ages = [lane.oldest for lane in lanes if lane.oldest is not None]
    return {
        **{"name": name, "paused": lanes[0].paused, "limit": lanes[0].limit},
        "ready": min(sum(lane.ready for lane in lanes), COUNTED + 1),
        "running": sum(lane.running for lane in lanes),
        "oldest": max(ages, default=None),
    }


def _empty_in(ready: int, running: int, rate: float | None, paused: bool) -> float | None:
    """As fast as in the last hour, if nothing is added."""
    if not ready + running:
        return 0.0
    if rate is None or (paused and ready) or ready > COUNTED:
        return None
    return (ready + running) / rate


def _lanes(store: Store, now: datetime, running: Iterable[tuple[int, int]]) -> list[_Lane]:
    rows = store.execute(
        "SELECT lane.id, lane.queue, lane.tags, queue.paused, queue.capacity FROM lane"
        " LEFT JOIN queue ON queue.name = lane.queue ORDER BY lane.queue, lane.tags"
    ).get_all()
    lanes = {
        lane: _Lane(lane, queue, frozenset(tags.split()), bool(paused), limit)
        for lane, queue, tags, paused, limit in rows
    }
    for lane, _ in running:
        lanes[lane].running += 1
    for one in lanes.values():
        first = _first_ready(store, one.id)
        if first is not None:
            one.ready = count_ready(store, one.id)
            one.oldest = max(0.0, (now - first).total_seconds())
    return list(lanes.values())


def _running(store: Store) -> list[tuple[int, int]]:
    """Lane and worker of each task that runs: no more than workers have slots."""
    rows: list[tuple[int, int]] = store.execute(
        f"SELECT lane_id, worker_id FROM task{use_index(store, 'task_claim')}"
        f" WHERE state = '{RUNNING}'"
    ).get_all()
    return rows


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
        priority, task, since = row[0], row[1], moment(row[2])
        if since is not None and (first is None or task < first[0]):
            first = task, since
    return first[1] if first else None


def count_ready(store: Store, lane: int) -> int:
    """At most COUNTED + 1."""
    return count(store, f"task WHERE state = '{READY}' AND lane_id = ?", lane, most=COUNTED + 1)


def _rates(store: Store, now: datetime, queues: Mapping[int, str]) -> dict[str, float]:
    """Tasks that left each queue, a second, within the last hour; only for those
    that more than one has left."""
    ends = [end for action in (SUCCEEDED, FAILED) for end in _ends(store, action, now)]
    lanes = _lanes_of(store, [task for task, _ in ends])
    times: dict[str, list[datetime]] = {}
    for task, at in ends:
        if queue := queues.get(lanes.get(task, 0)):
            times.setdefault(queue, []).append(at)
    return {
        queue: len(found) / max(_SHORTEST, (now - min(found)).total_seconds())
        for queue, found in times.items()
        if len(found) > 1
    }


def _ends(store: Store, state: str, now: datetime) -> list[tuple[int, datetime]]:
    rows = store.execute(
        f"SELECT task_id, at FROM event{use_index(store, 'event_action')} WHERE action = ?"
        " ORDER BY id DESC LIMIT ?",
        (f"task.{state}", _SAMPLE),
    ).get_all()
    found = [(task, moment(at) or now) for task, at in rows]
    return [(task, at) for task, at in found if at > now - _RECENT]


def _lanes_of(store: Store, tasks: Sequence[int]) -> dict[int, int]:
    if not tasks:
        return {}
    rows = store.execute(f"SELECT id, lane_id FROM task WHERE id IN ({marks(tasks)})", tasks)
    return dict(rows.get_all())


# Why what is ready waits ----------------------------------------------------


@dataclass(frozen=True)
class _Worker:
    queues: Sequence[str]
    tags: frozenset[str]
    slots: int
    busy: int


def _workers(store: Store, busy: Mapping[int, int]) -> list[_Worker]:
    """Those that are active."""
    rows = store.execute(
        f"SELECT id, queues, tags, slots FROM worker WHERE state = '{ACTIVE}'"
    ).get_all()
    return [
        _Worker(queues.split(), frozenset(tags.split()), slots, busy.get(worker, 0))
        for worker, queues, tags, slots in rows
    ]


def worker_slots(store: Store) -> int:
    """How many tasks all active workers may run at once."""
    (slots,) = store.execute(f"SELECT SUM(slots) FROM worker WHERE state = '{ACTIVE}'").get_one()
    return int(slots or 0)


def serves(worker: Record, queue: str) -> bool:
    """Whether a worker (a record) takes tasks of the queue."""
    return claims.serves(worker["queues"], queue)


def _waits(lanes: Sequence[_Lane], running: int, workers: Sequence[_Worker]) -> str:
    first = lanes[0]
    if first.paused:
        return "the queue is paused: resume it to go on"
    if first.limit is not None and running >= first.limit:
        return f"its limit is reached: {running} of {first.limit} run"
    if not workers:
        return "no worker is active: start one"
    serving = [one for one in workers if claims.serves(one.queues, first.queue)]
    if not serving:
        return "no active worker serves this queue"
    waiting = [lane for lane in lanes if lane.ready]
    lacking = [lane for lane in waiting if not _able(lane, serving)]
    if lacking:
        return f"{_number(lacking)} for a worker with {_tags(lacking)}"
    able = [one for one in serving if any(lane.tags <= one.tags for lane in waiting)]
    if all(one.busy >= one.slots for one in able):
        return f"all slots of its workers are busy ({sum(one.slots for one in able)})"
    return "workers are about to take them"


def _able(lane: _Lane, workers: Iterable[_Worker]) -> bool:
    return any(lane.tags <= one.tags for one in workers)


def _number(lanes: Sequence[_Lane]) -> str:
    ready = sum(lane.ready for lane in lanes)
    if ready > COUNTED:
        return f"more than {COUNTED} wait"
    return f"{ready} wait" if ready > 1 else "1 waits"


def _tags(lanes: Sequence[_Lane]) -> str:
    return " or ".join(
        f"tag {' and '.join(sorted(lane.tags))}" for lane in sorted(lanes, key=lambda one: one.id)
    )


# What else waits ------------------------------------------------------------


def paused_jobs(store: Store) -> int:
    """At most COUNTED + 1."""
    return count(store, f"job WHERE state = '{PAUSED}'", most=COUNTED + 1)


def scheduled_tasks(store: Store) -> tuple[int, datetime | None]:
    """How many tasks wait for a time, at most COUNTED + 1, and the next of these times."""
    tasks = count(store, f"task WHERE state = '{SCHEDULED}'", most=COUNTED + 1)
    (coming,) = store.execute(f"SELECT MIN(run_at) FROM task WHERE state = '{SCHEDULED}'").get_one()
    return tasks, moment(coming)


def no_scheduler(store: Store) -> str:
    """That nobody makes it ready when its time has come, or empty."""
    heard = counter_store.scheduler_heard_of(store)
    if heard is None:
        return "no scheduler has ever run: start one"
    if clock(store) - heard > _SILENT:
        return f"no scheduler has been heard of since {heard:%Y-%m-%d %H:%M} UTC: start one"
    return ""


def count(store: Store, rows: str, *values: object, most: int) -> int:
    """How many such rows there are, and no further than ``most``."""
    (found,) = store.execute(
        f"SELECT COUNT(*) FROM (SELECT 1 FROM {rows} LIMIT ?) some", (*values, most)
    ).get_one()
    return int(found)


# Watch folders --------------------------------------------------------------


def taken(store: Store, watch: str, limit: int) -> list[Record]:
    """The newest jobs of a watch folder: id, title, state, submitted."""
    names = ("id", "title", "state", "submitted")
    rows = store.execute(
        f"SELECT {', '.join(names)} FROM job{use_index(store, 'job_submitter')}"
        " WHERE submitter = ? ORDER BY id DESC LIMIT ?",
        (f"watch:{watch}", limit),
    ).get_all()
    found: list[dict[str, Any]] = [dict(zip(names, row, strict=True)) for row in rows]
    return [one | {"submitted": moment(one["submitted"])} for one in found]


def refused(store: Store, watch: str, limit: int) -> list[Record]:
    """What it has refused lately: at, detail. Only the newest refusals of all
    watch folders are looked through."""
    rows = store.execute(
        f"SELECT at, subject, detail FROM event{use_index(store, 'event_action')}"
        " WHERE action = 'watch.refused' ORDER BY id DESC LIMIT ?",
        (_ROWS,),
    ).get_all()
    found = [
        {"at": moment(at), "detail": detail}
        for at, subject, detail in rows
        if subject == f"watch {watch}"
    ]
    return found[:limit]
