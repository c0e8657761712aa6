"""Database drivers: Storm's MySQL and SQLite with the settings that the engine relies on.

Owns connections, isolation, session settings and cursors of the two dialects.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from storm.database import Connection, ConnectionWrapper
from storm.databases import mysql as storm_mysql
from storm.databases import sqlite as storm_sqlite
from storm.exceptions import DatabaseError, DatabaseModuleError, wrap_exceptions
from storm.uri import URI, URIError

from backoffice.config.settings import DatabaseSettings
from backoffice.data import replication
from backoffice.data.database_errors import is_locked
from backoffice.errors import ConfigError, DatabaseUnavailable

# One statement, for servers that name the isolation differently: MariaDB reads
# /*M! and skips /*!80000, MySQL the other way round. A client that was cut off
# or stopped in the midst of a transaction would hold its locks for hours: the
# server ends it. MySQL can do so only for idle connections, which then reconnect.
_SESSION = (
    "SET time_zone = '+00:00', innodb_lock_wait_timeout = {lock_wait},"
    " sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')"
    " /*M!100300 , tx_isolation = 'READ-COMMITTED', idle_transaction_timeout = {idle} */"
    " /*!80000 , transaction_isolation = 'READ-COMMITTED', wait_timeout = 60 */"
)


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
    """Storm's MySQL with the settings that Storm's URI ignores silently.

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
    writes later fails with BUSY even within the timeout."""

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
                if not is_locked(error) or time.monotonic() > deadline:
                    raise
            time.sleep(0.01)


def open_uri(settings: DatabaseSettings) -> tuple[str, MySQL | ReplicatedMySQL | SQLite]:
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
