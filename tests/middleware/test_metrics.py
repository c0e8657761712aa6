"""Requests are counted and timed, under a bounded number of names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import pytest
from prometheus_client import CollectorRegistry

from middleware import metrics
from middleware.metrics import Metrics, exposition
from tests.middleware.wsgi import call, environ


class Site:
    """An app inside Metrics; it answers ``status`` under the route ``route``."""

    def __init__(self, status: str = "200 OK", route: str | None = "/jobs/{id}") -> None:
        self.status = status
        self.route = route
        self.now = 0.0
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.app, registry=self.registry, clock=lambda: self.now)

    def app(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if self.route:
            environ["middleware.route"] = self.route
        start_response(self.status, [])
        self.now += 0.2
        return self.body()

    def body(self) -> Iterator[bytes]:
        self.now += 0.3
        yield b"a"

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


def test_a_request_is_timed_to_the_end_of_its_body() -> None:
    site = Site()
    call(site.metrics, path="/jobs/17")
    labels = {"method": "GET", "route": "/jobs/{id}"}
    assert site.value("http_request_duration_seconds_count", **labels) == 1
    assert site.value("http_request_duration_seconds_sum", **labels) == 0.5


@pytest.mark.parametrize(
    ("status", "code"), [("201 Created", "201"), ("404 No", "404"), ("503 No", "503")]
)
def test_a_request_is_counted_by_its_code(status: str, code: str) -> None:
    site = Site(status)
    call(site.metrics, "POST")
    assert site.value("http_requests_total", method="POST", code=code) == 1


def test_a_request_is_in_flight_until_it_is_closed() -> None:
    site = Site()
    result = site.metrics(environ(), lambda status, headers, exc_info=None: lambda data: None)
    assert site.value("http_requests_in_flight") == 1
    list(result)
    assert site.value("http_requests_in_flight") == 1
    result.close()  # type: ignore[attr-defined]
    result.close()  # type: ignore[attr-defined]
    assert site.value("http_requests_in_flight") == 0
    assert site.value("http_requests_total", method="GET", code="200") == 1


def test_an_app_that_fails_is_counted_as_an_error() -> None:
    def fails(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        raise ZeroDivisionError

    site = Site()
    site.metrics.app = fails
    with pytest.raises(ZeroDivisionError):
        call(site.metrics)
    assert site.value("http_requests_total", method="GET", code="500") == 1
    assert site.value("http_requests_in_flight") == 0


def test_a_body_that_cannot_be_closed_is_counted_all_the_same() -> None:
    class Stuck(list[bytes]):
        def close(self) -> None:
            raise ZeroDivisionError

    site = Site()
    site.body = Stuck  # type: ignore[assignment,method-assign]
    with pytest.raises(ZeroDivisionError):
        call(site.metrics)
    assert site.value("http_requests_in_flight") == 0


def test_paths_and_methods_of_strangers_make_no_names() -> None:
    site = Site("404 Not Found", route=None)
    for number in range(20):
        call(site.metrics, f"METHOD{number}", f"/path/{number}")
    assert site.value("http_request_duration_seconds_count", method="other", route="other") == 20
    assert site.value("http_requests_total", method="other", code="404") == 20


def test_an_app_that_takes_paths_for_routes_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "MAX_ROUTES", 3)
    site = Site()
    for number in (1, 2, 3, 4, 5, 1):
        site.route = f"/jobs/{number}"
        call(site.metrics)
    assert site.value("http_request_duration_seconds_count", method="GET", route="/jobs/1") == 2
    assert site.value("http_request_duration_seconds_count", method="GET", route="other") == 2


@pytest.mark.parametrize(
    ("accept", "media_type", "end"),
    [
        (None, "text/plain", b"\n"),
        ("text/html", "text/plain", b"\n"),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text", b"# EOF\n"),
    ],
)
def test_the_scraper_gets_the_format_it_prefers(
    accept: str | None, media_type: str, end: bytes
) -> None:
    site = Site()
    call(site.metrics)
    given, data = exposition(site.registry, environ(HTTP_ACCEPT=accept))
    assert given.split(";")[0] == media_type
    assert data.endswith(end)
    assert b'http_requests_total{code="200",method="GET"} 1.0' in data


def test_two_can_count_into_registries_of_their_own() -> None:
    app: WSGIApplication = Site().metrics
    call(Metrics(app, registry=CollectorRegistry()))
