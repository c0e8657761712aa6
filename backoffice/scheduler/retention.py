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
from collections.abc import Callable
from datetime import timedelta

from backoffice.config.settings import Settings
from backoffice.data.database import Database
from backoffice.data.sql import clock
from backoffice.engine import job_folders, pruning

Counts = dict[str, int]  # kind of thing → how many


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
        return {"jobs": database.read(pruning.count_prunable, before)}
    total: Counter[str] = Counter()
    while True:
        batch = database.transact(pruning.remove_batch, before, settings.retention.batch)
        if not batch.jobs:
            break
        for job in batch.jobs:
            _delete(settings, job)
        total += batch.counts
        on_batch(dict(total))
    workers = database.transact(pruning.remove_workers, before)
    if workers:
        total["workers"] = workers
    return dict(total)


def _delete(settings: Settings, job: int) -> None:
    for folder in job_folders.of_job(settings.paths, job):
        shutil.rmtree(folder, ignore_errors=True)
