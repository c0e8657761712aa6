"""What follows in a job when something in it has changed.

One function does all of it, under a lock on the job's row and its tasks':
tasks whose needs are met become ready, those whose conditions do not hold are
skipped, and a job with nothing left to do ends. It looks only at what is in
the database, so running it once more changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from storm.locals import Store

from backoffice import events, model, workflows
from backoffice.database import for_update, marks
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
    job = store.execute(
        f"SELECT state, cancel_requested FROM job WHERE id = ?{for_update(store)}", (job_id,)
    ).get_one()
    if job is None:
        return None
    steps = load(store, job_id, for_update(store))
    return Whole(job_id, job[0], job[1] is not None, steps)


def load(store: Store, job_id: int, lock: str = "") -> list[Step]:
    """The job's tasks in the order of the plan."""
    rows: list[Any] = store.execute(
        "SELECT id, name, state, attempt, worker_id, failures, losses, max_attempts,"
        " cancel_requested IS NOT NULL, run_at IS NOT NULL OR attempt > 0, progress, message, spec"
        " FROM task WHERE job_id = ?"
        f" ORDER BY id{lock}",
        (job_id,),
    ).get_all()
    return [Step(*(*values, json.loads(spec))) for *values, spec in rows]


def settle(store: Store, whole: Whole, now: datetime) -> list[events.Event]:
    """Move on whatever in the locked job can move; returns what happened, for
    the caller to append to the history."""
    if whole.state in JOB_ENDED:
        return []
    happened: list[events.Event] = []
    if whole.cancelling:
        happened += _cancel_waiting(store, whole, now)
    elif whole.any(FAILED):
        _hold(store, whole, (READY, SCHEDULED))
    elif whole.state == PAUSED:
        _hold(store, whole, (READY,))
    else:
        happened += _start_what_can(store, whole, now)
    happened += _end(store, whole, now)
    return happened


def _cancel_waiting(store: Store, whole: Whole, now: datetime) -> list[events.Event]:
    waiting = [step for step in whole.steps if step.state in (BLOCKED, SCHEDULED, READY)]
    _move(store, waiting, CANCELLED, finished=now)
    return [events.of_task("cancelled", whole.id, step.id, step.name) for step in waiting]


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
            reason = "because not " + " and ".join(workflows.describe(c) for c in when)
            _move(store, [step], SKIPPED, finished=now, message=reason)
            happened.append(events.of_task("skipped", whole.id, step.id, reason))
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


def _end(store: Store, whole: Whole, now: datetime) -> list[events.Event]:
    state = _final_state(whole)
    percent = progress(whole.steps)
    if state is None:
        store.execute(
            "UPDATE job SET progress = ? WHERE id = ?", (percent, whole.id), noresult=True
        )
        return []
    message = _message(whole) if state == FAILED else ""
    store.execute(
        "UPDATE job SET state = ?, progress = ?, finished = ?, message = ? WHERE id = ?",
        (state, percent, now, message, whole.id),
        noresult=True,
    )
    return [events.of_job(state, whole.id, detail=message)]


def _final_state(whole: Whole) -> str | None:
    if whole.any(RUNNING):
        return None
    if whole.all(*DONE):
        return SUCCEEDED
    if whole.cancelling and whole.all(*TASK_ENDED):
        return CANCELLED
    return FAILED if whole.any(FAILED) else None


def _message(whole: Whole) -> str:
    return "; ".join(
        f"{step.name} failed: {step.message}" for step in whole.steps if step.state == FAILED
    )
