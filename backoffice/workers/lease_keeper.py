"""Heartbeats and fences: keep the leases of running attempts, or end the attempts.

An attempt whose lease is not renewed ends itself (``executors.lease_deadline``).
One whose task was given to another worker is killed and its outcome dropped.
"""

from __future__ import annotations

from datetime import datetime

from storm.locals import Store

from backoffice.data.database import Database
from backoffice.data.sql import clock
from backoffice.engine import leases
from backoffice.engine.claims import Claim
from backoffice.engine.outcomes import Outcome
from backoffice.states import CANCELLED, LOST, Reason
from backoffice.workers.running import RunningAttempt, RunningAttempts
from backoffice.workers.state import WorkerState


class LeaseKeeper:
    def __init__(self, worker: WorkerState, database: Database, attempts: RunningAttempts) -> None:
        self._worker = worker
        self._database = database
        self._attempts = attempts
        self.next_heartbeat = 0.0

    @property
    def _length(self) -> float:
        return self._worker.settings.worker.lease

    @property
    def claims(self) -> list[Claim]:
        return [running.claim for running in self._attempts.running]

    def due(self, now: float) -> bool:
        return now >= self.next_heartbeat

    def heartbeat(self, store: Store, now: datetime) -> leases.HeartbeatResult:
        return leases.heartbeat(store, self._worker.id, self.claims, self._length, now)

    def apply(self, result: leases.HeartbeatResult, asked: float) -> None:
        """Renew here what the database renewed. ``asked`` is before it was asked."""
        self.next_heartbeat = asked + self._worker.settings.worker.heartbeat
        for running in self._attempts.running:
            if running.claim in result.kept:
                running.renew_lease(asked, self._length)
            elif running.ending is None:
                running.lease_lost = True
                self._attempts.end(
                    running, Outcome(LOST, "given to another worker", Reason.LEASE_LOST)
                )

    def cancel(self, cancelled: frozenset[Claim]) -> None:
        outcome = Outcome(CANCELLED, "cancelled on request", Reason.CANCELLED)
        self._attempts.end_where(lambda running: running.claim in cancelled, outcome)

    @property
    def fences_waiting(self) -> bool:
        return any(running.awaits_fence for running in self._attempts.running)

    def answer_fences(self) -> None:
        """Tell attempts that are about to change something visible whether they may."""
        for running in self._attempts.running:
            if running.awaits_fence:
                self._answer_fence(running)

    def _answer_fence(self, running: RunningAttempt) -> None:
        asked = self._worker.monotonic()
        allowed = running.ending is None and self._database.transact(
            lambda store, claim: leases.fence(store, claim, self._length, clock(store)),
            running.claim,
        )
        running.awaits_fence = False
        if allowed:
            running.renew_lease(asked, self._length)
        running.process.send(allowed)
