"""Why a job or a task is in its state: a sentence for each reason.

Says what an operator could change, in the order in which the engine checks it. Only
reads, and counts up to COUNTED.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from storm.locals import Store

from backoffice import units
from backoffice.data import model
from backoffice.data.model import Task
from backoffice.data.sql import marks
from backoffice.engine import claims
from backoffice.engine.transitions import DONE
from backoffice.reports import obstacles, queue_depths, records
from backoffice.reports.queue_depths import COUNTED
from backoffice.reports.records import Record
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


def task(store: Store, task_id: int) -> list[str]:
    """Raises NotFound."""
    row = model.get(store, Task, task_id, "task")
    job = records.timed_job(store, row.job_id)
    return _task(store, next(one for one in job["tasks"] if one["id"] == task_id), job)


def job(store: Store, job_id: int) -> list[str]:
    """Raises NotFound."""
    return of_job(store, records.timed_job(store, job_id))


def of_job(store: Store, job: Record) -> list[str]:
    """The same for a job's whole record, as ``records.timed_job`` gives it."""
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
    """A cancel or a pause that a user asked for."""
    if job["cancel_requested"] is not None:
        at, who = when(job["cancel_requested"]), _by(store, job["id"], "cancel-requested")
        return [f"cancel was asked for at {at}{who}; what runs is being stopped"]
    if job["state"] == PAUSED:
        return [f"job {job['id']} is paused{_by(store, job['id'], 'paused')}: resume it to go on"]
    return []


def _by(store: Store, job_id: int, action: str) -> str:
    """The actor of the last such event."""
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
    """Reasons in the task itself; each continues "task NAME"."""
    if task["state"] == SCHEDULED:
        return [_scheduled(task, job["now"])]
    if task["state"] == READY:
        return _ready(store, task)
    if task["state"] == RUNNING:
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
    left = units.duration((task["run_at"] - now).total_seconds())
    return f"waits until {when(task['run_at'])} (in {left}{why})"


def _running(task: Record, now: datetime) -> list[str]:
    host = f" on {task['host']}" if task["host"] else ""
    since, progress = when(task["started"]), task["progress"]
    reasons = [f"is running{host} (worker {task['worker']}) since {since}, {progress:.0f} %"]
    if task["cancel_requested"] is not None:
        at = when(task["cancel_requested"])
        reasons.append(f"is being stopped: cancel was asked for at {at}")
    if task["lease_until"] is not None and task["lease_until"] < now:
        silent = units.duration((now - task["lease_until"]).total_seconds())
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


def _ready(store: Store, task: Record) -> list[str]:
    name = task["queue"]
    queue = store.get(model.Queue, name)
    reasons = obstacles.of_queue(
        name,
        paused=queue is not None and queue.paused,
        limit=None if queue is None else queue.capacity,
        running=claims.running_in(store, name),
    )
    workers = obstacles.active_workers(store, queue_depths.running(store))
    reasons += obstacles.of_workers(name, [frozenset(task["tags"])], workers)
    sentences = [f"is ready, but {reason}" for reason in reasons]
    ahead = _ahead(store, task, name)
    if ahead:
        many = f"more than {COUNTED} tasks are" if ahead > COUNTED else _count(ahead)
        sentences.append(f"is ready; {many} ahead of it in queue {name}")
    return sentences or ["is ready: a worker will take it at any moment"]


def _count(tasks: int) -> str:
    return "1 task is" if tasks == 1 else f"{tasks} tasks are"


def _ahead(store: Store, task: Record, queue: str) -> int:
    lanes = [lane for (lane,) in store.execute("SELECT id FROM lane WHERE queue = ?", (queue,))]
    (count,) = store.execute(
        f"SELECT COUNT(*) FROM (SELECT 1 FROM task WHERE state = '{READY}'"
        f" AND lane_id IN ({marks(lanes)}) AND (priority < ? OR (priority = ? AND id < ?))"
        " LIMIT ?) ahead",
        (*lanes, task["priority"], task["priority"], task["id"], COUNTED + 1),
    ).get_one()
    return int(count)
