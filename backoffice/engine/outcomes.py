"""Outcomes of attempts: record them, store what the task returned, advance the job.

An outcome counts only while its attempt still holds the task; the outcome of a
former owner changes nothing. Functions get the store and the database's time, and
never commit.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from storm.locals import Store

from backoffice.data import events, model
from backoffice.data.sql import for_update, insert_many, marks, moment
from backoffice.engine import transitions
from backoffice.engine.claims import Claim
from backoffice.engine.leases import OURS, LeaseRecord, own_task
from backoffice.media import media_types
from backoffice.states import (
    CANCELLED,
    FAILED,
    LOST,
    PRESENT,
    PUBLISHED,
    READY,
    RELEASED,
    RETRACTED,
    SCHEDULED,
    SUCCEEDED,
    Reason,
)
from backoffice.tasks import Output, Published, Result

MAX_LOSSES = 5  # times that a task may lose its worker before it fails
LONGEST_BACKOFF = timedelta(hours=1)
LONGEST_MESSAGE = 4000  # characters; the rest is in the log


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended. ``state`` is succeeded, failed, cancelled, lost
    (its process died under it: costs no retry) or released (handed back)."""

    state: str
    message: str = ""
    reason: Reason = Reason.NONE
    retry: bool = True  # of a failed one: could another try help?
    result: Result = field(default_factory=Result)  # of a failed one: only its deliveries
    exit_status: int | None = None
    cpu_seconds: float | None = None
    peak_memory: int | None = None  # bytes
    wall_seconds: float | None = None
    commands: Sequence[Sequence[str]] = ()
    ffmpeg: str = ""  # its version, where it was used
    log: str = ""  # path
    log_size: int | None = None


def finish(store: Store, claim: Claim, outcome: Outcome, now: datetime) -> bool:
    """Like :func:`finish_all` for one attempt."""
    return finish_all(store, [(claim, outcome)], now)[claim]


def finish_all(
    store: Store, outcomes: Sequence[tuple[Claim, Outcome]], now: datetime
) -> dict[Claim, bool]:
    """Record outcomes and advance their jobs.

    False for an attempt that no longer holds its task: nothing is changed and its
    outcome must be thrown away. A second call with the same outcome gives True again,
    because the answer to the first may have been lost.
    """
    jobs = transitions.lock_all(store, [claim.job_id for claim, _ in outcomes])
    accepted: dict[Claim, bool] = {}
    happened: list[events.Event] = []
    ended: dict[Claim, transitions.JobTask] = {}
    for claim, outcome in outcomes:
        task = own_task(jobs[claim.job_id].tasks if claim.job_id in jobs else (), claim)
        if task is None:
            accepted[claim] = _recorded(store, claim, outcome)
            continue
        happened += _end_attempt(store, claim, outcome, task, now)
        accepted[claim] = True
        ended[claim] = task
    _put_succeeded(store, ended.values(), now)
    happened += transitions.advance_all(
        store, [jobs[job] for job in {claim.job_id for claim in ended}], now
    )
    events.append(store, now, *happened)
    return accepted


def _end_attempt(
    store: Store, claim: Claim, outcome: Outcome, task: transitions.JobTask, now: datetime
) -> list[events.Event]:
    outcome = replace(outcome, message=outcome.message[:LONGEST_MESSAGE])
    task.message, task.reason = outcome.message, outcome.reason
    task.state, happened = _AFTER[outcome.state](store, claim, outcome, task, now)
    task.progress = 100.0 * (task.state == SUCCEEDED)
    _close_attempt(store, claim, outcome, now)
    return happened


_Moved = tuple[str, list[events.Event]]  # the task's new state, and what happened


def _succeeded(
    store: Store, claim: Claim, outcome: Outcome, task: transitions.JobTask, now: datetime
) -> _Moved:
    _store_result(store, claim, outcome.result, now)
    return SUCCEEDED, [_event(claim, SUCCEEDED, task.name)]


def _failed(
    store: Store, claim: Claim, outcome: Outcome, task: transitions.JobTask, now: datetime
) -> _Moved:
    _store_deliveries(store, claim, outcome.result, now)
    if task.cancelling:
        return _cancelled(store, claim, outcome, task, now)
    failures = task.failures + 1
    if not outcome.retry or failures >= task.max_attempts:
        _put(store, claim, FAILED, task, failures=failures, finished=now)
        return FAILED, [_event(claim, FAILED, f"{task.name}: {outcome.message}", task.reason)]
    run_at = now + backoff(task.spec["backoff"], failures)
    _put(store, claim, SCHEDULED, task, failures=failures, run_at=run_at, worker_id=None)
    detail = f"{task.name}: {outcome.message}; again at {run_at:%H:%M:%S} UTC"
    return SCHEDULED, [_event(claim, "retrying", detail, task.reason)]


def _cancelled(
    store: Store, claim: Claim, outcome: Outcome, task: transitions.JobTask, now: datetime
) -> _Moved:
    task.reason = Reason.CANCELLED
    _put(store, claim, CANCELLED, task, finished=now)
    return CANCELLED, [_event(claim, CANCELLED, task.name, task.reason)]


def _lost(
    store: Store, claim: Claim, outcome: Outcome, task: transitions.JobTask, now: datetime
) -> _Moved:
    if task.cancelling:
        return _cancelled(store, claim, outcome, task, now)
    losses = task.losses + 1
    happened = [_event(claim, LOST, f"{task.name}: {outcome.message}", task.reason)]
    if losses < MAX_LOSSES:
        _put(store, claim, READY, task, losses=losses, ready_at=now, worker_id=None)
        return READY, happened
    task.message = f"set aside: it lost its worker {losses} times; the last time: {outcome.message}"
    task.reason = Reason.LOST_TOO_OFTEN
    _put(store, claim, FAILED, task, losses=losses, finished=now)
    return FAILED, [*happened, _event(claim, FAILED, f"{task.name}: {task.message}", task.reason)]


def _released(
    store: Store, claim: Claim, outcome: Outcome, task: transitions.JobTask, now: datetime
) -> _Moved:
    if task.cancelling:
        return _cancelled(store, claim, outcome, task, now)
    reason, task.message, task.reason = task.reason, "", Reason.NONE
    _put(store, claim, READY, task, ready_at=now, worker_id=None)
    return READY, [_event(claim, RELEASED, task.name, reason)]


_AFTER = {
    SUCCEEDED: _succeeded,
    FAILED: _failed,
    CANCELLED: _cancelled,
    LOST: _lost,
    RELEASED: _released,
}


def _event(claim: Claim, action: str, detail: str, reason: Reason = Reason.NONE) -> events.Event:
    return events.of_task(action, claim.job_id, claim.task_id, detail, reason)


def _put_succeeded(store: Store, tasks: Iterable[transitions.JobTask], now: datetime) -> None:
    """One statement for all tasks with the same warnings."""
    by_message: dict[str, list[int]] = {}
    for task in tasks:
        if task.state == SUCCEEDED:
            by_message.setdefault(task.message, []).append(task.id)
    for message, ids in by_message.items():
        _put_all(
            store,
            ids,
            SUCCEEDED,
            progress=100.0,
            finished=now,
            message=message,
            reason="",
            eta=None,
        )


def _put(
    store: Store, claim: Claim, state: str, task: transitions.JobTask, **columns: object
) -> None:
    why = {"message": task.message, "reason": str(task.reason)}
    _put_all(store, [claim.task_id], state, **why, **columns)


def _put_all(store: Store, tasks: Sequence[int], state: str, **columns: object) -> None:
    assignments = "".join(f", {column} = ?" for column in columns)
    store.execute(
        f"UPDATE task SET state = ?, lease_until = NULL, cancel_requested = NULL{assignments}"
        f" WHERE id IN ({marks(tasks)})",
        [state, *columns.values(), *tasks],
        noresult=True,
    )


def backoff(first: float, failures: int) -> timedelta:
    """Exponential with "equal jitter": half of it is random, so that tasks that failed
    together are not retried together."""
    full = min(first * 2 ** (failures - 1), LONGEST_BACKOFF.total_seconds())
    return timedelta(seconds=full * random.uniform(0.5, 1.0))


def _recorded(store: Store, claim: Claim, outcome: Outcome) -> bool:
    row = store.execute(
        "SELECT state FROM attempt WHERE task_id = ? AND number = ? AND worker_id = ?", claim.key
    ).get_one()
    return row is not None and row[0] == outcome.state


def _close_attempt(store: Store, claim: Claim, outcome: Outcome, now: datetime) -> None:
    store.execute(
        "UPDATE attempt SET state = ?, finished = ?, message = ?, reason = ?, exit_status = ?,"
        " cpu_seconds = ?, peak_memory = ?, wall_seconds = ?, commands = ?, ffmpeg = ?, log = ?,"
        " log_size = ?, report = ? WHERE task_id = ? AND number = ?",
        (
            outcome.state,
            now,
            outcome.message,
            str(outcome.reason),
            outcome.exit_status,
            outcome.cpu_seconds,
            outcome.peak_memory,
            outcome.wall_seconds,
            model.dump(outcome.commands),
            outcome.ffmpeg,
            outcome.log,
            outcome.log_size,
            model.dump(outcome.result.report),
            claim.task_id,
            claim.attempt,
        ),
        noresult=True,
    )


_FILE = tuple(
    ("href name role media_type tree size sha256 state facts job_id task_id created").split()
)
_PUBLICATION = tuple(
    ("active_key file_id job_id task_id target path href state tree sha256 size published").split()
)


def _store_result(store: Store, claim: Claim, result: Result, now: datetime) -> None:
    insert_many(store, "file", _FILE, [_file(claim, output, now) for output in result.outputs])
    for file_id, facts in result.facts.items():
        _store_facts(store, file_id, facts)
    for file_id, checksum in result.checksums.items():
        store.execute("UPDATE file SET sha256 = ? WHERE id = ?", (checksum, file_id))
    for published in result.published:
        _store_publication(store, claim, published, now)
    for publication_id in result.retracted:
        _store_retraction(store, claim, publication_id, now)
    _store_deliveries(store, claim, result, now)


def _file(claim: Claim, output: Output, now: datetime) -> tuple[object, ...]:
    path = output.path
    measured = output.media_type, output.tree, output.size, output.sha256
    facts = model.dump(output.facts)
    made_by = claim.job_id, claim.task_id, now
    return path.as_uri(), path.name[:255], output.role, *measured, PRESENT, facts, *made_by


def _store_retraction(store: Store, claim: Claim, publication_id: int, now: datetime) -> None:
    store.execute(
        "UPDATE publication SET state = ?, active_key = NULL, retracted = ?"
        " WHERE id = ? AND state = ?",
        (RETRACTED, now, publication_id, PUBLISHED),
    )
    subject = f"publication {publication_id}"
    events.append(store, now, events.Event("publication.retracted", subject, claim.job_id))


def place_key(target: str, path: str) -> str:
    """``active_key`` of the publication at this place."""
    return hashlib.sha256(f"{target}\0{path}".encode()).hexdigest()


def _store_facts(store: Store, file_id: int, facts: Mapping[str, Any]) -> None:
    """Store probed facts, and the media type if the file's name suggested a wrong one."""
    types = media_types.of_facts(facts)
    given: list[object] = [model.dump(facts)]
    columns = "facts = ?"
    if types:
        kept = f"CASE WHEN media_type IN ({marks(types)}) THEN media_type ELSE ? END"
        columns += f", media_type = {kept}"
        given += [*types, types[0]]
    store.execute(f"UPDATE file SET {columns} WHERE id = ?", (*given, file_id))


def _store_publication(store: Store, claim: Claim, published: Published, now: datetime) -> None:
    """One row for each place: the same content keeps its row, overwritten content is
    marked as retracted."""
    key = place_key(published.target, published.path)
    former = store.execute(
        f"SELECT id, sha256 FROM publication WHERE active_key = ?{for_update(store)}", (key,)
    ).get_one()
    if former is not None and former[1] == published.sha256:
        return
    if former is not None:
        store.execute(
            "UPDATE publication SET state = ?, active_key = NULL, retracted = ? WHERE id = ?",
            (RETRACTED, now, former[0]),
        )
    insert_many(store, "publication", _PUBLICATION, [_publication(claim, published, key, now)])
    subject, ids = f"file {published.file_id}", (claim.job_id, claim.task_id)
    event = events.Event("publication.published", subject, *ids, published.href)
    events.append(store, now, event)


def _publication(claim: Claim, published: Published, key: str, now: datetime) -> tuple[object, ...]:
    made_by = published.file_id, claim.job_id, claim.task_id
    place = published.target, published.path, published.href
    content = published.tree, published.sha256, published.size
    return key, *made_by, *place, PUBLISHED, *content, now


def _store_deliveries(store: Store, claim: Claim, result: Result, now: datetime) -> None:
    insert_many(
        store,
        "delivery",
        ("task_id", "number", "at", "url", "status", "message", "seconds"),
        [
            (claim.task_id, claim.attempt, now, sent.url, sent.status, sent.message, sent.seconds)
            for sent in result.deliveries
        ],
    )


def rescue(store: Store, lease: LeaseRecord, now: datetime) -> bool:
    """Give back the task of a lease that has ended, unless it was renewed meanwhile.
    Its worker counts as lost. Returns whether it was given back."""
    row = store.execute(
        f"SELECT lease_until FROM task WHERE {OURS}{for_update(store)}", lease.claim.key
    ).get_one()
    if row is None or moment(row[0]) != lease.until:
        return False
    worker = store.execute(
        "SELECT host, pid FROM worker WHERE id = ?", (lease.claim.worker_id,)
    ).get_one()
    place = f" on {worker[0]}, process {worker[1]}" if worker else ""
    message = f"worker {lease.claim.worker_id}{place} was lost"
    return finish(store, lease.claim, Outcome(LOST, message, Reason.LOST_WORKER), now)
