"""Actions on jobs: their labels, and the pages for actions on many jobs.

Nothing is done here: a page tells what would be done, its form goes to
``jobs_api``, and a page tells what was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from backoffice.engine import bulk_actions, field_limits
from backoffice.reports.records import Record
from backoffice.states import CANCELLED, JOB_ACTIONS
from backoffice.web import queries, responses
from backoffice.web.context import RequestContext
from backoffice.web.pages import render
from middleware.problem import Problem

FILTERS = tuple(parameter.name for parameter in queries.JOBS)


@dataclass(frozen=True)
class Action:
    """``does`` and ``undone`` are sentences; ``told`` ends "3 jobs were …"
    once it is done. ``danger``: something is lost by it."""

    name: str
    label: str
    does: str
    undone: str
    told: str = ""
    danger: bool = False


ACTIONS = {
    action.name: action
    for action in (
        Action(
            "pause",
            "Pause",
            "No further task starts. Those that run now finish.",
            "Resume goes on from there.",
            "paused",
        ),
        Action(
            "resume",
            "Resume",
            "Waiting tasks may start again.",
            "Pause stops them from starting.",
            "resumed",
        ),
        Action(
            "retry",
            "Retry",
            "Tasks that failed or were cancelled run again, with all their attempts."
            " What succeeded stays as it is.",
            "Cancel stops it again.",
            "set going again",
        ),
        Action(
            "cancel",
            "Cancel",
            "Tasks that wait are cancelled now. What runs is stopped, and what it has made so"
            " far is thrown away. What succeeded stays.",
            "Retry runs it on from there; a task that was stopped starts from its beginning.",
            "told to stop",
            danger=True,
        ),
        Action(
            "priority",
            "Priority",
            "Waiting tasks move up or down in their queues: 0 is first, 100 is last."
            " What runs is not interrupted.",
            "Set the old number again.",
            "given the new priority",
        ),
        Action(
            "clone",
            "Clone",
            "A new job is submitted with the same workflow, inputs, parameters and metadata."
            " This one stays as it is.",
            "Cancel the new job.",
        ),
    )
}


def possible(job: Record) -> list[Action]:
    """What may be done to a job in its state."""
    stopping = job["cancel_requested"] is not None and job["state"] != CANCELLED
    return [
        action
        for action in ACTIONS.values()
        if job["state"] in JOB_ACTIONS[action.name] and not (stopping and action.name == "cancel")
    ]


# On many --------------------------------------------------------------------


def result(context: RequestContext, found: Mapping[str, Any]) -> bytes:
    """Before: what would be done, with the form that does it. After: on to what was."""
    if found["preview"]:
        return _preview(context, found)
    told = {
        "name": found["action"],
        "done": found["done"],
        "refused": ",".join(str(one["job"]) for one in found["refusals"]),
    }
    where = urlencode([*told.items(), *_filter(context.form)])
    return responses.redirect(context.url(f"/jobs/actions?{where}"))


def _preview(context: RequestContext, found: Mapping[str, Any]) -> bytes:
    action = ACTIONS[found["action"]]
    left_out = ("csrf_token", "preview", "name", "value")
    return render.page(
        context,
        "jobs/action.html",
        title=f"{action.label}: {_many(found['matched'], found['more'])}",
        action=action,
        found=found,
        matched=_many(found["matched"], found["more"]),
        possible=_many(found["possible"], found["more"]),
        everything="all" in dict(context.form),
        refused=[_refusal(one) for one in found["refusals"]],
        hidden=[(name, value) for name, value in context.form if name not in left_out],
        value=dict(context.form).get("value") or field_limits.DEFAULT_PRIORITY,
        back=_back(context, _filter(context.form)),
    )


def done(context: RequestContext) -> dict[str, Any]:
    """What an action on many did. It says nothing that is not in its address or
    in the jobs as they are now, so that it may be loaded again."""
    query = context.query
    if "name" not in query:
        raise Problem(400, f"say which action was done: name={', '.join(queries.MANY_ACTIONS)}")
    action, refused = ACTIONS[query["name"]], query.get("refused", [])
    looked_at = bulk_actions.preview(context.site.database, action.name, refused) if refused else {}
    asked = _filter(context.written)
    return {
        "title": f"{action.label}: done",
        "action": action,
        "told": _told(query.get("done", 0), action),
        "refused": _refused(refused, looked_at.get("refusals", ())),
        "back": _back(context, asked),
    }


def _told(done: int, action: Action) -> str:
    return f"{_many(done, False)} {'was' if done == 1 else 'were'} {action.told}"


def _refused(ids: Iterable[int], now: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Why not, as it is now: meanwhile it may have become possible."""
    reasons = {one["job"]: one["message"] for one in now}
    changed = "could not be changed then, but could be now"
    return [
        _refusal({"job": job, "message": reasons.get(job, f"job {job} {changed}")}) for job in ids
    ]


def _refusal(one: Mapping[str, Any]) -> Mapping[str, Any]:
    """With a sentence that goes on after the job's name."""
    own = f"job {one['job']} "
    message = str(one["message"])
    said = f" {message.removeprefix(own)}" if message.startswith(own) else f": {message}"
    return {"job": one["job"], "said": said}


def _filter(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in pairs if name in FILTERS and value]


def _back(context: RequestContext, asked: list[tuple[str, str]]) -> str:
    return context.url("/jobs") + (f"?{urlencode(asked)}" if asked else "")


def _many(jobs: int, more: bool) -> str:
    if more:
        return f"more than {jobs:,} jobs"
    return "1 job" if jobs == 1 else f"{jobs:,} jobs"
