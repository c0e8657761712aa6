"""The worker's child processes: busy ones, and idle ones kept for the next task."""

from __future__ import annotations

from backoffice.workers.executors.local import ChildProcess
from backoffice.workers.executors.orphans import kill_strays
from backoffice.workers.state import WorkerState

KEEP_IDLE = 10.0  # seconds


class ProcessPool:
    def __init__(self, worker: WorkerState) -> None:
        self._worker = worker
        self.busy: list[ChildProcess] = []
        self.idle: list[tuple[ChildProcess, float]] = []  # with the time since when

    def take(self) -> ChildProcess:
        """An idle process, or a new one. Raises OSError when none can be started."""
        process = self._take_idle() or ChildProcess(self._worker.settings)
        self.busy.append(process)
        return process

    def _take_idle(self) -> ChildProcess | None:
        while self.idle:
            process, _ = self.idle.pop()
            if not process.ended():
                return process
            process.reap()
        return None

    def give_back(self, process: ChildProcess) -> None:
        """Keep it for the next task."""
        self.busy.remove(process)
        self.idle.append((process, self._worker.monotonic()))

    def reap(self, process: ChildProcess) -> int:
        """End a busy process with all that it started; returns its exit status."""
        self.busy.remove(process)
        status = process.reap()
        kill_strays(self._pids())
        return status

    def _pids(self) -> set[int]:
        return {process.pid for process in (*self.busy, *(idle for idle, _ in self.idle))}

    def retire_unused(self) -> None:
        """End idle processes that have waited for too long, and reap those that died."""
        now = self._worker.monotonic()
        for process, since in list(self.idle):
            if now - since > KEEP_IDLE or process.ended():
                self._retire(process, since)

    def retire_idle(self) -> None:
        for process, since in list(self.idle):
            self._retire(process, since)

    def close(self) -> None:
        """When nothing runs any more."""
        self.retire_idle()
        kill_strays(set())

    def _retire(self, process: ChildProcess, since: float) -> None:
        self.idle.remove((process, since))
        process.retire()
        process.reap()
