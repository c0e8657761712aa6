"""A task as a page: its attempts beside each other, what differs between two of
them, and the end of its log.

Owns how commands and logs are written for people: nothing in them can hide,
or leave its place.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any
from urllib.parse import quote

import cherrypy
from genshi.core import Markup

from backoffice.errors import NotFound
from backoffice.reports import records, why
from backoffice.reports.records import Record
from backoffice.states import FAILED, PAUSED, RUNNING, TASK_ENDED, TASK_STATES
from backoffice.web import content
from backoffice.web.context import RequestContext
from backoffice.web.pages import render
from backoffice.web.pages.render import join, link, moment, row, size, span, state
from middleware.problem import Problem

TAIL = 1 << 16  # bytes of a log that the page shows
_SHOWN = 6  # attempts beside each other; the newest
# Characters that draw nothing, or move what stands around them.
HIDDEN = r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]"

Command = Sequence[str]
Fact = tuple[str, Callable[[Record], object]]


def tasks(context: RequestContext, found: Sequence[Record]) -> bytes:
    """Of all jobs, or of one."""
    rows = [
        row(
            '<tr><th scope="row">%s</th><td dir="auto">%s</td><td>%s</td><td>%s</td>'
            '<td class="nowrap">%s</td><td>%s</td><td><bdi>%s</bdi></td><td>%s</td></tr>',
            link(context, f"/tasks/{one['id']}", one["id"]),
            one["title"],
            link(context, f"/jobs/{one['job']}", one["job"]),
            state(one["state"]),
            progress(one),
            one["queue"],
            one["host"] or "–",
            moment(one["started"]),
        )
        for one in found
    ]
    return render.page(
        context,
        "tasks/tasks.html",
        title="Tasks",
        rows=join(rows),
        going=any(one["state"] not in TASK_ENDED for one in found),
        states=TASK_STATES,
        asked=dict(context.written),
        older=context.older,
    )


def attempts(context: RequestContext, found: Sequence[Record]) -> bytes:
    number = cherrypy.serving.request.params["id"]
    return render.page(
        context,
        "tasks/attempts.html",
        title=f"All attempts of task {number}",
        task=context.url(f"/tasks/{number}"),
        attempts=_beside(context, found),
    )


def reasons(context: RequestContext, found: Record) -> bytes:
    """Why a job or a task is where it is."""
    kind, _, number = found["subject"].partition(" ")
    return render.page(
        context,
        "jobs/why.html",
        title=f"Why {found['subject']} is where it is",
        subject=found["subject"],
        about=context.url(f"/{kind}s/{number}"),
        reasons=found["reasons"],
        visible=visible,
    )


def task(context: RequestContext, found: Record) -> bytes:
    tried = records.attempts(context.store, found["id"])
    going = found["state"] not in TASK_ENDED
    return render.page(
        context,
        "tasks/task.html",
        title=f"Task {found['id']}: {found['title']}",
        task=found,
        going=going,
        failed=found["state"] == FAILED,
        message=visible(found["message"]),
        reasons=why.task(context.store, found["id"]),
        needs=_needs(context, found),
        attempts=_beside(context, tried[-_SHOWN:]),
        older=max(0, len(tried) - _SHOWN),
        newest=tried[-1] if tried else None,
        commands=shell(tried[-1]["argv"]) if tried else "",
        numbers=[one["number"] for one in tried],
        difference=_difference(*tried[-2:]) if len(tried) > 1 else None,
        report=_plain(found["report"]),
        progress=progress(found),
        quote=quote,
        visible=visible,
        log=_log(context, tried[-1]) if tried else NO_LOG,
    )


def compare(context: RequestContext, id: int) -> dict[str, Any]:
    """Two attempts; without numbers the two newest ones."""
    found = records.task(context.store, id)
    attempts = records.attempts(context.store, id)
    by_number = {one["number"]: one for one in attempts}
    newest = sorted(by_number)[-2:]
    if len(newest) < 2:
        raise NotFound(f"task {id} has had {len(newest)} attempts; there is nothing to compare")
    asked = [context.query.get("attempt", newest[0]), context.query.get("with", newest[1])]
    missing = [number for number in asked if number not in by_number]
    if missing:
        raise NotFound(f"task {id} has had no attempt {missing[0]}")
    first, second = (by_number[number] for number in asked)
    return {
        "title": f"Task {id}: attempts {asked[0]} and {asked[1]}",
        "task": found,
        "numbers": sorted(by_number),
        "difference": _difference(first, second),
    }


def _needs(context: RequestContext, found: Record) -> Markup:
    ids = {one["name"]: one for one in records.tasks(context.store, job=found["job"])}
    parts = [
        row("%s %s ", link(context, f"/tasks/{ids[name]['id']}", name), state(ids[name]["state"]))
        for name in found["needs"]
        if name in ids
    ]
    return join(parts) if parts else Markup('<span class="none">nothing</span>')


# Attempts -------------------------------------------------------------------


def cpus(cpu: float | None, wall: float | None) -> str:
    """How many were busy on average."""
    return f"{cpu / wall:.1f}" if wall and cpu is not None else "–"


_STATE: Fact = ("State", lambda one: one["state"])
_FACTS: tuple[Fact, ...] = (
    ("Host", lambda one: one["host"]),
    ("Worker", lambda one: one["worker"]),
    ("Started", lambda one: moment(one["started"])),
    ("Finished", lambda one: moment(one["finished"])),
    ("Took", lambda one: span(one["wall_seconds"])),
    ("CPU time", lambda one: span(one["cpu_seconds"])),
    ("CPUs used", lambda one: cpus(one["cpu_seconds"], one["wall_seconds"])),
    ("Peak memory", lambda one: size(one["peak_memory"])),
    ("Exit status", lambda one: "–" if one["exit_status"] is None else one["exit_status"]),
    ("ffmpeg", lambda one: one["ffmpeg"] or "–"),
    ("Message", lambda one: visible(one["message"]) or "–"),
)


def _beside(context: RequestContext, attempts: Sequence[Record]) -> Markup:
    """A row for each fact, a column for each attempt."""
    if not attempts:
        return Markup("")
    heads = [
        row('<th scope="col">Attempt %s %s</th>', one["number"], state(one["state"]))
        for one in attempts
    ]
    lines = [row("<thead><tr><td></td>%s</tr></thead><tbody>", join(heads))]
    for name, fact in _FACTS:
        cells = [row('<td dir="auto">%s</td>', fact(one)) for one in attempts]
        lines.append(row('<tr><th scope="row">%s</th>%s</tr>', name, join(cells)))
    logs = [row("<td>%s</td>", _log_link(context, one)) for one in attempts]
    lines.append(row('<tr><th scope="row">Log</th>%s</tr></tbody>', join(logs)))
    return join(lines)


def _log_link(context: RequestContext, attempt: Record) -> Markup:
    if not attempt["log"]:
        return Markup('<span class="none">none</span>')
    where = context.url(f"/tasks/{attempt['task']}/log?attempt={attempt['number']}")
    return row(
        '<a href="%s">%s</a>', where, size(attempt["log_size"]) if attempt["log_size"] else "open"
    )


def progress(one: Record) -> Markup:
    """Of a job or a task: a bar while it goes on, with the number beside it."""
    number = f"{one['progress']:.0f}"
    if one["state"] not in (RUNNING, PAUSED):
        return row('<span class="tiny">%s %%</span>', number)
    return row(
        '<progress max="100" value="%s" aria-label="Progress">%s %%</progress>'
        ' <span class="nowrap">%s %%</span>',
        number,
        number,
        number,
    )


# What differs ---------------------------------------------------------------


def _difference(first: Record, second: Record) -> Mapping[str, Any]:
    return {
        "first": first["number"],
        "second": second["number"],
        "facts": _differing(first, second),
        "commands": difference(words(first["argv"]), words(second["argv"])),
        "same": first["argv"] == second["argv"],
        "ran": bool(first["argv"] or second["argv"]),
    }


def _differing(first: Record, second: Record) -> Markup:
    lines = []
    for name, fact in (_STATE, *_FACTS):
        before, after = fact(first), fact(second)
        if before != after:
            lines.append(
                row(
                    '<tr><th scope="row">%s</th><td dir="auto">%s</td><td dir="auto">%s</td></tr>',
                    name,
                    before,
                    after,
                )
            )
    return join(lines)


def words(commands: Sequence[Command]) -> list[str]:
    """Of all commands, as a shell takes them; a line end stands for each command's."""
    found: list[str] = []
    for argv in commands:
        found += [*(visible(shlex.quote(word)) for word in argv), "\n"]
    return found


def difference(before: Sequence[str], after: Sequence[str]) -> Markup:
    """Both texts in one, with what went and what came marked."""
    parts = []
    for kind, a, b, c, d in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if kind == "equal":
            parts.append(row("%s", _run(before[a:b])))
            continue
        if a < b:
            parts.append(row("<del>%s</del>%s", *_split(before[a:b])))
        if c < d:
            parts.append(row("<ins>%s</ins>%s", *_split(after[c:d])))
    return join(parts)


def _run(texts: Sequence[str]) -> str:
    return "".join(text if text == "\n" else f"{text} " for text in texts)


def _split(texts: Sequence[str]) -> tuple[str, str]:
    """The blank at the end belongs to neither."""
    text = _run(texts)
    bare = text.rstrip(" ")
    return bare, text[len(bare) :]


# Commands and logs ----------------------------------------------------------


def shell(commands: Sequence[Command]) -> str:
    """One line a command, fit to be pasted into a shell."""
    return "\n".join(shlex.join(argv) for argv in commands)


def visible(text: str) -> str:
    """With a sign for each character that cannot be seen."""
    return re.sub(HIDDEN, _sign, text.replace("\r\n", "\n"))


def _sign(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 32:
        return chr(0x2400 + code)
    return "␡" if code == 127 else f"⟨U+{code:04X}⟩"


NO_LOG: Mapping[str, Any] = {"text": "", "end": 0, "cut": 0, "number": 0}


def _log(context: RequestContext, attempt: Record) -> Mapping[str, Any]:
    """The end of an attempt's log, as far as there is one to be read."""
    if not attempt["log"]:
        return NO_LOG
    try:
        data, whole = content.tail(attempt["log"], [context.site.settings.paths.logs], TAIL)
    except Problem:
        return NO_LOG
    if len(data) < whole:
        data = data[data.find(b"\n") + 1 :]
    text = visible(data.decode("utf-8", "replace"))
    return {"text": text, "end": whole, "cut": whole - len(data), "number": attempt["number"]}


def _plain(report: Any) -> str:
    return visible(json.dumps(report, ensure_ascii=False, indent=1)) if report else ""
