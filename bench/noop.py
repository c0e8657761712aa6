"""Tasks that do nothing, from submit to succeeded, with two workers.

On MariaDB against hand-written SQL that leaves the same rows in as many
commits; on SQLite against huey. One process submits, each job in its own
transaction, while two others run what there is: the time is from the first
submit to the last end. Submitting is also told by itself.

Workers run ``noop`` tasks themselves, without a process each. What the hand-over
to processes costs is told beside it, by tasks of another type that have nothing
to do (``checksum`` of no files).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from backoffice.data.sql import moment
from bench import floor
from bench.place import Place, Server, wait_for
from bench.report import Line

SLOTS = 16
WORKERS = 2


@dataclass(frozen=True)
class Pace:
    """Seconds for so many tasks: until all were submitted, until all had ended."""

    count: int
    submitting: float
    whole: float

    def __str__(self) -> str:
        return f"{self.count / self.whole:.0f}/s, submitted at {self.count / self.submitting:.0f}/s"


def measure(folder: Path, server: Server, quick: bool) -> list[Line]:
    count = 1000 if quick else 5000
    return [*_mariadb(folder / "mariadb", server, count), *_sqlite(folder / "sqlite", count)]


def _mariadb(folder: Path, server: Server, count: int) -> list[Line]:
    name = server.new_database()
    place = Place(folder, f"mysql://root@localhost/{name}?unix_socket={server.socket}")
    before = server.commits()
    ours = _run(place, count)
    commits = server.commits() - before - count  # those of the workers
    batch = max(1, round(count / commits))
    other = server.new_database()
    Place(folder / "floor", f"mysql://root@localhost/{other}?unix_socket={server.socket}")
    floors = Pace(count, *floor.run(lambda: server.connect(other), count, batch, WORKERS))
    third = f"mysql://root@localhost/{server.new_database()}?unix_socket={server.socket}"
    apart = _run(Place(folder / "apart", third), count, "idle")
    return _lines("noop mariadb", f"plain SQL, {batch} a commit", ours, apart, floors, 0.7)


def _sqlite(folder: Path, count: int) -> list[Line]:
    from bench import rival

    ours = _run(Place(folder), count)
    rivals = Pace(count, *rival.run(folder / "huey", count))
    apart = _run(Place(folder / "apart"), count, "idle")
    tens = _run(Place(folder / "tens"), count, "ten", size=10)
    return [
        *_lines("noop sqlite", "huey, fsync", ours, apart, rivals, 1.0),
        Line("noop sqlite", "in jobs of ten tasks", f"{tens}", rivals.whole / tens.whole),
    ]


def _lines(row: str, against: str, ours: Pace, apart: Pace, other: Pace, goal: float) -> list[Line]:
    measured = f"{ours}; {against}: {other}"
    return [
        Line(row, "submit to succeeded", measured, other.whole / ours.whole, goal),
        Line(row, "of it: submitting", "", other.submitting / ours.submitting),
        Line(row, "in processes of their own", f"{apart}", other.whole / apart.whole),
    ]


def _run(place: Place, count: int, workflow: str = "noop", size: int = 1) -> Pace:
    """So many tasks, ``size`` of them in each job."""
    place.submit(workflow)  # makes the lane, and shows that the workers are there
    with place.workers(WORKERS, BACKOFFICE_WORKER_SLOTS=str(SLOTS)):
        wait_for(lambda: not place.unfinished(), 30, "the workers did not begin")
        began = time.time()
        for _ in range(count // size):
            place.submit(workflow)
        submitted = time.time()
        wait_for(lambda: not place.unfinished(), 120, "the workers did not finish")
    place.require_success()
    last = moment(place.value("SELECT MAX(finished) FROM job"))  # type: ignore[arg-type]
    assert isinstance(last, datetime)
    return Pace(count, submitted - began, last.replace(tzinfo=UTC).timestamp() - began)
