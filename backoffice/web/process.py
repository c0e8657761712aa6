"""The web server as a process: ``backoffice web``, and a part of ``backoffice serve``."""

from __future__ import annotations

import logging
import os
import signal
import threading
from types import FrameType

from backoffice import migrations
from backoffice.config import Settings
from backoffice.database import Database
from backoffice.errors import ConfigError
from backoffice.logs import line
from backoffice.web.app import make_app
from backoffice.web.gate import Limits
from backoffice.web.server import WebServer
from backoffice.worker import prepare_folders

_log = logging.getLogger("backoffice.web")


def main(settings: Settings) -> int:
    """Serve until TERM or INT; requests that run then are finished. Raises
    ConfigError if it cannot listen where the settings say."""
    database = Database(settings.database)
    migrations.require_current(database)
    database.close()
    prepare_folders(settings)
    asked = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        asked.set()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, stop)
    server = _server(settings)
    _log.info(line("web.started", pid=os.getpid(), address=_shown(server.address)))
    asked.wait()
    server.stop()
    _log.info(line("web.stopped", pid=os.getpid()))
    return 0


def _server(settings: Settings) -> WebServer:
    web = settings.web
    limits = Limits(
        head_timeout=web.head_timeout,
        body_timeout=web.body_timeout,
        body=settings.limits.document,
    )
    server = WebServer(
        make_app(settings),
        web.listen,
        threads=web.threads,
        limits=limits,
        grace=settings.worker.grace,
    )
    try:
        server.start()
    except OSError as error:
        message = f"cannot listen there: {error.strerror or error}; is it running already?"
        place = {"source": settings.source, "section": "web", "key": "listen"}
        raise ConfigError(message, **place) from error
    return server


def _shown(address: object) -> str:
    return ":".join(map(str, address)) if isinstance(address, tuple) else f"unix:{address}"
