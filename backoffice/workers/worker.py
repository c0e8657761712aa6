"""The worker: claims tasks, has them run in processes of their own, reports.

One thread, one loop: listen to the processes, watch over their time, talk to
the database. No transaction is open while anything runs. Whatever happens to
the database, the loop goes on watching; leases that cannot be renewed end the
attempts by themselves (``executors.lease``).
"""

from __future__ import annotations

import logging
import os
import random
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait

from storm.exceptions import DatabaseError
from storm.locals import Store

from backoffice import __version__, tasks
from backoffice.config.loading import Settings
from backoffice.data import counter_store, migrations
from backoffice.data.database import Database, clock
from backoffice.engine import assignments, attempt_metrics, claims, leases, outcomes
from backoffice.engine.assignments import Assignment
from backoffice.engine.claims import Held
from backoffice.engine.outcomes import Outcome
from backoffice.errors import BackofficeError, DatabaseUnavailable
from backoffice.media import ffmpeg as media
from backoffice.states import CANCELLED, FAILED, LOST, RELEASED, SUCCEEDED, Reason
from backoffice.system import confinement, preflight
from backoffice.system.daemon import Daemon
from backoffice.system.logs import line
from backoffice.system.prctl import adopt_orphans
from backoffice.tasks import Trait
from backoffice.workers.executors import attempt, bounded_log
from backoffice.workers.executors.local import Slot, kill_orphans, kill_strays

LOOK_EVERY = 1.0  # seconds between looks for requests to cancel or drain
REPORT_EVERY = 1.0  # seconds between two writes of one task's progress
KILL_AFTER = 2.0  # seconds from TERM to KILL
KEEP_IDLE = 10.0  # seconds that an idle process is kept for the next task
GATHER = 0.005  # seconds that an outcome waits for others, to share a transaction
LEASE_MARGIN = 0.1  # of the lease: attempts end themselves this much before it
DELIVER_WITHIN = 5.0  # seconds after the grace time in which outcomes are delivered
LONGEST_PAUSE = 5.0  # seconds between tries when the database is away
LISTEN_AT_MOST = 1.0  # seconds

_log = logging.getLogger("backoffice.worker")


@dataclass
class Running:
    """An attempt under way. Times are of the monotonic clock."""

    assignment: Assignment
    slot: Slot
    started: float
    heard: float
    fraction: float = 0.0
    speed: str = ""
    reported: float = 0.0  # the fraction last written
    reported_at: float = 0.0
    commands: list[list[str]] = field(default_factory=list)
    unsaid: bool = False  # commands not yet in the database
    fencing: bool = False  # it waits to hear whether it may go on
    ending: Outcome | None = None  # why we are ending it
    discarded: bool = False  # it is no longer ours: nobody wants its outcome
    kill_at: float | None = None

    @property
    def held(self) -> Held:
        return self.assignment.held

    def eta(self, now: float) -> float | None:
        """Seconds left if it goes on as it has so far."""
        if self.fraction <= 0.01:
            return None
        return round((now - self.started) * (1 - self.fraction) / self.fraction, 1)


@dataclass(frozen=True)
class Turn:
    """What one transaction with the database brought."""

    accepted: dict[Held, bool]
    beat: leases.Beat | None
    cancelled: frozenset[Held]
    draining: bool
    claimed: list[Assignment]


class Worker:
    def __init__(
        self,
        settings: Settings,
        database: Database,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.database = database
        self.monotonic = monotonic
        self.host = socket.gethostname()
        self.id = 0
        self.running: list[Running] = []
        self.idle: list[tuple[Slot, float]] = []
        self.outbox: list[tuple[Assignment, Outcome]] = []
        self.outbox_since = 0.0
        self.ffmpeg = ""
        self.daemon = Daemon("worker", settings, reload=self.reload, tell=self.tell)
        self.redefined = False  # the database does not know our settings of now
        self.stop_by: float | None = None
        self.draining = False
        self.next_beat = self.next_look = self.next_poll = self.next_talk = 0.0
        self.pause = 0.0
        self.book = counter_store.Book(database, monotonic=monotonic)

    # The loop ---------------------------------------------------------------

    def run(self) -> None:
        """Work until drained or told to stop. Raises DatabaseUnavailable when
        the database refuses us from the start, and SchemaMismatch."""
        self.daemon.catch()
        adopt_orphans()
        orphans = kill_orphans()
        if orphans:
            _log.warning(line("worker.orphans-killed", count=orphans))
        self.ffmpeg = _ffmpeg_version(self.settings)
        if not self.daemon.until_database(self._register):
            return
        self.daemon.ready()
        while not self._finished():
            self._listen()
            self._obey_signals()
            self._watch()
            self._talk()
        self._sign_off()

    def _finished(self) -> bool:
        if self.running or not self._stops():
            return False
        return not self.outbox or self._gives_up()

    def _gives_up(self) -> bool:
        """Whether to stop with outcomes that the database did not take: it is
        away, and we were to be gone by now. The leases end by themselves."""
        if self.stop_by is None or self.monotonic() < self.stop_by + DELIVER_WITHIN:
            return False
        for one, _ in self.outbox:
            _log.warning(line("outcome.undelivered", **one.ids))
        return True

    def _register(self) -> None:
        migrations.require_current(self.database)
        worker = self.settings.worker
        self.id = self.database.transact(
            lambda store: leases.register(
                store,
                clock(store),
                host=self.host,
                pid=os.getpid(),
                slots=worker.slots,
                queues=worker.queues,
                tags=worker.tags,
                lease=worker.lease,
                version=__version__,
            )
        )
        _log.info(line("worker.started", worker=self.id, host=self.host, slots=worker.slots))

    def _sign_off(self) -> None:
        self._retire(list(self.idle))
        kill_strays(set())
        try:
            self.database.transact(lambda s: leases.sign_off(s, self.id, clock(s)))
            self.book.write()
        except DatabaseUnavailable as error:
            _log.warning(line("worker.sign-off-failed", worker=self.id, reason=error))
        _log.info(line("worker.stopped", worker=self.id))

    # Signals ----------------------------------------------------------------

    def _obey_signals(self) -> None:
        """The first that stops us lets attempts finish within the grace time, a
        second hands them back at once, as QUIT does."""
        self.daemon.obey()
        if not self.daemon.stops:
            return
        now = self.monotonic()
        if self.stop_by is None:
            self.stop_by = now + self.settings.worker.grace
            self.daemon.stopping()
            _log.info(line("worker.stopping", worker=self.id, running=len(self.running)))
        if self.daemon.stops > 1:
            self.stop_by = min(self.stop_by, now)

    def reload(self, settings: Settings) -> None:
        """What runs goes on as it began; what begins from now on follows ``settings``.
        Raises ConfigError without ffmpeg."""
        preflight.require_tools(settings)
        self.settings = settings
        self.ffmpeg = _ffmpeg_version(settings)
        self._retire(list(self.idle))
        self.redefined = True
        # A shorter lease must not wait for the beat of the longer one.
        self.next_beat = self.next_look = self.next_poll = 0.0

    def tell(self) -> Iterator[str]:
        """A line a task, and how busy it is."""
        now = self.monotonic()
        for one in self.running:
            yield line(
                "task",
                task=one.held.task_id,
                attempt=one.held.attempt,
                job=one.held.job_id,
                pid=one.slot.pid,
                age=f"{now - one.started:.0f}s",
                progress=f"{one.fraction * 100:.0f}%",
                heard=f"{now - one.heard:.1f}s ago",
                doing=one.ending.message if one.ending else one.assignment.type,
            )
        counts = {"running": len(self.running), "idle": len(self.idle), "outbox": len(self.outbox)}
        yield line("slots", worker=self.id, of=self.settings.worker.slots, **counts)

    # Listening --------------------------------------------------------------

    def _listen(self) -> None:
        pipes = {one.slot.pipe: one for one in self.running}
        for pipe in wait([*pipes, self.daemon.fileno()], self._timeout()):
            if isinstance(pipe, Connection):
                self._hear(pipes[pipe])

    def _timeout(self) -> float:
        """Until the next thing to do; not long, so that time limits are watched
        and our parent hears of us."""
        now = self.monotonic()
        times = [self.next_beat, self.next_look if self.running else now + 1]
        if self._free() > 0:
            times.append(self.next_poll)
        if self.outbox:
            times.append(self._deliver_at())
        if any(one.fencing for one in self.running):
            times.append(now)
        times += [one.kill_at for one in self.running if one.kill_at is not None]
        due = max(min(times), self.next_talk)
        return max(0.0, min(LISTEN_AT_MOST, due - now))

    def _hear(self, one: Running) -> None:
        """Take every message there is. The end of the pipe is the end of the
        process; :meth:`_watch` buries it."""
        try:
            while one in self.running and one.slot.pipe.poll():
                self._take(one, one.slot.pipe.recv())
        except (EOFError, OSError):
            self._died(one)

    def _take(self, one: Running, message: tuple[object, ...]) -> None:
        one.heard = self.monotonic()
        match message:
            case ("progress", float(fraction), str(speed)):
                one.fraction, one.speed = fraction, speed
            case ("command", list(argv)):
                one.commands.append(argv)
                one.unsaid = True
            case ("fence",):
                one.fencing = True
            case ("done", Outcome() as outcome):
                self._done(one, outcome)

    def _done(self, one: Running, outcome: Outcome) -> None:
        self.running.remove(one)
        if one.ending is not None and outcome.state != SUCCEEDED:
            outcome = one.ending
        self._put_out(one, outcome)
        former = one.slot.settings is not self.settings
        if one.commands or one.ending is not None or former:
            # If it started programs, whatever they left behind ends with it.
            one.slot.bury()
            kill_strays(self._slot_pids())
        else:
            self.idle.append((one.slot, self.monotonic()))

    def _died(self, one: Running) -> None:
        """Its process is gone, by our hand or another's."""
        self.running.remove(one)
        expired = one.slot.lease.deadline <= self.monotonic()
        status = one.slot.bury()
        kill_strays(self._slot_pids())
        attempt.discard(attempt.attempt_folder(self.settings, one.assignment))
        if one.ending is not None:
            self._put_out(one, one.ending)
        elif expired:
            _log.warning(line("lease.ended", **one.assignment.ids))
        else:
            how = signal.Signals(-status).name if status < 0 else f"status {status}"
            message = f"its process ended unexpectedly ({how})"
            self._put_out(one, Outcome(LOST, message, Reason.LOST_PROCESS))

    def _put_out(self, one: Running, outcome: Outcome) -> None:
        if one.discarded:
            return
        log = attempt.log_path(self.settings, one.assignment)
        with suppress(OSError):
            bounded_log.join(log)  # an attempt that was killed has not done it
        written = log.exists()
        told = replace(
            outcome,
            commands=one.commands,
            ffmpeg=self.ffmpeg if one.commands else "",
            log=str(log) if written else "",
            log_size=log.stat().st_size if written else None,
            wall_seconds=outcome.wall_seconds or round(self.monotonic() - one.started, 3),
        )
        self._post(one.assignment, told)

    def _post(self, assignment: Assignment, outcome: Outcome) -> None:
        if not self.outbox:
            self.outbox_since = self.monotonic()
        self.outbox.append((assignment, outcome))

    def _slot_pids(self) -> set[int]:
        return {one.slot.pid for one in self.running} | {slot.pid for slot, _ in self.idle}

    # Watching ---------------------------------------------------------------

    def _watch(self) -> None:
        now = self.monotonic()
        for one in list(self.running):
            if one.kill_at is not None:
                if now >= one.kill_at:
                    one.slot.signal(signal.SIGKILL)
            elif now - one.started > one.assignment.timeout > 0:
                limit = f"{one.assignment.timeout:g} s"
                self._end(
                    one,
                    Outcome(
                        FAILED, f"took longer than its time limit of {limit}", Reason.TIMED_OUT
                    ),
                )
            elif now - one.heard > one.assignment.stall > 0 and not one.fencing:
                limit = f"{one.assignment.stall:g} s"
                self._end(one, Outcome(FAILED, f"stalled: no progress for {limit}", Reason.STALLED))
            elif self.stop_by is not None and now >= self.stop_by:
                self._end(
                    one, Outcome(RELEASED, "handed back: its worker stops", Reason.WORKER_STOPPED)
                )
        self._retire_idle(now)

    def _end(self, one: Running, outcome: Outcome) -> None:
        """End an attempt: TERM now, KILL if it is still there a little later.
        A stopped process would not see TERM: CONT lets it."""
        one.ending = outcome
        one.kill_at = self.monotonic() + KILL_AFTER
        one.slot.signal(signal.SIGTERM)
        one.slot.signal(signal.SIGCONT)
        _log.info(line("task.ending", **one.assignment.ids, reason=outcome.message))

    def _retire_idle(self, now: float) -> None:
        self._retire([(s, since) for s, since in self.idle if now - since > KEEP_IDLE or s.ended()])

    def _retire(self, entries: Sequence[tuple[Slot, float]]) -> None:
        for entry in entries:
            self.idle.remove(entry)
            entry[0].retire()
            entry[0].bury()

    # Talking ----------------------------------------------------------------

    def _free(self) -> int:
        if self.draining or self.stop_by is not None:
            return 0
        return self.settings.worker.slots - len(self.running) - len(self.outbox)

    def _deliver_at(self) -> float:
        """When the outbox is to be delivered: tasks that end together share a
        commit, but nobody waits once every slot has ended."""
        full = len(self.outbox) >= self.settings.worker.slots
        return self.outbox_since if full else self.outbox_since + GATHER

    def _talk(self) -> None:
        now = self.monotonic()
        if now < self.next_talk:
            return
        try:
            try:
                self._exchange(now)
            except DatabaseError:
                if not self.outbox:
                    raise
                self._deliver_apart()
            self.book.turn()
            self.pause = 0.0
        except DatabaseUnavailable as error:
            self.pause = min(LONGEST_PAUSE, self.pause * 2 or 0.25)
            self.next_talk = self.monotonic() + self.pause * random.uniform(0.5, 1.0)
            _log.warning(line("database.away", worker=self.id, reason=error))

    def _exchange(self, now: float) -> None:
        self._fences()
        full = bool(self.outbox) and now >= self._deliver_at()
        if full or self._due(now) or self._reports(now):
            self._apply(now, self._turn_due(now))
        elif self._free() > 0 and now >= self.next_poll:
            self._poll(now)

    def _due(self, now: float) -> bool:
        return now >= self.next_beat or (bool(self.running) and now >= self.next_look)

    def _reports(self, now: float) -> list[Running]:
        """Attempts whose progress or commands are to be written now."""
        return [
            one
            for one in self.running
            if one.unsaid or (one.fraction > one.reported and now - one.reported_at >= REPORT_EVERY)
        ]

    def _fences(self) -> None:
        lease = self.settings.worker.lease
        for one in self.running:
            if not one.fencing:
                continue
            asked = self.monotonic()
            ours = one.ending is None and self.database.transact(
                lambda s, held: leases.fence(s, held, lease, clock(s)), one.held
            )
            one.fencing = False
            if ours:
                self._renew(one, asked)
            _send(one.slot, ours)

    def _poll(self, now: float) -> None:
        """Look first, without locks; claim only when there is something."""
        self.next_poll = now + self.settings.worker.poll
        if self.database.read(self._candidates):
            self._apply(now, self._turn_due(now))

    def _candidates(self, store: Store) -> list[tuple[claims.Lane, int]]:
        worker = self.settings.worker
        lanes = claims.lanes(store, worker.queues, worker.tags)
        return claims.waiting(store, lanes, self._free_now(), suspects=self._trusts())

    def _trusts(self) -> bool:
        """Whether it may take a task under suspicion now."""
        return not any(one.assignment.suspect for one in self.running)

    def _free_now(self) -> int:
        """Slots that are free once the outbox is delivered."""
        return self._free() + len(self.outbox) if not self._stops() else 0

    def _stops(self) -> bool:
        return self.draining or self.stop_by is not None

    def _turn_due(self, now: float) -> Turn:
        ended = [(one.held, outcome) for one, outcome in self.outbox]
        reports = self._reports(now)
        beat = now >= self.next_beat
        return self.database.transact(self._turn, ended, reports, beat, now)

    def _turn(
        self,
        store: Store,
        ended: Sequence[tuple[Held, Outcome]],
        reports: Sequence[Running],
        beat: bool,
        monotonic: float,
    ) -> Turn:
        """One transaction: deliver outcomes, report, renew, and claim for the
        slots that this leaves free."""
        now = clock(store)
        accepted = outcomes.finish_all(store, ended, now)
        for one in reports:
            self._report(store, one, monotonic)
        held = [one.held for one in self.running]
        if self.redefined:
            self._redefine(store)
        beaten = (
            leases.beat(store, self.id, held, self.settings.worker.lease, now) if beat else None
        )
        cancelled = beaten.cancelled if beaten else leases.cancel_requests(store, held)
        draining = beaten.draining if beaten else leases.is_draining(store, self.id)
        claimed: list[Assignment] = []
        if not draining and self._free_now() > 0:
            take = self._candidates(store)
            if take:
                lease, trusts = self.settings.worker.lease, self._trusts()
                found = claims.claim(store, self.id, self.host, take, lease, now, suspects=trusts)
                claimed = assignments.build(store, found) if found else []
        return Turn(accepted, beaten, cancelled, draining, claimed)

    def _redefine(self, store: Store) -> None:
        worker = self.settings.worker
        leases.redefine(
            store,
            self.id,
            slots=worker.slots,
            queues=worker.queues,
            tags=worker.tags,
            lease=worker.lease,
        )

    def _report(self, store: Store, one: Running, now: float) -> None:
        if one.unsaid:
            log = str(attempt.log_path(self.settings, one.assignment))
            leases.report_command(store, one.held, one.commands, self.ffmpeg, log)
        leases.report_progress(
            store, one.held, round(one.fraction * 100, 1), one.speed, one.eta(now)
        )

    def _apply(self, now: float, turn: Turn) -> None:
        """Act on what the database said; ``now`` is before it was asked, so
        that leases end here no later than there."""
        self.next_look = now + LOOK_EVERY
        self.next_poll = now + self.settings.worker.poll
        self._delivered(turn)
        self.redefined = False
        for one in self.running:
            if one.unsaid or one.fraction > one.reported:
                one.unsaid, one.reported, one.reported_at = False, one.fraction, now
        if turn.beat is not None:
            self.next_beat = now + self.settings.worker.heartbeat
            self._renew_kept(turn.beat, now)
        self.draining = self.draining or turn.draining
        for one in self.running:
            if one.held in turn.cancelled and one.ending is None:
                self._end(one, Outcome(CANCELLED, "cancelled on request", Reason.CANCELLED))
        for assignment in turn.claimed:
            self._start(assignment, now)

    def _delivered(self, turn: Turn) -> None:
        for one, outcome in self.outbox:
            self._delivered_one(one, outcome, turn.accepted[one.held])
        self.outbox.clear()

    def _delivered_one(self, one: Assignment, outcome: Outcome, ours: bool) -> None:
        action = f"task.{outcome.state}" if ours else "task.not-ours"
        _log.info(line(action, **one.ids, message=outcome.message))
        if ours:
            attempt_metrics.ended(one, outcome, self.settings.targets)
        else:
            attempt_metrics.refused()
            attempt.discard(attempt.attempt_folder(self.settings, one))

    def _deliver_apart(self) -> None:
        """The database will not hold something that we deliver, and would refuse
        it for ever: whose outcome that is fails, and the others are not kept up."""
        for entry in list(self.outbox):
            one, outcome = entry
            try:
                ours = self._deliver(one, outcome)
            except DatabaseError as error:
                _log.exception(line("task.outcome-refused", **one.ids))
                reason = f"what it made cannot be recorded: {error}"
                outcome = Outcome(FAILED, reason, Reason.NOT_RECORDED, retry=False)
                ours = self._deliver(one, outcome)
                attempt.discard(attempt.attempt_folder(self.settings, one))
            self.outbox.remove(entry)
            self._delivered_one(one, outcome, ours)

    def _deliver(self, one: Assignment, outcome: Outcome) -> bool:
        return self.database.transact(
            lambda store: outcomes.finish(store, one.held, outcome, clock(store))
        )

    def _renew_kept(self, beat: leases.Beat, now: float) -> None:
        for one in self.running:
            if one.held in beat.kept:
                self._renew(one, now)
            elif one.ending is None:
                one.discarded = True
                self._end(one, Outcome(LOST, "given to another worker", Reason.LEASE_LOST))

    def _renew(self, one: Running, asked: float) -> None:
        lease = self.settings.worker.lease
        one.slot.lease.deadline = asked + lease * (1 - LEASE_MARGIN)

    def _start(self, assignment: Assignment, now: float) -> None:
        if tasks.has(assignment.type, Trait.TRIVIAL):
            self._post(assignment, attempt.run_here(assignment, self.settings))
            return
        try:
            slot = self._slot()
        except OSError as error:  # no more processes, memory or descriptors
            reason = f"no process can be started on {self.host}: {error.strerror}"
            self._post(assignment, Outcome(FAILED, reason, Reason.NO_PROCESS))
            return
        one = Running(assignment, slot, started=now, heard=now)
        self._renew(one, now)
        self.running.append(one)
        _log.info(line("task.started", **assignment.ids))
        _send(slot, assignment)

    def _slot(self) -> Slot:
        while self.idle:
            slot, _ = self.idle.pop()
            if not slot.ended():
                return slot
            slot.bury()
        return Slot(self.settings)


def _send(slot: Slot, message: object) -> None:
    with suppress(OSError):  # it has died; the pipe's end will tell
        slot.pipe.send(message)


def _ffmpeg_version(settings: Settings) -> str:
    try:
        return media.version(settings.tools.ffmpeg, confinement.of_tools(settings))
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
        tasks.load(name)  # before forking, so that no attempt pays for it
    Worker(settings, database).run()
    database.close()
    return 0
