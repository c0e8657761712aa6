"""The server over real sockets: strict, patient with nobody, and gentle when it stops."""

from __future__ import annotations

import http.client
import json
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import pytest

from backoffice.web.server.connections import Limits
from backoffice.web.server.http_server import WebServer, serve

ANYWHERE = ("127.0.0.1", 0)
PATIENCE = 10.0  # seconds until a test gives up
GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def tell(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Says what arrived."""
    told = {key: value for key, value in environ.items() if isinstance(value, str)}
    told["body"] = environ["wsgi.input"].read().decode()
    body = json.dumps(told).encode()
    start_response(
        "200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    )
    return [body]


@pytest.fixture(scope="module")
def server() -> Iterator[WebServer]:
    limits = Limits(head_timeout=0.3, body_timeout=0.6, idle_timeout=5.0, body=1000)
    with serve(tell, ANYWHERE, threads=4, limits=limits) as running:
        yield running


def connect(server: WebServer) -> socket.socket:
    address = server.address
    if isinstance(address, Path):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(PATIENCE)
        sock.connect(str(address))
        return sock
    return socket.create_connection(address, timeout=PATIENCE)


def receive(sock: socket.socket) -> bytes:
    """All that comes until the server closes."""
    pieces = []
    while piece := sock.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


def answered(
    sock: socket.socket, method: str = "GET"
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """One response; what follows it stays in the socket only if it has not come yet."""
    response = http.client.HTTPResponse(sock, method=method)
    response.begin()
    return response.status, response.headers, response.read()


def exchange(server: WebServer, data: bytes) -> bytes:
    with connect(server) as sock:
        sock.sendall(data)
        return receive(sock)


def get(server: WebServer, path: str = "/", **headers: str) -> tuple[int, bytes]:
    assert not isinstance(server.address, Path)
    connection = http.client.HTTPConnection(*server.address, timeout=PATIENCE)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
ATTACKS = {
    "differing lengths": (
        POST + b"Content-Length: 0\r\nContent-Length: 36\r\n\r\n" + SMUGGLED,
        400,
    ),
    "equal lengths": (POST + b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n", 400),
    "a negative length": (POST + b"Content-Length: -1\r\n\r\n", 400),
    "a signed length": (POST + b"Content-Length: +1\r\n\r\nx", 400),
    "length and chunks": (
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        400,
    ),
    "a vertical tab": (POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
    "a size in 0x": (CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n", 400),
    "a chunk too long": (CHUNKED + b"5\r\nhello!\r\n0\r\n\r\n", 400),
    "a bare CR": (GET + b"X: a\rY: b\r\n\r\n", 400),
    "a bare LF": (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    "one bare LF": (GET + b"X: a\nY: b\r\n\r\n", 400),
    "a NUL": (GET + b"X: a\0b\r\n\r\n", 400),
    "a folded line": (GET + b"X: a\r\n b\r\n\r\n", 400),
    "a space before the colon": (GET + b"X : a\r\n\r\n", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (GET + b"Host: a\r\n\r\n", 400),
    "two users": (GET + b"X-Remote-User: a\r\nX-Remote-User: b\r\n\r\n", 400),
    "two schemes": (GET + b"X-Forwarded-Proto: http\r\nx-forwarded-proto: https\r\n\r\n", 400),
    "an encoded NUL": (b"GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "100 kB of headers": (GET + b"X: " + b"a" * 100_000 + b"\r\n\r\n", 431),
    "100 kB in many headers": (GET + b"X: aaaaaaaaaaaaaaaa\r\n" * 5000 + b"\r\n", 431),
    "a URI of 200 kB": (b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    "a URI of 17 kB": (b"GET /" + b"a" * 17_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    "TRACE": (b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    "a long body": (POST + b"Content-Length: 1001\r\n\r\n", 413),
    "a long chunk": (CHUNKED + b"3e9\r\n", 413),
    "an unending length": (POST + b"Content-Length: " + b"9" * 500 + b"\r\n\r\n", 400),
    "another version": (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    "TLS": (b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n", 400),
    "an unheard-of expectation": (POST + b"Expect: more\r\nContent-Length: 1\r\n\r\n", 417),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_what_is_framed_loosely_is_refused_and_the_connection_closed(
    server: WebServer, name: str
) -> None:
    attack, status = ATTACKS[name]
    answer = exchange(server, attack)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert answer.count(b"HTTP/1.1 %d " % status) == 1
    assert b"HTTP/1.1 200 " not in answer
    assert b"\r\nConnection: close\r\n" in answer
    assert b"\r\nContent-Type: application/problem+xml\r\n" in answer
    assert b"\r\nX-Request-ID: " in answer


def test_it_is_refused_however_slowly_it_arrives(server: WebServer) -> None:
    with connect(server) as sock:
        for byte in GET + b"X : a\r\n\r\n":
            sock.send(bytes([byte]))
        assert receive(sock).startswith(b"HTTP/1.1 400 ")


def test_who_is_refused_may_finish_sending_and_then_read_why(server: WebServer) -> None:
    with connect(server) as sock:
        sock.sendall(POST + b"Content-Length: 500000\r\n\r\n")
        sock.recv(1, socket.MSG_PEEK)  # the answer is there
        for _ in range(50):
            sock.sendall(b"x" * 10_000)
        sock.shutdown(socket.SHUT_WR)
        assert receive(sock).startswith(b"HTTP/1.1 413 ")


def test_headers_with_an_underscore_are_dropped(server: WebServer) -> None:
    with connect(server) as sock:
        sock.sendall(GET + b"X_Remote_User: eve\r\nX-Remote_User: eve\r\nX-A: 1\r\n\r\n")
        told = json.loads(answered(sock)[2])
    assert "eve" not in told.values()
    assert told["HTTP_X_A"] == "1"


def test_the_environ_is_what_pep_3333_wants(server: WebServer) -> None:
    told = json.loads(get(server, "/a%20b%2Fc?x=%20")[1])
    assert (told["PATH_INFO"], told["QUERY_STRING"]) == ("/a b/c", "x=%20")
    assert told["REMOTE_ADDR"] == "127.0.0.1"
    assert not isinstance(server.address, Path)
    assert told["SERVER_PORT"] == str(server.address[1])


def test_no_version_is_told(server: WebServer) -> None:
    with connect(server) as sock:
        sock.sendall(GET + b"\r\n")
        assert answered(sock)[1]["Server"] == "Backoffice"


# Bodies and connections


def test_a_chunked_body_arrives_decoded_with_its_length(server: WebServer) -> None:
    with connect(server) as sock:
        for byte in CHUNKED + b"5\r\nhello\r\n6;a=b\r\n world\r\n0\r\nX-Sum: 1\r\n\r\n":
            sock.send(bytes([byte]))
        told = json.loads(answered(sock)[2])
    assert (told["body"], told["CONTENT_LENGTH"]) == ("hello world", "11")
    assert "HTTP_TRANSFER_ENCODING" not in told


def test_a_body_of_the_limit_is_taken(server: WebServer) -> None:
    with connect(server) as sock:
        sock.sendall(POST + b"Content-Length: 1000\r\n\r\n" + b"x" * 1000)
        assert json.loads(answered(sock)[2])["body"] == "x" * 1000


def test_pipelined_requests_are_answered_in_order(server: WebServer) -> None:
    first = b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
    last = b"GET /3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    answer = exchange(server, first + b"\r\n" + first.replace(b"POST /1", b"POST /2") + last)
    places = [answer.index(b'"PATH_INFO": "/%d"' % number) for number in (1, 2, 3)]
    assert places == sorted(places)
    assert answer.count(b'"body": "hello"') == 2


def test_a_connection_is_kept_and_used_again(server: WebServer) -> None:
    with connect(server) as sock:
        for _ in range(3):
            sock.sendall(GET + b"\r\n")
            assert answered(sock)[0] == 200


@pytest.mark.parametrize("close", [b"Connection: close\r\n", b"Connection: x, Close\r\n"])
def test_a_connection_is_closed_when_asked(server: WebServer, close: bytes) -> None:
    assert b"\r\nConnection: close\r\n" in exchange(server, GET + close + b"\r\n")


def test_http_1_0_works_with_and_without_keep_alive(server: WebServer) -> None:
    assert b"200 OK" in exchange(server, b"GET / HTTP/1.0\r\n\r\n")
    with connect(server) as sock:
        for _ in range(2):
            sock.sendall(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            assert answered(sock)[1]["Connection"] == "Keep-Alive"


def test_head_has_no_body_though_the_app_sends_one(server: WebServer) -> None:
    with connect(server) as sock:
        sock.sendall(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n" + GET + b"Connection: close\r\n\r\n")
        answer = receive(sock)
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert b"Content-Length: " in head
    assert rest.startswith(b"HTTP/1.1 200 ")


def test_a_client_that_expects_it_is_told_to_continue(server: WebServer) -> None:
    with connect(server) as sock:
        sock.sendall(POST + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        assert sock.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"hello")
        assert json.loads(answered(sock)[2])["body"] == "hello"


def test_a_client_with_too_much_is_not_told_to_continue(server: WebServer) -> None:
    answer = exchange(server, POST + b"Content-Length: 1001\r\nExpect: 100-continue\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")


# Slow and many


@pytest.mark.parametrize(
    "start", [b"GET / HT", GET, POST + b"Content-Length: 9\r\n\r\nx", CHUNKED + b"5\r\nhe"]
)
def test_who_is_slow_gets_408(server: WebServer, start: bytes) -> None:
    answer = exchange(server, start)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"\r\nConnection: close\r\n" in answer


def test_a_trickle_does_not_put_the_deadline_off(server: WebServer) -> None:
    with connect(server) as sock:
        sock.sendall(GET + b"X: ")
        sock.settimeout(0.05)
        answer = b""
        ends = time.monotonic() + PATIENCE
        while not answer and time.monotonic() < ends:
            sock.send(b"a")
            try:
                answer = sock.recv(1000)
            except TimeoutError:
                continue
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_who_sends_nothing_is_closed_quietly() -> None:
    limits = Limits(idle_timeout=0.2)
    with serve(tell, ANYWHERE, limits=limits) as server:
        assert exchange(server, b"") == b""
        with connect(server) as sock:
            sock.sendall(GET + b"\r\n")
            assert answered(sock)[0] == 200
            assert receive(sock) == b""


@pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\nX: ", POST + b"Content-Length: 9\r\n\r\n"])
def test_slow_clients_keep_nobody_waiting(start: bytes) -> None:
    with serve(tell, ANYWHERE, threads=4) as server, ExitStack() as stack:
        slow = [stack.enter_context(connect(server)) for _ in range(30)]
        for sock in slow:
            sock.sendall(start)
        begun = time.monotonic()
        assert get(server)[0] == 200
        assert time.monotonic() - begun < 1.0


def test_clients_that_do_not_read_keep_nobody_waiting() -> None:
    body = [b"x" * 150_000]

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", str(len(body[0])))])
        return body

    with serve(app, ANYWHERE, threads=4) as server, ExitStack() as stack:
        for _ in range(30):
            sock = stack.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect(server.address)
            sock.sendall(GET + b"\r\n")
        begun = time.monotonic()
        assert get(server)[0] == 200
        assert time.monotonic() - begun < 1.0


def test_who_is_one_too_many_gets_503() -> None:
    with serve(tell, ANYWHERE, limits=Limits(connections=2)) as server:
        with connect(server) as first, connect(server) as second:
            for sock in (first, second):  # in the midst of their requests
                sock.sendall(POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
                assert sock.recv(100).startswith(b"HTTP/1.1 100 ")
            assert exchange(server, b"").startswith(b"HTTP/1.1 503 ")
        eventually(lambda: get(server)[0] == 200)


def test_of_many_that_send_much_the_greatest_goes() -> None:
    limits = Limits(body=100_000, buffered=150_000)
    start = POST + b"Content-Length: 100000\r\n\r\n"
    with (
        serve(tell, ANYWHERE, limits=limits) as server,
        connect(server) as first,
        connect(server) as second,
    ):
        first.sendall(start + b"x" * 90_000)
        second.sendall(start + b"x" * 80_000)
        assert receive(first).startswith(b"HTTP/1.1 503 ")
        second.sendall(b"x" * 20_000)
        assert answered(second)[0] == 200


def test_a_client_that_vanishes_harms_nobody(server: WebServer) -> None:
    for start in (b"GET / HT", POST + b"Content-Length: 9\r\n\r\nx", GET + b"\r\n"):
        with connect(server) as sock:
            sock.sendall(start)
    assert get(server)[0] == 200


def eventually(true: Callable[[], bool]) -> None:
    ends = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < ends


# Responses


@contextmanager
def serving(
    body: Iterable[bytes], *headers: tuple[str, str], status: str = "200 OK"
) -> Iterator[WebServer]:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response(status, list(headers))
        return body

    with serve(app, ANYWHERE, threads=1) as server:
        yield server


@pytest.mark.parametrize(
    "header", [("X-A", "a\r\nX-B: b"), ("X-A\r\nX-B", "b"), ("X-A", "a\nb"), ("X-A", "a\0b")]
)
def test_a_response_cannot_be_split(header: tuple[str, str]) -> None:
    with serving([b"x"], header) as server:
        answer = exchange(server, GET + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"X-B" not in answer


def test_a_response_shorter_than_declared_breaks_the_connection() -> None:
    with serving([b"abc"], ("Content-Length", "10")) as server, connect(server) as sock:
        sock.sendall(GET + b"\r\n")
        with pytest.raises(http.client.IncompleteRead):
            answered(sock)


def test_a_response_longer_than_declared_is_cut_and_breaks_the_connection() -> None:
    with serving([b"abc", b"def"], ("Content-Length", "3")) as server:
        answer = exchange(server, GET + b"\r\n")
    assert answer.endswith(b"\r\n\r\nabc")


def test_a_response_of_unknown_length_is_chunked() -> None:
    with serving([b"abc", b"", b"def"]) as server, connect(server) as sock:
        sock.sendall(GET + b"\r\n")
        status, headers, body = answered(sock)
        assert (status, headers["Transfer-Encoding"], body) == (200, "chunked", b"abcdef")


def test_an_app_that_fails_in_the_midst_breaks_the_connection() -> None:
    def failing() -> Iterator[bytes]:
        yield b"abc"
        raise LookupError

    with serving(failing()) as server:
        assert not exchange(server, GET + b"\r\n").endswith(b"0\r\n\r\n")


def test_a_304_has_no_body() -> None:
    with serving([b"abc"], status="304 Not Modified") as server:
        answer = exchange(server, GET + b"Connection: close\r\n\r\n")
    assert answer.endswith(b"\r\n\r\n")


def test_a_response_that_was_started_again_has_only_the_second_headers() -> None:
    def wavering(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", "5"), ("X-First", "1")])
        error: Any = (LookupError, LookupError(), None)
        start_response("400 Bad Request", [("Content-Length", "2")], error)
        return [b"no"]

    with serve(wavering, ANYWHERE) as server:
        answer = exchange(server, GET + b"Connection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"Content-Length") == 1
    assert b"X-First" not in answer


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, LookupError])
def test_no_handler_can_end_the_server(error: type[BaseException]) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/end":
            raise error
        return tell(environ, start_response)

    with serve(app, ANYWHERE, threads=1) as server:
        for _ in range(3):
            exchange(server, b"GET /end HTTP/1.1\r\nHost: a\r\n\r\n")
        assert get(server)[0] == 200


# Stopping


class Held:
    """An application whose requests last until they are let go."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.go = threading.Event()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        self.entered.set()
        self.go.wait(PATIENCE)
        return tell(environ, start_response)


def test_a_running_request_finishes_when_the_server_stops() -> None:
    app = Held()
    server = serve(app, ANYWHERE, grace=PATIENCE)
    with connect(server) as busy, connect(server) as idle:
        busy.sendall(GET + b"\r\n")
        assert app.entered.wait(PATIENCE)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        assert receive(idle) == b""
        app.go.set()
        answer = receive(busy)
        stopping.join(PATIENCE)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nConnection: close\r\n" in answer
    with pytest.raises(OSError, match="refused"):
        connect(server)


def test_one_that_does_not_is_waited_for_no_longer_than_the_grace_time() -> None:
    app = Held()
    server = serve(app, ANYWHERE, grace=0.1)
    with connect(server) as busy:
        busy.sendall(GET + b"\r\n")
        assert app.entered.wait(PATIENCE)
        begun = time.monotonic()
        server.stop()
        assert time.monotonic() - begun < 3.0
    app.go.set()


def test_requests_under_way_while_it_stops_are_answered_or_closed() -> None:
    server = serve(tell, ANYWHERE, threads=2)
    stopped = threading.Event()
    halves: list[bytes] = []

    def hammer() -> None:
        while not stopped.is_set():
            try:
                answer = exchange(server, GET + b"Connection: close\r\n\r\n")
            except OSError:
                continue
            if answer and not answer.endswith(b"}"):
                halves.append(answer)

    threads = [threading.Thread(target=hammer) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        get(server)
    server.stop()
    stopped.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert halves == []


def test_stopping_twice_is_stopping_once() -> None:
    server = serve(tell, ANYWHERE)
    server.stop()
    server.stop()


# Where it listens


def test_a_unix_socket_has_its_mode_and_goes_with_the_server(tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    with serve(tell, path, mode=0o600) as server:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        with connect(server) as sock:
            sock.sendall(GET + b"\r\n")
            told = json.loads(answered(sock)[2])
        assert (told["REMOTE_ADDR"], told["SERVER_NAME"]) == ("", "localhost")
        assert "REMOTE_USER" not in told
    assert not path.exists()


def test_a_socket_that_nobody_serves_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))
    with serve(tell, path) as server, connect(server) as sock:
        sock.sendall(GET + b"\r\n")
        assert answered(sock)[0] == 200


def test_the_socket_of_a_server_that_lives_is_not(tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    with serve(tell, path) as server:
        with pytest.raises(OSError, match="in use by a server"):
            serve(tell, path)
        with connect(server) as sock:
            sock.sendall(GET + b"\r\n")
            assert answered(sock)[0] == 200


def test_a_file_in_the_way_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    path.write_text("precious")
    with pytest.raises(OSError, match="is no socket"):
        serve(tell, path)
    assert path.read_text() == "precious"


def test_a_port_in_use_is_an_error(server: WebServer) -> None:
    with pytest.raises(OSError, match="in use"):
        serve(tell, server.address)


def test_any_application_can_be_served() -> None:
    from wsgiref.validate import validator

    def simple(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ["wsgi.input"].read(10)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"abc"]

    app: WSGIApplication = validator(simple)
    with serve(app, ANYWHERE) as server:
        assert get(server) == (200, b"abc")
