"""Database errors: which ones pass, and what they mean for an admin.

MySQL's numbers and SQLite's result codes tell them apart.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from storm.exceptions import DatabaseError, DisconnectionError

from backoffice.data import counters, replication
from backoffice.errors import DatabaseUnavailable, SchemaMismatch

LOCK_WAIT, DEADLOCK, SNAPSHOT_CHANGED = 1205, 1213, 1020
NO_SUCH_TABLE = 1146
DUPLICATE = 1062  # two transactions inserted the same at once: the second then finds it
INTERRUPTED = 1317  # KILL QUERY
RETRIED: Mapping[int, str] = {
    LOCK_WAIT: "lock_wait",
    DEADLOCK: "deadlock",
    SNAPSHOT_CHANGED: "snapshot",
    DUPLICATE: "duplicate",
    INTERRUPTED: "interrupted",
}
REFUSED = frozenset({1044, 1045, 1049, 1130, 1698, 1251})
TOO_MANY = frozenset({1040, 1203, 1226})
AWAY = TOO_MANY | {2002, 2003, 2005}
FULL, READ_ONLY = frozenset({1021, 1114}), frozenset({1290, 1792, 1836})
UNWRITABLE = FULL | READ_ONLY

SQLITE_LOCKED = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
SQLITE_FILE = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY})
SQLITE_BROKEN = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
# What SQLite says of files rather than of statements.
SQLITE_TROUBLE = SQLITE_FILE | SQLITE_BROKEN | {sqlite3.SQLITE_FULL}


def code(error: BaseException) -> int:
    """MySQL's number of an error; 0 when it has none (SQLite)."""
    first = error.args[0] if error.args else 0
    return first if isinstance(first, int) else 0


def sqlite_code(error: BaseException) -> int:
    """SQLite's primary result code, of the error that Storm has wrapped; 0 for MySQL."""
    extended: int = getattr(error.__cause__ or error, "sqlite_errorcode", 0)
    return extended & 0xFF


def is_locked(error: BaseException) -> bool:
    """Whether another writer has the SQLite database."""
    return sqlite_code(error) in SQLITE_LOCKED


def is_missing_table(error: BaseException) -> bool:
    """SQLite has no result code for a missing table; its message is matched."""
    return code(error) == NO_SUCH_TABLE or "no such table" in str(error)


def passing(error: BaseException) -> bool:
    """Whether the same transaction, run again from its start, may well succeed."""
    if not isinstance(error, DatabaseError):
        return False
    if isinstance(error, DisconnectionError) or code(error) in RETRIED:
        return True
    return is_locked(error)


def again(error: BaseException) -> bool:
    """``passing``, and counted: for callers that then run the transaction again."""
    if not passing(error):
        return False
    count_retry(error)
    return True


def count_retry(error: BaseException) -> None:
    broken = "disconnected" if isinstance(error, DisconnectionError) else "locked"
    counters.DATABASE_RETRIES.count(RETRIED.get(code(error), broken))


def explained(error: BaseException) -> BaseException:
    """DatabaseUnavailable or SchemaMismatch for what an admin can mend; else the error
    itself, which is a fault of the program. A passing error that comes here was
    retried in vain."""
    if not isinstance(error, DatabaseError):
        return error
    if is_missing_table(error):
        return SchemaMismatch("the database has not its tables yet: run 'backoffice migrate'")
    no_node = isinstance(error, replication.NodeUnavailable)
    away = no_node or (passing(error) and code(error) != DUPLICATE)
    known = code(error) in AWAY | REFUSED | UNWRITABLE or sqlite_code(error) in SQLITE_TROUBLE
    if away or known:
        return unavailable(error)
    unexplained: BaseException = error
    return unexplained


def unavailable(error: BaseException) -> DatabaseUnavailable:
    kind, message = _kind_and_message(error)
    counters.DATABASE_ERRORS.count(kind)
    return DatabaseUnavailable(message, refused=kind in ("refused", "file"))


def _kind_and_message(error: BaseException) -> tuple[str, str]:
    """The kind is one of ``counters.ERROR_KINDS``."""
    number, sqlite = code(error), sqlite_code(error)
    text = str(error.args[-1]) if error.args else str(error)
    if number in REFUSED:
        return "refused", f"the database refuses the connection: {text}"
    if number in TOO_MANY:
        return "connections", f"the database has too many connections: {text}"
    if number in FULL or sqlite == sqlite3.SQLITE_FULL:
        return "full", "the disk of the database is full: make room"
    if number in READ_ONLY:
        return "read_only", f"the database takes no writes now: {text}"
    if sqlite in SQLITE_FILE:
        message = f"the database file cannot be written ({text}): check its folder's permissions"
        return "file", message
    return "away", f"the database cannot be reached: {text}"
