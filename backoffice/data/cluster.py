"""Cluster of a replicated MySQL or MariaDB: which servers are up, which takes writes,
how late each replica is.

Each node has a thread that asks it every ``probe`` seconds. So a node that hangs is
noticed while a statement waits for it: its connections are cut, and the statement
fails at once instead of after a time limit. Owns what is known and which node to
choose; ``replication`` owns connections and transactions. Uses nothing but
mysqlclient, through the ``connect`` that it is given.

To know how late a replica is needs no privilege and only this host's clock: a replica
is as late as the time since when the first position that it lacks has been known here.
"""

from __future__ import annotations

import logging
import math
import os
import random
import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from backoffice.data import gtid
from backoffice.data.gtid import Position

PRIMARY, REPLICA = ROLES = "primary", "replica"
UP, LATE, DOWN = STATES = "up", "late", "down"
RANDOM, LEAST_LAG = BALANCES = "random", "least-lag"
TO_PRIMARY, REFUSE = FALLBACKS = "primary", "refuse"
HEADS = 1000  # positions of the writer that are remembered

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Address:
    """A host and port, or the path of a Unix socket."""

    host: str
    port: int | None = None

    def __str__(self) -> str:
        return self.host if self.port is None else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Options:
    """Times are in seconds."""

    primaries: tuple[Address, ...]  # the candidates; the one that takes writes is it
    replicas: tuple[Address, ...]
    balance: str = RANDOM
    max_lag: float = 10.0  # of a replica that is read from
    wait: float = 0.5  # for a replica to reach what a reader must see
    fallback: str = TO_PRIMARY  # where reads go without a replica
    probe: float = 0.5  # between two looks at a node
    retry: float = 4.0  # the same, at most, while it is down
    connect_timeout: int = 2
    check_after: float = 5.0  # idle time after which a connection is tried first


Connect = Callable[[Address, bool], Any]  # with True: for a probe, with short time limits


class Session:
    """A connection to a node. Others may ``cut`` it while its owner waits."""

    def __init__(self, node: Node, raw: Any) -> None:
        self.node = node
        self.raw = raw
        self.used = time.monotonic()
        self._number = raw.fileno()
        self._socket = os.fstat(self._number)
        node.enter(self)

    def close(self) -> None:
        self.node.leave(self)
        with suppress(Exception):
            self.raw.close()

    def cut(self) -> None:
        """From another thread. The client library may have closed the socket, and its
        number may have been reused: only the same socket is cut."""
        try:
            copy = os.dup(self._number)
        except OSError:  # it is closed
            return
        if os.path.samestat(os.fstat(copy), self._socket):
            with socket.socket(fileno=copy) as own, suppress(OSError):
                own.shutdown(socket.SHUT_RDWR)
        else:
            os.close(copy)


class Node:
    """What is known of one server. ``lag`` is in seconds; None: not known."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.up = True  # until a look shows otherwise
        self.writable: bool | None = None
        self.error: BaseException | None = None  # why it is down
        self.position = Position()
        self.lag: float | None = None
        self.reads = self.writes = 0  # transactions
        self.misses = 0  # looks that failed, in a row
        self.looked = threading.Event()
        self._sessions: set[Session] = set()
        self._lock = threading.Lock()

    def enter(self, session: Session) -> None:
        with self._lock:
            self._sessions.add(session)

    def leave(self, session: Session) -> None:
        with self._lock:
            self._sessions.discard(session)

    def cut(self) -> None:
        with self._lock:
            sessions = list(self._sessions)
        for session in sessions:
            session.cut()


@dataclass(frozen=True)
class Status:
    """A node for those who look. A replica is late too while its lag is not known."""

    name: str
    role: str  # of ROLES
    state: str  # of STATES
    lag: float | None  # seconds; infinite: for longer than this process has looked
    reads: int  # transactions of this process
    writes: int
    share: float  # of all reads, 0 to 1
    error: str


@dataclass
class Cluster:
    """All nodes. Safe to use from many threads; open it after a fork, not before."""

    options: Options
    connect: Connect
    nodes: dict[Address, Node] = field(init=False)
    writer: Node | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        every = (*self.options.primaries, *self.options.replicas)
        self.nodes = {address: Node(address) for address in every}
        self.primaries = [self.nodes[one] for one in dict.fromkeys(self.options.primaries)]
        self.replicas = [self.nodes[one] for one in dict.fromkeys(self.options.replicas)]
        self._heads: deque[tuple[float, Position]] = deque(maxlen=HEADS)
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._watched = False

    def close(self) -> None:
        """Look no more."""
        self._closed.set()

    # Choosing

    def readers(self, after: Position) -> list[Node]:
        """Replicas that may be read from, the best first; those that are known to
        cover ``after`` before the others."""
        self._watch(self.nodes.values())
        found = [node for node in self.replicas if self._may_read(node)]
        random.shuffle(found)
        if self.options.balance == LEAST_LAG:
            found.sort(key=lambda node: node.lag or 0.0)
        return sorted(found, key=lambda node: not self.covers(node, after))

    def writers(self) -> list[Node]:
        """Nodes that may take writes, the last known writer first."""
        self._watch(self.primaries)
        found = [node for node in self.primaries if node.up and node.writable is not False]
        return sorted(found, key=lambda node: node is not self.writer)

    def takes_writes(self) -> bool:
        """Whether there is a writer, as far as is known; does not wait."""
        self._watch(())
        return self.writer is not None or not all(node.looked.is_set() for node in self.primaries)

    def covers(self, node: Node, after: Position) -> bool:
        return node is self.writer or node.position.covers(after)

    def _may_read(self, node: Node) -> bool:
        """Without a writer no replica falls behind, and any answer is better than none."""
        if not node.up:
            return False
        return self.writer is None or node is self.writer or self._is_fresh(node)

    def _is_fresh(self, node: Node) -> bool:
        return node.lag is not None and node.lag <= self.options.max_lag

    # What others have seen

    def reached(self, node: Node, position: Position) -> None:
        with self._lock:
            node.position = node.position.merged(position)

    def failed(self, node: Node, error: BaseException) -> None:
        """It cannot be connected to."""
        with self._lock:
            if node.up:
                _log.warning("database node %s is down: %s", node.address, error)
            node.up = False
            node.error = error
            if node is self.writer:
                self._elect()
        node.cut()

    def refused_write(self, node: Node) -> None:
        """It takes no writes (any more)."""
        with self._lock:
            if node.writable is not False:
                _log.warning("database node %s takes no writes", node.address)
            node.writable = False
            self._elect()

    def status(self) -> list[Status]:
        """Of each node, the writer first."""
        self._watch(self.nodes.values())
        total = sum(node.reads for node in self.nodes.values()) or 1
        nodes = sorted(self.nodes.values(), key=lambda node: node is not self.writer)
        return [
            Status(
                name=str(node.address),
                role=PRIMARY if self._is_primary(node) else REPLICA,
                state=self._state(node),
                lag=0.0 if node is self.writer else node.lag,
                reads=node.reads,
                writes=node.writes,
                share=node.reads / total,
                error=str(node.error or ""),
            )
            for node in nodes
        ]

    def _is_primary(self, node: Node) -> bool:
        """The writer is; without one, those that could be."""
        return node is self.writer or (self.writer is None and node not in self.replicas)

    def _state(self, node: Node) -> str:
        if not node.up:
            return DOWN
        return UP if node not in self.replicas or self._may_read(node) else LATE

    # Looking

    def _watch(self, wanted: Iterable[Node]) -> None:
        """The first caller waits until something is known of those nodes."""
        if not self._watched:
            with self._lock:
                if not self._watched:
                    self._watched = True
                    for node in self.nodes.values():
                        _thread(self, node, self._closed)
        for node in wanted:
            node.looked.wait(self.options.connect_timeout + 1)

    def _look(self, node: Node, eye: Eye) -> float:
        """Ask it how it is; returns the seconds until the next look."""
        try:
            writable, position = eye.look()
        except Exception as error:
            node.misses += 1
            self.failed(node, error)
        else:
            with self._lock:
                self._saw(node, writable, position)
        node.looked.set()
        pause = self.options.probe * 2.0 ** min(16, max(0, node.misses - 1))
        return min(pause, max(self.options.probe, self.options.retry))

    def _saw(self, node: Node, writable: bool, position: Position) -> None:
        if not node.up:
            _log.warning("database node %s is back", node.address)
        node.up, node.misses, node.error = True, 0, None
        node.writable = writable
        node.position = position
        self._elect()
        if node is self.writer:
            self._note_head(position)
        elif self.writer is not None:
            node.lag = self._lag(position)

    def _elect(self) -> None:
        """The writer stays as long as it can. Of several others that take writes,
        which should not be, it is the one that has come furthest."""
        able = [one for one in self.primaries if one.up and one.writable]
        if self.writer in able:
            return
        former, self.writer = self.writer, None
        for one in able:
            if self.writer is None or not self.writer.position.covers(one.position):
                self.writer = one
        if len(able) > 1:
            names = ", ".join(str(one.address) for one in able)
            _log.error("several database nodes take writes: %s", names)
        if self.writer is not None:
            self._heads.clear()
            _log.info("writes go to database node %s", self.writer.address)
        elif former is not None:
            _log.error("no database node takes writes")

    def _note_head(self, position: Position) -> None:
        if not self._heads:
            # Since when it has been there is not known.
            self._heads.append((-math.inf, position))
        elif not self._heads[-1][1].covers(position):
            self._heads.append((time.monotonic(), position))

    def _lag(self, position: Position) -> float | None:
        if not self._heads:
            return None
        for seen, head in self._heads:
            if not position.covers(head):
                return time.monotonic() - seen
        return 0.0


class Eye:
    """Asks one node how it is, by a connection of its own."""

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self._raw: Any = None
        self._mariadb = True

    def look(self) -> tuple[bool, Position]:
        """Whether it takes writes, and what it has applied."""
        try:
            if self._raw is None:
                self._open()
            return applied(self._raw, self._mariadb)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._raw is not None:
            with suppress(Exception):
                self._raw.close()
            self._raw = None

    def _open(self) -> None:
        self._raw = self._connect()
        self._raw.autocommit(True)
        (version,) = row(self._raw, "SELECT VERSION()")
        self._mariadb = is_mariadb(version)


def applied(raw: Any, mariadb: bool) -> tuple[bool, Position]:
    """Whether a server takes writes, and what it has applied."""
    if not mariadb:
        locked, executed = row(raw, "SELECT @@GLOBAL.read_only, @@GLOBAL.gtid_executed")
        return not locked, gtid.parse(executed)
    locked, written, replicated = row(
        raw, "SELECT @@GLOBAL.read_only, @@GLOBAL.gtid_binlog_pos, @@GLOBAL.gtid_slave_pos"
    )
    return not locked, gtid.parse(written).merged(gtid.parse(replicated))


def row(raw: Any, statement: str, parameters: Sequence[object] = ()) -> tuple[Any, ...]:
    """The one row that a raw connection gives for it."""
    cursor = raw.cursor()
    try:
        cursor.execute(statement, tuple(parameters))
        found: tuple[Any, ...] = cursor.fetchone()
        return found
    finally:
        cursor.close()


def is_mariadb(version: str) -> bool:
    return "mariadb" in version.lower()


def _thread(cluster: Cluster, node: Node, closed: threading.Event) -> None:
    """It must not keep a cluster alive that is not used any more."""
    known = weakref.ref(cluster)
    address = node.address

    def connect() -> Any:
        alive = known()
        assert alive is not None  # it looks by this eye
        return alive.connect(address, True)

    eye = Eye(connect)

    def loop() -> None:
        pause = 0.0
        while not closed.wait(pause) and (alive := known()) is not None:
            pause = alive._look(node, eye)
            del alive
        eye.close()

    threading.Thread(target=loop, name=f"watch {address}", daemon=True).start()
