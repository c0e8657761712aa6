"""The web server process: ``backoffice web``, and a part of ``backoffice serve``."""

from __future__ import annotations

import ctypes
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

from backoffice.config.settings import Settings
from backoffice.data import migrations
from backoffice.data.database import Database
from backoffice.errors import ConfigError
from backoffice.system import preflight
from backoffice.system.daemon import Daemon
from backoffice.system.logs import line
from backoffice.web.app import make_app
from backoffice.web.server.connections import Limits
from backoffice.web.server.http_server import WebServer
from middleware import request_id

LOOK_EVERY = 60.0  # seconds; signals come at once
BIND_WITHIN = 2.0  # seconds for a server before us to leave the place
_M_ARENA_MAX, _ARENAS = -8, 2  # of mallopt(3)

_log = logging.getLogger("backoffice.web")


class Web:
    def __init__(self, settings: Settings) -> None:
        self.database = Database(settings.database, replicas=True)
        self.server = WebServer(
            make_app(settings, base=self.database),
            settings.web.listen,
            threads=settings.web.threads,
            limits=_limits(settings),
            grace=settings.worker.grace,
        )
        self.daemon = Daemon(
            "web",
            settings,
            reload=self.reload,
            dump_status=self.dump_status,
            lives=self.server.lives,
        )

    def run(self) -> None:
        """Serve until told to stop; requests that run then are finished. While the
        database is away they are told so. Raises ConfigError if it cannot listen
        where the settings say, and what ``Daemon.until_database`` raises."""
        self.daemon.catch()
        self._listen()
        try:
            if self.daemon.until_database(lambda: migrations.require_current(self.database)):
                self.database.close()
                _log.info(line("web.started", pid=os.getpid(), address=self._address()))
                self.daemon.ready()
            while not self.daemon.stops:
                self.daemon.listen(LOOK_EVERY)
        finally:
            self.daemon.stopping()
            self._stop()
        _log.info(line("web.stopped", pid=os.getpid()))

    def _listen(self) -> None:
        until = time.monotonic() + BIND_WITHIN
        while True:
            try:
                self.server.start()
                return
            except OSError as error:
                if self.daemon.stops or time.monotonic() > until:
                    message = f"cannot listen there: {error.strerror or error}; is it in use?"
                    source = self.daemon.settings.source
                    raise ConfigError(
                        message, source=source, section="web", key="listen"
                    ) from error
            self.daemon.wait(0.1)

    def _stop(self) -> None:
        """Told to end now, it waits for no request."""
        stopping = threading.Thread(target=self.server.stop, name="stop", daemon=True)
        stopping.start()
        while stopping.is_alive() and self.daemon.stops < 2:
            stopping.join(0.05)
            self.daemon.obey()

    def reload(self, settings: Settings) -> None:
        """Raises DefinitionError for a broken workflow or profile."""
        app = make_app(settings, base=self.database)
        self.server.swap(app, _limits(settings), settings.worker.grace)

    def dump_status(self) -> Iterator[str]:
        for thread, environ, age in self.server.serving():
            asked = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}"
            known = environ.get(request_id.KEY, "")
            yield line("request", thread=thread, asked=asked, id=known, age=f"{age:.1f}s")

    def _address(self) -> str:
        address = self.server.address
        return ":".join(map(str, address)) if isinstance(address, tuple) else f"unix:{address}"


def _limits(settings: Settings) -> Limits:
    return Limits(
        head_timeout=settings.web.head_timeout,
        body_timeout=settings.web.body_timeout,
        body=settings.limits.document,
        send_rate=settings.web.send_rate,
        per_client=settings.web.connections_per_client,
        proxies=settings.web.proxies,
    )


def main(settings: Settings) -> int:
    """Serve in the foreground until told to stop."""
    preflight.prepare_folders(settings)
    _share_heaps()
    Web(settings).run()
    return 0


def _share_heaps() -> None:
    """glibc gives each thread a heap of its own, which grows to the most that it
    ever needed: with these the process stays as large as all need at once."""
    with suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)
