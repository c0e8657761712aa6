"""Each component works around any WSGI application, and keeps to PEP 3333.

A component is one row of ``COMPONENTS``, set up so that requests go through.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment
from wsgiref.validate import validator

import pytest
from prometheus_client import CollectorRegistry

from middleware.access_log import AccessLog
from middleware.authentication import Authentication, Identity
from middleware.body_limit import BodyLimit
from middleware.compression import Compression
from middleware.conditional import Conditional
from middleware.csrf import CSRFProtection
from middleware.errors import ErrorHandler
from middleware.framing import StrictFraming
from middleware.health import Health
from middleware.maintenance import Maintenance
from middleware.metrics import Metrics
from middleware.rate_limit import RateLimit
from middleware.read_your_writes import POSITION, ReadYourWrites
from middleware.request_id import RequestID
from middleware.robots import Robots
from middleware.roles import Roles
from middleware.security_headers import SecurityHeaders
from middleware.static import StaticFiles
from middleware.stream_limit import StreamLimit
from middleware.time_limit import TimeLimit
from middleware.timing import Timing
from middleware.transaction import TransactionPerRequest
from middleware.trusted_proxy import TrustedProxy
from tests.middleware.wsgi import Answer, call, environ, run

Component = Callable[[Any], WSGIApplication]


def _at(app: Any) -> WSGIApplication:
    """An application that tells its position."""

    def told(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ[POSITION] = lambda: "7"
        answer: Iterable[bytes] = app(environ, start_response)
        return answer

    return told


LOGGER = logging.getLogger("tests.around")
LOGGER.setLevel(logging.INFO)
COMPONENTS: dict[str, Component] = {
    "request_id": RequestID,
    "access_log": lambda app: AccessLog(app, LOGGER),
    "access_log_json": lambda app: AccessLog(app, LOGGER, format="json"),
    "errors": lambda app: ErrorHandler(app, LOGGER),
    "framing": StrictFraming,
    "body_limit": lambda app: BodyLimit(app, limit=1000),
    "time_limit": lambda app: TimeLimit(app, seconds=10),
    "trusted_proxy": TrustedProxy,
    "authentication": lambda app: Authentication(
        app, anonymous=Identity("a", "admin", "anonymous")
    ),
    "roles": lambda app: Roles(app, required=lambda environ: None),
    "csrf": lambda app: CSRFProtection(app, secret=b"sixteen bytes or more"),
    "security_headers": SecurityHeaders,
    "conditional": Conditional,
    "compression": lambda app: Compression(app, minimum=0),
    "store": lambda app: TransactionPerRequest(app, open=lambda environ: NotImplemented),
    "read_your_writes": lambda app: ReadYourWrites(
        _at(app), secret=b"sixteen bytes or more", merged=lambda one, other: other or one
    ),
    "stream_limit": lambda app: StreamLimit(app, most=1, small=1),
    "rate_limit": lambda app: RateLimit(app, rate=100, burst=1000),
    "maintenance": lambda app: Maintenance(app, mode=lambda: ""),
    "timing": Timing,
    "metrics": lambda app: Metrics(app, registry=CollectorRegistry()),
    "robots": Robots,
    "static": lambda app: StaticFiles(app, root="tests/no such folder"),
    "health": lambda app: Health(app, checks=lambda: ["not asked"]),
}
BODY = b"a=1&b=2"


def plain(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Tells what it was sent, in two pieces."""
    length = int(environ.get("CONTENT_LENGTH") or 0)
    told = [environ["REQUEST_METHOD"], environ["PATH_INFO"], environ["QUERY_STRING"]]
    told.append(environ["wsgi.input"].read(length).decode() if length else "")
    body = json.dumps(told).encode()
    start_response(
        "200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    )
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body[:5], body[5:]]


@cache
def flask() -> WSGIApplication:
    from flask import Flask, request

    app = Flask("around")

    @app.route("/tell", methods=["GET", "POST"])
    def tell() -> list[str]:
        told = [request.method, request.path, request.query_string.decode()]
        return [*told, request.get_data().decode()]

    return app


@cache
def django() -> WSGIApplication:
    from django.conf import settings
    from django.core.wsgi import get_wsgi_application
    from django.http import HttpRequest, JsonResponse
    from django.urls import path

    def tell(request: HttpRequest) -> JsonResponse:
        told = [request.method, request.path, request.META["QUERY_STRING"], request.body.decode()]
        return JsonResponse(told, safe=False)

    settings.configure(
        SECRET_KEY="around", ALLOWED_HOSTS=["*"], ROOT_URLCONF=(path("tell", tell),), MIDDLEWARE=[]
    )
    return get_wsgi_application()


APPS: dict[str, Callable[[], WSGIApplication]] = {
    "plain": lambda: plain,
    "flask": flask,
    "django": django,
    "validated": lambda: validator(plain),
}


def send(app: WSGIApplication, method: str) -> Answer:
    body = BODY if method == "POST" else b""
    return call(app, method, "/tell?x=%20y", body)


@pytest.fixture(params=COMPONENTS)
def component(request: pytest.FixtureRequest) -> Component:
    return COMPONENTS[request.param]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("app", APPS)
def test_what_the_app_answers_comes_through(component: Component, app: str, method: str) -> None:
    answer = send(validator(component(APPS[app]())), method)
    bare = send(APPS[app](), method)
    assert (answer.status, answer.body) == (200, bare.body)
    if method != "HEAD":
        told = [method, "/tell", "x=%20y", BODY.decode() if method == "POST" else ""]
        assert json.loads(answer.body) == told


class Closing:
    """An application whose iterable counts how often it was closed."""

    def __init__(self, fails: bool = False) -> None:
        self.closed = 0
        self.fails = fails

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "application/octet-stream")])
        return self

    def __iter__(self) -> Iterator[bytes]:
        yield b"one"
        if self.fails:
            raise ZeroDivisionError("in the midst")
        yield b"two"

    def close(self) -> None:
        self.closed += 1


def test_the_iterable_of_the_app_is_closed_once(component: Component) -> None:
    app = Closing()
    assert run(component(app), environ()).body == b"onetwo"
    assert app.closed == 1


def test_it_is_closed_when_the_app_fails_in_the_midst(component: Component) -> None:
    app = Closing(fails=True)
    with pytest.raises(ZeroDivisionError):
        run(component(app), environ())
    assert app.closed == 1


def test_it_is_closed_when_the_client_goes_away(component: Component) -> None:
    app = Closing()
    result = component(app)(environ(), lambda status, headers, exc_info=None: lambda data: None)
    next(iter(result))
    result.close()  # type: ignore[attr-defined]
    assert app.closed == 1


def test_the_write_callable_works(component: Component) -> None:
    def writing(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        write = start_response("200 OK", [("Content-Type", "application/octet-stream")])
        write(b"one ")
        return [b"two"]

    assert run(component(writing), environ()).body == b"one two"


def test_an_app_may_start_its_response_again_after_an_error(component: Component) -> None:
    def wavering(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        try:
            raise ZeroDivisionError
        except ZeroDivisionError as error:
            again = (type(error), error, error.__traceback__)
            start_response("400 Bad Request", [("Content-Type", "text/plain")], again)
        return [b"no"]

    answer = run(component(wavering), environ())
    assert (answer.status, answer.body) == (400, b"no")
