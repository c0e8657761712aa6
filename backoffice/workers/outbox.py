"""Outcomes that the database has not accepted yet, and their delivery."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from storm.exceptions import DatabaseError

from backoffice.data.database import Database
from backoffice.data.sql import clock
from backoffice.engine import attempt_metrics, job_folders, outcomes
from backoffice.engine.assignments import Assignment
from backoffice.engine.claims import Claim
from backoffice.engine.outcomes import Outcome
from backoffice.states import FAILED, Reason
from backoffice.system.logs import line
from backoffice.workers.executors.task_context import attempt_folder
from backoffice.workers.state import WorkerState

GATHER = 0.005  # seconds that an outcome waits for others, to share a transaction

_log = logging.getLogger("backoffice.worker")


class Outbox:
    def __init__(self, worker: WorkerState, database: Database) -> None:
        self._worker = worker
        self._database = database
        self._since = 0.0  # when the first of them was added
        self.entries: list[tuple[Assignment, Outcome]] = []

    def __len__(self) -> int:
        return len(self.entries)

    def add(self, assignment: Assignment, outcome: Outcome) -> None:
        if not self.entries:
            self._since = self._worker.monotonic()
        self.entries.append((assignment, outcome))

    def deliver_at(self) -> float:
        """When to deliver: attempts that end together share a commit, but nothing
        waits once every slot has ended."""
        full = len(self.entries) >= self._worker.settings.worker.slots
        return self._since if full else self._since + GATHER

    def due(self, now: float) -> bool:
        return bool(self.entries) and now >= self.deliver_at()

    @property
    def outcomes(self) -> list[tuple[Claim, Outcome]]:
        return [(assignment.claim, outcome) for assignment, outcome in self.entries]

    def delivered(self, accepted: Mapping[Claim, bool]) -> None:
        """Call after the commit; a transaction may be retried."""
        for assignment, outcome in self.entries:
            self._delivered_one(assignment, outcome, accepted[assignment.claim])
        self.entries.clear()

    def deliver_separately(self) -> None:
        """The database refuses one of the outcomes, and would refuse it forever. That
        attempt fails; the other outcomes are delivered."""
        for entry in list(self.entries):
            assignment, outcome = entry
            try:
                accepted = self._deliver(assignment, outcome)
            except DatabaseError as error:
                _log.exception(line("task.outcome-refused", **assignment.ids))
                message = f"what it made cannot be recorded: {error}"
                outcome = Outcome(FAILED, message, Reason.NOT_RECORDED, retry=False)
                accepted = self._deliver(assignment, outcome)
                self._discard_files(assignment)
            self.entries.remove(entry)
            self._delivered_one(assignment, outcome, accepted)

    def log_undelivered(self) -> None:
        for assignment, _ in self.entries:
            _log.warning(line("outcome.undelivered", **assignment.ids))

    def _deliver(self, assignment: Assignment, outcome: Outcome) -> bool:
        return self._database.transact(
            lambda store: outcomes.finish(store, assignment.claim, outcome, clock(store))
        )

    def _delivered_one(self, assignment: Assignment, outcome: Outcome, accepted: bool) -> None:
        action = f"task.{outcome.state}" if accepted else "task.not-ours"
        _log.info(line(action, **assignment.ids, message=outcome.message))
        if accepted:
            attempt_metrics.ended(assignment, outcome, self._worker.settings.targets)
        else:
            attempt_metrics.refused()
            self._discard_files(assignment)

    def _discard_files(self, assignment: Assignment) -> None:
        job_folders.discard(attempt_folder(self._worker.settings, assignment))
