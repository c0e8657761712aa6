"""The web server while it runs: another application in its place, and what it does."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterable, Iterator
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import pytest

from backoffice.web.server.connections import Limits
from backoffice.web.server.http_server import WebServer, serve

PATIENCE = 10.0  # seconds until a test gives up


def saying(word: bytes) -> WSGIApplication:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ["wsgi.input"].read()
        start_response("200 OK", [("Content-Length", str(len(word)))])
        return [word]

    return app


class Slow:
    """Answers when it is let."""

    def __init__(self) -> None:
        self.entered, self.let = threading.Event(), threading.Event()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", "8")])
        yield b"old "
        self.entered.set()
        self.let.wait(PATIENCE)
        yield b"old "


@pytest.fixture
def slow() -> Iterator[Slow]:
    slow = Slow()
    yield slow
    slow.let.set()


@pytest.fixture
def server(slow: Slow) -> Iterator[WebServer]:
    limits = Limits(body=1000)
    with serve(slow, ("127.0.0.1", 0), threads=2, limits=limits) as running:
        yield running


@pytest.fixture
def client(server: WebServer) -> Iterator[Callable[..., bytes]]:
    """Asks on one connection, which must stay open."""
    address = server.address
    assert isinstance(address, tuple)
    connection = http.client.HTTPConnection(*address, timeout=PATIENCE)
    connection.connect()
    connection.auto_open = False

    def ask(body: bytes = b"") -> bytes:
        connection.request("POST", "/where", body=body)
        answer = connection.getresponse()
        return answer.read() if answer.status == 200 else str(answer.status).encode()

    yield ask
    connection.close()


def test_a_request_under_way_ends_on_the_application_it_began_with(
    server: WebServer, slow: Slow, client: Callable[..., bytes]
) -> None:
    answers: list[bytes] = []
    asking = threading.Thread(target=lambda: answers.append(client()))
    asking.start()
    assert slow.entered.wait(PATIENCE)
    server.swap(saying(b"new"), Limits(), grace=1)
    slow.let.set()
    asking.join(PATIENCE)
    assert answers == [b"old old "]
    assert client() == b"new"


def test_new_limits_hold_for_connections_that_are_open(
    server: WebServer, slow: Slow, client: Callable[..., bytes]
) -> None:
    slow.let.set()
    server.swap(saying(b"new"), Limits(body=1000), grace=1)
    assert client(b"x" * 500) == b"new"
    server.swap(saying(b"new"), Limits(body=100), grace=1)
    client()  # what is open hears of it with its next request
    assert client(b"x" * 500) == b"413"


def test_requests_under_way_can_be_told(
    server: WebServer, slow: Slow, client: Callable[..., bytes]
) -> None:
    asking = threading.Thread(target=client)
    asking.start()
    assert slow.entered.wait(PATIENCE)
    ((thread, environ, age),) = server.serving()
    assert thread.startswith("request ")
    assert (environ["REQUEST_METHOD"], environ["PATH_INFO"]) == ("POST", "/where")
    assert 0 <= age < PATIENCE
    slow.let.set()
    asking.join(PATIENCE)
    server.stop()
    assert server.serving() == []


def test_it_lives_before_it_starts_while_it_runs_and_when_it_has_stopped(slow: Slow) -> None:
    server = WebServer(slow, ("127.0.0.1", 0), threads=1)
    assert server.lives(0.1)
    server.start()
    assert server.lives()
    server.stop()
    assert server.lives(0.1)


def test_a_gate_that_does_not_turn_is_noticed(
    server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, entered = threading.Event(), threading.Event()
    loop = server._http.loop

    def hang() -> None:
        entered.set()
        held.wait(PATIENCE)

    monkeypatch.setattr(loop, "_look_at_deadlines", hang)
    loop._wake()
    assert entered.wait(PATIENCE)
    assert not server.lives(0.1)
    held.set()
