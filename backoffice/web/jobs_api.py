"""Jobs and tasks over HTTP: look at them, submit them, steer them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from storm.locals import Store
from webob import Response

from backoffice.data.search import Filter
from backoffice.engine import bulk_actions, jobs, submission
from backoffice.engine.submission import JobRequest
from backoffice.errors import Invalid, NotFound
from backoffice.reports import records, why
from backoffice.reports.records import Record
from backoffice.web import content, documents, queries, submit_pages
from backoffice.web.call import FORM, Call
from middleware.problem import Problem

PAGE = 500  # jobs read at a time for a long list
Change = Callable[[Store, int, str], None]


# Look -----------------------------------------------------------------------


def list_jobs(call: Call) -> Response:
    wanted = filter_of(call.query)
    limit = call.query.get("limit", queries.DEFAULT_LIMIT)
    if limit <= PAGE:
        return call.page("jobs", lambda store, **page: records.jobs(store, wanted, **page))
    if call.format == "html":
        raise Problem(400, f"a page shows at most {PAGE} jobs; /jobs.xml and /jobs.json give more")
    before = call.query.get("after")
    last = records.last_job(call.store, wanted, limit=limit, before=before)
    headers = call.older(last) if last else []
    return call.stream("jobs", _pages(call, wanted, limit, before), headers)


def _pages(call: Call, wanted: Filter, limit: int, before: int | None) -> Iterator[list[Record]]:
    """Each page is a transaction of its own: a slow reader must hold none open."""
    while limit > 0:
        size = min(PAGE, limit)
        found = call.site.database.read(records.jobs, wanted, limit=size, before=before)
        yield found
        if len(found) < size:
            return
        before, limit = found[-1]["id"], limit - size


def filter_of(values: Mapping[str, Any]) -> Filter:
    """What the parameters ``queries.JOBS`` say."""
    return Filter(
        states=values.get("state", ()),
        workflow=values.get("workflow", ""),
        submitter=values.get("submitter", ""),
        text=values.get("q", ""),
        submitted_after=values.get("submitted-after"),
        submitted_before=values.get("submitted-before"),
    )


def show_job(call: Call, id: int) -> Response:
    return call.show("job", records.job(call.store, id))


def list_job_tasks(call: Call, id: int) -> Response:
    return call.show("tasks", records.job(call.store, id)["tasks"])


def why_job(call: Call, id: int) -> Response:
    reasons = why.job(call.store, id)
    return call.show("why", {"subject": f"job {id}", "reasons": reasons})


def list_tasks(call: Call) -> Response:
    filters = {"state": call.query.get("state"), "job": call.query.get("job")}
    return call.page("tasks", _newest_tasks, **filters)


def _newest_tasks(store: Store, **wanted: Any) -> list[Record]:
    found = records.tasks(store, **wanted)
    return sorted(found, key=lambda one: one["id"], reverse=True)


def show_task(call: Call, id: int) -> Response:
    return call.show("task", records.task(call.store, id))


def list_attempts(call: Call, id: int) -> Response:
    return call.show("attempts", records.attempts(call.store, id))


def why_task(call: Call, id: int) -> Response:
    reasons = why.task(call.store, id)
    return call.show("why", {"subject": f"task {id}", "reasons": reasons})


def show_log(call: Call, id: int) -> Response:
    """Of the newest attempt, or of the one that is asked for."""
    number = call.query.get("attempt")
    found = [one for one in records.attempts(call.store, id) if number in (None, one["number"])]
    if not found:
        which = f"no attempt {number}" if number else "no attempt yet"
        raise NotFound(f"task {id} has had {which}")
    if not found[-1]["log"]:
        raise NotFound(f"attempt {found[-1]['number']} of task {id} wrote no log")
    response = content.respond(found[-1]["log"], [call.site.settings.paths.logs], "text/plain")
    response.charset = "utf-8"
    return response


# Steer ----------------------------------------------------------------------


def submit(call: Call) -> Response:
    request = JobRequest(**call.document(documents.parse_job))
    return _submit(call, request)


def clone(call: Call, id: int) -> Response:
    return _submit(call, submission.request_of(call.store, id))


def dry_run(call: Call) -> Response:
    """What the job would do; nothing is stored."""
    prepared = _prepared(call, JobRequest(**call.document(documents.parse_job)))
    return call.show("plan", submit_pages.plan_record(prepared, call.site.settings))


def _prepared(call: Call, request: JobRequest) -> submission.PreparedJob:
    site = call.site
    try:
        return site.catalogue.prepare(request, site.settings)
    except NotFound as error:
        raise Problem(422, str(error)) from error


def _submit(call: Call, request: JobRequest) -> Response:
    prepared = _prepared(call, request)
    job, new = submission.submit(call.store, prepared, call.user, call.request_id)
    headers = [("Location", call.url(f"/jobs/{job}"))]
    status = 201 if new else 200
    return call.show("job", records.job(call.store, job), status=status, headers=headers)


def cancel(call: Call, id: int) -> Response:
    return _change(call, id, jobs.cancel)


def pause(call: Call, id: int) -> Response:
    return _change(call, id, jobs.pause)


def resume(call: Call, id: int) -> Response:
    return _change(call, id, jobs.resume)


def retry(call: Call, id: int) -> Response:
    return _change(call, id, jobs.retry)


def _change(call: Call, job: int, change: Change) -> Response:
    change(call.store, job, call.user)
    return call.show("job", records.job(call.store, job))


def prioritise(call: Call, id: int) -> Response:
    """``value`` stands in the query, in a form, or in a JSON object."""
    value = _value(call)
    jobs.prioritise(call.store, id, value, call.user)
    return call.show("job", records.job(call.store, id))


def _value(call: Call) -> int:
    text = call.fields.get("value")
    value: int | None = call.query.get("value") if text is None else _priority(text)
    if value is None:
        raise Invalid("say which priority: value=0 (first) to value=100 (last)")
    return value


def _priority(text: str) -> int:
    try:
        value: int = queries.VALUE.convert(text)
        return value
    except ValueError as error:
        raise Invalid(f"value {text[:50]!r} is not {error}") from error


def act_on_many(call: Call) -> Response:
    """One action on all jobs that match; with ``preview`` they are only counted."""
    from_page = call.media_type == FORM
    asked = _asked_in_form(call) if from_page else call.document(documents.parse_action)
    if asked["name"] == "priority" and asked["value"] is None and not asked["preview"]:
        raise Problem(422, "say which priority: a value from 0 (first) to 100 (last)")
    wanted = _selection(asked)
    site = call.site
    if asked["preview"]:
        result = bulk_actions.preview(site.database, asked["name"], wanted)
    else:
        result = bulk_actions.apply(site.database, asked["name"], wanted, call.user, asked["value"])
    return call.show("result", result)


def _asked_in_form(call: Call) -> dict[str, Any]:
    """What a page's form says, as ``documents.parse_action`` gives it. The jobs
    that were ticked count, unless ``all`` is."""
    values = queries.collect(call.form, queries.ACTION_FORM)
    if "name" not in values:
        raise Problem(422, f"say what to do: name={', '.join(queries.MANY_ACTIONS)}")
    everything = values.get("all", False)
    if not everything and "job" not in values:
        raise Problem(422, "no job is ticked: tick some, or choose all that match")
    names = {parameter.name for parameter in queries.JOBS}
    texts: dict[str, list[str]] = {}
    for name, text in call.form if everything else ():
        if name in names and text:
            texts.setdefault(name, []).append(text)
    joined = {name: ",".join(some) for name, some in texts.items()}
    return {
        **{"name": values["name"], "value": values.get("value"), "filter": joined},
        **{"preview": values.get("preview", False), "ids": () if everything else values["job"]},
    }


def _selection(asked: Mapping[str, Any]) -> Filter | Sequence[int]:
    if asked["ids"]:
        return list(dict.fromkeys(asked["ids"]))
    values = queries.collect(asked["filter"].items(), queries.JOBS)
    if not values:
        raise Problem(422, "the filter is empty, which means all jobs; name at least one state")
    return filter_of(values)
