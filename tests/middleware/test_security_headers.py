"""Every response tells browsers to be careful."""

from __future__ import annotations

from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest

from middleware.problem import Problem
from middleware.security_headers import SecurityHeaders
from tests.middleware.wsgi import call, hello

NAMES = [
    "Content-Security-Policy",
    "X-Content-Type-Options",
    "Referrer-Policy",
    "X-Frame-Options",
    "Cross-Origin-Opener-Policy",
    "Cross-Origin-Resource-Policy",
    "Permissions-Policy",
]


def test_each_header_is_set_once_beside_those_of_the_app() -> None:
    names = call(SecurityHeaders(hello)).headers.keys()
    assert names == ["Content-Type", "Content-Length", *NAMES]


def test_errors_have_them_too() -> None:
    assert call(SecurityHeaders(Problem(500))).headers["X-Frame-Options"] == "DENY"


def test_nothing_inline_is_allowed_and_nothing_by_default() -> None:
    policy = call(SecurityHeaders(hello)).headers["Content-Security-Policy"] or ""
    assert "unsafe" not in policy
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["frame-ancestors"] == rules["base-uri"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == rules["form-action"] == "'self'"


@pytest.mark.parametrize("name", [*NAMES, "x-frame-options", "CONTENT-SECURITY-POLICY"])
def test_an_app_keeps_its_own(name: str) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [(name, "its own")])
        return []

    headers = call(SecurityHeaders(app)).headers
    assert headers.get_all(name) == ["its own"]
    assert len(headers) == len(NAMES)


def test_https_is_for_good_but_told_over_https_only() -> None:
    def strict(scheme: str, app: SecurityHeaders) -> str | None:
        return call(app, **{"wsgi.url_scheme": scheme}).headers["Strict-Transport-Security"]

    assert strict("https", SecurityHeaders(hello)) == "max-age=31536000"
    assert strict("https", SecurityHeaders(hello, hsts=60)) == "max-age=60"
    assert strict("https", SecurityHeaders(hello, hsts=0)) is None
    assert strict("http", SecurityHeaders(hello)) is None


def test_the_list_of_the_app_is_left_as_it_is() -> None:
    mine = [("Content-Type", "text/plain")]

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", mine)
        return []

    call(SecurityHeaders(app))
    assert mine == [("Content-Type", "text/plain")]
