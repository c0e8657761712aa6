"""The table ``low_disk``: which disks of a host are nearly full now."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from storm.locals import Store

from backoffice.data.sql import insert_many, marks, use_index


def names(store: Store, host: str) -> set[str]:
    rows = store.execute("SELECT name FROM low_disk WHERE host = ?", (host,)).get_all()
    return {name for (name,) in rows}


def add(store: Store, host: str, name: str, since: datetime) -> None:
    insert_many(store, "low_disk", ("host", "name", "since"), [(host, name, since)])


def remove(store: Store, host: str, names: Sequence[str]) -> bool:
    """False when another scheduler has removed them."""
    removed = store.execute(
        f"DELETE FROM low_disk WHERE host = ? AND name IN ({marks(names)})", (host, *names)
    )
    return bool(removed.rowcount)


def first_event(store: Store) -> int | None:
    """The first event that says of a disk that is low now that it became so."""
    (event,) = store.execute(
        f"SELECT MIN(e.id) FROM event e{use_index(store, 'event_action')}"
        " JOIN low_disk d ON d.since = e.at WHERE e.action = 'disk.low'"
    ).get_one()
    return None if event is None else int(event)
