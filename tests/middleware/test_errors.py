"""An exception becomes a 500 that tells nothing but where to look."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import pytest

from middleware.errors import ErrorHandler
from middleware.problem import Problem
from middleware.request_id import RequestID
from tests.middleware.wsgi import call, hello

LOGGER = logging.getLogger("tests.errors")


def broken(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    raise RuntimeError("the password is 1234")


def breaking(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"some"
    raise RuntimeError("the password is 1234")


def refusing(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    raise Problem(409, "It has ended.")


def handled(app: WSGIApplication, seen: list[BaseException] | None = None) -> WSGIApplication:
    capture = seen.append if seen is not None else None
    return RequestID(ErrorHandler(app, LOGGER, sentry=capture))


def test_the_answer_has_the_requests_id_and_nothing_else() -> None:
    answer = call(handled(broken), HTTP_ACCEPT="text/html")
    assert answer.status == 500
    assert answer.headers["X-Request-ID"] in answer.text
    assert "1234" not in answer.text
    assert "RuntimeError" not in answer.text


def test_without_an_id_there_is_no_detail() -> None:
    answer = call(ErrorHandler(broken, LOGGER))
    assert b"detail" not in answer.body


def test_the_log_has_the_traceback_with_the_id(caplog: pytest.LogCaptureFixture) -> None:
    answer = call(handled(broken), path="/a\r\nb")
    assert f"GET /a%0D%0Ab failed, request {answer.headers['X-Request-ID']}" in caplog.text
    assert "the password is 1234" in caplog.text


def test_sentry_gets_the_exception() -> None:
    seen: list[BaseException] = []
    call(handled(broken, seen))
    assert [str(error) for error in seen] == ["the password is 1234"]


def test_a_problem_is_sent_as_it_is_and_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[BaseException] = []
    answer = call(handled(refusing, seen))
    assert (answer.status, b"It has ended." in answer.body) == (409, True)
    assert (caplog.records, seen) == ([], [])


def test_after_the_first_byte_it_is_logged_and_raised(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(RuntimeError):
        call(handled(breaking))
    assert "failed, request" in caplog.text


def test_an_error_in_close_is_logged_only(caplog: pytest.LogCaptureFixture) -> None:
    class Closing(list[bytes]):
        def close(self) -> None:
            raise RuntimeError("in close")

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return Closing(hello(environ, start_response))

    assert call(handled(app)).body == b"Hello\n"
    assert "in close" in caplog.text
