"""Jobs: cancel, pause, resume, retry, change the priority.

Each function runs inside ``Database.transact`` and leaves an event with its actor.
Raises NotFound, or Conflict where the job's state does not allow the action.
"""

from __future__ import annotations

from storm.locals import Store

from backoffice.data import events
from backoffice.data.sql import clock, marks
from backoffice.engine import transitions
from backoffice.engine.field_limits import check_priority
from backoffice.errors import Conflict, NotFound
from backoffice.states import (
    BLOCKED,
    CANCELLED,
    FAILED,
    JOB_ACTIONS,
    JOB_STATES,
    PAUSED,
    QUEUED,
    RUNNING,
    TASK_ENDED,
)


def guard(action: str, job_id: int, state: str) -> None:
    """Raise Conflict unless a job in ``state`` allows ``action``."""
    possible = JOB_ACTIONS[action]
    if state not in possible:
        wanted = " or ".join(allowed for allowed in JOB_STATES if allowed in possible)
        raise Conflict(f"job {job_id} is {state}; {action} is possible when it is {wanted}")


def unfinished(store: Store) -> list[int]:
    """The ids of jobs that are queued or running."""
    rows = store.execute(
        f"SELECT id FROM job WHERE state IN ('{QUEUED}', '{RUNNING}') ORDER BY id"
    ).get_all()
    return [job for (job,) in rows]


def cancel(store: Store, job_id: int, actor: str) -> None:
    """Cancel waiting tasks now, and ask running ones to stop. A second request changes
    nothing."""
    job = _locked(store, job_id)
    guard("cancel", job_id, job.state)
    if job.cancelling:
        return
    now = clock(store)
    store.execute("UPDATE job SET cancel_requested = ? WHERE id = ?", (now, job_id))
    store.execute(
        f"UPDATE task SET cancel_requested = ? WHERE job_id = ? AND state = '{RUNNING}'",
        (now, job_id),
    )
    job.cancelling = True
    asked = events.of_job("cancel-requested", job_id, actor)
    events.append(store, now, asked, *transitions.advance(store, job, now))


def pause(store: Store, job_id: int, actor: str) -> None:
    """Start no more tasks; running ones finish."""
    _change(store, job_id, "pause", PAUSED, actor)


def resume(store: Store, job_id: int, actor: str) -> None:
    _change(store, job_id, "resume", _state_after_stop(store, job_id), actor)


def retry(store: Store, job_id: int, actor: str) -> None:
    """Continue a failed or cancelled job: tasks that succeeded stay, the others start
    again with all their attempts."""
    job = _locked(store, job_id)
    guard("retry", job_id, job.state)
    again = [task for task in job.tasks if task.state in (FAILED, CANCELLED)]
    store.execute(
        f"UPDATE task SET state = '{BLOCKED}', failures = 0, losses = 0, progress = 0,"
        " message = '', reason = '', finished = NULL, cancel_requested = NULL"
        f" WHERE job_id = ? AND state IN ('{FAILED}', '{CANCELLED}')",
        (job_id,),
    )
    for task in again:
        task.state, task.progress = BLOCKED, 0.0
    state = _state_after_stop(store, job_id)
    store.execute(
        "UPDATE job SET state = ?, finished = NULL, cancel_requested = NULL, message = ''"
        " WHERE id = ?",
        (state, job_id),
    )
    job.state, job.cancelling = state, False
    now = clock(store)
    asked = events.of_job("retried", job_id, actor, ", ".join(task.name for task in again))
    events.append(store, now, asked, *transitions.advance(store, job, now))


def prioritise(store: Store, job_id: int, priority: int, actor: str) -> None:
    """Set the priority (0 first, 100 last) of a job and its waiting tasks."""
    check_priority(priority)
    job = _locked(store, job_id)
    guard("priority", job_id, job.state)
    store.execute("UPDATE job SET priority = ? WHERE id = ?", (priority, job_id))
    store.execute(
        f"UPDATE task SET priority = ? WHERE job_id = ? AND state NOT IN ({marks(TASK_ENDED)})",
        (priority, job_id, *TASK_ENDED),
    )
    events.append(store, clock(store), events.of_job("priority", job_id, actor, str(priority)))


def _locked(store: Store, job_id: int) -> transitions.LockedJob:
    job = transitions.lock(store, job_id)
    if job is None:
        raise NotFound(f"there is no job {job_id}")
    return job


def _state_after_stop(store: Store, job_id: int) -> str:
    """Queued if none of the job's tasks has ever run, else running."""
    (started,) = store.execute("SELECT MAX(started) FROM job WHERE id = ?", (job_id,)).get_one()
    return QUEUED if started is None else RUNNING


def _change(store: Store, job_id: int, action: str, state: str, actor: str) -> None:
    job = _locked(store, job_id)
    guard(action, job_id, job.state)
    store.execute("UPDATE job SET state = ? WHERE id = ?", (state, job_id))
    job.state = state
    now = clock(store)
    done = events.of_job(f"{action}d", job_id, actor)
    events.append(store, now, done, *transitions.advance(store, job, now))
