"""Clients that hardly read, and clients that are many: over real sockets."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import pytest

from backoffice.web.server.connections import Limits
from backoffice.web.server.http_server import WebServer, serve
from backoffice.web.server.outbox import HELD

ANYWHERE = ("127.0.0.1", 0)
PATIENCE = 20.0  # seconds until a test gives up
BIG = b"0123456789abcdef" * (1 << 18)  # 4 MB: more than the kernel takes for a client
GET = b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n"


def respond(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """/whole: BIG, at once; /pieces: BIG, in pieces; else a word."""
    path = environ["PATH_INFO"]
    body = BIG if path in ("/whole", "/pieces") else b"here"
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return _pieces() if path == "/pieces" else [body]


def _pieces() -> Iterator[bytes]:
    for start in range(0, len(BIG), 1 << 16):
        yield BIG[start : start + (1 << 16)]


def connect(server: WebServer, source: str = "127.0.0.1") -> socket.socket:
    """A client that has room for little."""
    address = server.address
    unix = isinstance(address, Path)
    sock = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
    sock.settimeout(PATIENCE)
    if unix:
        sock.connect(str(address))
        return sock
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
    sock.bind((source, 0))
    sock.connect(address)
    return sock


def ask(server: WebServer, path: bytes, source: str = "127.0.0.1") -> socket.socket:
    sock = connect(server, source)
    sock.sendall(GET % path)
    return sock


def served(server: WebServer, source: str = "127.0.0.1") -> bool:
    with ask(server, b"/", source) as sock:
        return b"200 OK" in sock.recv(4096)


def begin(sock: socket.socket) -> None:
    """A request that the server has seen the beginning of."""
    sock.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n")
    sock.sendall(b"Expect: 100-continue\r\n\r\n")
    assert sock.recv(100).startswith(b"HTTP/1.1 100 ")


def received(sock: socket.socket, most: int = 1 << 16, pause: float = 0) -> bytes:
    """All that comes until the connection ends, however it ends."""
    pieces = []
    with suppress(ConnectionResetError):
        while piece := sock.recv(most):
            pieces.append(piece)
            time.sleep(pause)
    return b"".join(pieces)


def eventually(true: Callable[[], bool]) -> None:
    ends = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.01)


def hurried(app: WSGIApplication = respond, threads: int = 1, **limits: float) -> WebServer:
    """That looks at its readers often."""
    return serve(
        app,
        ANYWHERE,
        threads=threads,
        limits=Limits(**{"send_timeout": 0.5, **limits}),  # type: ignore[arg-type]
    )


def test_a_finished_response_keeps_no_thread_while_its_client_reads_nothing() -> None:
    with serve(respond, ANYWHERE, threads=1) as server, ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(ask(server, b"/whole"))
        assert served(server)


@pytest.mark.parametrize("path", [b"/whole", b"/pieces"])
def test_a_response_that_is_taken_slowly_arrives_whole(path: bytes) -> None:
    with serve(respond, ANYWHERE, threads=1) as server, ask(server, path) as sock:
        time.sleep(0.2)  # let it fill what there is to fill
        head = sock.recv(4096, socket.MSG_PEEK).partition(b"\r\n\r\n")[0]
        left = len(head) + 4 + len(BIG)
        while left:
            left -= len(sock.recv(min(left, 10_000)))
        sock.sendall(GET % b"/")  # and the connection is kept
        assert b"200 OK" in sock.recv(4096)


@pytest.mark.parametrize("path", [b"/whole", b"/pieces"])
def test_who_reads_nothing_is_cut_off(path: bytes) -> None:
    with hurried() as server, ask(server, path) as sock:
        sock.recv(1, socket.MSG_PEEK)
        eventually(lambda: server.connections == 0)
        assert 0 < len(received(sock)) < len(BIG)
        assert served(server)


@pytest.mark.parametrize("path", [b"/whole", b"/pieces"])
def test_who_reads_too_little_is_cut_off_too(path: bytes) -> None:
    with hurried(send_rate=1_000_000) as server, ask(server, path) as sock:
        sock.recv(1, socket.MSG_PEEK)
        answer = received(sock, 4096, pause=0.02)
        assert 0 < len(answer) < len(BIG)
        assert served(server)


@pytest.mark.parametrize("path", [b"/whole", b"/pieces"])
def test_who_reads_fast_enough_is_not(path: bytes) -> None:
    """In some seconds, and with every look at it."""
    with hurried(send_rate=10_000) as server, ask(server, path) as sock:
        sock.sendall(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") % b"/")
        answer = received(sock, 1 << 14, pause=0.005)
    assert BIG in answer
    assert answer.endswith(b"here")


def test_the_rest_of_a_response_is_sent_when_its_connection_ends_and_when_the_server_stops() -> (
    None
):
    server = serve(respond, ANYWHERE, threads=1, grace=PATIENCE)
    closing = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    with connect(server) as first, connect(server) as second:
        first.sendall(closing % b"/whole")
        second.sendall(GET % b"/whole")
        for sock in (first, second):
            sock.recv(1, socket.MSG_PEEK)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        answers = [received(sock, 1 << 14, pause=0.005) for sock in (first, second)]
        stopping.join(PATIENCE)
        assert not stopping.is_alive()
    assert all(answer.endswith(BIG) for answer in answers)


def test_a_server_that_stops_waits_for_readers_no_longer_than_its_grace_time() -> None:
    server = serve(respond, ANYWHERE, threads=1, grace=0.2)
    with ask(server, b"/whole") as sock:
        sock.recv(1, socket.MSG_PEEK)
        begun = time.monotonic()
        server.stop()
        assert time.monotonic() - begun < 10
    assert server.connections == 0


def test_of_too_much_that_waits_for_clients_the_greatest_goes() -> None:
    limits = Limits(buffered=6 << 20)
    with serve(respond, ANYWHERE, threads=1, limits=limits) as server, ExitStack() as stack:
        socks = [stack.enter_context(ask(server, b"/whole")) for _ in range(8)]
        for sock in socks:
            sock.recv(1, socket.MSG_PEEK)
        eventually(lambda: server.connections < 8)
        assert served(server)


def test_a_piece_is_not_asked_for_while_much_waits() -> None:
    """Memory stays small, however long a response is."""
    asked: list[int] = []

    def endless(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        while True:
            asked.append(1)
            yield bytes(1 << 16)

    with hurried(endless) as server, ask(server, b"/") as sock:
        sock.recv(1, socket.MSG_PEEK)
        eventually(lambda: server.connections == 0)
    # The kernel takes some megabytes of its own.
    assert len(asked) << 16 < HELD + (16 << 20)


# Many connections ------------------------------------------------------------


def test_a_new_connection_takes_the_place_of_one_that_waits() -> None:
    with serve(respond, ANYWHERE, limits=Limits(connections=20)) as server, ExitStack() as stack:
        idle = [stack.enter_context(connect(server, "127.0.0.2")) for _ in range(20)]
        eventually(lambda: server.connections == 20)
        assert served(server)
        assert idle[0].recv(1) == b""  # the one that waited longest


def test_of_those_that_wait_one_of_the_client_with_most_goes() -> None:
    with serve(respond, ANYWHERE, limits=Limits(connections=20)) as server, ExitStack() as stack:
        first = stack.enter_context(connect(server, "127.0.0.3"))
        eventually(lambda: server.connections == 1)
        for _ in range(40):
            stack.enter_context(connect(server, "127.0.0.2"))
        assert served(server)
        first.sendall(GET % b"/")
        assert b"200 OK" in first.recv(4096)


def test_one_client_has_only_so_many_connections_and_another_is_served() -> None:
    limits = Limits(connections=50, per_client=10)
    with serve(respond, ANYWHERE, limits=limits) as server, ExitStack() as stack:
        for _ in range(10):
            begin(stack.enter_context(connect(server, "127.0.0.2")))
        with connect(server, "127.0.0.2") as sock:
            answer = received(sock)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: 1\r\n" in answer
        assert served(server)


def test_a_client_over_its_limit_loses_its_own_connections_that_wait() -> None:
    limits = Limits(connections=50, per_client=10)
    with serve(respond, ANYWHERE, limits=limits) as server, ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(connect(server, "127.0.0.2"))
        assert served(server, "127.0.0.2")
        assert server.connections <= 11


def test_a_flood_of_refused_connections_keeps_no_other_client_out() -> None:
    limits = Limits(connections=20, per_client=10)
    with serve(respond, ANYWHERE, limits=limits) as server, ExitStack() as stack:
        for _ in range(200):
            sock = stack.enter_context(connect(server, "127.0.0.2"))
            with suppress(OSError):
                sock.sendall(b"GET / HT")
        assert served(server)


@pytest.mark.parametrize("unix", [True, False], ids=["unix", "network"])
def test_a_proxy_is_not_one_client(unix: bool, tmp_path: Path) -> None:
    limits = Limits(per_client=5, proxies=("unix", "127.0.0.2"))
    place = tmp_path / "socket" if unix else ANYWHERE
    with serve(respond, place, limits=limits) as server, ExitStack() as stack:
        socks = [stack.enter_context(connect(server, "127.0.0.2")) for _ in range(30)]
        for sock in socks:
            sock.sendall(GET % b"/")
            assert b"200 OK" in sock.recv(4096)


def test_addresses_of_one_ipv6_network_are_one_client() -> None:
    limits = Limits()
    assert limits.client("2001:db8::1") == limits.client("2001:db8::ffff:2")
    assert limits.client("2001:db8::1") != limits.client("2001:db8:0:1::1")
    assert limits.client("::ffff:192.0.2.1") == limits.client("192.0.2.1") == "192.0.2.1"
