"""Jobs as pages: the list with its filter, and one job with all that belongs to it.

What is done to jobs stands in ``actions``, their tasks in ``tasks``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote, unquote, urlencode

from genshi.core import Markup

from backoffice.data import search
from backoffice.engine import bulk_actions
from backoffice.errors import Invalid
from backoffice.reports import records, why
from backoffice.reports.records import Record
from backoffice.states import FAILED, JOB_ENDED, JOB_STATES, PUBLISHED, RUNNING
from backoffice.web import queries, responses
from backoffice.web.context import RequestContext
from backoffice.web.pages import filters, pictures, render
from backoffice.web.pages import tasks as task_pages
from backoffice.web.pages.actions import possible
from backoffice.web.pages.pictures import Bar, Line, Node
from backoffice.web.pages.render import join, link, moment, row, span, state

_EVENTS = 100  # of a job, shown with it; the history has the others
_LONG = 300  # characters of a message in a list
_PLAYLISTS = ("application/vnd.apple.mpegurl", "application/x-mpegurl")
FILTERS = tuple(parameter.name for parameter in queries.JOBS)

Found = list[dict[str, Any]]


# The list -------------------------------------------------------------------


def jobs(context: RequestContext, found: Found) -> bytes:
    asked, older = _asked(context.written), context.older
    return render.page(
        context,
        "jobs/jobs.html",
        title="Jobs",
        rows=_rows(context, found),
        matching=_matching(context, len(found), older) if found else "",
        pinned=[(name, _text(context.query[name])) for name in FILTERS if name in context.query],
        going=any(one["state"] not in JOB_ENDED for one in found),
        older=older,
        **_form(context, asked, filters.write(asked.items())),
    )


def find(context: RequestContext) -> bytes:
    """From what was typed to the address that means the same."""
    typed = context.query.get("filter", "")
    try:
        asked = filters.parse(typed)
    except Invalid as error:
        if context.format != "html":
            raise
        fields = _form(context, {}, typed) | {"fault": str(error)}
        nothing: dict[str, Any] = {
            "rows": "",
            "matching": "",
            "pinned": [],
            "older": "",
            "going": False,
        }
        return render.page(context, "jobs/jobs.html", title="Jobs", status=400, **nothing, **fields)
    where = context.url("/jobs") + (f"?{urlencode(asked)}" if asked else "")
    return responses.redirect(where, 302)


def _asked(written: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The filter, as the address has it."""
    asked: dict[str, str] = {}
    for name, text in written:
        if name in FILTERS and text:
            asked[name] = f"{asked[name]},{text}" if name in asked else text
    return asked


def _text(value: Any) -> str:
    """For a form that acts on what is found: ages have become times."""
    if isinstance(value, datetime):
        return f"{value.isoformat(timespec='seconds')}Z"
    return ",".join(dict.fromkeys(value)) if isinstance(value, list) else str(value)


def _form(context: RequestContext, asked: Mapping[str, str], typed: str) -> dict[str, Any]:
    kept = [(name, text) for name, text in context.written if name not in ("after", "filter")]
    workflows = {*context.site.catalogue.workflows} | {asked.get("workflow", "")}
    return {
        "typed": typed,
        "asked": asked,
        "fault": "",
        "example": filters.EXAMPLE,
        "states": JOB_STATES,
        "workflows": sorted(workflows - {""}),
        "chosen": asked.get("state", "").split(","),
        "rewound": "after" in context.query,
        "newest": context.url("/jobs") + (f"?{urlencode(kept)}" if kept else ""),
    }


def _matching(context: RequestContext, shown: int, older: str) -> str:
    """How many there are, in words. They are counted where an index alone can
    tell, and no further than anybody cares to know."""
    if not older and "after" not in context.query:
        return _count(shown)
    wanted = queries.filter_of(context.query)
    narrowed = (wanted.states, wanted.workflow, wanted.submitter)
    if wanted.text or sum(map(bool, narrowed)) > 1:
        return f"more than {_count(shown)}"
    many = len(search.ids(context.store, wanted, limit=bulk_actions.COUNTED + 1))
    return (
        f"more than {bulk_actions.COUNTED:,} jobs" if many > bulk_actions.COUNTED else _count(many)
    )


def _count(jobs: int) -> str:
    return "1 job" if jobs == 1 else f"{jobs:,} jobs"


def _rows(context: RequestContext, found: Found) -> Markup:
    tick = context.may("operator")
    return join([_row(context, one, one["now"], tick) for one in found])


def _row(context: RequestContext, job: Record, now: datetime, tick: bool) -> Markup:
    number = job["id"]
    box = row(
        '<td><input type="checkbox" name="job" value="%s" aria-label="Job %s"/></td>',
        number,
        number,
    )
    return row(
        '<tr>%s<th scope="row">%s</th><td>%s</td><td><bdi>%s</bdi>%s</td>'
        '<td class="nowrap">%s</td><td class="nowrap">%s</td><td class="number">%s</td>'
        '<td><bdi>%s</bdi></td><td>%s</td><td class="number">%s</td></tr>',
        box if tick else "",
        link(context, f"/jobs/{number}", number),
        state(job["state"]),
        job["title"],
        _message(job["message"]),
        job["workflow"],
        task_pages.progress(job),
        job["priority"],
        job["submitter"],
        moment(job["submitted"]),
        _took(job, now),
    )


def _message(text: str) -> Markup:
    if not text:
        return Markup("")
    short = text if len(text) <= _LONG else f"{text[:_LONG]}…"
    return row('<div class="tiny" dir="auto">%s</div>', task_pages.visible(short))


def _took(job: Record, now: datetime) -> str:
    if job["started"] is None:
        return "–"
    end = job["finished"] if job["state"] in JOB_ENDED else now
    return span(max(0.0, ((end or now) - job["started"]).total_seconds()))


# One job --------------------------------------------------------------------


def job(context: RequestContext, found: Record) -> bytes:
    number = found["id"]
    store, now = context.store, found["now"]
    attempts = records.job_attempts(store, number) if found["started"] is not None else []
    ended = found["state"] in JOB_ENDED
    return render.page(
        context,
        "jobs/job.html",
        title=f"Job {number}",
        job=found,
        running=not ended,
        failed=found["state"] == FAILED,
        progress=task_pages.progress(found),
        took=_took(found, now),
        reasons=why.of_job(store, found),
        actions=possible(found) if context.may("operator") else [],
        quote=quote,
        name_of=_name,
        visible=task_pages.visible,
        graph=_graph(context, found["tasks"]),
        times=pictures.gantt(
            _lines(context, found, attempts, now), f"When tasks of job {number} ran"
        ),
        tasks=_tasks(context, found["tasks"], attempts, now),
        commands=_commands(found["tasks"], attempts),
        events=records.job_events(store, number, limit=_EVENTS),
        fully=_EVENTS,
        message=task_pages.visible(found["message"]),
        published=PUBLISHED,
        **_outputs(found["outputs"]),
    )


def _name(href: str) -> str:
    """Of a file, at the end of its address."""
    return task_pages.visible(unquote(href.rstrip("/").rpartition("/")[2]))


def _outputs(outputs: Sequence[Record]) -> dict[str, Any]:
    return {
        "stills": [one for one in outputs if one["role"] == "thumbnail"],
        "streams": [one for one in outputs if one["media_type"].lower() in _PLAYLISTS],
        "videos": [one for one in outputs if one["media_type"] in ("video/mp4", "video/webm")],
    }


def _graph(context: RequestContext, tasks: Sequence[Record]) -> Markup:
    nodes = [
        Node(
            task["name"],
            task["title"],
            task["needs"],
            task["state"],
            context.url(f"/tasks/{task['id']}"),
            _note(task),
        )
        for task in tasks
    ]
    return pictures.dag(nodes, "What needs what")


def _note(task: Record) -> str:
    if task["state"] == RUNNING:
        return f"running, {task['progress']:.0f} %"
    return f"{task['state']}, attempt {task['attempt']}" if task["attempt"] > 1 else task["state"]


def _by_task(attempts: Sequence[Record]) -> dict[int, list[Record]]:
    found: dict[int, list[Record]] = {}
    for one in attempts:
        found.setdefault(one["task"], []).append(one)
    return found


# When what ran --------------------------------------------------------------


def _lines(
    context: RequestContext, found: Record, attempts: Sequence[Record], now: datetime
) -> list[Line]:
    """A line for each task that has run, with the time it waited before."""
    by_task = _by_task(attempts)
    ended = {
        task["name"]: by_task[task["id"]][-1]["finished"] or now
        for task in found["tasks"]
        if task["id"] in by_task
    }
    lines = []
    for task in found["tasks"]:
        needed = [ended[name] for name in task["needs"] if name in ended]
        since = max([found["submitted"], *needed])
        bars = _bars(by_task.get(task["id"], []), task["ready_at"], since, now)
        lines.append(Line(task["name"], bars, task["state"], context.url(f"/tasks/{task['id']}")))
    return [line for line in lines if line.bars]


def _bars(
    attempts: Sequence[Record], ready: datetime | None, since: datetime, now: datetime
) -> list[Bar]:
    bars = []
    for one in attempts:
        last = one is attempts[-1]
        if last and ready is not None and ready <= one["started"]:
            since = max(since, ready)  # what lies before was no queue
        if since < one["started"]:
            waited = span((one["started"] - since).total_seconds())
            bars.append(Bar(since, one["started"], "waiting", f"waited {waited}"))
        end = max(one["finished"] or now, one["started"])
        told = f"attempt {one['number']}, {one['state']}, {_lasted(one, now)} on {one['host']}"
        bars.append(Bar(one["started"], end, one["state"], told))
        since = end
    return bars


def _lasted(attempt: Record, now: datetime) -> str:
    end = attempt["finished"] or now
    return span(max(0.0, (end - attempt["started"]).total_seconds()))


# Its tasks ------------------------------------------------------------------


def _tasks(
    context: RequestContext, tasks: Sequence[Record], attempts: Sequence[Record], now: datetime
) -> Markup:
    by_task = _by_task(attempts)
    return join([_task(context, one, by_task.get(one["id"], []), now) for one in tasks])


def _task(
    context: RequestContext, task: Record, attempts: Sequence[Record], now: datetime
) -> Markup:
    tried = [
        row("<div>%s %s %s</div>", f"{one['number']}.", state(one["state"]), _lasted(one, now))
        for one in attempts
    ]
    return row(
        '<tr><th scope="row">%s</th><td>%s</td><td>%s%s</td><td>%s</td><td>%s</td>'
        "<td><bdi>%s</bdi></td><td>%s</td></tr>",
        link(context, f"/tasks/{task['id']}", task["name"]),
        task["type"],
        state(task["state"]),
        _message(task["message"]),
        task_pages.progress(task),
        task["queue"],
        task["host"] or "–",
        join(tried) or "–",
    )


def _commands(tasks: Sequence[Record], attempts: Sequence[Record]) -> list[Record]:
    """What ran for each task in its last attempt that ran anything."""
    by_task = _by_task(attempts)
    found = []
    for task in tasks:
        ran = [one for one in by_task.get(task["id"], []) if one["argv"]]
        if ran:
            text = task_pages.shell(ran[-1]["argv"])
            found.append({"task": task, "number": ran[-1]["number"], "text": text})
    return found
