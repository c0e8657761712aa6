"""The operator's pages over a million jobs and ten million tasks on MariaDB, each
called in the process through the whole stack; what a page weighs with all that
it needs; and what two hundred open overviews cost.
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from backoffice.web.app import make_app
from bench import api
from bench.claim import fill
from bench.place import Place, Server
from bench.report import Line

TASKS = 10  # of each job
OPEN, EVERY = 200, 2.0  # overviews, and seconds between two polls of one
HTML = "text/html"
PAGES = (
    *"/ /jobs /jobs?state=succeeded /jobs?workflow=noop&submitter=bench".split(),
    "/jobs/{job}",
    "/tasks",
    "/tasks/{job}",
    *"/files /publications /queues /workers /workflows".split(),
    "/nodes",
    *"/workflows/web-video /profiles /profiles/mp4-360 /schedules /events".split(),
    *"/submit /tokens /about /metrics".split(),
)


def measure(folder: Path, server: Server, quick: bool) -> list[Line]:
    few, many, calls = (1_000, 20_000, 10) if quick else (10_000, 1_000_000, 40)
    apps = {}
    for jobs in (few, many):
        uri = f"mysql://root@localhost/{server.new_database()}?unix_socket={server.socket}"
        settings = {"BACKOFFICE_WEB_RATE": "0", "BACKOFFICE_WEB_ACCESS_LOG": "none"}
        place = Place(folder / str(jobs), uri, **settings)
        fill(place.database, jobs, TASKS)
        apps[jobs] = make_app(place.settings)
    lines = [_page(path, apps, few, many, calls) for path in PAGES]
    return [*lines, _weight(apps[many]), _overviews(apps[many], calls)]


def _page(path: str, apps: dict[int, Any], few: int, many: int, calls: int) -> Line:
    times: dict[int, list[float]] = {few: [], many: []}
    for number in range(calls + 1):
        for jobs, app in apps.items():
            took = api.timed(app, "GET", path.format(job=jobs // 2), 200, HTTP_ACCEPT=HTML)
            if number:  # the first one compiles the template
                times[jobs].append(took)
    small, large = (statistics.median(times[jobs]) * 1000 for jobs in (few, many))
    told = f"{small:.1f} ms over {few:,} jobs: {large / small:.2f} ×"
    return Line("pages", path, told, large, 50, at_most=True, unit="ms")


def _weight(app: Callable[..., Any]) -> Line:
    """The overview, which needs most, as a browser fetches it; the player aside."""
    page = api.body(app, "/", HTTP_ACCEPT=HTML)
    assets = set(re.findall(r'(?:href|src)="(/static/[^"]+)"', page.decode()))
    sizes = [len(api.body(app, "/", HTTP_ACCEPT=HTML, HTTP_ACCEPT_ENCODING="br"))]
    sizes += [len(api.body(app, path, HTTP_ACCEPT_ENCODING="br")) for path in sorted(assets)]
    told = f"the page {sizes[0] / 1000:.1f} kB, and {len(assets)} assets"
    return Line("pages", "weight", told, sum(sizes) / 1000, 150, at_most=True, unit="kB")


def _overviews(app: Callable[..., Any], calls: int) -> Line:
    """Each polls, and fetches the page anew, as it does while tasks run."""
    last = api.last_event(app)
    poll = f"/events.json?after={last}"
    tag = api.tag(app, poll)
    used = time.process_time()
    for _ in range(calls * 5):
        api.timed(app, "GET", poll, 304, HTTP_IF_NONE_MATCH=tag)
        api.timed(app, "GET", "/", 200, HTTP_ACCEPT=HTML)
    each = (time.process_time() - used) / (calls * 5)
    told = f"{each * 1000:.2f} ms of this process for a poll and a page, every {EVERY:g} s"
    share = 100 * each * OPEN / EVERY
    return Line(
        "pages", f"{OPEN} open overviews", told, share, 30, at_most=True, unit="% of a core"
    )
