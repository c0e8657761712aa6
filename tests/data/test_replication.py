"""Reads by replicas and writes by the primary, on real servers."""

from __future__ import annotations

import gc
import random
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from storm.exceptions import DatabaseError, DisconnectionError
from storm.locals import Int, Store, Unicode, create_database
from storm.uri import URI, URIError

from backoffice.data import replication
from backoffice.data.cluster import Address, Status
from tests.replicas import Member, Replication, wait_for
from tests.replicas import replication as servers

replication.register()
ROOT = Path(__file__).resolve().parents[2]


class Thing:
    __storm_table__ = "thing"
    id = Int(primary=True)
    name = Unicode()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Replication]:
    with servers() as found:
        found.primary.run(
            "CREATE TABLE test_first.thing (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(50))"
            " ENGINE=InnoDB CHARACTER SET utf8mb4",
        )
        found.settle()
        yield found


@pytest.fixture
def store(cluster: Replication) -> Iterator[Store]:
    yield from _store(cluster)


def _store(cluster: Replication, **options: object) -> Iterator[Store]:
    cluster.settle()
    database = create_database(cluster.uri("test_first", probe=0.1, retry=0.5, **options))
    store = Store(database)
    try:
        wait_for(lambda: all(one.state == "up" for one in replication.status(store)))
        yield store
    finally:
        store.close()
        database.close()


def server_of(store: Store) -> int:
    """The id of the server that the open transaction is with."""
    (number,) = store.execute("SELECT @@server_id").get_one()
    return int(number)


def connection_of(store: Store) -> tuple[int, int]:
    """The server, and the connection to it."""
    found: tuple[int, int] = store.execute("SELECT @@server_id, CONNECTION_ID()").get_one()
    return found


@contextmanager
def reading(store: Store, after: str = "") -> Iterator[None]:
    """Transactions within it only read; the last one is committed, or rolled back
    after an exception. Without replicas it changes nothing."""
    connection = replication.connection_of(store)
    if connection is None:
        yield
        return
    connection.begin_reading(after)
    try:
        yield
        store.commit()
    except BaseException:
        store.rollback()
        raise
    finally:
        connection.end_reading()


def add(store: Store, name: str) -> str:
    thing = Thing()
    thing.name = name
    store.add(thing)
    store.commit()
    return replication.position(store)


def names(store: Store) -> set[str]:
    return {name for (name,) in store.execute("SELECT name FROM thing").get_all()}


# Where transactions go ------------------------------------------------------


def test_writes_go_to_the_primary_and_reads_to_replicas(store: Store) -> None:
    assert server_of(store) == 1
    store.rollback()
    read = set()
    for _ in range(40):
        with reading(store):
            read.add(server_of(store))
    assert read == {2, 3}


def test_a_transaction_never_spans_two_servers(store: Store) -> None:
    for _ in range(20):
        with reading(store):
            assert len({connection_of(store) for _ in range(5)}) == 1
        first = connection_of(store)
        add(store, "spans")
        store.execute("INSERT INTO thing (name) VALUES ('spans')")
        assert connection_of(store) == first
        store.rollback()


def test_one_cannot_go_to_a_replica_within_a_transaction(store: Store) -> None:
    assert server_of(store) == 1
    with pytest.raises(replication.TransactionOpen), reading(store):
        pass
    assert server_of(store) == 1
    store.rollback()


def test_objects_keep_their_identity(store: Store) -> None:
    position = add(store, "same")
    thing = store.find(Thing, name="same").one()
    store.commit()
    with reading(store, position):
        assert store.find(Thing, name="same").one() is thing
        assert thing.name == "same"
    thing.name = "changed"
    store.commit()
    with reading(store, replication.position(store)):
        assert store.get(Thing, thing.id) is thing
        assert thing.name == "changed"


@pytest.mark.parametrize("where", ["a replica", "the primary"])
def test_the_server_refuses_a_write_where_only_reading_was_meant(
    cluster: Replication, where: str
) -> None:
    options = {} if where == "a replica" else {"max_lag": 0, "fallback": "primary"}
    stores = _store(cluster, **options)
    store = next(stores)
    with pytest.raises(DatabaseError) as refused, reading(store):
        store.execute("INSERT INTO thing (name) VALUES ('stray')")
    assert refused.value.args[0] in (1290, 1792)
    assert "stray" not in names(store)
    stores.close()


def test_an_account_that_may_write_to_replicas_is_refused_as_well(cluster: Replication) -> None:
    uri = cluster.uri("test_first", probe=0.1)
    store = Store(create_database(uri.replace(uri[19 : uri.index("@")], "root:")))
    wait_for(lambda: all(one.state == "up" for one in replication.status(store)))
    with pytest.raises(DatabaseError) as refused, reading(store):
        store.execute("INSERT INTO thing (name) VALUES ('stray')")
    assert refused.value.args[0] == 1792
    assert store.execute("SELECT @@server_id").get_one() == (1,)
    store.close()


def test_a_single_server_stays_as_it_was(cluster: Replication) -> None:
    socket = cluster.primary.socket
    store = Store(create_database(f"mysql://root@localhost/test_first?unix_socket={socket}"))
    with reading(store, "whatever it says"):
        store.execute("INSERT INTO thing (name) VALUES ('single')")
    assert replication.position(store) == ""
    assert replication.status(store) == []
    assert "single" in names(store)
    store.close()


def test_least_lag_chooses_the_replica_that_is_least_late(cluster: Replication) -> None:
    stores = _store(cluster, balance="least-lag", max_lag=60)
    store = next(stores)
    late = cluster.replicas[0]
    late.delay(3600)
    try:
        add(store, "least")
        wait_for(lambda: _status(store, late).lag or 0 > 0)
        for _ in range(10):
            with reading(store):
                assert server_of(store) == 3
    finally:
        late.delay(0)
    stores.close()


# Reading what was written ---------------------------------------------------


def pairs(cluster: Replication, count: int, wait: bool) -> int:
    """Write and read again, ``count`` times in each of 8 threads; how often the
    reader saw something older."""
    stale: list[int] = []

    def go(number: int) -> None:
        stores = _store(cluster, wait=0.2, max_lag=60)
        store = next(stores)
        for turn in range(count):
            name = f"pair {number} {turn} {wait}"
            position = add(store, name)
            with reading(store, position if wait else ""):
                found = store.execute("SELECT 1 FROM thing WHERE name = ?", (name,)).get_one()
            if found is None:
                stale.append(turn)
        stores.close()

    threads = [threading.Thread(target=go, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(stale)


def test_what_one_has_written_one_reads(cluster: Replication) -> None:
    assert pairs(cluster, 25, wait=True) == 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_thousand_times_one_reads_what_one_has_written(cluster: Replication) -> None:
    """While replicas are 0 to 2 seconds late, now so and now so."""
    done = threading.Event()

    def change() -> None:
        while not done.wait(0.5):
            random.choice(cluster.replicas).delay(random.choice((0, 1, 2)))

    changing = threading.Thread(target=change)
    changing.start()
    try:
        assert pairs(cluster, 1250, wait=True) == 0
    finally:
        done.set()
        changing.join()
        for replica in cluster.replicas:
            replica.delay(0)


def test_without_the_wait_one_reads_older_data(cluster: Replication) -> None:
    """What the test before it would see if it were not for the wait."""
    for replica in cluster.replicas:
        replica.delay(1)
    try:
        assert pairs(cluster, 3, wait=False) > 0
    finally:
        for replica in cluster.replicas:
            replica.delay(0)


def test_what_was_read_at_one_replica_is_seen_at_the_other(store: Store) -> None:
    """The position of a read covers what it saw."""
    for number in range(20):
        writer = add(store, f"monotonic {number}")
        with reading(store, writer):
            assert f"monotonic {number}" in names(store)
        seen = replication.position(store)
        with reading(store, seen):
            assert f"monotonic {number}" in names(store)


def test_a_replica_that_is_too_late_is_passed_over_for_the_primary(cluster: Replication) -> None:
    stores = _store(cluster, wait=0.05)
    store = next(stores)
    for replica in cluster.replicas:
        replica.delay(3600)
    try:
        position = add(store, "late")
        with reading(store, position):
            assert server_of(store) == 1
            assert "late" in names(store)
    finally:
        for replica in cluster.replicas:
            replica.delay(0)
    stores.close()


def test_a_replica_beyond_the_bound_is_left_alone_until_it_has_caught_up(
    cluster: Replication,
) -> None:
    stores = _store(cluster, max_lag=0.3)
    store = next(stores)
    late, other = cluster.replicas
    late.delay(3600)
    try:
        add(store, "bound")
        wait_for(lambda: _status(store, late).state == "late")
        for _ in range(10):
            with reading(store):
                assert server_of(store) == other.number
    finally:
        late.delay(0)
    wait_for(lambda: _status(store, late).state == "up")
    stores.close()


def test_it_can_refuse_rather_than_burden_the_primary(cluster: Replication) -> None:
    stores = _store(cluster, max_lag=0, fallback="refuse", wait=0)
    store = next(stores)
    for replica in cluster.replicas:
        replica.delay(3600)
    try:
        position = add(store, "refuse")
        with (
            pytest.raises(replication.NodeUnavailable, match="read from"),
            reading(store, position),
        ):
            names(store)
        assert "refuse" in names(store)  # a transaction that may write still runs
        store.rollback()
    finally:
        for replica in cluster.replicas:
            replica.delay(0)
    stores.close()


def test_a_position_that_is_none_is_refused(store: Store) -> None:
    wrong = "1; DROP TABLE thing"
    with pytest.raises(ValueError, match="position"), reading(store, wrong):
        pass
    assert server_of(store) == 1
    store.rollback()


# Servers that fail ----------------------------------------------------------


def _status(store: Store, member: Member) -> Status:
    found = [one for one in replication.status(store) if one.name == str(member.socket)]
    return found[0]


def test_a_broken_connection_does_not_show_in_a_read(store: Store, cluster: Replication) -> None:
    for _ in range(5):
        with reading(store):
            number, connection = connection_of(store)
        cluster.members[number - 1].run(f"KILL CONNECTION {connection}")
        with reading(store):
            assert names(store) is not None


def test_reads_go_on_when_a_replica_is_killed_and_come_back_with_it(cluster: Replication) -> None:
    stores = _store(cluster)
    store = next(stores)
    victim, other = cluster.replicas
    with _reading(store, 2):
        victim.kill()
    began = time.monotonic()
    while time.monotonic() - began < 1:
        with reading(store):
            assert server_of(store) == other.number
    assert _status(store, victim).state == "down"
    victim.start()
    victim.follow(cluster.primary)
    wait_for(lambda: _status(store, victim).state == "up")
    read = set()
    for _ in range(40):
        with reading(store):
            read.add(server_of(store))
    assert read == {2, 3}
    stores.close()


class _reading:
    """Makes sure that there is a connection to that server, and that it is idle."""

    def __init__(self, store: Store, number: int) -> None:
        for _ in range(200):
            with reading(store):
                if server_of(store) == number:
                    return
        raise AssertionError("it is never read from")

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def test_who_waits_for_a_replica_that_hangs_is_told_soon(cluster: Replication) -> None:
    """Its connections are cut, and the read is done elsewhere."""
    stores = _store(cluster)
    store = next(stores)
    victim, other = cluster.replicas
    with _reading(store, victim.number):
        victim.stop()
    try:
        slowest = 0.0
        for _ in range(60):
            began = time.monotonic()
            with reading(store):
                assert server_of(store) == other.number
            slowest = max(slowest, time.monotonic() - began)
    finally:
        victim.go_on()
    assert slowest < 3
    wait_for(lambda: _status(store, victim).state == "up")
    stores.close()


def test_without_a_primary_reads_go_on_and_writes_fail_at_once(cluster: Replication) -> None:
    stores = _store(cluster)
    store = next(stores)
    position = add(store, "before")
    cluster.settle()
    primary = cluster.primary
    primary.kill()
    try:
        with pytest.raises(DatabaseError):
            add(store, "never")
        store.rollback()
        wait_for(lambda: _status(store, primary).state == "down")
        with pytest.raises(replication.NodeUnavailable, match="takes writes"):
            store.execute("INSERT INTO thing (name) VALUES ('never')")
        store.rollback()
        with reading(store, position):
            assert "before" in names(store)
    finally:
        primary.start()
        primary.become_primary()
    wait_for(lambda: replication.connection_of(store).cluster.writer is not None)
    add(store, "after")
    with reading(store, replication.position(store)):
        assert {"before", "after"} <= names(store)
        assert "never" not in names(store)
    stores.close()


def test_writes_follow_the_primary_to_another_server(cluster: Replication) -> None:
    stores = _store(cluster)
    store = next(stores)
    former, heir = cluster.primary, cluster.replicas[0]
    assert server_of(store) == former.number
    store.rollback()
    former.run("SET GLOBAL read_only = ON")
    cluster.settle()
    cluster.promote(heir)
    try:
        deadline = time.monotonic() + 10
        while True:
            try:
                store.execute("INSERT INTO thing (name) VALUES ('moved')")
                store.commit()
                break
            except (DisconnectionError, replication.NodeUnavailable):
                store.rollback()
                assert time.monotonic() < deadline
        assert server_of(store) == heir.number
        store.rollback()
        with reading(store, replication.position(store)):
            assert "moved" in names(store)
    finally:
        heir.run("SET GLOBAL read_only = ON")
        cluster.settle()
        cluster.promote(former)
    stores.close()


def test_it_is_left_when_it_turns_read_only_in_the_midst(
    store: Store, cluster: Replication
) -> None:
    """Before any look has shown it: by the server's own refusal."""
    assert server_of(store) == 1
    cluster.primary.run("SET GLOBAL read_only = ON")
    try:
        with pytest.raises(DisconnectionError):
            store.execute("INSERT INTO thing (name) VALUES ('refused')")
    finally:
        cluster.primary.run("SET GLOBAL read_only = OFF")
    store.rollback()
    wait_for(lambda: replication.connection_of(store).cluster.writer is not None)


def test_nobody_looks_at_servers_that_nobody_uses_any_more(cluster: Replication) -> None:
    before = set(threading.enumerate())
    store = Store(create_database(cluster.uri("test_first", probe=0.05)))
    assert names(store) is not None
    watching = set(threading.enumerate()) - before
    assert len(watching) == 3
    store.close()
    del store
    gc.collect()
    wait_for(lambda: not any(one.is_alive() for one in watching))


# The URI --------------------------------------------------------------------


def test_hosts_and_options_are_read() -> None:
    options = replication.options_of(
        URI("mysql-replicated://u:p@db1,db2:3307/x?replicas=db2:3307,/run/x.sock&max_lag=2.5")
    )
    assert options.primaries == (Address("db1", 3306), Address("db2", 3307))
    assert options.replicas == (Address("db2", 3307), Address("/run/x.sock"))
    assert options.max_lag == 2.5


URIS = re.compile(r"mysql-replicated://[^\s\"`…]*\?[^\s\"`…)]+(?![^\s\"`)]*…)")


@pytest.mark.parametrize(
    "path", ["docs/replication.md", "etc/backoffice.ini", "backoffice/data/replication.py"]
)
def test_what_is_documented_is_taken(path: str) -> None:
    found = [replication.options_of(URI(uri)) for uri in URIS.findall((ROOT / path).read_text())]
    assert found
    assert all(one.replicas for one in found)


def test_each_option_is_documented_with_its_default() -> None:
    told = (ROOT / "docs/replication.md").read_text()
    for name, default in vars(replication.options_of(URI("mysql-replicated://db/x"))).items():
        shown = {"primaries": None, "replicas": "none"}.get(name, default)
        if shown is not None:
            text = f"{shown:g}" if isinstance(shown, float) else str(shown)
            assert re.search(rf"\| `{name}` \| `?{text}`? \|", told), name


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("mysql-replicated:///x", "no host"),
        ("mysql-replicated://db/x?wait=soon", "wait"),
        ("mysql-replicated://db/x?balance=best", "balance"),
        ("mysql-replicated://db/x?replicas=db:0", "replicas"),
        ("mysql-replicated://db:99999/x", "hosts"),
        ("mysql-replicated://db/x?lag=2", "unknown; there are replicas"),
    ],
)
def test_a_wrong_uri_is_refused_in_words(uri: str, told: str) -> None:
    with pytest.raises(URIError, match=told):
        replication.options_of(URI(uri))
