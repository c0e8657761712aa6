"""Ten minutes of operators and scripts (``locustfile.py``) on the real server, with
real workers and a scheduler, on MariaDB: does memory stay flat, does anything
fail, and how long do answers take?
"""

from __future__ import annotations

import csv
import os
import socket
import statistics
import subprocess
import sys
import threading
from pathlib import Path

from bench.place import ROOT, Failed, Place, Server, process, wait_for
from bench.report import Line

USERS = 24
EVERY = 2.0  # seconds between two looks at the memory


def measure(folder: Path, server: Server, quick: bool) -> list[Line]:
    seconds = 40 if quick else 600
    port = free_port()
    uri = f"mysql://root@localhost/{server.new_database()}?unix_socket={server.socket}"
    place = Place(
        folder,
        uri,
        BACKOFFICE_WEB_LISTEN=f"127.0.0.1:{port}",
        BACKOFFICE_WEB_RATE="0",
        BACKOFFICE_SERVICE_PARTS="scheduler worker web",
    )
    command = [sys.executable, "-m", "backoffice", "web"]
    scheduler = [sys.executable, "-m", "backoffice", "scheduler"]
    with (
        place.workers(1),
        process(scheduler, folder / "scheduler.log", **place.environ),
        process(command, folder / "web.log", **place.environ) as pid,
    ):
        wait_for(lambda: listens(port), 30, "the web server did not start")
        memory = _Memory(pid)
        figures = _locust(folder, port, seconds)
        sizes = memory.stop()
    return [*_memory_lines(sizes, seconds), *_latencies(figures)]


def _locust(folder: Path, port: int, seconds: int) -> list[dict[str, str]]:
    command = [
        sys.executable,
        "-m",
        "locust",
        "-f",
        str(ROOT / "bench" / "locustfile.py"),
        "--headless",
        "--users",
        str(USERS),
        "--spawn-rate",
        "4",
        "--run-time",
        f"{seconds}s",
        "--host",
        f"http://127.0.0.1:{port}",
        "--csv",
        str(folder / "load"),
        "--only-summary",
    ]
    with open(folder / "locust.log", "wb") as log:
        subprocess.run(command, stdout=log, stderr=log, cwd=ROOT, check=False)
    try:
        with open(folder / "load_stats.csv", newline="") as table:
            return list(csv.DictReader(table))
    except OSError as error:
        text = (folder / "locust.log").read_text(errors="replace")
        raise Failed(f"locust made no figures: {text[-2000:]}") from error


class _Memory:
    """Resident bytes of a process, looked at again and again."""

    def __init__(self, pid: int) -> None:
        self._path = Path(f"/proc/{pid}/statm")
        self._sizes: list[float] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> list[float]:
        self._ended.set()
        self._thread.join()
        return self._sizes

    def _look(self) -> None:
        page = os.sysconf("SC_PAGE_SIZE")
        while not self._ended.wait(EVERY):
            self._sizes.append(int(self._path.read_text().split()[1]) * page)


def _memory_lines(sizes: list[float], seconds: int) -> list[Line]:
    """Once everything was used for the first time, which takes a fifth of it."""
    part = max(1, len(sizes) // 5)
    early, late = (statistics.median(one) for one in (sizes[part : 2 * part], sizes[-part:]))
    told = (
        f"{early / 1e6:.1f} MB in the second fifth of {seconds} s, {late / 1e6:.1f} MB in the last"
    )
    return [Line("load", "resident memory of the server", told, late / early, 1.05, at_most=True)]


def _latencies(figures: list[dict[str, str]]) -> list[Line]:
    lines = []
    for one in figures:
        count, failed = int(one["Request Count"]), int(one["Failure Count"])
        if one["Name"] == "Aggregated":
            told = f"{count} requests, {float(one['Requests/s']):.0f}/s"
            lines.append(Line("load", "failed", told, failed, 0, at_most=True, unit=""))
        told = f"median {one['50%']} ms, p95 {one['95%']} ms of {count}"
        lines.append(Line("load", f"{one['Name']}, p99", told, float(one["99%"]), unit="ms"))
    return lines


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
