"""Running attempts: start them, receive their messages, enforce their time limits.

An attempt ends when its process sends its outcome or dies. To end one early, its
group gets TERM and a little later KILL; its outcome is then the reason for that.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection

from backoffice import tasks
from backoffice.engine import job_folders
from backoffice.engine.assignments import Assignment
from backoffice.engine.claims import Claim
from backoffice.engine.outcomes import Outcome
from backoffice.states import FAILED, LOST, RELEASED, SUCCEEDED, Reason
from backoffice.system.logs import line
from backoffice.tasks import Trait
from backoffice.workers.executors import attempt, attempt_log, bounded_log
from backoffice.workers.executors.local import ChildProcess
from backoffice.workers.executors.task_context import Message, attempt_folder
from backoffice.workers.outbox import Outbox
from backoffice.workers.process_pool import ProcessPool
from backoffice.workers.state import WorkerState

KILL_AFTER = 2.0  # seconds from TERM to KILL
LEASE_MARGIN = 0.1  # of the lease: attempts end themselves this much before it

_log = logging.getLogger("backoffice.worker")


@dataclass
class RunningAttempt:
    """Times are of the monotonic clock, in seconds."""

    assignment: Assignment
    process: ChildProcess
    started: float
    heard: float  # when its process last sent a message
    fraction: float = 0.0  # of its work that is done
    speed: str = ""
    commands: list[list[str]] = field(default_factory=list)
    commands_unreported: bool = False
    reported: float = 0.0  # the fraction last written to the database
    reported_at: float = 0.0
    awaits_fence: bool = False  # it asked whether it may continue
    ending: Outcome | None = None  # why the worker ends it
    kill_at: float | None = None
    lease_lost: bool = False  # another worker has the task: its outcome is not delivered

    @property
    def claim(self) -> Claim:
        return self.assignment.claim

    def eta(self, now: float) -> float | None:
        """Seconds left if it continues at its speed so far."""
        if self.fraction <= 0.01:
            return None
        return round((now - self.started) * (1 - self.fraction) / self.fraction, 1)

    def renew_lease(self, asked: float, length: float) -> None:
        """``asked`` is before the database was asked, so that the lease ends here no
        later than there."""
        self.process.lease.time = asked + length * (1 - LEASE_MARGIN)

    def dump_status(self, now: float) -> str:
        """One line for the log."""
        return line(
            "task",
            task=self.claim.task_id,
            attempt=self.claim.attempt,
            job=self.claim.job_id,
            pid=self.process.pid,
            age=f"{now - self.started:.0f}s",
            progress=f"{self.fraction * 100:.0f}%",
            heard=f"{now - self.heard:.1f}s ago",
            doing=self.ending.message if self.ending else self.assignment.type,
        )


class RunningAttempts:
    def __init__(self, worker: WorkerState, pool: ProcessPool, outbox: Outbox) -> None:
        self._worker = worker
        self._pool = pool
        self._outbox = outbox
        self.running: list[RunningAttempt] = []

    def __len__(self) -> int:
        return len(self.running)

    # Start

    def start(self, assignment: Assignment, now: float) -> None:
        """``now`` is before the task was claimed."""
        if tasks.has(assignment.type, Trait.TRIVIAL):
            self._outbox.add(assignment, attempt.run_here(assignment, self._worker.settings))
            return
        try:
            process = self._pool.take()
        except OSError as error:  # no more processes, memory or descriptors
            message = f"no process can be started on {self._worker.host}: {error.strerror}"
            self._outbox.add(assignment, Outcome(FAILED, message, Reason.NO_PROCESS))
            return
        running = RunningAttempt(assignment, process, started=now, heard=now)
        running.renew_lease(now, self._worker.settings.worker.lease)
        self.running.append(running)
        _log.info(line("task.started", **assignment.ids))
        process.send(assignment)

    # Messages

    @property
    def pipes(self) -> dict[Connection, RunningAttempt]:
        return {running.process.pipe: running for running in self.running}

    def receive(self, running: RunningAttempt) -> None:
        """Take all its messages. The end of the pipe is the end of the process."""
        pipe = running.process.pipe
        try:
            while running in self.running and pipe.poll():
                self._take_message(running, pipe.recv())
        except (EOFError, OSError):
            self._died(running)

    def _take_message(self, running: RunningAttempt, message: Message) -> None:
        running.heard = self._worker.monotonic()
        match message:
            case ("progress", float(fraction), str(speed)):
                running.fraction, running.speed = fraction, speed
            case ("command", list(argv)):
                running.commands.append(argv)
                running.commands_unreported = True
            case ("fence",):
                running.awaits_fence = True
            case ("done", Outcome() as outcome):
                self.done(running, outcome)

    # End

    def done(self, running: RunningAttempt, outcome: Outcome) -> None:
        self.running.remove(running)
        if running.ending is not None and outcome.state != SUCCEEDED:
            outcome = running.ending
        self._post(running, outcome)
        outdated = running.process.settings is not self._worker.settings
        if running.commands or running.ending is not None or outdated:
            # If it started programs, whatever they left behind ends with it.
            self._pool.reap(running.process)
        else:
            self._pool.give_back(running.process)

    def _died(self, running: RunningAttempt) -> None:
        """Its process ended without an outcome, killed by this worker or otherwise."""
        self.running.remove(running)
        expired = running.process.lease.time <= self._worker.monotonic()
        status = self._pool.reap(running.process)
        job_folders.discard(attempt_folder(self._worker.settings, running.assignment))
        if running.ending is not None:
            self._post(running, running.ending)
        elif expired:
            _log.warning(line("lease.ended", **running.assignment.ids))
        else:
            how = signal.Signals(-status).name if status < 0 else f"status {status}"
            message = f"its process ended unexpectedly ({how})"
            self._post(running, Outcome(LOST, message, Reason.LOST_PROCESS))

    def _post(self, running: RunningAttempt, outcome: Outcome) -> None:
        """Put the outcome into the outbox, with what the worker knows of the attempt."""
        if running.lease_lost:
            return
        log = attempt_log.path_of(self._worker.settings, running.assignment)
        with suppress(OSError):
            bounded_log.join(log)  # a killed attempt has not done it
        written = log.exists()
        elapsed = round(self._worker.monotonic() - running.started, 3)
        complete = replace(
            outcome,
            commands=running.commands,
            ffmpeg=self._worker.ffmpeg if running.commands else "",
            log=str(log) if written else "",
            log_size=log.stat().st_size if written else None,
            wall_seconds=outcome.wall_seconds or elapsed,
        )
        self._outbox.add(running.assignment, complete)

    # Time limits

    def enforce_limits(self) -> None:
        now = self._worker.monotonic()
        for running in list(self.running):
            if running.kill_at is not None:
                if now >= running.kill_at:
                    running.process.signal(signal.SIGKILL)
            elif outcome := self._exceeded(running, now):
                self.end(running, outcome)

    def _exceeded(self, running: RunningAttempt, now: float) -> Outcome | None:
        """The outcome of an attempt that must end now; None for one that may go on."""
        assignment = running.assignment
        if now - running.started > assignment.timeout > 0:
            message = f"took longer than its time limit of {assignment.timeout:g} s"
            return Outcome(FAILED, message, Reason.TIMED_OUT)
        if now - running.heard > assignment.stall > 0 and not running.awaits_fence:
            message = f"stalled: no progress for {assignment.stall:g} s"
            return Outcome(FAILED, message, Reason.STALLED)
        if self._worker.must_hand_back(now):
            return Outcome(RELEASED, "handed back: its worker stops", Reason.WORKER_STOPPED)
        return None

    def end(self, running: RunningAttempt, outcome: Outcome) -> None:
        """TERM now, KILL if it is still running ``KILL_AFTER`` later. A stopped process
        does not receive TERM before it gets CONT."""
        running.ending = outcome
        running.kill_at = self._worker.monotonic() + KILL_AFTER
        running.process.signal(signal.SIGTERM)
        running.process.signal(signal.SIGCONT)
        _log.info(line("task.ending", **running.assignment.ids, reason=outcome.message))

    def end_where(self, condition: Callable[[RunningAttempt], bool], outcome: Outcome) -> None:
        """End those that meet the condition and are not ending already."""
        for running in self.running:
            if running.ending is None and condition(running):
                self.end(running, outcome)

    def next_kill(self) -> float | None:
        """When the next attempt gets KILL; None: no attempt is ending."""
        return min((r.kill_at for r in self.running if r.kill_at is not None), default=None)
