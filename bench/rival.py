"""The queue that a small installation would take instead: huey on SQLite, with
commits that reach the disk. Imported by its consumer's processes too.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from huey import SqliteHuey  # type: ignore[import-untyped]

from bench.place import process, wait_for

MARKS = "BENCH_MARKS"
FILE = "BENCH_HUEY"

huey = SqliteHuey("bench", filename=os.environ.get(FILE, ":memory:"), fsync=True)


@huey.task()  # type: ignore[untyped-decorator]
def nothing() -> None:
    pass


@huey.task()  # type: ignore[untyped-decorator]
def mark() -> None:
    with open(os.environ[MARKS], "a") as marks:
        marks.write(f"{time.time()}\n")


def run(folder: Path, count: int) -> tuple[float, float]:
    """Enqueue so many tasks while two worker processes run them; seconds until
    all were enqueued, and until the last had run. A first mark shows that the
    consumer is there, the last one stands behind all tasks."""
    folder.mkdir()
    file, marks = folder / "huey.db", folder / "marks"
    huey.storage.close()
    huey.storage = huey.get_storage(filename=str(file), fsync=True)
    consumer = [sys.executable, "-m", "huey.bin.huey_consumer", "bench.rival.huey"]
    environ = {FILE: str(file), MARKS: str(marks)}
    with process([*consumer, "-q", "-w", "2", "-k", "process"], folder / "log", **environ):
        mark()
        wait_for(lambda: len(_times(marks)) == 1, 30, "huey did not start")
        began = time.time()
        for _ in range(count):
            nothing()
        enqueued = time.time() - began
        mark()
        wait_for(lambda: len(_times(marks)) == 2, 300, "huey did not finish")
    return enqueued, _times(marks)[-1] - began


def _times(marks: Path) -> list[float]:
    return [float(line) for line in marks.read_text().split()] if marks.exists() else []
