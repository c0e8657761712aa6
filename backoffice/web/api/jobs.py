"""Jobs over HTTP: show, submit, control."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from storm.locals import Store

from backoffice.data.search import Filter
from backoffice.documents import reading
from backoffice.engine import bulk_actions, dry_run, jobs, submission
from backoffice.engine.submission import JobRequest
from backoffice.errors import Invalid, NotFound
from backoffice.reports import records, why
from backoffice.reports.records import Record
from backoffice.web import queries
from backoffice.web.context import FORM, RequestContext
from backoffice.web.handlers import Handlers
from backoffice.web.pages import actions
from backoffice.web.pages import jobs as job_pages
from middleware.problem import Problem

PAGE = 500  # jobs read at a time for a long list
Change = Callable[[Store, int, str], None]


class Jobs(Handlers):
    """All of them, and many at once."""

    def index(self) -> list[Record] | Iterator[list[Record]]:
        context = self.context
        wanted = queries.filter_of(context.query)
        limit = context.query.get("limit", queries.DEFAULT_LIMIT)
        if limit <= PAGE:
            attached = context.format != "html"
            return self.newest(
                lambda store, **page: records.jobs(store, wanted, attached=attached, **page)
            )
        if context.format == "html":
            raise Problem(
                400, f"a page shows at most {PAGE} jobs; /jobs.xml and /jobs.json give more"
            )
        before = context.query.get("after")
        last = records.last_job(self.store, wanted, limit=limit, before=before)
        if last:
            self.link_older(last)
        return _pages(context, wanted, limit, before)

    def find(self) -> bytes:
        return job_pages.find(self.context)

    def submit(self) -> Record:
        return self._submit(JobRequest(**self.context.document(reading.parse_job)))

    def dry_run(self) -> Record:
        """What the job would do; nothing is stored."""
        prepared = self._prepared(JobRequest(**self.context.document(reading.parse_job)))
        return dry_run.record(prepared, self.context.site.settings)

    def act(self) -> Record:
        """One action on all jobs that match; with ``preview`` they are only counted."""
        asked = _asked(self.context)
        if asked["name"] == "priority" and asked["value"] is None and not asked["preview"]:
            raise Problem(422, "say which priority: a value from 0 (first) to 100 (last)")
        wanted = _selection(asked)
        database, user = self.context.site.database, self.context.user
        if asked["preview"]:
            return bulk_actions.preview(database, asked["name"], wanted)
        return bulk_actions.apply(database, asked["name"], wanted, user, asked["value"])

    def acted(self) -> dict[str, Any]:
        return actions.done(self.context)

    def _submit(self, request: JobRequest) -> Record:
        prepared, context = self._prepared(request), self.context
        made = submission.add(self.store, prepared, context.user, context.request_id)
        self.created(f"/jobs/{made.job}", made.new)
        return records.submitted(self.store, made)

    def _prepared(self, request: JobRequest) -> submission.PreparedJob:
        site = self.context.site
        try:
            return site.catalogue.prepare(request, site.settings)
        except NotFound as error:
            raise Problem(422, str(error)) from error


class Job(Jobs):
    """One of them."""

    def show(self, id: int) -> Record:
        return records.timed_job(self.store, id)

    def tasks(self, id: int) -> list[Record]:
        tasks: list[Record] = records.job(self.store, id)["tasks"]
        return tasks

    def why(self, id: int) -> Record:
        return {"subject": f"job {id}", "reasons": why.job(self.store, id)}

    def cancel(self, id: int) -> Record:
        return self._change(id, jobs.cancel)

    def pause(self, id: int) -> Record:
        return self._change(id, jobs.pause)

    def resume(self, id: int) -> Record:
        return self._change(id, jobs.resume)

    def retry(self, id: int) -> Record:
        return self._change(id, jobs.retry)

    def clone(self, id: int) -> Record:
        return self._submit(submission.request_of(self.store, id))

    def prioritise(self, id: int) -> Record:
        """``value`` stands in the query, in a form, or in a JSON object."""
        jobs.prioritise(self.store, id, _priority(self.context), self.context.user)
        return records.job(self.store, id)

    def _change(self, job: int, change: Change) -> Record:
        change(self.store, job, self.context.user)
        return records.job(self.store, job)


def _pages(
    context: RequestContext, wanted: Filter, limit: int, before: int | None
) -> Iterator[list[Record]]:
    """Each page is a transaction of its own: a slow reader must hold none open."""
    while limit > 0:
        size = min(PAGE, limit)
        found = context.site.database.read(records.jobs, wanted, limit=size, before=before)
        yield found
        if len(found) < size:
            return
        before, limit = found[-1]["id"], limit - size


def _priority(context: RequestContext) -> int:
    text = context.fields.get("value")
    value: int | None = context.query.get("value") if text is None else _number(text)
    if value is None:
        raise Invalid("say which priority: value=0 (first) to value=100 (last)")
    return value


def _number(text: str) -> int:
    try:
        value: int = queries.VALUE.convert(text)
        return value
    except ValueError as error:
        raise Invalid(f"value {text[:50]!r} is not {error}") from error


def _asked(context: RequestContext) -> dict[str, Any]:
    if context.media_type == FORM:
        return _asked_in_form(context)
    return context.document(reading.parse_action)


def _asked_in_form(context: RequestContext) -> dict[str, Any]:
    """What a page's form says, as ``reading.parse_action`` gives it. The jobs
    that were ticked count, unless ``all`` is."""
    values = queries.collect(context.form, queries.ACTION_FORM)
    if "name" not in values:
        raise Problem(422, f"say what to do: name={', '.join(queries.MANY_ACTIONS)}")
    everything = values.get("all", False)
    if not everything and "job" not in values:
        raise Problem(422, "no job is ticked: tick some, or choose all that match")
    names = {parameter.name for parameter in queries.JOBS}
    texts: dict[str, list[str]] = {}
    for name, text in context.form if everything else ():
        if name in names and text:
            texts.setdefault(name, []).append(text)
    joined = {name: ",".join(some) for name, some in texts.items()}
    return {
        "name": values["name"],
        "value": values.get("value"),
        "filter": joined,
        "preview": values.get("preview", False),
        "ids": () if everything else values["job"],
    }


def _selection(asked: Mapping[str, Any]) -> Filter | Sequence[int]:
    if asked["ids"]:
        return list(dict.fromkeys(asked["ids"]))
    values = queries.collect(asked["filter"].items(), queries.JOBS)
    if not values:
        raise Problem(422, "the filter is empty, which means all jobs; name at least one state")
    return queries.filter_of(values)
