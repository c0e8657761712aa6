"""Claiming one task while a million finished ones are in the table, against
the same with none. Two databases take turns, so that both meet the same noise.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from storm.locals import Store

from backoffice.data.database import Database
from backoffice.data.sql import clock
from backoffice.engine import claims, worker_registry
from backoffice.engine.submission import lane
from bench.place import Failed, Place, Server
from bench.report import Line

CHUNK = 50_000  # rows a statement: a larger one would run into the read timeout
# Every finished task has a job and an attempt; numbers come from the database.
SERIES = {
    "mysql": "seq_{first}_to_{last}",
    "sqlite": "(WITH RECURSIVE n(seq) AS (SELECT {first} UNION ALL"
    " SELECT seq + 1 FROM n WHERE seq < {last}) SELECT seq FROM n)",
}
JOB = (
    "INSERT INTO job (id, token, fingerprint, title, workflow, version, state, priority, progress,"
    " submitter, submitted, started, finished, message)"
    " SELECT seq, {token}, '', 'old', 'noop', 1, 'succeeded', 50, 100, 'bench',"
    " '2026-01-01', '2026-01-01', '2026-01-01', '' FROM {series}"
)
TASK = (
    "INSERT INTO task (id, job_id, name, type, state, lane_id, priority, attempt, max_attempts,"
    " worker_id, started, finished, progress, message, spec)"
    " SELECT {offset} + seq, seq, 'nothing', 'noop', 'succeeded', 1, 50, 1, 3, 1,"
    " '2026-01-01', '2026-01-01', 100, '', {spec} FROM {series}"
)
ATTEMPT = (
    "INSERT INTO attempt (task_id, number, worker_id, host, state, started, finished, message,"
    " commands, report)"
    " SELECT seq, 1, 1, 'here', 'succeeded', '2026-01-01', '2026-01-01', '', '[]', '{{}}'"
    " FROM {series}"
)
SPEC = '{"title": "", "needs": [], "inputs": [], "parameters": {}, "when": []}'
TOKEN = {"mysql": "CONCAT('old:', seq)", "sqlite": "'old:' || seq"}


def measure(folder: Path, server: Server, quick: bool) -> list[Line]:
    old, count = (100_000, 200) if quick else (1_000_000, 500)
    uris = [
        f"mysql://root@localhost/{server.new_database()}?unix_socket={server.socket}"
        for _ in range(2)
    ]
    return [
        _line("claim mariadb", folder / "mariadb", uris, old, count),
        _line("claim sqlite", folder / "sqlite", ["", ""], old, count),
    ]


def _line(row: str, folder: Path, uris: list[str], old: int, count: int) -> Line:
    empty, full = (Place(folder / name, uri) for name, uri in zip("ab", uris, strict=True))
    fill(full.database, old)
    workers = []
    for place in (empty, full):
        for _ in range(count):
            place.submit("noop")
        workers.append(place.database.transact(_register))
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(count):
        for number, place in enumerate((empty, full)):
            times[number].append(_claim(place.database, workers[number]))
    few, many = (statistics.median(one) * 1000 for one in times)
    measured = f"{many:.2f} ms with {old:,} finished tasks, {few:.2f} ms with none"
    return Line(row, "claim and commit, median", measured, many / few, 1.5, at_most=True)


def fill(database: Database, jobs: int, tasks: int = 1) -> None:
    """So many jobs that have ended, each with so many tasks; every first task
    has an attempt."""
    database.transact(lambda store: lane(store, "default", frozenset()))
    for text in (JOB, TASK, ATTEMPT):
        _insert(database, text, jobs)
    for number in range(1, tasks):
        _insert(database, TASK, jobs, offset=number * jobs)


def _insert(database: Database, text: str, count: int, offset: int = 0) -> None:
    series, token = SERIES[database.dialect], TOKEN[database.dialect]
    for first in range(1, count + 1, CHUNK):
        numbers = series.format(first=first, last=min(count, first + CHUNK - 1))
        statement = text.format(series=numbers, token=token, offset=offset, spec=f"'{SPEC}'")
        database.transact(lambda store, text: store.execute(text, noresult=True), statement)


def _register(store: Store) -> int:
    return worker_registry.register(
        store,
        clock(store),
        host="here",
        pid=1,
        slots=1,
        queues=["*"],
        tags=[],
        lease=60,
        version="bench",
    )


def _claim(database: Database, worker: int) -> float:
    began = time.perf_counter()
    claimed = database.transact(_claim_one, worker)
    seconds = time.perf_counter() - began
    if len(claimed) != 1:
        raise Failed("there was nothing to claim")
    return seconds


def _claim_one(store: Store, worker: int) -> list[claims.ClaimedTask]:
    """As a worker's turn does it."""
    lanes = claims.lanes(store, ["*"], [])
    take = claims.waiting(store, lanes, 1)
    return claims.claim(store, worker, "here", take, 60, clock(store))
