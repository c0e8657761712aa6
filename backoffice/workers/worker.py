"""The worker: claims tasks, runs them in child processes, reports outcomes.

One thread, one loop: receive the processes' messages, enforce their time limits,
synchronise with the database. No transaction is open while anything runs.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait

from backoffice import __version__, tasks
from backoffice.config.settings import Settings
from backoffice.data import counter_store, migrations
from backoffice.data.database import Database
from backoffice.data.sql import clock
from backoffice.engine import worker_registry
from backoffice.errors import BackofficeError, DatabaseUnavailable
from backoffice.media import ffmpeg
from backoffice.system import confinement, preflight
from backoffice.system.daemon import Daemon
from backoffice.system.logs import line
from backoffice.system.prctl import adopt_orphans
from backoffice.workers.executors.orphans import kill_orphans
from backoffice.workers.outbox import Outbox
from backoffice.workers.process_pool import ProcessPool
from backoffice.workers.running import RunningAttempts
from backoffice.workers.state import WorkerState
from backoffice.workers.sync import DatabaseSync

DELIVER_WITHIN = 5.0  # seconds after the grace time in which outcomes are delivered
LONGEST_WAIT = 1.0  # seconds: time limits are enforced, and the parent gets a sign of life

_log = logging.getLogger("backoffice.worker")


class Worker:
    def __init__(
        self,
        settings: Settings,
        database: Database,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.database = database
        self.state = WorkerState(settings, monotonic)
        self.daemon = Daemon("worker", settings, reload=self.reload, dump_status=self.dump_status)
        self.pool = ProcessPool(self.state)
        self.outbox = Outbox(self.state, database)
        self.attempts = RunningAttempts(self.state, self.pool, self.outbox)
        self.sync = DatabaseSync(self.state, database, self.attempts, self.outbox)
        self.book = counter_store.CounterWriter(database, monotonic=monotonic)

    def run(self) -> None:
        """Work until drained or told to stop. Raises SchemaMismatch, and
        DatabaseUnavailable when the database refuses the first connection."""
        self.daemon.catch()
        adopt_orphans()
        if orphans := kill_orphans():
            _log.warning(line("worker.orphans-killed", count=orphans))
        self.state.ffmpeg = _ffmpeg_version(self.state.settings)
        if not self.daemon.until_database(self._register):
            return
        self.daemon.ready()
        while not self._finished():
            self._receive()
            self._obey_signals()
            self.attempts.enforce_limits()
            self.pool.retire_unused()
            self._synchronise()
        self._sign_off()

    # The loop

    def _receive(self) -> None:
        """Wait for messages of attempts, signals, or the next thing to do."""
        pipes = self.attempts.pipes
        for ready in wait([*pipes, self.daemon.fileno()], self._timeout()):
            if isinstance(ready, Connection):
                self.attempts.receive(pipes[ready])

    def _timeout(self) -> float:
        now = self.state.monotonic()
        due = min(self.sync.next_due(now), self.attempts.next_kill() or now + LONGEST_WAIT)
        return max(0.0, min(LONGEST_WAIT, due - now))

    def _obey_signals(self) -> None:
        """The first signal to stop lets attempts finish within the grace time; a second
        one, or QUIT, hands them back at once."""
        self.daemon.obey()
        if not self.daemon.stops:
            return
        now, state = self.state.monotonic(), self.state
        if state.stop_by is None:
            state.stop_by = now + state.settings.worker.grace
            self.daemon.stopping()
            _log.info(line("worker.stopping", worker=state.id, running=len(self.attempts)))
        if self.daemon.stops > 1:
            state.stop_by = min(state.stop_by, now)

    def _synchronise(self) -> None:
        if self.sync.run():
            self.book.turn()

    # Start and end

    def _register(self) -> None:
        migrations.require_current(self.database)
        state, worker = self.state, self.state.settings.worker
        state.id = self.database.transact(
            lambda store: worker_registry.register(
                store,
                clock(store),
                host=state.host,
                pid=os.getpid(),
                slots=worker.slots,
                queues=worker.queues,
                tags=worker.tags,
                lease=worker.lease,
                version=__version__,
            )
        )
        _log.info(line("worker.started", worker=state.id, host=state.host, slots=worker.slots))

    def _finished(self) -> bool:
        if self.attempts.running or not self.state.ending:
            return False
        return not self.outbox or self._gives_up()

    def _gives_up(self) -> bool:
        """Whether to end with outcomes that the database did not take in time. Their
        tasks are given back when their leases end."""
        if not self.state.must_hand_back(self.state.monotonic() - DELIVER_WITHIN):
            return False
        self.outbox.log_undelivered()
        return True

    def _sign_off(self) -> None:
        self.pool.close()
        worker = self.state.id
        try:
            self.database.transact(
                lambda store: worker_registry.sign_off(store, worker, clock(store))
            )
            self.book.write()
        except DatabaseUnavailable as error:
            _log.warning(line("worker.sign-off-failed", worker=worker, reason=error))
        _log.info(line("worker.stopped", worker=worker))

    # Signals

    def reload(self, settings: Settings) -> None:
        """Running attempts keep the settings they began with. Raises ConfigError
        without ffmpeg."""
        preflight.require_tools(settings)
        self.state.settings = settings
        self.state.ffmpeg = _ffmpeg_version(settings)
        self.pool.retire_idle()
        self.sync.settings_changed()

    def dump_status(self) -> Iterator[str]:
        """A line per task, and one with the numbers of slots in each state."""
        now = self.state.monotonic()
        for running in self.attempts.running:
            yield running.dump_status(now)
        yield line(
            "slots",
            worker=self.state.id,
            of=self.state.settings.worker.slots,
            running=len(self.attempts),
            idle=len(self.pool.idle),
            outbox=len(self.outbox),
        )


def _ffmpeg_version(settings: Settings) -> str:
    try:
        return ffmpeg.version(settings.tools.ffmpeg, confinement.of_tools(settings))
    except BackofficeError as error:
        _log.warning(line("ffmpeg.missing", reason=error))
        return ""


def main(settings: Settings) -> int:
    """Run a worker in the foreground until it is drained or stopped."""
    preflight.prepare_folders(settings)
    preflight.require_tools(settings)
    confinement.prepare()
    if lacks := confinement.missing():
        _log.warning(line("confinement.incomplete", missing="; ".join(lacks)))
    database = Database(settings.database)
    for name in sorted(tasks.names()):
        tasks.load(name)  # before forking, so that no attempt spends time on it
    Worker(settings, database).run()
    database.close()
    return 0
