"""The scheduler: its loop, which lists its duties, and the threads of slow duties.

Duties that only use the database run one after the other in the loop. What reads
folders that may hang, or waits for a receiver, has a thread of its own.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping

from backoffice.config.settings import Alert, Settings, Target, Watch
from backoffice.data import counter_store, migrations, search
from backoffice.data.database import Database
from backoffice.data.sql import clock
from backoffice.engine import catalogue, claims
from backoffice.reports import gauges
from backoffice.scheduler import disk_alerts, retention, target_sweep
from backoffice.scheduler.alerts import AlertDispatcher
from backoffice.scheduler.periodic import PeriodicThread, ThreadGroup, run_logging_errors
from backoffice.scheduler.recovery import Recovery
from backoffice.scheduler.schedules import fire_schedules
from backoffice.scheduler.target_sweep import TargetSweep
from backoffice.scheduler.watch_folders import CHECK_EVERY, LOOK_EVERY, WatchFolder
from backoffice.system import disk_space
from backoffice.system.daemon import Daemon
from backoffice.system.logs import line

PRUNE_EVERY = 3600.0  # seconds, as the following
INDEX_EVERY = 1.0
ALERT_EVERY = 2.0
DISKS_EVERY = 30.0
DISKS_WAIT = 5.0  # for the answer of a disk that may hang

_log = logging.getLogger("backoffice.scheduler")


class Scheduler:
    """All duties in one process."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.settings = settings
        self.database = database
        self.recipes = catalogue.load(settings)
        self.daemon = Daemon("scheduler", settings, reload=self.reload)
        self.recovery = Recovery(database, time.monotonic, settings.paths)
        self.book = counter_store.CounterWriter(database, scheduler=True)
        self.watch_folders = ThreadGroup(self._watch)
        self.watch_checks = ThreadGroup(self._check)
        self.sweeps = ThreadGroup(self._sweep)
        self.dispatchers = ThreadGroup(self._alert)

    @property
    def duties(self) -> Mapping[str, Callable[[], object]]:
        """What the loop does each time round, in this order."""
        return {
            "promotion": self._promote_due_tasks,
            "recovery": self._recover,
            "schedules": lambda: fire_schedules(self.database, self.settings, self.recipes),
            "counters": self.book.turn,
        }

    @property
    def threads(self) -> Mapping[str, tuple[Callable[[], object], float]]:
        """What has a thread of its own, with the pause between two calls in seconds."""
        return {
            "search": (self._index, INDEX_EVERY),
            "gauges": (gauges.LargeCounts(self.database).run, gauges.EVERY),
            "retention": (self._prune, PRUNE_EVERY),
            "disks": (self._watch_disks, DISKS_EVERY),
        }

    def run(self) -> None:
        """Work until told to stop. Raises SchemaMismatch, and DatabaseUnavailable when
        the database refuses the first connection."""
        self.daemon.catch()
        if not self.daemon.until_database(lambda: migrations.require_current(self.database)):
            return
        _log.info(line("scheduler.started", pid=os.getpid()))
        for name, (function, every) in self.threads.items():
            PeriodicThread(name, function, every)
        self._update_groups()
        self.daemon.ready()
        while not self.daemon.stops:
            self._run_duties()
            self.daemon.wait(self.settings.scheduler.poll)
        self.daemon.stopping()
        run_logging_errors("counters", self.book.write)
        _log.info(line("scheduler.stopped"))

    def _run_duties(self) -> None:
        for name, duty in self.duties.items():
            run_logging_errors(name, duty)
            self.daemon.obey()

    def reload(self, settings: Settings) -> None:
        """Raises DefinitionError for a broken workflow or profile."""
        self.recipes = catalogue.load(settings)
        self.settings = settings
        self._update_groups()

    # Duties

    def _promote_due_tasks(self) -> None:
        self.database.transact(lambda store: claims.promote(store, clock(store)))

    def _recover(self) -> None:
        if self.recovery.run():
            self.sweeps.wake()

    def _index(self) -> None:
        index(self.database)

    def _prune(self) -> None:
        if self.settings.retention.jobs:
            retention.prune(self.database, self.settings, self.settings.retention.jobs)

    def _watch_disks(self) -> None:
        disks = disk_space.of(self.settings).look(DISKS_WAIT)
        least = self.settings.limits.disk_free
        disk_alerts.watch_disks(self.database, disks, least, socket.gethostname())

    # Duties per entry of the settings

    def _update_groups(self) -> None:
        settings = self.settings
        for folder in self.watch_folders:
            folder.settings, folder.recipes = settings, self.recipes
        for dispatcher in self.dispatchers:
            dispatcher.settings = settings
        self.watch_folders.update(settings.watches)
        self.watch_checks.update(settings.watches)
        self.sweeps.update(settings.targets)
        self.dispatchers.update(settings.alerts)

    def _watch(self, watch: Watch) -> tuple[WatchFolder, PeriodicThread]:
        folder = WatchFolder(watch, self.database, self.settings, self.recipes)
        return folder, PeriodicThread(f"watch {watch.name}", folder.run, LOOK_EVERY)

    def _check(self, watch: Watch) -> tuple[WatchFolder, PeriodicThread]:
        folder = self.watch_folders[watch.name]
        return folder, PeriodicThread(f"watch {watch.name} checks", folder.check, CHECK_EVERY)

    def _sweep(self, target: Target) -> tuple[TargetSweep, PeriodicThread]:
        sweep = TargetSweep(self.database, target)
        return sweep, PeriodicThread(f"target {target.name}", sweep.run, target_sweep.EVERY)

    def _alert(self, alert: Alert) -> tuple[AlertDispatcher, PeriodicThread]:
        dispatcher = AlertDispatcher(alert, self.database, self.settings)
        return dispatcher, PeriodicThread(f"alert {alert.name}", dispatcher.run, ALERT_EVERY)


def index(database: Database) -> None:
    """Make searchable what was submitted since the last call."""
    while database.read(search.behind) and database.transact(search.index):
        pass


def main(settings: Settings) -> int:
    """Run the scheduler in the foreground until it is told to stop."""
    database = Database(settings.database)
    Scheduler(settings, database).run()
    database.close()
    return 0
