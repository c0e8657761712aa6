"""Only a request that everybody reads alike is let through."""

from __future__ import annotations

import pytest

from middleware.framing import MAX_FIELDS, Chunks, StrictFraming, check_head, check_start
from middleware.problem import Problem
from tests.middleware.wsgi import call, hello

GOOD = b"POST /a%20b?q=%0a HTTP/1.1\r\nHost: site.example:8080\r\n"


def test_a_head_has_its_facts() -> None:
    head = check_head(
        GOOD + b"X-A: 1\r\nx-a:2 \r\nCookie: a=1\r\nCookie: b=2\r\nX_A: no\r\n"
        b"Content-Length: 12\r\nExpect: 100-continue\r\n\r\n"
    )
    assert (head.method, head.target, head.version) == (b"POST", b"/a%20b?q=%0a", b"HTTP/1.1")
    assert (head.path, head.query) == (b"/a b", b"q=%0a")
    assert (head.length, head.expects, head.persistent) == (12, True, True)
    assert head.fields[b"x-a"] == b"1, 2"
    assert head.fields[b"cookie"] == b"a=1; b=2"
    assert b"x_a" not in head.fields


@pytest.mark.parametrize(
    ("version", "connection", "persistent"),
    [
        (b"1.1", b"", True),
        (b"1.1", b"Connection: x, Close\r\n", False),
        (b"1.0", b"", False),
        (b"1.0", b"Connection: Keep-Alive\r\n", True),
    ],
)
def test_a_connection_persists_as_the_version_has_it(
    version: bytes, connection: bytes, persistent: bool
) -> None:
    head = check_head(b"GET / HTTP/" + version + b"\r\nHost: a\r\n" + connection + b"\r\n")
    assert head.persistent == persistent


REFUSED = {
    "differing lengths": (GOOD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
    "equal lengths": (GOOD + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\n", 400),
    "a list of lengths": (GOOD + b"Content-Length: 1, 1\r\n\r\n", 400),
    "a negative length": (GOOD + b"Content-Length: -1\r\n\r\n", 400),
    "a signed length": (GOOD + b"Content-Length: +1\r\n\r\n", 400),
    "a length in hex": (GOOD + b"Content-Length: 0x1\r\n\r\n", 400),
    "an empty length": (GOOD + b"Content-Length:\r\n\r\n", 400),
    "a length in other digits": (GOOD + b"Content-Length: \xb2\r\n\r\n", 400),
    "an endless length": (GOOD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", 400),
    "length and coding": (
        GOOD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        400,
    ),
    "a vertical tab": (GOOD + b"Transfer-Encoding: \x0bchunked\r\n\r\n", 400),
    "another coding": (GOOD + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 400),
    "identity": (GOOD + b"Transfer-Encoding: identity\r\n\r\n", 400),
    "two codings": (
        GOOD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        400,
    ),
    "chunks in 1.0": (b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    "a bare CR": (GOOD + b"X: a\rb\r\n\r\n", 400),
    "a bare LF": (GOOD + b"X: a\nY: b\r\n\r\n", 400),
    "a NUL": (GOOD + b"X: a\0b\r\n\r\n", 400),
    "a folded line": (GOOD + b"X: a\r\n b\r\n\r\n", 400),
    "a folded first line": (b"GET / HTTP/1.1\r\n Host: a\r\nHost: a\r\n\r\n", 400),
    "a space before the colon": (GOOD + b"X : a\r\n\r\n", 400),
    "no colon": (GOOD + b"X\r\n\r\n", 400),
    "no name": (GOOD + b": a\r\n\r\n", 400),
    "a name of 8 bits": (GOOD + b"X\xe9: a\r\n\r\n", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (GOOD + b"Host: site.example\r\n\r\n", 400),
    "a host with a path": (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    "a host with a user": (b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400),
    "an empty host": (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
    "two users": (GOOD + b"X-Remote-User: a\r\nX-Remote-User: a\r\n\r\n", 400),
    "two addresses": (GOOD + b"X-Forwarded-For: a\r\nX-Forwarded-For: b\r\n\r\n", 400),
    "two spaces": (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a space in the target": (b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "8 bits in the target": (b"GET /\xe9 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "an encoded NUL": (b"GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a fragment": (b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "an absolute target": (b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "an asterisk": (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a method in lower case": (b"get / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "no version": (b"GET /\r\nHost: a\r\n\r\n", 400),
    "an empty line first": (b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a TLS handshake": (b"\x16\x03\x01\x02\r\n\r\n", 400),
    "a lower-case version": (b"GET / http/1.1\r\nHost: a\r\n\r\n", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\n", 505),
    "a long target": (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    "many fields": (GOOD + b"X: a\r\n" * (MAX_FIELDS + 1) + b"\r\n", 431),
    "TRACE": (b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    "TRACK": (b"TRACK / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    "CONNECT": (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    "another expectation": (GOOD + b"Expect: magic\r\n\r\n", 417),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_head_is_refused(name: str) -> None:
    head, status = REFUSED[name]
    with pytest.raises(Problem) as caught:
        check_head(head)
    assert caught.value.status == status
    assert ("Connection", "close") in caught.value.headers


@pytest.mark.parametrize(
    ("start", "status"),
    [
        (b"GET /" + b"a" * 20_000, 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 70_000, 431),
        (b"GET / HTTP/1.1\nHost: a\n\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\rX", 400),
        (b"GET / HTTP/1.1\r\nHost: a\0", 400),
    ],
)
def test_a_start_is_refused_as_soon_as_it_can_be(start: bytes, status: int) -> None:
    with pytest.raises(Problem) as caught:
        check_start(start)
    assert caught.value.status == status


def test_a_start_that_may_become_a_request_is_not_refused() -> None:
    check_start(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 10_000)
    check_start(b"GET / HTTP/1.1\r\nHost: a\r")


def test_a_line_end_that_came_in_two_pieces_is_seen_whole() -> None:
    first = b"GET / HTTP/1.1\r"
    check_start(first + b"\nHost", len(first))
    with pytest.raises(Problem):
        check_start(first + b"Host", len(first))
    with pytest.raises(Problem):
        check_start(first[:-1] + b"\n", len(first) - 1)


BODIES = {
    "plain": b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
    "leading zeros": b'0005\r\nhello\r\n6;a="b"\r\n world\r\n00\r\n\r\n',
    "trailer": b"b\r\nhello world\r\n0\r\nX-Sum: 1\r\n\r\n",
}


@pytest.mark.parametrize("step", [1, 2, 3, 1000])
@pytest.mark.parametrize("name", BODIES)
def test_chunks_are_decoded_however_they_arrive(name: str, step: int) -> None:
    chunks, data = Chunks(limit=11), bytearray()
    wire = BODIES[name] + b"GET /next"
    for start in range(0, len(wire), step):
        data += wire[start : start + step]
        chunks.feed(data)
    assert chunks.done
    assert (bytes(chunks.body), bytes(data)) == (b"hello world", b"GET /next")


@pytest.mark.parametrize(
    ("wire", "status"),
    [
        (b"0x5\r\nhello\r\n0\r\n\r\n", 400),
        (b"+5\r\nhello\r\n0\r\n\r\n", 400),
        (b"-1\r\n", 400),
        (b" 5\r\nhello\r\n0\r\n\r\n", 400),
        (b"5 \r\nhello\r\n0\r\n\r\n", 400),
        (b"5_0\r\n", 400),
        (b"\r\n", 400),
        (b"fffffffff\r\n", 400),
        (b"5\nhello\r\n0\r\n\r\n", 400),
        (b"5\r\nhello\n0\r\n\r\n", 400),
        (b"5\r\nhelloo\r\n0\r\n\r\n", 400),
        (b"5;a\rb\r\nhello\r\n", 400),
        (b"0\r\nX : 1\r\n\r\n", 400),
        (b"0\r\nGET / HTTP/1.1\r\n\r\n", 400),
        (b"5;" + b"a" * 10_000, 431),
        (b"5;" + b"a" * 10_000 + b"\r\nhello\r\n0\r\n\r\n", 431),
        (b"0\r\nX: " + b"a" * 10_000, 431),
        (b"0\r\n" + b"X: a\r\n" * 2000 + b"\r\n", 431),
        (b"10000\r\n" + b"a" * 65_536 + b"\r\n0\r\n" + b"X: a\r\n" * 2000 + b"\r\n", 431),
        (b"0\r\nX: a\r\n b\r\n\r\n", 400),
        (b"0\r\nX: a\x0bb\r\n\r\n", 400),
        (b"1\r\nx\r\n" * 5000, 400),
        (b"fffff\r\n", 413),
    ],
)
def test_chunks_are_refused(wire: bytes, status: int) -> None:
    with pytest.raises(Problem) as caught:
        Chunks(limit=100_000).feed(bytearray(wire))
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({}, 200),
        ({"CONTENT_LENGTH": ""}, 200),
        ({"CONTENT_LENGTH": "-1"}, 400),
        ({"CONTENT_LENGTH": "1 "}, 400),
        ({"CONTENT_LENGTH": "²"}, 400),
        ({"CONTENT_LENGTH": "1", "HTTP_TRANSFER_ENCODING": "chunked"}, 400),
        ({"HTTP_TRANSFER_ENCODING": "Chunked"}, 200),
        ({"HTTP_TRANSFER_ENCODING": "\x0bchunked"}, 400),
        ({"HTTP_TRANSFER_ENCODING": "gzip"}, 400),
        ({"HTTP_X": "a\0b"}, 400),
        ({"HTTP_X": "a\r\nb"}, 400),
        ({"HTTP_X": "a\tb é"}, 200),
        ({"CONTENT_TYPE": "a\nb"}, 400),
        ({"PATH_INFO": "/a\0"}, 400),
        ({"QUERY_STRING": "a\nb"}, 400),
        ({"REQUEST_METHOD": "GET\x01"}, 400),
        ({"HTTP_HOST": None}, 400),
        ({"HTTP_HOST": None, "SERVER_PROTOCOL": "HTTP/1.0"}, 200),
        ({"HTTP_HOST": "a b"}, 400),
        ({"HTTP_HOST": "[::1]:8080"}, 200),
        ({"PATH_INFO": "/" + "a" * 200_000}, 414),
        ({"HTTP_X": "a" * 100_000}, 431),
        ({"REQUEST_METHOD": "TRACE"}, 405),
        ({"REQUEST_METHOD": "CONNECT"}, 405),
    ],
)
def test_the_component_refuses_what_it_can_see(more: dict[str, str | None], status: int) -> None:
    answer = call(StrictFraming(hello), **more)
    assert answer.status == status
    assert (answer.headers["Connection"] == "close") == (status != 200)


def test_a_server_may_be_spared_the_connection_header() -> None:
    answer = call(StrictFraming(hello, close=False), "TRACE")
    assert answer.headers["Connection"] is None
    assert answer.headers["Allow"]
