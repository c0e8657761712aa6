"""CherryPy tools: role, store, query, document, genshi, problems.

They are registered on ``cherrypy.tools``, so that any CherryPy application which
is mounted in the stack may turn them on, in its configuration or as decorators::

    @cherrypy.expose
    @cherrypy.tools.problems()
    @cherrypy.tools.role(name="operator")
    @cherrypy.tools.store()
    @cherrypy.tools.document(kind="job")
    def show(self, id):
        return records.job(cherrypy.request.store, int(id))

What they need is in the environ: the identity, the store, the site.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import cherrypy

from backoffice.documents import shapes, writing
from backoffice.web import queries, responses
from backoffice.web.context import RequestContext
from backoffice.web.pages import render
from backoffice.web.problems import HTTPProblem, answered, error_page
from backoffice.web.routes import Parameter
from middleware.problem import Problem
from middleware.roles import refusal

Handler = Callable[[], Any]


def current() -> RequestContext:
    """The context of the request that this thread handles."""
    request = cherrypy.serving.request
    context: RequestContext | None = getattr(request, "context", None)
    if context is None:
        context = request.context = RequestContext(request.wsgi_environ)
    return context


# Before the handler ---------------------------------------------------------


def role(name: str = "viewer") -> None:
    """401 or 403 unless who asks has this role, or a higher one."""
    if problem := refusal(cherrypy.serving.request.wsgi_environ, name):
        raise HTTPProblem(problem)


def query(parameters: Sequence[Parameter] = ()) -> None:
    """Read the query by its parameters; 400 for what is not one of them. The values
    are in ``cherrypy.request.context.query``; CherryPy would add them, as they were
    written, to the handler's arguments."""
    request = cherrypy.serving.request
    try:
        current().query = queries.read(request.wsgi_environ.get("QUERY_STRING", ""), parameters)
    except Problem as problem:
        raise HTTPProblem(problem) from problem
    request.query_string = ""


def store() -> None:
    """``cherrypy.request.store`` is the request's store: committed once the handler has
    answered, rolled back if it refused."""
    cherrypy.serving.request.store = current().store


# Around the handler ---------------------------------------------------------


class AroundTool(cherrypy.Tool):  # type: ignore[misc]
    """Calls ``around(handler, **configuration)`` in place of the handler."""

    def __init__(self, around: Callable[..., Any], priority: int) -> None:
        self._around = around
        super().__init__("before_handler", self._wrap, priority=priority)

    def _wrap(self, **configuration: Any) -> None:
        request = cherrypy.serving.request
        request.handler = partial(self._around, request.handler, **configuration)


class ProblemsTool(AroundTool):
    """Errors of handlers as problems, and those of CherryPy too."""

    def __init__(self) -> None:
        super().__init__(answered, priority=90)

    def _setup(self) -> None:
        super()._setup()
        request = cherrypy.serving.request
        request.throw_errors = True
        request.error_page.setdefault("default", error_page)


Page = Callable[[RequestContext, Any], bytes]


def document(
    handler: Handler, kind: str | shapes.Shape, page: Page | None = None
) -> bytes | Iterator[bytes]:
    """The record that the handler gives, in the format that the client reads. Bytes
    pass as they are; an iterator of lists becomes a document that is streamed."""
    record = handler()
    context = current()
    if isinstance(record, bytes):
        return record
    if context.format == "html" and (page or context.changes):
        return page(context, record) if page else _follow(context)
    written = "json" if context.format == "json" else "xml"
    if isinstance(record, Iterator):
        return _stream(kind, record, written)
    body = _WRITERS[written](kind, record)
    return responses.send(body, f"application/{written}")


_WRITERS: dict[str, Callable[..., bytes]] = {
    "xml": writing.to_xml,
    "json": lambda kind, record: writing.to_json(kind, record).encode(),
}


def _follow(context: RequestContext) -> bytes:
    """To what was made, or to what was changed: its address without the verb. So
    reloading the page changes nothing again."""
    made = cherrypy.serving.response.headers.get("Location", "")
    return responses.redirect(made or context.url(context.parent))


def _stream(kind: str | shapes.Shape, pages: Iterator[Any], written: str) -> Iterator[bytes]:
    """The first page is made before the response starts, so that what goes wrong at
    once is still an error."""
    chunks = (writing.stream_json if written == "json" else writing.stream_xml)(kind, pages)
    begun = [next(chunks), next(chunks)]
    responses.send(b"", f"application/{written}")
    cherrypy.serving.response.stream = True
    return _chain(begun, chunks)


def _chain(begun: list[bytes], chunks: Iterator[bytes]) -> Iterator[bytes]:
    yield from begun
    yield from chunks


def genshi(handler: Handler, template: str, folder: str = "") -> bytes:
    """The template with what the handler gives, ``title`` among it, in the frame of
    all pages. ``folder`` is where an application has its own templates."""
    data = handler()
    if isinstance(data, bytes):
        return data
    return render.page(current(), template, folder=folder, **data)


cherrypy.tools.role = cherrypy.Tool("on_start_resource", role, priority=10)
cherrypy.tools.query = cherrypy.Tool("on_start_resource", query, priority=20)
cherrypy.tools.store = cherrypy.Tool("before_handler", store, priority=30)
cherrypy.tools.document = AroundTool(document, priority=50)
cherrypy.tools.genshi = AroundTool(genshi, priority=50)
cherrypy.tools.problems = ProblemsTool()
