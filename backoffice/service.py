"""The service: one parent that keeps worker, scheduler and web server running.

Each is a process of its own. One that dies is started anew, with growing pauses
when it dies at once; one that hangs is killed first. They are told to stop when
the parent ends, however it ends, and then finish or hand back what they run.

CherryPy's bus carries what happens: ``start``, ``main`` again and again, ``stop``
and ``exit``; and ``graceful`` (HUP), ``reopen`` (USR1) and ``tell`` (USR2), which
the parts are told as well.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from cherrypy.process.wspbus import Bus

from backoffice import catalogue, instance, migrations, preflight
from backoffice.config import DEFAULTS, Settings
from backoffice.daemon import ASKS, Daemon
from backoffice.database import Database
from backoffice.errors import DatabaseUnavailable
from backoffice.instance import Instance
from backoffice.logs import line
from backoffice.prctl import die_with
from backoffice.sdnotify import Receiver

STEADY = 30.0  # seconds a part must have lived for its next start to be prompt
LONGEST_PAUSE = 30.0
LOOP_DEATHS, LOOP_WITHIN = 5, 60.0  # so many deaths in so many seconds are a crash loop
LOOP_PAUSE = 60.0  # seconds to the next try then
TICK = 1.0  # seconds between looks at what no signal and no message tells
MARGIN = 10.0  # seconds over the grace time before a part is killed
AT_ONCE = 5.0  # seconds that a part has to end when it is to end at once
START_WITHIN = 60.0  # seconds until a new part must have been heard of
LOCK_WAITS = 6  # times the database's timeout that a part may rightly be silent
WRONG, AWAY = 2, 4  # a part that begins with these would always end so

CHANNELS = dict(zip(ASKS, ("graceful", "reopen", "tell"), strict=True))

_log = logging.getLogger("backoffice.service")


@dataclass
class Part:
    """One of our processes. Times are of the monotonic clock, in seconds."""

    name: str
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    heard: float | None = None  # when it last said that it lives
    start_at: float = 0.0
    pause: float = 0.0
    deaths: deque[float] = field(default_factory=lambda: deque(maxlen=LOOP_DEATHS))
    looping: bool = False  # it dies again and again
    ready: bool = False
    proven: bool = False  # it was ready once
    ended: bool = False  # of its own will: a drained worker stays away
    status: str = "starting"

    @property
    def living(self) -> bool:
        return self.process is not None and self.process.poll() is None


class Service:
    def __init__(self, settings: Settings, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.monotonic = monotonic
        self.parts = [Part(name) for name in settings.service.parts]
        self.daemon = Daemon(
            "service", settings, reload=_check, tell=self._tell, follow=self._follow
        )
        self.silence = max(settings.service.watchdog, LOCK_WAITS * settings.database.timeout)
        self.ears = Receiver()
        self.instance: Instance | None = None
        self.status: int | None = None  # to exit with, once that is known
        self.said: dict[str, object] = {}
        self.turned = monotonic()
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
        """Keep the parts running until told to stop; returns the exit status.
        Raises a BackofficeError when there is no use in starting."""
        self.daemon.catch()
        signal.signal(signal.SIGCHLD, lambda *_: None)  # a death wakes us like a signal
        self.instance = instance.take(self.settings.paths.run)
        try:
            _check_before(self.settings)
            self.bus.start()
            self.bus.wait(self.bus.states.EXITING, interval=0, channel="main")
        finally:
            if self.bus.state is not self.bus.states.EXITING:
                self.bus.exit()
        _log.info(line("service.stopped", pid=os.getpid()))
        return self.status or 0

    # The bus ----------------------------------------------------------------

    def _start(self) -> None:
        _log.info(line("service.started", pid=os.getpid(), config=self.settings.source))
        for part in self.parts:
            self._launch(part)

    def _turn(self) -> None:
        """Once round: hear, obey, and see that every part is as it should be."""
        self._listen(TICK)
        self._forgive()
        for part in self.parts:
            self._keep(part)
        _bury_strangers({part.process.pid for part in self.parts if part.process})
        self._say()
        if self.daemon.stops or self.status is not None or all(p.ended for p in self.parts):
            self.bus.exit()

    def _stop(self) -> None:
        """TERM to each part, QUIT when we are told to stop once more or so; KILL
        after the grace time."""
        self.daemon.stopping()
        began, told = self.monotonic(), 0
        while living := [part for part in self.parts if part.living]:
            urgency = min(2, max(1, self.daemon.stops))
            if urgency > told:
                for part in living:
                    self._signal(part, signal.SIGTERM if urgency == 1 else signal.SIGQUIT)
                told, began = urgency, self.monotonic()
            allowed = AT_ONCE if urgency > 1 else self.settings.worker.grace + MARGIN
            if self.monotonic() > began + allowed:
                for part in living:
                    self._signal(part, signal.SIGKILL)
            self._listen(TICK)

    def _exit(self) -> None:
        if self.instance is not None:
            self.instance.release()
        self.ears.close()

    def _follow(self, number: int) -> None:
        self.bus.publish(CHANNELS[signal.Signals(number)], number)

    def _forward(self, number: int) -> None:
        for part in self.parts:
            self._signal(part, number)

    # Hearing ----------------------------------------------------------------

    def _listen(self, seconds: float) -> None:
        """Until something happens, the next start is due, or so long."""
        waits = [p.start_at - self.monotonic() for p in self.parts if self._to_be_started(p)]
        timeout = max(0.0, min(seconds, self.daemon.beat_every(), *waits))
        select.select([self.daemon.fileno(), self.ears.fileno()], [], [], timeout)
        self.daemon.obey()
        self._hear_all()

    def _hear_all(self) -> None:
        for pid, fields in self.ears.receive():
            for part in self.parts:
                if part.process is not None and part.process.pid == pid:
                    self._hear(part, fields)

    def _hear(self, part: Part, fields: dict[str, str]) -> None:
        part.heard = self.monotonic()
        part.status = fields.get("STATUS", part.status)
        if fields.keys() & {"RELOADING", "STOPPING"}:
            part.ready = False
        if "READY" in fields:
            part.ready = part.proven = True

    def _say(self) -> None:
        """To whoever started us, when it is news."""
        news: dict[str, object] = {"STATUS": "; ".join(map(self._about, self.parts))}
        if all(part.ready or part.ended for part in self.parts):
            news["READY"] = 1
            if "READY" not in self.said:
                _log.info(line("service.ready", parts=" ".join(p.name for p in self.parts)))
                self.daemon.ready()
        if news["STATUS"] != self.said.get("STATUS"):
            self.daemon.status(str(news["STATUS"]))
        self.said |= news

    def _about(self, part: Part) -> str:
        if part.ended:
            return f"{part.name} has ended"
        if part.looping and part.process is None:
            return f"{part.name} dies again and again, last: {part.status}"
        return f"{part.name} {part.status}"

    # Parts ------------------------------------------------------------------

    def _to_be_started(self, part: Part) -> bool:
        return part.process is None and not part.ended

    def _keep(self, part: Part) -> None:
        now = self.monotonic()
        if self._to_be_started(part):
            if now >= part.start_at and self.status is None:
                self._launch(part)
        elif part.process is not None and part.process.poll() is not None:
            self._bury(part, part.process.returncode, now)
        elif part.process is not None and self._hangs(part, now):
            _log.error(line("part.hangs", part=part.name, pid=part.process.pid))
            self._signal(part, signal.SIGKILL)

    def _forgive(self) -> None:
        """If it is we who were stopped, nobody is to blame for what we did not hear."""
        now = self.monotonic()
        if now - self.turned > self.silence / 2:
            for part in self.parts:
                part.heard = now
        self.turned = now

    def _hangs(self, part: Part, now: float) -> bool:
        if part.heard is None:
            return now - part.started > max(START_WITHIN, self.silence)
        return now - part.heard > self.silence

    def _launch(self, part: Part) -> None:
        part.started, part.heard, part.status = self.monotonic(), None, "starting"
        try:
            part.process = self._process(part)
        except OSError as error:  # no more processes or memory
            part.status = f"cannot be started: {error.strerror}"
            self._put_off(part, part.started)
            _log.error(line("part.not-started", part=part.name, reason=error.strerror))
            return
        _log.info(line("part.started", part=part.name, pid=part.process.pid))

    def _process(self, part: Part) -> subprocess.Popen[bytes]:
        config = [] if self.settings.source == DEFAULTS else ["--config", self.settings.source]
        parent = os.getpid()
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "backoffice", *config, part.name],
            stdin=subprocess.DEVNULL,
            env={
                **os.environ,
                "NOTIFY_SOCKET": self.ears.address,
                "WATCHDOG_USEC": f"{self.silence * 1e6:.0f}",
            },
            # A group of its own: Ctrl-C reaches it through us, once.
            process_group=0,
            preexec_fn=lambda: _become_part(parent),
        )

    def _bury(self, part: Part, status: int, now: float) -> None:
        self._hear_all()  # its last words
        part.process, part.ready = None, False
        if status == 0 and part.name == "worker":  # drained; the others have no reason to end
            part.ended = True
            _log.info(line("part.ended", part=part.name))
        elif status in (WRONG, AWAY) and not part.proven:
            self.status = status
            _log.error(line("part.refused", part=part.name, status=status, said=part.status))
        else:
            self._put_off(part, now)
            told = {"status": status, "again_in": part.pause, "said": part.status}
            _log.warning(line("part.died", part=part.name, **told))
            part.status = _how(status)

    def _put_off(self, part: Part, now: float) -> None:
        """When to start it anew."""
        if now - part.started >= STEADY:
            part.pause, part.looping = 0.0, False
            part.deaths.clear()
        else:
            part.pause = min(LONGEST_PAUSE, part.pause * 2 or 0.5)
        part.deaths.append(now)
        if len(part.deaths) == LOOP_DEATHS and now - part.deaths[0] <= LOOP_WITHIN:
            if not part.looping:
                times = {"deaths": LOOP_DEATHS, "within": LOOP_WITHIN, "again_in": LOOP_PAUSE}
                _log.error(line("part.crash-loop", part=part.name, said=part.status, **times))
            part.looping = True
        if part.looping:
            part.pause = LOOP_PAUSE
        part.start_at = now + part.pause

    def _signal(self, part: Part, number: int) -> None:
        if part.living and part.process is not None:
            part.process.send_signal(number)

    def _tell(self) -> Iterator[str]:
        now = self.monotonic()
        for part in self.parts:
            known: dict[str, object] = {"name": part.name, "status": self._about(part)}
            if part.process is not None:
                known |= {"pid": part.process.pid, "age": f"{now - part.started:.0f}s"}
            if part.heard is not None:
                known["heard"] = f"{now - part.heard:.1f}s ago"
            yield line("part", **known)


def _how(status: int) -> str:
    return f"died ({signal.Signals(-status).name if status < 0 else f'status {status}'})"


def _become_part(parent: int) -> None:
    """Between fork and exec."""
    die_with(parent, signal.SIGTERM)
    # They wait until it has its handlers: by themselves they would end it.
    signal.pthread_sigmask(signal.SIG_BLOCK, ASKS)


def _bury_strangers(parts: set[int]) -> None:
    """As the first process of a container we inherit every orphan in it."""
    while True:
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if found is None or found.si_pid in parts:
            return
        os.waitpid(found.si_pid, 0)


def _log_of_the_bus(message: str, level: int) -> None:
    _log.log(level if level > logging.INFO else logging.DEBUG, "%s", message)


def _check(settings: Settings) -> None:
    """What the parts would refuse of new settings, before they hear of them."""
    catalogue.load(settings)
    if "worker" in settings.service.parts:
        preflight.require_tools(settings)


def _check_before(settings: Settings) -> None:
    """What would end the parts as soon as they begin. A database that is away
    may come; they wait for it."""
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
