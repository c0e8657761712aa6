"""Claiming: which tasks the worker takes, and how many."""

from __future__ import annotations

from datetime import datetime

from storm.locals import Store

from backoffice.data.database import Database
from backoffice.engine import assignments, claims
from backoffice.engine.assignments import Assignment
from backoffice.workers.outbox import Outbox
from backoffice.workers.running import RunningAttempts
from backoffice.workers.state import WorkerState


class Claimer:
    def __init__(
        self, worker: WorkerState, database: Database, attempts: RunningAttempts, outbox: Outbox
    ) -> None:
        self._worker = worker
        self._database = database
        self._attempts = attempts
        self._outbox = outbox
        self.next_poll = 0.0

    def free_slots(self) -> int:
        """A slot is not free before its outcome is delivered."""
        return self._slots_after_delivery() - len(self._outbox)

    def _slots_after_delivery(self) -> int:
        if self._worker.ending:
            return 0
        return self._worker.settings.worker.slots - len(self._attempts)

    def due(self, now: float) -> bool:
        return self.free_slots() > 0 and now >= self.next_poll

    def postpone(self, now: float) -> None:
        """The next poll is a full interval after ``now``."""
        self.next_poll = now + self._worker.settings.worker.poll

    def has_work(self) -> bool:
        """Looks without locks. A claim locks, so it is made only if there is work."""
        return bool(self._database.read(self._candidates))

    def _candidates(self, store: Store) -> list[tuple[claims.ClaimableLane, int]]:
        worker = self._worker.settings.worker
        lanes = claims.lanes(store, worker.queues, worker.tags)
        limit = self._slots_after_delivery()
        return claims.waiting(store, lanes, limit, suspects=self._takes_suspects())

    def _takes_suspects(self) -> bool:
        """A task that may have killed its workers runs beside no other such task."""
        return not any(running.assignment.suspect for running in self._attempts.running)

    def claim(self, store: Store, now: datetime) -> list[Assignment]:
        """Claim for the slots that are free once the outbox is delivered, which the
        same transaction does. ``now`` is the database's time."""
        if self._slots_after_delivery() <= 0:
            return []
        candidates = self._candidates(store)
        if not candidates:
            return []
        claimed = claims.claim(
            store,
            self._worker.id,
            self._worker.host,
            candidates,
            self._worker.settings.worker.lease,
            now,
            suspects=self._takes_suspects(),
        )
        return assignments.build(store, claimed) if claimed else []
