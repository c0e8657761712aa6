"""Recovery: give back the tasks of lost workers when their leases have ended.

A worker is not declared lost by a clock alone, because clocks are set. A lease has
ended when it has passed by the database's clock and this scheduler has seen it
unrenewed for half its length, or when it has seen that for the whole length,
whatever the clock says.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from storm.locals import Store

from backoffice.config.settings import PathSettings
from backoffice.data.database import Database
from backoffice.data.sql import clock
from backoffice.engine import attempt_metrics, job_folders, leases, outcomes, worker_registry
from backoffice.scheduler.unchanged import Unchanged
from backoffice.system.logs import line

_log = logging.getLogger("backoffice.scheduler")


class Recovery:
    """``paths`` are where attempts write, if this host has them: a lost worker can no
    longer remove what its attempts have left there."""

    def __init__(
        self,
        database: Database,
        monotonic: Callable[[], float],
        paths: PathSettings | None = None,
    ) -> None:
        self.database = database
        self.monotonic = monotonic
        self.paths = paths
        self.leases = Unchanged()
        self.heartbeats = Unchanged()

    def run(self) -> int:
        """Check once; returns how many tasks were given back."""
        running, workers, now = self.database.read(_snapshot)
        seen = self.monotonic()
        given_back = sum([self._give_back(lease) for lease in self._ended(running, now, seen)])
        silent = self._silent(workers, now, seen)
        if silent:
            self.database.transact(lambda s: worker_registry.mark_lost(s, silent, clock(s)))
        return given_back

    def _ended(
        self, running: Sequence[leases.LeaseRecord], now: datetime, seen: float
    ) -> list[leases.LeaseRecord]:
        self.leases.forget_others({lease.claim for lease in running})
        return [
            lease
            for lease in running
            if _has_ended(
                lease.until,
                now,
                self.leases.seconds(lease.claim, lease.until, seen),
                lease.length,
            )
        ]

    def _silent(
        self, workers: Sequence[worker_registry.LivingWorker], now: datetime, seen: float
    ) -> list[worker_registry.LivingWorker]:
        self.heartbeats.forget_others({worker.id for worker in workers})
        return [
            worker
            for worker in workers
            if _has_ended(
                worker.heartbeat + timedelta(seconds=worker.lease),
                now,
                self.heartbeats.seconds(worker.id, worker.heartbeat, seen),
                worker.lease,
            )
        ]

    def _give_back(self, lease: leases.LeaseRecord) -> bool:
        if not self.database.transact(lambda s: outcomes.rescue(s, lease, clock(s))):
            return False
        attempt_metrics.rescued(lease)
        claim = lease.claim
        if self.paths is not None:
            job_folders.discard(
                job_folders.of_attempt(self.paths, claim.job_id, lease.name, claim.attempt)
            )
        ids = {"task": claim.task_id, "job": claim.job_id, "attempt": claim.attempt}
        _log.warning(line("task.rescued", **ids, worker=claim.worker_id))
        return True


def _snapshot(
    store: Store,
) -> tuple[list[leases.LeaseRecord], list[worker_registry.LivingWorker], datetime]:
    return leases.current(store), worker_registry.living(store), clock(store)


def _has_ended(until: datetime, now: datetime, unchanged: float, length: float) -> bool:
    """``unchanged`` is for how many seconds it has not been renewed."""
    return unchanged >= length or (until < now and unchanged >= length / 2)
