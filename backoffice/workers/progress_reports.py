"""Progress and commands of running attempts, written to the database."""

from __future__ import annotations

from collections.abc import Sequence

from storm.locals import Store

from backoffice.engine import leases
from backoffice.workers.executors import attempt_log
from backoffice.workers.running import RunningAttempt, RunningAttempts
from backoffice.workers.state import WorkerState

REPORT_EVERY = 1.0  # seconds between two writes of one task's progress


class ProgressReports:
    def __init__(self, worker: WorkerState, attempts: RunningAttempts) -> None:
        self._worker = worker
        self._attempts = attempts

    def due(self, now: float) -> list[RunningAttempt]:
        return [running for running in self._attempts.running if _is_due(running, now)]

    def write(self, store: Store, due: Sequence[RunningAttempt], now: float) -> None:
        for running in due:
            if running.commands_unreported:
                self._write_commands(store, running)
            percent = round(running.fraction * 100, 1)
            eta = running.eta(now)
            leases.report_progress(store, running.claim, percent, running.speed, eta)

    def _write_commands(self, store: Store, running: RunningAttempt) -> None:
        log = str(attempt_log.path_of(self._worker.settings, running.assignment))
        leases.report_command(store, running.claim, running.commands, self._worker.ffmpeg, log)

    def written(self, due: Sequence[RunningAttempt], now: float) -> None:
        """Call after the commit; a transaction may be retried."""
        for running in due:
            running.commands_unreported = False
            running.reported, running.reported_at = running.fraction, now


def _is_due(running: RunningAttempt, now: float) -> bool:
    progressed = running.fraction > running.reported
    return running.commands_unreported or (progressed and now - running.reported_at >= REPORT_EVERY)
