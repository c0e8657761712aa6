"""From before submit to the moment the task's own command runs, on an idle
worker with the settings as they come. The command is ``date``, so the time is
told by the far end itself; pauses are random, so that no rhythm is met.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

from bench.place import Place, Server, wait_for
from bench.report import Line


def measure(folder: Path, server: Server, quick: bool) -> list[Line]:
    count = 40 if quick else 200
    name = server.new_database()
    uri = f"mysql://root@localhost/{name}?unix_socket={server.socket}"
    return [
        *_lines("latency mariadb", Place(folder / "mariadb", uri), count),
        *_lines("latency sqlite", Place(folder / "sqlite"), count),
    ]


def _lines(row: str, place: Place, count: int) -> list[Line]:
    with place.workers():
        times = sorted(_sample(place) for _ in range(count))
    place.require_success()
    median = times[len(times) // 2] * 1000
    late = times[min(len(times) - 1, int(len(times) * 0.99))] * 1000
    measured = f"{count} samples, {times[0] * 1000:.0f} to {times[-1] * 1000:.0f} ms"
    return [
        Line(row, "submit to started, median", measured, median, 100, at_most=True, unit="ms"),
        Line(row, "submit to started, p99", "", late, 250, at_most=True, unit="ms"),
    ]


def _sample(place: Place) -> float:
    time.sleep(random.uniform(0.1, 0.6))
    before = time.time()
    job = place.submit("stamp")
    wait_for(lambda: not place.unfinished(), 30, "a job did not end")
    log = place.value(
        "SELECT a.log FROM attempt a JOIN task t ON t.id = a.task_id WHERE t.job_id = ?", job
    )
    last = Path(str(log)).read_text().split()[-1]
    return float(last) - before
