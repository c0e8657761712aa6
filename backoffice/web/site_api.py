"""All but jobs and files over HTTP: the history, queues, workers, definitions,
and what describes the interface itself."""

from __future__ import annotations

import re

from webob import Response

from backoffice import __version__
from backoffice.config.redaction import shown
from backoffice.config.resources import share
from backoffice.data.cluster import Status
from backoffice.engine import catalogue, queue_control, worker_registry
from backoffice.engine.workflows import ParameterSpec, Workflow
from backoffice.errors import Invalid, NotFound
from backoffice.media.profiles import Profile
from backoffice.reports import queue_depths, queue_statistics, records
from backoffice.reports.records import Record
from backoffice.web import atom, queries
from backoffice.web.call import Call

LINKS = (
    ("jobs", "Jobs, newest first"),
    ("tasks", "Tasks, newest first"),
    ("files", "Files"),
    ("publications", "Publications"),
    ("queues", "Queues"),
    ("workers", "Workers"),
    ("nodes", "Servers of the database, if it is replicated"),
    ("workflows", "Workflows"),
    ("profiles", "Profiles"),
    ("schedules", "Schedules"),
    ("events", "The history"),
    ("schema/", "XML Schemas of all documents, and examples"),
    ("openapi.json", "The JSON side as OpenAPI 3.1"),
)


def show_service(call: Call) -> Response:
    links = [
        {"rel": path.strip("/").split(".")[0], "href": call.url(f"/{path}"), "title": title}
        for path, title in LINKS
    ]
    return call.show("service", {"version": __version__, "links": links})


# The history ----------------------------------------------------------------


def list_events(call: Call) -> Response:
    """The tag tells which event was the last one, so that polling the same
    address again costs one look at an index."""
    query = call.query
    after, limit = query.get("after"), query.get("limit", queries.DEFAULT_LIMIT)
    filters = {name: query.get(name) for name in ("before", "job", "actor", "action", "subject")}
    found = records.events(call.store, after=after, limit=limit, **filters)
    last = found[-1]["id"] if found else after or 0
    if call.format == "atom":
        response = call.respond(atom.feed(found, call), "application/atom+xml")
    else:
        response = call.show("events", found)
    if call.format != "html":  # a page shows more than events
        response.etag = f"{call.format}-{last}"
    if after is not None and len(found) == limit:
        response.headers.update(call.next_page(str(last)))
    return response


# Queues, workers, schedules -------------------------------------------------


def list_queues(call: Call) -> Response:
    return call.show("queues", _queues(call))


def show_queue(call: Call, name: str) -> Response:
    return call.show("queue", _queue(call, name))


def pause_queue(call: Call, name: str) -> Response:
    queue_control.pause(call.store, name, call.user)
    return show_queue(call, name)


def resume_queue(call: Call, name: str) -> Response:
    queue_control.resume(call.store, name, call.user)
    return show_queue(call, name)


def limit_queue(call: Call, name: str) -> Response:
    """``value`` is a number, or "none"."""
    text = call.fields.get("value")
    if text is None or not re.fullmatch(r"none|[0-9]{1,6}", text):
        raise Invalid("say how many tasks may run at once: value=4, or value=none")
    queue_control.limit(call.store, name, None if text == "none" else int(text), call.user)
    return show_queue(call, name)


def _queues(call: Call) -> list[Record]:
    """A page tells more of them, but counts no further than people care to know."""
    if call.format == "html":
        return queue_statistics.queues(call.store)
    return queue_depths.queues(call.store)


def _queue(call: Call, name: str) -> Record:
    for one in _queues(call):
        if one["name"] == name:
            return one
    raise NotFound(f"there is no queue {name!r}; a queue appears with its first task")


def list_workers(call: Call) -> Response:
    states = call.query.get("state", ())
    return call.show("workers", records.workers(call.store, states=states))


def show_worker(call: Call, id: int) -> Response:
    return call.show("worker", records.worker(call.store, id))


def drain(call: Call, id: int) -> Response:
    worker_registry.drain(call.store, id, call.user)
    return show_worker(call, id)


def list_nodes(call: Call) -> Response:
    """As this process sees them, with the transactions that are its own."""
    return call.show("nodes", [_node(one) for one in call.site.database.nodes()])


def _node(one: Status) -> Record:
    return {**vars(one), "message": one.error}


def list_schedules(call: Call) -> Response:
    return call.show("schedules", records.schedules(call.store))


# Definitions ----------------------------------------------------------------


def list_workflows(call: Call) -> Response:
    found = call.site.catalogue.workflows
    return call.show("workflows", [workflow_record(found[name]) for name in sorted(found)])


def show_workflow(call: Call, name: str) -> Response:
    """As XML the recipe itself."""
    found = call.site.catalogue.workflows.get(name)
    if found is None:
        raise NotFound(f"there is no workflow {name!r}")
    if call.format in ("json", "html"):
        return call.show("workflow", workflow_record(found))
    return call.respond(catalogue.visible(found.source), "application/xml")


def workflow_record(workflow: Workflow) -> Record:
    return {
        **{name: getattr(workflow, name) for name in ("name", "version", "title", "description")},
        "inputs": [
            {"role": one.role, "optional": one.minimum == 0, "many": one.maximum > 1}
            for one in workflow.inputs
        ],
        "parameters": [_parameter(one) for one in workflow.parameters],
        "tasks": [vars(one) for one in workflow.tasks],
    }


def _parameter(one: ParameterSpec) -> Record:
    return vars(one) | {"default": one.default and shown(one.default)}


def list_profiles(call: Call) -> Response:
    found = call.site.catalogue.profiles
    return call.show("profiles", [profile_record(found[name]) for name in sorted(found)])


def show_profile(call: Call, name: str) -> Response:
    """As XML the profile itself."""
    found = call.site.catalogue.profiles.get(name)
    if found is None:
        raise NotFound(f"there is no profile {name!r}")
    if call.format in ("json", "html"):
        return call.show("profile", profile_record(found))
    return call.respond(catalogue.visible(found.source), "application/xml")


def profile_record(profile: Profile) -> Record:
    kind = profile.container or profile.package
    return {
        **{name: getattr(profile, name) for name in ("name", "title", "description")},
        "format": kind.format if kind else "",
    }


# The interface itself -------------------------------------------------------


def list_schemas(call: Call) -> Response:
    """The names of all schemas and examples, a line each."""
    folder = share("schema")
    names = [*sorted(folder.glob("*.xsd")), *sorted(folder.glob("examples/*.xml"))]
    lines = [call.url(f"/schema/{path.relative_to(folder)}") for path in names]
    return call.respond("".join(f"{line}\n" for line in lines).encode(), "text/plain")


def show_schema(call: Call, name: str) -> Response:
    return _shared(call, f"{name}", r"[a-z]+\.xsd")


def show_example(call: Call, name: str) -> Response:
    return _shared(call, f"examples/{name}", r"examples/[a-z-]+\.xml")


def _shared(call: Call, name: str, pattern: str) -> Response:
    path = share("schema") / name
    if not re.fullmatch(pattern, name) or not path.is_file():
        raise NotFound(f"there is no {name[:100]!r} here; /schema/ lists what there is")
    return call.respond(path.read_bytes(), "application/xml")
