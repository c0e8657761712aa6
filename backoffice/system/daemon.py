"""What every long-running process of ours does alike, whatever its work is.

Owns its signals, its talk with whoever started it, the reload of its settings
and the wait for a database that is coming:

    TERM, INT   end in good order; a second one, or QUIT: end now
    HUP         read the settings anew; wrong ones are refused and the old kept
    USR1        open the logs anew
    USR2        tell in the log what every thread and task does

A handler only notes its signal. It is obeyed in the process's own loop, which
calls ``obey`` often: that is also how its parent learns that it does not hang.
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
ASKS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
LONGEST_PAUSE = 5.0  # seconds between tries when the database is away
TELL_EVERY = 60.0  # seconds between two lines about that

_log = logging.getLogger("backoffice.process")


def _nothing() -> Iterable[str]:
    return ()


class Daemon:
    """``reload`` is given new settings and takes them whole, or raises a
    BackofficeError and keeps the old; ``tell`` gives lines about what is being
    done; ``lives`` says whether the rest of the process does; ``follow`` is
    told of each signal of ASKS that was obeyed."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        *,
        reload: Callable[[Settings], None],
        tell: Callable[[], Iterable[str]] = _nothing,
        lives: Callable[[], bool] = lambda: True,
        follow: Callable[[int], None] = lambda number: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.settings = settings
        self.stops = 0  # 0: go on, 1: end in good order, 2 and more: end now
        self.notify = Notifier.take(os.environ)
        self._reload, self._tell, self._lives, self._follow = reload, tell, lives, follow
        self._monotonic = monotonic
        self._noted: deque[int] = deque()
        self._ready = False
        self._next_beat = 0.0
        self._ear, self._bell = socket.socketpair()

    # Signals

    def catch(self) -> None:
        """From now on; to be called in the main thread."""
        for end in (self._ear, self._bell):
            end.setblocking(False)
        signal.set_wakeup_fd(self._bell.fileno(), warn_on_full_buffer=False)
        for number in (*STOPS, *ASKS):
            signal.signal(number, self._note)
        # Our parent had them wait until somebody is there to take them.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ASKS)

    def fileno(self) -> int:
        """Can be read from when there is something to obey."""
        return self._ear.fileno()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number in STOPS:
            self.stops += STOPS[signal.Signals(number)]
        else:
            self._noted.append(number)

    def listen(self, seconds: float) -> None:
        """Wait for a signal, at most so long, and obey."""
        select.select([self.fileno()], [], [], min(seconds, self.beat_every()))
        self.obey()

    def wait(self, seconds: float) -> None:
        """Obey for so long, or until told to stop."""
        until = self._monotonic() + seconds
        while not self.stops and (left := until - self._monotonic()) > 0:
            self.listen(left)

    def obey(self) -> None:
        """Do what the signals that came ask for, and say that we live."""
        with suppress(BlockingIOError):
            while self._ear.recv(512):
                pass
        self._beat()
        while self._noted:
            self._obey(self._noted.popleft())

    def _obey(self, number: int) -> None:
        if number == signal.SIGHUP and not self._reloaded():
            return
        if number == signal.SIGUSR1:
            logs.reopen()
        if number == signal.SIGUSR2:
            self._tell_all()
        self._follow(number)

    def _tell_all(self) -> None:
        # A warning, for who wants to know: they are not to be filtered away.
        for text in (*self._tell(), *thread_dump.threads()):
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

    # What our parent hears

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
        """Call it until the database is there for it. False when we were told to
        stop before. Raises DatabaseUnavailable if the database refuses us, which
        waiting does not mend, and whatever else ``function`` raises."""
        pause, tell_at = 0.1, 0.0
        while not self.stops:
            try:
                function()
                return True
            except DatabaseUnavailable as error:
                if error.refused:
                    raise
                self.status(f"waits for the database: {error}")
                if self._monotonic() >= tell_at:
                    tell_at = self._monotonic() + TELL_EVERY
                    _log.warning(line("database.awaited", part=self.name, reason=error))
            self.wait(pause)
            pause = min(LONGEST_PAUSE, pause * 2)
        return False
