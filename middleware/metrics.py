"""Figures for Prometheus: how many requests, how long, how many at once.

``application = Metrics(application, registry=registry)``

Counts a request when its body is closed. It does not serve /metrics: an app
does, with ``exposition``. Names of labels come from a bounded choice, never
from the client: a route is the template that the app puts into
``environ["middleware.route"]``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from time import perf_counter
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder

from middleware import paste
from middleware.held import close

ROUTES = 1000  # beyond, a route is "other": somebody puts paths where templates belong
FAILED = "500"  # as good as: whoever serves it makes one of it
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Metrics:
    """``registry`` gets ``http_request_duration_seconds`` (method, route),
    ``http_requests_total`` (method, code: "200") and ``http_requests_in_flight``.
    ``clock`` tells seconds."""

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
            "Until the last byte of the response was handed on",
            ("method", "route"),
            registry=registry,
        )
        self._requests = Counter(
            "http_requests", "Ended, by code of status", ("method", "code"), registry=registry
        )
        self._in_flight = Gauge("http_requests_in_flight", "Begun and not ended", registry=registry)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        measured = _Measured(self, environ, start_response)
        self._in_flight.inc()
        try:
            measured.body = self.app(environ, measured.start)
        except BaseException:
            measured.status = FAILED
            measured.end()
            raise
        return measured

    def ended(self, environ: WSGIEnvironment, status: str, seconds: float) -> None:
        """Count a request; ``status`` is "" if it never got one."""
        method = environ["REQUEST_METHOD"]
        method = method if method in _METHODS else "other"
        self._in_flight.dec()
        self._requests.labels(method, status[:3] or FAILED).inc()
        self._seconds.labels(method, self._route(environ)).observe(seconds)

    def _route(self, environ: WSGIEnvironment) -> str:
        route = environ.get("middleware.route", "other")
        if route not in self._routes:
            if len(self._routes) >= ROUTES:
                return "other"
            self._routes.add(route)
        return str(route)


class _Measured:
    """A response that is counted when it is closed."""

    def __init__(
        self, metrics: Metrics, environ: WSGIEnvironment, start_response: StartResponse
    ) -> None:
        self._metrics = metrics
        self._environ = environ
        self._start = start_response
        self._began = metrics.clock()
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
            seconds = self._metrics.clock() - self._began
            self._metrics.ended(self._environ, self.status, seconds)


def exposition(registry: CollectorRegistry, environ: WSGIEnvironment) -> tuple[str, bytes]:
    """The media type that a scraper prefers, and the figures in it."""
    encoder, media_type = choose_encoder(environ.get("HTTP_ACCEPT", ""))
    return media_type, encoder(registry)


filter_factory = paste.factory(Metrics)
