"""A response is replaced while nothing of it was sent, and only then."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import pytest

from middleware.error_response import ErrorResponse
from middleware.problem import Problem
from tests.middleware.wsgi import call


def recovered(app: WSGIApplication, *, passing: bool = False) -> WSGIApplication:
    def answer(error: Exception) -> Problem | None:
        return None if passing else Problem(503, str(error))

    return lambda environ, start_response: ErrorResponse(app, environ, start_response, answer)


def raises_at_once(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    raise LookupError("at once")


def raises_after_start(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    raise LookupError("after start")


def raises_at_first(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b""
    raise LookupError("at first")


def raises_later(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"some"
    raise LookupError("later")


def raises_after_write(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    write: Any = start_response("200 OK", [("Content-Type", "text/plain")])
    write(b"some")
    raise LookupError("after write")


@pytest.mark.parametrize("app", [raises_at_once, raises_after_start, raises_at_first])
def test_before_the_first_byte_the_problem_is_the_response(app: WSGIApplication) -> None:
    assert call(recovered(app)).status == 503


@pytest.mark.parametrize("app", [raises_later, raises_after_write])
def test_after_it_the_exception_goes_on(app: WSGIApplication) -> None:
    with pytest.raises(LookupError):
        call(recovered(app))


@pytest.mark.parametrize("app", [raises_at_once, raises_at_first, raises_later])
def test_what_has_no_answer_goes_on(app: WSGIApplication) -> None:
    with pytest.raises(LookupError):
        call(recovered(app, passing=True))
