"""A worker with nothing to do, settings as they come: what it keeps of memory
and what it takes of a core, its children included. It has run a job before.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from backoffice.workers.process_pool import KEEP_IDLE
from bench.place import Place, Server, wait_for
from bench.report import Line

TICK = os.sysconf("SC_CLK_TCK")


def measure(folder: Path, server: Server, quick: bool) -> list[Line]:
    seconds = 5.0 if quick else 30.0
    name = server.new_database()
    uri = f"mysql://root@localhost/{name}?unix_socket={server.socket}"
    return [
        *_lines("idle mariadb", Place(folder / "mariadb", uri), seconds),
        *_lines("idle sqlite", Place(folder / "sqlite"), seconds),
    ]


def _lines(row: str, place: Place, seconds: float) -> list[Line]:
    with place.workers() as (worker,):
        place.submit("stamp")
        wait_for(lambda: not place.unfinished(), 30, "a job did not end")
        time.sleep(KEEP_IDLE + 2)
        before = _ticks(worker)
        time.sleep(seconds)
        share = (_ticks(worker) - before) / TICK / seconds * 100
        size = resident(worker)
    return [
        Line(row, "resident memory", "with its children", size, 60, at_most=True, unit="MB"),
        Line(row, "of a core", f"over {seconds:.0f} s", share, 1, at_most=True, unit="%"),
    ]


def _family(worker: int) -> list[int]:
    children = Path(f"/proc/{worker}/task/{worker}/children").read_text().split()
    return [worker, *(int(child) for child in children)]


def resident(worker: int) -> float:
    """Megabytes; pages that processes share count for each."""
    pages = sum(int(Path(f"/proc/{p}/statm").read_text().split()[1]) for p in _family(worker))
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _ticks(worker: int) -> int:
    """User and system time, of children that ended too."""
    total = 0
    for process in _family(worker):
        stat = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        total += sum(int(field) for field in stat[11:15])
    return total
