"""The overview: what runs, what failed, what waits and why, on one page.

Its figures come from ``figures``, ``causes``, ``charts`` and ``disks``. All who
look within a second see the same one.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from genshi.core import Markup
from storm.locals import Store

from backoffice.data.database import Database
from backoffice.data.sql import clock
from backoffice.reports import failure_groups, queue_depths, queue_statistics, records
from backoffice.reports.failure_groups import Cause, Causes
from backoffice.reports.records import Record
from backoffice.states import ACTIVE, DRAINING, LOST
from backoffice.system import disk_space
from backoffice.system.disk_space import Disk
from backoffice.web.context import RequestContext
from backoffice.web.pages import charts, render
from backoffice.web.pages.render import NONE, join, link, moment, row, size, span, state

RUNNING_SHOWN = 12  # so that what waits and what failed is on the first screen
CAUSES_SHOWN = 10
WORKERS_SHOWN = 50
LITTLE = 0.05  # of a disk: less room than this is pointed out
DAY = timedelta(days=1)


def overview(context: RequestContext, record: Any) -> bytes:
    shared = _shared_of(context.site.database).main(context)
    main = Markup(shared.replace(_TOKEN, str(context.environ.get("middleware.csrf_token", ""))))
    return render.page(context, "overview/overview.html", title="Overview", main=main)


# What everybody sees alike --------------------------------------------------

# Stands for the token of whoever looks; nobody can write it into a title.
_TOKEN = secrets.token_hex(16)
_FRESH = 1.0  # seconds for which it is shown again, unless something happens


@dataclass(frozen=True)
class _Made:
    event: int  # the newest there was
    at: float
    main: Markup


class Shared:
    """The overview without its frame, for all who look: hundreds may have it open
    all day. It is made anew when there is a new event, and after a second,
    because progress is none."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: dict[tuple[str, bool], _Made] = {}

    def main(self, context: RequestContext) -> Markup:
        event = records.last_event(context.store)
        kind = (context.url("/"), context.may("operator"))
        with self._lock:  # one makes it, the others wait for it
            made = self._made.get(kind)
            if made is None or made.event != event or time.monotonic() - made.at > _FRESH:
                made = self._made[kind] = _Made(event, time.monotonic(), _main(context))
            return made.main


@lru_cache(maxsize=4)
def _shared_of(database: Database) -> Shared:
    """The one of this process."""
    return Shared()


def _main(context: RequestContext) -> Markup:
    store, now = context.store, clock(context.store)
    queues = queue_statistics.queues(store)
    running = queue_statistics.running(store, RUNNING_SHOWN + 1)
    failed = failure_groups.since(store, now - DAY)
    workers = records.workers(store, states=(ACTIVE, DRAINING, LOST), limit=WORKERS_SHOWN + 1)
    return render.part(
        context,
        "overview/overview-main.html",
        token=_TOKEN,
        operator=context.may("operator"),
        summary=_summary(queues, failed),
        untaken=_untaken(store, sorted(context.site.settings.watches)),
        running=join([task_row(context, one) for one in running[:RUNNING_SHOWN]]),
        more_running=len(running) > RUNNING_SHOWN,
        runs=sum(queue["running"] for queue in queues),
        queues=join([queue_row(context, one) for one in queues]),
        ready=any(queue["ready"] for queue in queues),
        waits=_waits(context, store, workers),
        failed=failed,
        causes=[_cause(context, one) for one in failed.found[:CAUSES_SHOWN]],
        more_causes=len(failed.found) - CAUSES_SHOWN,
        charts=charts.charts(context),
        workers=join([_worker(context, one) for one in workers[:WORKERS_SHOWN]]),
        more_workers=len(workers) > WORKERS_SHOWN,
        disks=join([_disk(one) for one in disk_space.of(context.site.settings).look()]),
    )


def _untaken(store: Store, watches: Sequence[str]) -> str:
    """What watch folders cannot take; empty if there is nothing."""
    found = {name: queue_statistics.untaken_count(store, name) for name in watches}
    closed = [f"{name} cannot be read" for name, (_, readable) in found.items() if not readable]
    files = sum(count for count, _ in found.values())
    waiting = [f"{files:,} {'file' if files == 1 else 'files'} cannot be taken"] if files else []
    return "; ".join([*closed, *waiting])


def _summary(queues: Sequence[Record], failed: Causes) -> Markup:
    """All in a line, which leads to the parts of the page."""
    waiting = sum(queue["ready"] for queue in queues)
    more = "more than " if failed.more else ""
    return row(
        '<a href="#running">%s running</a> · <a href="#queues">%s waiting</a> ·'
        ' <a href="#failures">%s%s failed in the last day</a>',
        f"{sum(queue['running'] for queue in queues):,}",
        many(waiting),
        more,
        f"{failed.jobs:,}",
    )


# Pieces ---------------------------------------------------------------------


def many(count: int) -> str:
    """A number that was counted no further than ``figures.COUNTED``."""
    if count > queue_depths.COUNTED:
        return f"more than {queue_depths.COUNTED:,}"
    return f"{count:,}"


def progress(percent: float, of: str) -> Markup:
    return row(
        '<progress max="100" value="%s" aria-label="Progress of %s"></progress>'
        ' <span class="nowrap">%s %%</span>',
        percent,
        of,
        f"{percent:.0f}",
    )


# What runs and waits --------------------------------------------------------


def task_row(context: RequestContext, one: Record) -> Markup:
    return row(
        '<tr><th scope="row">%s</th><td class="long" dir="auto">%s</td><td class="nowrap">%s</td>'
        '<td class="number">%s</td><td class="number">%s</td><td>%s</td><td>%s</td></tr>',
        link(context, f"/tasks/{one['id']}", one["title"]),
        link(context, f"/jobs/{one['job']}", one["job_title"] or f"job {one['job']}"),
        progress(one["progress"], one["title"]),
        one["speed"] or NONE,
        NONE if one["eta"] is None else span(one["eta"]),
        worker_link(context, one),
        moment(one["started"]),
    )


def worker_link(context: RequestContext, one: Record) -> Markup:
    """The worker that runs a task, by its host."""
    if one["worker"] is None:
        return NONE
    return link(context, f"/workers/{one['worker']}", one["host"] or f"worker {one['worker']}")


def queue_row(context: RequestContext, one: Record) -> Markup:
    name = f"/queues/{quote(one['name'], safe='')}"
    limit = "" if one["limit"] is None else f" of {one['limit']}"
    return row(
        '<tr><th scope="row"><a href="%s">%s</a>%s</th><td class="number">%s</td>'
        '<td class="number">%s</td><td class="number">%s</td><td class="number">%s</td>'
        '<td class="long">%s</td></tr>',
        context.url(name),
        one["name"],
        Markup(" ") + state("paused") if one["paused"] else "",
        many(one["ready"]),
        f"{one['running']}{limit}",
        NONE if one["oldest"] is None else span(one["oldest"]),
        empty_in(one),
        one["waits"] or NONE,
    )


def empty_in(queue: Record) -> Markup | str:
    if queue["empty_in"] is None:
        return Markup('<span class="none">unknown</span>')
    return f"about {span(queue['empty_in'])}" if queue["empty_in"] else "empty"


def _waits(context: RequestContext, store: Store, workers: Sequence[Record]) -> list[Markup]:
    """What waits beside the queues, a line each."""
    lines = []
    if not any(one["state"] == ACTIVE for one in workers):
        lines.append(row("No worker is active, so nothing will run: start one."))
    if missing := queue_statistics.no_scheduler(store):
        lines.append(row("%s.", missing[0].upper() + missing[1:]))
    if paused := queue_statistics.paused_jobs(store):
        url = context.url("/jobs?state=paused")
        lines.append(row('<a href="%s">%s</a> paused: resume to go on.', url, _jobs(paused)))
    scheduled, coming = queue_statistics.scheduled_tasks(store)
    if scheduled:
        tasks = f"{many(scheduled)} {'task waits' if scheduled == 1 else 'tasks wait'}"
        lines.append(row("%s for a time, the next one until %s.", tasks, moment(coming)))
    return lines


def _jobs(count: int) -> str:
    return "1 job is" if count == 1 else f"{many(count)} jobs are"


# What failed ----------------------------------------------------------------


def _cause(context: RequestContext, one: Cause) -> dict[str, Any]:
    mended = one.jobs - len(one.failed)
    return {
        "text": one.text,
        "message": one.message,
        "count": f"{one.jobs} {'job' if one.jobs == 1 else 'jobs'}",
        "mended": f"{mended} no longer failed" if mended else "",
        "newest": moment(one.newest),
        "example": link(context, f"/jobs/{one.example}", f"job {one.example}"),
        "workflows": ", ".join(one.workflows),
        "ids": ",".join(map(str, one.failed)),
        "retry": "Retry it …" if len(one.failed) == 1 else f"Retry all {len(one.failed)} …",
    }


# Where it runs --------------------------------------------------------------


def _worker(context: RequestContext, one: Record) -> Markup:
    return row(
        '<tr><th scope="row">%s</th><td>%s</td><td class="number">%s of %s</td>'
        '<td class="long">%s</td><td>%s</td></tr>',
        link(context, f"/workers/{one['id']}", one["name"]),
        state(one["state"]),
        len(one["running"]),
        one["slots"],
        " ".join(one["queues"]),
        moment(one["heartbeat"]),
    )


def _disk(one: Disk) -> Markup:
    names = join(
        [
            row('<div title="%s">%s</div>', path, name)
            for name, path in zip(one.names, one.folders, strict=True)
        ]
    )
    room = one.room
    if room is None or one.trouble:
        told = row('<span class="warn">%s</span>', one.trouble or "is being looked at")
        return row('<tr><th scope="row">%s</th><td colspan="3">%s</td></tr>', names, told)
    used = 1 - room.free / room.total if room.total else 1.0
    return row(
        '<tr><th scope="row">%s</th><td>%s</td><td class="number">%s</td>'
        '<td class="number">%s</td></tr>',
        names,
        _use(used, one, room.writable),
        size(room.free),
        size(room.total),
    )


def _use(used: float, one: Disk, writable: bool) -> Markup:
    told = "almost full" if used > 1 - LITTLE else ""
    if not writable and any(not name.startswith("root") for name in one.names):
        told = "cannot be written"
    return row(
        '<meter min="0" max="100" high="90" value="%s" aria-label="Use of %s"></meter> %s %%%s',
        f"{100 * used:.0f}",
        one.names[0],
        f"{100 * used:.0f}",
        row(' <strong class="state failed">✗ %s</strong>', told) if told else "",
    )
