"""Prometheus metrics: requests, durations, requests in flight.

``application = Metrics(application, registry=registry)``

A request is counted when its body is closed. The app serves /metrics, with
``exposition``. Label values are bounded and never come from the client: a route
is the template that the app puts into ``environ["middleware.route"]``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from time import perf_counter
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder

from middleware import paste
from middleware.buffering import close

MAX_ROUTES = 1000  # later ones count as "other": the app uses paths instead of templates
FAILED = "500"  # the server's answer to an exception
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Metrics:
    """``registry`` gets ``http_request_duration_seconds`` (method, route),
    ``http_requests_total`` (method, code: "200") and ``http_requests_in_flight``.
    ``clock`` returns seconds."""

    def __init__(
        self,
        app: WSGIApplication,
        *,
        registry: CollectorRegistry = REGISTRY,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self.app = app
        self.clock = clock
        self._routes: set[str] = set()
        self._seconds = Histogram(
            "http_request_duration_seconds",
            "Time until the last byte of the response was passed to the server",
            ("method", "route"),
            registry=registry,
        )
        self._requests = Counter(
            "http_requests",
            "Requests that have ended, by status code",
            ("method", "code"),
            registry=registry,
        )
        self._in_flight = Gauge(
            "http_requests_in_flight", "Requests that have started and not ended", registry=registry
        )

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        response = _Response(self, environ, start_response)
        self._in_flight.inc()
        try:
            response.body = self.app(environ, response.start)
        except BaseException:
            response.status = FAILED
            response.end()
            raise
        return response

    def ended(self, environ: WSGIEnvironment, status: str, seconds: float) -> None:
        """Count a request; ``status`` is "" if there was no response."""
        method = environ["REQUEST_METHOD"]
        method = method if method in _METHODS else "other"
        self._in_flight.dec()
        self._requests.labels(method, status[:3] or FAILED).inc()
        self._seconds.labels(method, self._route(environ)).observe(seconds)

    def _route(self, environ: WSGIEnvironment) -> str:
        route = environ.get("middleware.route", "other")
        if route not in self._routes:
            if len(self._routes) >= MAX_ROUTES:
                return "other"
            self._routes.add(route)
        return str(route)


class _Response:
    """The app's response, counted when it is closed."""

    def __init__(
        self, metrics: Metrics, environ: WSGIEnvironment, start_response: StartResponse
    ) -> None:
        self._metrics = metrics
        self._environ = environ
        self._start = start_response
        self._started = metrics.clock()
        self._ended = False
        self.status = ""
        self.body: Iterable[bytes] = ()

    def start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        self.status = status
        return self._start(status, headers, exc_info)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.body)

    def close(self) -> None:
        try:
            close(self.body)
        finally:
            self.end()

    def end(self) -> None:
        if not self._ended:
            self._ended = True
            seconds = self._metrics.clock() - self._started
            self._metrics.ended(self._environ, self.status, seconds)


def exposition(registry: CollectorRegistry, environ: WSGIEnvironment) -> tuple[str, bytes]:
    """The media type that the scraper prefers, and the metrics in it."""
    encoder, media_type = choose_encoder(environ.get("HTTP_ACCEPT", ""))
    return media_type, encoder(registry)


filter_factory = paste.factory(Metrics)
