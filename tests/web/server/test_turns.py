"""Clients take turns, and one cannot have all threads."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import ExitStack
from queue import Empty
from types import SimpleNamespace
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest

from backoffice.web.server.connections import Limits
from backoffice.web.server.http_server import WebServer, serve
from backoffice.web.server.turns import Turns
from tests.web.server.test_slow_readers import ANYWHERE, GET, PATIENCE, ask, connect, served

END = object()


def wait(turns: Turns, *askers: str) -> None:
    for number, asker in enumerate(askers):
        turns.put(SimpleNamespace(asker=asker, number=number))


def next_of(turns: Turns) -> str:
    asker: str = turns.get(block=False).asker
    return asker


def test_the_next_is_of_the_client_with_fewest_under_way() -> None:
    turns = Turns(threads=8)
    wait(turns, "a", "a", "a", "a", "b", "c", "b")
    assert [next_of(turns) for _ in range(7)] == ["a", "b", "c", "a", "b", "a", "a"]


def test_the_requests_of_one_client_come_in_order() -> None:
    turns = Turns(threads=8)
    wait(turns, "a", "a", "a")
    assert [turns.get(block=False).number for _ in range(3)] == [0, 1, 2]


def test_one_client_leaves_a_thread_to_the_others() -> None:
    turns = Turns(threads=3)
    wait(turns, "a", "a", "a")
    assert [next_of(turns), next_of(turns)] == ["a", "a"]
    with pytest.raises(Empty):
        turns.get(block=False)
    wait(turns, "b")
    assert next_of(turns) == "b"
    turns.done("a")
    assert next_of(turns) == "a"


def test_a_thread_that_waits_is_told_when_a_client_may_have_another() -> None:
    turns = Turns(threads=2)
    wait(turns, "a", "a")
    assert next_of(turns) == "a"
    got: list[str] = []
    thread = threading.Thread(target=lambda: got.append(turns.get(timeout=PATIENCE).asker))
    thread.start()
    turns.done("a")
    thread.join(PATIENCE)
    assert got == ["a"]


def test_a_single_thread_serves_all() -> None:
    turns = Turns(threads=1)
    wait(turns, "a")
    assert next_of(turns) == "a"


def test_an_order_to_end_comes_after_those_who_wait() -> None:
    turns = Turns(threads=2)
    turns.put(END)
    wait(turns, "a", "a")
    assert next_of(turns) == "a"
    assert turns.get(block=False) is END
    turns.done("a")
    assert next_of(turns) == "a"


class Claim:
    """An application whose requests last until they are let go, but for /."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/":
            self.go.wait(PATIENCE)
        start_response("200 OK", [("Content-Length", "4")])
        return [b"here"]


def test_who_asks_much_that_takes_long_keeps_no_other_client_out() -> None:
    app = Claim()
    with serve(app, ANYWHERE, threads=3) as server, ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(ask(server, b"/long", "127.0.0.2"))
        assert served(server)
        app.go.set()


def test_behind_a_proxy_the_client_is_whom_it_asks_for() -> None:
    app = Claim()
    limits = Limits(proxies=("127.0.0.1",))

    def asked(server: WebServer, path: bytes, client: bytes) -> None:
        sock = stack.enter_context(connect(server))
        fields = b"\r\nX-Forwarded-For: 10.0.0.9, " + client + b"\r\n\r\n"
        sock.sendall(GET.replace(b"\r\n\r\n", fields) % path)
        if path == b"/":
            assert b"200 OK" in sock.recv(4096)

    with serve(app, ANYWHERE, threads=3, limits=limits) as server, ExitStack() as stack:
        for _ in range(20):
            asked(server, b"/long", b"192.0.2.1")
        asked(server, b"/", b"192.0.2.2")
        app.go.set()
