"""What the database expects on disks and at targets, page by page.

Owns the queries of ``operations.reconcile``, which compares. Each page is a read of
its own: a comparison may take hours, and no transaction lasts as long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

from storm.locals import Store

from backoffice import tasks
from backoffice.data.database import Database
from backoffice.data.sql import marks, moment
from backoffice.states import PRESENT, PUBLISHED, RETRACTED, RUNNING
from backoffice.tasks import Trait

PAGE = 500  # rows

Rows = Sequence[Any]
StillExpected = Callable[[Store, Sequence[int]], set[int]]

_PUBLICATIONS = "SELECT id, target, path, tree, size, sha256 FROM publication WHERE id > ?"
_PUBLISHED = f"{_PUBLICATIONS} AND state = '{PUBLISHED}' ORDER BY id LIMIT ?"
_RETRACTED = f"{_PUBLICATIONS} AND state = '{RETRACTED}' ORDER BY id LIMIT ?"
_FILES = (
    "SELECT id, href, tree, size, sha256, task_id FROM file"
    f" WHERE id > ? AND state = '{PRESENT}' ORDER BY id LIMIT ?"
)
_LOGS = (
    "SELECT id, task_id, log, log_size FROM attempt"
    f" WHERE host = ? AND id > ? AND log <> '' AND state <> '{RUNNING}' ORDER BY id LIMIT ?"
)


def published(database: Database) -> Iterator[Rows]:
    """Id, target, path, tree, size and SHA-256 of each publication."""
    return _pages(database, _PUBLISHED)


def retracted(database: Database) -> Iterator[Rows]:
    """The same of what was retracted."""
    return _pages(database, _RETRACTED)


def present(database: Database) -> Iterator[Rows]:
    """Id, href, tree, size, SHA-256 and task of each file."""
    return _pages(database, _FILES)


def logs(database: Database, host: str) -> Iterator[Rows]:
    """Id, task, path and size of the log of each attempt that ended on a host."""
    return _pages(database, _LOGS, host)


def _pages(database: Database, query: str, *before: object) -> Iterator[Rows]:
    after = 0
    while rows := database.read(_all, query, (*before, after, PAGE)):
        yield rows
        after = rows[-1][0]


def _all(store: Store, query: str, values: Sequence[Any]) -> Rows:
    rows: Rows = store.execute(query, values).get_all()
    return rows


def still_published(store: Store, publications: Sequence[int]) -> set[int]:
    query = f"SELECT id FROM publication WHERE state = '{PUBLISHED}' AND id"
    return _those_of(store, query, publications)


def still_present(store: Store, files: Sequence[int]) -> set[int]:
    return _those_of(store, f"SELECT id FROM file WHERE state = '{PRESENT}' AND id", files)


def known_jobs(store: Store, jobs: Sequence[int]) -> set[int]:
    return _those_of(store, "SELECT id FROM job WHERE id", jobs)


def taken_places(store: Store, keys: Sequence[str]) -> set[str]:
    """Of keys made by ``outcomes.place_key``, those where something is published."""
    return _those_of(store, "SELECT active_key FROM publication WHERE active_key", keys)


def _those_of(store: Store, query: str, values: Sequence[Any]) -> set[Any]:
    if not values:
        return set()
    return {value for (value,) in _all(store, f"{query} IN ({marks(values)})", values)}


def targets_busy_since(store: Store) -> datetime | None:
    """Since when tasks that change a target have been running; None if none does."""
    types = [*tasks.having(Trait.PUBLISH), *tasks.having(Trait.RETRACT)]
    (first,) = store.execute(
        f"SELECT MIN(started) FROM task WHERE state = '{RUNNING}' AND type IN ({marks(types)})",
        types,
    ).get_one()
    return moment(first)


def running_attempts(store: Store, jobs: Sequence[int]) -> Rows:
    """Job, task name and number of each attempt of these jobs that runs."""
    query = f"SELECT job_id, name, attempt FROM task WHERE state = '{RUNNING}' AND job_id"
    return _all(store, f"{query} IN ({marks(jobs)})", jobs) if jobs else ()


def made_files(store: Store, jobs: Sequence[int]) -> Rows:
    """Job and href of each file that these jobs made."""
    query = "SELECT job_id, href FROM file WHERE job_id"
    return _all(store, f"{query} IN ({marks(jobs)})", jobs) if jobs else ()
