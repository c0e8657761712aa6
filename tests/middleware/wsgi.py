"""Calling WSGI applications as a server does, and small ones to call."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from wsgiref.headers import Headers
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment
from wsgiref.util import setup_testing_defaults


@dataclass
class Answer:
    """A whole response."""

    status: int
    headers: Headers
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


def environ(method: str = "GET", path: str = "/", body: bytes = b"", **more: Any) -> dict[str, Any]:
    """What a server gives; ``more`` are its further keys, such as HTTP_HOST."""
    name, _, query = path.partition("?")
    made: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": name,
        "QUERY_STRING": query,
        "REMOTE_ADDR": "127.0.0.1",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.input": io.BytesIO(body),
    }
    if body:
        made |= {"CONTENT_LENGTH": str(len(body)), "CONTENT_TYPE": "application/octet-stream"}
    setup_testing_defaults(made)
    # A test may say None to leave out what is there by default.
    return {key: value for key, value in (made | more).items() if value is not None}


def call(
    app: WSGIApplication, method: str = "GET", path: str = "/", body: bytes = b"", **more: Any
) -> Answer:
    """The response to a request with the environ of ``environ(…)``."""
    return run(app, environ(method, path, body, **more))


def run(app: WSGIApplication, given: WSGIEnvironment) -> Answer:
    """The response to ``given``; its iterable is read to the end and closed."""
    started: list[Any] = []
    written: list[bytes] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        assert exc_info or not started, "start_response was called twice"
        started[:] = [status, headers]
        return written.append

    result = app(given, start_response)
    try:
        written.extend(result)
    finally:
        if hasattr(result, "close"):
            result.close()
    return Answer(int(started[0][:3]), Headers(started[1]), b"".join(written))


def hello(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """A plain application."""
    body = b"Hello\n"
    headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))]
    start_response("200 OK", headers)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


def echo(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Sends back the body it is sent."""
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]
