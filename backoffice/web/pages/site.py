"""Queues, workers, schedules and watch folders as pages, and what this program is."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import metadata
from typing import Any
from urllib.parse import quote

from genshi.core import Markup
from storm.locals import Store

from backoffice import __version__
from backoffice.config.settings import Settings, Watch
from backoffice.data import migrations
from backoffice.data.cluster import UP
from backoffice.data.sql import clock, server_version
from backoffice.errors import BackofficeError
from backoffice.media import ffmpeg
from backoffice.reports import queue_statistics, records
from backoffice.reports.records import Record
from backoffice.states import ACTIVE, DRAINING, LOST, STOPPED
from backoffice.system import confinement, disk_space
from backoffice.system.confinement import Confinement
from backoffice.web.context import RequestContext
from backoffice.web.pages import overview, render
from backoffice.web.pages.render import NONE, join, link, moment, row, span, state

TAKEN_SHOWN = 10
LIBRARIES = (
    "storm",
    "cherrypy",
    "cheroot",
    "genshi",
    "lxml",
    "webob",
    "whitenoise",
    "prometheus-client",
    "mysqlclient",
)


# Queues ---------------------------------------------------------------------


def queues(context: RequestContext, found: Sequence[Record]) -> bytes:
    rows = [overview.queue_row(context, one) for one in found]
    return render.page(context, "system/queues.html", title="Queues", rows=join(rows))


def queue(context: RequestContext, one: Record) -> bytes:
    name = one["name"]
    return render.page(
        context,
        "system/queue.html",
        title=f"Queue {name}",
        queue=one,
        ready=overview.many(one["ready"]),
        empty_in=overview.empty_in(one),
        address=context.url(f"/queues/{quote(name, safe='')}"),
        lanes=join([_lane(lane) for lane in one["lanes"]]),
        workers=join(_serving(context, one)),
    )


def _lane(one: Record) -> Markup:
    return row(
        '<tr><th scope="row">%s</th><td class="number">%s</td><td class="number">%s</td></tr>',
        " ".join(one["tags"]) or Markup('<span class="none">any worker</span>'),
        overview.many(one["ready"]),
        one["running"],
    )


def _serving(context: RequestContext, queue: Record) -> list[Markup]:
    found = records.workers(context.store, states=(ACTIVE, DRAINING))
    return [_worker(context, one) for one in found if queue_statistics.serves(one, queue["name"])]


# Workers --------------------------------------------------------------------


def workers(context: RequestContext, found: Sequence[Record]) -> bytes:
    """Those that are there first."""
    order = {ACTIVE: 0, DRAINING: 1, LOST: 2, STOPPED: 3}
    shown = sorted(found, key=lambda one: order[one["state"]])
    rows = [_worker(context, one) for one in shown]
    return render.page(
        context,
        "system/workers.html",
        title="Workers",
        rows=join(rows),
        active=sum(one["state"] == ACTIVE for one in found),
        slots=sum(one["slots"] for one in found if one["state"] == ACTIVE),
        busy=sum(len(one["running"]) for one in found),
    )


def _worker(context: RequestContext, one: Record) -> Markup:
    return row(
        '<tr><th scope="row">%s</th><td>%s</td><td class="number">%s of %s</td>'
        '<td class="long">%s</td><td>%s</td><td>%s</td></tr>',
        link(context, f"/workers/{one['id']}", one["name"]),
        state(one["state"]),
        len(one["running"]),
        one["slots"],
        " ".join(one["queues"]),
        " ".join(one["tags"]) or NONE,
        moment(one["heartbeat"]),
    )


def worker(context: RequestContext, one: Record) -> bytes:
    told = queue_statistics.running_on(context.store, one["running"])
    return render.page(
        context,
        "system/worker.html",
        title=f"Worker {one['name']}",
        worker=one,
        age=span(max(0.0, (clock(context.store) - one["heartbeat"]).total_seconds())),
        address=context.url(f"/workers/{one['id']}"),
        running=join([overview.task_row(context, task) for task in told]),
    )


# The database ---------------------------------------------------------------


def nodes(context: RequestContext, found: Sequence[Record]) -> bytes:
    database = context.site.database
    return render.page(
        context,
        "system/nodes.html",
        title="Database",
        server=server_version(context.store),
        rows=join([_node(one) for one in found]),
        up=sum(one["state"] == UP for one in found),
        count=len(found),
        writes=database.takes_writes,
    )


def _node(one: Record) -> Markup:
    lag = one["lag"]
    late = NONE if lag is None else span(lag) if math.isfinite(lag) else "unknown"
    return row(
        '<tr><th scope="row" class="mono long">%s</th><td>%s</td><td>%s</td>'
        '<td class="number">%s</td><td class="number">%s</td><td class="number">%s</td>'
        '<td class="number">%s %%</td><td class="long" dir="auto">%s</td></tr>',
        one["name"],
        one["role"],
        state(one["state"]),
        late,
        one["reads"],
        one["writes"],
        f"{100 * one['share']:.0f}",
        row('<span class="error">%s</span>', one["message"]) if one["message"] else "",
    )


# Schedules and watch folders ------------------------------------------------


def schedules(context: RequestContext, found: Sequence[Record]) -> bytes:
    settings = context.site.settings
    return render.page(
        context,
        "system/schedules.html",
        title="Schedules and watch folders",
        schedules=join([_schedule(context, settings, one) for one in found]),
        unknown=sorted(settings.schedules.keys() - {one["name"] for one in found}),
        watches=[_watch(context, one) for one in settings.watches.values()],
    )


def _schedule(context: RequestContext, settings: Settings, one: Record) -> Markup:
    known = settings.schedules.get(one["name"])
    workflow = link(context, f"/workflows/{known.workflow}", known.workflow) if known else ""
    last = link(context, f"/jobs/{one['last_job']}", f"job {one['last_job']}")
    return row(
        '<tr><th scope="row">%s</th><td class="mono nowrap">%s</td><td>%s</td><td>%s</td>'
        '<td>%s %s</td><td class="long" dir="auto">%s</td></tr>',
        one["name"],
        one["cron"],
        workflow,
        moment(one["next_run"]),
        moment(one["last_run"]),
        last if one["last_job"] else "",
        row('<span class="error">%s</span>', one["message"]) if one["message"] else "",
    )


def _watch(context: RequestContext, watch: Watch) -> dict[str, Any]:
    store = context.store
    return {
        "watch": watch,
        "takes": " ".join(watch.pattern) + (", also in subfolders" if watch.recursive else ""),
        "done": watch.done or "left where they are",
        "workflow": link(context, f"/workflows/{watch.workflow}", watch.workflow),
        "quiet": span(watch.quiet.total_seconds()),
        "taken": join(
            [_taken(context, one) for one in queue_statistics.taken(store, watch.name, TAKEN_SHOWN)]
        ),
        "untaken": [
            {**one, "at": moment(one["at"])}
            for one in queue_statistics.untaken(store, watch.name, TAKEN_SHOWN)
        ],
    }


def _taken(context: RequestContext, one: Record) -> Markup:
    return row(
        '<tr><th scope="row" class="long" dir="auto">%s</th><td>%s</td><td>%s</td></tr>',
        link(context, f"/jobs/{one['id']}", one["title"] or f"job {one['id']}"),
        state(one["state"]),
        moment(one["submitted"]),
    )


# About ----------------------------------------------------------------------


def about(context: RequestContext) -> dict[str, Any]:
    settings, store = context.site.settings, context.store
    return {
        "title": "About",
        "versions": _versions(settings, store),
        "troubles": _troubles(context),
        "libraries": _libraries(),
    }


def _versions(settings: Settings, store: Store) -> dict[str, str]:
    return {
        "Backoffice": __version__,
        "Python": platform.python_version(),
        "ffmpeg": _tool(settings.tools.ffmpeg, confinement.of_tools(settings)),
        "ffprobe": _tool(settings.tools.ffprobe, confinement.of_tools(settings)),
        "Database": server_version(store),
        "Schema": f"version {migrations.version(store)}",
        "System": f"{platform.system()} {platform.release()}, {platform.node()}",
    }


@lru_cache
def _tool(path: str, confined: Confinement) -> str:
    """Asked once a process: what is installed later is seen after a restart."""
    try:
        return ffmpeg.version(path, confined)
    except BackofficeError as error:
        return str(error)


@lru_cache
def _libraries() -> Mapping[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _troubles(context: RequestContext) -> list[str]:
    """Why work cannot go on now, a sentence each; none if it can."""
    store = context.store
    found = []
    if not records.worker_counts(store).get(ACTIVE):
        found.append("no worker is active: start one")
    if missing := queue_statistics.no_scheduler(store):
        found.append(missing)
    if os.path.exists(context.site.settings.web.maintenance):
        found.append("it is in maintenance: requests that change something are refused")
    for disk in disk_space.of(context.site.settings).look():
        if "work" in disk.names and disk.trouble:
            found.append(f"the work folder {disk.trouble}")
        elif "work" in disk.names and disk.room and not disk.room.writable:
            found.append("the work folder cannot be written: change its owner")
    return found
