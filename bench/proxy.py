"""What Apache in front costs: a job and a page of jobs through the shipped
configuration, by TLS and over one kept connection, against the same straight from
the service's Unix socket. All take turns, so that all meet the same noise. Scripts
come with a token; a person's password is hashed anew for every request, which is
told apart.
"""

from __future__ import annotations

import io
import statistics
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path

from backoffice.data import tokens
from bench.place import Failed, Place, Server, process, wait_for
from bench.report import Line
from tests.acceptance.apache import apache
from tests.acceptance.servers import Client, basic, client, live

ASKED = {"a job": "/jobs/1", "a page of 50 jobs": "/jobs?limit=50"}
JOBS = 100
# Whose password is bench, as "htpasswd -B" stores it.
PERSON = "bench:$2y$05$backofficebackofficebeVi4PT.s153yjewa.lWDir31sMGYQ.gy\n"


def measure(folder: Path, server: Server, quick: bool) -> list[Line]:
    socket = folder / "web.sock"
    place = Place(
        folder,
        BACKOFFICE_WEB_LISTEN=f"unix:{socket}",
        BACKOFFICE_WEB_RATE="0",
        BACKOFFICE_AUTH_REQUIRED="yes",
        BACKOFFICE_AUTH_VIEWERS="*",
    )
    for _ in range(JOBS):
        place.submit("noop")
    token = place.database.transact(tokens.create, "bench", "viewer", "bench")[1]
    command = [sys.executable, "-m", "backoffice", "web"]
    with process(command, folder / "web.log", **place.environ):
        wait_for(lambda: socket.exists() and live(socket), 30, "the web server did not start")
        # It would print its log at the end.
        with redirect_stdout(io.StringIO()), apache("backoffice.conf", {}, SOCKET=socket) as proxy:
            (proxy.folder / "users").write_text(PERSON)
            bearer = {"Authorization": f"Bearer {token}"}
            with (
                client(socket, **bearer) as direct,
                client(proxy.address, **bearer) as script,
                client(proxy.address, Authorization=basic("bench", "bench")) as person,
            ):
                count = 100 if quick else 1000
                visitors = [direct, script, person]
                return [
                    line
                    for what, path in ASKED.items()
                    for line in _lines(what, *_medians(visitors, path, count))
                ]


def _lines(what: str, direct: float, script: float, person: float) -> list[Line]:
    told = f"{script:.2f} ms; straight from the socket {direct:.2f} ms"
    hashed = f"{person:.2f} ms, the password stored by htpasswd -B"
    return [
        Line("proxy", f"Apache's share of {what}", told, script - direct, 1, True, "ms"),
        Line("proxy", "of it for a person", hashed, person - direct, unit="ms"),
    ]


def _medians(visitors: list[Client], path: str, count: int) -> list[float]:
    """Milliseconds, for each of them."""
    times: list[list[float]] = [[] for _ in visitors]
    for number in range(count + 10):
        for visitor, found in zip(visitors, times, strict=True):
            took = _seconds(visitor, path)
            if number >= 10:  # everything was used for the first time
                found.append(took)
    return [statistics.median(one) * 1000 for one in times]


def _seconds(visitor: Client, path: str) -> float:
    began = time.perf_counter()
    status = visitor.get(path).status
    took = time.perf_counter() - began
    if status != 200:
        raise Failed(f"{path} was answered with {status}")
    return took
