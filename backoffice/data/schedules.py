"""The table ``schedule``: when each schedule runs next, and how its last run went."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from storm.locals import Store

from backoffice.data.sql import insert_many, marks, moment


def known(store: Store) -> dict[str, tuple[str, datetime | None]]:
    """The cron expression and the next run of each schedule, by name."""
    rows = store.execute("SELECT name, cron, next_run FROM schedule").get_all()
    return {name: (cron, moment(run)) for name, cron, run in rows}


def remove(store: Store, names: Collection[str]) -> None:
    removed = sorted(names)
    if removed:
        store.execute(f"DELETE FROM schedule WHERE name IN ({marks(removed)})", removed)


def add(store: Store, name: str, cron: str, next_run: datetime) -> None:
    columns = ("name", "cron", "next_run", "message")
    insert_many(store, "schedule", columns, [(name, cron, next_run, "")])


def change(store: Store, name: str, cron: str, next_run: datetime) -> None:
    store.execute(
        "UPDATE schedule SET cron = ?, next_run = ? WHERE name = ?", (cron, next_run, name)
    )


def take_run(store: Store, name: str, run: datetime, next_run: datetime, message: str) -> bool:
    """Move ``next_run`` on from ``run``; False when another scheduler has done so.
    ``message`` is why the run submits no job, or empty."""
    moved = store.execute(
        "UPDATE schedule SET next_run = ?, last_run = ?, message = ?"
        " WHERE name = ? AND next_run = ?",
        (next_run, run, message, name, run),
    )
    return bool(moved.rowcount)


def set_last_job(store: Store, name: str, job: int) -> None:
    store.execute("UPDATE schedule SET last_job = ? WHERE name = ?", (job, name))
