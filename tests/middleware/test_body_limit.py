"""No body is read past the limit."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import pytest

from middleware.body_limit import BodyLimit
from tests.middleware.wsgi import call, echo, environ, hello, run

READS: list[Callable[[Any], object]] = [
    lambda stream: stream.read(),
    lambda stream: stream.read(-1),
    lambda stream: stream.read(1000),
    lambda stream: b"".join(iter(lambda: stream.read(3), b"")),
    lambda stream: b"".join(stream),
    lambda stream: b"".join(stream.readlines()),
    lambda stream: b"".join(iter(lambda: stream.readline(4), b"")),
]


def reading(read: Callable[[Any], object]) -> WSGIApplication:
    """Reads its body, whatever its length was said to be, when it is iterated."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        body = read(environ["wsgi.input"])
        assert isinstance(body, bytes)
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield body

    return app


def unknown(body: bytes) -> dict[str, Any]:
    return {"wsgi.input": io.BytesIO(body), "wsgi.input_terminated": True}


def test_a_declared_length_over_it_is_refused_before_the_app_runs() -> None:
    def never(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        raise AssertionError

    assert call(BodyLimit(never, limit=9), "POST", body=b"x" * 10).status == 413
    assert call(BodyLimit(never, limit=9), "POST", CONTENT_LENGTH="9" * 5000).status == 413
    assert call(BodyLimit(never, limit=9), "POST", CONTENT_LENGTH="-1").status == 400


def test_a_body_of_the_limit_goes_through() -> None:
    assert call(BodyLimit(echo, limit=10), "POST", body=b"x" * 10).body == b"x" * 10
    assert call(BodyLimit(hello, limit=0)).body == b"Hello\n"


@pytest.mark.parametrize("read", READS)
def test_a_body_of_unknown_length_is_read_up_to_it(read: Callable[[Any], object]) -> None:
    app = BodyLimit(reading(read), limit=10)
    assert run(app, environ("POST", **unknown(b"12345\n7890"))).body == b"12345\n7890"
    assert run(app, environ("POST", **unknown(b"12345\n78901"))).status == 413


@pytest.mark.parametrize("read", READS)
def test_a_length_that_lies_is_found_out(read: Callable[[Any], object]) -> None:
    app = BodyLimit(reading(read), limit=10)
    given = environ("POST", CONTENT_LENGTH="5", **unknown(b"x" * 1000))
    assert run(app, given).status == 413


def test_an_app_may_answer_itself() -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        with pytest.raises(Exception, match="413"):
            environ["wsgi.input"].read()
        return hello(environ, start_response)

    assert run(BodyLimit(app, limit=1), environ("POST", **unknown(b"12"))).status == 200


def test_no_more_than_the_limit_is_ever_in_memory() -> None:
    class Endless(io.RawIOBase):
        def read(self, size: int = -1, /) -> bytes:
            assert 0 <= size <= 11
            return b"x" * size

        readline = read  # type: ignore[assignment]

    for read in READS:
        given = environ("POST", **unknown(b"") | {"wsgi.input": Endless()})
        assert run(BodyLimit(reading(read), limit=10), given).status == 413
