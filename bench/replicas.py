"""Reading from replicas: what a read costs over one of a plain server, with the
question how far that server is; what the split costs where there are no
replicas; and how many reads each server gets. All on one host: the network
between hosts adds its own to both sides.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from storm.locals import Store

from backoffice.config.settings import DatabaseSettings
from backoffice.data.database import Database
from bench.place import Server
from bench.report import Line
from tests.replicas import Member, Replication, replication, wait_for

ROW = "SELECT n FROM item WHERE id = ?"


def measure(folder: Path, server: Server, quick: bool) -> list[Line]:
    rounds = 300 if quick else 3000
    with replication() as cluster:
        cluster.primary.run(
            "CREATE DATABASE test_bench CHARACTER SET utf8mb4",
            "CREATE TABLE test_bench.item (id INT PRIMARY KEY, n INT) ENGINE=InnoDB",
            "INSERT INTO test_bench.item SELECT seq, 0 FROM test_bench.seq_1_to_1000",
        )
        cluster.settle()
        return [
            *_reads(cluster, rounds),
            _without(cluster, rounds),
            *_shares(cluster, rounds),
        ]


def _reads(cluster: Replication, rounds: int) -> list[Line]:
    """Both sides read from the same server; after each write all are waited for."""
    one = cluster.replicas[0]
    split = Database(_settings(cluster.uri("test_bench", balance="least-lag")), replicas=True)
    plain = Database(_settings(f"mysql://root@localhost/test_bench?unix_socket={one.socket}"))
    wait_for(lambda: all(node.state == "up" for node in split.nodes()))
    times: dict[str, list[float]] = {"plain": [], "after": [], "again": []}
    for _ in range(rounds // 10):
        split.transact(lambda store: store.execute("UPDATE item SET n = n + 1 WHERE id = 7"))
        token = split.position()
        cluster.settle()
        _read(plain, "")  # so that what is measured comes after its like
        times["after"].append(_timed(_read, split, token))
        for _ in range(10):
            times["plain"].append(_timed(_read, plain, ""))
            times["again"].append(_timed(_read, split, token))
    plainly, after, again = (statistics.median(one) * 1e6 for one in times.values())
    told = f"{plainly:.0f} µs on a plain server; the question how far it is comes with it"
    what = "a read, over a plain one"
    return [
        Line("replicas", what, told, again - plainly, 150, at_most=True, unit="µs"),
        Line("replicas", "the first after a write", "", after - plainly, unit="µs"),
    ]


def _without(cluster: Replication, rounds: int) -> Line:
    socket = cluster.primary.socket
    where = f"{str(socket).replace('/', '%2F')}/test_bench"
    split = Database(_settings(f"mysql-replicated://root@{where}"), replicas=True)
    plain = Database(_settings(f"mysql://root@localhost/test_bench?unix_socket={socket}"))
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds):
        for side, database in enumerate((split, plain)):
            times[side].append(_timed(database.transact, _look, number))
    ours, theirs = (statistics.median(one) * 1e6 for one in times)
    told = f"{ours:.0f} µs, on a plain server {theirs:.0f} µs"
    what = "a transaction without replicas"
    return Line("replicas", what, told, ours - theirs, 20, at_most=True, unit="µs")


def _shares(cluster: Replication, rounds: int) -> list[Line]:
    """Who served, by the servers' own count: cores are too few to see it in time."""
    split = Database(_settings(cluster.uri("test_bench")), replicas=True)
    wait_for(lambda: all(node.state == "up" for node in split.nodes()))
    _read(split, "")
    before = [_selects(one) for one in cluster.members]
    for _ in range(rounds):
        _read(split, "")
    served = [_selects(one) - former for one, former in zip(cluster.members, before, strict=True)]
    told = ", ".join(
        f"{'primary' if one is cluster.primary else 'replica'} {100 * count / sum(served):.0f} %"
        for one, count in zip(cluster.members, served, strict=True)
    )
    value = sum(served) / max(served)
    what = f"reads that two carry of what one could; {os.cpu_count()} cores"
    return [Line("replicas", what, told, value, 1.8)]


def _selects(member: Member) -> int:
    ((_, count),) = member.run("SHOW GLOBAL STATUS LIKE 'Com_select'")
    return int(count)


def _read(database: Database, after: str) -> None:
    """As a request does it."""
    store = database.request_store(True, after)
    _look(store, 7)
    store.commit()
    database.position()
    database.release()


def _look(store: Store, number: int) -> None:
    store.execute(ROW, (number % 1000 + 1,)).get_one()


def _timed(call: Callable[..., object], *arguments: object) -> float:
    began = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - began


def _settings(uri: str) -> DatabaseSettings:
    return DatabaseSettings(uri, 10)
