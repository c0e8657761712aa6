"""Long responses leave room for the others, and none is counted for ever."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest

from middleware.stream_limit import StreamLimit
from tests.middleware.wsgi import call, environ

LONG = [b"x" * 600, b"y" * 600]


def streaming(pieces: list[bytes], *headers: tuple[str, str]) -> Any:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", list(headers))
        return iter(pieces)

    return app


def begun(app: Any, client: str) -> tuple[str, Iterable[bytes]]:
    """The status, and the body that is still to be read."""
    started: list[str] = []
    body = app(environ(REMOTE_ADDR=client), lambda status, *_: started.append(status))
    return started[0], body


@pytest.fixture
def app() -> StreamLimit:
    return StreamLimit(streaming(LONG), most=3, small=1000)


def test_one_too_many_is_told_when_to_come_again(app: StreamLimit) -> None:
    for number in range(3):
        assert begun(app, f"192.0.2.{number}")[0] == "200 OK"
    answer = call(app, REMOTE_ADDR="192.0.2.9")
    assert (answer.status, answer.headers["Retry-After"]) == (503, "5")


def test_one_client_leaves_room_for_another(app: StreamLimit) -> None:
    assert [begun(app, "192.0.2.1")[0] for _ in range(3)] == [
        "200 OK",
        "200 OK",
        "503 Service Unavailable",
    ]
    assert begun(app, "192.0.2.2")[0] == "200 OK"


def test_a_body_that_was_closed_counts_no_more(app: StreamLimit) -> None:
    for _ in range(10):
        assert call(app).body == b"".join(LONG)
        _, body = begun(app, "192.0.2.1")
        body.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "headers", [[], [("Content-Length", "1200")]], ids=["unknown length", "known length"]
)
def test_a_refused_body_is_closed(headers: list[tuple[str, str]]) -> None:
    class Body:
        closed = 0

        def __iter__(self) -> Iterator[bytes]:
            return iter(LONG)

        def close(self) -> None:
            self.closed += 1

    bodies = [Body(), Body()]
    waiting = list(bodies)

    def inner(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", list(headers))
        return waiting.pop(0)

    app = StreamLimit(inner, most=1, small=1000)
    _, first = begun(app, "192.0.2.1")
    assert call(app).status == 503
    first.close()  # type: ignore[attr-defined]
    assert [body.closed for body in bodies] == [1, 1]


@pytest.mark.parametrize(
    "inner",
    [
        streaming([b"x" * 1000]),
        streaming([b"x" * 500, b"y" * 500]),
        streaming(LONG[:1], ("Content-Length", "600")),
    ],
    ids=["a piece", "pieces", "known length"],
)
def test_short_responses_are_not_counted(inner: Any) -> None:
    app = StreamLimit(inner, most=1, small=1000)
    assert [begun(app, "192.0.2.1")[0] for _ in range(5)] == ["200 OK"] * 5


def test_a_response_in_memory_is_not_counted() -> None:
    def inner(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", "1200")])
        return LONG

    app = StreamLimit(inner, most=1, small=1000)
    assert [begun(app, "192.0.2.1")[0] for _ in range(5)] == ["200 OK"] * 5


def test_what_head_announces_is_not_counted() -> None:
    app = StreamLimit(streaming([], ("Content-Length", "9999")), most=1, small=1000)
    assert [call(app, "HEAD").status for _ in range(5)] == [200] * 5


def test_an_app_that_fails_while_it_is_read_ahead_is_not_counted() -> None:
    def failing() -> Iterator[bytes]:
        yield b"x"
        raise LookupError

    def inner(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        return failing() if environ["PATH_INFO"] == "/fail" else iter(LONG)

    app = StreamLimit(inner, most=1, small=1000)
    for _ in range(3):
        with pytest.raises(LookupError):
            call(app, path="/fail")
    assert call(app).status == 200


def test_none_at_all_is_no_limit_to_set() -> None:
    with pytest.raises(ValueError, match="most"):
        StreamLimit(streaming([]), most=0)
