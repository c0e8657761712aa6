"""Clients that mean no good, each a process: ``python -m tests.acceptance.attackers
NAME SECONDS ADDRESS HEADER…``.

It prints a line once it has begun, and attacks until its time is over. ADDRESS is
HOST:PORT, or tls:PORT; each HEADER is one line that lets it in where it must log in.
"""

from __future__ import annotations

import itertools
import select
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

SOURCE = "127.0.0.2"  # the client that attacks; others come from 127.0.0.1
MANY = 60  # connections; an Apache as Debian has it serves 150


class Attacker:
    def __init__(self, seconds: float, address: str, headers: list[str]) -> None:
        self.ends = time.monotonic() + seconds
        self.tls = address.startswith("tls:")
        self.port = int(address.rpartition(":")[2])
        self.headers = "".join(f"{line}\r\n" for line in ["Host: localhost", *headers]).encode()
        self._begun = False

    def on(self) -> bool:
        if not self._begun:
            print("begun", flush=True)
            self._begun = True
        return time.monotonic() < self.ends

    def connect(self) -> socket.socket:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        sock.settimeout(5)
        sock.bind((SOURCE, 0))
        sock.connect(("127.0.0.1", self.port))
        if not self.tls:
            return sock
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context.wrap_socket(sock, server_hostname="localhost")

    def request(self, line: bytes, *more: bytes) -> bytes:
        head = line + b" HTTP/1.1\r\n" + self.headers
        return head + b"".join(field + b"\r\n" for field in more) + b"\r\n"

    def sends(self, *data: bytes) -> None:
        """Again and again, each on a connection of its own, and reads the answer."""
        for piece in itertools.cycle(data):
            if not self.on():
                return
            with suppress(OSError), self.connect() as sock:
                with suppress(OSError):
                    sock.sendall(piece)
                    socket.socket.shutdown(sock, socket.SHUT_WR)
                while sock.recv(65536):
                    pass

    def keeps(self, count: int, first: bytes, step: Callable[[socket.socket], object]) -> None:
        """So many connections that have sent ``first`` and then do a ``step`` now and then;
        those that were closed are opened again."""
        socks: list[socket.socket] = []
        while self.on():
            with suppress(OSError):
                while len(socks) < count:
                    socks.append(self.connect())
                    socks[-1].sendall(first)
            socks = [sock for sock in socks if _lives(sock, step)]
            time.sleep(0.1)
        for sock in socks:
            sock.close()


def _lives(sock: socket.socket, step: Callable[[socket.socket], object]) -> bool:
    try:
        if step(sock) != b"":
            return True
    except TimeoutError:
        return True
    except OSError:
        pass
    sock.close()
    return False


def _read_a_byte(sock: socket.socket) -> object:
    """Without a wait: there is one whenever the server has sent some."""
    if isinstance(sock, ssl.SSLSocket) or select.select([sock], [], [], 0)[0]:
        sock.settimeout(0.02)
        return sock.recv(1)
    return None


def _blanks(attacker: Attacker) -> None:
    value = [b"X:" + b" " * size + end for size in (8000, 60_000) for end in (b"x", b"\x0b")]
    attacker.sends(*(attacker.request(b"GET /jobs", field) for field in value))


def _trailers(attacker: Attacker) -> None:
    start = attacker.request(b"POST /jobs", b"Transfer-Encoding: chunked", b"Content-Type: a/b")
    body = b"%x\r\n" % (900_000) + b" " * 900_000 + b"\r\n0\r\n"
    attacker.sends(
        start + body + b"X:" + b" " * 800_000 + b"\x0b\r\n\r\n",
        start + body + b"X: y\r\n" * 100_000 + b"\r\n",
        start + b"5\r\nhello\r\n" * 100_000,
    )


def _slow_heads(attacker: Attacker) -> None:
    start = attacker.request(b"GET /jobs")[:-2] + b"X: "
    attacker.keeps(MANY, start, lambda sock: sock.sendall(b"a"))


def _slow_bodies(attacker: Attacker) -> None:
    start = attacker.request(b"POST /jobs", b"Content-Length: 100000", b"Content-Type: a/b")
    attacker.keeps(MANY, start, lambda sock: sock.sendall(b" "))


def _slow_lists(attacker: Attacker) -> None:
    attacker.keeps(24, attacker.request(b"GET /jobs?limit=1000000"), _read_a_byte)


def _slow_downloads(attacker: Attacker) -> None:
    attacker.keeps(24, attacker.request(b"GET /files/1/content"), _read_a_byte)


def _idle(attacker: Attacker) -> None:
    attacker.keeps(MANY if attacker.tls else 560, b"", lambda sock: None)


def _pipelines(attacker: Attacker) -> None:
    flood = attacker.request(b"GET /jobs") * 200
    attacker.keeps(8, flood, lambda sock: sock.sendall(flood))


def _documents(attacker: Attacker) -> None:
    def post(kind: bytes, body: bytes) -> bytes:
        length = b"Content-Length: %d" % len(body)
        return attacker.request(b"POST /jobs", b"Content-Type: " + kind, length) + body

    attacker.sends(
        *(post(b"application/json", body) for body in _json()),
        *(post(b"application/xml", body) for body in _xml()),
    )


def _json() -> Iterator[bytes]:
    yield b"[" * 900_000
    yield b'{"a":' * 200_000
    yield b'{"workflow":"nothing","x":"' + b" " * 900_000
    yield b"{" + b'"title":"a",' * 80_000 + b'"workflow":"nothing"}'


def _xml() -> Iterator[bytes]:
    start = b'<job xmlns="urn:backoffice:1" workflow="nothing">'
    yield start + b"<a>" * 300_000
    yield start[:-1] + b"".join(b" a%d='b'" % number for number in range(60_000)) + b"></job>"
    yield start + b" " * 900_000
    yield start + b"<wrong/>" * 110_000 + b"</job>"
    yield b"<!DOCTYPE a [" + b"<!ENTITY a 'b'>" * 60_000 + b"]><a/>"


ATTACKS = {
    "blanks": _blanks,
    "trailers": _trailers,
    "slow heads": _slow_heads,
    "slow bodies": _slow_bodies,
    "slow lists": _slow_lists,
    "slow downloads": _slow_downloads,
    "idle": _idle,
    "pipelines": _pipelines,
    "documents": _documents,
}

if __name__ == "__main__":
    name, seconds, address, *headers = sys.argv[1:]
    ATTACKS[name](Attacker(float(seconds), address, headers))
