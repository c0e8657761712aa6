"""The service: one parent that keeps worker, scheduler and web server running.

Each is a process of its own. One that dies is restarted, with growing pauses when
it dies soon; one that hangs is killed first. The kernel tells them to stop when the
parent ends, however it ends; they then finish or hand back what they run.

CherryPy's bus carries the events: ``start``, ``main`` repeatedly, ``stop`` and
``exit``; and ``graceful`` (HUP), ``reopen`` (USR1) and ``dump_status`` (USR2), which
are forwarded to the processes.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from cherrypy.process.wspbus import Bus

from backoffice.config.names import DEFAULTS
from backoffice.config.settings import Settings
from backoffice.data import migrations
from backoffice.data.database import Database
from backoffice.engine import catalogue
from backoffice.errors import DatabaseUnavailable
from backoffice.service import managed_process
from backoffice.service.managed_process import ManagedProcess
from backoffice.system import pidfile, preflight
from backoffice.system.daemon import REQUESTS, Daemon
from backoffice.system.logs import line
from backoffice.system.pidfile import PidFile
from backoffice.system.prctl import die_with
from backoffice.system.sd_notify import Receiver

TICK = 1.0  # seconds between checks of what neither a signal nor a message reports
MARGIN = 10.0  # seconds over the grace time before a process is killed
URGENT_GRACE = 5.0  # seconds that a process has to end after QUIT
LOCK_WAITS = 6  # a process may be silent for so many times the database's timeout
BAD_CONFIG, DATABASE_AWAY = 2, 4  # exit statuses that a restart would not change

CHANNELS = dict(zip(REQUESTS, ("graceful", "reopen", "dump_status"), strict=True))

_log = logging.getLogger("backoffice.service")


class Service:
    def __init__(self, settings: Settings, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.monotonic = monotonic
        self.processes = [ManagedProcess(name) for name in settings.service.parts]
        self.daemon = Daemon(
            "service",
            settings,
            reload=_check,
            dump_status=self._dump_status,
            on_request=self._publish,
        )
        self.silence = max(settings.service.watchdog, LOCK_WAITS * settings.database.timeout)
        self.messages = Receiver()
        self.pid_file: PidFile | None = None
        self.status: int | None = None  # to exit with, once that is known
        self.reported_status = ""  # what the parent of the service was told last
        self.reported_ready = False
        self.last_turn = monotonic()
        self.bus = Bus()
        for channel, listener in (
            ("start", self._start),
            ("main", self._turn),
            *((channel, self._forward) for channel in CHANNELS.values()),
            ("stop", self._stop),
            ("exit", self._exit),
            ("log", _log_of_the_bus),
        ):
            self.bus.subscribe(channel, listener)

    @property
    def settings(self) -> Settings:
        return self.daemon.settings

    def run(self) -> int:
        """Keep the processes running until told to stop; returns the exit status.
        Raises a BackofficeError when starting is pointless."""
        self.daemon.catch()
        signal.signal(signal.SIGCHLD, lambda *_: None)  # so that a death ends the select
        self.pid_file = pidfile.take(self.settings.paths.run)
        try:
            _check_before(self.settings)
            self.bus.start()
            self.bus.wait(self.bus.states.EXITING, interval=0, channel="main")
        finally:
            if self.bus.state is not self.bus.states.EXITING:
                self.bus.exit()
        _log.info(line("service.stopped", pid=os.getpid()))
        return self.status or 0

    # The bus

    def _start(self) -> None:
        _log.info(line("service.started", pid=os.getpid(), config=self.settings.source))
        for managed in self.processes:
            self._launch(managed)

    def _turn(self) -> None:
        """One round: messages, signals, then every process is checked."""
        self._listen(TICK)
        self._excuse_silence()
        for managed in self.processes:
            self._check_process(managed)
        _reap_orphans({managed.process.pid for managed in self.processes if managed.process})
        self._report_status()
        all_ended = all(managed.ended for managed in self.processes)
        if self.daemon.stops or self.status is not None or all_ended:
            self.bus.exit()

    def _stop(self) -> None:
        """TERM to each process; QUIT when told to stop again; KILL after the grace
        time."""
        self.daemon.stopping()
        began, sent = self.monotonic(), 0
        while living := [managed for managed in self.processes if managed.living]:
            urgency = min(2, max(1, self.daemon.stops))
            if urgency > sent:
                self._signal_all(signal.SIGTERM if urgency == 1 else signal.SIGQUIT)
                sent, began = urgency, self.monotonic()
            allowed = URGENT_GRACE if urgency > 1 else self.settings.worker.grace + MARGIN
            if self.monotonic() > began + allowed:
                for managed in living:
                    managed.signal(signal.SIGKILL)
            self._listen(TICK)

    def _exit(self) -> None:
        if self.pid_file is not None:
            self.pid_file.release()
        self.messages.close()

    def _publish(self, number: int) -> None:
        self.bus.publish(CHANNELS[signal.Signals(number)], number)

    def _forward(self, number: int) -> None:
        self._signal_all(number)

    def _signal_all(self, number: int) -> None:
        for managed in self.processes:
            managed.signal(number)

    # Messages and status

    def _listen(self, seconds: float) -> None:
        """Until something happens, the next start is due, or for ``seconds``."""
        now = self.monotonic()
        waits = [managed.start_at - now for managed in self.processes if managed.to_be_started]
        timeout = max(0.0, min(seconds, self.daemon.beat_every(), *waits))
        select.select([self.daemon.fileno(), self.messages.fileno()], [], [], timeout)
        self.daemon.obey()
        self._receive_messages()

    def _receive_messages(self) -> None:
        for pid, fields in self.messages.receive():
            for managed in self.processes:
                if managed.process is not None and managed.process.pid == pid:
                    managed.hear(fields, self.monotonic())

    def _report_status(self) -> None:
        """Tell the parent of the service what has changed."""
        status = "; ".join(managed.about for managed in self.processes)
        all_ready = all(managed.ready or managed.ended for managed in self.processes)
        if all_ready and not self.reported_ready:
            names = " ".join(managed.name for managed in self.processes)
            _log.info(line("service.ready", parts=names))
            self.daemon.ready()
            self.reported_ready = True
        if status != self.reported_status:
            self.daemon.status(status)
            self.reported_status = status

    def _dump_status(self) -> Iterator[str]:
        now = self.monotonic()
        return (managed.dump_status(now) for managed in self.processes)

    # Processes

    def _check_process(self, managed: ManagedProcess) -> None:
        now = self.monotonic()
        if managed.to_be_started:
            if now >= managed.start_at and self.status is None:
                self._launch(managed)
        elif managed.process is not None and managed.process.poll() is not None:
            self._handle_death(managed, managed.process.returncode, now)
        elif managed.process is not None and managed.hangs(now, self.silence):
            _log.error(line("part.hangs", part=managed.name, pid=managed.process.pid))
            managed.signal(signal.SIGKILL)

    def _excuse_silence(self) -> None:
        """If the service itself was stopped, the processes were not heard because of
        that: count their silence from now."""
        now = self.monotonic()
        if now - self.last_turn > self.silence / 2:
            for managed in self.processes:
                managed.heard = now
        self.last_turn = now

    def _launch(self, managed: ManagedProcess) -> None:
        managed.started, managed.heard, managed.status = self.monotonic(), None, "starting"
        try:
            managed.process = self._start_process(managed)
        except OSError as error:  # no more processes or memory
            managed.status = f"cannot be started: {error.strerror}"
            self._restart_later(managed, managed.started)
            _log.error(line("part.not-started", part=managed.name, reason=error.strerror))
            return
        _log.info(line("part.started", part=managed.name, pid=managed.process.pid))

    def _start_process(self, managed: ManagedProcess) -> subprocess.Popen[bytes]:
        config = [] if self.settings.source == DEFAULTS else ["--config", self.settings.source]
        parent = os.getpid()
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "backoffice", *config, managed.name],
            stdin=subprocess.DEVNULL,
            env={
                **os.environ,
                "NOTIFY_SOCKET": self.messages.address,
                "WATCHDOG_USEC": f"{self.silence * 1e6:.0f}",
            },
            # A group of its own: Ctrl-C reaches it once, from this process.
            process_group=0,
            preexec_fn=lambda: _prepare_child(parent),
        )

    def _handle_death(self, managed: ManagedProcess, status: int, now: float) -> None:
        self._receive_messages()  # its last ones
        name, said = managed.name, managed.status
        managed.process, managed.ready = None, False
        if status == 0 and name == "worker":  # drained; the others have no reason to end
            managed.ended = True
            _log.info(line("part.ended", part=name))
        elif status in (BAD_CONFIG, DATABASE_AWAY) and not managed.was_ready:
            self.status = status
            _log.error(line("part.refused", part=name, status=status, said=said))
        else:
            self._restart_later(managed, now)
            pause = managed.pause
            _log.warning(line("part.died", part=name, status=status, again_in=pause, said=said))
            managed.status = managed_process.death(status)

    def _restart_later(self, managed: ManagedProcess, now: float) -> None:
        if managed.schedule_restart(now):
            deaths, within = managed_process.LOOP_DEATHS, managed_process.LOOP_WITHIN
            facts = {"deaths": deaths, "within": within, "again_in": managed.pause}
            _log.error(line("part.crash-loop", part=managed.name, said=managed.status, **facts))


def _prepare_child(parent: int) -> None:
    """Runs between fork and exec."""
    die_with(parent, signal.SIGTERM)
    # Blocked until the child has its handlers: the default actions would end it.
    signal.pthread_sigmask(signal.SIG_BLOCK, REQUESTS)


def _reap_orphans(keep: set[int]) -> None:
    """Reap dead children that the service did not start: as the first process of a
    container it inherits every orphan. Those in ``keep`` are reaped elsewhere."""
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None or ended.si_pid in keep:
            return
        os.waitpid(ended.si_pid, 0)


def _log_of_the_bus(message: str, level: int) -> None:
    _log.log(level if level > logging.INFO else logging.DEBUG, "%s", message)


def _check(settings: Settings) -> None:
    """Raise what the processes would raise for new settings, before they get them."""
    catalogue.load(settings)
    if "worker" in settings.service.parts:
        preflight.require_tools(settings)


def _check_before(settings: Settings) -> None:
    """Raise what would end the processes at their start. They wait for a database that
    is away."""
    preflight.prepare_folders(settings)
    _check(settings)
    database = Database(settings.database)
    try:
        migrations.require_current(database)
    except DatabaseUnavailable as error:
        if error.refused:
            raise
        _log.warning(line("database.awaited", part="service", reason=error))
    finally:
        database.close()


def main(settings: Settings) -> int:
    """Run the service in the foreground."""
    return Service(settings).run()
