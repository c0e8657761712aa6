"""304 for what the client has, the whole answer for all else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import pytest

from middleware.conditional import Conditional
from tests.middleware.wsgi import Answer, call, environ, run

EARLY = "Sat, 21 Nov 2026 10:00:00 GMT"
LATE = "Sat, 21 Nov 2026 10:00:01 GMT"
TEXT = ("Content-Type", "text/plain")


class Body:
    """Pieces, and whether they were read and how often closed."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces
        self.read = 0
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        for piece in self.pieces:
            self.read += 1
            yield piece

    def close(self) -> None:
        self.closed += 1


def app(
    *headers: tuple[str, str], body: Iterable[bytes] = (b"text",), status: str = "200 OK"
) -> WSGIApplication:
    def inner(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response(status, [TEXT, *headers])
        return body

    return Conditional(inner, limit=100)


def ask(app: WSGIApplication, method: str = "GET", **conditions: str) -> Answer:
    """Ask with If-None-Match, and so on."""
    return call(app, method, **{f"HTTP_{name.upper()}": v for name, v in conditions.items()})


@pytest.mark.parametrize(
    ("etag", "known", "status"),
    [
        ('"a"', '"a"', 304),
        ('"a"', '"b"', 200),
        ('"a"', 'W/"a"', 304),
        ('W/"a"', '"a"', 304),
        ('W/"a"', 'W/"a"', 304),
        ('"a"', '"b", "a" , "c"', 304),
        ('"a"', '"b", W/"a"', 304),
        ('"a, b"', '"a, b"', 304),
        ('"b"', '"a, b"', 200),
        ('"a"', "b", 200),
        ('"a"', "", 200),
        ('"a"', '"A"', 200),
        ('"a"', '"a', 200),
    ],
)
def test_a_known_tag_is_compared_weakly(etag: str, known: str, status: int) -> None:
    assert ask(app(("ETag", etag)), if_none_match=known).status == status


@pytest.mark.parametrize(
    ("since", "status"),
    [
        (EARLY, 200),
        (LATE, 304),
        ("Sat, 21 Nov 2026 11:00:01 +0100", 304),
        ("Sun, 22 Nov 2099 10:00:00 GMT", 304),
        ("yesterday", 200),
        ("", 200),
    ],
)
def test_what_has_not_changed_since_is_not_sent(since: str, status: int) -> None:
    body = Body(b"a")
    answer = ask(app(("Last-Modified", LATE), body=body), if_modified_since=since)
    assert answer.status == status


def test_the_tag_decides_alone_when_both_are_asked_for() -> None:
    both = app(("ETag", '"a"'), ("Last-Modified", EARLY))
    assert ask(both, if_none_match='"b"', if_modified_since=LATE).status == 200
    assert ask(both, if_none_match='"a"', if_modified_since="nonsense").status == 304


def test_a_time_of_the_app_that_cannot_be_read_is_ignored() -> None:
    assert ask(app(("Last-Modified", "today")), if_modified_since=LATE).status == 200


def test_a_304_does_not_read_the_body_and_closes_it_once() -> None:
    body = Body(b"a", b"b")
    answer = ask(app(("ETag", '"a"'), body=body), if_none_match='"a"')
    assert (answer.status, answer.body, body.read, body.closed) == (304, b"", 0, 1)


def test_a_304_keeps_what_is_not_about_the_body() -> None:
    kept = [
        ("Cache-Control", "private"),
        ("Content-Location", "/a.xml"),
        ("Date", LATE),
        ("ETag", '"a"'),
        ("Expires", LATE),
        ("Vary", "Accept"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
    ]
    dropped = [("Content-Length", "4")]
    answer = ask(app(*kept, *dropped), if_none_match='"a"')
    assert answer.headers.items() == kept


def test_the_last_change_stays_when_there_is_no_tag() -> None:
    answer = ask(app(("Last-Modified", EARLY), body=Body(b"a")), if_modified_since=LATE)
    assert answer.headers.items() == [("Last-Modified", EARLY)]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_other_methods_are_left_alone(method: str) -> None:
    answer = ask(app(("ETag", '"a"')), method, if_none_match='"a"')
    assert (answer.status, answer.body) == (200, b"text")


@pytest.mark.parametrize("status", ["206 Partial Content", "404 Not Found", "302 Found", "500 No"])
def test_other_statuses_are_left_alone(status: str) -> None:
    answer = ask(app(("ETag", '"a"'), status=status), if_none_match='"a"')
    assert answer.status == int(status[:3])
    assert "etag" not in ask(app(status=status)).headers


SIZED = ("Content-Length", "4")


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ([], [b"te", b"xt"]),
        ([], (b"text",)),
        ([SIZED], [b"text"]),
        ([SIZED], Body(b"te", b"", b"xt")),
    ],
)
def test_a_small_body_gets_a_tag_of_its_bytes(headers: Any, body: Iterable[bytes]) -> None:
    small = app(*headers, body=body)
    first = ask(small)
    assert first.headers["ETag"] == ask(app()).headers["ETag"]
    assert first.body == b"text"


def test_other_bytes_have_another_tag() -> None:
    assert ask(app()).headers["ETag"] != ask(app(body=[b"Text"])).headers["ETag"]


def test_the_tag_that_it_made_gives_304() -> None:
    body = Body(b"te", b"xt")
    etag = ask(app(SIZED)).headers["ETag"]
    answer = ask(app(SIZED, body=body), if_none_match=etag)
    assert (answer.status, answer.body, body.closed) == (304, b"", 1)
    assert answer.headers["ETag"] == etag


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        pytest.param([], Body(b"text"), id="streaming"),
        pytest.param([("Content-Length", "101")], Body(b"a" * 101), id="large"),
        pytest.param([], [b"a" * 101], id="large list"),
        pytest.param([("Content-Length", "9")], Body(b"text"), id="shorter than it says"),
        pytest.param([("Content-Length", "3")], Body(b"text", b"more"), id="longer than it says"),
        pytest.param([SIZED, ("Cache-Control", "no-store")], [b"text"], id="not to be stored"),
        pytest.param([("Content-Length", "x")], Body(b"text"), id="no length"),
    ],
)
def test_what_is_large_or_streams_or_lies_is_untouched(headers: Any, body: Iterable[bytes]) -> None:
    whole = b"".join(body)
    answer = ask(app(*headers, body=body))
    assert (answer.status, answer.body) == (200, whole)
    assert answer.headers.items() == [TEXT, *headers]


def test_a_stream_is_handed_on_piece_by_piece() -> None:
    body = Body(b"a", b"b", b"c")
    started: list[str] = []

    def start(status: str, headers: Any, exc_info: Any = None) -> Any:
        started.append(status)

    pieces = iter(app(body=body)(environ(), start))
    assert (next(pieces), body.read, started) == (b"a", 1, ["200 OK"])


def test_head_gets_the_tag_that_the_app_gives_and_none_of_a_body_that_is_not_there() -> None:
    assert ask(app(("ETag", '"a"'), body=[]), "HEAD", if_none_match='"a"').status == 304
    for headers in ([SIZED], []):
        assert "ETag" not in ask(app(*headers, body=[]), "HEAD").headers


def test_a_generator_that_sets_its_head_late_is_answered_too() -> None:
    closed: list[bool] = []

    def late(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        try:
            start_response("200 OK", [TEXT, ("ETag", '"a"')])
            yield b"text"
        finally:
            closed.append(True)

    answer = ask(Conditional(late), if_none_match='"a"')
    assert (answer.status, answer.body, closed) == (304, b"", [True])


def test_an_app_that_turns_to_an_error_while_it_is_read_gives_that() -> None:
    def wavering(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [TEXT, SIZED])

        def body() -> Iterator[bytes]:
            error = ZeroDivisionError()
            start_response("500 No", [TEXT], (type(error), error, error.__traceback__))
            yield b"sorry"

        return body()

    answer = run(Conditional(wavering), environ(HTTP_IF_NONE_MATCH="*"))
    assert (answer.status, answer.body, answer.headers.items()) == (500, b"sorry", [TEXT])


def test_a_body_that_fails_while_it_is_read_is_closed_and_no_response_starts() -> None:
    class Failing(Body):
        def __iter__(self) -> Iterator[bytes]:
            yield b"te"
            raise ZeroDivisionError

    body = Failing()
    with pytest.raises(ZeroDivisionError):
        app(SIZED, body=body)(environ(), lambda *head: pytest.fail("it started"))
    assert body.closed == 1


def test_ranges_are_left_to_the_app() -> None:
    answer = ask(app(SIZED, ("ETag", '"a"')), if_none_match='"b"', range="bytes=0-1")
    assert (answer.status, answer.body) == (200, b"text")
