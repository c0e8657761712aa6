"""How soon a browser shows something: the first contentful paint of pages in a
headless Chromium, from the real server on loopback, with nothing in its cache.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

from backoffice.engine.submission import lane
from bench.load import free_port, listens
from bench.place import Place, Server, process, wait_for
from bench.report import Line
from tests.acceptance.browser import chromium

PAGES = ("/", "/jobs", "/jobs/1", "/submit")
PAINTED = "return performance.getEntriesByName('first-contentful-paint').map(e => e.startTime)[0]"


def measure(folder: Path, server: Server, quick: bool) -> list[Line]:
    port, times = free_port(), 3 if quick else 10
    settings = {"BACKOFFICE_WEB_LISTEN": f"127.0.0.1:{port}", "BACKOFFICE_WEB_RATE": "0"}
    place = Place(folder, **settings)
    place.database.transact(lambda store: lane(store, "default", frozenset()))
    for _ in range(100):
        place.submit("noop")
    command = [sys.executable, "-m", "backoffice", "web"]
    with process(command, folder / "web.log", **place.environ):
        wait_for(lambda: listens(port), 30, "the web server did not start")
        return [_page(folder, f"http://127.0.0.1:{port}", path, times) for path in PAGES]


def _page(folder: Path, base: str, path: str, times: int) -> Line:
    found = []
    name = path.strip("/").replace("/", "-") or "overview"
    with chromium(folder / name) as driver:
        driver.execute_cdp_cmd("Network.setCacheDisabled", {"cacheDisabled": True})
        for _ in range(times + 1):
            driver.get("about:blank")
            driver.get(base + path)
            wait_for(lambda: driver.execute_script(PAINTED) is not None, 10, "nothing was shown")
            found.append(float(driver.execute_script(PAINTED)))
    told = (
        f"the first of all {found[0]:.0f} ms, slowest of the {times} after {max(found[1:]):.0f} ms"
    )
    value = statistics.median(found[1:])
    return Line("paint", path, told, value, 500, at_most=True, unit="ms")
