"""Responses of handlers: bytes with a type, redirects, conditional responses.

They set ``cherrypy.response`` and return the body, as a handler does.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from wsgiref.types import StartResponse

import cherrypy
from webob import Response

from middleware.buffering import close


def send(body: bytes, media_type: str, *, status: int = 200) -> bytes:
    """A body that depends on who asks, and in which format. A status or a Cache-Control
    that the handler has set stays."""
    response = cherrypy.serving.response
    if status != 200:
        response.status = status
    headers = response.headers
    headers["Content-Type"] = media_type
    headers["Vary"] = "Accept"
    headers.setdefault("Cache-Control", "private, no-cache")
    return body


def redirect(where: str, status: int = 303) -> bytes:
    """To a path of this server. ``cherrypy.HTTPRedirect`` would name a host, which
    behind a proxy may be another one than the client asked."""
    response = cherrypy.serving.response
    response.status = status
    response.headers["Location"] = where
    if status == 303:
        response.headers["Cache-Control"] = "no-store"
    del response.headers["Content-Type"]
    return b""


def conditional(answer: Response) -> Iterable[bytes]:
    """A WebOb response that meets Range and If-Range, which CherryPy does not know."""
    request, response = cherrypy.serving.request, cherrypy.serving.response
    body: Iterable[bytes] = answer(request.wsgi_environ, starting(response))
    response.stream = True
    # CherryPy closes no body that it does not send, as of HEAD.
    request.hooks.attach("on_end_request", lambda: close(body))
    return body


def starting(response: Any) -> StartResponse:
    """A ``start_response`` that sets the head of CherryPy's response."""

    def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        response.status = status
        dict.clear(response.headers)
        response.headers.update(headers)

    return start
