"""Migrations: bring the schema up to date; safe when killed half-way, and when two
processes migrate at once.

A migration is ``schema/<dialect>/NNNN-name.sql``: statements ended by ``;`` at
the end of a line. MySQL commits each DDL by itself, so each statement is a step
with its own row, written before and after it. A step that began and never ended is
run again; what it has done already is not an error. On
SQLite the whole run is one transaction. A migration that has been applied
must never be edited: its steps' checksums are compared.

A restore (``restore.py``) marks the database before it drops anything, and
unmarks it at its end: a half-restored database is not used.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from storm.exceptions import DatabaseError, Error
from storm.locals import Store

from backoffice.config import resources
from backoffice.data.database import Database
from backoffice.data.database_errors import code, is_missing_table
from backoffice.data.sql import clock
from backoffice.errors import DatabaseUnavailable, SchemaMismatch

LOCK_SECONDS = 60
RESTORING = (0, 0)  # the step that marks a restore which has begun and not ended
# Table, column or key already there; column or key already gone.
_ALREADY = frozenset({1050, 1060, 1061, 1091})

_STEPS_TABLE = """
CREATE TABLE IF NOT EXISTS schema_step (
    version INTEGER NOT NULL,
    step INTEGER NOT NULL,
    checksum CHAR(64) NOT NULL,
    started VARCHAR(32) NOT NULL,
    finished VARCHAR(32) NULL,
    PRIMARY KEY (version, step)
)"""


@dataclass(frozen=True)
class Step:
    version: int
    number: int
    statement: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(" ".join(self.statement.split()).encode()).hexdigest()


def steps(dialect: str, folder: Path | None = None) -> list[Step]:
    """Every step there is, in order."""
    found: list[Step] = []
    for path in sorted((folder or resources.share("schema") / dialect).glob("[0-9]*.sql")):
        version = int(path.name.split("-")[0])
        for number, statement in enumerate(_statements(path.read_text("utf-8")), 1):
            found.append(Step(version, number, statement))
    return found


def pending(database: Database, folder: Path | None = None) -> list[Step]:
    """Steps not yet applied. Raises SchemaMismatch when the database is newer
    than this program or restored by half, or an applied migration differs from
    its file."""
    return database.read(_pending, steps(database.dialect, folder))


def migrate(
    database: Database,
    folder: Path | None = None,
    *,
    last: int | None = None,
    restoring: bool = False,
) -> int:
    """Apply what is pending, up to version ``last``, and return how many steps
    that was. Only with ``restoring`` on a database that is being restored."""
    every = steps(database.dialect, folder)
    wanted = [step for step in every if last is None or step.version <= last]
    if database.mysql:
        return _migrate_mysql(database, wanted, restoring)
    return database.transact(_migrate_sqlite, wanted, restoring)


def version(store: Store) -> int:
    """The schema version of the database; 0 for one without our tables."""
    return max((version for version, _ in _applied(store)), default=0)


def is_half_restored(store: Store) -> bool:
    return RESTORING in _applied(store)


def begin_restore(store: Store) -> None:
    """From now on only the restore uses the database."""
    store.execute(_STEPS_TABLE)
    store.execute("DELETE FROM schema_step")
    mark = Step(*RESTORING, "")
    _mark_started(store, mark)
    _mark_finished(store, mark)


def end_restore(store: Store) -> None:
    store.execute("DELETE FROM schema_step WHERE version = ? AND step = ?", RESTORING)


def require_current(database: Database) -> None:
    """Raise SchemaMismatch unless the schema is just this program's."""
    todo = pending(database)
    if todo:
        raise SchemaMismatch(
            f"the database lacks migration {todo[0].version}: run 'backoffice migrate'"
        )


def _statements(text: str) -> Iterator[str]:
    bare = re.sub(r"^\s*--.*$", "", text, flags=re.MULTILINE)
    for statement in re.split(r";[ \t]*$", bare, flags=re.MULTILINE):
        if statement.strip():
            yield statement.strip()


def _pending(store: Store, every: list[Step], restoring: bool = False) -> list[Step]:
    done = _applied(store)
    if done.pop(RESTORING, None) is not None and not restoring:
        raise SchemaMismatch(
            "the database was restored by half: run 'backoffice restore' with the same file again"
        )
    known = {(step.version, step.number) for step in every}
    newer = sorted(set(done) - known)
    if newer:
        raise SchemaMismatch(
            f"the database has migration {newer[-1][0]} (step {newer[-1][1]}), which this program"
            " does not know: it belongs to a newer version; upgrade Backoffice"
        )
    for step in every:
        applied = done.get((step.version, step.number))
        if applied is not None and applied != step.checksum:
            raise SchemaMismatch(
                f"migration {step.version}, step {step.number}, was changed after it was applied:"
                " restore the file as it was"
            )
    return [step for step in every if (step.version, step.number) not in done]


def _applied(store: Store) -> dict[tuple[int, int], str]:
    try:
        rows = store.execute(
            "SELECT version, step, checksum FROM schema_step WHERE finished IS NOT NULL"
        ).get_all()
    except Error as error:
        if is_missing_table(error):
            return {}
        raise
    return {(version, step): checksum for version, step, checksum in rows}


def _migrate_sqlite(store: Store, every: list[Step], restoring: bool) -> int:
    store.execute(_STEPS_TABLE)
    todo = _pending(store, every, restoring)
    for step in todo:
        _mark_started(store, step)
        _apply_sqlite(store, step)
        _mark_finished(store, step)
    return len(todo)


def _migrate_mysql(database: Database, every: list[Step], restoring: bool) -> int:
    """Holds a lock that the server frees when the connection dies, so it stays
    on one connection and is not retried as a whole."""
    store = database.store()
    try:
        _lock(store)
        store.execute(_STEPS_TABLE)
        todo = _pending(store, every, restoring)
        for step in todo:
            _mark_started(store, step)
            store.commit()
            _apply_mysql(store, step)
            _mark_finished(store, step)
            store.commit()
        return len(todo)
    except DatabaseError as error:
        raise DatabaseUnavailable(
            f"the migration stopped half-way ({error}); run it again"
        ) from error
    finally:
        # The next caller gets a new connection: this one may hold the lock.
        database.close()


def _lock(store: Store) -> None:
    deadline = time.monotonic() + LOCK_SECONDS
    while time.monotonic() < deadline:
        # Waits in short steps: a longer wait would run into the read timeout.
        (got,) = store.execute(
            "SELECT GET_LOCK(CONCAT('backoffice.', LEFT(DATABASE(), 50)), 2)"
        ).get_one()
        if got == 1:
            return
    raise DatabaseUnavailable(
        f"another migration has been running for {LOCK_SECONDS} s: wait for it to end"
    )


def _apply_sqlite(store: Store, step: Step) -> None:
    try:
        store.execute(step.statement, noresult=True)
    except DatabaseError as error:
        raise DatabaseUnavailable(
            f"migration {step.version}, step {step.number}, failed ({error}): nothing was changed;"
            " mend the cause and run it again"
        ) from error


def _apply_mysql(store: Store, step: Step) -> None:
    try:
        store.execute(step.statement, noresult=True)
    except DatabaseError as error:
        if code(error) not in _ALREADY:
            raise


def _mark_started(store: Store, step: Step) -> None:
    store.execute("DELETE FROM schema_step WHERE version = ? AND step = ?", _key(step))
    store.execute(
        "INSERT INTO schema_step (version, step, checksum, started) VALUES (?, ?, ?, ?)",
        (*_key(step), step.checksum, str(clock(store))),
    )


def _mark_finished(store: Store, step: Step) -> None:
    store.execute(
        "UPDATE schema_step SET finished = ? WHERE version = ? AND step = ?",
        (str(clock(store)), *_key(step)),
    )


def _key(step: Step) -> tuple[int, int]:
    return step.version, step.number
