"""Tables as a whole, for backup and restore: their columns, all their rows, their numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from storm.exceptions import DatabaseError
from storm.locals import Store

from backoffice.data import migrations
from backoffice.data.database_errors import NO_SUCH_TABLE, code
from backoffice.data.sql import is_mysql, marks

PAGE = 2000  # rows read at a time
_TABLE = re.compile(r"^CREATE (?:VIRTUAL )?TABLE IF NOT EXISTS (\w+)", re.MULTILINE)
_MADE_ANEW = ("job_search", "file_search")  # by the scheduler


class Table(NamedTuple):
    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]  # the primary one


def names(dialect: str) -> list[str]:
    """Every table that migrations ever made, without their own."""
    statements = "\n".join(step.statement for step in migrations.steps(dialect))
    return list(dict.fromkeys(_TABLE.findall(statements)))


def known(store: Store) -> list[Table]:
    """The tables of this database, without those whose rows the scheduler makes anew."""
    dialect = "mysql" if is_mysql(store) else "sqlite"
    found = [_table(store, name) for name in names(dialect) if name not in _MADE_ANEW]
    return [table for table in found if table.columns]


def _table(store: Store, name: str) -> Table:
    return (_mysql_table if is_mysql(store) else _sqlite_table)(store, name)


def _sqlite_table(store: Store, name: str) -> Table:
    query = "SELECT name, pk FROM pragma_table_info(?) ORDER BY cid"
    columns = store.execute(query, (name,)).get_all()
    key = sorted((place, column) for column, place in columns if place)
    return Table(name, tuple(column for column, _ in columns), tuple(column for _, column in key))


def _mysql_table(store: Store, name: str) -> Table:
    """Not from information_schema: MariaDB makes a table on disk to answer, and
    when that fails some versions (10.11.19) crash."""
    try:
        _, text = store.execute(f"SHOW CREATE TABLE {name}").get_one()
    except DatabaseError as error:
        if code(error) != NO_SUCH_TABLE:
            raise
        return Table(name, (), ())
    columns = re.findall(r"^  `(\w+)` ", text, re.MULTILINE)
    (key,) = re.findall(r"^  PRIMARY KEY \((.*?)\)", text, re.MULTILINE)
    return Table(name, tuple(columns), tuple(re.findall(r"`(\w+)`", key)))


def begin_snapshot(store: Store) -> None:
    """Everything that is read from now on is as it is at this moment. SQLite's WAL gives
    that to every transaction."""
    if is_mysql(store):
        store.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", noresult=True)
        store.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY", noresult=True)


def pages(store: Store, table: Table) -> Iterator[list[Any]]:
    """All rows by primary key; each page begins after the one before."""
    order = ", ".join(table.key)
    select = f"SELECT {', '.join(table.columns)} FROM {table.name}"
    places = [table.columns.index(column) for column in table.key]
    where = ""
    values: list[Any] = []
    while page := store.execute(f"{select}{where} ORDER BY {order} LIMIT {PAGE}", values).get_all():
        yield page
        last = [page[-1][place] for place in places]
        where, values = _after(table.key, last)


def _after(key: Sequence[str], last: Sequence[Any]) -> tuple[str, list[Any]]:
    """``a > ? OR (a = ? AND b > ?)``: MySQL finds no range in ``(a, b) > (?, ?)``."""
    terms: list[str] = []
    values: list[Any] = []
    for depth, column in enumerate(key):
        equal = "".join(f"{name} = ? AND " for name in key[:depth])
        terms.append(f"({equal}{column} > ?)")
        values += last[: depth + 1]
    return f" WHERE {' OR '.join(terms)}", values


def count(store: Store, table: str) -> int:
    (count,) = store.execute(f"SELECT COUNT(*) FROM {table}").get_one()
    return int(count)


def drop(store: Store, name: str) -> None:
    if is_mysql(store):
        # Otherwise it would wait a day for a transaction that someone left open.
        store.execute("SET SESSION lock_wait_timeout = 5", noresult=True)
    store.execute(f"DROP TABLE IF EXISTS {name}", noresult=True)


def replace_rows(store: Store, table: Table, rows: Sequence[Any]) -> None:
    """May be run again: whether an interrupted commit took effect cannot be known."""
    row = f"({marks(table.columns)})"
    store.execute(
        f"REPLACE INTO {table.name} ({', '.join(table.columns)}) VALUES"
        f" {', '.join([row] * len(rows))}",
        [value for values in rows for value in values],
        noresult=True,
    )


def last_id(store: Store, table: Table) -> int:
    (last,) = store.execute(f"SELECT MAX(id) FROM {table.name}").get_one()
    return int(last or 0)


def set_next_id(store: Store, table: str, number: int) -> None:
    """The id of the next row that is inserted."""
    if is_mysql(store):
        store.execute(f"ALTER TABLE {table} AUTO_INCREMENT = {number:d}", noresult=True)
    else:
        store.execute("DELETE FROM sqlite_sequence WHERE name = ?", (table,))
        store.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table, number - 1))
