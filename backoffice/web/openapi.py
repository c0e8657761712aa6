"""OpenAPI 3.1: the JSON interface, made from the routes and the shapes of documents.

Nothing is said twice: paths, parameters and statuses come from ``api.ROUTES``,
documents from ``documents.SHAPES``. Only what a key's value is, and what a body
must hold, stands here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from backoffice import __version__, states
from backoffice.data import cluster
from backoffice.documents import safe_xml
from backoffice.documents.paging import LARGEST_ID
from backoffice.documents.shapes import PLURALS, SHAPES, Shape
from backoffice.web.queries import MOST_VALUES
from backoffice.web.routes import Parameter, Route

Schema = dict[str, Any]

_ANY: Schema = {}
_TEXT: Schema = {"type": "string"}
_TEXTS: Schema = {"type": "array", "items": _TEXT}
_MAP: Schema = {"type": "object", "additionalProperties": _TEXT}
_NUMBER: Schema = {"type": ["number", "null"]}
_WHOLE: Schema = {"type": ["integer", "null"]}
_FLAG: Schema = {"type": "boolean"}
_TIME: Schema = {"type": ["string", "null"], "format": "date-time"}
_ID: Schema = {"type": "integer", "minimum": 1, "maximum": LARGEST_ID}
_PRIORITY: Schema = {"type": "integer", "minimum": 0, "maximum": 100}

# What a key's value is, in every document or, with the tag before it, in one.
# Keys that are not here are texts, which may be null.
_KEYS: dict[str, Schema] = {
    "id": _ID,
    "priority": _PRIORITY,
    "job.state": {"enum": list(states.JOB_STATES)},
    "task.state": {"enum": list(states.TASK_STATES)},
    "attempt.state": {"enum": list(states.ATTEMPT_STATES)},
    "worker.state": {"enum": list(states.WORKER_STATES)},
    "node.state": {"enum": list(cluster.STATES)},
    "node.role": {"enum": list(cluster.ROLES)},
    "publication.state": {"enum": list(states.PUBLICATION_STATES)},
    "reason": {"enum": [*filter(None, states.Reason), None]},
    **dict.fromkeys(("facts", "report", "detail"), _ANY),
    **dict.fromkeys(("parameters", "metadata"), _MAP),
    **dict.fromkeys(("tags", "needs", "queues", "reasons", "choices"), _TEXTS),
    **dict.fromkeys(
        (
            "progress",
            "eta",
            "cpu_seconds",
            "wall_seconds",
            "oldest",
            "speed_factor",
            "lag",
            "share",
        ),
        _NUMBER,
    ),
    **dict.fromkeys(
        (
            "job",
            "task",
            "file",
            "worker",
            "made_by",
            "last_job",
            "size",
            "version",
            "attempt",
            "attempts",
            "number",
            "exit_status",
            "peak_memory",
            "log_size",
            "pid",
            "slots",
            "ready",
            "running",
            "limit",
            "matched",
            "possible",
            "done",
            "reads",
            "writes",
        ),
        _WHOLE,
    ),
    **dict.fromkeys(
        (
            "submitted",
            "started",
            "finished",
            "cancel_requested",
            "run_at",
            "published",
            "retracted",
            "heartbeat",
            "at",
            "next_run",
            "last_run",
            "created",
            "expires",
            "revoked",
            "last_used",
        ),
        _TIME,
    ),
    **dict.fromkeys(("preview", "more", "paused", "optional", "many", "required"), _FLAG),
    "worker.running": {"type": "array", "items": _ID},
    "worker.version": _TEXT,
    "service.version": _TEXT,
    "output.task": {"type": ["string", "null"]},
    "argv": {"type": "array", "items": _TEXTS},
    **dict.fromkeys(("task.outputs", "task.notes"), _TEXTS),  # of a plan
}
_OTHER: Schema = {"type": ["string", "null"]}

_NAME: Schema = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_-]*$", "maxLength": 64}
_ROLE_AND_HREF: Schema = {
    "type": "object",
    "properties": {"role": _NAME, "href": {"type": "string", "format": "uri"}},
    "required": ["role", "href"],
    "additionalProperties": False,
}
_FILTER: Schema = {
    "type": "object",
    "description": "as the query of GET /jobs; at least one of them",
    "properties": {
        "state": {"type": "array", "items": {"enum": list(states.JOB_STATES)}},
        **dict.fromkeys(
            ("workflow", "submitter", "q", "submitted-after", "submitted-before"), _TEXT
        ),
    },
    "additionalProperties": False,
}
_BODIES: dict[str, Schema] = {
    "submission": {
        "type": "object",
        "properties": {
            "workflow": _NAME,
            "title": {"type": "string", "maxLength": 500},
            "key": {"type": "string", "maxLength": 200},
            "priority": _PRIORITY,
            "delay": {"type": "string", "pattern": "^[0-9]{1,9}(ms|s|m|h|d)$"},
            "inputs": {"type": "array", "items": _ROLE_AND_HREF},
            "parameters": _MAP,
            "metadata": _MAP,
        },
        "required": ["workflow"],
        "additionalProperties": False,
    },
    "registration": {
        "type": "object",
        "properties": {"href": {"type": "string", "format": "uri"}, "metadata": _MAP},
        "required": ["href"],
        "additionalProperties": False,
    },
    "action": {
        "type": "object",
        "properties": {
            "name": {"enum": ["cancel", "pause", "resume", "retry", "priority"]},
            "value": _PRIORITY,
            "preview": _FLAG,
            "filter": _FILTER,
            "jobs": {
                "type": "array",
                "maxItems": MOST_VALUES,
                "items": {"type": "object", "properties": {"id": _ID}, "required": ["id"]},
            },
        },
        "required": ["name"],
        "additionalProperties": False,
    },
    "priority": {"type": "object", "properties": {"value": _PRIORITY}, "required": ["value"]},
    "limit": {
        "type": "object",
        "properties": {"value": {"type": ["integer", "string"], "description": "or none"}},
        "required": ["value"],
    },
}
_PROBLEM: Schema = {
    "type": "object",
    "properties": {
        "type": _TEXT,
        "title": _TEXT,
        "status": {"type": "integer"},
        "detail": _TEXT,
        "instance": _TEXT,
        "errors": {
            "type": "array",
            "maxItems": safe_xml.FAULTS,
            "items": {
                "type": "object",
                "properties": {
                    "line": {"type": "integer"},
                    "column": {"type": "integer"},
                    "message": _TEXT,
                },
            },
        },
        "more": {
            "type": "integer",
            "minimum": 1,
            "description": "how many faults there are beyond those in errors",
        },
    },
}
_ALWAYS = (400, 401, 403, 404, 429, 500, 503)  # what any route may answer


def document(routes: Sequence[Route], base: str) -> bytes:
    """The document; ``base`` is the path that we are mounted at."""
    paths: dict[str, Schema] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    whole = {
        "openapi": "3.1.0",
        "info": {"title": "Backoffice", "version": __version__},
        "servers": [{"url": base or "/"}],
        "security": [{}, {"token": []}],
        "paths": paths,
        "components": {
            "schemas": {
                **{tag: _schema(shape) for tag, shape in SHAPES.items()},
                **{kind: _list(kind) for kind in PLURALS},
                **_BODIES,
                "problem": _PROBLEM,
            },
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }
    return json.dumps(whole, indent=1).encode()


def _operation(route: Route) -> Schema:
    operation: Schema = {
        "operationId": f"{route.method.lower()}{re.sub(r'[^A-Za-z]+', '_', route.path)}".strip("_"),
        "summary": route.summary,
        "description": f"Needs the role {route.role}.",
        "parameters": [*_in_path(route.path), *(_in_query(one) for one in route.query)],
        "responses": _responses(route),
    }
    if route.takes:
        content = {"application/json": {"schema": _ref(route.takes)}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _in_path(path: str) -> list[Schema]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": _ID if name == "id" else {"type": "string", "minLength": 1},
        }
        for name in re.findall(r"\{(\w+)\}", path)
    ]


def _in_query(parameter: Parameter) -> Schema:
    found: Schema = {
        "name": parameter.name,
        "in": "query",
        "description": parameter.description,
        "schema": dict(parameter.schema),
    }
    return found | ({"style": "form", "explode": True} if parameter.many else {})


def _responses(route: Route) -> Schema:
    given: Schema = {"description": route.summary}
    if route.gives:
        given["content"] = {"application/json": {"schema": _ref(route.gives)}}
    elif route.media_type:
        given["content"] = {route.media_type: {}}
    found = {str(route.status): given}
    if route.status == 201 and route.takes:
        found["200"] = {**given, "description": "It was there already"}
    if not route.gives:
        found |= {"206": given, "302": {"description": "It is there"}}
    if route.method == "GET":
        found["304"] = {"description": "As you have it"}
    for status in sorted({*_ALWAYS, *route.refuses}):
        content: Schema = {"application/problem+json": {"schema": _ref("problem")}}
        if route.media_type == "text/html" and status in route.refuses:
            content["text/html"] = {}  # the form again, with what is wrong with it
        found[str(status)] = {"description": HTTPStatus(status).phrase, "content": content}
    return found


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _schema(shape: Shape) -> Schema:
    properties: dict[str, Schema] = {}
    for key in shape.names():
        part = shape.parts.get(key)
        if isinstance(part, Shape):
            properties[key] = {"type": "array", "items": _schema(part)}
        else:
            properties[key] = _KEYS.get(f"{shape.tag}.{key}", _KEYS.get(key, _OTHER))
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _list(kind: str) -> Schema:
    items = {"type": "array", "items": _ref(PLURALS[kind].tag)}
    return {"type": "object", "properties": {kind: items}, "required": [kind]}
