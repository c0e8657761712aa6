"""Requests come out of the bytes of a connection whole, however these arrive."""

from __future__ import annotations

import time
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backoffice.web.server.connections import Inbox, Limits
from middleware.problem import Problem

REQUESTS = [
    (b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n", b""),
    (b"POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
    (
        b"POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5\r\nhello\r\n7;x=y\r\n\r\nworld\r\n0\r\nX: 1\r\n\r\n",
        b"hello\r\nworld",
    ),
    (b"\r\nGET /4 HTTP/1.0\r\n\r\n", b""),
    (b"POST /5 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n\r\n\r\n", b"\r\n\r\n"),
]


def take_all(pieces: list[bytes]) -> list[tuple[bytes, bytes]]:
    inbox = Inbox(Limits())
    found = []
    for piece in pieces:
        inbox.add(piece)
        while request := inbox.take():
            found.append((request.head.target, request.body))
    assert inbox.size == 0
    return found


def cut(data: bytes, places: set[int]) -> list[bytes]:
    ends = sorted({0, len(data), *(place % len(data) for place in places)})
    return [data[start:end] for start, end in pairwise(ends)]


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(range(len(REQUESTS))), min_size=1, max_size=6),
    st.sets(st.integers(0, 10_000), max_size=40),
)
def test_how_the_bytes_are_cut_makes_no_difference(order: list[int], places: set[int]) -> None:
    data = b"".join(REQUESTS[number][0] for number in order)
    expected = [(b"/%d" % (number + 1), REQUESTS[number][1]) for number in order]
    assert take_all(cut(data, places)) == expected


def test_each_byte_may_come_alone() -> None:
    data = b"".join(request for request, _ in REQUESTS)
    assert len(take_all(cut(data, set(range(len(data)))))) == len(REQUESTS)


def outcome(pieces: list[bytes]) -> tuple[list[tuple[bytes, bytes]], int]:
    """The requests that came out, and the status of the refusal after them."""
    inbox = Inbox(Limits(body=100))
    found: list[tuple[bytes, bytes]] = []
    try:
        for piece in pieces:
            inbox.add(piece)
            while request := inbox.take():
                found.append((request.head.target, request.body))
    except Problem as problem:
        return found, problem.status
    return found, 0


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=3),
    st.sets(st.integers(0, 10_000), max_size=20),
)
def test_damaged_requests_are_refused_alike_and_nothing_else_happens(
    requests: list[tuple[bytes, bytes]], damage: list[tuple[int, int]], places: set[int]
) -> None:
    data = bytearray(b"".join(request for request, _ in requests))
    for place, byte in damage:
        data[place % len(data)] = byte
    whole, status = outcome([bytes(data)])
    in_pieces, status_in_pieces = outcome(cut(bytes(data), places))
    assert in_pieces == whole
    assert (status == 0) == (status_in_pieces == 0)


GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST = GET.replace(b"GET", b"POST")
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
DRIBBLES = {
    "line": (b"GET /", b"a"),
    "value": (GET + b"X:", b"a"),
    "blanks": (GET + b"X:", b" "),
    "fields": (GET, b"X: a\r\n"),
    "body": (POST + b"Content-Length: 60000\r\n\r\n", b"a"),
    "chunk": (CHUNKED + b"ea60\r\n", b"a"),
    "chunks": (CHUNKED, b"5\r\nhello\r\n"),
    "trailers": (CHUNKED + b"0\r\n", b"a: b\r\n"),
}


@pytest.mark.parametrize("name", DRIBBLES)
def test_a_byte_costs_the_same_however_many_came_before(name: str) -> None:
    """As 128 clients may send them, one by one."""
    start, piece = DRIBBLES[name]

    def dribble(size: int) -> float:
        limits = Limits(target=1 << 20, head=1 << 20, body=1 << 20)
        inbox, left = Inbox(limits), (piece * (size // len(piece)))[: size - len(start)]
        begun = time.thread_time()
        inbox.add(start)
        with suppress(Problem):  # there is a limit to each
            for place in range(len(left)):
                inbox.add(left[place : place + 1])
                inbox.take()
        return time.thread_time() - begun

    small = min(dribble(4000) for _ in range(3))
    assert dribble(64_000) < 3 * 16 * small
