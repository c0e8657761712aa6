"""SQL helpers: times, parameter marks, inserts, and what differs between the dialects."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from storm.databases.mysql import MySQL
from storm.locals import Store


def is_mysql(store: Store) -> bool:
    return isinstance(store.get_database(), MySQL)


def clock(store: Store) -> datetime:
    """Now by the database's clock, naive UTC, to the microsecond. An embedded
    database has no other clock than this host's."""
    if is_mysql(store):
        now: datetime = store.execute("SELECT UTC_TIMESTAMP(6)").get_one()[0]
        return now
    return datetime.now(UTC).replace(tzinfo=None)


def moment(value: datetime | str | None) -> datetime | None:
    """A time of a raw row: SQLite gives text."""
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def for_update(store: Store, *, skip_locked: bool = False) -> str:
    """The end of a SELECT that locks its rows. SQLite needs none: a writer locks all."""
    if not is_mysql(store):
        return ""
    return " FOR UPDATE SKIP LOCKED" if skip_locked else " FOR UPDATE"


def use_index(store: Store, name: str) -> str:
    """After a table's name: MySQL must read by this index."""
    return f" FORCE INDEX ({name})" if is_mysql(store) else ""


def marks(values: Sequence[Any]) -> str:
    """``?, ?, ?`` for an IN list."""
    return ", ".join("?" * len(values))


def insert_one(store: Store, table: str, columns: Sequence[str], values: Sequence[Any]) -> int:
    """Insert a row and return its id; much cheaper than a Storm object."""
    result = store.execute(
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks(columns)})", values
    )
    number: int = result.inserted_id
    return number


def insert_many(
    store: Store, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    """One INSERT for many rows. Table and columns are constants, never users' text."""
    rows = list(rows)
    if not rows:
        return
    row = f"({marks(columns)})"
    store.execute(
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES {', '.join([row] * len(rows))}",
        [value for values in rows for value in values],
        noresult=True,
    )


def insert_numbered(
    store: Store, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], step: int
) -> list[int]:
    """Like ``insert_many``, for at least one row; returns the ids of the rows. The ids of
    one INSERT follow each other by ``step``, MySQL's auto_increment_increment."""
    row = f"({marks(columns)})"
    result = store.execute(
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES {', '.join([row] * len(rows))}",
        [value for values in rows for value in values],
    )
    # MySQL tells the first id, SQLite the last.
    number: int = result.inserted_id
    first = number if is_mysql(store) else number - step * (len(rows) - 1)
    return [first + step * n for n in range(len(rows))]


def server_version(store: Store) -> str:
    """Such as ``SQLite 3.40.1``, ``10.11.19-MariaDB`` or ``MySQL 8.0.36``."""
    if not is_mysql(store):
        return f"SQLite {sqlite3.sqlite_version}"
    (version,) = store.execute("SELECT VERSION()").get_one()
    return str(version) if "MariaDB" in version else f"MySQL {version}"
