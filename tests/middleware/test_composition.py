"""Many components around one app, in the order in which they are meant to stand."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment
from wsgiref.validate import validator

import pytest
from prometheus_client import CollectorRegistry

from middleware.authentication import Authentication, Identity
from middleware.compression import Compression
from middleware.conditional import Conditional
from middleware.csrf import CSRFProtection
from middleware.health import Health
from middleware.maintenance import Maintenance
from middleware.metrics import Metrics
from middleware.problem import Problem
from middleware.rate_limit import RateLimit
from middleware.read_your_writes import POSITION, ReadYourWrites
from middleware.robots import Robots
from middleware.roles import Roles
from middleware.security_headers import SecurityHeaders
from middleware.static import StaticFiles
from middleware.timing import Timing
from middleware.transaction import TransactionPerRequest
from tests.middleware.wsgi import call, environ


class Site:
    """All components around ``app``, each inside of and around ``check``.

    A validator makes a stream of everything: what is about lists does without.
    """

    def __init__(self, app: WSGIApplication, check: Any = lambda app: app) -> None:
        self.lines: list[str] = []
        self.registry = CollectorRegistry()
        for component in (
            lambda app: TransactionPerRequest(app, open=self.open),
            lambda app: ReadYourWrites(
                app, secret=b"sixteen bytes or more", merged=lambda a, b: b or a
            ),
            lambda app: Roles(app, required=lambda environ: "viewer"),
            lambda app: CSRFProtection(app, secret=b"sixteen bytes or more"),
            lambda app: Authentication(app, anonymous=Identity("a", "viewer", "anonymous")),
            Conditional,
            Compression,
            lambda app: StaticFiles(app, root="no such folder"),
            lambda app: RateLimit(app, rate=1, burst=100),
            lambda app: Maintenance(app, mode=lambda: ""),
            lambda app: Health(app, checks=list),
            Robots,
            SecurityHeaders,
            Timing,
            lambda app: Metrics(app, registry=self.registry),
        ):
            app = check(component(check(app)))
        self.app = app

    def open(self, environ: WSGIEnvironment) -> Site:
        environ[POSITION] = lambda: "7"
        return self

    def commit(self) -> None:
        self.lines.append("commit")

    def rollback(self) -> None:
        self.lines.append("rollback")

    def close(self) -> None:
        self.lines.append("close")


def stream(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    """Ten pieces, each of which says how many there were."""
    environ["middleware.store"]()
    environ["middleware.route"] = "/stream"
    start_response("200 OK", [("Content-Type", "text/plain")])
    for number in range(10):
        yield b"piece %d" % number


def whole(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    environ["middleware.store"]()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"text " * 1000]


def test_a_stream_moves_through_all_of_them_and_the_store_outlives_it() -> None:
    site = Site(stream, check=validator)
    site.lines.append("ask")

    def start(status: str, headers: Any, exc_info: Any = None) -> Any:
        site.lines.append(f"start {status}")
        return lambda data: None

    result = site.app(environ(HTTP_ACCEPT_ENCODING="gzip"), start)
    reader = zlib.decompressobj(31)
    pieces = iter(result)
    assert [reader.decompress(next(pieces)) for _ in range(3)] == [
        b"piece 0",
        b"piece 1",
        b"piece 2",
    ]
    assert site.lines == ["ask", "commit", "start 200 OK"]
    result.close()  # type: ignore[attr-defined]
    assert site.lines[3:] == ["rollback", "close"]
    labels = {"method": "GET", "route": "/stream"}
    assert site.registry.get_sample_value("http_request_duration_seconds_count", labels) == 1


def test_what_is_known_is_not_sent_again() -> None:
    site = Site(whole)
    first = call(site.app, HTTP_ACCEPT_ENCODING="gzip")
    assert zlib.decompress(first.body, 31) == b"text " * 1000
    known = first.headers["ETag"]
    again = call(site.app, HTTP_ACCEPT_ENCODING="gzip", HTTP_IF_NONE_MATCH=known)
    assert (again.status, again.body, again.headers["ETag"]) == (304, b"", known)
    assert site.lines == ["commit", "close"] * 2


@pytest.mark.parametrize("accept", ["text/html", "application/json", "application/xml"])
def test_a_problem_rolls_back_and_comes_through_in_its_format(accept: str) -> None:
    def refuses(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ["middleware.store"]()
        return Problem(409, "no " * 300)(environ, start_response)

    site = Site(refuses)
    answer = call(site.app, HTTP_ACCEPT=accept, HTTP_ACCEPT_ENCODING="gzip")
    assert answer.status == 409
    assert b"no no no" in zlib.decompress(answer.body, 31)
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert site.lines == ["rollback", "close"]
