"""What follows in a job when something in it has changed.

One function does all of it, under a lock on the jobs' rows and their tasks':
tasks whose needs are met become ready, those whose conditions do not hold are
skipped, and a job with nothing left to do ends. It looks only at what is in
the database, so running it once more changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from storm.locals import Store

from backoffice.data import events, model
from backoffice.data.database import for_update, marks, use_index
from backoffice.engine import workflows
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
class Step:
    """A task as far as the flow is concerned."""

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
class Whole:
    """A job with its tasks, locked."""

    id: int
    state: str
    cancelling: bool
    steps: list[Step]

    def any(self, *states: str) -> bool:
        return any(step.state in states for step in self.steps)

    def all(self, *states: str) -> bool:
        return all(step.state in states for step in self.steps)


def progress(steps: Sequence[Step]) -> float:
    """Percent of a job, by the weights of its tasks; skipped ones do not count."""
    counted = [step for step in steps if step.state != SKIPPED]
    weights = sum(step.spec["weight"] for step in counted)
    if not weights:
        return 100.0 * all(step.state in DONE for step in steps)
    done = sum(
        step.spec["weight"] * (100 if step.state == SUCCEEDED else step.progress)
        for step in counted
    )
    return float(done / weights)


def lock(store: Store, job_id: int) -> Whole | None:
    """The job and its tasks, locked in this order; None if it is gone."""
    return lock_all(store, [job_id]).get(job_id)


def lock_all(store: Store, job_ids: Iterable[int]) -> dict[int, Whole]:
    """The jobs that are there, by id, and their tasks, locked in this order.

    MySQL is told which index to use: reading a small table from end to end is
    cheaper to it, but would wait for rows that others hold.
    """
    ids = sorted(set(job_ids))
    if not ids:
        return {}
    jobs = store.execute(
        f"SELECT id, state, cancel_requested FROM job{use_index(store, 'PRIMARY')}"
        f" WHERE id IN ({marks(ids)}) ORDER BY id{for_update(store)}",
        ids,
    ).get_all()
    steps = _steps(store, ids, for_update(store))
    return {job: Whole(job, state, asked is not None, steps[job]) for job, state, asked in jobs}


def load(store: Store, job_id: int) -> list[Step]:
    """The job's tasks in the order of the plan."""
    return _steps(store, [job_id])[job_id]


def _steps(store: Store, job_ids: Sequence[int], lock: str = "") -> dict[int, list[Step]]:
    rows: list[Any] = store.execute(
        "SELECT job_id, id, name, state, attempt, worker_id, failures, losses, max_attempts,"
        " cancel_requested IS NOT NULL, run_at IS NOT NULL OR attempt > 0, progress,"
        " message, reason, spec"
        f" FROM task{use_index(store, 'task_job')} WHERE job_id IN ({marks(job_ids)})"
        f" ORDER BY job_id, id{lock}",
        job_ids,
    ).get_all()
    steps: dict[int, list[Step]] = {job: [] for job in job_ids}
    for job, *values, reason, spec in rows:
        steps[job].append(Step(*(*values, Reason(reason), json.loads(spec))))
    return steps


def settle(store: Store, whole: Whole, now: datetime) -> list[events.Event]:
    """Like :func:`settle_all` for one job."""
    return settle_all(store, [whole], now)


def settle_all(store: Store, wholes: Iterable[Whole], now: datetime) -> list[events.Event]:
    """Move on whatever in the locked jobs can move; returns what happened, for
    the caller to append to the history."""
    going = [whole for whole in wholes if whole.state not in JOB_ENDED]
    happened = [event for whole in going for event in _move_on(store, whole, now)]
    return happened + _end(store, going, now)


def _move_on(store: Store, whole: Whole, now: datetime) -> list[events.Event]:
    happened: list[events.Event] = []
    if whole.cancelling:
        happened += _cancel_waiting(store, whole, now)
    elif whole.any(FAILED):
        _hold(store, whole, (READY, SCHEDULED))
    elif whole.state == PAUSED:
        _hold(store, whole, (READY,))
    else:
        happened += _start_what_can(store, whole, now)
    return happened


def _cancel_waiting(store: Store, whole: Whole, now: datetime) -> list[events.Event]:
    waiting = [step for step in whole.steps if step.state in (BLOCKED, SCHEDULED, READY)]
    _move(store, waiting, CANCELLED, finished=now, reason=str(Reason.CANCELLED))
    return [
        events.of_task(CANCELLED, whole.id, step.id, step.name, Reason.CANCELLED)
        for step in waiting
    ]


def _hold(store: Store, whole: Whole, states: tuple[str, ...]) -> None:
    _move(store, [step for step in whole.steps if step.state in states], BLOCKED)


def _start_what_can(store: Store, whole: Whole, now: datetime) -> list[events.Event]:
    """In the order of ids, which is the order of the plan: what a skip lets
    through comes after it."""
    happened = []
    by_name = {step.name: step for step in whole.steps}
    facts: dict[str, object] | None = None
    ready: list[Step] = []
    for step in whole.steps:
        if step.state != BLOCKED:
            continue
        if not all(by_name[name].state in DONE for name in step.spec["needs"]):
            continue
        when = [workflows.Condition(**one) for one in step.spec["when"]]
        if when and facts is None:
            facts = job_facts(store, whole.id)
        if when and not workflows.holds(when, facts or {}):
            message = "because not " + " and ".join(workflows.describe(c) for c in when)
            _move(store, [step], SKIPPED, finished=now, message=message, reason=str(Reason.SKIPPED))
            skipped = events.of_task(SKIPPED, whole.id, step.id, message, Reason.SKIPPED)
            happened.append(skipped)
        elif step.spec["delay"] and not step.waited:
            _move(store, [step], SCHEDULED, run_at=now + timedelta(seconds=step.spec["delay"]))
        else:
            ready.append(step)
    _move(store, ready, READY, ready_at=now)
    return happened


def job_facts(store: Store, job_id: int) -> dict[str, object]:
    """What the conditions of a job's tasks may ask."""
    parameters = model.pairs(store, "job_parameter", "job_id", job_id)
    inputs = store.execute(
        "SELECT i.role, f.facts FROM job_input i JOIN file f ON f.id = i.file_id"
        " WHERE i.job_id = ? ORDER BY i.position DESC",
        (job_id,),
    ).get_all()
    return workflows.facts(parameters, {role: json.loads(facts) for role, facts in inputs})


def _move(store: Store, steps: list[Step], state: str, **columns: object) -> None:
    if not steps:
        return
    for step in steps:
        step.state = state
    assignments = "".join(f", {column} = ?" for column in columns)
    store.execute(
        f"UPDATE task SET state = ?{assignments} WHERE id IN ({marks(steps)})",
        [state, *columns.values(), *(step.id for step in steps)],
        noresult=True,
    )


def _end(store: Store, wholes: Iterable[Whole], now: datetime) -> list[events.Event]:
    """Write down how far the jobs are; those that ended alike in one statement."""
    alike: dict[tuple[str | None, float, str, Reason], list[int]] = {}
    for whole in wholes:
        state = _final_state(whole)
        message, reason = _why_failed(whole) if state == FAILED else ("", Reason.NONE)
        alike.setdefault((state, progress(whole.steps), message, reason), []).append(whole.id)
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


def _final_state(whole: Whole) -> str | None:
    if whole.any(RUNNING):
        return None
    if whole.all(*DONE):
        return SUCCEEDED
    if whole.cancelling and whole.all(*TASK_ENDED):
        return CANCELLED
    return FAILED if whole.any(FAILED) else None


def _why_failed(whole: Whole) -> tuple[str, Reason]:
    """The messages of all failed tasks, and the reason of the first."""
    failed = [step for step in whole.steps if step.state == FAILED]
    message = "; ".join(f"{step.name} failed: {step.message}" for step in failed)
    return message, failed[0].reason
