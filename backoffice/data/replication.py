"""Reads to replicas and writes to the primary, inside Storm.

    register()
    store = Store(create_database(
        "mysql-replicated://USER:PASSWORD@db1,db2:3307/DATABASE?replicas=db2:3307,db3"))
    connection = connection_of(store)
    connection.begin_reading(token)    # with no transaction open
    store.find(Job)                    # by a replica that has applied ``token``
    connection.end_reading()
    store.add(Job())                   # by the primary
    store.commit()
    token = position(store)            # for the next read that must see this

There is one Store. Its raw connection is chosen with the first statement of a
transaction and kept until its end; objects keep their identity. Hosts before the
database are candidates for the primary: the one that takes writes is the primary. The
same server may stand in both lists, for failover. Options:

    replicas        HOST[:PORT], or the path of a Unix socket; several with commas
    balance         random, or least-lag
    max_lag         seconds that a replica may be late (10)
    wait            seconds to wait for one to reach what a reader must see (0.5)
    fallback        without a replica: primary, or refuse
    probe           seconds between two looks at each server (0.5)
    retry           the same at most, while a server is down (4)
    connect_timeout whole seconds (2)
    check_after     seconds of idleness after which a connection is tried first (5)

No read is older than ``after``: a replica that has not reached it within ``wait``
is passed over for the primary; without a primary, the read fails. The server itself
refuses a write of a reading transaction (1792). A broken connection raises Storm's
DisconnectionError as usual, and the transaction must be retried; but the first
statement of a reading transaction is tried on another server.

Needs Storm and mysqlclient, and nothing of Backoffice but ``cluster`` and ``gtid``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from storm.database import (
    STATE_CONNECTED,
    STATE_DISCONNECTED,
    ConnectionWrapper,
    register_scheme,
)
from storm.databases import mysql
from storm.exceptions import (
    ConnectionBlockedError,
    DatabaseError,
    DisconnectionError,
    Error,
    OperationalError,
    ProgrammingError,
)
from storm.locals import Store
from storm.tracer import trace
from storm.uri import URI, URIError

from backoffice.data import cluster as nodes
from backoffice.data import gtid
from backoffice.data.cluster import Address, Cluster, Node, Options, Session, Status
from backoffice.data.gtid import Position

SCHEME = "mysql-replicated"
PRIMARY = nodes.PRIMARY
CANNOT_CONNECT, _CLIENT = 2003, 2000  # from there on the client's own errors
READ_ONLY = frozenset({1290, 1836})  # the server is, for every user
# Lost or killed connections; Storm knows of 2006 and 2013 alone.
DISCONNECTED = frozenset({1053, 1079, 1152, 1158, 1159, 1160, 1161, 1927, 2006, 2013, 2055, 4031})


class NodeUnavailable(OperationalError):
    """No server to read from or to write to. Its number is that of the last failure."""


class PrimaryMoved(DisconnectionError):
    """The primary takes no writes any more; the transaction must be retried."""


class TransactionOpen(ProgrammingError):
    """A transaction stays with one server: end it before reading from another."""


# For users ------------------------------------------------------------------


def register() -> None:
    """Make the scheme known to Storm's ``create_database``."""
    register_scheme(SCHEME, Replicated)


def position(store: Store) -> str:
    """What the last transaction of this store has written or may have seen, for
    ``begin_reading``; empty where there are no replicas. Costs a question
    to the server. Raises what any statement may."""
    connection = connection_of(store)
    return str(connection.position()) if connection is not None else ""


def head(store: Store) -> str:
    """All that the server of this transaction has. While reading that may be a
    replica; else it is the primary's."""
    connection = connection_of(store)
    if connection is None:
        return ""
    store.execute("SELECT 1")  # begins one
    return str(connection.position())


def merged(one: str, other: str) -> str:
    """The position after which both are seen. Raises ValueError."""
    return str(gtid.parse(one).merged(gtid.parse(other)))


def status(store: Store) -> list[Status]:
    """Of each server; none where there are no replicas."""
    connection = connection_of(store)
    return connection.cluster.status() if connection is not None else []


def connection_of(store: Store) -> ReplicatedConnection | None:
    """The store's connection, if it is of this module."""
    connection = store._connection
    return connection if isinstance(connection, ReplicatedConnection) else None


# Storm's database -----------------------------------------------------------


def is_disconnection_error(
    connection: object, exc: BaseException, extra_disconnection_errors: tuple[type, ...] = ()
) -> bool:
    """For a class of Storm's connections."""
    return isinstance(exc, (Error, *extra_disconnection_errors)) and _code(exc) in DISCONNECTED


class ReplicatedConnection(mysql.MySQLConnection):
    """Storm's connection to whichever server the transaction is with."""

    _database: Replicated
    is_disconnection_error = is_disconnection_error

    def __init__(self, database: Replicated, event: Any = None) -> None:
        # Not Storm's own: it connects at once, and the server is not chosen yet.
        self._database = database
        self._event = event
        self._raw_connection = None
        self._state = STATE_CONNECTED
        self._sessions: dict[tuple[Node, bool], Session] = {}
        self._session: Session | None = None  # of the open transaction
        self._last: Session | None = None  # of the one before
        self._reading = False
        self._prefer = nodes.REPLICA
        self._after = Position()
        self._untouched = True

    @property
    def cluster(self) -> Cluster:
        return self._database.cluster

    @property
    def node(self) -> Node | None:
        """The server of the open transaction."""
        return self._session.node if self._session is not None else None

    # Reading

    @property
    def is_reading(self) -> bool:
        """Whether transactions that begin now only read."""
        return self._reading

    def begin_reading(self, after: str = "", *, prefer: str = nodes.REPLICA) -> None:
        """Transactions until ``end_reading`` only read, each from one server that has
        applied ``after``, a ``position``. ``prefer`` the primary for what must be as
        new as can be, and must not fail when there is none. Raises TransactionOpen,
        or ValueError if ``after`` is no position."""
        if self._session is not None:
            raise TransactionOpen("a transaction is open: commit or roll back first")
        if self._reading:
            raise TransactionOpen("this connection is reading already")
        self._after = gtid.parse(after)
        self._reading, self._prefer = True, prefer

    def end_reading(self) -> None:
        self._reading, self._after = False, Position()
        if self._session is not None:
            self._session.raw.rollback()
            self._end()

    def position(self) -> Position:
        """All that the server of the last transaction has: who wrote nothing may yet
        have seen what others wrote just before."""
        session = self._session or self._last
        if session is None:
            return Position()
        try:
            return nodes.applied(session.raw, self._database.is_mariadb(session))[1]
        except Error:
            if session is not self._session:
                self._forget(session)
            raise

    # Storm's

    def _ensure_connected(self) -> None:
        if self._blocked:
            raise ConnectionBlockedError("Access to connection is blocked")
        if self._state == STATE_DISCONNECTED:
            raise DisconnectionError("Already disconnected")
        if self._session is None:
            self._begin()
        self._state = STATE_CONNECTED

    def raw_execute(self, statement: str, params: Any = None) -> Any:
        # Once more than there are servers: the connection to each may be broken.
        for tries_left in reversed(range(len(self.cluster.nodes) + 1)):
            first, self._untouched = self._untouched, False
            try:
                return super().raw_execute(statement, params)
            except DisconnectionError:
                if not (first and self._reading and tries_left):
                    raise
                self._end(drop=True)
                self._ensure_connected()
            except DatabaseError as error:
                if self._reading or _code(error) not in READ_ONLY:
                    raise
                assert self._session is not None
                self.cluster.refused_write(self._session.node)
                self._state = STATE_DISCONNECTED
                raise PrimaryMoved(*error.args) from error
        raise AssertionError("unreachable")

    def commit(self, xid: Any = None) -> None:
        if self._session is None and self._state == STATE_CONNECTED:
            trace("connection_commit", self, xid)  # nothing was said to any server
            return
        super().commit(xid)
        self._end()

    def rollback(self, xid: Any = None) -> None:
        broken = self._state != STATE_CONNECTED
        try:
            if self._session is None or broken:
                trace("connection_rollback", self, xid)
            else:
                super().rollback(xid)
        finally:
            self._end(drop=broken or self._raw_connection is None)

    def close(self) -> None:
        self._closed = True
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()
        self._session = self._last = self._raw_connection = None

    # Choosing

    def _begin(self) -> None:
        self._session = self._reader() if self._reading else self._writer()
        self._raw_connection = self._session.raw
        self._untouched = True
        if self._reading:
            self._session.node.reads += 1
        else:
            self._session.node.writes += 1

    def _end(self, drop: bool = False) -> None:
        """The transaction has ended; ``drop``: with its connection."""
        session, self._session = self._session, None
        self._raw_connection, self._state = None, STATE_CONNECTED
        if session is None:
            return
        if drop:
            self._forget(session)
        else:
            session.used = time.monotonic()
            self._last = session

    def _forget(self, session: Session) -> None:
        for key in [key for key, one in self._sessions.items() if one is session]:
            del self._sessions[key]
        if self._last is session:
            self._last = None
        session.close()

    def _reader(self) -> Session:
        options = self.cluster.options
        choices = [self._replica, self._reading_primary]
        if self._prefer == nodes.PRIMARY or not options.replicas:
            choices.reverse()
        elif options.fallback == nodes.REFUSE:
            choices.pop()
        for choose in choices:
            if session := choose():
                return session
        raise self._unavailable("no database server can be read from", self.cluster.nodes.values())

    def _replica(self) -> Session | None:
        """One that has applied what the reader must see, soon enough."""
        may_wait = True
        for node in self.cluster.readers(self._after):
            covered = self.cluster.covers(node, self._after)
            if not (covered or may_wait):
                break  # nor have those after it
            session = self._open(node, reading=True)
            if session is None:
                continue
            if covered or self._reaches(session):
                return session
            may_wait = False
        return None

    def _reading_primary(self) -> Session | None:
        opened = (self._open(node, reading=True) for node in self.cluster.writers())
        return next(filter(None, opened), None)

    def _writer(self) -> Session:
        opened = (self._open(node, reading=False) for node in self.cluster.writers())
        session = next(filter(None, opened), None)
        if session is None:
            raise self._unavailable("no database server takes writes", self.cluster.primaries)
        return session

    def _unavailable(self, text: str, asked: Iterable[Node]) -> NodeUnavailable:
        errors = {node.address: node.error for node in asked if node.error is not None}
        numbers = list(filter(None, map(_code, errors.values())))
        # One that cannot be reached now tells more than one that refuses us.
        number = next(
            (number for number in numbers if number >= _CLIENT), [*numbers, CANNOT_CONNECT][0]
        )
        reasons = "; ".join(f"{address}: {_text(error)}" for address, error in errors.items())
        return NodeUnavailable(number, f"{text} ({reasons})" if reasons else text)

    def _open(self, node: Node, reading: bool) -> Session | None:
        """A connection to it; None if there is none to be had, or it takes no writes."""
        session = self._sessions.get((node, reading))
        if session is not None and self._is_alive(session):
            return session
        try:
            session = Session(node, self._database.connect_to(node.address, reading=reading))
        except Error as error:
            self.cluster.failed(node, error)
            return None
        if not reading and not self._takes_writes(session):
            session.close()
            return None
        self._sessions[node, reading] = session
        return session

    def _is_alive(self, session: Session) -> bool:
        if time.monotonic() - session.used < self.cluster.options.check_after:
            return True
        try:
            session.raw.ping()
            return True
        except Error:
            self._forget(session)
            return False

    def _takes_writes(self, session: Session) -> bool:
        """An administrator's account could write to a replica."""
        try:
            (locked,) = nodes.row(session.raw, "SELECT @@GLOBAL.read_only")
        except Error as error:
            self.cluster.failed(session.node, error)
            return False
        if locked:
            self.cluster.refused_write(session.node)
        return not locked

    def _reaches(self, session: Session) -> bool:
        statement = self._database.wait_statement(session)
        parameters = str(self._after), self.cluster.options.wait
        try:
            (outcome,) = nodes.row(session.raw, statement, parameters)
        except Error as error:
            # A server may just not understand a position of another kind.
            if _code(error) >= _CLIENT or _code(error) in DISCONNECTED:
                self._forget(session)
            return False
        if outcome != 0:
            return False
        self.cluster.reached(session.node, self._after)
        return True


class _Single(mysql.MySQL):
    """Storm's, with all of Unicode, and without a deprecated ping."""

    def __init__(self, uri: URI) -> None:
        super().__init__(uri)
        self._connect_kwargs["charset"] = uri.options.get("charset", "utf8mb4")

    def _raw_connect(self) -> Any:
        return ConnectionWrapper(self._exception_module.connect(**self._connect_kwargs), self)


class Replicated(mysql.MySQL):
    """Storm's database for the scheme. ``make`` gives Storm's database of a single
    server for its URI: replace it in a subclass to connect in another way."""

    connection_factory = ReplicatedConnection

    def __init__(self, uri: URI) -> None:
        self.options = options_of(uri)
        own = uri.copy()
        own.options = {k: v for k, v in uri.options.items() if k not in _CONVERT}
        own.host = own.port = None
        super().__init__(own)
        self._single = own
        self._mariadb: dict[Node, bool] = {}
        self.cluster = Cluster(self.options, self._connect)

    def make(self, uri: URI) -> mysql.MySQL:
        return _Single(uri)

    def connect_to(self, address: Address, *, reading: bool) -> Any:
        """A raw connection. One for reading can do nothing else."""
        raw = self._connect(address, False)
        if reading:
            raw.cursor().execute("SET SESSION TRANSACTION READ ONLY")
        return raw

    def close(self) -> None:
        """Watch the servers no more."""
        self.cluster.close()

    def _connect(self, address: Address, probing: bool) -> Any:
        uri = self._single.copy()
        uri.scheme = "mysql"
        if address.port is None and address.host.startswith("/"):
            uri.options["unix_socket"] = address.host
        else:
            uri.host, uri.port = address.host, address.port
        database = self.make(uri)
        database._connect_kwargs["connect_timeout"] = self.options.connect_timeout
        if probing:
            # mysqlclient's smallest. A server that hangs is found out by this.
            database._connect_kwargs |= {"connect_timeout": 1, "read_timeout": 1}
        return database.raw_connect()

    # MariaDB and MySQL

    def wait_statement(self, session: Session) -> str:
        """Gives 0 once the position is reached."""
        if self.is_mariadb(session):
            return "SELECT MASTER_GTID_WAIT(%s, %s)"
        return "SELECT WAIT_FOR_EXECUTED_GTID_SET(%s, %s)"

    def is_mariadb(self, session: Session) -> bool:
        known = self._mariadb.get(session.node)
        if known is None:
            (version,) = nodes.row(session.raw, "SELECT VERSION()")
            known = self._mariadb[session.node] = nodes.is_mariadb(version)
        return known


# The URI --------------------------------------------------------------------


def _seconds(low: float) -> Callable[[str], float]:
    def convert(text: str) -> float:
        value = float(text)
        if not low <= value <= 86400:
            raise ValueError
        return value

    return convert


def _whole(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 3600:
        raise ValueError
    return value


def _one_of(*values: str) -> Callable[[str], str]:
    def convert(text: str) -> str:
        if text not in values:
            raise ValueError
        return text

    return convert


def _addresses(text: str) -> tuple[Address, ...]:
    return tuple(_address(part.strip()) for part in text.split(",") if part.strip())


def _address(text: str) -> Address:
    if text.startswith("/"):
        return Address(text)
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        return Address(text.strip("[]"), 3306)
    if not host or not 0 < int(port) < 65536:
        raise ValueError
    return Address(host.strip("[]"), int(port))


_CONVERT: Mapping[str, Callable[[str], Any]] = {
    "replicas": _addresses,
    "balance": _one_of(*nodes.BALANCES),
    "max_lag": _seconds(0),
    "wait": _seconds(0),
    "fallback": _one_of(*nodes.FALLBACKS),
    "probe": _seconds(0.05),
    "retry": _seconds(0.05),
    "connect_timeout": _whole,
    "check_after": _seconds(0),
}
_OF_STORM = ("charset",)


def options_of(uri: URI) -> Options:
    """Raises URIError."""
    given: dict[str, Any] = {"replicas": ()}
    for name, text in uri.options.items():
        if name in _OF_STORM:
            continue
        if name not in _CONVERT:
            raise URIError(f"the option {name} is unknown; there are {', '.join(_CONVERT)}")
        try:
            given[name] = _CONVERT[name](text)
        except ValueError:
            raise URIError(f"the option {name} is wrong") from None
    try:
        host = f"{uri.host}:{uri.port}" if uri.port is not None else uri.host or ""
        primaries = _addresses(host)
    except ValueError:
        raise URIError("the hosts are wrong: HOST or HOST:PORT, several with commas") from None
    if not primaries:
        raise URIError("no host is named for the primary")
    return Options(primaries=primaries, **given)


def _code(error: BaseException | None) -> int:
    first = error.args[0] if error is not None and error.args else 0
    return first if isinstance(first, int) else 0


def _text(error: BaseException | None) -> str:
    return str(error.args[-1]) if error is not None and error.args else str(error)
