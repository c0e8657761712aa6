"""Pruning: remove the rows of jobs past their retention, and of workers long gone.

With a job go its tasks, attempts, deliveries and history. A publication that still is
at its target stays known, with its file, so that it can be retracted. A job whose
output another job was given stays until that one goes. Rows are chosen first and
removed by primary key. ``scheduler.retention`` decides when, and removes the files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from storm.locals import Store

from backoffice.data import events, search
from backoffice.data.sql import clock, for_update, marks
from backoffice.states import LOST, PUBLISHED, REMOVED, RUNNING, STOPPED

_AT_ONCE = 500  # keys in one statement


@dataclass
class Batch:
    jobs: list[int] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


# A job that gave another one its input must outlive it.
_PRUNABLE = (
    " FROM job WHERE finished < ? AND NOT EXISTS (SELECT 1 FROM file f"
    " JOIN job_input i ON i.file_id = f.id WHERE f.job_id = job.id AND i.job_id <> job.id)"
)


def count_prunable(store: Store, before: datetime) -> int:
    (count,) = store.execute(f"SELECT COUNT(*){_PRUNABLE}", (before,)).get_one()
    return int(count)


def remove_batch(store: Store, before: datetime, rows: int) -> Batch:
    """Remove jobs of about so many rows in all, but at least one job."""
    candidates = store.execute(
        f"SELECT id{_PRUNABLE} ORDER BY finished, id LIMIT ?", (before, rows)
    )
    jobs = _that_fit(store, [job for (job,) in candidates.get_all()], rows)
    # A job may have been retried or pruned since it was selected.
    jobs = _keys(
        store,
        f"SELECT id FROM job WHERE finished < ? AND id IN (…){for_update(store)}",
        jobs,
        before,
    )
    batch = Batch(jobs)
    if not jobs:
        return batch
    _remove_parts(store, batch)
    _remove(store, "job", jobs, batch)
    subject = f"job {jobs[0]}" if len(jobs) == 1 else f"jobs {min(jobs)} to {max(jobs)}"
    detail = f"{len(jobs)} removed; ended before {before:%Y-%m-%d %H:%M} UTC"
    events.append(store, clock(store), events.Event("job.pruned", subject, detail=detail))
    return batch


def _that_fit(store: Store, jobs: Sequence[int], rows: int) -> list[int]:
    """The first of them, until their tasks and events make up a batch."""
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


def _remove_parts(store: Store, batch: Batch) -> None:
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


def _remove_files(store: Store, batch: Batch) -> None:
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
    """The ids that ``query`` finds for ``values``, which stand for its ``…``."""
    keys: list[int] = []
    for some in _portions(values):
        rows = store.execute(query.replace("…", marks(some)), (*before, *some)).get_all()
        keys += [key for (key,) in rows]
    return keys


def _portions(keys: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(keys), _AT_ONCE):
        yield keys[start : start + _AT_ONCE]


def _remove(store: Store, table: str, keys: Sequence[int], batch: Batch) -> None:
    for some in _portions(keys):
        store.execute(f"DELETE FROM {table} WHERE id IN ({marks(some)})", some)
    if keys:
        batch.counts[f"{table}s" if table != "delivery" else "deliveries"] += len(keys)


def remove_workers(store: Store, before: datetime) -> int:
    """Those that have been gone for as long, and hold nothing."""
    gone = store.execute(
        f"SELECT w.id FROM worker w WHERE w.state IN ('{STOPPED}', '{LOST}') AND w.heartbeat < ?"
        f" AND NOT EXISTS (SELECT 1 FROM task t WHERE t.state = '{RUNNING}'"
        " AND t.worker_id = w.id)",
        (before,),
    ).get_all()
    batch = Batch()
    _remove(store, "worker", [worker for (worker,) in gone], batch)
    return batch.counts["workers"]
