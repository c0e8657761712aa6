"""Storm stores, one a thread, and transactions that are retried whole.

    database = Database(settings.database)
    job = database.transact(submission.submit, prepared, "alice")

A function given to ``transact`` gets the store first. It may run more than
once: after a deadlock, a lock wait or a broken connection the transaction is
rolled back and run again from its start, also when the connection broke during
the commit, so that its effect is not known. It must therefore read
what it depends on, change nothing outside the database, and recognise its own work.

Code that drives the transaction of a whole request takes the store with
``request_store``, commits or rolls back, asks ``database_errors.passing`` whether to
run the request again, and always ends with ``release``.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from storm.cache import Cache
from storm.exceptions import (
    DatabaseError,
    DisconnectionError,
    Error,
)
from storm.locals import Store

from backoffice.config.settings import DatabaseSettings
from backoffice.data import cluster, replication
from backoffice.data.database_errors import (
    DUPLICATE,
    code,
    count_retry,
    explained,
    passing,
    unavailable,
)
from backoffice.data.drivers import ReplicatedConnection, ReplicatedMySQL, SQLite, open_uri
from backoffice.errors import (
    BackofficeError,
    Invalid,
)

P = ParamSpec("P")
T = TypeVar("T")

TRIES = 8  # of one transaction; with the pauses below, about three seconds

_log = logging.getLogger(__name__)


class Database:
    """Stores on one database, one a thread. Open it after a fork, not before.

    With ``replicas``, requests that only read go to the replicas of the settings, if
    any, and ``read`` goes there when there is no primary. A replica is used only once
    it has everything that existed at the first request, so that a schema that was
    checked before is the same on each. Without ``replicas`` everything goes to the
    primary: code that decides something needs that.
    """

    def __init__(self, settings: DatabaseSettings, *, replicas: bool = False) -> None:
        self._settings = settings
        self._replicas = replicas
        self._floor: str | None = None  # what every replica must have
        self._local = threading.local()
        self.dialect, self._storm = open_uri(settings)

    @property
    def mysql(self) -> bool:
        return self.dialect == "mysql"

    def store(self) -> Store:
        """This thread's store; raises DatabaseUnavailable."""
        store: Store | None = getattr(self._local, "store", None)
        if store is None:
            try:
                # No cache: Storm would keep a thousand objects a thread, of
                # transactions that ended long ago.
                store = self._local.store = Store(self._storm, Cache(0))
            except Error as error:
                raise unavailable(error) from error
        return store

    def close(self) -> None:
        store: Store | None = getattr(self._local, "store", None)
        if store is not None:
            self._local.store = None
            store.close()

    def transact(
        self, function: Callable[Concatenate[Store, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run ``function(store, …)`` and commit; retry from its start after a passing
        error. Raises DatabaseUnavailable, or what ``function`` raises.

        A server that does not answer at all is waited for once, because callers have
        other work.
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
                    raise  # no other transaction interferes: the row itself is wrong
                if number == TRIES or (hung and isinstance(error, DisconnectionError)):
                    raise explained(error) from error
                count_retry(error)
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
            self.release()  # a response that this thread began is still being sent
        self._reading(reading)
        if reading and connection is not None:
            if self._floor is None:
                self._floor = self.read(replication.head)
            connection.begin_reading(_both(after, self._floor))
        return store

    def position(self) -> str:
        """What this thread's last transaction has written or may have seen. Empty where
        there are no replicas, and for a read when the server is gone. Call before
        ``release``."""
        store: Store | None = getattr(self._local, "store", None)
        if store is None or not self._replicas:
            return ""
        try:
            return replication.position(store)
        except Error as error:
            return self._position_after(error)

    def _position_after(self, error: Error) -> str:
        """The server went away after the commit. The head of the server that takes writes
        now covers the commit, unless it was lost."""
        _log.warning("the position cannot be asked: %s", error)
        connection = self._connection()
        if connection is None or connection.is_reading:
            return ""
        try:
            return self.transact(replication.head)
        except (BackofficeError, Error):
            return ""

    def apart(self, *, replicas: bool = False) -> Database:
        """The same database with its own connections, for work beside a request. Shares
        what is known of the servers."""
        other = Database(self._settings, replicas=replicas)
        if self.replicated:
            other._storm = self._storm
        return other

    @property
    def replicated(self) -> bool:
        return isinstance(self._storm, ReplicatedMySQL)

    @property
    def takes_writes(self) -> bool:
        """Whether a server takes writes, as far as is known."""
        known = self._storm
        return known.cluster.takes_writes() if isinstance(known, ReplicatedMySQL) else True

    def nodes(self) -> list[cluster.Status]:
        """Its servers, the one that takes writes first; empty without replicas."""
        return self._storm.cluster.status() if isinstance(self._storm, ReplicatedMySQL) else []

    def _connection(self) -> ReplicatedConnection | None:
        """This thread's connection, if it may read from replicas."""
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
            # Also after a failed commit: the server may hold half of it.
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
