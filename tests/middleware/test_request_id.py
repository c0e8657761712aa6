"""Each request has an id of its own, which the response carries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest

from middleware.request_id import RequestID, current
from tests.middleware.wsgi import call, hello


def shout(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("x-request-id", "mine")])
    return [environ["middleware.request_id"].encode()]


def test_the_app_and_the_client_see_the_same_id() -> None:
    answer = call(RequestID(shout))
    assert answer.headers.get_all("X-Request-ID") == [answer.text]


def test_each_request_has_another() -> None:
    app = RequestID(hello)
    assert len({call(app).headers["X-Request-ID"] for _ in range(100)}) == 100


def test_an_id_that_comes_in_is_not_believed() -> None:
    assert call(RequestID(hello), HTTP_X_REQUEST_ID="abc").headers["X-Request-ID"] != "abc"


def test_a_well_formed_one_is_kept_where_it_is_trusted() -> None:
    app = RequestID(hello, header="X-Trace", trust=True)
    assert call(app, HTTP_X_TRACE="a.B-1_2").headers["X-Trace"] == "a.B-1_2"


@pytest.mark.parametrize("bad", ["", "a b", "a" * 65, "a\n", "é", "<b>", "a,b"])
def test_a_malformed_one_is_replaced(bad: str) -> None:
    answer = call(RequestID(hello, trust=True), HTTP_X_REQUEST_ID=bad)
    assert answer.headers["X-Request-ID"] not in ("", bad)


def test_lines_of_a_log_can_have_it_while_the_request_lasts() -> None:
    seen = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [])
        seen.append(current.get())
        try:
            yield b"x"
        finally:
            seen.append(current.get())

    answer = call(RequestID(app))
    assert seen == [answer.headers["X-Request-ID"]] * 2
    assert current.get() == ""


def test_none_is_left_when_the_app_fails() -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        raise LookupError

    with pytest.raises(LookupError):
        call(RequestID(app))
    assert current.get() == ""
