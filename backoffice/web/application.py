"""The CherryPy application: its dispatcher, its configuration, its WSGI edge.

MethodDispatcher finds the handlers: it tells 404 from 405 and knows what Allow must
say. RoutesDispatcher has no 405, tries one regular expression after the other, and
needs a library that is no longer kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import cherrypy
from cherrypy._cprequest import Request as CherryPyRequest

from backoffice.web import tools  # noqa: F401 - registers them
from backoffice.web.context import RequestContext
from backoffice.web.problems import HTTPProblem, error_page
from backoffice.web.routes import MARK, Operation, Resource, Route, tree
from middleware.problem import Problem

SUFFIXES = {".xml": "xml", ".json": "json", ".atom": "atom"}
TOLD = "backoffice.told"  # in the environ: what components around are told


class Application:
    """The WSGI application of all handlers.

    CherryPy's InternalRedirector gives handlers a copy of the environ; what is meant
    for the components around is copied back. They are given a list, which none of them
    has to wait for, unless the handler streams.
    """

    def __init__(self, routes: Sequence[Route]) -> None:
        self._application = cherrypy.Application(tree(routes), None, _configuration())
        self._application.request_class = _Request

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        told = environ[TOLD] = {}
        environ.setdefault("SCRIPT_NAME", "")
        for name in ("SERVER_PORT", "REMOTE_PORT"):  # a Unix socket has none: "None", "unix"
            if not environ.get(name, "").isdecimal():
                environ[name] = ""
        try:
            response = self._application(environ, start_response)
        finally:
            environ.update(told)
        return response if cherrypy.serving.response.stream else _whole(response)


class Dispatcher(cherrypy.dispatch.MethodDispatcher):  # type: ignore[misc]
    """MethodDispatcher for templates of addresses, with suffixes that choose the format."""

    def __init__(self) -> None:
        super().__init__(translate={})  # an address is known by its exact name
        self._configs: dict[Operation, dict[str, Any]] = {}

    def __call__(self, path_info: str) -> None:
        request = cherrypy.serving.request
        request.context = RequestContext(request.wsgi_environ)
        super().__call__(path_info)
        if isinstance(request.handler, cherrypy.HTTPError):
            request.query_string = ""  # it need not be understood any more
            request.handler = HTTPProblem(_refusal(request.handler.code, request.method))
        else:
            operation: Operation = request.handler.callable
            _tell(route=operation.path)
            if operation not in self._configs:
                self._configs[operation] = _without_what_is_off(request.config)
            request.config = self._configs[operation].copy()
            del cherrypy.serving.response.headers["Allow"]

    def find_handler(self, path: str) -> tuple[Resource | None, list[str]]:
        stem, dot, suffix = path.rstrip("/").rpartition(".")
        if dot + suffix in SUFFIXES:
            found = self._find(stem)
            if found is not None and found.has_document:
                _tell(format=SUFFIXES[dot + suffix])
                return found, []
        return self._find(path), []

    def _find(self, path: str) -> Resource | None:
        """CherryPy would call the nearest resource with what is left of the path, and
        takes two slashes for one."""
        request = cherrypy.serving.request
        request.params.clear()
        marked = f"/{MARK}".join(path.rstrip("/").split("/"))
        resource, rest = super().find_handler(marked)
        return None if rest or "//" in request.wsgi_environ.get("PATH_INFO", "") else resource


def _whole(response: Any) -> list[bytes]:
    try:
        return list(response)
    finally:
        response.close()


def _tell(**values: str) -> None:
    environ = cherrypy.serving.request.wsgi_environ
    named = {f"middleware.{name}": value for name, value in values.items()}
    environ.update(named)
    environ[TOLD].update(named)


def _refusal(status: int, method: str) -> Problem:
    if status == 404:
        return Problem(404, "there is nothing at this address; / tells what there is")
    allowed = cherrypy.serving.response.headers["Allow"]
    detail = f"{method} is not possible here; possible are {allowed}"
    return Problem(405, detail, headers=[("Allow", allowed)])


class _Request(CherryPyRequest):  # type: ignore[misc]
    """With defaults that hold before the configuration does, while headers are read."""

    process_request_body = False  # handlers read it, within limits
    throw_errors = True
    show_tracebacks = False
    error_page: ClassVar = {"default": error_page}

    def process_headers(self) -> None:
        """Without cookies: those of another application on the host may be malformed,
        for which CherryPy refuses the request. The components around read them."""
        self.header_list: list[tuple[str, str]] = [
            pair for pair in self.header_list if pair[0] != "COOKIE"
        ]
        try:
            super().process_headers()
        except (LookupError, ValueError):  # RFC 2047, in a charset that there is not
            raise cherrypy.HTTPError(400, "a header of the request cannot be decoded") from None


def _configuration() -> dict[str, dict[str, Any]]:
    """What CherryPy does by default and others here do already is turned off."""
    return {
        "/": {
            "request.dispatch": Dispatcher(),
            "tools.log_tracebacks.on": False,
            "tools.log_headers.on": False,
            "tools.trailing_slash.on": False,
            "tools.encode.on": False,
            "hooks.before_finalize": _leave_to_the_server,
            "log.screen": False,
            "log.access": _no_line,  # AccessLog writes it
            # Unexpected errors reach ErrorHandler, which reports them.
            "wsgi.ExceptionTrapper.throws": (BaseException,),
        }
    }


def _without_what_is_off(config: Mapping[str, Any]) -> dict[str, Any]:
    """CherryPy goes through the configuration at each request, a key at a time."""
    off = {
        key.removesuffix("on") for key, value in config.items() if key.endswith(".on") and not value
    }
    return {
        key: value
        for key, value in config.items()
        if not key.startswith(("log.", "wsgi.", *off))  # these two are of the application
    }


def _no_line() -> None:
    pass


def _leave_to_the_server() -> None:
    headers = cherrypy.serving.response.headers
    dict.pop(headers, "Server", None)
    dict.pop(headers, "Date", None)
