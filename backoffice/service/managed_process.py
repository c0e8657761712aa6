"""One child process of the service: its state, restart pauses and crash loops."""

from __future__ import annotations

import signal
import subprocess
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from backoffice.system.logs import line

STEADY = 30.0  # seconds a process must have lived to be restarted at once
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds before a restart
LOOP_DEATHS, LOOP_WITHIN = 5, 60.0  # so many deaths in so many seconds are a crash loop
LOOP_PAUSE = 60.0  # seconds before a restart in a crash loop
START_WITHIN = 60.0  # seconds in which a new process must send its first sign of life


@dataclass
class ManagedProcess:
    """Times are of the monotonic clock, in seconds."""

    name: str  # of the command that it runs
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    heard: float | None = None  # its last sign of life
    start_at: float = 0.0
    pause: float = 0.0
    deaths: deque[float] = field(default_factory=lambda: deque(maxlen=LOOP_DEATHS))
    crash_loop: bool = False
    ready: bool = False
    was_ready: bool = False
    ended: bool = False  # of its own will: a drained worker is not restarted
    status: str = "starting"

    @property
    def living(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def to_be_started(self) -> bool:
        return self.process is None and not self.ended

    @property
    def about(self) -> str:
        """Its status in words."""
        if self.ended:
            return f"{self.name} has ended"
        if self.crash_loop and self.process is None:
            return f"{self.name} dies again and again, last: {self.status}"
        return f"{self.name} {self.status}"

    def hear(self, fields: Mapping[str, str], now: float) -> None:
        """Take in a message of sd_notify(3)."""
        self.heard = now
        self.status = fields.get("STATUS", self.status)
        if fields.keys() & {"RELOADING", "STOPPING"}:
            self.ready = False
        if "READY" in fields:
            self.ready = self.was_ready = True

    def hangs(self, now: float, silence: float) -> bool:
        """Whether it has sent no sign of life for ``silence`` seconds."""
        if self.heard is None:
            return now - self.started > max(START_WITHIN, silence)
        return now - self.heard > silence

    def signal(self, number: int) -> None:
        if self.living and self.process is not None:
            self.process.send_signal(number)

    def schedule_restart(self, now: float) -> bool:
        """Set when to start it again; True if this death is the first of a crash loop."""
        if now - self.started >= STEADY:
            self.pause, self.crash_loop = 0.0, False
            self.deaths.clear()
        else:
            self.pause = min(LONGEST_PAUSE, self.pause * 2 or FIRST_PAUSE)
        self.deaths.append(now)
        begins = self._dies_often(now) and not self.crash_loop
        self.crash_loop = self.crash_loop or begins
        if self.crash_loop:
            self.pause = LOOP_PAUSE
        self.start_at = now + self.pause
        return begins

    def _dies_often(self, now: float) -> bool:
        return len(self.deaths) == LOOP_DEATHS and now - self.deaths[0] <= LOOP_WITHIN

    def dump_status(self, now: float) -> str:
        """One line for the log."""
        known: dict[str, object] = {"name": self.name, "status": self.about}
        if self.process is not None:
            known |= {"pid": self.process.pid, "age": f"{now - self.started:.0f}s"}
        if self.heard is not None:
            known["heard"] = f"{now - self.heard:.1f}s ago"
        return line("part", **known)


def death(status: int) -> str:
    """An exit status in words; negative: the number of a signal."""
    return f"died ({signal.Signals(-status).name if status < 0 else f'status {status}'})"
