"""A long-running process: signals, reload, status for its parent, wait for the database.

    TERM, INT   end in good order; a second one, or QUIT: end now
    HUP         read the settings again; wrong ones are refused and the old kept
    USR1        reopen the log files
    USR2        log what every thread and task is doing

A handler only notes its signal. The process's own loop acts on it by calling
``obey`` often; the same call sends the sign of life that the parent watches for.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import FrameType

from backoffice.config import reloading
from backoffice.config.settings import Settings
from backoffice.errors import BackofficeError, DatabaseUnavailable
from backoffice.system import logs, thread_dump
from backoffice.system.logs import line
from backoffice.system.sd_notify import Notifier

STOPS = {signal.SIGTERM: 1, signal.SIGINT: 1, signal.SIGQUIT: 2}
REQUESTS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
LONGEST_PAUSE = 5.0  # seconds between tries when the database is away
LOG_EVERY = 60.0  # seconds between two log lines about that

_log = logging.getLogger("backoffice.process")


def _nothing() -> Iterable[str]:
    return ()


class Daemon:
    """``reload`` gets new settings and applies all of them, or raises a
    BackofficeError and keeps the old ones. ``dump_status`` gives log lines about
    the work in progress. ``lives`` is False when another thread of the process
    hangs. ``on_request`` is called with each signal of REQUESTS after it was obeyed."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        *,
        reload: Callable[[Settings], None],
        dump_status: Callable[[], Iterable[str]] = _nothing,
        lives: Callable[[], bool] = lambda: True,
        on_request: Callable[[int], None] = lambda number: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.settings = settings
        self.stops = 0  # 0: go on, 1: end in good order, 2 and more: end now
        self.notify = Notifier.take(os.environ)
        self._reload, self._dump_status = reload, dump_status
        self._lives, self._on_request = lives, on_request
        self._monotonic = monotonic
        self._pending: deque[int] = deque()
        self._ready = False
        self._next_beat = 0.0
        self._wakeup_read, self._wakeup_write = socket.socketpair()

    # Signals

    def catch(self) -> None:
        """Handle signals from now on. Call it in the main thread."""
        for end in (self._wakeup_read, self._wakeup_write):
            end.setblocking(False)
        signal.set_wakeup_fd(self._wakeup_write.fileno(), warn_on_full_buffer=False)
        for number in (*STOPS, *REQUESTS):
            signal.signal(number, self._on_signal)
        # The parent blocks them until these handlers are installed.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, REQUESTS)

    def fileno(self) -> int:
        """Readable when a signal has come."""
        return self._wakeup_read.fileno()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number in STOPS:
            self.stops += STOPS[signal.Signals(number)]
        else:
            self._pending.append(number)

    def listen(self, seconds: float) -> None:
        """Wait for a signal, at most ``seconds``, and obey it."""
        select.select([self.fileno()], [], [], min(seconds, self.beat_every()))
        self.obey()

    def wait(self, seconds: float) -> None:
        """Obey signals for ``seconds``, or until told to stop."""
        until = self._monotonic() + seconds
        while not self.stops and (left := until - self._monotonic()) > 0:
            self.listen(left)

    def obey(self) -> None:
        """Do what the signals that came ask for, and send the sign of life."""
        with suppress(BlockingIOError):
            while self._wakeup_read.recv(512):
                pass
        self._beat()
        while self._pending:
            self._obey(self._pending.popleft())

    def _obey(self, number: int) -> None:
        if number == signal.SIGHUP and not self._reloaded():
            return
        if number == signal.SIGUSR1:
            logs.reopen()
        if number == signal.SIGUSR2:
            self._log_status()
        self._on_request(number)

    def _log_status(self) -> None:
        # As warnings, so that no log level hides what was asked for.
        for text in (*self._dump_status(), *thread_dump.threads()):
            _log.warning("told part=%s %s", self.name, text)

    # Reload

    def _reloaded(self) -> bool:
        self.notify(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)
        try:
            new, waiting = reloading.reload(self.settings, os.environ)
            logs.setup(new.log)
            try:
                self._reload(new)
            except BackofficeError:
                logs.setup(self.settings.log)
                raise
        except BackofficeError as error:
            _log.error(line("reload.refused", part=self.name, reason=error))
            return False
        else:
            self.settings = new
            left = {"at_restart": ", ".join(waiting)} if waiting else {}
            _log.info(line("reload.done", part=self.name, **left))
            return True
        finally:
            if self._ready:
                self.notify(READY=1)

    # Status for the parent

    def ready(self) -> None:
        self._ready = True
        self.notify(READY=1, STATUS="ready")

    def status(self, text: str) -> None:
        self.notify(STATUS=text)

    def stopping(self) -> None:
        self.notify(STOPPING=1, STATUS="stopping")

    def beat_every(self) -> float:
        return self.notify.watchdog / 3 or float("inf")

    def _beat(self) -> None:
        now = self._monotonic()
        if self.notify.watchdog and now >= self._next_beat and self._lives():
            self._next_beat = now + self.beat_every()
            self.notify(WATCHDOG=1)

    # The database

    def until_database(self, function: Callable[[], object]) -> bool:
        """Call ``function`` until the database answers. False when told to stop first.
        Raises DatabaseUnavailable if the database refuses the login, which waiting
        does not mend, and whatever else ``function`` raises."""
        pause, log_at = 0.1, 0.0
        while not self.stops:
            try:
                function()
                return True
            except DatabaseUnavailable as error:
                if error.refused:
                    raise
                self.status(f"waits for the database: {error}")
                if self._monotonic() >= log_at:
                    log_at = self._monotonic() + LOG_EVERY
                    _log.warning(line("database.awaited", part=self.name, reason=error))
            self.wait(pause)
            pause = min(LONGEST_PAUSE, pause * 2)
        return False
