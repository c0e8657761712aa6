"""Why a job or a task is in its state: a sentence for each reason.

Says what an operator could change, in the order in which the engine checks it. Only
reads, and counts up to COUNTED.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from storm.locals import Store

from backoffice.data import model
from backoffice.data.model import Job, Lane, Task
from backoffice.data.sql import clock, marks
from backoffice.engine import claims, transitions
from backoffice.engine.transitions import DONE, JobTask
from backoffice.reports import obstacles, queue_depths
from backoffice.reports.queue_depths import COUNTED
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
    job_row = model.get(store, Job, row.job_id, "job")
    return _task(store, row, job_row, transitions.load(store, row.job_id), clock(store))


def job(store: Store, job_id: int) -> list[str]:
    """Raises NotFound."""
    row = model.get(store, Job, job_id, "job")
    if row.state in JOB_ENDED:
        return [_job_end(store, row)]
    steps = transitions.load(store, job_id)
    now = clock(store)
    reasons = _asked_of_job(store, row)
    for step in steps:
        if step.state in (RUNNING, READY, SCHEDULED):
            one = store.get(Task, step.id)
            reasons += [f"task {step.name} {own}" for own in _own(store, one, row, now)]
    reasons += [f"task {s.name} failed: {s.message}" for s in steps if s.state == FAILED]
    return reasons or [f"job {job_id} is {row.state}: its next tasks are about to become ready"]


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


def _job_end(store: Store, row: Job) -> str:
    at = when(row.finished)
    if row.state == SUCCEEDED:
        return f"job {row.id} succeeded at {at}"
    if row.state == CANCELLED:
        return f"job {row.id} was cancelled at {at}{_by(store, row.id, 'cancel-requested')}"
    return f"job {row.id} failed at {at}: {row.message} (mend the cause, then retry the job)"


def _asked_of_job(store: Store, row: Job) -> list[str]:
    """A cancel or a pause that a user asked for."""
    if row.cancel_requested is not None:
        at, who = when(row.cancel_requested), _by(store, row.id, "cancel-requested")
        return [f"cancel was asked for at {at}{who}; what runs is being stopped"]
    if row.state == PAUSED:
        return [_paused(store, row)]
    return []


def _paused(store: Store, row: Job) -> str:
    return f"job {row.id} is paused{_by(store, row.id, 'paused')}: resume it to go on"


def _by(store: Store, job_id: int, action: str) -> str:
    """The actor of the last such event."""
    found = store.execute(
        "SELECT actor FROM event WHERE job_id = ? AND action = ? ORDER BY id DESC LIMIT 1",
        (job_id, f"job.{action}"),
    ).get_one()
    return f" by {found[0]}" if found else ""


# Tasks ----------------------------------------------------------------------


def _task(
    store: Store, row: Task, job_row: Job, steps: Sequence[JobTask], now: datetime
) -> list[str]:
    asked = [] if row.state in TASK_ENDED else _asked_of_job(store, job_row)
    if row.state == BLOCKED:
        own = _blocked(row, steps)
        if not own and not asked:
            own = ["is about to become ready"]
    else:
        own = _own(store, row, job_row, now)
    return asked + [f"task {row.name} {reason}" for reason in own]


def _own(store: Store, row: Task, job_row: Job, now: datetime) -> list[str]:
    """Reasons in the task itself; each continues "task NAME"."""
    if row.state == SCHEDULED:
        return [_scheduled(row, now)]
    if row.state == READY:
        return _ready(store, row)
    if row.state == RUNNING:
        return _running(store, row, now)
    return [_ended(store, row, job_row)]


def _blocked(row: Task, steps: Sequence[JobTask]) -> list[str]:
    by_name = {step.name: step for step in steps}
    needs = [by_name[name] for name in row.spec["needs"]]
    reasons = [
        f"is blocked by task {need.name} ({_state(need)})"
        for need in needs
        if need.state not in DONE
    ]
    waited_for = {need.name for need in needs}
    reasons += [
        f"waits because task {step.name} failed: {step.message} (mend the cause, retry the job)"
        for step in steps
        if step.state == FAILED and step.name not in waited_for
    ]
    return reasons


def _state(step: JobTask) -> str:
    if step.state == RUNNING:
        return f"running, {step.progress:.0f} %"
    if step.state == FAILED:
        return f"failed: {step.message}"
    return step.state


def _scheduled(row: Task, now: datetime) -> str:
    number = f"attempt {row.failures + 1} of {row.max_attempts}"
    why = f"; {number} after: {row.message}" if row.failures else ""
    if row.run_at is None or row.run_at <= now:
        return f"is due, but no scheduler has made it ready yet: see that one runs{why}"
    left = span((row.run_at - now).total_seconds())
    return f"waits until {when(row.run_at)} (in {left}{why})"


def _running(store: Store, row: Task, now: datetime) -> list[str]:
    worker = store.execute("SELECT host FROM worker WHERE id = ?", (row.worker_id,)).get_one()
    host = f" on {worker[0]}" if worker else ""
    reasons = [
        f"is running{host} (worker {row.worker_id}) since {when(row.started)}, {row.progress:.0f} %"
    ]
    if row.cancel_requested is not None:
        reasons.append(f"is being stopped: cancel was asked for at {when(row.cancel_requested)}")
    if row.lease_until is not None and row.lease_until < now:
        silent = span((now - row.lease_until).total_seconds())
        reasons.append(
            f"has a worker that is overdue by {silent}; a scheduler will give it to another"
        )
    return reasons


def _ended(store: Store, row: Task, job_row: Job) -> str:
    at = f" at {when(row.finished)}" if row.finished else ""
    if row.state == SUCCEEDED:
        return f"succeeded{at}" + (f", with a warning: {row.message}" if row.message else "")
    if row.state == SKIPPED:
        return f"was skipped {row.message}".rstrip()
    if row.state == CANCELLED:
        return f"was cancelled{at}{_by(store, job_row.id, 'cancel-requested')}"
    return f"failed{at}: {row.message} (mend the cause, then retry job {job_row.id})"


# Ready: what keeps workers from taking it -----------------------------------


def _ready(store: Store, row: Task) -> list[str]:
    lane = store.get(Lane, row.lane_id)
    queue = store.get(model.Queue, lane.queue)
    reasons = obstacles.of_queue(
        lane.queue,
        paused=queue is not None and queue.paused,
        limit=None if queue is None else queue.capacity,
        running=claims.running_in(store, lane.queue),
    )
    workers = obstacles.active_workers(store, queue_depths.running(store))
    reasons += obstacles.of_workers(lane.queue, [frozenset(lane.tags.split())], workers)
    sentences = [f"is ready, but {reason}" for reason in reasons]
    ahead = _ahead(store, row, lane.queue)
    if ahead:
        many = f"more than {COUNTED} tasks are" if ahead > COUNTED else _count(ahead)
        sentences.append(f"is ready; {many} ahead of it in queue {lane.queue}")
    return sentences or ["is ready: a worker will take it at any moment"]


def _count(tasks: int) -> str:
    return "1 task is" if tasks == 1 else f"{tasks} tasks are"


def _ahead(store: Store, row: Task, queue: str) -> int:
    lanes = [lane for (lane,) in store.execute("SELECT id FROM lane WHERE queue = ?", (queue,))]
    (count,) = store.execute(
        f"SELECT COUNT(*) FROM (SELECT 1 FROM task WHERE state = '{READY}'"
        f" AND lane_id IN ({marks(lanes)}) AND (priority < ? OR (priority = ? AND id < ?))"
        " LIMIT ?) ahead",
        (*lanes, row.priority, row.priority, row.id, COUNTED + 1),
    ).get_one()
    return int(count)
