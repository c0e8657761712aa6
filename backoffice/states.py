"""Every state, and who may move what where; standard library only.

Jobs
    queued      accepted; no task has started. In: submit, clone. After a crash: as it was.
    running     a task has started. In: claim, resume, retry.
    paused      no task starts; running ones finish. In: pause. Out: resume, cancel.
    succeeded   every task succeeded or was skipped. In: finish. Final.
    failed      a task failed for good and nothing runs any more. In: finish. Out: retry.
    cancelled   cancelled, and nothing runs any more. In: cancel, finish. Final.

Tasks
    blocked     waits for other tasks, or its job is paused or has failed.
    scheduled   waits for a time: a delay or a back-off. Out: the scheduler, when due.
    ready       any worker may claim it.
    running     a worker holds a lease on it. After a crash: the scheduler gives it back
                to ``ready`` once the lease has ended.
    succeeded, failed, cancelled, skipped   final, but for retry.

A request to cancel is a time stamp on a running task, not a state.
"""

from __future__ import annotations

from backoffice.errors import Conflict

QUEUED = "queued"
RUNNING = "running"
PAUSED = "paused"
SUCCEEDED = "succeeded"
FAILED = "failed"
CANCELLED = "cancelled"

BLOCKED = "blocked"
SCHEDULED = "scheduled"
READY = "ready"
SKIPPED = "skipped"

JOB_STATES = (QUEUED, RUNNING, PAUSED, SUCCEEDED, FAILED, CANCELLED)
JOB_ENDED = (SUCCEEDED, FAILED, CANCELLED)
TASK_STATES = (BLOCKED, SCHEDULED, READY, RUNNING, SUCCEEDED, FAILED, CANCELLED, SKIPPED)
TASK_ENDED = (SUCCEEDED, FAILED, CANCELLED, SKIPPED)

# Attempts: ``lost`` with its worker, ``released`` back by a worker that stops.
LOST = "lost"
RELEASED = "released"
ATTEMPT_STATES = (RUNNING, SUCCEEDED, FAILED, CANCELLED, LOST, RELEASED)

ACTIVE = "active"
DRAINING = "draining"
STOPPED = "stopped"
WORKER_STATES = (ACTIVE, DRAINING, STOPPED, LOST)

PUBLISHED = "published"
RETRACTED = "retracted"
PUBLICATION_STATES = (PUBLISHED, RETRACTED)

# action → states of the job in which it is possible
JOB_ACTIONS: dict[str, frozenset[str]] = {
    "cancel": frozenset({QUEUED, RUNNING, PAUSED}),
    "pause": frozenset({QUEUED, RUNNING}),
    "resume": frozenset({PAUSED}),
    "retry": frozenset({FAILED, CANCELLED}),
    "clone": frozenset(JOB_STATES),
    "priority": frozenset({QUEUED, RUNNING, PAUSED}),
}


def guard(action: str, job_id: int, state: str) -> None:
    """Raise Conflict unless a job in ``state`` allows ``action``."""
    possible = JOB_ACTIONS[action]
    if state not in possible:
        wanted = " or ".join(s for s in JOB_STATES if s in possible)
        raise Conflict(f"job {job_id} is {state}; {action} is possible when it is {wanted}")
