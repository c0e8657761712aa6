"""The append-only history: when, who, what, on what."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from storm.locals import Store

from backoffice.data.database import insert_many

ENGINE = "backoffice"  # the actor of what nobody asked for


@dataclass(frozen=True)
class Event:
    """``action`` is ``subject-kind.verb``, such as ``job.submitted``."""

    action: str
    subject: str  # such as "job 1", "queue default"
    job_id: int | None = None
    task_id: int | None = None
    detail: str = ""
    actor: str = ENGINE


def of_job(action: str, job_id: int, actor: str = ENGINE, detail: str = "") -> Event:
    return Event(f"job.{action}", f"job {job_id}", job_id, None, detail, actor)


def of_task(action: str, job_id: int, task_id: int, detail: str = "", actor: str = ENGINE) -> Event:
    return Event(f"task.{action}", f"task {task_id}", job_id, task_id, detail, actor)


def append(store: Store, now: datetime, *events: Event) -> None:
    insert_many(
        store,
        "event",
        ("at", "actor", "action", "subject", "job_id", "task_id", "detail"),
        [(now, e.actor, e.action, e.subject, e.job_id, e.task_id, e.detail) for e in events],
    )
