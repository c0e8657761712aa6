"""The scheduler: everything that happens because time passes.

Makes due tasks ready, gives back what lost workers held, fires schedules,
looks into watch folders, clears targets of what attempts left half done,
makes new jobs searchable, has people told what went wrong, prunes. Any number
may run: each step is a transaction that finds its work still to be done, or
does nothing. What reads folders that may hang, or waits for a receiver, has a
thread of its own.

Whether a worker is lost is not read off a clock alone: somebody may set it.
A lease counts as ended when it has passed by the database's clock and this
scheduler has watched it go unrenewed for half its length, or when it has
watched that for the whole length, whatever the clock says.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from cronsim import CronSim
from storm.locals import Store

from backoffice import publishers
from backoffice.config.settings import Alert, Schedule, Settings, Target, Watch
from backoffice.data import counter_store, events, migrations, search
from backoffice.data.database import Database, clock, insert_many, moment
from backoffice.engine import attempt_metrics, catalogue, claims, jobs, leases, outcomes
from backoffice.engine.catalogue import Catalogue
from backoffice.engine.jobs import Prepared, Request
from backoffice.errors import BackofficeError, Conflict, DatabaseUnavailable, TaskFailed
from backoffice.publishers import Publisher
from backoffice.reports import gauges
from backoffice.scheduler import alerts, retention
from backoffice.scheduler.alerts import Teller
from backoffice.scheduler.unchanged import Unchanged
from backoffice.scheduler.watch_folders import CHECK_EVERY, LOOK_EVERY, WatchFolder
from backoffice.system import disk_space
from backoffice.system.daemon import Daemon
from backoffice.system.logs import line
from backoffice.workers.executors import attempt

PRUNE_EVERY = 3600.0  # seconds
INDEX_EVERY = 1.0
SWEEP_EVERY = 10.0
TELL_EVERY = 2.0
DISKS_EVERY = 30.0
DISKS_WAIT = 5.0
_log = logging.getLogger("backoffice.scheduler")

T = TypeVar("T")
W = TypeVar("W")


class Rescue:
    """Finds leases and workers that have ended without saying so.

    ``work`` is where attempts write, where this host has it: a lost worker can
    no longer remove what its attempt has left there.
    """

    def __init__(
        self, database: Database, monotonic: Callable[[], float], work: Path | None = None
    ) -> None:
        self.database = database
        self.monotonic = monotonic
        self.work = work
        self.leases = Unchanged()
        self.beats = Unchanged()

    def run(self) -> int:
        """Look once; how many tasks were given back."""
        running, workers, now = self.database.read(_look)
        seen = self.monotonic()
        self.leases.forget_others({lease.held for lease in running})
        self.beats.forget_others({one.id for one in workers})
        over = [
            lease
            for lease in running
            if _over(
                lease.until,
                now,
                self.leases.seconds(lease.held, lease.until, seen),
                lease.length,
            )
        ]
        given_back = sum([self._give_back(lease) for lease in over])
        silent = [
            one
            for one in workers
            if _over(
                one.heartbeat + timedelta(seconds=one.lease),
                now,
                self.beats.seconds(one.id, one.heartbeat, seen),
                one.lease,
            )
        ]
        if silent:
            self.database.transact(lambda s: leases.mark_lost_workers(s, silent, clock(s)))
        return given_back

    def _give_back(self, lease: leases.Lease) -> bool:
        if not self.database.transact(lambda s: outcomes.rescue(s, lease, clock(s))):
            return False
        attempt_metrics.rescued(lease)
        held = lease.held
        if self.work is not None:
            attempt.discard(attempt.folder_of(self.work, held, lease.name))
        ids = {"task": held.task_id, "job": held.job_id, "attempt": held.attempt}
        _log.warning(line("task.rescued", **ids, worker=held.worker_id))
        return True


def _look(store: Store) -> tuple[list[leases.Lease], list[leases.Present], datetime]:
    return leases.leases(store), leases.present(store), clock(store)


def _over(until: datetime, now: datetime, watched: float, length: float) -> bool:
    return watched >= length or (until < now and watched >= length / 2)


# Schedules ------------------------------------------------------------------


def fire_schedules(database: Database, settings: Settings, recipes: Catalogue) -> list[int]:
    """Submit the jobs of schedules that are due; returns their ids. A run that
    was missed while nothing ran is made up for once, not once each time."""
    due = database.transact(_due_schedules, settings.schedules)
    fired = []
    for name, run in due:
        job = _fire(database, settings, recipes, settings.schedules[name], run)
        if job is not None:
            fired.append(job)
    return fired


def next_run(cron: str, after: datetime) -> datetime:
    """The first time after ``after`` (naive UTC) that the expression names."""
    found: datetime = next(CronSim(cron, after.replace(tzinfo=UTC)))
    return found.replace(tzinfo=None)


def _due_schedules(store: Store, schedules: Mapping[str, Schedule]) -> list[tuple[str, datetime]]:
    """Keep the table as configured, and say what is due."""
    now = clock(store)
    rows = store.execute("SELECT name, cron, next_run FROM schedule").get_all()
    known = {name: (cron, moment(run)) for name, cron, run in rows}
    for name in known.keys() - schedules.keys():
        store.execute("DELETE FROM schedule WHERE name = ?", (name,))
    due = []
    for name, schedule in schedules.items():
        cron, run = known.get(name, ("", None))
        if cron != schedule.cron:
            _set_schedule(store, schedule, next_run(schedule.cron, now), name in known)
        elif run is not None and run <= now:
            due.append((name, run))
    return due


def _set_schedule(store: Store, schedule: Schedule, run: datetime, known: bool) -> None:
    if known:
        store.execute(
            "UPDATE schedule SET cron = ?, next_run = ? WHERE name = ?",
            (schedule.cron, run, schedule.name),
        )
    else:
        insert_many(
            store,
            "schedule",
            ("name", "cron", "next_run", "message"),
            [(schedule.name, schedule.cron, run, "")],
        )


def _fire(
    database: Database, settings: Settings, recipes: Catalogue, schedule: Schedule, run: datetime
) -> int | None:
    request = Request(
        workflow=schedule.workflow,
        inputs=[_input(recipes, schedule.workflow, name) for name in schedule.inputs],
        title=f"{schedule.name} {run:%Y-%m-%d %H:%M}",
        key=f"schedule:{schedule.name}:{run.isoformat()}",
        priority=schedule.priority,
        parameters=schedule.parameters,
    )
    prepared, refusal = _prepare(request, settings, recipes)
    try:
        return database.transact(_take_run, schedule, run, prepared, refusal)
    except Conflict as error:  # somebody's own job has the run's key
        return database.transact(_take_run, schedule, run, None, str(error))


def _input(recipes: Catalogue, workflow: str, name: str) -> tuple[str, str]:
    known = recipes.workflows.get(workflow)
    role = known.inputs[0].role if known and known.inputs else "source"
    return role, name


def _prepare(
    request: Request, settings: Settings, recipes: Catalogue
) -> tuple[Prepared | None, str]:
    try:
        return recipes.prepare(request, settings), ""
    except BackofficeError as error:
        return None, str(error)


def _take_run(
    store: Store, schedule: Schedule, run: datetime, prepared: Prepared | None, refusal: str
) -> int | None:
    """Whoever moves next_run on has this run; None when somebody else has."""
    now = clock(store)
    moved = store.execute(
        "UPDATE schedule SET next_run = ?, last_run = ?, message = ?"
        " WHERE name = ? AND next_run = ?",
        (next_run(schedule.cron, max(now, run)), run, refusal, schedule.name, run),
    ).rowcount
    if not moved:
        return None
    if prepared is None:
        subject = f"schedule {schedule.name}"
        events.append(store, now, events.Event("schedule.failed", subject, detail=refusal))
        return None
    job, _ = jobs.submit(store, prepared, f"schedule:{schedule.name}")
    store.execute("UPDATE schedule SET last_job = ? WHERE name = ?", (job, schedule.name))
    return job


# Targets --------------------------------------------------------------------


class Sweep:
    """Clears a target, where this host has it, of what dead attempts have left
    there half done. Their next attempt would do so too, but a cancelled job has
    none. What is staged counts as left only if the database says that its
    attempt has ended and its publisher that no process is at work on it."""

    def __init__(self, database: Database, target: Target) -> None:
        self.database = database
        self.target = target
        self.trouble = ""  # as last told

    def run(self) -> None:
        try:
            cleared = self._clear(publishers.open(self.target))
        except TaskFailed as error:
            if str(error) != self.trouble:
                self.trouble = str(error)
                _log.warning(line("target.unswept", target=self.target.name, reason=error))
            return
        self.trouble = ""
        for token in cleared:
            _log.info(line("target.swept", target=self.target.name, attempt=token))

    def _clear(self, publisher: Publisher) -> list[str]:
        # First this, then the database: who stages has claimed before.
        found = {publishers.attempt_of(token): token for token in publisher.staged()}
        staged = {one: token for one, token in found.items() if one is not None}
        if not staged:
            return []
        living = self.database.read(leases.living, list(staged))
        ended = [token for one, token in staged.items() if one not in living]
        return [token for token in ended if publisher.clear(token)]


# The loops ------------------------------------------------------------------


class Loop:
    """Calls ``function`` every so many seconds, in a thread of its own."""

    def __init__(self, name: str, function: Callable[[], object], every: float) -> None:
        self.name = name
        self.function = function
        self.every = every
        self._ended = False
        self._wake = threading.Event()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def wake(self) -> None:
        """Call it at once."""
        self._wake.set()

    def end(self) -> None:
        """Call it no more. One that hangs is left alone."""
        self._ended = True
        self._wake.set()

    def _run(self) -> None:
        while not self._ended:
            _safely(self.name, self.function)
            if self._wake.wait(self.every):
                self._wake.clear()


class Scheduler:
    """All of it in one process."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.settings = settings
        self.database = database
        self.recipes = catalogue.load(settings)
        self.daemon = Daemon("scheduler", settings, reload=self.reload)
        self.rescue = Rescue(database, time.monotonic, settings.paths.work)
        self.book = counter_store.Book(database, scheduler=True)
        self.folders: dict[str, tuple[WatchFolder, Loop]] = {}
        self.checks: dict[str, tuple[WatchFolder, Loop]] = {}
        self.sweeps: dict[str, tuple[Sweep, Loop]] = {}
        self.tellers: dict[str, tuple[Teller, Loop]] = {}

    def run(self) -> None:
        """Until told to stop. Raises DatabaseUnavailable when the database refuses
        us from the start, and SchemaMismatch."""
        self.daemon.catch()
        if not self.daemon.until_database(lambda: migrations.require_current(self.database)):
            return
        _log.info(line("scheduler.started", pid=os.getpid()))
        self._begin()
        self.daemon.ready()
        while not self.daemon.stops:
            self._turn()
            self.daemon.wait(self.settings.scheduler.poll)
        self.daemon.stopping()
        _safely("tally", self.book.write)
        _log.info(line("scheduler.stopped"))

    def _begin(self) -> None:
        database = self.database
        Loop("search", lambda: index(database), INDEX_EVERY)
        Loop("census", gauges.Census(database).run, gauges.EVERY)
        Loop("retention", lambda: _prune(database, self.settings), PRUNE_EVERY)
        Loop("disks", lambda: _watch_disks(database, self.settings), DISKS_EVERY)
        self._arrange()

    def _turn(self) -> None:
        steps: dict[str, Callable[[], object]] = {
            "promote": lambda: self.database.transact(lambda s: claims.promote(s, clock(s))),
            "rescue": self._rescue,
            "schedules": lambda: fire_schedules(self.database, self.settings, self.recipes),
            "tally": self.book.turn,
        }
        for name, step in steps.items():
            _safely(name, step)
            self.daemon.obey()

    def _rescue(self) -> None:
        if self.rescue.run():
            for _, loop in self.sweeps.values():
                loop.wake()

    def reload(self, settings: Settings) -> None:
        """Raises DefinitionError for a broken workflow or profile."""
        self.recipes = catalogue.load(settings)
        self.settings = settings
        self._arrange()

    def _arrange(self) -> None:
        """Look into what the settings name now. A watch folder that stays as it was
        keeps what it has seen."""
        settings = self.settings
        for folder, _ in self.folders.values():
            folder.settings, folder.recipes = settings, self.recipes
        for teller, _ in self.tellers.values():
            teller.settings = settings
        _match(self.folders, settings.watches, lambda one: one.watch, self._watch)
        _match(self.checks, settings.watches, lambda one: one.watch, self._check)
        _match(self.sweeps, settings.targets, lambda one: one.target, self._sweep)
        _match(self.tellers, settings.alerts, lambda one: one.alert, self._tell)

    def _watch(self, watch: Watch) -> tuple[WatchFolder, Loop]:
        folder = WatchFolder(watch, self.database, self.settings, self.recipes)
        return folder, Loop(f"watch {watch.name}", folder.run, LOOK_EVERY)

    def _check(self, watch: Watch) -> tuple[WatchFolder, Loop]:
        folder, _ = self.folders[watch.name]
        return folder, Loop(f"watch {watch.name} checks", folder.check, CHECK_EVERY)

    def _sweep(self, target: Target) -> tuple[Sweep, Loop]:
        sweep = Sweep(self.database, target)
        return sweep, Loop(f"target {target.name}", sweep.run, SWEEP_EVERY)

    def _tell(self, alert: Alert) -> tuple[Teller, Loop]:
        teller = Teller(alert, self.database, self.settings)
        return teller, Loop(f"alert {alert.name}", teller.run, TELL_EVERY)


def _match(
    running: dict[str, tuple[T, Loop]],
    wanted: Mapping[str, W],
    of: Callable[[T], W],
    begin: Callable[[W], tuple[T, Loop]],
) -> None:
    """End what is wanted no more, or not as it is, and begin what is missing."""
    for name, (one, loop) in list(running.items()):
        if wanted.get(name) != of(one):
            loop.end()
            del running[name]
    for name in wanted.keys() - running.keys():
        running[name] = begin(wanted[name])


def main(settings: Settings) -> int:
    """Run the scheduler in the foreground until it is told to stop."""
    database = Database(settings.database)
    Scheduler(settings, database).run()
    database.close()
    return 0


def index(database: Database) -> None:
    """Make every job searchable that can be by now."""
    while database.read(search.behind) and database.transact(search.index):
        pass


def _watch_disks(database: Database, settings: Settings) -> None:
    found = disk_space.of(settings).look(DISKS_WAIT)
    alerts.watch_disks(database, found, settings.limits.disk_free, socket.gethostname())


def _prune(database: Database, settings: Settings) -> None:
    if settings.retention.jobs:
        retention.prune(database, settings, settings.retention.jobs)


def _safely(name: str, function: Callable[[], object]) -> None:
    """One part's trouble must not stop the others; it is tried again anyway."""
    try:
        function()
    except DatabaseUnavailable as error:
        _log.warning(line("database.away", part=name, reason=error))
    except Exception:
        _log.exception(line("scheduler.fault", part=name))
