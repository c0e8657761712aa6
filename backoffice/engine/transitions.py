"""Transitions: what follows in a job when something in it has changed.

``advance`` does all of it, under a lock on the job's row and its tasks: tasks whose
needs are met become ready, tasks whose conditions do not hold are skipped, and a job
with nothing left to do ends. It reads only the database, so a second run changes
nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from storm.locals import Store

from backoffice.data import events, model
from backoffice.data.sql import for_update, marks, use_index
from backoffice.engine import variants, workflows
from backoffice.engine.workflows import Variant
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
    Reason,
)

DONE = (SUCCEEDED, SKIPPED)


@dataclass
class JobTask:
    """The columns of a task that transitions depend on."""

    id: int
    name: str
    state: str
    attempt: int
    worker_id: int | None
    failures: int
    losses: int
    max_attempts: int
    cancelling: bool
    waited: bool  # its delay has been waited for
    progress: float
    message: str
    reason: Reason
    spec: Mapping[str, Any]


@dataclass
class LockedJob:
    """A job whose row and tasks are locked by this transaction."""

    id: int
    state: str
    cancelling: bool
    tasks: list[JobTask]

    def any(self, *states: str) -> bool:
        return any(task.state in states for task in self.tasks)

    def all(self, *states: str) -> bool:
        return all(task.state in states for task in self.tasks)


def progress(tasks: Sequence[JobTask]) -> float:
    """Percent of a job, by the weights of its tasks; skipped ones do not count."""
    counted = [task for task in tasks if task.state != SKIPPED]
    weights = sum(task.spec["weight"] for task in counted)
    if not weights:
        return 100.0 * all(task.state in DONE for task in tasks)
    done = sum(
        task.spec["weight"] * (100 if task.state == SUCCEEDED else task.progress)
        for task in counted
    )
    return float(done / weights)


def lock(store: Store, job_id: int) -> LockedJob | None:
    """The job and its tasks, locked in this order; None if it is gone."""
    return lock_all(store, [job_id]).get(job_id)


def lock_all(store: Store, job_ids: Iterable[int]) -> dict[int, LockedJob]:
    """The jobs that are there, by id, and their tasks, locked in this order.

    MySQL is told which index to use: for a small table it prefers a full scan,
    which would wait for rows that other transactions hold.
    """
    ids = sorted(set(job_ids))
    if not ids:
        return {}
    jobs = store.execute(
        f"SELECT id, state, cancel_requested FROM job{use_index(store, 'PRIMARY')}"
        f" WHERE id IN ({marks(ids)}) ORDER BY id{for_update(store)}",
        ids,
    ).get_all()
    tasks = _tasks(store, ids, for_update(store))
    return {job: LockedJob(job, state, asked is not None, tasks[job]) for job, state, asked in jobs}


def load(store: Store, job_id: int) -> list[JobTask]:
    """The job's tasks in the order of the plan."""
    return _tasks(store, [job_id])[job_id]


def _tasks(store: Store, job_ids: Sequence[int], lock: str = "") -> dict[int, list[JobTask]]:
    rows: list[Any] = store.execute(
        "SELECT job_id, id, name, state, attempt, worker_id, failures, losses, max_attempts,"
        " cancel_requested IS NOT NULL, run_at IS NOT NULL OR attempt > 0, progress,"
        " message, reason, spec"
        f" FROM task{use_index(store, 'task_job')} WHERE job_id IN ({marks(job_ids)})"
        f" ORDER BY job_id, id{lock}",
        job_ids,
    ).get_all()
    tasks: dict[int, list[JobTask]] = {job: [] for job in job_ids}
    for job, *values, reason, spec in rows:
        tasks[job].append(JobTask(*[*values, Reason(reason), json.loads(spec)]))
    return tasks


def advance(store: Store, job: LockedJob, now: datetime) -> list[events.Event]:
    """Like :func:`advance_all` for one job."""
    return advance_all(store, [job], now)


def advance_all(store: Store, jobs: Iterable[LockedJob], now: datetime) -> list[events.Event]:
    """Make every transition that is possible in the locked jobs. Returns the events, for
    the caller to append."""
    going = [job for job in jobs if job.state not in JOB_ENDED]
    happened = [event for job in going for event in _move_on(store, job, now)]
    return happened + _end(store, going, now)


def _move_on(store: Store, job: LockedJob, now: datetime) -> list[events.Event]:
    happened: list[events.Event] = []
    if job.cancelling:
        happened += _cancel_waiting(store, job, now)
    elif job.any(FAILED):
        _hold(store, job, (READY, SCHEDULED))
    elif job.state == PAUSED:
        _hold(store, job, (READY,))
    else:
        happened += _start_what_can(store, job, now)
    return happened


def _cancel_waiting(store: Store, job: LockedJob, now: datetime) -> list[events.Event]:
    waiting = [task for task in job.tasks if task.state in (BLOCKED, SCHEDULED, READY)]
    _move(store, waiting, CANCELLED, finished=now, reason=str(Reason.CANCELLED))
    return [
        events.of_task(CANCELLED, job.id, task.id, task.name, Reason.CANCELLED) for task in waiting
    ]


def _hold(store: Store, job: LockedJob, states: tuple[str, ...]) -> None:
    _move(store, [task for task in job.tasks if task.state in states], BLOCKED)


def _start_what_can(store: Store, job: LockedJob, now: datetime) -> list[events.Event]:
    """In the order of ids, which is the order of the plan: what a skip lets
    through comes after it."""
    happened = []
    by_name = {task.name: task for task in job.tasks}
    facts: dict[str, object] | None = None
    ready: list[JobTask] = []
    for task in job.tasks:
        if task.state != BLOCKED:
            continue
        if not all(by_name[name].state in DONE for name in task.spec["needs"]):
            continue
        when, several = variants.conditions(task.spec), variants.loaded(task.spec)
        if (when or several) and facts is None:
            facts = job_facts(store, job.id)
        if why := variants.left_out(when, several, facts or {}):
            message = f"because {why}"
            _move(store, [task], SKIPPED, finished=now, message=message, reason=str(Reason.SKIPPED))
            skipped = events.of_task(SKIPPED, job.id, task.id, message, Reason.SKIPPED)
            happened.append(skipped)
            continue
        if several:
            _narrow(store, task, variants.chosen(several, facts or {}))
        if task.spec["delay"] and not task.waited:
            _move(store, [task], SCHEDULED, run_at=now + timedelta(seconds=task.spec["delay"]))
        else:
            ready.append(task)
    _move(store, ready, READY, ready_at=now)
    return happened


def _narrow(store: Store, task: JobTask, chosen: Sequence[Variant]) -> None:
    """Let the task make these variants only."""
    task.spec = variants.narrowed(task.spec, chosen)
    store.execute(
        "UPDATE task SET spec = ? WHERE id = ?", (model.dump(task.spec), task.id), noresult=True
    )


def job_facts(store: Store, job_id: int) -> dict[str, object]:
    """What the conditions of a job's tasks may ask."""
    parameters = model.pairs(store, "job_parameter", "job_id", job_id)
    inputs = store.execute(
        "SELECT i.role, f.facts FROM job_input i JOIN file f ON f.id = i.file_id"
        " WHERE i.job_id = ? ORDER BY i.position DESC",
        (job_id,),
    ).get_all()
    return workflows.facts(parameters, {role: json.loads(facts) for role, facts in inputs})


def _move(store: Store, tasks: list[JobTask], state: str, **columns: object) -> None:
    if not tasks:
        return
    for task in tasks:
        task.state = state
    assignments = "".join(f", {column} = ?" for column in columns)
    store.execute(
        f"UPDATE task SET state = ?{assignments} WHERE id IN ({marks(tasks)})",
        [state, *columns.values(), *(task.id for task in tasks)],
        noresult=True,
    )


def _end(store: Store, jobs: Iterable[LockedJob], now: datetime) -> list[events.Event]:
    """Write down how far the jobs are; those that ended alike in one statement."""
    alike: dict[tuple[str | None, float, str, Reason], list[int]] = {}
    for job in jobs:
        state = _final_state(job)
        message, reason = _why_failed(job) if state == FAILED else ("", Reason.NONE)
        alike.setdefault((state, progress(job.tasks), message, reason), []).append(job.id)
    happened = []
    for (state, percent, message, reason), ids in alike.items():
        changes: dict[str, object] = {"progress": percent}
        if state is not None:
            changes |= {"state": state, "finished": now, "message": message}
            happened += [events.of_job(state, job, detail=message, reason=reason) for job in ids]
        store.execute(
            f"UPDATE job SET {', '.join(f'{column} = ?' for column in changes)}"
            f" WHERE id IN ({marks(ids)})",
            [*changes.values(), *ids],
            noresult=True,
        )
    return happened


def _final_state(job: LockedJob) -> str | None:
    if job.any(RUNNING):
        return None
    if job.all(*DONE):
        return SUCCEEDED
    if job.cancelling and job.all(*TASK_ENDED):
        return CANCELLED
    return FAILED if job.any(FAILED) else None


def _why_failed(job: LockedJob) -> tuple[str, Reason]:
    """The messages of all failed tasks, and the reason of the first."""
    failed = [task for task in job.tasks if task.state == FAILED]
    message = "; ".join(f"{task.name} failed: {task.message}" for task in failed)
    return message, failed[0].reason
