"""What all components around a handler cost that gives a constant, called in the
process, against the bare handler, and against Django and Flask over the same.
All take turns, so that all meet the same noise; the fastest round counts, since
noise only ever adds.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import cherrypy

from backoffice.web.app import make_app
from backoffice.web.routes import Route
from bench.place import Place, Server
from bench.report import Line

BODY = b"x" * 200
DEFAULTS = [  # of a project that django-admin has just made
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
Application = Callable[..., Any]


def measure(folder: Path, server: Server, quick: bool) -> list[Line]:
    # Lines are made as in production, but not kept.
    access = logging.getLogger("backoffice.access")
    access.setLevel(logging.INFO)
    access.propagate = False
    access.addHandler(logging.StreamHandler(open(os.devnull, "w")))  # noqa: SIM115
    place = Place(folder, BACKOFFICE_WEB_RATE="1000000")
    apps = {
        "bare": _bare,
        "ours": make_app(place.settings, [Route("GET", "/", _constant, "A constant", store=False)]),
        "django": _django(),
        "flask": _flask(),
    }
    best = _fastest(apps, rounds=5 if quick else 25, calls=200 if quick else 1000)
    over = {name: (seconds - best["bare"]) * 1e6 for name, seconds in best.items()}
    told = f"bare {best['bare'] * 1e6:.1f} µs; over it: Django {over['django']:.0f} µs"
    told += f" with its default middleware, Flask {over['flask']:.0f} µs with none"
    ratio = over["ours"] / over["django"]
    return [
        Line("stack", "over the bare handler", told, over["ours"], 200, at_most=True, unit="µs"),
        Line("stack", "against Django", "", ratio, 1, at_most=True),
    ]


def _fastest(apps: dict[str, Application], rounds: int, calls: int) -> dict[str, float]:
    """Seconds a call, by name."""
    best = dict.fromkeys(apps, float("inf"))
    for _ in range(rounds):
        for name, app in apps.items():
            environs = [_environ() for _ in range(calls)]
            began = time.perf_counter()
            for environ in environs:
                _call(app, environ)
            best[name] = min(best[name], (time.perf_counter() - began) / calls)
    return best


def _environ() -> dict[str, Any]:
    environ: dict[str, Any] = {
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "localhost",
        "PATH_INFO": "/",
    }
    setup_testing_defaults(environ)
    return environ


def _call(app: Application, environ: dict[str, Any]) -> None:
    body = app(environ, _start)
    if b"".join(body) != BODY:
        raise AssertionError("this is not what the handler gave")
    if hasattr(body, "close"):
        body.close()


def _start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
    if not status.startswith("200"):
        raise AssertionError(status)


def _bare(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "200")])
    return [BODY]


def _constant() -> bytes:
    cherrypy.serving.response.headers["Content-Type"] = "text/plain"
    return BODY


def _django() -> Application:
    import django
    from django.conf import settings
    from django.core.handlers.wsgi import WSGIHandler
    from django.http import HttpResponse
    from django.urls import path

    urls = [path("", lambda request: HttpResponse(BODY, content_type="text/plain"))]
    settings.configure(
        ALLOWED_HOSTS=["localhost"],
        INSTALLED_APPS=[
            f"django.contrib.{name}" for name in ("auth", "contenttypes", "sessions", "messages")
        ],
        MIDDLEWARE=DEFAULTS,
        ROOT_URLCONF=type("Urls", (), {"urlpatterns": urls}),
        SECRET_KEY="bench",
    )
    django.setup()
    handler: Application = WSGIHandler()
    return handler


def _flask() -> Application:
    from flask import Flask
    from flask import Response as FlaskResponse

    app = Flask("bench")
    app.add_url_rule("/", "constant", lambda: FlaskResponse(BODY, content_type="text/plain"))
    wsgi: Application = app
    return wsgi
