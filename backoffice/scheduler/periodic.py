"""Threads that call a function periodically: one, or one per configured thing."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from backoffice.errors import DatabaseUnavailable
from backoffice.system.logs import line

Config = TypeVar("Config")
Duty = TypeVar("Duty")

_log = logging.getLogger("backoffice.scheduler")


def run_logging_errors(name: str, function: Callable[[], object]) -> None:
    """A fault in one duty must not stop the others. It is called again anyway."""
    try:
        function()
    except DatabaseUnavailable as error:
        _log.warning(line("database.away", part=name, reason=error))
    except Exception:
        _log.exception(line("scheduler.fault", part=name))


class PeriodicThread:
    """Calls ``function`` in its own thread, with a pause of ``every`` seconds."""

    def __init__(self, name: str, function: Callable[[], object], every: float) -> None:
        self.name = name
        self._function = function
        self._every = every
        self._stopped = False
        self._wakeup = threading.Event()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def wake(self) -> None:
        """End the pause now."""
        self._wakeup.set()

    def stop(self) -> None:
        """Make no further call. A call that hangs is not waited for."""
        self._stopped = True
        self._wakeup.set()

    def _run(self) -> None:
        while not self._stopped:
            run_logging_errors(self.name, self._function)
            if self._wakeup.wait(self._every):
                self._wakeup.clear()


@dataclass(frozen=True)
class _Member(Generic[Config, Duty]):
    config: Config
    duty: Duty
    thread: PeriodicThread


class ThreadGroup(Generic[Config, Duty]):
    """One duty and thread per entry of the settings, such as a target. ``start``
    makes both from the entry."""

    def __init__(self, start: Callable[[Config], tuple[Duty, PeriodicThread]]) -> None:
        self._start = start
        self._members: dict[str, _Member[Config, Duty]] = {}

    def update(self, wanted: Mapping[str, Config]) -> None:
        """Stop the threads of entries that are gone or changed; start missing ones. An
        unchanged entry keeps its duty, and with it what that has seen."""
        for name, member in list(self._members.items()):
            if wanted.get(name) != member.config:
                member.thread.stop()
                del self._members[name]
        for name in wanted.keys() - self._members.keys():
            self._members[name] = _Member(wanted[name], *self._start(wanted[name]))

    def __iter__(self) -> Iterator[Duty]:
        return (member.duty for member in self._members.values())

    def __getitem__(self, name: str) -> Duty:
        return self._members[name].duty

    def wake(self) -> None:
        for member in self._members.values():
            member.thread.wake()
