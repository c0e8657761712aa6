"""The time until the response starts is told."""

from __future__ import annotations

from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIEnvironment

from middleware.timing import Timing
from tests.middleware.wsgi import call


def test_it_tells_the_milliseconds_until_the_response_starts() -> None:
    now = [10.0]

    def slow(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        now[0] += 0.0123
        start_response("200 OK", [("Server-Timing", "db;dur=1")])
        now[0] += 100
        return []

    timing = call(Timing(slow, clock=lambda: now[0])).headers.get_all("Server-Timing")
    assert timing == ["db;dur=1", "app;dur=12.3"]
