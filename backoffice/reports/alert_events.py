"""Events that alerts are about, with what is known of their job and host."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime

from storm.locals import Store

from backoffice.data.sql import marks, moment, use_index
from backoffice.states import FAILED, LOST

_PAGE = 1000  # events read at a time
_LONGEST = 1000  # characters of an event's detail


@dataclass(frozen=True)
class AlertEvent:
    """``at`` is naive UTC."""

    id: int
    at: datetime
    action: str
    subject: str
    job: int | None
    task: int | None
    detail: str
    reason: str
    host: str  # empty: not known
    title: str | None  # of the job, as its workflow
    workflow: str | None
    type: str | None  # of the task


def between(
    store: Store, actions: Collection[str], after: int, newest: int
) -> Iterator[AlertEvent]:
    """Those with one of the actions and an id after ``after``, up to ``newest``, in
    order. Read by the action's index, which has the ids in order."""
    while after < newest:
        rows = store.execute(
            "SELECT e.id, e.at, e.action, e.subject, e.job_id, e.task_id,"
            f" SUBSTR(e.detail, 1, {_LONGEST}), e.reason, e.host,"
            " j.title, j.workflow, t.type"
            f" FROM event e{use_index(store, 'event_action')}"
            " LEFT JOIN job j ON j.id = e.job_id LEFT JOIN task t ON t.id = e.task_id"
            f" WHERE e.action IN ({marks(tuple(actions))}) AND e.id > ? AND e.id <= ?"
            " ORDER BY e.id LIMIT ?",
            (*actions, after, newest, _PAGE),
        ).get_all()
        for number, at, *rest in rows:
            yield AlertEvent(number, moment(at) or datetime.min, *rest)
        after = rows[-1][0] if len(rows) == _PAGE else newest


def host(store: Store, event: AlertEvent) -> str:
    """Where it happened; for a job, where its last attempt ended. Empty: not known."""
    if event.job is None:
        return event.host
    column, key = ("a.task_id", event.task) if event.task is not None else ("t.job_id", event.job)
    row = store.execute(
        f"SELECT a.host FROM attempt a JOIN task t ON t.id = a.task_id WHERE {column} = ?"
        f" AND a.finished <= ? AND a.state IN ('{FAILED}', '{LOST}')"
        " ORDER BY a.finished DESC LIMIT 1",
        (key, event.at),
    ).get_one()
    return row[0] if row else ""
