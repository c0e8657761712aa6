"""``backoffice restore``: replace the database by a backup.

Nothing is changed before the archive is verified and the database is found to be one
that may be replaced. From then until the end the database is marked as half restored:
no process uses it, and the restore can be repeated.

Time has passed since the backup. Tasks that were running are given back; schedules do
not make up for missed runs; ids continue after a gap, so that they differ from those
given out since the backup; and unfinished jobs are paused until an operator resumes
them, because much of them may have been done already. A job that is run again adopts
what is the same at its targets and refuses what is not; nothing is published twice.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from storm.locals import Store

from backoffice.config.settings import Settings
from backoffice.data import events, migrations, schedules, tables
from backoffice.data.database import Database
from backoffice.data.sql import clock
from backoffice.data.tables import Table
from backoffice.engine import job_folders, jobs, leases, outcomes, worker_registry
from backoffice.engine.claims import Claim
from backoffice.engine.outcomes import Outcome
from backoffice.errors import BackofficeError, Conflict, DatabaseUnavailable
from backoffice.operations.backup import Archive
from backoffice.scheduler.schedules import next_run
from backoffice.states import RELEASED, Reason
from backoffice.system import pidfile
from backoffice.system.blocking_io import Beat, BlockingReads, NotAnswering

PATIENCE = 600.0  # seconds for one statement: some read a whole table
_ROWS, _BYTES = 500, 4 << 20  # at most in one INSERT
_VALUES = 30_000  # in one statement; SQLite takes 32,766
_AT_ONCE = 50  # jobs in one transaction
_WAIT = 10.0  # seconds for a disk that may hang


@contextmanager
def patient(settings: Settings) -> Iterator[Database]:
    """The database with a long timeout for statements. The first connection has the usual
    one, so that DatabaseUnavailable is raised as soon as usual."""
    first = Database(settings.database)
    try:
        first.read(clock)
    finally:
        first.close()
    timeout = max(PATIENCE, settings.database.timeout)
    database = Database(replace(settings.database, timeout=timeout))
    try:
        yield database
    finally:
        database.close()


@contextmanager
def alone(settings: Settings) -> Iterator[None]:
    """Keep the service of this host from starting. Raises Conflict if it runs."""
    held = pidfile.take(settings.paths.run)
    try:
        yield
    finally:
        held.release()


# May it? ---------------------------------------------------------------------


def contents(database: Database, archive: Archive) -> dict[str, int]:
    """What the restore would replace: tables, and their numbers of rows. Empty if the
    database is empty or half restored. Raises Conflict when it must not be replaced."""
    newest = migrations.steps(database.dialect)[-1].version
    if archive.manifest.schema > newest:
        raise Conflict(
            f"{archive.path} was made by Backoffice {archive.manifest.program}, with schema version"
            f" {archive.manifest.schema}; this program knows {newest}: upgrade it first"
        )
    if database.read(migrations.is_half_restored):
        return {}
    migrations.pending(database)  # refuses a database that is newer than this program
    found = database.read(_contents)
    if found.get("worker"):
        _require_no_workers(database)
    return found


def _contents(store: Store) -> dict[str, int]:
    counts = {table.name: tables.count(store, table.name) for table in tables.known(store)}
    return {name: count for name, count in counts.items() if count}


def _require_no_workers(database: Database) -> None:
    workers, now = database.read(_workers)
    living = [
        f"{worker.host} (process {worker.pid})"
        for worker in workers
        if worker.heartbeat + timedelta(seconds=worker.lease) > now
    ]
    if living:
        raise Conflict(
            f"workers are at work on this database: {', '.join(living)}; stop them first. One that"
            " was killed counts as living until its lease ends"
        )


def _workers(store: Store) -> tuple[list[worker_registry.LivingWorker], datetime]:
    return worker_registry.living(store), clock(store)


# The rows ----------------------------------------------------------------------


def load(
    database: Database,
    archive: Archive,
    on_table: Callable[[str, int], object] = lambda name, rows: None,
) -> None:
    """Replace the database by the archive's content, with the newest schema. It stays
    marked as half restored until :func:`finish`."""
    try:
        database.transact(migrations.begin_restore)
        _drop(database)
        migrations.migrate(database, last=archive.manifest.schema, restoring=True)
        for table in _matching(database.read(tables.known), archive):
            on_table(table.name, archive.manifest.rows[table.name])
            _fill(database, archive, table)
        migrations.migrate(database, restoring=True)
    except DatabaseUnavailable as error:
        raise DatabaseUnavailable(
            f"the restore stopped half-way: {error}; run it again", refused=error.refused
        ) from error


def _drop(database: Database) -> None:
    for name in tables.names(database.dialect):
        database.transact(tables.drop, name)


def _matching(present: Sequence[Table], archive: Archive) -> list[Table]:
    """The tables, with their columns as the archive has them."""
    there = {table.name: table for table in present}
    for name, columns in archive.manifest.tables.items():
        if name not in there or set(there[name].columns) != set(columns):
            raise Conflict(
                f"{archive.path} has a table {name!r} that is not as schema version"
                f" {archive.manifest.schema} of this program has it: restore it with Backoffice"
                f" {archive.manifest.program}"
            )
    return [there[name]._replace(columns=c) for name, c in archive.manifest.tables.items()]


def _fill(database: Database, archive: Archive, table: Table) -> None:
    batch: list[Any] = []
    size = 0
    most = min(_ROWS, _VALUES // len(table.columns))
    for row in archive.rows(table.name):
        batch.append(row)
        size += sum(len(value) for value in row if isinstance(value, str))
        if len(batch) >= most or size >= _BYTES:
            database.transact(tables.replace_rows, table, batch)
            batch, size = [], 0
    if batch:
        database.transact(tables.replace_rows, table, batch)
    wanted, found = archive.manifest.rows[table.name], database.read(tables.count, table.name)
    if wanted != found:
        raise BackofficeError(
            f"table {table.name} has {found} rows, and the archive {wanted}: run the restore again"
        )


# What comes after --------------------------------------------------------------


def finish(
    database: Database, settings: Settings, archive: Archive, *, hold: bool, actor: str
) -> list[int]:
    """Adapt the content to the time that has passed since the backup, and allow the
    database to be used. Returns the jobs that were paused: with ``hold`` all unfinished
    ones."""
    seen = _newest_folder(settings)
    database.transact(_skip_numbers, seen)
    _give_back(database)
    database.transact(_skip_runs)
    held = _hold(database, actor) if hold else []
    database.transact(_record, archive, actor)
    database.transact(migrations.end_restore)
    return held


def _newest_folder(settings: Settings) -> int:
    """The highest id of a job that has a folder on the disks."""
    reads, newest = BlockingReads(_WAIT), 0
    for folder in (job_folders.work_root(settings.paths), job_folders.log_root(settings.paths)):
        with suppress(NotAnswering, OSError):
            names = reads.run(folder, partial(_names, folder))
            newest = max([newest, *(int(name) for name in names if name.isdecimal())])
    return newest


def _names(folder: Path, beat: Beat) -> list[str]:
    return os.listdir(folder)


def _skip_numbers(store: Store, newest_job: int) -> None:
    for table in tables.known(store):
        if table.key == ("id",):
            last = max(tables.last_id(store, table), newest_job if table.name == "job" else 0)
            if last:
                tables.set_next_id(store, table.name, next_number(last))


def next_number(last: int) -> int:
    """``last`` plus a tenth and a thousand, rounded up: 12 → 2000."""
    return (last + last // 10 + 1999) // 1000 * 1000


def _give_back(database: Database) -> None:
    """Give back all running tasks: no worker in the backup may continue them."""
    outcome = Outcome(RELEASED, "the database was restored", Reason.RESTORED)
    ended = [(lease.claim, outcome) for lease in database.read(leases.current)]
    for start in range(0, len(ended), _AT_ONCE):
        database.transact(_end, ended[start:][:_AT_ONCE])
    database.transact(worker_registry.mark_lost, *database.read(_workers))


def _end(store: Store, some: Sequence[tuple[Claim, Outcome]]) -> None:
    outcomes.finish_all(store, some, clock(store))


def _skip_runs(store: Store) -> None:
    now = clock(store)
    for name, (cron, run) in schedules.known(store).items():
        if run is not None and run < now:
            schedules.change(store, name, cron, next_run(cron, now))


def _hold(database: Database, actor: str) -> list[int]:
    unfinished = database.read(jobs.unfinished)
    for start in range(0, len(unfinished), _AT_ONCE):
        database.transact(_pause, unfinished[start : start + _AT_ONCE], actor)
    return unfinished


def _pause(store: Store, some: Sequence[int], actor: str) -> None:
    for job in some:
        jobs.pause(store, job, actor)


def _record(store: Store, archive: Archive, actor: str) -> None:
    detail = f"{archive.path.name}, made {archive.manifest.made} on {archive.manifest.host}"
    event = events.Event("database.restored", "database", detail=detail, actor=actor)
    events.append(store, clock(store), event)


def recipes(archive: Archive, settings: Settings) -> Iterator[str]:
    """Write the site's own recipes that are missing. Yields a sentence for each that was
    written, could not be, or differs."""
    for kind, number, name, content in archive.recipes():
        folders = getattr(settings.paths, kind)[1:]
        if number > len(folders):
            yield f"{kind}/{number}/{name} stays in the archive: [paths] {kind} has no such folder"
            continue
        path = folders[number - 1] / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as stream:
                stream.write(content)
            yield f"{path} was put back"
        except FileExistsError:
            if path.read_bytes() != content:
                yield f"{path} is not as it was, and stays as it is"
        except OSError as error:
            yield f"{path} could not be put back: {error.strerror}"
