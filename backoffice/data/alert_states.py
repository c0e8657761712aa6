"""The table ``alert``: for each alert and kind, which events it is done with.

``last_event`` is the last event that was sent or given up. A scheduler that sends
moves ``next_try`` on first, which keeps the others from sending meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from storm.locals import Store

from backoffice.data.sql import insert_many, marks, moment


@dataclass(frozen=True)
class AlertState:
    """A row. Times are naive UTC. ``failing`` is since when no try has succeeded;
    None: the last one did."""

    kind: str
    last_event: int
    next_try: datetime
    failing: datetime | None


def read(store: Store, name: str, kinds: Sequence[str]) -> list[AlertState]:
    rows = store.execute(
        "SELECT kind, last_event, next_try, failing FROM alert"
        f" WHERE name = ? AND kind IN ({marks(kinds)})",
        (name, *kinds),
    ).get_all()
    return [
        AlertState(kind, last, moment(next_try) or datetime.min, moment(failing))
        for kind, last, next_try, failing in rows
    ]


def add(store: Store, name: str, states: Sequence[AlertState]) -> None:
    columns = ("name", "kind", "last_event", "next_try")
    rows = [(name, state.kind, state.last_event, state.next_try) for state in states]
    insert_many(store, "alert", columns, rows)


def update(store: Store, name: str, old: AlertState, new: AlertState) -> bool:
    """Write ``new``, if the row is still ``old``."""
    moved = store.execute(
        "UPDATE alert SET last_event = ?, next_try = ?, failing = ?"
        " WHERE name = ? AND kind = ? AND last_event = ? AND next_try = ?",
        (
            new.last_event,
            new.next_try,
            new.failing,
            name,
            old.kind,
            old.last_event,
            old.next_try,
        ),
    )
    return bool(moved.rowcount)
