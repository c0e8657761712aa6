"""Storm stores over SQLite and MySQL, and transactions that are retried whole.

Owns connections, isolation, clocks, what counts as a passing fault, and the
few places where the two dialects differ. Knows no table but by name.

    database = Database(settings.database)
    job = database.transact(jobs.submit, request, actor="alice")

A function given to ``transact`` gets the store first. It may run more than
once: after a deadlock, a lock wait or a broken connection the transaction is
rolled back and run again from its start, also when the connection broke while
the commit was under way and nobody knows whether it took. So it must read
whatever it decides upon, change nothing outside the database, and recognise
its own work.

Whoever drives the transaction of a whole request instead takes the store with
``request_store``, commits or rolls back, asks ``passing`` whether to run the
request again, and in any case ends with ``release``.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from storm.cache import Cache
from storm.database import Connection, ConnectionWrapper
from storm.databases import mysql as storm_mysql
from storm.databases import sqlite as storm_sqlite
from storm.exceptions import (
    DatabaseError,
    DatabaseModuleError,
    DisconnectionError,
    Error,
    wrap_exceptions,
)
from storm.locals import Store
from storm.uri import URI, URIError

from backoffice import nodes, replication, tally
from backoffice.config import DatabaseSettings
from backoffice.errors import (
    BackofficeError,
    ConfigError,
    DatabaseUnavailable,
    Invalid,
    SchemaMismatch,
)

P = ParamSpec("P")
T = TypeVar("T")

LOCK_WAIT, DEADLOCK, SNAPSHOT_CHANGED = 1205, 1213, 1020
NO_SUCH_TABLE = 1146
DUPLICATE = 1062  # two inserted the same at once: the second then finds it
INTERRUPTED = 1317  # KILL QUERY
RETRIED = {
    **{LOCK_WAIT: "lock_wait", DEADLOCK: "deadlock", SNAPSHOT_CHANGED: "snapshot"},
    **{DUPLICATE: "duplicate", INTERRUPTED: "interrupted"},
}
REFUSED = frozenset({1044, 1045, 1049, 1130, 1698, 1251})
AWAY = frozenset({1040, 1203, 1226, 2002, 2003, 2005})

# One statement, for servers that name the isolation differently: MariaDB reads
# /*M! and skips /*!80000, MySQL the other way round. A client that was cut off
# or stopped in the midst of a transaction would hold its locks for hours: the
# server ends it. MySQL can do so only to whoever is silent, and we come again.
_SESSION = (
    "SET time_zone = '+00:00', innodb_lock_wait_timeout = {lock_wait},"
    " sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')"
    " /*M!100300 , tx_isolation = 'READ-COMMITTED', idle_transaction_timeout = {idle} */"
    " /*!80000 , transaction_isolation = 'READ-COMMITTED', wait_timeout = 60 */"
)

FULL, READ_ONLY = frozenset({1021, 1114}), frozenset({1290, 1792, 1836})
UNWRITABLE = FULL | READ_ONLY
# What SQLite says of files rather than of statements.
_TROUBLE = ("unable to open", "disk is full", "readonly", "disk I/O", "malformed", "not a database")

_log = logging.getLogger(__name__)

TRIES = 8  # of one transaction; with the pauses below, about three seconds


def _forward(name: str) -> Callable[..., Any]:
    def call(self: _Cursor, *args: Any) -> Any:
        try:
            return getattr(self.cursor, name)(*args)
        except Exception:
            with wrap_exceptions(self.database):
                raise

    return call


class _Cursor:
    """A driver's cursor whose errors are Storm's. Storm's own wrapper makes a
    new function for each call, which cost a third of a submit."""

    __slots__ = ("cursor", "database")

    def __init__(self, cursor: Any, database: Any) -> None:
        self.cursor = cursor
        self.database = database

    execute = _forward("execute")
    fetchone = _forward("fetchone")
    fetchmany = _forward("fetchmany")
    fetchall = _forward("fetchall")
    close = _forward("close")

    @property
    def rowcount(self) -> int:
        return int(self.cursor.rowcount)

    @property
    def lastrowid(self) -> int:
        return int(self.cursor.lastrowid)

    @property
    def arraysize(self) -> int:
        return int(self.cursor.arraysize)

    @arraysize.setter
    def arraysize(self, value: int) -> None:
        self.cursor.arraysize = value


class _LightCursors:
    """For a Storm connection: see :class:`_Cursor`."""

    _raw_connection: Any
    _database: Any

    def build_raw_cursor(self) -> _Cursor:
        # The wrapper's own attribute: asking it for one by name is what costs.
        connection = self._raw_connection.__dict__["_connection"]
        with wrap_exceptions(self._database):
            return _Cursor(connection.cursor(), self._database)


class _Inserted:
    """A result that knows the id its INSERT was given."""

    _raw_cursor: Any

    @property
    def inserted_id(self) -> int:
        number: int = self._raw_cursor.lastrowid
        return number


class MySQLResult(_Inserted, storm_mysql.MySQLResult):
    pass


class _MySQLConnection(_LightCursors):
    result_factory = MySQLResult
    is_disconnection_error = replication.is_disconnection_error


class MySQLConnection(_MySQLConnection, storm_mysql.MySQLConnection):
    pass


class ReplicatedConnection(_MySQLConnection, replication.ReplicatedConnection):
    pass


class MySQL(storm_mysql.MySQL):
    """Storm's MySQL with the settings that Storm's URI drops in silence.

    The session settings go into ``init_command`` because a reconnect would
    lose a plain SET. FOUND_ROWS makes ``rowcount`` count matched rows, which
    fencing rests on.
    """

    connection_factory = MySQLConnection

    def __init__(self, uri: URI, timeout: float) -> None:
        super().__init__(uri)
        from MySQLdb.constants import CLIENT

        seconds = max(1, round(timeout))
        self._connect_kwargs |= {
            "charset": "utf8mb4",
            "client_flag": CLIENT.FOUND_ROWS,
            "multi_statements": False,
            "connect_timeout": seconds,
            "read_timeout": seconds,
            "write_timeout": seconds,
            "init_command": _SESSION.format(lock_wait=max(1, seconds // 2), idle=max(5, seconds)),
        }

    def _raw_connect(self) -> Any:
        # Without Storm's ping(False): its argument is deprecated, and no server
        # or client of today reconnects by itself.
        return ConnectionWrapper(self._exception_module.connect(**self._connect_kwargs), self)


class ReplicatedMySQL(replication.Replicated):
    """The same for each server of a replicated one."""

    connection_factory = ReplicatedConnection

    def __init__(self, uri: URI, timeout: float) -> None:
        self._timeout = timeout
        super().__init__(uri)

    def make(self, uri: URI) -> MySQL:
        return MySQL(uri, self._timeout)


class SQLiteResult(_Inserted, storm_sqlite.SQLiteResult):
    pass


class SQLiteConnection(_LightCursors, storm_sqlite.SQLiteConnection):
    """Begins at once as a writer: a deferred transaction that reads first and
    writes later fails with BUSY whatever the timeout."""

    result_factory = SQLiteResult

    def raw_execute(
        self, statement: str, params: Sequence[Any] | None = None, _end: bool = False
    ) -> Any:
        if _end:
            self._in_transaction = False
        elif not self._in_transaction:
            self._raw_connection.execute(self._database.begin)
            self._in_transaction = True
        return Connection.raw_execute(self, statement, params)


class SQLite(storm_sqlite.SQLite):
    connection_factory = SQLiteConnection

    def __init__(self, uri: URI, timeout: float) -> None:
        super().__init__(uri)
        self._timeout = max(5.0, timeout)
        self._mode = threading.local()

    @property
    def begin(self) -> str:
        return "BEGIN" if getattr(self._mode, "reading", False) else "BEGIN IMMEDIATE"

    def reading(self, value: bool) -> bool:
        """Whether this thread will only read; returns what it was before."""
        before: bool = getattr(self._mode, "reading", False)
        self._mode.reading = value
        return before

    def _raw_connect(self) -> Any:
        connection = super()._raw_connect()
        self._write_ahead(connection)
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    def _write_ahead(self, connection: Any) -> None:
        """SQLite itself does not wait for its turn here: of several that open
        a new database at once, some would be told that it is locked."""
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                return
            except DatabaseError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
            time.sleep(0.01)


def code(error: BaseException) -> int:
    """MySQL's number of an error; 0 when it has none (SQLite)."""
    first = error.args[0] if error.args else 0
    return first if isinstance(first, int) else 0


class Database:
    """Stores on one database, one a thread. Open it after a fork, not before.

    With ``replicas`` requests that only read are served by those that the
    settings name, if any, and ``read`` by them when there is no primary. None is
    used that has not all that was there when the first request came: whoever has
    looked at the schema before finds it so on each. Without, all is done by the
    primary, which is what whoever decides something needs.
    """

    def __init__(self, settings: DatabaseSettings, *, replicas: bool = False) -> None:
        self._settings = settings
        self._replicas = replicas
        self._floor: str | None = None  # what every replica must have
        self._local = threading.local()
        self.dialect, self._storm = _storm_database(settings)

    @property
    def mysql(self) -> bool:
        return self.dialect == "mysql"

    def store(self) -> Store:
        """This thread's store; raises DatabaseUnavailable."""
        store: Store | None = getattr(self._local, "store", None)
        if store is None:
            try:
                # What nobody refers to is let go of: Storm would keep a thousand
                # objects a thread, for transactions that ended long ago.
                store = self._local.store = Store(self._storm, Cache(0))
            except Error as error:
                raise _unavailable(error) from error
        return store

    def close(self) -> None:
        store: Store | None = getattr(self._local, "store", None)
        if store is not None:
            self._local.store = None
            store.close()

    def transact(
        self, function: Callable[Concatenate[Store, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run ``function(store, …)`` and commit; again from its start when the
        database asks for it. Raises DatabaseUnavailable, or what it raises.

        A server that does not answer at all is waited for once: whoever called
        has other things to look after.
        """
        began = time.monotonic()
        for number in range(1, TRIES + 1):
            try:
                return self._once(function, *args, **kwargs)
            except DatabaseError as error:
                if not passing(error):
                    raise explained(error) from error
                hung = time.monotonic() - began >= self._settings.timeout
                if number == TRIES and code(error) == DUPLICATE:
                    raise  # nobody came in between: what we insert is wrong
                if number == TRIES or (hung and isinstance(error, DisconnectionError)):
                    raise explained(error) from error
                _count_retry(error)
            time.sleep(random.uniform(0.2, 1.0) * min(0.8, 0.01 * 2**number))
        raise AssertionError("unreachable")

    def read(
        self, function: Callable[Concatenate[Store, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Like ``transact`` for a function that only reads: on SQLite it never
        waits for a writer. Within a request that only reads, it sees at least what
        that must see."""
        before = self._reading(True)
        connection = self._connection()
        begins = connection if connection is not None and not connection.is_reading else None
        if begins is not None:
            begins.begin_reading(self._floor or "", prefer=replication.PRIMARY)
        try:
            return self.transact(function, *args, **kwargs)
        finally:
            self._reading(before)
            if begins is not None:
                begins.end_reading()

    def request_store(self, reading: bool, after: str = "") -> Store:
        """This thread's store for one request. With ``reading`` it must only be
        read: on SQLite it then never waits for a writer, and a replica that
        serves it has all that was there at ``after``, a ``position``.
        ``transact`` and ``read`` in this thread would end its transaction. Raises
        DatabaseUnavailable, and Invalid if ``after`` is no position."""
        store = self.store()
        connection = self._connection()
        if connection is not None and connection.is_reading:
            self.release()  # some body that this thread began is still being read
        self._reading(reading)
        if reading and connection is not None:
            if self._floor is None:
                self._floor = self.read(replication.head)
            connection.begin_reading(_both(after, self._floor))
        return store

    def position(self) -> str:
        """What this thread's last transaction has written or may have seen; empty
        where there are no replicas, and for one that only read if it cannot be
        asked any more. To be asked before ``release``."""
        store: Store | None = getattr(self._local, "store", None)
        if store is None or not self._replicas:
            return ""
        try:
            return replication.position(store)
        except Error as error:
            return self._position_after(error)

    def _position_after(self, error: Error) -> str:
        """The server went away after the commit. Where writes go to now, the head
        covers what was committed, unless that is lost."""
        _log.warning("the position cannot be asked: %s", error)
        connection = self._connection()
        if connection is None or connection.is_reading:
            return ""
        try:
            return self.transact(replication.head)
        except (BackofficeError, Error):
            return ""

    def apart(self, *, replicas: bool = False) -> Database:
        """The same with connections of its own, for what is done beside a request.
        It looks at the servers with the same eyes."""
        other = Database(self._settings, replicas=replicas)
        if self.replicated:
            other._storm = self._storm
        return other

    @property
    def replicated(self) -> bool:
        return isinstance(self._storm, ReplicatedMySQL)

    @property
    def takes_writes(self) -> bool:
        """Whether there is somebody to write to, as far as is known."""
        known = self._storm
        return known.cluster.takes_writes() if isinstance(known, ReplicatedMySQL) else True

    def nodes(self) -> list[nodes.Status]:
        """Its servers, the one that takes writes first; none if there is but one."""
        return self._storm.cluster.status() if isinstance(self._storm, ReplicatedMySQL) else []

    def _connection(self) -> ReplicatedConnection | None:
        """This thread's, if it may read from replicas."""
        if not (self._replicas and self.replicated):
            return None
        connection: ReplicatedConnection = self.store()._connection
        return connection

    def release(self) -> None:
        """End the request that ``request_store`` began: what was not committed is
        undone, and a connection that broke is dropped."""
        self._reading(False)
        store: Store | None = getattr(self._local, "store", None)
        if store is not None:
            self._rollback(store)
            if isinstance(store._connection, ReplicatedConnection):
                store._connection.end_reading()

    def _reading(self, value: bool) -> bool:
        return self._storm.reading(value) if isinstance(self._storm, SQLite) else False

    def _once(
        self, function: Callable[Concatenate[Store, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        store = self.store()
        try:
            result = function(store, *args, **kwargs)
            store.commit()
            return result
        except BaseException:
            # Also when the commit failed: the server may hold half of it.
            self._rollback(store)
            raise

    def _rollback(self, store: Store) -> None:
        try:
            store.rollback()
        except Error:
            self.close()  # the next transaction opens a fresh one


def _both(one: str, other: str) -> str:
    try:
        return replication.merged(one, other)
    except ValueError as error:
        raise Invalid(f"{error}; take it as it was given to you") from error


def _storm_database(settings: DatabaseSettings) -> tuple[str, MySQL | ReplicatedMySQL | SQLite]:
    try:
        uri = URI(settings.uri)
        if uri.scheme == "mysql":
            return "mysql", MySQL(uri, settings.timeout)
        if uri.scheme == replication.SCHEME:
            return "mysql", ReplicatedMySQL(uri, settings.timeout)
        if uri.scheme == "sqlite":
            if uri.database and uri.database != ":memory:":
                Path(uri.database).parent.mkdir(parents=True, exist_ok=True)
            return "sqlite", SQLite(uri, settings.timeout)
    except DatabaseModuleError as error:
        raise ConfigError(
            "mysqlclient is not installed: pip install 'backoffice[mysql]'",
            source="database",
            key="uri",
        ) from error
    except URIError as error:
        raise ConfigError(f"is no database URI ({error})", source="database", key="uri") from error
    except OSError as error:
        raise DatabaseUnavailable(
            f"the database's folder cannot be made: {error}", refused=True
        ) from error
    raise ConfigError(
        f"scheme {uri.scheme!r} is unknown; use sqlite:, mysql: or mysql-replicated:",
        source="database",
        key="uri",
    )


def passing(error: BaseException) -> bool:
    """Whether the same transaction, run again from its start, may well succeed."""
    if not isinstance(error, DatabaseError):
        return False
    if isinstance(error, DisconnectionError) or code(error) in RETRIED:
        return True
    return "database is locked" in str(error)


def again(error: BaseException) -> bool:
    """``passing``, asked by who then runs it again: that is counted."""
    if not passing(error):
        return False
    _count_retry(error)
    return True


def _count_retry(error: BaseException) -> None:
    broken = "disconnected" if isinstance(error, DisconnectionError) else "locked"
    tally.DATABASE_RETRIES.count(RETRIED.get(code(error), broken))


def explained(error: BaseException) -> BaseException:
    """What an admin can do something about as DatabaseUnavailable or
    SchemaMismatch; else the error as it is, which is a fault of ours. A passing
    one that comes here has not passed."""
    if not isinstance(error, DatabaseError):
        return error
    if code(error) == NO_SUCH_TABLE or "no such table" in str(error):
        return SchemaMismatch("the database has not its tables yet: run 'backoffice migrate'")
    text = str(error)
    nobody = isinstance(error, replication.NodeUnavailable)
    away = nobody or (passing(error) and code(error) != DUPLICATE)
    known = code(error) in AWAY | REFUSED | UNWRITABLE or any(words in text for words in _TROUBLE)
    if away or known:
        return _unavailable(error)
    same: BaseException = error
    return same


def _unavailable(error: BaseException) -> DatabaseUnavailable:
    kind, message = _kind_and_message(error)
    tally.DATABASE_ERRORS.count(kind)
    return DatabaseUnavailable(message, refused=kind in ("refused", "file"))


def _kind_and_message(error: BaseException) -> tuple[str, str]:
    """The kind is one of ``tally.ERROR_KINDS``."""
    number = code(error)
    text = str(error.args[-1]) if error.args else str(error)
    if number in REFUSED:
        return "refused", f"the database refuses us: {text}"
    if number in (1040, 1203, 1226):
        return "connections", f"the database has too many connections: {text}"
    if "disk is full" in text or number in FULL:
        return "full", "the disk of the database is full: make room"
    if number in READ_ONLY:
        return "read_only", f"the database takes no writes now: {text}"
    if "unable to open" in text or "readonly" in text:
        told = f"the database file cannot be written ({text}): check its folder's permissions"
        return "file", told
    return "away", f"the database cannot be reached: {text}"


# What differs between the dialects -----------------------------------------


def is_mysql(store: Store) -> bool:
    return isinstance(store.get_database(), storm_mysql.MySQL)


def clock(store: Store) -> datetime:
    """Now by the database's clock, naive UTC, to the microsecond. An embedded
    database has no other clock than this host's."""
    if is_mysql(store):
        now: datetime = store.execute("SELECT UTC_TIMESTAMP(6)").get_one()[0]
        return now
    return datetime.now(UTC).replace(tzinfo=None)


def moment(value: datetime | str | None) -> datetime | None:
    """A time out of a raw row: SQLite hands out text."""
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def for_update(store: Store, *, skip_locked: bool = False) -> str:
    """The end of a SELECT that locks its rows; SQLite's writer holds all."""
    if not is_mysql(store):
        return ""
    return " FOR UPDATE SKIP LOCKED" if skip_locked else " FOR UPDATE"


def use_index(store: Store, name: str) -> str:
    """After a table's name: read by this index and no other; SQLite has no need."""
    return f" FORCE INDEX ({name})" if is_mysql(store) else ""


def marks(values: Sequence[Any]) -> str:
    """``?, ?, ?`` for an IN list."""
    return ", ".join("?" * len(values))


def insert_one(store: Store, table: str, columns: Sequence[str], values: Sequence[Any]) -> int:
    """Insert a row and return its id; much cheaper than a Storm object."""
    result = store.execute(
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks(columns)})", values
    )
    number: int = result.inserted_id
    return number


def insert_many(
    store: Store, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    """One INSERT for many rows; table and columns are names of ours."""
    rows = list(rows)
    if not rows:
        return
    one = f"({marks(columns)})"
    store.execute(
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES {', '.join([one] * len(rows))}",
        [value for row in rows for value in row],
        noresult=True,
    )


def insert_numbered(
    store: Store, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], step: int
) -> list[int]:
    """``insert_many`` for some rows, whose ids it returns. Those of one INSERT follow
    each other by ``step``, which is MySQL's auto_increment_increment."""
    one = f"({marks(columns)})"
    result = store.execute(
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES {', '.join([one] * len(rows))}",
        [value for row in rows for value in row],
    )
    # MySQL tells the first of them, SQLite the last.
    number: int = result.inserted_id
    first = number if is_mysql(store) else number - step * (len(rows) - 1)
    return [first + step * n for n in range(len(rows))]
