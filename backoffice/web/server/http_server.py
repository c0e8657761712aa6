"""The HTTP server: cheroot's threads and responses, behind a loop of connections.

cheroot's parser is loose, and its threads wait for slow clients. So here it
parses nothing: the loop hands it whole requests, checked, and takes the rest of
a response that its client does not read at once. Owns the listening socket, the
pool of threads and how a response is written.
"""

from __future__ import annotations

import io
import itertools
import logging
import os
import re
import socket
import stat
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any
from wsgiref.types import WSGIApplication

from cheroot import wsgi
from cheroot.server import HTTPConnection, HTTPRequest
from cheroot.workers.threadpool import ThreadPool, WorkerThread

from backoffice.web.server.connections import ConnectionLoop, Inbox, Limits, Request
from backoffice.web.server.outbox import Outbox, TooSlow
from backoffice.web.server.turns import Turns
from middleware.buffering import close
from middleware.rate_limit import network_of

LOG = logging.getLogger("backoffice.web")
NAME = "Backoffice"  # and no version: it would tell strangers what to try
BACKLOG = 128

Bind = Path | tuple[str, int]

_control = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]").search


class WebServer:
    """Serves ``app`` on a Unix socket or on host and port, in threads of its own.

    ``mode`` are the permissions of a Unix socket; ``grace`` are the seconds that
    running requests have when it stops.
    """

    def __init__(
        self,
        app: WSGIApplication,
        bind: Bind,
        *,
        threads: int = 8,
        limits: Limits | None = None,
        mode: int = 0o660,
        grace: float = 10.0,
    ) -> None:
        self._http = _Server(app, bind, threads, limits or Limits(), mode, grace)
        self._thread = threading.Thread(target=self._http.serve, name="accept", daemon=True)

    def start(self) -> None:
        """Returns when clients can connect. Raises OSError if it cannot listen."""
        self._http.prepare()
        self._thread.start()

    def stop(self) -> None:
        """Accept no more, close who waits, and let running requests finish.

        What still runs when the grace time is over is left to its fate.
        """
        self._http.stop()
        if self._thread.is_alive():
            self._thread.join()

    def swap(self, app: WSGIApplication, limits: Limits, grace: float) -> None:
        """From the next request on; those under way end as they began."""
        self._http.wsgi_app = app
        self._http.limits = self._http.loop.limits = limits
        self._http.shutdown_timeout = grace

    def lives(self, seconds: float = 5.0) -> bool:
        """Whether it still takes requests in, as far as can be told in so long."""
        return self._http.loop.turns(seconds)

    def serving(self) -> list[tuple[str, dict[str, Any], float]]:
        """Each request under way: the thread's name, its environ, its age in seconds."""
        now = time.monotonic()
        return [(name, env, now - began) for name, env, began in self._http.serving()]

    @property
    def connections(self) -> int:
        """How many are open."""
        return self._http.loop.connections

    @property
    def address(self) -> Bind:
        """Where it listens; port 0 has become the real one."""
        found = self._http.bind_addr
        return Path(found) if isinstance(found, str) else (found[0], found[1])

    def __enter__(self) -> WebServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def serve(
    app: WSGIApplication,
    bind: Bind,
    *,
    threads: int = 8,
    limits: Limits | None = None,
    mode: int = 0o660,
    grace: float = 10.0,
) -> WebServer:
    """A WebServer that has been started; as a context manager it stops at the end."""
    server = WebServer(app, bind, threads=threads, limits=limits, mode=mode, grace=grace)
    server.start()
    return server


# What of cheroot is used, and how it differs


class _Request(HTTPRequest):
    """A request that the loop has read; the rest of cheroot sees it as its own."""

    def parse_request(self) -> None:
        request: Request = self.conn.request
        head = request.head
        self.started_request = True
        self.method, self.uri = head.method, head.target
        self.path, self.qs, self.authority = head.path, head.query, b""
        self.request_protocol = head.version
        self.response_protocol = head.version.decode()
        self.close_connection = not head.persistent
        self.inheaders = dict(head.fields)
        # The loop has dealt with these, and the body is decoded.
        for name in (b"transfer-encoding", b"expect"):
            self.inheaders.pop(name, None)
        if head.length is None:
            self.inheaders[b"content-length"] = str(len(request.body)).encode()
        self.rfile = self.conn.rfile
        self.ready = True

    def respond(self) -> None:
        self.server.gateway(self).respond()
        if self.chunked_write:
            self.conn.wfile.write(b"0\r\n\r\n")
        self.conn.outbox.flush()

    def send_headers(self) -> None:
        """With the first piece of the body."""
        self.conn.wfile = _Kept(self.conn.outbox)
        super().send_headers()
        self.conn.wfile = self.conn.outbox


class _Kept:
    """What cheroot writes its head to."""

    def __init__(self, outbox: Outbox) -> None:
        self.write = outbox.keep


def _no_file(*_: Any) -> io.BytesIO:
    """In place of cheroot's files on a socket."""
    return io.BytesIO()


class _Connection(HTTPConnection):
    RequestHandlerClass = _Request

    def __init__(self, server: _Server, sock: socket.socket, *_: Any) -> None:
        super().__init__(server, sock, _no_file)
        limits = server.limits
        self.inbox = Inbox(limits)
        self.outbox = self.wfile = Outbox(sock, limits.send_rate, limits.send_timeout)
        self.client: str | None = None
        self.asker = ""  # whose request is being answered
        self.ending = False
        self.held = 0
        self.request: Request | None = None
        self._closed = False

    def give(self, request: Request) -> None:
        self.request = request
        self.asker = self.client or _last_hop(request.head.fields)
        self.rfile = io.BytesIO(request.body)

    def communicate(self) -> bool:
        """Whether it stays open. No handler can end the server."""
        try:
            return bool(super().communicate())  # type: ignore[no-untyped-call]
        except (KeyboardInterrupt, SystemExit):
            LOG.exception("a handler wanted to end the process")
            return False
        finally:
            self.server.requests.done(self)
            self.request = None
            self.rfile = io.BytesIO()

    def close(self) -> None:
        """At once, or when the client has taken the rest of its response."""
        if self._closed:
            return
        if self.outbox.pending:
            self.ending = True
            self.server.loop.again(self)
            return
        self._closed = True
        with suppress(OSError):
            super().close()
        self.socket.close()
        self.server.loop.left(self)


def _last_hop(fields: dict[bytes, bytes]) -> str:
    """For whom a proxy asks."""
    hops = fields.get(b"x-forwarded-for", b"").decode("latin-1")
    return network_of(hops.rpartition(",")[2].strip())


class _Gateway(wsgi.Gateway_10):
    """Writes the response of an application, and never more or less than it declared."""

    def get_environ(self) -> dict[str, Any]:  # type: ignore[override]
        environ: dict[str, Any] = super().get_environ()  # type: ignore[no-untyped-call]
        environ["SERVER_NAME"], environ["SERVER_PORT"] = self.req.server.named
        return environ

    def respond(self) -> None:
        thread = threading.current_thread()
        self.req.server.under_way[thread] = (self.env, time.monotonic())
        try:
            self._respond()
        except TooSlow as error:
            LOG.info("closed %s: %s", self.req.conn.remote_addr or "-", error.strerror)
            raise
        finally:
            del self.req.server.under_way[thread]

    def _respond(self) -> None:
        self._left: int | None = None
        result: Iterable[bytes] = self.req.server.wsgi_app(self.env, self.start_response)
        try:
            for chunk in result:
                if chunk:
                    self.write(chunk)
            if not self.started_response:
                raise RuntimeError("the application did not call start_response")
            self.req.ensure_headers_sent()
            if self._left and self._has_body():
                raise RuntimeError("the response is shorter than its Content-Length")
        finally:
            close(result)

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Any:
        for name, value in [("status", status), *headers]:
            if _control(name) or _control(value):
                raise ValueError(f"the response header {name!r} has control characters")
        if exc_info and not self.req.sent_headers:
            self.req.outheaders = []  # those of the first attempt
        write = super().start_response(status, headers, exc_info)
        lengths = [value for name, value in headers if name.lower() == "content-length"]
        self._left = int(lengths[0]) if lengths else None
        return write

    def write(self, chunk: bytes) -> None:
        if not self.started_response:
            raise RuntimeError("the application wrote before it called start_response")
        if not self._has_body():
            self.req.ensure_headers_sent()
            return
        if self._left is not None:
            if len(chunk) > self._left:
                raise RuntimeError("the response is longer than its Content-Length")
            self._left -= len(chunk)
        self.req.ensure_headers_sent()
        self.req.write(chunk)

    def _has_body(self) -> bool:
        """Frameworks leave it to the server to send none where there must be none."""
        status = self.req.status[:3]
        return self.req.method != b"HEAD" and status not in (b"204", b"304")


class _Pool(ThreadPool):
    """Threads that cannot keep the process from ending, and that clients take in turn."""

    _numbers = itertools.count(1)

    def __init__(self, server: _Server, threads: int) -> None:
        super().__init__(server, min=threads)
        self._queue = Turns(threads)
        self.get = self._queue.get

    def done(self, conn: _Connection) -> None:
        self._queue.done(conn.asker)

    def _spawn_worker(self) -> Any:
        worker = WorkerThread(self.server)  # type: ignore[no-untyped-call]
        worker.name = f"request {next(self._numbers)}"
        worker.daemon = True
        worker.start()
        return worker

    def stop(self, timeout: float = 5) -> None:
        """Unlike cheroot's, returns in time whatever the handlers do."""
        waiting = threading.Thread(target=super().stop, args=(timeout,), daemon=True)
        waiting.start()
        waiting.join(timeout + 0.5)


class _Server(wsgi.Server):
    ConnectionClass = _Connection

    def __init__(
        self,
        app: WSGIApplication,
        bind: Bind,
        threads: int,
        limits: Limits,
        mode: int,
        grace: float,
    ) -> None:
        address = str(bind) if isinstance(bind, Path) else bind
        super().__init__(address, app, server_name=NAME, request_queue_size=BACKLOG)
        self.gateway = _Gateway
        self.software = NAME
        self.timeout = int(limits.idle_timeout)
        self.shutdown_timeout = grace
        self.requests = _Pool(self, threads)
        self.limits = limits
        self.mode = mode
        self.loop = ConnectionLoop(limits, self._admit)
        self._inode: tuple[int, int] | None = None
        self.under_way: dict[threading.Thread, tuple[dict[str, Any], float]] = {}

    def serving(self) -> list[tuple[str, dict[str, Any], float]]:
        return [(one.name, env, began) for one, (env, began) in list(self.under_way.items())]

    @property
    def named(self) -> tuple[str, str]:
        """SERVER_NAME and SERVER_PORT, where the client names no host."""
        if isinstance(self.bind_addr, str):
            return "localhost", "80"
        return self.bind_addr[0], str(self.bind_addr[1])

    @property
    def can_add_keepalive_connection(self) -> bool:
        return self.ready and not self.loop.stopping

    def prepare(self) -> None:
        super().prepare()
        self.loop.start()

    def process_conn(self, conn: _Connection) -> None:
        """A connection has come in: to the loop with it."""
        self.loop.enter(conn)

    def put_conn(self, conn: _Connection) -> None:
        """Its response was sent and it stays open."""
        if self.ready:
            self.loop.again(conn)
        else:
            conn.close()

    def _admit(self, conn: _Connection, request: Request) -> None:
        conn.give(request)
        self.requests.put(conn)

    def stop(self) -> None:
        if not self.ready:
            return
        ends = time.monotonic() + self.shutdown_timeout
        # First of all, so that no request comes after the threads' last orders.
        self.loop.stop()
        super().stop()
        self.loop.finish(ends - time.monotonic())
        self._remove_socket()

    def error_log(self, msg: str = "", level: int = 20, traceback: bool = False) -> None:
        LOG.log(level, "%s", msg, exc_info=traceback)

    def bind_unix_socket(self, bind_addr: str) -> socket.socket:
        """Refuses to take the place of a server that lives, or of a file."""
        _clear_the_place(bind_addr)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # Nobody may connect before it has the permissions that were asked for.
            os.fchmod(sock.fileno(), 0)
            sock.bind(bind_addr)
            os.chmod(bind_addr, self.mode)
        except OSError:
            sock.close()
            raise
        found = os.stat(bind_addr)
        self._inode = (found.st_dev, found.st_ino)
        self.socket = sock
        return sock

    def _remove_socket(self) -> None:
        """Unless another server has taken the place."""
        if self._inode is not None:
            with suppress(FileNotFoundError):
                found = os.stat(self.bind_addr)
                if (found.st_dev, found.st_ino) == self._inode:
                    os.unlink(self.bind_addr)


def _clear_the_place(path: str) -> None:
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(f"{path} is there already and is no socket; move it away")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise OSError(f"{path} is in use by a server; stop it first, or listen elsewhere")
