"""Stand-ins for child processes, so that a worker's parts run without any."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import cast

from backoffice.config.settings import Settings
from backoffice.engine.assignments import Assignment
from backoffice.workers.executors.local import ChildProcess
from backoffice.workers.running import RunningAttempt
from backoffice.workers.worker import Worker

_pids = itertools.count(1)


@dataclass
class FakeLease:
    time: float = 0.0


@dataclass
class FakeProcess:
    settings: Settings
    dead: bool = False
    reaped: bool = False
    pid: int = field(default_factory=lambda: next(_pids))
    lease: FakeLease = field(default_factory=FakeLease)
    signals: list[int] = field(default_factory=list)
    sent: list[object] = field(default_factory=list)

    def ended(self) -> bool:
        return self.dead

    def retire(self) -> None:
        pass

    def signal(self, number: int) -> None:
        self.signals.append(number)

    def send(self, message: object) -> None:
        self.sent.append(message)

    def reap(self) -> int:
        self.reaped = True
        return 0


def run(worker: Worker, assignment: Assignment, process: FakeProcess) -> RunningAttempt:
    """An attempt that is running in ``process``."""
    child, now = cast(ChildProcess, process), worker.state.monotonic()
    running = RunningAttempt(assignment, child, started=now, heard=now)
    worker.pool.busy.append(child)
    worker.attempts.running.append(running)
    return running
