"""Every state and reason, and who may move what where; standard library only.

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

Attempts
    running     its worker renews a lease on the task.
    succeeded, failed, cancelled   as its worker reported. Final.
    lost        its worker or its process died; costs no retry. Final.
    released    handed back by a worker that stops. Final.

Workers
    active      claims tasks. In: start, or a heartbeat after it was given up as lost.
    draining    finishes what it runs. In: drain. Out: its own stop.
    stopped     ended by itself, holding nothing. Final.
    lost        sent no heartbeat for a lease. In: the scheduler. Out: its next heartbeat.

Files
    present     at its place, as far as is known.
    removed     its job was pruned; known for the sake of its publication. Final.

Publications
    published   at its target. In: publish.
    retracted   removed from its target, or replaced there. In: retract, publish. Final.

API tokens
    active      accepted. In: create.
    revoked     In: revoke. Final.
    expired     its time has passed. Final.

A request to cancel is a time stamp on a running task, not a state.
"""

from __future__ import annotations

from enum import StrEnum

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

PRESENT = "present"
REMOVED = "removed"
FILE_STATES = (PRESENT, REMOVED)

PUBLISHED = "published"
RETRACTED = "retracted"
PUBLICATION_STATES = (PUBLISHED, RETRACTED)

REVOKED = "revoked"
EXPIRED = "expired"
TOKEN_STATES = (ACTIVE, EXPIRED, REVOKED)

# action → states of the job in which it is possible
JOB_ACTIONS: dict[str, frozenset[str]] = {
    "cancel": frozenset({QUEUED, RUNNING, PAUSED}),
    "pause": frozenset({QUEUED, RUNNING}),
    "resume": frozenset({PAUSED}),
    "retry": frozenset({FAILED, CANCELLED}),
    "clone": frozenset(JOB_STATES),
    "priority": frozenset({QUEUED, RUNNING, PAUSED}),
}


class Reason(StrEnum):
    """Why an attempt, a task or an event ended as it did, for programs; messages say
    it to people. ``NONE`` where nothing went wrong."""

    NONE = ""

    # The worker and its process
    LOST_WORKER = "lost-worker"  # no heartbeat for as long as its lease
    LOST_PROCESS = "lost-process"  # the attempt's process ended unexpectedly
    LOST_TOO_OFTEN = "lost-too-often"  # set aside after MAX_LOSSES
    LEASE_LOST = "lease-lost"  # another worker has the task
    WORKER_STOPPED = "worker-stopped"  # handed back
    RESTORED = "restored"  # handed back: the database is an older one
    NO_PROCESS = "no-process"  # the host could start none

    # Time, and people
    CANCELLED = "cancelled"
    TIMED_OUT = "timed-out"  # longer than the task's time limit
    STALLED = "stalled"  # no progress for the task's stall limit
    SKIPPED = "condition-not-met"

    # Commands
    NOT_STARTED = "not-started"  # the program cannot be run
    EXIT_STATUS = "exit-status"
    CRASHED = "crashed"  # ended by a signal of its own making
    KILLED = "killed"  # ended by a signal from outside
    CPU_LIMIT = "cpu-limit"
    OUT_OF_MEMORY = "out-of-memory"
    OUTPUT_TOO_LARGE = "output-too-large"
    DISK_FULL = "disk-full"
    NOT_PERMITTED = "not-permitted"  # a file may not be read or written
    FILE_ERROR = "file-error"  # any other error of the operating system

    # Sources and what is made of them
    DAMAGED_SOURCE = "damaged-source"
    UNUSABLE_SOURCE = "unusable-source"  # whole, but not what the task needs
    CHANGED_SOURCE = "changed-source"  # since it was given or checked
    MISSING_SOURCE = "missing-source"
    QUALITY = "quality"  # beyond the limits of a quality task
    OUTPUT_TOO_SMALL = "output-too-small"  # missing, empty or too short
    WRONG_OUTPUT = "wrong-output"  # other than what was asked for

    # Targets and receivers
    TARGET_CONFLICT = "target-conflict"  # other content is there
    TARGET_FAILED = "target-failed"
    NOT_DELIVERED = "not-delivered"

    # Everything else
    BAD_PARAMETER = "bad-parameter"
    NOT_RECORDED = "not-recorded"  # the database refused what it made
    FAULT = "fault"  # in the program
    OTHER = "other"
