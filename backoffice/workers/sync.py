"""The worker's exchange with the database: one transaction for all that is due.

It delivers outcomes, writes progress, renews leases and claims tasks. While the
database is away, tries continue with growing pauses and the attempts run on.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass

from storm.exceptions import DatabaseError
from storm.locals import Store

from backoffice.data.database import Database
from backoffice.data.sql import clock
from backoffice.engine import leases, outcomes, worker_registry
from backoffice.engine.assignments import Assignment
from backoffice.engine.claims import Claim
from backoffice.engine.outcomes import Outcome
from backoffice.errors import DatabaseUnavailable
from backoffice.system.logs import line
from backoffice.workers.claiming import Claimer
from backoffice.workers.lease_keeper import LeaseKeeper
from backoffice.workers.outbox import Outbox
from backoffice.workers.progress_reports import ProgressReports
from backoffice.workers.running import RunningAttempt, RunningAttempts
from backoffice.workers.state import WorkerState

LOOK_EVERY = 1.0  # seconds between reads of requests to cancel or drain
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0  # seconds between tries while the database is away

_log = logging.getLogger("backoffice.worker")


@dataclass(frozen=True)
class SyncResult:
    """What one transaction brought."""

    accepted: dict[Claim, bool]  # outcomes that were delivered
    heartbeat: leases.HeartbeatResult | None  # None: it was not due
    cancelled: frozenset[Claim]
    draining: bool
    claimed: list[Assignment]
    reported: Sequence[RunningAttempt]


class DatabaseSync:
    def __init__(
        self,
        worker: WorkerState,
        database: Database,
        attempts: RunningAttempts,
        outbox: Outbox,
    ) -> None:
        self._worker = worker
        self._database = database
        self._attempts = attempts
        self._outbox = outbox
        self.claimer = Claimer(worker, database, attempts, outbox)
        self.leases = LeaseKeeper(worker, database, attempts)
        self.reports = ProgressReports(worker, attempts)
        self._settings_changed = False  # and the worker's row does not say so yet
        self._next_look = 0.0
        self._next_try = 0.0
        self._pause = 0.0

    def settings_changed(self) -> None:
        """Synchronise at once: a shorter lease must not wait for the heartbeat of the
        longer one."""
        self._settings_changed = True
        self.leases.next_heartbeat = self._next_look = self.claimer.next_poll = 0.0

    def next_due(self, now: float) -> float:
        """When ``run`` has something to do, by the monotonic clock."""
        times = [self.leases.next_heartbeat]
        if self._attempts.running:
            times.append(self._next_look)
        if self.claimer.free_slots() > 0:
            times.append(self.claimer.next_poll)
        if self._outbox:
            times.append(self._outbox.deliver_at())
        if self.leases.fences_waiting:
            times.append(now)
        return max(min(times), self._next_try)

    def run(self) -> bool:
        """Do what is due; False while the database is away."""
        now = self._worker.monotonic()
        if now < self._next_try:
            return False
        try:
            self._run_isolating_bad_outcomes(now)
            self._pause = 0.0
            return True
        except DatabaseUnavailable as error:
            self._pause = min(LONGEST_PAUSE, self._pause * 2 or FIRST_PAUSE)
            jitter = random.uniform(0.5, 1.0)
            self._next_try = self._worker.monotonic() + self._pause * jitter
            _log.warning(line("database.away", worker=self._worker.id, reason=error))
            return False

    def _run_isolating_bad_outcomes(self, now: float) -> None:
        try:
            self._run_due(now)
        except DatabaseError:
            if not self._outbox:
                raise
            self._outbox.deliver_separately()

    def _run_due(self, now: float) -> None:
        self.leases.answer_fences()
        if self._outbox.due(now) or self._look_due(now) or self.reports.due(now):
            self._synchronise(now)
        elif self.claimer.due(now):
            self.claimer.postpone(now)
            if self.claimer.has_work():
                self._synchronise(now)

    def _look_due(self, now: float) -> bool:
        running = bool(self._attempts.running)
        return self.leases.due(now) or (running and now >= self._next_look)

    def _synchronise(self, now: float) -> None:
        result = self._database.transact(
            self._transaction, self._outbox.outcomes, self.reports.due(now), now
        )
        self._apply(result, now)

    def _transaction(
        self,
        store: Store,
        ended: Sequence[tuple[Claim, Outcome]],
        reports: Sequence[RunningAttempt],
        monotonic: float,
    ) -> SyncResult:
        now = clock(store)
        accepted = outcomes.finish_all(store, ended, now)
        self.reports.write(store, reports, monotonic)
        if self._settings_changed:
            self._update_row(store)
        heartbeat = self.leases.heartbeat(store, now) if self.leases.due(monotonic) else None
        cancelled, draining = self._requests(store, heartbeat)
        claimed = [] if draining else self.claimer.claim(store, now)
        return SyncResult(accepted, heartbeat, cancelled, draining, claimed, reports)

    def _requests(
        self, store: Store, heartbeat: leases.HeartbeatResult | None
    ) -> tuple[frozenset[Claim], bool]:
        """Attempts to be cancelled, and whether the worker is to drain."""
        if heartbeat is not None:
            return heartbeat.cancelled, heartbeat.draining
        cancelled = leases.cancel_requests(store, self.leases.claims)
        return cancelled, worker_registry.is_draining(store, self._worker.id)

    def _update_row(self, store: Store) -> None:
        worker = self._worker.settings.worker
        worker_registry.change_settings(
            store,
            self._worker.id,
            slots=worker.slots,
            queues=worker.queues,
            tags=worker.tags,
            lease=worker.lease,
        )

    def _apply(self, result: SyncResult, now: float) -> None:
        """Act on what was committed. ``now`` is before the database was asked."""
        self._next_look = now + LOOK_EVERY
        self.claimer.postpone(now)
        self._outbox.delivered(result.accepted)
        self._settings_changed = False
        self.reports.written(result.reported, now)
        if result.heartbeat is not None:
            self.leases.apply(result.heartbeat, now)
        self._worker.draining = self._worker.draining or result.draining
        self.leases.cancel(result.cancelled)
        for assignment in result.claimed:
            self._attempts.start(assignment, now)
