"""The service: one parent that keeps worker, scheduler and web server running.

Each is a process of its own, started anew when it dies, with growing pauses
when it dies at once. They are told to stop when the parent ends, however it
ends, and then finish or hand back what they run.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType

from backoffice import migrations
from backoffice.config import DEFAULTS, Settings
from backoffice.database import Database
from backoffice.logs import line
from backoffice.prctl import die_with
from backoffice.worker import prepare_folders

STEADY = 30.0  # seconds a part must have lived for its next start to be prompt
LONGEST_PAUSE = 30.0
POLL = 0.2
MARGIN = 10.0  # seconds over the grace time before a part is killed

_log = logging.getLogger("backoffice.service")


@dataclass
class Part:
    """One of our processes. Times are of the monotonic clock, in seconds."""

    name: str
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    start_at: float = 0.0
    pause: float = 0.0
    ended: bool = False  # of its own will: a drained worker stays away


class Service:
    def __init__(self, settings: Settings, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.settings = settings
        self.monotonic = monotonic
        self.parts = [Part(name) for name in settings.service.parts]
        self.signals: list[int] = []

    def run(self) -> int:
        """Keep the parts running until TERM or INT; returns the exit status."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, self._note)
        _log.info(line("service.started", pid=os.getpid()))
        while not self.signals and not all(part.ended for part in self.parts):
            for part in self.parts:
                self._keep(part)
            time.sleep(POLL)
        self._stop()
        _log.info(line("service.stopped", pid=os.getpid()))
        return 0

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signals.append(number)

    def _keep(self, part: Part) -> None:
        now = self.monotonic()
        if part.ended or (part.process is None and now < part.start_at):
            return
        if part.process is None:
            self._start(part, now)
        elif part.process.poll() is not None:
            self._bury(part, part.process.returncode, now)

    def _start(self, part: Part, now: float) -> None:
        config = [] if self.settings.source == DEFAULTS else ["--config", self.settings.source]
        parent = os.getpid()
        part.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "backoffice", *config, part.name],
            stdin=subprocess.DEVNULL,
            # A group of its own: Ctrl-C reaches it through us, once.
            process_group=0,
            preexec_fn=lambda: die_with(parent, signal.SIGTERM),
        )
        part.started = now
        _log.info(line("part.started", part=part.name, pid=part.process.pid))

    def _bury(self, part: Part, status: int, now: float) -> None:
        part.process = None
        if status == 0:
            part.ended = True
            _log.info(line("part.ended", part=part.name))
            return
        lived = now - part.started
        part.pause = 0.0 if lived >= STEADY else min(LONGEST_PAUSE, part.pause * 2 or 0.5)
        part.start_at = now + part.pause
        _log.error(line("part.died", part=part.name, status=status, again_in=part.pause))

    def _stop(self) -> None:
        """TERM to each part once for each that we got; KILL after the grace time."""
        deadline = self.monotonic() + self.settings.worker.grace + MARGIN
        told = 0
        while living := [p.process for p in self.parts if p.process and p.process.poll() is None]:
            if len(self.signals) > told or not told:
                number = signal.SIGQUIT if signal.SIGQUIT in self.signals else signal.SIGTERM
                for process in living:
                    process.send_signal(number)
                told = max(1, len(self.signals))
            if self.monotonic() > deadline:
                for process in living:
                    process.kill()
            time.sleep(POLL)


def main(settings: Settings) -> int:
    """Run the service in the foreground."""
    database = Database(settings.database)
    migrations.require_current(database)
    database.close()
    prepare_folders(settings)
    return Service(settings).run()
