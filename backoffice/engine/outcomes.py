"""How attempts end: recording it, and moving their jobs on.

An outcome counts only while its attempt still holds the task; one of a former
owner changes nothing. Functions get the store and the database's time, and
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
from backoffice.data.database import for_update, insert_many, marks, moment
from backoffice.engine import transitions
from backoffice.engine.claims import Held
from backoffice.engine.leases import OURS, LeaseRecord, own_step
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

MAX_LOSSES = 5  # of its worker, before a task is set aside
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


def finish(store: Store, held: Held, outcome: Outcome, now: datetime) -> bool:
    """Like :func:`finish_all` for one attempt."""
    return finish_all(store, [(held, outcome)], now)[held]


def finish_all(
    store: Store, outcomes: Sequence[tuple[Held, Outcome]], now: datetime
) -> dict[Held, bool]:
    """Record how attempts ended and move their jobs on.

    False for an attempt that was no longer ours: nothing is changed and its
    outcome must be thrown away. True again when asked twice, since the answer
    to the first may have been lost on the way.
    """
    wholes = transitions.lock_all(store, [held.job_id for held, _ in outcomes])
    accepted: dict[Held, bool] = {}
    happened: list[events.Event] = []
    ended: dict[Held, transitions.Step] = {}
    for held, outcome in outcomes:
        step = own_step(wholes[held.job_id].steps if held.job_id in wholes else (), held)
        if step is None:
            accepted[held] = _recorded(store, held, outcome)
            continue
        happened += _end_attempt(store, held, outcome, step, now)
        accepted[held] = True
        ended[held] = step
    _put_succeeded(store, ended.values(), now)
    happened += transitions.settle_all(
        store, [wholes[job] for job in {h.job_id for h in ended}], now
    )
    events.append(store, now, *happened)
    return accepted


def _end_attempt(
    store: Store, held: Held, outcome: Outcome, step: transitions.Step, now: datetime
) -> list[events.Event]:
    outcome = replace(outcome, message=outcome.message[:LONGEST_MESSAGE])
    step.message, step.reason = outcome.message, outcome.reason
    step.state, happened = _AFTER[outcome.state](store, held, outcome, step, now)
    step.progress = 100.0 * (step.state == SUCCEEDED)
    _close_attempt(store, held, outcome, now)
    return happened


_Moved = tuple[str, list[events.Event]]  # the task's new state, and what happened


def _succeeded(
    store: Store, held: Held, outcome: Outcome, step: transitions.Step, now: datetime
) -> _Moved:
    _store_result(store, held, outcome.result, now)
    return SUCCEEDED, [_event(held, SUCCEEDED, step.name)]


def _failed(
    store: Store, held: Held, outcome: Outcome, step: transitions.Step, now: datetime
) -> _Moved:
    _store_deliveries(store, held, outcome.result, now)
    if step.cancelling:
        return _cancelled(store, held, outcome, step, now)
    failures = step.failures + 1
    if not outcome.retry or failures >= step.max_attempts:
        _put(store, held, FAILED, step, failures=failures, finished=now)
        return FAILED, [_event(held, FAILED, f"{step.name}: {outcome.message}", step.reason)]
    run_at = now + backoff(step.spec["backoff"], failures)
    _put(store, held, SCHEDULED, step, failures=failures, run_at=run_at, worker_id=None)
    detail = f"{step.name}: {outcome.message}; again at {run_at:%H:%M:%S} UTC"
    return SCHEDULED, [_event(held, "retrying", detail, step.reason)]


def _cancelled(
    store: Store, held: Held, outcome: Outcome, step: transitions.Step, now: datetime
) -> _Moved:
    step.reason = Reason.CANCELLED
    _put(store, held, CANCELLED, step, finished=now)
    return CANCELLED, [_event(held, CANCELLED, step.name, step.reason)]


def _lost(
    store: Store, held: Held, outcome: Outcome, step: transitions.Step, now: datetime
) -> _Moved:
    if step.cancelling:
        return _cancelled(store, held, outcome, step, now)
    losses = step.losses + 1
    happened = [_event(held, LOST, f"{step.name}: {outcome.message}", step.reason)]
    if losses < MAX_LOSSES:
        _put(store, held, READY, step, losses=losses, ready_at=now, worker_id=None)
        return READY, happened
    step.message = f"set aside: it lost its worker {losses} times; the last time: {outcome.message}"
    step.reason = Reason.LOST_TOO_OFTEN
    _put(store, held, FAILED, step, losses=losses, finished=now)
    return FAILED, [*happened, _event(held, FAILED, f"{step.name}: {step.message}", step.reason)]


def _released(
    store: Store, held: Held, outcome: Outcome, step: transitions.Step, now: datetime
) -> _Moved:
    if step.cancelling:
        return _cancelled(store, held, outcome, step, now)
    reason, step.message, step.reason = step.reason, "", Reason.NONE
    _put(store, held, READY, step, ready_at=now, worker_id=None)
    return READY, [_event(held, RELEASED, step.name, reason)]


_AFTER = {
    SUCCEEDED: _succeeded,
    FAILED: _failed,
    CANCELLED: _cancelled,
    LOST: _lost,
    RELEASED: _released,
}


def _event(held: Held, action: str, detail: str, reason: Reason = Reason.NONE) -> events.Event:
    return events.of_task(action, held.job_id, held.task_id, detail, reason)


def _put_succeeded(store: Store, steps: Iterable[transitions.Step], now: datetime) -> None:
    """Many at once: they differ in their warnings at most."""
    by_message: dict[str, list[int]] = {}
    for step in steps:
        if step.state == SUCCEEDED:
            by_message.setdefault(step.message, []).append(step.id)
    for message, tasks in by_message.items():
        _put_all(
            store,
            tasks,
            SUCCEEDED,
            progress=100.0,
            finished=now,
            message=message,
            reason="",
            eta=None,
        )


def _put(store: Store, held: Held, state: str, step: transitions.Step, **columns: object) -> None:
    why = {"message": step.message, "reason": str(step.reason)}
    _put_all(store, [held.task_id], state, **why, **columns)


def _put_all(store: Store, tasks: Sequence[int], state: str, **columns: object) -> None:
    assignments = "".join(f", {column} = ?" for column in columns)
    store.execute(
        f"UPDATE task SET state = ?, lease_until = NULL, cancel_requested = NULL{assignments}"
        f" WHERE id IN ({marks(tasks)})",
        [state, *columns.values(), *tasks],
        noresult=True,
    )


def backoff(first: float, failures: int) -> timedelta:
    """Exponential, with "equal jitter": half of it is random, so that tasks
    that failed together do not come back together."""
    full = min(first * 2 ** (failures - 1), LONGEST_BACKOFF.total_seconds())
    return timedelta(seconds=full * random.uniform(0.5, 1.0))


def _recorded(store: Store, held: Held, outcome: Outcome) -> bool:
    row = store.execute(
        "SELECT state FROM attempt WHERE task_id = ? AND number = ? AND worker_id = ?", held.key
    ).get_one()
    return row is not None and row[0] == outcome.state


def _close_attempt(store: Store, held: Held, outcome: Outcome, now: datetime) -> None:
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
            held.task_id,
            held.attempt,
        ),
        noresult=True,
    )


_FILE = (
    *("href", "name", "role", "media_type", "tree", "size", "sha256", "state", "facts"),
    *("job_id", "task_id", "created"),
)
_PUBLICATION = (
    *("active_key", "file_id", "job_id", "task_id", "target", "path", "href", "state", "tree"),
    *("sha256", "size", "published"),
)


def _store_result(store: Store, held: Held, result: Result, now: datetime) -> None:
    insert_many(store, "file", _FILE, [_file(held, output, now) for output in result.outputs])
    for file_id, facts in result.facts.items():
        _store_facts(store, file_id, facts)
    for file_id, checksum in result.checksums.items():
        store.execute("UPDATE file SET sha256 = ? WHERE id = ?", (checksum, file_id))
    for published in result.published:
        _store_publication(store, held, published, now)
    for publication_id in result.retracted:
        _store_retraction(store, held, publication_id, now)
    _store_deliveries(store, held, result, now)


def _file(held: Held, output: Output, now: datetime) -> tuple[object, ...]:
    path = output.path
    measured = output.media_type, output.tree, output.size, output.sha256
    facts = model.dump(output.facts)
    made_by = held.job_id, held.task_id, now
    return path.as_uri(), path.name[:255], output.role, *measured, PRESENT, facts, *made_by


def _store_retraction(store: Store, held: Held, publication_id: int, now: datetime) -> None:
    store.execute(
        "UPDATE publication SET state = ?, active_key = NULL, retracted = ?"
        " WHERE id = ? AND state = ?",
        (RETRACTED, now, publication_id, PUBLISHED),
    )
    subject = f"publication {publication_id}"
    events.append(store, now, events.Event("publication.retracted", subject, held.job_id))


def place_key(target: str, path: str) -> str:
    """``active_key`` of the publication at this place."""
    return hashlib.sha256(f"{target}\0{path}".encode()).hexdigest()


def _store_facts(store: Store, file_id: int, facts: Mapping[str, Any]) -> None:
    """And what the file is, if its name had said what it cannot be."""
    types = media_types.of_facts(facts)
    given: list[object] = [model.dump(facts)]
    columns = "facts = ?"
    if types:
        kept = f"CASE WHEN media_type IN ({marks(types)}) THEN media_type ELSE ? END"
        columns += f", media_type = {kept}"
        given += [*types, types[0]]
    store.execute(f"UPDATE file SET {columns} WHERE id = ?", (*given, file_id))


def _store_publication(store: Store, held: Held, published: Published, now: datetime) -> None:
    """One row a place: what was already there with the same content keeps its
    row, what was overwritten is retracted."""
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
    insert_many(store, "publication", _PUBLICATION, [_publication(held, published, key, now)])
    subject, ids = f"file {published.file_id}", (held.job_id, held.task_id)
    event = events.Event("publication.published", subject, *ids, published.href)
    events.append(store, now, event)


def _publication(held: Held, published: Published, key: str, now: datetime) -> tuple[object, ...]:
    made_by = published.file_id, held.job_id, held.task_id
    place = published.target, published.path, published.href
    content = published.tree, published.sha256, published.size
    return key, *made_by, *place, PUBLISHED, *content, now


def _store_deliveries(store: Store, held: Held, result: Result, now: datetime) -> None:
    insert_many(
        store,
        "delivery",
        ("task_id", "number", "at", "url", "status", "message", "seconds"),
        [
            (held.task_id, held.attempt, now, sent.url, sent.status, sent.message, sent.seconds)
            for sent in result.deliveries
        ],
    )


def rescue(store: Store, lease: LeaseRecord, now: datetime) -> bool:
    """Give back the task of a lease that has ended, unless it was renewed
    meanwhile. Its worker counts as lost."""
    row = store.execute(
        f"SELECT lease_until FROM task WHERE {OURS}{for_update(store)}", lease.held.key
    ).get_one()
    if row is None or moment(row[0]) != lease.until:
        return False
    worker = store.execute(
        "SELECT host, pid FROM worker WHERE id = ?", (lease.held.worker_id,)
    ).get_one()
    place = f" on {worker[0]}, process {worker[1]}" if worker else ""
    message = f"worker {lease.held.worker_id}{place} was lost"
    return finish(store, lease.held, Outcome(LOST, message, Reason.LOST_WORKER), now)
