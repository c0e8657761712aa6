"""Removes jobs past their retention, in batches that disturb nobody.

With a job go its tasks, attempts, deliveries, history, what it made in the
work folder and its logs; one event tells how many went. What it published
stays at its target, and the publication stays known, with its file, so that it
can be retracted; publications that were retracted go. Files that came from
outside are never deleted, and a job whose output another job was given stays
until that one goes.

Rows are chosen first and removed by primary key. Files go after the commit:
a crash in between leaves a folder behind, and never a job without its files.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from datetime import timedelta

from backoffice.config.loading import Settings
from backoffice.data.database import Database
from backoffice.data.sql import clock
from backoffice.engine import pruning
from backoffice.system import job_folders

Counts = dict[str, int]  # kind of thing → how many


def prune(
    database: Database,
    settings: Settings,
    older_than: timedelta,
    on_batch: Callable[[Counts], None] = lambda counts: None,
    *,
    dry_run: bool = False,
) -> Counts:
    """Remove jobs that ended longer ago than that; returns what was removed,
    or with ``dry_run`` how many jobs would be. ``on_batch`` gets the sums so far.
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
