"""A body that takes too long in all is given up."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest

from middleware.time_limit import TimeLimit
from tests.middleware.wsgi import call, hello

READS: list[Callable[[Any], Any]] = [
    lambda stream: iter(lambda: stream.read(1), b""),
    lambda stream: iter(lambda: stream.readline(1), b""),
    iter,
    lambda stream: stream.readlines(),
]


class Slow(io.BytesIO):
    """Each read takes some seconds of its clock."""

    now = 0.0

    def __init__(self, body: bytes, seconds: float) -> None:
        super().__init__(body)
        self.seconds = seconds

    def read(self, size: int | None = -1, /) -> bytes:
        self.now += self.seconds
        return super().read(size)

    def readline(self, size: int | None = -1, /) -> bytes:
        self.now += self.seconds
        return super().readline(size)

    def readlines(self, hint: int | None = -1, /) -> list[bytes]:
        return list(iter(self.readline, b""))


def status(read: Callable[[Any], Any], seconds: float) -> int:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        body = b"".join(read(environ["wsgi.input"]))
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield body

    stream = Slow(b"1\n2\n3\n", seconds)
    limited = TimeLimit(app, 10, clock=lambda: stream.now)
    return call(limited, "POST", CONTENT_LENGTH="6", **{"wsgi.input": stream}).status


@pytest.mark.parametrize("read", READS)
def test_reads_that_are_slow_together_are_too_slow(read: Callable[[Any], Any]) -> None:
    assert status(read, 4.0) == 408


@pytest.mark.parametrize("read", READS)
def test_reads_within_the_time_are_not(read: Callable[[Any], Any]) -> None:
    assert status(read, 1.0) == 200


def test_a_request_without_a_body_is_left_alone() -> None:
    assert call(TimeLimit(hello, 0)).status == 200
