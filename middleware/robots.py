"""robots.txt and X-Robots-Tag: keep search engines out.

``application = Robots(application)``

Answers /robots.txt and marks every response. Search engines may ignore both;
Authentication keeps strangers out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from middleware import paste
from middleware.problem import Problem

_TEXT = b"User-agent: *\nDisallow: /\n"
_HEADERS = [
    ("Content-Type", "text/plain; charset=utf-8"),
    ("Content-Length", str(len(_TEXT))),
    ("Cache-Control", "public, max-age=86400"),
]
_TAG = ("X-Robots-Tag", "noindex, nofollow")


class Robots:
    def __init__(self, app: WSGIApplication) -> None:
        self.app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("PATH_INFO") == "/robots.txt":
            return _robots_txt(environ, start_response)

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            return start_response(status, [*headers, _TAG], exc_info)

        return self.app(environ, start)


def _robots_txt(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    method = environ["REQUEST_METHOD"]
    if method not in ("GET", "HEAD"):
        problem = Problem(405, "read it with GET", headers=[("Allow", "GET, HEAD")])
        return problem(environ, start_response)
    start_response("200 OK", [*_HEADERS, _TAG])
    return [] if method == "HEAD" else [_TEXT]


filter_factory = paste.factory(Robots)
