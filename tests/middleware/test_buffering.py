"""What is held back comes out as it went in."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest

from middleware.buffering import BufferedStart, PrefetchedBody, buffer_input, prefetch, read_ahead
from tests.middleware.wsgi import environ


class Wire:
    """A server's start_response that remembers."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.written: list[bytes] = []

    def __call__(self, status: str, headers: Any, exc_info: Any = None) -> Any:
        self.started.append(status)
        return self.written.append


def test_the_head_waits_for_its_release_and_may_change_until_then() -> None:
    wire = Wire()
    start = BufferedStart(wire)
    start("200 OK", [])
    start("500 No", [], (ValueError, ValueError(), None))
    assert wire.started == []
    start.send()
    start.send()
    assert wire.started == ["500 No"]


def test_a_second_start_without_an_error_is_refused() -> None:
    start = BufferedStart(Wire())
    start("200 OK", [])
    with pytest.raises(AssertionError, match="twice"):
        start("404 No", [])


def test_writing_settles_once_and_starts_the_response() -> None:
    wire, settled = Wire(), []
    write = BufferedStart(wire, lambda: settled.append(list(wire.started)))("200 OK", [])
    write(b"a")
    write(b"b")
    assert (settled, wire.started, wire.written) == ([[]], ["200 OK"], [b"a", b"b"])


class Pieces:
    """An iterable that counts how often it was closed."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self.pieces = iter(pieces)
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    def close(self) -> None:
        self.closed += 1


def test_a_body_is_begun_when_it_has_something_to_say() -> None:
    pieces = Pieces(b"", b"", b"a", b"b")
    body = prefetch(pieces)
    assert next(pieces.pieces) == b"b"
    assert list(body) == [b"a"]


def test_a_begun_body_closes_its_own_once_and_tells_so_after() -> None:
    pieces = Pieces(b"a")
    body = prefetch(pieces)
    assert isinstance(body, PrefetchedBody)
    told: list[int] = []
    body.after_close = lambda: told.append(pieces.closed)
    body.close()
    body.close()
    assert (pieces.closed, told) == (1, [1])


def test_a_body_that_fails_at_its_beginning_is_closed() -> None:
    pieces = Pieces(b"", ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        prefetch(pieces)
    assert pieces.closed == 1


def test_a_body_is_read_no_further_than_needed_and_is_still_whole() -> None:
    pieces = Pieces(b"abc", b"def", b"ghi")
    taken, body = read_ahead(pieces, 4)
    assert taken == [b"abc", b"def"]
    assert list(body) == [b"abc", b"def", b"ghi"]


class Stingy(io.BytesIO):
    """A socket's file: it gives what has come, and blocks after the end."""

    def read(self, size: int | None = -1, /) -> bytes:
        assert size is not None
        assert size > 0, "would wait for the connection to close"
        return super().read(min(size, 7))


@pytest.mark.parametrize(("size", "whole"), [(0, True), (99, True), (100, True), (101, False)])
@pytest.mark.parametrize("told", [True, False])
def test_input_is_held_up_to_a_limit_and_read_again_whole(
    size: int, whole: bool, told: bool
) -> None:
    body = bytes(range(size))
    given = environ("POST", "/", body)
    given["wsgi.input"] = Stingy(body)
    if not told:
        given.pop("CONTENT_LENGTH", None)
        given["wsgi.input_terminated"] = True
    assert buffer_input(given, 100) == (body[:100], whole)
    read = given["wsgi.input"].read(size) if size else b""
    assert read == body


def test_input_beyond_the_content_length_belongs_to_the_next_request() -> None:
    stream = io.BytesIO(b"a" * 200 + b"next")
    given = environ("POST", "/", **{"wsgi.input": stream, "CONTENT_LENGTH": "200"})
    assert buffer_input(given, 100) == (b"a" * 100, False)
    assert given["wsgi.input"].read() == b"a" * 200
    assert stream.read() == b"next"


def test_lines_go_on_where_the_held_part_ends() -> None:
    body = b"one\ntwo\nthree\n"
    given = environ("POST", "/", body)
    buffer_input(given, 5)
    assert list(given["wsgi.input"]) == [b"one\n", b"two\n", b"three\n"]


def test_a_body_whose_end_nobody_tells_is_left_to_the_app() -> None:
    given = environ("POST", "/", HTTP_TRANSFER_ENCODING="chunked")
    stream = given["wsgi.input"]
    assert buffer_input(given, 100) == (b"", False)
    assert given["wsgi.input"] is stream
