"""Queue statistics for pages: what runs, what waits and why, when a queue will be empty.

Only indexes are read, and counts stop at COUNTED, so that the number of jobs does not
matter. Writes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from storm.locals import Store

from backoffice.data import counter_store
from backoffice.data.model import WATCH_FOLDER
from backoffice.data.sql import clock, marks, moment, use_index
from backoffice.engine import claims
from backoffice.reports import obstacles, queue_depths, records
from backoffice.reports.obstacles import ActiveWorker
from backoffice.reports.queue_depths import COUNTED, LaneDepth, count
from backoffice.reports.records import Record
from backoffice.states import ACTIVE, FAILED, PAUSED, RUNNING, SCHEDULED, SUCCEEDED
from backoffice.system.files import path_of

_SAMPLE = 500  # newest ends of tasks that tell how fast queues go
_RECENT = timedelta(hours=1)
_SILENT = timedelta(minutes=2)  # much longer than the interval at which a scheduler writes
_SHORTEST = 60.0  # seconds; a rate over less would mean nothing


def running(store: Store, limit: int) -> list[Record]:
    """Tasks that run, the newest first, each with its job's title and workflow."""
    return _with_jobs(store, records.tasks(store, state=RUNNING, limit=limit))


def running_on(store: Store, tasks: Sequence[int]) -> list[Record]:
    """The same for these tasks, a worker's."""
    return _with_jobs(store, [records.task(store, task) for task in tasks])


def _with_jobs(store: Store, tasks: Sequence[Record]) -> list[Record]:
    jobs = sorted({task["job"] for task in tasks})
    rows = (
        store.execute(f"SELECT id, title, workflow FROM job WHERE id IN ({marks(jobs)})", jobs)
        if jobs
        else ()
    )
    told = {job: {"job_title": title, "workflow": workflow} for job, title, workflow in rows}
    return [task | told.get(task["job"], {"job_title": "", "workflow": ""}) for task in tasks]


# Queues ---------------------------------------------------------------------


def queues(store: Store) -> list[Record]:
    """``queue_depths.queues`` up to COUNTED, and more: ``empty_in`` is after how many
    seconds the queue will be empty (None: not known), ``waits`` why what is ready does
    not run (empty if nothing waits), ``lanes`` the tags that its tasks ask for."""
    running = queue_depths.running(store)
    now = clock(store)
    lanes = queue_depths.lanes(store, now, running, COUNTED + 1)
    rates = _rates(store, now, {lane.id: lane.queue for lane in lanes})
    workers = obstacles.active_workers(store, running)
    return [
        _queue(name, group, rates.get(name), workers)
        for name, group in queue_depths.by_queue(lanes).items()
    ]


def _queue(
    name: str, lanes: Sequence[LaneDepth], rate: float | None, workers: Sequence[ActiveWorker]
) -> Record:
    depth = queue_depths.queue(name, lanes, COUNTED + 1)
    return depth | {
        "empty_in": _empty_in(depth["ready"], depth["running"], rate, depth["paused"]),
        "waits": _waits(depth, lanes, workers) if depth["ready"] else "",
        "lanes": [
            {"tags": sorted(lane.tags), "ready": lane.ready, "running": lane.running}
            for lane in lanes
        ],
    }


def _waits(depth: Record, lanes: Sequence[LaneDepth], workers: Sequence[ActiveWorker]) -> str:
    name = depth["name"]
    reasons = obstacles.of_queue(
        name, paused=depth["paused"], limit=depth["limit"], running=depth["running"]
    )
    wanted = [lane.tags for lane in lanes if lane.ready]
    reasons += obstacles.of_workers(name, wanted, workers)
    return reasons[0] if reasons else "workers are about to take them"


def _empty_in(ready: int, running: int, rate: float | None, paused: bool) -> float | None:
    """As fast as in the last hour, if nothing is added."""
    if not ready + running:
        return 0.0
    if rate is None or (paused and ready) or ready > COUNTED:
        return None
    return (ready + running) / rate


def _rates(store: Store, now: datetime, queues: Mapping[int, str]) -> dict[str, float]:
    """Tasks that ended in each queue, a second, within the last hour; only for queues in
    which more than one ended."""
    ends = [end for action in (SUCCEEDED, FAILED) for end in _ends(store, action, now)]
    lanes = _lanes_of(store, [task for task, _ in ends])
    times: dict[str, list[datetime]] = {}
    for task, at in ends:
        if queue := queues.get(lanes.get(task, 0)):
            times.setdefault(queue, []).append(at)
    return {
        queue: len(moments) / max(_SHORTEST, (now - min(moments)).total_seconds())
        for queue, moments in times.items()
        if len(moments) > 1
    }


def _ends(store: Store, state: str, now: datetime) -> list[tuple[int, datetime]]:
    rows = store.execute(
        f"SELECT task_id, at FROM event{use_index(store, 'event_action')} WHERE action = ?"
        " ORDER BY id DESC LIMIT ?",
        (f"task.{state}", _SAMPLE),
    ).get_all()
    ends = [(task, moment(at) or now) for task, at in rows]
    return [(task, at) for task, at in ends if at > now - _RECENT]


def _lanes_of(store: Store, tasks: Sequence[int]) -> dict[int, int]:
    if not tasks:
        return {}
    rows = store.execute(f"SELECT id, lane_id FROM task WHERE id IN ({marks(tasks)})", tasks)
    return dict(rows.get_all())


def worker_slots(store: Store) -> int:
    """How many tasks all active workers may run at once."""
    (slots,) = store.execute(f"SELECT SUM(slots) FROM worker WHERE state = '{ACTIVE}'").get_one()
    return int(slots or 0)


def serves(worker: Record, queue: str) -> bool:
    """Whether a worker (a record) takes tasks of the queue."""
    return claims.serves(worker["queues"], queue)


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
    """A sentence if no scheduler runs, which scheduled tasks need; else empty."""
    heard = counter_store.scheduler_heard_of(store)
    if heard is None:
        return "no scheduler has ever run: start one"
    if clock(store) - heard > _SILENT:
        return f"no scheduler has been heard of since {heard:%Y-%m-%d %H:%M} UTC: start one"
    return ""


# Watch folders --------------------------------------------------------------


def taken(store: Store, watch: str, limit: int) -> list[Record]:
    """The newest jobs of a watch folder: id, title, state, submitted."""
    names = ("id", "title", "state", "submitted")
    rows = store.execute(
        f"SELECT {', '.join(names)} FROM job{use_index(store, 'job_submitter')}"
        " WHERE submitter = ? ORDER BY id DESC LIMIT ?",
        (f"watch:{watch}", limit),
    ).get_all()
    jobs: list[dict[str, Any]] = [dict(zip(names, row, strict=True)) for row in rows]
    return [job | {"submitted": moment(job["submitted"])} for job in jobs]


# Of files that have been taken the SHA-256 is made soon, so that few rows are looked through.
_UNTAKEN = "watched WHERE watch = ? AND checked = 0 AND job_id IS NULL"


def untaken(store: Store, watch: str, limit: int) -> list[Record]:
    """What a watch folder cannot take at present, the newest first: at, path, reason. Of
    a folder that cannot be read the first is the folder."""
    rows = store.execute(
        f"SELECT taken, href, message FROM {_UNTAKEN}"
        " ORDER BY identity = ? DESC, taken DESC LIMIT ?",
        (watch, WATCH_FOLDER, limit),
    ).get_all()
    return [
        {"at": moment(at), "path": os.fsencode(path_of(href)).decode("utf-8", "replace")}
        | {"reason": reason}
        for at, href, reason in rows
    ]


def untaken_count(store: Store, watch: str) -> tuple[int, bool]:
    """Of its files, and whether the folder itself can be read."""
    (files, folders) = store.execute(
        "SELECT SUM(CASE WHEN identity = ? THEN 0 ELSE 1 END), SUM(CASE WHEN identity = ? THEN 1"
        f" ELSE 0 END) FROM {_UNTAKEN}",
        (WATCH_FOLDER, WATCH_FOLDER, watch),
    ).get_one()
    return int(files or 0), not folders
