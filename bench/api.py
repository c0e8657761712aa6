"""The interface over many jobs on MariaDB: a page, a poll, a submit, each called
in the process through the whole stack; and the memory of a long list, streamed.
"""

from __future__ import annotations

import io
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

from backoffice.web.app import make_app
from bench.claim import fill
from bench.place import Place, Server
from bench.report import Line

SUBMIT = b'<job xmlns="urn:backoffice:1" workflow="noop"><title>A job</title></job>'


def measure(folder: Path, server: Server, quick: bool) -> list[Line]:
    few, many, calls = (1_000, 20_000, 50) if quick else (10_000, 1_000_000, 300)
    pages = {}
    for jobs in (few, many):
        uri = f"mysql://root@localhost/{server.new_database()}?unix_socket={server.socket}"
        place = Place(
            folder / str(jobs),
            uri,
            BACKOFFICE_WEB_RATE="0",
            BACKOFFICE_WEB_ACCESS_LOG="none",
        )
        fill(place.database, jobs)
        pages[jobs] = place
    apps = {jobs: make_app(place.settings) for jobs, place in pages.items()}
    page: dict[int, list[float]] = {few: [], many: []}
    for _ in range(calls):
        for jobs, app in apps.items():
            page[jobs].append(timed(app, "GET", "/jobs?limit=50", 200))
    small, large = (statistics.median(page[jobs]) * 1000 for jobs in (few, many))
    lines = [
        Line(
            "api mariadb",
            f"GET /jobs of 50 as XML, {many:,} jobs",
            f"median of {calls}; p99 {_p99(page[many]):.2f} ms",
            large,
            10,
            at_most=True,
            unit="ms",
        ),
        Line(
            "api mariadb", f"of it over {few:,} jobs", f"{small:.2f} ms", large / small, 1.5, True
        ),
    ]
    app, place = apps[many], pages[many]
    lines += _filters(app, calls)
    last = last_event(app)
    poll = f"/events?after={last}"
    newest = tag(app, poll)
    lines.append(
        _line(
            "GET /events when nothing is new: 304",
            [timed(app, "GET", poll, 304, HTTP_IF_NONE_MATCH=newest) for _ in range(calls)],
            1.5,
        )
    )
    lines.append(
        _line(
            "POST /jobs",
            [timed(app, "POST", "/jobs", 201, SUBMIT) for _ in range(calls)],
            15,
        )
    )
    listed = min(many, 200_000)
    lines.append(
        Line(
            "api mariadb",
            f"memory for {listed:,} jobs as XML",
            "over that of a page of 50",
            _memory(place, listed) / 1e6,
            30,
            at_most=True,
            unit="MB",
        )
    )
    return lines


def _filters(app: Any, calls: int) -> list[Line]:
    asked = ("state=succeeded", "workflow=noop", "submitter=bench", "submitted-after=2025-01-01")
    return [
        _line(
            f"GET /jobs?{query}",
            [timed(app, "GET", f"/jobs?{query}", 200) for _ in range(calls // 3)],
            10,
        )
        for query in asked
    ]


def _line(what: str, times: list[float], goal: float) -> Line:
    told = f"median of {len(times)}; p99 {_p99(times):.2f} ms"
    value = statistics.median(times) * 1000
    return Line("api mariadb", what, told, value, goal, at_most=True, unit="ms")


def _p99(times: list[float]) -> float:
    return sorted(times)[int(len(times) * 0.99)] * 1000


def timed(
    app: Callable[..., Any], method: str, path: str, status: int, body: bytes = b"", **more: str
) -> float:
    """Seconds until the last byte; the database is the only one beside us."""
    environ = _environ(method, path, body, more)
    statuses: list[str] = []
    began = time.perf_counter()
    result = app(environ, lambda status, *_: statuses.append(status))
    for _ in result:
        pass
    result.close()
    seconds = time.perf_counter() - began
    if not statuses[0].startswith(str(status)):
        raise AssertionError(f"{method} {path}: {statuses[0]}")
    return seconds


def _environ(method: str, path: str, body: bytes, more: dict[str, str]) -> dict[str, Any]:
    name, _, query = path.partition("?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "PATH_INFO": name,
        "QUERY_STRING": query,
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "localhost",
        "wsgi.input": io.BytesIO(body),
    }
    if body:
        environ |= {"CONTENT_LENGTH": str(len(body)), "CONTENT_TYPE": "application/xml"}
    setup_testing_defaults(environ)
    return environ | more


def tag(app: Callable[..., Any], path: str) -> str:
    found: list[list[tuple[str, str]]] = []
    result = app(_environ("GET", path, b"", {}), lambda status, headers, *_: found.append(headers))
    result.close()
    return dict(found[0])["ETag"]


def body(app: Callable[..., Any], path: str, **more: str) -> bytes:
    result = app(_environ("GET", path, b"", more), lambda *_: None)
    try:
        return b"".join(result)
    finally:
        result.close()


def last_event(app: Callable[..., Any]) -> int:
    events = json.loads(body(app, "/events.json?limit=1"))["events"]
    return int(events[-1]["id"]) if events else 0


MEMORY = """
import os, resource, sys
from bench import api
from backoffice.config.loading import load
from backoffice.web.app import make_app
app = make_app(load(None, os.environ))
api.timed(app, "GET", "/jobs?limit=50", 200)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
api.timed(app, "GET", "/jobs?limit=" + sys.argv[1], 200)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def _memory(place: Place, jobs: int) -> float:
    """Bytes more at most, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(jobs)],
        env={**os.environ, **place.environ},
        check=True,
        capture_output=True,
        text=True,
    )
    return int(done.stdout) * 1024
