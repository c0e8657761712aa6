"""Why a job or a task is where it is: a plain sentence for each reason.

Tells what an operator could change, in the order in which the engine asks.
Only reads, and counts no further than people care to know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from storm.locals import Store

from backoffice import claims, model, records
from backoffice.database import marks
from backoffice.flow import DONE
from backoffice.model import Task
from backoffice.records import Record
from backoffice.states import (
    BLOCKED,
    CANCELLED,
    FAILED,
    JOB_ENDED,
    PAUSED,
    READY,
    RUNNING,
    SCHEDULED,
    SKIPPED,
    SUCCEEDED,
    TASK_ENDED,
)

COUNTED = 10_000  # tasks ahead, at most


def task(store: Store, task_id: int) -> list[str]:
    """Raises NotFound."""
    row = model.get(store, Task, task_id, "task")
    job = records.timed_job(store, row.job_id)
    return _task(store, next(one for one in job["tasks"] if one["id"] == task_id), job)


def job(store: Store, job_id: int) -> list[str]:
    """Raises NotFound."""
    return of_job(store, records.timed_job(store, job_id))


def of_job(store: Store, job: Record) -> list[str]:
    """The same of a job's whole record, with its time."""
    if job["state"] in JOB_ENDED:
        return [_job_end(store, job)]
    tasks = job["tasks"]
    reasons = _asked_of_job(store, job)
    for one in tasks:
        if one["state"] in (RUNNING, READY, SCHEDULED):
            reasons += [f"task {one['name']} {own}" for own in _own(store, one, job)]
    reasons += [f"task {t['name']} failed: {t['message']}" for t in tasks if t["state"] == FAILED]
    return reasons or [
        f"job {job['id']} is {job['state']}: its next tasks are about to become ready"
    ]


def span(seconds: float) -> str:
    """A length of time as people say it: ``4 min``, ``2 h 5 min``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes = whole // 60
    if minutes < 60:
        rest = whole % 60
        return f"{minutes} min {rest} s" if minutes < 5 and rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} days"


def when(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


# Jobs -----------------------------------------------------------------------


def _job_end(store: Store, job: Record) -> str:
    number, at = job["id"], when(job["finished"])
    if job["state"] == SUCCEEDED:
        return f"job {number} succeeded at {at}"
    if job["state"] == CANCELLED:
        return f"job {number} was cancelled at {at}{_by(store, number, 'cancel-requested')}"
    return f"job {number} failed at {at}: {job['message']} (mend the cause, then retry the job)"


def _asked_of_job(store: Store, job: Record) -> list[str]:
    """What somebody wants of it."""
    if job["cancel_requested"] is not None:
        at, who = when(job["cancel_requested"]), _by(store, job["id"], "cancel-requested")
        return [f"cancel was asked for at {at}{who}; what runs is being stopped"]
    if job["state"] == PAUSED:
        return [f"job {job['id']} is paused{_by(store, job['id'], 'paused')}: resume it to go on"]
    return []


def _by(store: Store, job_id: int, action: str) -> str:
    """Who did it last, as the history has it."""
    found = store.execute(
        "SELECT actor FROM event WHERE job_id = ? AND action = ? ORDER BY id DESC LIMIT 1",
        (job_id, f"job.{action}"),
    ).get_one()
    return f" by {found[0]}" if found else ""


# Tasks ----------------------------------------------------------------------


def _task(store: Store, task: Record, job: Record) -> list[str]:
    asked = [] if task["state"] in TASK_ENDED else _asked_of_job(store, job)
    if task["state"] == BLOCKED:
        own = _blocked(task, job["tasks"])
        if not own and not asked:
            own = ["is about to become ready"]
    else:
        own = _own(store, task, job)
    return asked + [f"task {task['name']} {reason}" for reason in own]


def _own(store: Store, task: Record, job: Record) -> list[str]:
    """What can be said of the task itself: the rest of sentences about it."""
    match task["state"]:
        case "scheduled":
            return [_scheduled(task, job["now"])]
        case "ready":
            return _ready(store, task)
        case "running":
            return _running(task, job["now"])
    return [_ended(store, task, job)]


def _blocked(task: Record, tasks: Sequence[Record]) -> list[str]:
    by_name = {one["name"]: one for one in tasks}
    needs = [by_name[name] for name in task["needs"]]
    reasons = [
        f"is blocked by task {need['name']} ({_state(need)})"
        for need in needs
        if need["state"] not in DONE
    ]
    waited_for = {need["name"] for need in needs}
    reasons += [
        f"waits because task {one['name']} failed: {one['message']} (mend the cause, retry the job)"
        for one in tasks
        if one["state"] == FAILED and one["name"] not in waited_for
    ]
    return reasons


def _state(task: Record) -> str:
    if task["state"] == RUNNING:
        return f"running, {task['progress']:.0f} %"
    if task["state"] == FAILED:
        return f"failed: {task['message']}"
    return str(task["state"])


def _scheduled(task: Record, now: datetime) -> str:
    number = f"attempt {task['failures'] + 1} of {task['attempts']}"
    why = f"; {number} after: {task['message']}" if task["failures"] else ""
    if task["run_at"] is None or task["run_at"] <= now:
        return f"is due, but no scheduler has made it ready yet: see that one runs{why}"
    left = span((task["run_at"] - now).total_seconds())
    return f"waits until {when(task['run_at'])} (in {left}{why})"


def _running(task: Record, now: datetime) -> list[str]:
    host = f" on {task['host']}" if task["host"] else ""
    since, progress = when(task["started"]), task["progress"]
    reasons = [f"is running{host} (worker {task['worker']}) since {since}, {progress:.0f} %"]
    if task["cancel_requested"] is not None:
        at = when(task["cancel_requested"])
        reasons.append(f"is being stopped: cancel was asked for at {at}")
    if task["lease_until"] is not None and task["lease_until"] < now:
        silent = span((now - task["lease_until"]).total_seconds())
        reasons.append(
            f"has a worker that is overdue by {silent}; a scheduler will give it to another"
        )
    return reasons


def _ended(store: Store, task: Record, job: Record) -> str:
    at = f" at {when(task['finished'])}" if task["finished"] else ""
    message = task["message"]
    if task["state"] == SUCCEEDED:
        return f"succeeded{at}" + (f", with a warning: {message}" if message else "")
    if task["state"] == SKIPPED:
        return f"was skipped {message}".rstrip()
    if task["state"] == CANCELLED:
        return f"was cancelled{at}{_by(store, job['id'], 'cancel-requested')}"
    return f"failed{at}: {message} (mend the cause, then retry job {job['id']})"


# Ready: what keeps workers from taking it -----------------------------------


@dataclass(frozen=True)
class _Worker:
    slots: int
    busy: int
    queues: Sequence[str]
    tags: frozenset[str]


def _ready(store: Store, task: Record) -> list[str]:
    queue = task["queue"]
    reasons = _closed(store, queue) + _unserved(store, queue, frozenset(task["tags"]))
    ahead = _ahead(store, task, queue)
    if ahead:
        many = f"more than {COUNTED} tasks are" if ahead > COUNTED else _count(ahead)
        reasons.append(f"is ready; {many} ahead of it in queue {queue}")
    return reasons or ["is ready: a worker will take it at any moment"]


def _count(tasks: int) -> str:
    return "1 task is" if tasks == 1 else f"{tasks} tasks are"


def _closed(store: Store, name: str) -> list[str]:
    queue = store.get(model.Queue, name)
    if queue is None:
        return []
    if queue.paused:
        return [f"is ready, but queue {name} is paused: resume it"]
    if queue.capacity is None:
        return []
    running = claims.running_in(store, name)
    if running < queue.capacity:
        return []
    limit = f"{running} of {queue.capacity} tasks of queue {name} run"
    return [f"is ready, but the limit is reached: {limit}"]


def _unserved(store: Store, queue: str, wanted: frozenset[str]) -> list[str]:
    """Why none of the workers there are can take it now."""
    active = _active(store)
    if not active:
        return ["is ready, but no worker is active: start one"]
    serving = [one for one in active if claims.serves(one.queues, queue)]
    if not serving:
        return [f"is ready, but no active worker serves queue {queue}"]
    able = [one for one in serving if wanted <= one.tags]
    if not able:
        return [f"is ready, but no worker with {_tags(wanted)} serves queue {queue}"]
    slots, busy = sum(one.slots for one in able), sum(one.busy for one in able)
    if all(one.busy >= one.slots for one in able):
        return [f"is ready, but all slots of its workers are busy ({busy} of {slots})"]
    return []


def _tags(wanted: frozenset[str]) -> str:
    names = " and ".join(sorted(wanted))
    return f"tag {names}" if len(wanted) == 1 else f"tags {names}"


def _active(store: Store) -> list[_Worker]:
    rows = store.execute(
        "SELECT w.slots, COUNT(t.id), w.queues, w.tags FROM worker w"
        " LEFT JOIN task t ON t.worker_id = w.id AND t.state = 'running'"
        " WHERE w.state = 'active' GROUP BY w.id, w.slots, w.queues, w.tags"
    ).get_all()
    return [
        _Worker(slots, busy, queues.split(), frozenset(tags.split()))
        for slots, busy, queues, tags in rows
    ]


def _ahead(store: Store, task: Record, queue: str) -> int:
    lanes = [lane for (lane,) in store.execute("SELECT id FROM lane WHERE queue = ?", (queue,))]
    (count,) = store.execute(
        "SELECT COUNT(*) FROM (SELECT 1 FROM task WHERE state = 'ready'"
        f" AND lane_id IN ({marks(lanes)}) AND (priority < ? OR (priority = ? AND id < ?))"
        " LIMIT ?) ahead",
        (*lanes, task["priority"], task["priority"], task["id"], COUNTED + 1),
    ).get_one()
    return int(count)
