"""Where connections wait until a whole request of theirs lies in memory.

One thread reads them all without blocking, so that a slow client costs no
worker anything. It owns deadlines, limits and the refusal of what is not framed
strictly; it runs no application and writes no responses but refusals.
"""

from __future__ import annotations

import logging
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate
from secrets import token_hex
from typing import Any, Protocol

from middleware.framing import (
    MAX_HEAD,
    MAX_TARGET,
    SINGLETONS,
    Chunks,
    Head,
    check_head,
    check_start,
)
from middleware.problem import Problem

LOG = logging.getLogger("backoffice.web")
RECEIVE = 64 * 1024  # bytes read at once
LINGER_SECONDS = 2.0
LINGER_BYTES = 16 << 20  # of a client that sends its whole body before it reads
EXTRA = 50  # connections over the limit that are told so; further ones are only closed
TICK = 0.2  # seconds between looks at the deadlines

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_CLOSE = ("Connection", "close")


@dataclass(frozen=True)
class Limits:
    """Times are in seconds, sizes in bytes.

    ``head_timeout`` and ``body_timeout`` count from a request's first byte;
    ``idle_timeout`` is for a connection that sends none, and for a client that
    takes nothing of its response. ``connections`` are all that are open, and
    ``buffered`` is of all requests in memory together. Header fields that are
    ``singletons``, in lower case, may come once.
    """

    head_timeout: float = 10.0
    body_timeout: float = 30.0
    idle_timeout: float = 30.0
    body: int = 16 << 20
    head: int = MAX_HEAD
    target: int = MAX_TARGET
    buffered: int = 128 << 20
    connections: int = 500
    singletons: frozenset[bytes] = SINGLETONS


@dataclass(frozen=True)
class Request:
    """A whole request; its body is decoded."""

    head: Head
    body: bytes


class Inbox:
    """What one connection has sent. Requests come out whole; Problems are refusals."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._data = bytearray()
        self._next()

    def _next(self) -> None:
        self.head: Head | None = None
        self._chunks: Chunks | None = None
        self._seen = 0
        self._skipped = False

    @property
    def size(self) -> int:
        """Bytes held."""
        return len(self._data) + (len(self._chunks.body) if self._chunks else 0)

    def add(self, data: bytes) -> None:
        self._data += data

    def clear(self) -> None:
        self._data.clear()
        self._next()

    def take(self) -> Request | None:
        """The next request, once it is whole."""
        if self.head is None:
            self._read_head()
        if self.head is None:
            return None
        body = self._read_body(self.head)
        if body is None:
            return None
        request = Request(self.head, body)
        self._next()
        return request

    def _read_head(self) -> None:
        # One empty line before a request is what old clients send after a body.
        if not self._skipped and self._data.startswith(b"\r\n"):
            del self._data[:2]
            self._skipped = True
        end = self._data.find(b"\r\n\r\n", max(0, self._seen - 3))
        start = self._data if end < 0 else self._data[: end + 4]
        limits = self.limits
        check_start(start, self._seen, max_target=limits.target, max_head=limits.head)
        if end < 0:
            # A lone CR may become that empty line.
            self._seen = len(start) if start != b"\r" else 0
            return
        head = check_head(bytes(start), singletons=limits.singletons, max_target=limits.target)
        if head.length is None:
            self._chunks = Chunks(limits.body)
        elif head.length > limits.body:
            raise _closing(413, f"The body has more than {limits.body} bytes.")
        del self._data[: end + 4]
        self.head = head

    def _read_body(self, head: Head) -> bytes | None:
        if self._chunks is not None:
            self._chunks.feed(self._data)
            return bytes(self._chunks.body) if self._chunks.done else None
        length = head.length or 0
        if len(self._data) < length:
            return None
        body = bytes(self._data[:length])
        del self._data[:length]
        return body


class Connection(Protocol):
    """What the gate needs of a connection of the server."""

    socket: Any
    remote_addr: str | None
    inbox: Inbox
    held: int  # bytes that the gate counts for it

    def close(self) -> None: ...


class _Guest:
    """A connection while it waits."""

    def __init__(self, conn: Connection, deadline: float) -> None:
        self.conn = conn
        self.deadline = deadline
        self.began: float | None = None  # the first byte of this request came
        self.continued = False
        self.lingering = 0  # bytes it may still send us in vain


class Gate:
    """``admit(connection, request)`` is called, in the gate's thread, for each request.

    ``enter`` is for a new connection, ``again`` for one whose response was sent;
    ``left`` must be called once for each that is closed. All are thread-safe.
    ``limits`` may be exchanged: what then begins is held against the new ones.
    """

    def __init__(
        self,
        limits: Limits,
        admit: Callable[[Any, Request], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits = limits
        self._admit = admit
        self._clock = clock
        self._selector = selectors.DefaultSelector()
        self._bell, self._ear = socket.socketpair()
        self._bell.setblocking(False)
        self._ear.setblocking(False)
        self._selector.register(self._ear, selectors.EVENT_READ)
        self._arrivals: deque[Connection] = deque()
        self._guests: dict[Connection, _Guest] = {}
        self._lock = threading.Lock()  # for the two counts
        self._open = 0
        self._buffered = 0
        self._looked = 0.0
        self._turned = threading.Event()
        self.stopping = False
        self._thread = threading.Thread(target=self._run, name="gate", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Close all that wait; nobody enters any more."""
        self.stopping = True
        self._ring()
        self._thread.join()

    def turns(self, seconds: float) -> bool:
        """Whether its thread goes round within so long."""
        if self.stopping or self._thread.ident is None:
            return True  # it need not, or not yet
        self._turned.clear()
        self._ring()
        return self._turned.wait(seconds)

    def enter(self, conn: Connection) -> None:
        with self._lock:
            self._open += 1
            crowded = self._open > self.limits.connections + EXTRA
        if crowded:
            conn.close()
        else:
            self.again(conn)

    def again(self, conn: Connection) -> None:
        conn.inbox.limits = self.limits
        self._count(conn, conn.inbox.size)
        self._arrivals.append(conn)
        if self.stopping:
            self._turn_away()
        self._ring()

    def left(self, conn: Connection) -> None:
        self._count(conn, 0)
        with self._lock:
            self._open -= 1

    def _count(self, conn: Connection, held: int) -> None:
        with self._lock:
            self._buffered += held - conn.held
        conn.held = held

    def _ring(self) -> None:
        with suppress(OSError):  # full of rings already, or stopped
            self._bell.send(b"!")

    # In its thread

    def _run(self) -> None:
        while not self.stopping:
            for key, _ in self._selector.select(TICK if self._guests else None):
                self._guarded(self._read, key.data) if key.data else self._ear.recv(4096)
            while self._arrivals:
                self._guarded(self._receive, self._arrivals.popleft())
            self._look_at_deadlines()
            self._turned.set()
        self._close_all()

    def _guarded(self, step: Callable[[Any], None], who: Any) -> None:
        """Whatever one connection brings about, the others go on."""
        conn = who.conn if isinstance(who, _Guest) else who
        try:
            step(who)
        except OSError:
            self._drop(conn)  # the client is gone
        except Exception:
            LOG.exception("the gate failed on a connection")
            self._drop(conn)

    def _receive(self, conn: Connection) -> None:
        conn.socket.setblocking(False)
        guest = _Guest(conn, self._clock() + self.limits.idle_timeout)
        self._selector.register(conn.socket, selectors.EVENT_READ, guest)
        self._guests[conn] = guest
        if self._open > self.limits.connections:
            self._refuse(guest, _closing(503, "Too many are connected.", ("Retry-After", "1")))
        elif conn.inbox.size:
            self._advance(guest)

    def _read(self, guest: _Guest) -> None:
        try:
            data = guest.conn.socket.recv(RECEIVE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._drop(guest.conn)
        elif guest.lingering:
            guest.lingering -= len(data)
            if guest.lingering <= 0:
                self._drop(guest.conn)
        else:
            guest.conn.inbox.add(data)
            self._advance(guest)

    def _advance(self, guest: _Guest) -> None:
        """After something has come in."""
        conn, limits = guest.conn, self.limits
        if guest.began is None:
            guest.began = self._clock()
        try:
            request = conn.inbox.take()
        except Problem as problem:
            self._refuse(guest, problem)
            return
        if request is not None:
            self._count(conn, conn.inbox.size + len(request.body))
            self._let_through(conn, request)
            return
        self._count(conn, conn.inbox.size)
        head = conn.inbox.head
        guest.deadline = guest.began + (limits.body_timeout if head else limits.head_timeout)
        if head and head.expects and not guest.continued:
            guest.continued = True
            conn.socket.send(_CONTINUE)
        self._relieve()

    def _let_through(self, conn: Connection, request: Request) -> None:
        self._forget(conn)
        conn.socket.settimeout(self.limits.idle_timeout)
        self._admit(conn, request)

    def _relieve(self) -> None:
        """Over the limit of memory, who holds the most goes."""
        while self._buffered > self.limits.buffered and self._guests:
            guest = max(self._guests.values(), key=lambda one: one.conn.held)
            if not guest.conn.held:
                return  # it is all with the workers
            self._refuse(guest, _closing(503, "Too much is being sent.", ("Retry-After", "1")))

    def _look_at_deadlines(self) -> None:
        now = self._clock()
        if now - self._looked < TICK:
            return
        self._looked = now
        for guest in [one for one in self._guests.values() if one.deadline < now]:
            if guest.lingering or guest.began is None:
                self._drop(guest.conn)
            else:
                self._guarded(self._give_up, guest)

    def _give_up(self, guest: _Guest) -> None:
        self._refuse(guest, _closing(408, "The request did not arrive in time."))

    def _refuse(self, guest: _Guest, problem: Problem) -> None:
        """Answer, and let the client read the answer before the connection goes.

        Closing while it still sends would reset the connection, and the answer
        with it.
        """
        conn = guest.conn
        request_id = token_hex(8)
        LOG.info("refused %s, request %s: %s", conn.remote_addr or "-", request_id, problem)
        conn.inbox.clear()
        self._count(conn, 0)
        guest.lingering = LINGER_BYTES
        guest.deadline = self._clock() + LINGER_SECONDS
        try:
            conn.socket.send(_refusal(problem, request_id))
            conn.socket.shutdown(socket.SHUT_WR)
        except OSError:
            self._drop(conn)

    def _drop(self, conn: Connection) -> None:
        self._forget(conn)
        conn.close()

    def _forget(self, conn: Connection) -> None:
        if self._guests.pop(conn, None) is not None:
            self._selector.unregister(conn.socket)

    def _close_all(self) -> None:
        for conn in list(self._guests):
            self._drop(conn)
        self._turn_away()
        self._selector.close()
        self._bell.close()
        self._ear.close()

    def _turn_away(self) -> None:
        with suppress(IndexError):  # there are no more
            while True:
                self._arrivals.popleft().close()


def _closing(status: int, detail: str, *headers: tuple[str, str]) -> Problem:
    return Problem(status, detail, headers=[_CLOSE, *headers])


def _refusal(problem: Problem, request_id: str) -> bytes:
    """A whole response, in XML: what the client accepts may not be known."""
    body = problem.body("xml", "")
    headers = [
        *problem.headers,
        ("Content-Type", "application/problem+xml"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("Date", formatdate(usegmt=True)),
        ("X-Request-ID", request_id),
    ]
    lines = [f"HTTP/1.1 {problem.status} {problem.title}", *(f"{k}: {v}" for k, v in headers)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
