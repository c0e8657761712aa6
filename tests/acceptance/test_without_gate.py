"""What meets malformed and costly requests where our own server does not: in other servers.

docs/secure.md tells what each of them limits.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.acceptance.servers import Address, Secure, client, connect, live, serving
from tests.acceptance.site import Site
from tests.acceptance.test_apache import inside, open_folder
from tests.acceptance.test_servers import APP

__all__ = ["inside", "open_folder"]  # fixtures

GUNICORN = ("--worker-class=gthread", "--threads=4", "--no-control-socket")
WAITRESS = ("--threads=4", "--max-request-header-size=16384")
SOON = 2.0  # seconds, on a machine that does much else; what is quadratic takes a minute
HEAD = b"GET /jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer x\r\n"
POST = HEAD.replace(b"GET", b"POST") + b"Content-Type: application/xml\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def _field(name: bytes, value: bytes) -> bytes:
    return HEAD + name + b":" + value + b"\r\nConnection: close\r\n\r\n"


ATTACKS = {
    "8 kB of blanks": _field(b"X", b" " * 8000 + b"x"),
    "60 kB of blanks": _field(b"X", b" " * 60_000 + b"x"),
    "blanks before a control": _field(b"X", b" " * 60_000 + b"\x0b"),
    "a cookie of letters": _field(b"Cookie", b"a" * 8000),
    "an Accept of types": _field(b"Accept", b"a/b;q=0.1," * 800),
    "a token and blanks": _field(b"Authorization", b"Bearer" + b" " * 8000 + b"\x80"),
    "thousands of fields": HEAD + b"X: a\r\n" * 10_000 + b"\r\n",
    "a long line": b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a trailer of blanks": CHUNKED + b"0\r\nX:" + b" " * 60_000 + b"\x0b\r\n\r\n",
    "thousands of trailers": CHUNKED + b"1\r\nx\r\n0\r\n" + b"X: a\r\n" * 10_000 + b"\r\n",
    "tiny chunks": CHUNKED + b"1\r\n \r\n" * 50_000 + b"0\r\n\r\n",
}


def _site(home: Path) -> Site:
    site = Site(home, f"sqlite:{home}/database.sqlite")
    site.set("web", listen=f"unix:{home}/socket")
    site.set("auth", required="yes")
    return site


@pytest.fixture(scope="module")
def gunicorn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    with closing(_site(tmp_path_factory.mktemp("gunicorn") / "site")) as site:
        address = site.home / "socket"
        command = ("gunicorn", *GUNICORN, f"--bind=unix:{address}", APP)
        with serving(site, *command, address=address):
            yield address


@pytest.fixture(scope="module")
def waitress(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    with closing(_site(tmp_path_factory.mktemp("waitress") / "site")) as site:
        address = site.home / "socket"
        command = ("waitress", f"--unix-socket={address}", *WAITRESS, APP)
        with serving(site, *command, address=address, stop=signal.SIGINT):
            yield address


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("server", ["gunicorn", "waitress", "mod_wsgi"])
def test_it_is_refused_or_answered_soon(
    request: pytest.FixtureRequest, server: str, name: str
) -> None:
    address: Address = (
        request.getfixturevalue("inside").server.address
        if server == "mod_wsgi"
        else request.getfixturevalue(server)
    )
    assert live(address)  # mod_wsgi starts the application when it is first asked
    begun = time.monotonic()
    answer = _exchange(address, ATTACKS[name])
    assert time.monotonic() - begun < SOON
    # Some break the connection off while it is still sent, and mod_wsgi answers 500 to a
    # trailer that Apache refuses.
    assert not answer or int(answer.split()[1]) >= 400, answer[:200]
    begun = time.monotonic()
    with client(address) as visitor:
        assert visitor.get("/health/live").status == 200
    assert time.monotonic() - begun < SOON


def _exchange(address: Address, data: bytes) -> bytes:
    """The beginning of the answer."""
    assert isinstance(address, Path | Secure)
    with connect(address) as sock, suppress(ConnectionResetError, BrokenPipeError):
        with suppress(ConnectionResetError, BrokenPipeError):
            sock.sendall(data)
        return sock.recv(65536)
    return b""
