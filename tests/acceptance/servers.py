"""Servers that run the web application as processes of their own, and their client."""

from __future__ import annotations

import base64
import http.client
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.acceptance import proc
from tests.acceptance.proc import wait_for
from tests.acceptance.site import Site

PATIENCE = 20.0  # seconds until a test gives up


@dataclass(frozen=True)
class Secure:
    """TLS at a port of this host, which is localhost by its certificate."""

    port: int
    certificate: Path


Address = Path | tuple[str, int] | Secure


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes


class Client:
    """A connection that is kept as long as the server keeps it."""

    def __init__(self, address: Address, **always: str) -> None:
        self._connection = _Connection(address)
        self._always = always

    def __call__(self, method: str, path: str, body: bytes | str = b"", **headers: str) -> Answer:
        """``headers`` with _ for -."""
        data = body.encode() if isinstance(body, str) else body
        headers = self._always | headers
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        # A server may refuse a body before it has read it all.
        with suppress(BrokenPipeError, ConnectionResetError):
            self._connection.request(method, path, data or None, named)
        response = self._connection.getresponse()
        return Answer(response.status, response.headers, response.read())

    def get(self, path: str, **headers: str) -> Answer:
        return self("GET", path, **headers)

    def post(self, path: str, body: bytes | str = b"", **headers: str) -> Answer:
        """``body`` is XML, unless ``headers`` say another type."""
        return self("POST", path, body, **{"Content_Type": "application/xml", **headers})

    def close(self) -> None:
        self._connection.close()


class _Connection(http.client.HTTPConnection):
    def __init__(self, address: Address) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self._address = address

    def connect(self) -> None:
        self.sock = connect(self._address)


def connect(address: Address) -> socket.socket:
    if isinstance(address, Secure):
        context = ssl.create_default_context(cafile=address.certificate)
        plain = socket.create_connection(("127.0.0.1", address.port), timeout=PATIENCE)
        return context.wrap_socket(plain, server_hostname="localhost")
    if not isinstance(address, Path):
        return socket.create_connection(address, timeout=PATIENCE)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(PATIENCE)
    try:
        sock.connect(str(address))
    except OSError:
        sock.close()
        raise
    return sock


def free_port() -> int:
    """For servers that cannot choose one; another process may be quicker."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def basic(user: str, password: str) -> str:
    """The value of Authorization."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@contextmanager
def client(address: Address, **always: str) -> Iterator[Client]:
    """``always`` are headers of every request."""
    made = Client(address, **always)
    try:
        yield made
    finally:
        made.close()


def live(address: Address) -> bool:
    with client(address) as visitor:
        try:
            return visitor.get("/health/live").status == 200
        except OSError:
            return False


@contextmanager
def serving(
    site: Site,
    *module: str,
    address: Address,
    stop: int = signal.SIGTERM,
    status: int = 0,
    faults: int = 0,
) -> Iterator[Client]:
    """The Python ``module`` with its arguments serves the site at ``address``. Told
    to ``stop``, it must end with ``status``, and with it all that it started, and
    have logged just as many ``faults`` of its own as were meant."""
    _ = site.database  # it has its tables
    with open(site.home / "log", "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", *module],
            cwd=site.home,
            env=site.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            # Whoever runs the tests may ignore it, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    site.processes.append(process)
    wait_for(lambda: process.poll() is not None or live(address), "the server answers")
    assert process.poll() is None, site.log()
    with client(address) as visitor:
        yield visitor
    process.send_signal(stop)
    assert process.wait(timeout=PATIENCE) == status, site.log()
    left = [proc.command(pid) for pid in proc.beneath(site.home)]
    assert not left, f"left running: {left}"
    assert site.log().count("Traceback") == faults, site.log()
