"""Retention: remove jobs some time after their end, in small batches.

A job is removed with its tasks, attempts, deliveries, history, outputs in the work
folder and logs; one event says how many were removed. Published files stay at their
targets, and their publications stay in the database, so that they can be retracted;
retracted publications are removed. Files from outside are never deleted. A job whose
output is another job's input stays until that job is removed.

Rows are chosen first and removed by primary key. Files are removed after the commit:
a crash in between leaves a folder without its job, never a job without its files.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from storm.locals import Store

from backoffice.config.loading import Settings
from backoffice.data import events, search
from backoffice.data.database import Database, clock, for_update, marks
from backoffice.states import PUBLISHED
from backoffice.system import job_folders

Counts = dict[str, int]  # kind of thing → how many

REMOVED = "removed"  # state of a file that is kept only for its publication
_AT_ONCE = 500  # keys in one statement


@dataclass
class _Batch:
    jobs: list[int] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


def prune(
    database: Database,
    settings: Settings,
    older_than: timedelta,
    on_batch: Callable[[Counts], None] = lambda counts: None,
    *,
    dry_run: bool = False,
) -> Counts:
    """Remove jobs that ended longer ago than ``older_than``. Returns what was removed, or
    with ``dry_run`` how many jobs would be. ``on_batch`` gets the sums so far.
    """
    before = database.read(clock) - older_than
    if dry_run:
        return {"jobs": database.read(_count, before)}
    total: Counter[str] = Counter()
    while True:
        batch = database.transact(_remove_batch, before, settings.retention.batch)
        if not batch.jobs:
            break
        for job in batch.jobs:
            _delete(settings, job)
        total += batch.counts
        on_batch(dict(total))
    workers = database.transact(_remove_workers, before)
    if workers:
        total["workers"] = workers
    return dict(total)


# A job that gave another one its input must outlive it.
_PRUNABLE = (
    " FROM job WHERE finished < ? AND NOT EXISTS (SELECT 1 FROM file f"
    " JOIN job_input i ON i.file_id = f.id WHERE f.job_id = job.id AND i.job_id <> job.id)"
)


def _count(store: Store, before: datetime) -> int:
    (count,) = store.execute(f"SELECT COUNT(*){_PRUNABLE}", (before,)).get_one()
    return int(count)


def _remove_batch(store: Store, before: datetime, rows: int) -> _Batch:
    """Remove jobs with about ``rows`` rows in all, but at least one job."""
    found = store.execute(f"SELECT id{_PRUNABLE} ORDER BY finished, id LIMIT ?", (before, rows))
    jobs = _that_fit(store, [job for (job,) in found.get_all()], rows)
    # One may have been retried or pruned since it was found.
    jobs = _keys(
        store,
        f"SELECT id FROM job WHERE finished < ? AND id IN (…){for_update(store)}",
        jobs,
        before,
    )
    batch = _Batch(jobs)
    if not jobs:
        return batch
    _remove_parts(store, batch)
    _remove(store, "job", jobs, batch)
    subject = f"job {jobs[0]}" if len(jobs) == 1 else f"jobs {min(jobs)} to {max(jobs)}"
    detail = f"{len(jobs)} removed; ended before {before:%Y-%m-%d %H:%M} UTC"
    events.append(store, clock(store), events.Event("job.pruned", subject, detail=detail))
    return batch


def _that_fit(store: Store, jobs: Sequence[int], rows: int) -> list[int]:
    """The first of the jobs, as many as fill a batch with their tasks and events."""
    if not jobs:
        return []
    weights = Counter({job: 1 for job in jobs})
    for table in ("task", "event"):
        counted = store.execute(
            f"SELECT job_id, COUNT(*) FROM {table} WHERE job_id IN ({marks(jobs)}) GROUP BY job_id",
            jobs,
        ).get_all()
        weights.update(dict(counted))
    fitting: list[int] = []
    room = rows
    for job in jobs:
        room -= weights[job]
        if fitting and room < 0:
            break
        fitting.append(job)
    return fitting


def _remove_parts(store: Store, batch: _Batch) -> None:
    jobs = batch.jobs
    tasks = _keys(store, "SELECT id FROM task WHERE job_id IN (…)", jobs)
    for table in ("delivery", "attempt"):
        _remove(
            store, table, _keys(store, f"SELECT id FROM {table} WHERE task_id IN (…)", tasks), batch
        )
    gone = _keys(
        store, "SELECT id FROM publication WHERE state <> ? AND job_id IN (…)", jobs, PUBLISHED
    )
    _remove(store, "publication", gone, batch)
    _remove_files(store, batch)
    for table in ("job_input", "job_parameter", "job_metadata"):
        store.execute(f"DELETE FROM {table} WHERE job_id IN ({marks(jobs)})", jobs)
    search.forget(store, jobs)
    _remove(store, "event", _keys(store, "SELECT id FROM event WHERE job_id IN (…)", jobs), batch)
    _remove(store, "task", tasks, batch)


def _remove_files(store: Store, batch: _Batch) -> None:
    made = _keys(store, "SELECT id FROM file WHERE job_id IN (…)", batch.jobs)
    kept = set(_keys(store, "SELECT DISTINCT file_id FROM publication WHERE file_id IN (…)", made))
    gone = [file for file in made if file not in kept]
    for some in _portions(gone):
        store.execute(f"DELETE FROM file_metadata WHERE file_id IN ({marks(some)})", some)
        search.forget_files(store, some)
    for some in _portions(sorted(kept)):
        store.execute(f"UPDATE file SET state = ? WHERE id IN ({marks(some)})", (REMOVED, *some))
    _remove(store, "file", gone, batch)


def _keys(store: Store, query: str, values: Sequence[int], *before: object) -> list[int]:
    """The ids that ``query`` finds; ``values`` take the place of its ``…``."""
    found: list[int] = []
    for some in _portions(values):
        rows = store.execute(query.replace("…", marks(some)), (*before, *some)).get_all()
        found += [key for (key,) in rows]
    return found


def _portions(keys: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(keys), _AT_ONCE):
        yield keys[start : start + _AT_ONCE]


def _remove(store: Store, table: str, keys: Sequence[int], batch: _Batch) -> None:
    for some in _portions(keys):
        store.execute(f"DELETE FROM {table} WHERE id IN ({marks(some)})", some)
    if keys:
        batch.counts[f"{table}s" if table != "delivery" else "deliveries"] += len(keys)


def _remove_workers(store: Store, before: datetime) -> int:
    """Remove workers that ended before ``before`` and hold no task."""
    gone = store.execute(
        "SELECT w.id FROM worker w WHERE w.state IN ('stopped', 'lost') AND w.heartbeat < ?"
        " AND NOT EXISTS (SELECT 1 FROM task t WHERE t.state = 'running' AND t.worker_id = w.id)",
        (before,),
    ).get_all()
    batch = _Batch()
    _remove(store, "worker", [worker for (worker,) in gone], batch)
    return batch.counts["workers"]


def _delete(settings: Settings, job: int) -> None:
    for folder in job_folders.of_job(settings.paths, job):
        shutil.rmtree(folder, ignore_errors=True)
