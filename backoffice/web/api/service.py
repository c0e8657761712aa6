"""The service over HTTP: its addresses, its schemas, the OpenAPI document."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from backoffice import __version__
from backoffice.config.resources import share
from backoffice.errors import NotFound
from backoffice.reports.records import Record
from backoffice.web import responses
from backoffice.web.handlers import Handlers
from backoffice.web.pages import site

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


class Service(Handlers):
    """``describe`` makes the OpenAPI document for the path that we are mounted at."""

    def __init__(self, describe: Callable[[str], bytes]) -> None:
        self._describe = describe

    def show(self) -> Record:
        links = [
            {"rel": path.strip("/").split(".")[0], "href": self.context.url(f"/{path}"), "title": t}
            for path, t in LINKS
        ]
        return {"version": __version__, "links": links}

    def about(self) -> dict[str, Any]:
        return site.about(self.context)

    def openapi(self) -> bytes:
        return responses.send(self._describe(self.context.url("")), "application/json")


class Schemas(Handlers):
    def index(self) -> bytes:
        """The names of all schemas and examples, a line each."""
        folder = share("schema")
        names = [*sorted(folder.glob("*.xsd")), *sorted(folder.glob("examples/*.xml"))]
        lines = [self.context.url(f"/schema/{path.relative_to(folder)}") for path in names]
        return responses.send("".join(f"{line}\n" for line in lines).encode(), "text/plain")

    def schema(self, name: str) -> bytes:
        return _shared(name, r"[a-z]+\.xsd")

    def example(self, name: str) -> bytes:
        return _shared(f"examples/{name}", r"examples/[a-z-]+\.xml")


def _shared(name: str, pattern: str) -> bytes:
    path = share("schema") / name
    if not re.fullmatch(pattern, name) or not path.is_file():
        raise NotFound(f"there is no {name[:100]!r} here; /schema/ lists what there is")
    return responses.send(path.read_bytes(), "application/xml")
