"""CherryPy around the handlers, without what they do not use.

Of a request's 70 µs in CherryPy most go into its headers, cookies, form parser,
hooks and tools; handlers here read WebOb's request and return its response. So
CherryPy's own place for it, ``response_class``, is taken by an exchange that
loads the request, dispatches, and calls the handler. Exceptions leave it as
they are: the components around know what to do with them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import cherrypy
from cherrypy.lib.httputil import Host
from webob import Response
from webob.response import EmptyResponse

from backoffice.web.call import Call, Site
from backoffice.web.routes import Router
from middleware.buffering import close

_UNKNOWN = Host("", 0, "")
# One range, as RFC 9110 writes it; any other is as good as none. WebOb takes time
# by the square of the blanks in one, and fails at numbers of many digits.
_range = re.compile(r"bytes=(?:[0-9]{1,18}-[0-9]{0,18}|-[0-9]{1,18})").fullmatch


def application(site: Site, router: Router) -> Callable[..., Iterable[bytes]]:
    """The WSGI application of all handlers."""
    dispatcher = _Dispatcher(site, router)
    app = cherrypy.Application(None, None, {"/": {"request.dispatch": dispatcher}})
    app.wsgiapp.pipeline = []
    app.wsgiapp.response_class = _Exchange
    wsgi: Callable[..., Iterable[bytes]] = app
    return wsgi


class _Dispatcher:
    """Finds the handler in the table of routes."""

    def __init__(self, site: Site, router: Router) -> None:
        self.site = site
        self.router = router

    def __call__(self, path_info: str) -> None:
        cherrypy.serving.request.handler = self._handle

    def _handle(self) -> Response:
        environ = cherrypy.serving.request.wsgi_environ
        match = self.router.match(environ)
        call = Call(self.site, environ, match)
        call.query  # noqa: B018 - refused whatever the handler would do with it
        response: Response = match.route.handler(call, **match.arguments)
        return response


class _Exchange:
    """One request and its response; ``cherrypy.request`` is this thread's until
    it is closed."""

    def __init__(self, environ: dict[str, Any], start_response: Any, app: Any) -> None:
        serving = cherrypy.serving
        request = app.request_class(_UNKNOWN, _UNKNOWN)
        request.app, request.wsgi_environ = app, environ
        request.method = environ["REQUEST_METHOD"]
        request.path_info = environ.get("PATH_INFO", "")
        serving.load(request, None)
        self._body: Iterable[bytes] = ()
        try:
            app.config["/"]["request.dispatch"](request.path_info)
            self._answer(request.handler(), environ, start_response)
        except BaseException:
            self.close()
            raise

    def _answer(self, answer: Response, environ: dict[str, Any], start_response: Any) -> None:
        if answer.conditional_response:  # it looks at Range and If-Modified-Since
            if not _range(environ.get("HTTP_RANGE", "")):
                environ.pop("HTTP_RANGE", None)
            self._body = answer(environ, start_response)
            return
        # Called, it would make Location absolute.
        head = environ["REQUEST_METHOD"] == "HEAD"
        self._body = EmptyResponse(answer.app_iter) if head else answer.app_iter
        start_response(answer.status, answer.headerlist)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def close(self) -> None:
        try:
            close(self._body)
        finally:
            cherrypy.serving.clear()
