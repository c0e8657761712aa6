"""The whole service as an admin meets it, on MariaDB: how soon it is ready, how soon
it stops when idle, whether reloads fail any of wrk's requests, and what the web
server's process keeps of memory after a thousand pages and answers.
"""

from __future__ import annotations

import http.client
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from backoffice.system.sd_notify import Receiver
from bench.idle import resident
from bench.load import free_port
from bench.place import Failed, Place, Server, process, wait_for
from bench.report import Line

REQUESTS = 1000
JOBS = 50
PATHS = (
    "/",
    "/jobs",
    "/jobs/{job}",
    "/tasks/{job}",
    *"/files /queues /workers /events".split(),
    *"/workflows /workflows/noop /profiles /publications /submit".split(),
    "/jobs.xml",
    "/jobs.json",
    "/jobs/{job}.xml",
    "/jobs/{job}/tasks.json",
    "/events.json",
    *"/metrics /health/ready /openapi.json /schema/job.xsd".split(),
)
PAGE = {"Accept": "text/html,*/*;q=0.8"}
RELOAD_EVERY = 1.0  # seconds


def measure(folder: Path, server: Server, quick: bool) -> list[Line]:
    port = free_port()
    place = Place(
        folder,
        f"mysql://root@localhost/{server.new_database()}?unix_socket={server.socket}",
        BACKOFFICE_LOG_LEVEL="info",
        BACKOFFICE_WEB_LISTEN=f"127.0.0.1:{port}",
        BACKOFFICE_WEB_RATE="0",
    )
    starts = [_start_and_stop(place) for _ in range(2 if quick else 5)]
    with _running(place) as pid:
        for _ in range(JOBS):
            place.submit("noop")
        wait_for(lambda: not place.unfinished(), 60, "jobs did not end")
        memory = _memory(place, port, _web(pid))
        reloads = _reloads(place, port, pid, 5 if quick else 20)
    return [*_times(starts), memory, reloads]


@contextmanager
def _running(place: Place) -> Iterator[int]:
    """Gives the parent's process id once it is ready."""
    ears = Receiver()
    log = place.folder / "service.log"
    command = [sys.executable, "-m", "backoffice", "serve"]
    try:
        with process(command, log, **place.environ, NOTIFY_SOCKET=ears.address) as pid:
            _await(ears, 30, log)
            yield pid
    finally:
        ears.close()


def _await(ears: Receiver, seconds: float, log: Path) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        select.select([ears.fileno()], [], [], 1)
        if any("READY" in fields for _, fields in ears.receive()):
            return
    raise Failed(f"the service was not ready: {log.read_text()[-1000:]}")


def _start_and_stop(place: Place) -> tuple[float, float]:
    began = time.monotonic()
    with _running(place):
        ready = time.monotonic() - began
        time.sleep(1)  # it has come to rest
        began = time.monotonic()
    return ready, time.monotonic() - began


def _times(starts: list[tuple[float, float]]) -> list[Line]:
    lines = []
    for what, seconds in zip(
        ("start to ready", "stop when idle"), zip(*starts, strict=True), strict=True
    ):
        told = "the slowest of " + ", ".join(f"{one:.2f}" for one in seconds)
        lines.append(Line("service", what, told, max(seconds), 2, at_most=True, unit="s"))
    return lines


def _web(parent: int) -> int:
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    for pid in map(int, children):
        if Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[-2] == b"web":
            return pid
    raise Failed("the service has no web server")


def _memory(place: Place, port: int, pid: int) -> Line:
    job = str(place.value("SELECT MAX(id) FROM job"))
    before = resident(pid)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    for number in range(REQUESTS):
        path = PATHS[number % len(PATHS)].format(job=job)
        connection.request("GET", path, headers=PAGE)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise Failed(f"GET {path}: {answer.status}")
    connection.close()
    told = f"after {REQUESTS} pages and answers of {len(PATHS)} kinds; {before:.1f} MB before"
    return Line("service", "web process", told, resident(pid), 80, at_most=True, unit="MB")


def _reloads(place: Place, port: int, pid: int, seconds: int) -> Line:
    """HUP again and again, while connections that stay open ask without a pause."""
    program = shutil.which("wrk")
    if program is None:
        raise Failed("wrk is missing; apt-get install wrk")
    wrk = subprocess.Popen(
        [program, "-t2", "-c8", f"-d{seconds}s", f"http://127.0.0.1:{port}/jobs.xml"],
        stdout=subprocess.PIPE,
        text=True,
    )
    while wrk.poll() is None:
        os.kill(pid, signal.SIGHUP)
        time.sleep(RELOAD_EVERY)
    said = wrk.communicate()[0]
    count = (place.folder / "service.log").read_text().count("reload.done part=web")
    if wrk.returncode or count < seconds // 3:
        raise Failed(f"{count} reloads in {seconds} s; wrk said: {said}")
    errors = re.findall(r"(?:connect|read|write|timeout|responses:) (\d+)", said)
    requests = re.findall(r"(\d+) requests in", said)[0]
    told = f"{requests} requests on 8 connections, {count} reloads in {seconds} s"
    failed = sum(map(int, errors))
    return Line("service", "failed while reloading", told, failed, 0, at_most=True, unit="")
