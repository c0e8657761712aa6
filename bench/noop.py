"""Tasks that do nothing, from submit to succeeded, with two workers.

On MariaDB against hand-written SQL that leaves the same rows in as many
commits; on SQLite against huey. Submitting and running are measured one after
the other, each job submitted in its own transaction by one process.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from backoffice.database import moment
from bench import floor
from bench.place import Place, Server, wait_for
from bench.report import Line

SLOTS = 16
WORKERS = 2


@dataclass(frozen=True)
class Pace:
    """Seconds for so many tasks."""

    count: int
    submitting: float
    running: float

    def __str__(self) -> str:
        return (
            f"{self.count / self.submitting:.0f} submitted/s, {self.count / self.running:.0f} run/s"
        )

    @property
    def whole(self) -> float:
        return self.submitting + self.running


def measure(folder: Path, server: Server, quick: bool) -> list[Line]:
    count = 1000 if quick else 5000
    return [*_mariadb(folder / "mariadb", server, count), *_sqlite(folder / "sqlite", count)]


def _mariadb(folder: Path, server: Server, count: int) -> list[Line]:
    name = server.new_database()
    place = Place(folder, f"mysql://root@localhost/{name}?unix_socket={server.socket}")
    submitting = _submit(place, count)
    before = server.commits()
    ours = Pace(count, submitting, _drain(place))
    commits = server.commits() - before
    batch = max(1, round(count / commits))
    other = server.new_database()
    Place(folder / "floor", f"mysql://root@localhost/{other}?unix_socket={server.socket}")
    connection = server.connect(other)
    floors = Pace(
        count,
        floor.submit(connection, count),
        floor.drain(lambda: server.connect(other), batch, WORKERS),
    )
    connection.close()
    return _lines("noop mariadb", f"plain SQL, {batch} a commit", ours, floors, 0.7)


def _sqlite(folder: Path, count: int) -> list[Line]:
    from bench import rival

    place = Place(folder)
    submitting = _submit(place, count)
    ours = Pace(count, submitting, _drain(place))
    rivals = Pace(count, *rival.run(folder / "huey", count))
    return _lines("noop sqlite", "huey, fsync", ours, rivals, 1.0)


def _lines(row: str, against: str, ours: Pace, other: Pace, goal: float) -> list[Line]:
    measured = f"{ours}; {against}: {other}"
    return [
        Line(row, "submit to succeeded", measured, other.whole / ours.whole, goal),
        Line(row, "of it: submitting", "", other.submitting / ours.submitting),
        Line(row, "of it: running", "", other.running / ours.running),
    ]


def _submit(place: Place, count: int) -> float:
    place.submit("noop")  # makes the lane
    began = time.perf_counter()
    for _ in range(count):
        place.submit("noop")
    return time.perf_counter() - began


def _drain(place: Place) -> float:
    """Seconds from the first claim to the last end, by the database's clock."""
    with place.workers(WORKERS, BACKOFFICE_WORKER_SLOTS=str(SLOTS)):
        wait_for(lambda: not place.unfinished(), 120, "the workers did not finish")
    place.require_success()
    first = moment(place.value("SELECT MIN(started) FROM attempt"))  # type: ignore[arg-type]
    last = moment(place.value("SELECT MAX(finished) FROM job"))  # type: ignore[arg-type]
    assert isinstance(first, datetime)
    assert isinstance(last, datetime)
    return (last - first).total_seconds()
