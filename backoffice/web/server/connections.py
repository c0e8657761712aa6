"""Connections: a loop that reads whole requests and finishes slow responses.

One thread reads them all without blocking, and sends what is left of responses,
so that a slow client costs no worker anything. It owns deadlines, limits and the
refusal of what is not framed strictly; it runs no application and writes no
responses but refusals.
"""

from __future__ import annotations

import logging
import selectors
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate
from functools import cached_property
from secrets import token_hex
from typing import Any, Protocol

from backoffice.web.server.outbox import Outbox
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
from middleware.rate_limit import network_of
from middleware.trusted_proxy import Peers

LOG = logging.getLogger("backoffice.web")
RECEIVE = 64 * 1024  # bytes read at once
LINGER_SECONDS = 2.0
LINGER_BYTES = 16 << 20  # of a client that sends its whole body before it reads
EXTRA = 200  # connections over the limit until the loop sees them; further ones are closed
TICK = 0.2  # seconds between looks at the deadlines

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_CLOSE = ("Connection", "close")


@dataclass(frozen=True)
class Limits:
    """Times are in seconds, sizes in bytes.

    ``head_timeout`` and ``body_timeout`` count from a request's first byte;
    ``idle_timeout`` is for a connection that sends none. ``send_rate`` is in bytes
    a second: so much a client must take of a response that waits for it, as a mean
    over ``send_timeout``. ``connections`` are all that are open; ``per_client`` of
    them may be of one address, unless it is one of ``proxies``, which are named as
    TrustedProxy has them. ``buffered`` is of all requests and responses in memory
    together. Header fields that are ``singletons``, in lower case, may come once.
    """

    head_timeout: float = 10.0
    body_timeout: float = 30.0
    idle_timeout: float = 30.0
    send_timeout: float = 30.0
    send_rate: int = 4096
    body: int = 16 << 20
    head: int = MAX_HEAD
    target: int = MAX_TARGET
    buffered: int = 128 << 20
    connections: int = 500
    per_client: int = 100
    proxies: tuple[str, ...] = ("unix",)
    singletons: frozenset[bytes] = SINGLETONS

    def client(self, address: str | None) -> str:
        """Whose connections are counted together; empty for a proxy, whose clients
        are many."""
        return "" if self._believed(address or "") else network_of(address or "")

    @cached_property
    def _believed(self) -> Peers:
        return Peers(self.proxies)


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
        limits = self.limits
        sizes = {"max_target": limits.target, "max_head": limits.head}
        if end < 0:
            check_start(self._data, self._seen, **sizes)
            # A lone CR may become that empty line.
            self._seen = len(self._data) if self._data != b"\r" else 0
            return
        head = check_head(bytes(self._data[: end + 4]), singletons=limits.singletons, **sizes)
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
    """What the loop needs of a connection of the server."""

    socket: Any
    remote_addr: str | None
    client: str | None  # whose it is, once it was let in; see Limits.client
    inbox: Inbox
    outbox: Outbox
    ending: bool  # it is closed when its response was taken
    held: int  # bytes that the loop counts for it

    def close(self) -> None: ...


class _Waiting:
    """A connection while it waits."""

    def __init__(self, conn: Connection, deadline: float) -> None:
        self.conn = conn
        self.deadline = deadline
        self.sending = False  # its response is being taken
        self.began: float | None = None  # the first byte of this request came
        self.continued = False
        self.lingering = 0  # bytes it may still send us in vain

    @property
    def idle(self) -> bool:
        """Closing it interrupts nothing."""
        return not self.sending and (self.began is None or self.lingering > 0)


class ConnectionLoop:
    """``admit(connection, request)`` is called, in the loop's thread, for each request.

    ``enter`` is for a new connection, ``again`` for one whose response was made;
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
        self._wake_sender, self._wake_receiver = socket.socketpair()
        self._wake_sender.setblocking(False)
        self._wake_receiver.setblocking(False)
        self._selector.register(self._wake_receiver, selectors.EVENT_READ)
        self._new: deque[Connection] = deque()
        self._returned: deque[Connection] = deque()
        self._waiting: dict[Connection, _Waiting] = {}  # who came first stands first
        self._lock = threading.Lock()  # for the three counts
        self._open = 0
        self._clients: Counter[str] = Counter()  # connections that were let in
        self._buffered = 0
        self._looked = 0.0
        self._turned = threading.Event()
        self.stopping = False
        self._ends: float | None = None  # by the clock
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="connections", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Close all that wait but for the rest of a response, and let none in."""
        self.stopping = True
        self._wake()

    def finish(self, seconds: float) -> None:
        """After ``stop``: end when all responses were taken, or so much later."""
        self._ends = self._clock() + seconds
        self._wake()
        self._thread.join()

    def turns(self, seconds: float) -> bool:
        """Whether its thread goes round within so long."""
        if self.stopping or self._thread.ident is None:
            return True  # it need not, or not yet
        self._turned.clear()
        self._wake()
        return self._turned.wait(seconds)

    @property
    def connections(self) -> int:
        return self._open

    def enter(self, conn: Connection) -> None:
        with self._lock:
            self._open += 1
            crowded = self._open > self.limits.connections + EXTRA
        if crowded:
            conn.close()
        else:
            self._new.append(conn)
            if self._ended:
                self._turn_away()
            self._wake()

    def again(self, conn: Connection) -> None:
        conn.inbox.limits = self.limits
        self._count(conn, conn.inbox.size + conn.outbox.pending)
        self._returned.append(conn)
        if self._ended:
            self._turn_away()
        self._wake()

    def left(self, conn: Connection) -> None:
        self._count(conn, 0)
        with self._lock:
            self._open -= 1
            if conn.client is not None:
                self._clients[conn.client] -= 1
                if not self._clients[conn.client]:
                    del self._clients[conn.client]

    def _count(self, conn: Connection, held: int) -> None:
        with self._lock:
            self._buffered += held - conn.held
        conn.held = held

    def _wake(self) -> None:
        with suppress(OSError):  # full already, or stopped
            self._wake_sender.send(b"!")

    # In its thread

    def _run(self) -> None:
        while not self._over():
            for key, _ in self._selector.select(TICK if self._waiting or self.stopping else None):
                self._guarded(self._serve, key.data) if key.data else self._wake_receiver.recv(4096)
            while self._new:
                self._guarded(self._greet, self._new.popleft())
            while self._returned:
                self._guarded(self._receive, self._returned.popleft())
            self._look_at_deadlines()
            self._turned.set()
        self._close_all()

    def _over(self) -> bool:
        """Once it is stopping, only who takes a response stays."""
        if not self.stopping:
            return False
        for waiting in [one for one in self._waiting.values() if not one.sending]:
            self._drop(waiting.conn)
        if self._ends is None:
            return False
        return not (self._waiting or self._returned) or self._clock() >= self._ends

    def _guarded(self, step: Callable[[Any], None], who: Any) -> None:
        """Whatever one connection brings about, the others go on."""
        conn = who.conn if isinstance(who, _Waiting) else who
        try:
            step(who)
        except OSError:
            self._drop(conn)  # the client is gone
        except Exception:
            LOG.exception("the loop failed on a connection")
            self._drop(conn)

    def _greet(self, conn: Connection) -> None:
        """A new connection."""
        conn.socket.setblocking(False)
        conn.client = self.limits.client(conn.remote_addr)
        with self._lock:
            self._clients[conn.client] += 1
        crowd = self._crowd(conn.client)
        waiting = self._take_in(conn)
        if crowd:
            self._refuse(waiting, _closing(503, crowd, ("Retry-After", "1")))

    def _receive(self, conn: Connection) -> None:
        """Its response was made."""
        waiting = self._take_in(conn)
        if waiting.sending:
            self._relieve()
        else:
            self._go_on(waiting)

    def _take_in(self, conn: Connection) -> _Waiting:
        waiting = _Waiting(conn, self._clock() + self.limits.idle_timeout)
        waiting.sending = bool(conn.outbox.pending)
        event = selectors.EVENT_WRITE if waiting.sending else selectors.EVENT_READ
        self._selector.register(conn.socket, event, waiting)
        self._waiting[conn] = waiting
        return waiting

    def _crowd(self, client: str) -> str:
        """Why there is no room for a new connection; empty if there is. Who only
        waits goes first, longest first, and of the client that has most."""
        limits = self.limits
        if self._clients.total() > limits.connections and not self._make_room(
            self._waiting.values()
        ):
            return "Too many are connected."
        if client and self._clients[client] > limits.per_client:
            own = [one for one in self._waiting.values() if one.conn.client == client]
            if not self._make_room(own):
                return "Too many are connected from this address."
        return ""

    def _make_room(self, some: Iterable[_Waiting]) -> bool:
        idle = [waiting for waiting in some if waiting.idle]
        if not idle:
            return False
        # Who was refused already has less to lose than anyone else.
        last = max(idle, key=lambda one: (one.lingering > 0, self._clients[one.conn.client or ""]))
        self._drop(last.conn)
        return True

    def _serve(self, waiting: _Waiting) -> None:
        """Its socket is ready, unless it was closed meanwhile to make room."""
        if self._waiting.get(waiting.conn) is not waiting:
            return
        if waiting.sending:
            self._send(waiting)
        else:
            self._read(waiting)

    def _send(self, waiting: _Waiting) -> None:
        conn = waiting.conn
        left = not conn.outbox.flush()
        self._count(conn, conn.inbox.size + conn.outbox.pending)
        if left:
            return
        waiting.sending = False
        waiting.deadline = self._clock() + self.limits.idle_timeout
        self._selector.modify(conn.socket, selectors.EVENT_READ, waiting)
        self._go_on(waiting)

    def _go_on(self, waiting: _Waiting) -> None:
        """All of its response is on its way."""
        if waiting.conn.ending:
            self._drop(waiting.conn)
        elif waiting.conn.inbox.size:
            self._advance(waiting)

    def _read(self, waiting: _Waiting) -> None:
        try:
            data = waiting.conn.socket.recv(RECEIVE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._drop(waiting.conn)
        elif waiting.lingering:
            waiting.lingering -= len(data)
            if waiting.lingering <= 0:
                self._drop(waiting.conn)
        else:
            waiting.conn.inbox.add(data)
            self._advance(waiting)

    def _advance(self, waiting: _Waiting) -> None:
        """After something has come in."""
        conn, limits = waiting.conn, self.limits
        if waiting.began is None:
            waiting.began = self._clock()
        try:
            request = conn.inbox.take()
        except Problem as problem:
            self._refuse(waiting, problem)
            return
        if request is not None:
            self._count(conn, conn.inbox.size + len(request.body))
            self._let_through(conn, request)
            return
        self._count(conn, conn.inbox.size)
        head = conn.inbox.head
        waiting.deadline = waiting.began + (limits.body_timeout if head else limits.head_timeout)
        if head and head.expects and not waiting.continued:
            waiting.continued = True
            conn.socket.send(_CONTINUE)
        self._relieve()

    def _let_through(self, conn: Connection, request: Request) -> None:
        self._forget(conn)
        self._admit(conn, request)

    def _relieve(self) -> None:
        """Over the limit of memory, who holds the most goes."""
        while self._buffered > self.limits.buffered and self._waiting:
            waiting = max(self._waiting.values(), key=lambda one: one.conn.held)
            if not waiting.conn.held:
                return  # it is all with the workers
            if waiting.sending:
                self._cut(waiting, "too much waits for clients, and most of it for this one")
            else:
                self._refuse(
                    waiting, _closing(503, "Too much is being sent.", ("Retry-After", "1"))
                )

    def _look_at_deadlines(self) -> None:
        now = self._clock()
        if now - self._looked < TICK:
            return
        self._looked = now
        for waiting in list(self._waiting.values()):
            if waiting.sending:
                if waiting.conn.outbox.late():
                    self._cut(waiting, "it takes its response too slowly")
            elif waiting.deadline >= now:
                continue
            elif waiting.idle:
                self._drop(waiting.conn)
            else:
                self._guarded(self._give_up, waiting)

    def _give_up(self, waiting: _Waiting) -> None:
        self._refuse(waiting, _closing(408, "The request did not arrive in time."))

    def _refuse(self, waiting: _Waiting, problem: Problem) -> None:
        """Answer, and let the client read the answer before the connection goes.

        Closing while it still sends would reset the connection, and the answer
        with it.
        """
        conn = waiting.conn
        request_id = token_hex(8)
        LOG.info("refused %s, request %s: %s", conn.remote_addr or "-", request_id, problem)
        conn.inbox.clear()
        self._count(conn, 0)
        waiting.lingering = LINGER_BYTES
        waiting.deadline = self._clock() + LINGER_SECONDS
        try:
            conn.socket.send(_refusal(problem, request_id))
            conn.socket.shutdown(socket.SHUT_WR)
        except OSError:
            self._drop(conn)

    def _cut(self, waiting: _Waiting, reason: str) -> None:
        LOG.info("closed %s: %s", waiting.conn.remote_addr or "-", reason)
        waiting.conn.outbox.abort()
        self._drop(waiting.conn)

    def _drop(self, conn: Connection) -> None:
        self._forget(conn)
        conn.outbox.discard()
        conn.close()

    def _forget(self, conn: Connection) -> None:
        if self._waiting.pop(conn, None) is not None:
            self._selector.unregister(conn.socket)

    def _close_all(self) -> None:
        self._ended = True
        for conn in list(self._waiting):
            self._drop(conn)
        self._turn_away()
        self._selector.close()
        self._wake_sender.close()
        self._wake_receiver.close()

    def _turn_away(self) -> None:
        for queue in (self._new, self._returned):
            with suppress(IndexError):  # there are no more
                while True:
                    self._drop(queue.popleft())


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
