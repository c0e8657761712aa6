"""Event history: append-only; when, who, what, on what, and why."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from storm.locals import Store

from backoffice.data.sql import insert_many
from backoffice.states import Reason

ENGINE = "backoffice"  # the actor of what the system does by itself
_COLUMNS = (
    "at",
    "actor",
    "action",
    "subject",
    "job_id",
    "task_id",
    "detail",
    "reason",
    "host",
)


@dataclass(frozen=True)
class Event:
    """``action`` is ``subject-kind.verb``, such as ``job.submitted``. ``detail`` is for
    people; programs read ``reason`` and ``host``, where it happened, if it is known."""

    action: str
    subject: str  # such as "job 1", "queue default"
    job_id: int | None = None
    task_id: int | None = None
    detail: str = ""
    actor: str = ENGINE
    reason: Reason = Reason.NONE
    host: str = ""


def of_job(
    action: str,
    job_id: int,
    actor: str = ENGINE,
    detail: str = "",
    reason: Reason = Reason.NONE,
) -> Event:
    return Event(f"job.{action}", f"job {job_id}", job_id, None, detail, actor, reason)


def of_task(
    action: str, job_id: int, task_id: int, detail: str = "", reason: Reason = Reason.NONE
) -> Event:
    subject = f"task {task_id}"
    return Event(f"task.{action}", subject, job_id, task_id, detail, reason=reason)


def append(store: Store, now: datetime, *events: Event) -> None:
    insert_many(store, "event", _COLUMNS, [_row(event, now) for event in events])


def _row(event: Event, now: datetime) -> tuple[object, ...]:
    what = event.actor, event.action, event.subject, event.job_id, event.task_id
    return now, *what, event.detail, str(event.reason), event.host
