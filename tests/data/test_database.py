from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import MySQLdb
import pytest
from storm.exceptions import Error as StormError
from storm.exceptions import IntegrityError, OperationalError
from storm.locals import Store

from backoffice.config.settings import DatabaseSettings
from backoffice.data.database import Database
from backoffice.data.database_errors import code, explained, passing
from backoffice.data.sql import clock, for_update, insert_many, moment
from backoffice.errors import ConfigError, DatabaseUnavailable, SchemaMismatch
from tests.conftest import MariaDB
from tests.crowd import LONG, processes, together
from tests.proxy import proxy

COMMIT = b"\x03COMMIT"  # as it is sent: a query of that one word
only_mariadb = pytest.mark.parametrize("database_uri", ["mariadb"], indirect=True)
only_sqlite = pytest.mark.parametrize("database_uri", ["sqlite"], indirect=True)


@pytest.fixture
def plain(database_uri: str) -> Iterator[Database]:
    """Two rows that can be changed, and room for more."""
    database = Database(DatabaseSettings(database_uri, 5))
    database.transact(_create)
    yield database
    database.close()


def _create(store: Store) -> None:
    store.execute("CREATE TABLE item (id INTEGER PRIMARY KEY, n INTEGER)")
    store.execute("CREATE TABLE note (text VARCHAR(99) UNIQUE)")
    insert_many(store, "item", ("id", "n"), [(1, 0), (2, 0)])


@pytest.fixture
def other(plain: Database, mariadb: MariaDB) -> Iterator[MySQLdb.Connection]:
    """A connection of somebody else's to the same database."""
    (name,) = value(plain, "SELECT DATABASE()")
    connection = mariadb.connect(name)
    yield connection
    connection.close()


def value(database: Database, query: str) -> tuple[Any, ...]:
    row: tuple[Any, ...] = database.read(lambda s: s.execute(query).get_one())
    return row


def numbers(database: Database) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = database.read(
        lambda s: s.execute("SELECT id, n FROM item ORDER BY id").get_all()
    )
    return found


def add(store: Store, row: int, amount: int = 1) -> None:
    store.execute("UPDATE item SET n = n + ? WHERE id = ?", (amount, row))


def note(store: Store, text: str) -> bool:
    """Insert the text unless it is there, as a submit does with its key."""
    if store.execute("SELECT 1 FROM note WHERE text = ?", (text,)).get_one():
        return False
    store.execute("INSERT INTO note (text) VALUES (?)", (text,))
    return True


class Counted:
    """A function that counts its runs and can do something else on the first."""

    def __init__(self, *steps: Callable[[Store], object], first: Callable[[], object]) -> None:
        self.steps = steps
        self.first = first
        self.runs = 0

    def __call__(self, store: Store) -> None:
        self.runs += 1
        for number, step in enumerate(self.steps):
            if number and self.runs == 1:
                self.first()
            step(store)


# Transactions ---------------------------------------------------------------


def test_what_raises_changes_nothing(plain: Database) -> None:
    def fail(store: Store) -> None:
        add(store, 1)
        raise KeyError("ours")

    with pytest.raises(KeyError, match="ours"):
        plain.transact(fail)
    assert numbers(plain) == [(1, 0), (2, 0)]


def test_arguments_and_results_pass_through(plain: Database) -> None:
    def pair(store: Store, one: int, *, other: int) -> tuple[int, int]:
        return one, other

    assert plain.transact(pair, 1, other=2) == (1, 2)


def test_a_fault_of_ours_is_not_tried_again(plain: Database) -> None:
    runs = []

    def wrong(store: Store) -> None:
        runs.append(1)
        store.execute("SELEKT 1")

    with pytest.raises(Exception, match="SELEKT"):
        plain.transact(wrong)
    assert len(runs) == 1


def test_a_missing_table_asks_for_a_migration(plain: Database) -> None:
    with pytest.raises(SchemaMismatch, match="run 'backoffice migrate'"):
        value(plain, "SELECT 1 FROM no_such")


def test_a_real_duplicate_comes_out_in_the_end(plain: Database) -> None:
    with pytest.raises((DatabaseUnavailable, IntegrityError)):
        plain.transact(lambda s: s.execute("INSERT INTO item (id) VALUES (1)"))
    assert len(numbers(plain)) == 2


def test_after_a_failed_flush_the_store_is_fresh(plain: Database) -> None:
    with pytest.raises((DatabaseUnavailable, IntegrityError)):
        plain.transact(lambda s: insert_many(s, "item", ("id",), [(9,), (1,)]))
    plain.transact(add, 1)
    assert numbers(plain) == [(1, 1), (2, 0)]


@only_mariadb
def test_a_real_deadlock_retries_the_whole_of_one_transaction(plain: Database) -> None:
    both = threading.Barrier(2)
    meet = partial(both.wait, LONG)
    there = Counted(lambda s: add(s, 1), lambda s: add(s, 2), first=meet)
    back = Counted(lambda s: add(s, 2, 10), lambda s: add(s, 1, 10), first=meet)
    together(plain, partial(plain.transact, there), partial(plain.transact, back))
    assert there.runs + back.runs == 3
    assert numbers(plain) == [(1, 11), (2, 11)]


@only_mariadb
def test_a_real_lock_wait_keeps_no_half(plain: Database, other: MySQLdb.Connection) -> None:
    other.cursor().execute("UPDATE item SET n = 100 WHERE id = 2")

    class Waits(Counted):
        def __call__(self, store: Store) -> None:
            if self.runs == 1:
                other.commit()
            super().__call__(store)

    waits = Waits(lambda s: add(s, 1), lambda s: add(s, 2), first=lambda: None)
    plain.transact(lambda s: s.execute("SET innodb_lock_wait_timeout = 0"))
    plain.transact(waits)
    assert waits.runs == 2
    assert numbers(plain) == [(1, 1), (2, 101)]


@only_mariadb
def test_a_lock_that_is_never_freed_ends_in_plain_words(
    plain: Database, other: MySQLdb.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    other.cursor().execute("UPDATE item SET n = 100 WHERE id = 2")
    plain.transact(lambda s: s.execute("SET innodb_lock_wait_timeout = 0"))
    with pytest.raises(DatabaseUnavailable, match="Lock wait timeout"):
        plain.transact(Counted(lambda s: add(s, 1), lambda s: add(s, 2), first=lambda: None))
    other.rollback()
    assert numbers(plain) == [(1, 0), (2, 0)]


@only_mariadb
def test_a_row_changed_behind_a_snapshot_retries(
    plain: Database, other: MySQLdb.Connection
) -> None:
    plain.transact(
        lambda s: s.execute("SET tx_isolation = 'REPEATABLE-READ', innodb_snapshot_isolation = 1")
    )

    def change() -> None:
        other.cursor().execute("UPDATE item SET n = 100 WHERE id = 1")
        other.commit()

    look = Counted(
        lambda s: s.execute("SELECT n FROM item").get_all(), lambda s: add(s, 1), first=change
    )
    plain.transact(look)
    assert look.runs == 2
    assert numbers(plain) == [(1, 101), (2, 0)]


@only_mariadb
def test_a_killed_connection_costs_nothing_but_a_second_run(
    plain: Database, other: MySQLdb.Connection
) -> None:
    def kill() -> None:
        (ours,) = plain.store().execute("SELECT CONNECTION_ID()").get_one()
        other.cursor().execute(f"KILL CONNECTION {ours}")

    killed = Counted(lambda s: add(s, 1), lambda s: add(s, 2), first=kill)
    plain.transact(killed)
    assert killed.runs == 2
    assert numbers(plain) == [(1, 1), (2, 1)]


@only_mariadb
def test_a_connection_that_died_while_idle_is_replaced(
    plain: Database, other: MySQLdb.Connection
) -> None:
    (ours,) = value(plain, "SELECT CONNECTION_ID()")
    other.cursor().execute(f"KILL CONNECTION {ours}")
    plain.transact(add, 1)
    assert numbers(plain)[0] == (1, 1)


@only_mariadb
@pytest.mark.parametrize("answered", [False, True], ids=["before it arrived", "after it took"])
def test_a_commit_cut_on_its_way_takes_once(
    plain: Database, mariadb: MariaDB, answered: bool
) -> None:
    (name,) = value(plain, "SELECT DATABASE()")
    path = mariadb.folder / f"proxy-{name}"
    uri = f"mysql://root@localhost/{name}?unix_socket={path}"
    results = []
    with proxy(path, mariadb.socket, COMMIT, answered=answered) as line:
        database = Database(DatabaseSettings(uri, 5))

        def twice(store: Store) -> None:
            results.append(note(store, "a") and note(store, "b"))

        database.transact(twice)
        assert line.cuts == 1
        database.close()
    assert results == ([True, False] if answered else [True, True])
    assert value(plain, "SELECT COUNT(*) FROM note") == (2,)


@only_mariadb
def test_a_server_that_comes_back_is_used_again(plain: Database, mariadb: MariaDB) -> None:
    (name,) = value(plain, "SELECT DATABASE()")
    path = mariadb.folder / f"proxy-{name}"
    uri = f"mysql://root@localhost/{name}?unix_socket={path}"
    database = Database(DatabaseSettings(uri, 5))
    with proxy(path, mariadb.socket):
        database.transact(add, 1)
    path.unlink()
    with pytest.raises(DatabaseUnavailable, match="cannot be reached") as caught:
        database.transact(add, 1)
    assert not caught.value.refused
    with proxy(path, mariadb.socket):
        database.transact(add, 1)
        database.close()
    assert numbers(plain)[0] == (1, 2)


# Who cannot get in ----------------------------------------------------------


def refusal(uri: str) -> DatabaseUnavailable:
    with pytest.raises(DatabaseUnavailable) as caught:
        Database(DatabaseSettings(uri, 1)).transact(lambda store: store.execute("SELECT 1"))
    return caught.value


def test_a_wrong_password_is_refused(mariadb: MariaDB) -> None:
    error = refusal(f"mysql://root:wrong@localhost/mysql?unix_socket={mariadb.socket}")
    assert error.refused
    assert "Access denied" in str(error)


def test_an_unknown_database_is_refused(mariadb: MariaDB) -> None:
    error = refusal(mariadb.uri("no_such"))
    assert error.refused
    assert "no_such" in str(error)


def test_a_missing_server_may_come_back(tmp_path: Path) -> None:
    error = refusal(f"mysql://root@localhost/x?unix_socket={tmp_path}/none")
    assert not error.refused


@only_mariadb
def test_too_many_connections_are_said_to_be_that(mariadb: MariaDB, plain: Database) -> None:
    plain.close()
    mariadb.execute("CREATE USER narrow@localhost WITH MAX_USER_CONNECTIONS 1")
    mariadb.execute("GRANT ALL ON *.* TO narrow@localhost")
    narrow = MySQLdb.connect(user="narrow", unix_socket=str(mariadb.socket))
    try:
        error = refusal(f"mysql://narrow@localhost/mysql?unix_socket={mariadb.socket}")
    finally:
        narrow.close()
        mariadb.execute("DROP USER narrow@localhost")
    assert not error.refused
    assert "too many connections" in str(error)


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    error = refusal(f"sqlite:{tmp_path}")
    assert error.refused
    assert "check its folder's permissions" in str(error)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DatabaseUnavailable, match="folder cannot be made") as caught:
        Database(DatabaseSettings(f"sqlite:{tmp_path}/file/backoffice.sqlite", 1))
    assert caught.value.refused


UNWRITABLE = """
import os, sys
from backoffice.config.settings import DatabaseSettings
from backoffice.data.database import Database
from backoffice.errors import DatabaseUnavailable
GO
os.chdir(sys.argv[2])
if os.geteuid() == 0:
    os.setuid(65534)
try:
    Database(DatabaseSettings(sys.argv[1], 1)).transact(lambda s: s.execute("DELETE FROM item"))
except DatabaseUnavailable as error:
    print(error.refused, error)
"""


@only_sqlite
def test_a_file_that_may_not_be_written_is_refused(plain: Database, tmp_path: Path) -> None:
    plain.close()
    os.chmod(tmp_path / "backoffice.sqlite", 0o444)
    os.chmod(tmp_path, 0o555)
    # By a relative path: the folders above are nobody else's business.
    (said,) = processes(UNWRITABLE, [["sqlite:backoffice.sqlite", str(tmp_path)]])
    assert said.startswith("True the database file cannot be written")


@only_sqlite
def test_a_full_disk_is_said_to_be_that_and_passes(plain: Database) -> None:
    plain.read(lambda s: s.execute("PRAGMA max_page_count = 8"))
    with pytest.raises(DatabaseUnavailable, match="disk of the database is full"):
        plain.transact(lambda s: [note(s, "x" * 1000 + str(n)) for n in range(99)])
    plain.read(lambda s: s.execute("PRAGMA max_page_count = 1000"))
    assert plain.transact(note, "a")
    assert value(plain, "SELECT COUNT(*) FROM note") == (1,)


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        (
            "postgres://a/b",
            "scheme 'postgres' is unknown; use sqlite:, mysql: or mysql-replicated:",
        ),
        ("x", "URI"),
    ],
)
def test_an_uri_of_another_kind_is_a_fault_of_the_settings(uri: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Database(DatabaseSettings(uri, 1))


# Sessions -------------------------------------------------------------------


def session(database: Database) -> tuple[Any, ...]:
    return value(
        database,
        "SELECT @@tx_isolation, @@time_zone, @@character_set_client, @@autocommit,"
        " @@sql_mode LIKE '%%STRICT_ALL_TABLES%%'".replace("%%", "%"),
    )


@only_mariadb
def test_every_session_has_what_the_engine_rests_on(
    plain: Database, other: MySQLdb.Connection
) -> None:
    expected = ("READ-COMMITTED", "+00:00", "utf8mb4", 0, 1)
    assert session(plain) == expected
    (ours,) = value(plain, "SELECT CONNECTION_ID()")
    other.cursor().execute(f"KILL CONNECTION {ours}")
    assert session(plain) == expected, "lost with the reconnection"


@only_mariadb
def test_what_others_commit_is_seen_at_once(plain: Database, other: MySQLdb.Connection) -> None:
    def look(store: Store) -> tuple[int, int]:
        query = "SELECT n FROM item WHERE id = 1"
        before = store.execute(query).get_one()[0]
        other.cursor().execute("UPDATE item SET n = n + 1 WHERE id = 1")
        other.commit()
        return before, store.execute(query).get_one()[0]

    assert plain.transact(look) == (0, 1)


def test_counts_are_of_rows_found_not_of_rows_changed(plain: Database) -> None:
    assert plain.transact(lambda s: s.execute("UPDATE item SET n = 0").rowcount) == 2


def test_text_beyond_the_first_plane_survives(plain: Database) -> None:
    plain.transact(note, "🎬 Épisode % ? \\ ' \" 日本")
    assert value(plain, "SELECT text FROM note") == ("🎬 Épisode % ? \\ ' \" 日本",)


def test_times_keep_their_microseconds(plain: Database) -> None:
    moments = [datetime(2026, 1, 2, 3, 4, 5, n) for n in (0, 1, 999999)]
    plain.transact(lambda s: s.execute("CREATE TABLE moment (at DATETIME(6), n INTEGER)"))
    plain.transact(insert_many, "moment", ("at", "n"), [(at, 1) for at in reversed(moments)])
    rows = plain.read(lambda s: s.execute("SELECT at FROM moment ORDER BY at").get_all())
    assert [moment(at) for (at,) in rows] == moments


def test_the_clock_is_utc_to_the_microsecond(plain: Database) -> None:
    before = datetime.now(UTC).replace(tzinfo=None)
    shown = [plain.read(clock) for _ in range(3)]
    after = datetime.now(UTC).replace(tzinfo=None)
    assert [before, *shown, after] == sorted([before, *shown, after])
    assert any(at.microsecond % 1000 for at in shown)


def test_no_time_is_no_moment() -> None:
    assert moment(None) is None


def test_an_error_without_a_number_has_code_0() -> None:
    assert code(Exception()) == code(Exception("text")) == 0
    assert code(Exception(1213, "deadlock")) == 1213


# SQLite ---------------------------------------------------------------------


@only_sqlite
def test_sqlite_writes_ahead_and_syncs(plain: Database) -> None:
    assert value(plain, "PRAGMA journal_mode") == ("wal",)
    assert value(plain, "PRAGMA synchronous") == (2,)


@only_sqlite
def test_a_reader_does_not_wait_for_a_writer(plain: Database) -> None:
    def write_while_another_reads(store: Store) -> list[tuple[int, int]]:
        add(store, 1)
        (seen,) = together(plain, lambda: numbers(plain))
        return seen

    assert plain.transact(write_while_another_reads) == [(1, 0), (2, 0)]
    assert numbers(plain) == [(1, 1), (2, 0)]


def count_up(database: Database, times: int) -> int:
    """Add 1 so many times; returns how many runs that took."""
    runs = 0

    def step(store: Store) -> None:
        nonlocal runs
        runs += 1
        query = f"SELECT n FROM item WHERE id = 1{for_update(store)}"
        (n,) = store.execute(query).get_one()
        store.execute("UPDATE item SET n = ? WHERE id = 1", (n + 1,))

    for _ in range(times):
        database.transact(step)
    return runs


def test_writers_at_once_take_turns_and_none_runs_twice(plain: Database) -> None:
    assert together(plain, *[partial(count_up, plain, 40)] * 4) == [40] * 4
    assert numbers(plain)[0] == (1, 160)


COUNT_UP = """
import sys
from backoffice.config.settings import DatabaseSettings
from backoffice.data.database import Database
from tests.data.test_database import count_up
GO
count_up(Database(DatabaseSettings(sys.argv[1], 5)), 40)
"""


def test_processes_that_write_at_once_lose_nothing(plain: Database, database_uri: str) -> None:
    plain.close()
    processes(COUNT_UP, [[database_uri]] * 4)
    assert numbers(plain)[0] == (1, 160)


@only_sqlite
def test_a_new_file_can_be_opened_while_another_begins_to_write_it(
    database_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = sqlite3.connect(tmp_path / "backoffice.sqlite", isolation_level=None)
    other.execute("CREATE TABLE one (a INT)")
    other.execute("BEGIN IMMEDIATE")
    waits = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            other.execute("COMMIT")

    monkeypatch.setattr(time, "sleep", wait)
    database = Database(DatabaseSettings(database_uri, 5))
    assert value(database, "PRAGMA journal_mode") == ("wal",)
    assert len(waits) == 3
    database.close()
    other.close()


def die_half_way(store: Store) -> None:
    add(store, 1)
    os._exit(9)


@only_sqlite
def test_a_writer_that_is_killed_leaves_nothing_half(plain: Database, database_uri: str) -> None:
    child = os.fork()
    if child == 0:
        database = Database(DatabaseSettings(database_uri, 5))
        database.transact(die_half_way)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 9
    assert numbers(plain) == [(1, 0), (2, 0)]


# A request's store ----------------------------------------------------------


def test_what_a_request_commits_stays_and_what_it_does_not_is_undone(plain: Database) -> None:
    store = plain.request_store(reading=False)
    add(store, 1)
    store.commit()
    add(store, 2)
    plain.release()
    assert numbers(plain) == [(1, 1), (2, 0)]


def test_a_request_that_only_reads_waits_for_no_writer(plain: Database) -> None:
    def read() -> list[tuple[int, int]]:
        store = plain.request_store(reading=True)
        found: list[tuple[int, int]] = store.execute("SELECT id, n FROM item ORDER BY id").get_all()
        plain.release()
        return found

    add(plain.request_store(reading=False), 1)
    assert together(plain, read) == [[(1, 0), (2, 0)]]
    plain.release()


@only_sqlite
def test_after_a_reading_request_the_thread_writes_again(plain: Database) -> None:
    plain.request_store(reading=True).execute("SELECT 1")
    plain.release()
    assert plain._storm.begin == "BEGIN IMMEDIATE"


@only_mariadb
def test_a_broken_connection_is_dropped_with_its_request(
    plain: Database, other: MySQLdb.Connection
) -> None:
    store = plain.request_store(reading=False)
    (connection,) = store.execute("SELECT CONNECTION_ID()").get_one()
    other.cursor().execute(f"KILL {connection}")
    with pytest.raises(StormError) as caught:
        add(store, 1)
    assert passing(caught.value)
    plain.release()
    add(plain.request_store(reading=False), 1)
    plain.store().commit()
    plain.release()
    assert numbers(plain) == [(1, 1), (2, 0)]


def test_only_the_database_has_passing_faults(plain: Database) -> None:
    with pytest.raises(StormError) as caught:
        plain.request_store(reading=True).execute("SELECT 1 FROM no_such")
    plain.release()
    assert not passing(caught.value)
    assert isinstance(explained(caught.value), SchemaMismatch)
    fault = KeyError("ours")
    assert not passing(fault)
    assert explained(fault) is fault


def test_a_fault_that_did_not_pass_means_away() -> None:
    assert isinstance(explained(OperationalError(1213, "deadlock")), DatabaseUnavailable)
    duplicate = OperationalError(1062, "duplicate")
    assert explained(duplicate) is duplicate
