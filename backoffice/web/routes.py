"""Routes, and the tree of resources that CherryPy's dispatcher walks.

Owns what a line of the table of addresses says, and the tree made of the lines.
The table itself is ``addresses.ROUTES``; what a handler does is in ``api`` and ``pages``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import cherrypy

# Before each segment in the tree: no name that a client asks for is another attribute.
MARK = "."
VIEWER, OPERATOR, ADMIN = "viewer", "operator", "admin"


@dataclass(frozen=True)
class Parameter:
    """A parameter of the query. ``convert`` raises ValueError, whose message ends
    the sentence "… is not"; ``schema`` is its JSON Schema."""

    name: str
    convert: Callable[[str], Any]
    description: str
    schema: Mapping[str, object]
    many: bool = False  # may be repeated, or hold several values with commas


@dataclass(frozen=True)
class Route:
    """``path`` is a template: {id} stands for a whole number, {name} for any
    segment, {path} for all that follows. ``handler`` gets these as arguments."""

    method: str
    path: str
    handler: Callable[..., Any]
    summary: str
    gives: str = ""  # kind of document in ``documents``; empty: something else
    takes: str = ""  # kind of document in the body
    role: str = VIEWER
    status: int = 200
    query: tuple[Parameter, ...] = ()
    media_type: str = ""  # of what it gives when that is no document
    refuses: tuple[int, ...] = ()  # statuses beyond those that any route may have
    page: Callable[..., bytes] | None = None  # of its document, as HTML
    template: str = ""  # of a page without a document
    store: bool = True  # whether the handler uses the request's store

    def config(self) -> dict[str, Any]:
        """The line as CherryPy's configuration of its handler."""
        config: dict[str, Any] = {
            "tools.role.on": True,
            "tools.role.name": self.role,
            "tools.query.on": True,
            "tools.query.parameters": self.query,
            "tools.problems.on": True,
        }
        if self.store:
            config["tools.store.on"] = True
        if self.gives:
            config |= {"tools.document.on": True, "tools.document.kind": self.gives}
            config |= {"tools.document.page": self.page}
        if self.template:
            config |= {"tools.genshi.on": True, "tools.genshi.template": self.template}
        return config


class Operation:
    """The handler of one method of one address, with its configuration.

    It takes any arguments, so that CherryPy never takes a TypeError inside the
    handler for an address that does not exist.
    """

    def __init__(self, route: Route) -> None:
        self.path = route.path
        self._handler = route.handler
        self._cp_config = route.config()

    def __call__(self, **arguments: Any) -> Any:
        return self._handler(**arguments)


class Resource:
    """An address in the tree of ``cherrypy.dispatch.MethodDispatcher``.

    Its attributes are an Operation for each method in capitals and a Resource for
    each segment that may follow, with MARK before its name.
    """

    def __init__(self) -> None:
        self._operations: dict[str, Operation] = {}
        self._variable: tuple[str, Resource] | None = None

    def __dir__(self) -> Iterable[str]:
        """The methods: all that MethodDispatcher looks for, at each request."""
        return self._operations

    @property
    def has_document(self) -> bool:
        """Whether a suffix may choose the format of what it gives."""
        return any(
            "tools.document.on" in operation._cp_config for operation in self._operations.values()
        )

    def add(self, route: Route) -> None:
        operation = Operation(route)
        self.exposed = True
        self._operations[route.method] = operation
        setattr(self, route.method, operation)

    def child(self, segment: str) -> Resource:
        """The Resource behind a segment of a template, made when it is new."""
        if segment.startswith("{"):
            if self._variable is None:
                self._variable = (segment[1:-1], Resource())
            return self._variable[1]
        child: Resource = vars(self).setdefault(MARK + segment, Resource())
        return child

    def _cp_dispatch(self, vpath: list[str]) -> Resource | None:
        """What stands for a variable segment; CherryPy asks when no attribute does."""
        if self._variable is None:
            return None
        name, resource = self._variable
        segments = [segment.removeprefix(MARK) for segment in vpath]
        if name == "path":
            value: object = "/".join(segments)
            vpath.clear()
        elif name == "id" and not _is_number(segments[0]):
            return None
        else:
            value = int(segments[0]) if name == "id" else segments[0]
            del vpath[0]
        cherrypy.serving.request.params[name] = value
        return resource


def tree(routes: Iterable[Route]) -> Resource:
    """The root of the tree."""
    root = Resource()
    for route in routes:
        resource = root
        for segment in filter(None, route.path.split("/")):
            resource = resource.child(segment)
        resource.add(route)
    return root


def _is_number(segment: str) -> bool:
    return segment.isascii() and segment.isdigit() and len(segment) <= 18
