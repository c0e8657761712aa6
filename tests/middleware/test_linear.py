"""What strangers send costs time linear in its size: each pattern and each parser of
the components meets 64 kB of its worst shapes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest

from middleware.authentication import Authentication, Identity
from middleware.compression import Compression
from middleware.conditional import Conditional
from middleware.csrf import CSRFProtection
from middleware.framing import Chunks, StrictFraming, check_head, check_start
from middleware.problem import Problem
from middleware.read_your_writes import ReadYourWrites
from middleware.request_id import RequestID
from middleware.trusted_proxy import TrustedProxy
from tests.middleware.wsgi import environ

SMALL, LARGE = 8 << 10, 64 << 10
# Seconds of CPU for the large one. What is linear takes some milliseconds; what is
# quadratic takes seconds, if not minutes.
MOST = 0.5

START = b"GET / HTTP/1.1\r\nHost: a\r\n"
# Of n bytes each. A run that a pattern could divide in many ways comes before
# something that it cannot match.
SHAPES: dict[str, Callable[[int], bytes]] = {
    "blanks": lambda n: b" " * n,
    "blanks and a word": lambda n: b" " * n + b"x",
    "a word and blanks": lambda n: b"x" + b" " * n,
    "blanks between words": lambda n: b"x" + b" " * n + b"x",
    "blanks before a control": lambda n: b" " * n + b"\x0b",
    "words before a control": lambda n: b"x " * (n // 2) + b"\x0b",
    "tabs and blanks": lambda n: b" \t" * (n // 2) + b"\x7f",
    "digits": lambda n: b"9" * n,
    "digits and a letter": lambda n: b"1" * n + b"x",
    "commas": lambda n: b"," * n,
    "commas and blanks": lambda n: b", " * (n // 2),
    "semicolons": lambda n: b"a;" * (n // 2),
    "parameters": lambda n: b"a;q=0.1," * (n // 8),
    "types": lambda n: b"a/b;c=d;q=0.1, " * (n // 15),
    "types without end": lambda n: b'a/b;c="' + b"\\x" * (n // 2),
    "quotes": lambda n: b'"' * n,
    "an open quote": lambda n: b'"' + b"x" * n,
    "open quotes": lambda n: b'W/"x' * (n // 4),
    "tags": lambda n: b'"x",' * (n // 4),
    "brackets": lambda n: b"[" * n,
    "colons": lambda n: b"::" * (n // 2),
    "addresses": lambda n: b"10.0.0.1," * (n // 9),
    "addresses with ports": lambda n: b"[::1]:1," * (n // 8),
    "equals": lambda n: b"=" * n,
    "a token and blanks": lambda n: b"Bearer" + b" " * n + b"\x80",
    "a long token": lambda n: b"Bearer " + b"a=" * (n // 2),
    "pairs": lambda n: b"a=b; " * (n // 5),
    "boundaries": lambda n: b"multipart/form-data; " + b"boundary=" * (n // 9),
    "letters": lambda n: b"a" * n,
    "words in cookies": lambda n: b'position_seen="' + b"a" * n,
    "cookies": lambda n: b"position_seen=a;" * (n // 16),
    "letters beyond ASCII": lambda n: b"\xe9" * n,
    "a date": lambda n: b"Sat, " + b"0" * n,
    "dates": lambda n: b"Sat, 21 Nov 2026 10:00:00 GMT " * (n // 30),
    "ranges": lambda n: b"bytes=" + b"0-1," * (n // 4),
}


def cost(work: Callable[[int], object]) -> float:
    """Seconds of CPU for LARGE bytes; fails if they take more than MOST, and more than
    linear growth from SMALL explains."""
    small, large = (_time(work, size) for size in (SMALL, LARGE))
    assert large < MOST or large < 3 * small * LARGE / SMALL, (small, large)
    return large


def _time(work: Callable[[int], object], size: int) -> float:
    begun = time.thread_time()
    work(size)
    return time.thread_time() - begun


def refused(function: Callable[[], object]) -> None:
    with suppress(Problem):
        function()


# On the wire -------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "name", [b"X", b"Host", b"Content-Length", b"Transfer-Encoding", b"Expect"]
)
def test_a_head_with_a_bad_value(shape: str, name: bytes) -> None:
    head = START.replace(b"Host: a\r\n", b"") if name == b"Host" else START

    def parse(size: int) -> None:
        value = SHAPES[shape](size - 200)
        refused(lambda: check_head(head + name + b":" + value + b"\r\n\r\n"))

    cost(parse)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_request_line_of_a_bad_shape(shape: str) -> None:
    def parse(size: int) -> None:
        line = b"GET /" + SHAPES[shape](size - 200) + b" HTTP/1.1"
        refused(lambda: check_head(line + b"\r\nHost: a\r\n\r\n", max_target=size))

    cost(parse)


@pytest.mark.parametrize(
    "line", [b"a:\r\n", b":\r\n", b"a:b\r\n", b" \r\n", b"_:_\r\n", b"Content-Length: 1\r\n"]
)
def test_a_head_of_many_lines(line: bytes) -> None:
    cost(lambda size: refused(lambda: check_head(START + line * (size // len(line)) + b"\r\n")))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("before", [b"5;", b"5", b"0\r\nX:", b"0\r\n", b""])
def test_chunks_with_bad_lines(shape: str, before: bytes) -> None:
    def decode(size: int) -> None:
        line = before + SHAPES[shape](size) + b"\r\n\r\n"
        refused(lambda: Chunks(LARGE).feed(bytearray(line)))

    cost(decode)


def test_many_small_chunks_and_many_trailers() -> None:
    cost(
        lambda size: refused(lambda: Chunks(size).feed(bytearray(b"5\r\nhello\r\n" * (size // 10))))
    )
    cost(
        lambda size: refused(
            lambda: Chunks(size).feed(bytearray(b"0\r\n" + b"a:\r\n" * (size // 4)))
        )
    )


@pytest.mark.parametrize("start", [b"GET /", START + b"X:"], ids=["line", "value"])
@pytest.mark.parametrize("byte", [b"a", b" "])
def test_a_head_that_dribbles_in_costs_no_more_for_each_byte(start: bytes, byte: bytes) -> None:
    def dribble(size: int) -> None:
        data = bytearray(start)
        seen = 0
        for _ in range(size - 100):
            data += byte
            check_start(data, seen, max_target=size)
            seen = len(data)

    small, large = (_time(dribble, size) for size in (SMALL, LARGE))
    assert large < 3 * small * LARGE / SMALL


@pytest.mark.parametrize("start", [b"", b"5;", b"0\r\nX: "])
def test_lines_around_chunks_that_dribble_in_cost_no_more_for_each_byte(start: bytes) -> None:
    """Up to where they are refused; many requests, since each is refused early."""

    def dribble(size: int) -> None:
        chunks, data = Chunks(LARGE), bytearray(start)
        with suppress(Problem):
            for _ in range(size):
                data += b"a"
                chunks.feed(data)

    small, large = (sum(_time(dribble, size) for _ in range(20)) for size in (500, 4000))
    assert large < 3 * small * 8


# In the environ ------------------------------------------------------------------


def plain(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("ETag", '"x"'), ("Content-Type", "text/plain")])
    return [b"x" * 2000]


def problem(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    return Problem(404)(environ, start_response)


COMPONENTS = {
    "request_id": RequestID(plain),
    "framing": StrictFraming(plain),
    "trusted_proxy": TrustedProxy(plain),
    "authentication": Authentication(plain, anonymous=Identity("a", "admin", "anonymous")),
    "csrf": CSRFProtection(plain, secret=b"sixteen bytes or more"),
    "read_your_writes": ReadYourWrites(
        plain, secret=b"sixteen bytes or more", merged=lambda one, other: other or one
    ),
    "conditional": Conditional(plain),
    "compression": Compression(plain),
    "problem": problem,
}
KEYS = (
    "ACCEPT ACCEPT_ENCODING AUTHORIZATION COOKIE HOST IF_MODIFIED_SINCE"
    " IF_NONE_MATCH ORIGIN REFERER X_CSRF_TOKEN X_FORWARDED_FOR X_FORWARDED_HOST"
    " X_FORWARDED_PROTO X_REMOTE_USER X_REQUEST_ID RANGE"
).split()


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_component_that_meets_a_header_of_a_bad_shape(component: str, method: str) -> None:
    app = COMPONENTS[component]
    for key in [f"HTTP_{key}" for key in KEYS] + ["CONTENT_TYPE", "PATH_INFO", "QUERY_STRING"]:
        for shape in SHAPES.values():

            def ask(size: int, key: str = key, shape: Callable[[int], bytes] = shape) -> None:
                given = environ(method, body=b"x" * 10) | {key: shape(size).decode("latin-1")}
                refused(lambda: list(app(given, lambda *_: None)))  # type: ignore[arg-type]

            cost(ask)


@pytest.mark.parametrize(
    "piece",
    [
        b'name="csrf_token"',
        b'name="csrf_token" ',
        b"name=",
        b"\r\n",
        b"--x\r\n",
        b"&",
        b"a=&",
        b"%",
        b";",
    ],
)
@pytest.mark.parametrize(
    "type", ["multipart/form-data; boundary=x", "application/x-www-form-urlencoded"]
)
def test_a_form_of_a_bad_shape(type: str, piece: bytes) -> None:
    def ask(size: int) -> None:
        body = piece * (size // len(piece))
        given = environ("POST", body=body) | {"CONTENT_TYPE": type, "HTTP_COOKIE": "a=b"}
        refused(lambda: list(COMPONENTS["csrf"](given, lambda *_: None)))  # type: ignore[arg-type]

    cost(ask)
