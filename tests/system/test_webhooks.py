"""Webhooks over real sockets: signed, sent to the address that was looked at, and
left when their receiver is hostile."""

from __future__ import annotations

import base64
import itertools
import socket
import socketserver
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from backoffice.config import addresses, webhook_keys
from backoffice.config.addresses import HostRefused
from backoffice.system import webhooks
from tests.receivers import HERE, KEY, Hook, serving, signing_key

HOSTS = addresses.parse(HERE)


class _OnIPv6(Hook):
    address_family = socket.AF_INET6


def post(url: str, timeout: float = 5, hosts: addresses.Hosts = HOSTS) -> webhooks.Answer:
    return webhooks.post(url, b"{}", {}, timeout, hosts)


@pytest.fixture
def hook() -> Iterator[Hook]:
    with serving(Hook()) as server:
        yield server


# Signatures -------------------------------------------------------------------


def test_the_librarys_own_verifier_takes_a_signature_by_each_key() -> None:
    old, new = signing_key("old"), signing_key("new")
    headers = webhooks.sign(
        b'{"a":1}', "job-1", int(time.time()), webhook_keys.keys(f"{new} {old}")
    )
    for key in (old, new):
        assert Webhook(key).verify(b'{"a":1}', headers) == {"a": 1}
    assert len(headers["webhook-signature"].split()) == 2


@pytest.mark.parametrize("change", ["body", "webhook-id", "webhook-timestamp", "key"])
def test_the_librarys_own_verifier_refuses_what_was_changed(change: str) -> None:
    headers = webhooks.sign(b"{}", "job-1", int(time.time()), webhook_keys.keys(KEY))
    if change in headers:
        headers[change] = str(int(time.time()) + 1) if "time" in change else "job-2"
    key = signing_key("another") if change == "key" else KEY
    with pytest.raises(WebhookVerificationError):
        Webhook(key).verify(b"[]" if change == "body" else b"{}", headers)


@pytest.mark.parametrize("size", [0, 23, 65])
def test_a_key_that_is_too_short_or_too_long_is_refused(size: int) -> None:
    text = f"whsec_{base64.b64encode(b'k' * size).decode()}"
    with pytest.raises(ValueError, match="24 to 64 bytes"):
        webhook_keys.keys(f"{KEY} {text}")


# Where it goes ------------------------------------------------------------------


def test_a_message_arrives_with_the_name_and_the_password_of_its_url(hook: Hook) -> None:
    port = hook.server_address[1]
    url = f"http://me:p%40ss@localhost:{port}/a%20b/é?c=d e".replace(" ", "%20")
    answer = post(url, hosts=addresses.parse("127.0.0.1 ::1"))
    assert (answer.status, answer.message) == (204, "No Content")
    ((headers, _),) = hook.heard
    assert headers["host"] == f"localhost:{port}"
    assert headers["authorization"] == f"Basic {base64.b64encode(b'me:p@ss').decode()}"
    assert hook.targets == ["/a%20b/%C3%A9?c=d%20e"]


def test_an_ipv6_address_is_named_in_brackets() -> None:
    with serving(_OnIPv6("::1")) as hook:
        port = hook.server_address[1]
        assert post(f"http://[::1]:{port}/", hosts=addresses.parse("::1")).ok
        assert hook.heard[0][0]["host"] == f"[::1]:{port}"


@pytest.mark.parametrize(
    "host",
    [
        *"127.0.0.1 localhost 2130706433 0x7f.1 127.1 0177.0.0.1 [::1]".split(),
        *"[::ffff:127.0.0.1] 127。0。0。1 １２７.0.0.1 0.0.0.0 [::]".split(),
        "example.org@127.0.0.1",
        "example.org:80@127.0.0.1",
        "example.org\\@127.0.0.1",
    ],
)
def test_nothing_reaches_inside_by_any_spelling(hook: Hook, host: str) -> None:
    with pytest.raises(HostRefused):
        post(f"http://{host}:{hook.server_address[1]}/", hosts=addresses.parse("public"))
    assert hook.heard == []


class Names:
    """A DNS whose answers change: each question gets the next one."""

    def __init__(self, *answers: str) -> None:
        self.answers = itertools.chain(answers, itertools.repeat(answers[-1]))
        self.asked: list[str] = []
        self.real = socket.getaddrinfo

    def __call__(self, host: str, port: int, *args: Any, **kwargs: Any) -> Any:
        if host.replace(".", "").isdigit():
            return self.real(host, port, *args, **kwargs)
        self.asked.append(host)
        address = (next(self.answers), port)
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address)]


def test_a_name_that_changes_after_it_was_looked_at_changes_nothing(
    hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = hook.server_address[1]
    with serving(Hook("127.0.0.2", port)) as victim:
        names = Names("127.0.0.1", "127.0.0.2")
        monkeypatch.setattr(socket, "getaddrinfo", names)
        assert post(f"http://rebinding.example:{port}/").ok
        assert names.asked == ["rebinding.example"]
        assert (len(hook.heard), victim.heard) == (1, [])
        with pytest.raises(HostRefused):
            post(f"http://rebinding.example:{port}/")
        assert victim.heard == []


def test_a_redirection_is_not_followed(hook: Hook) -> None:
    hook.answers = [302]
    assert post(hook.url).status == 302
    assert len(hook.heard) == 1


def test_proxies_of_the_environment_are_not_used(
    hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(Hook()) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.server_address[1]}")
        assert post(hook.url).ok
        assert proxy.heard == []


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://127.0.0.1:1/", "it takes no connection"),
        ("http://nowhere.invalid/", "its name is not known"),
        (f"http://{'a' * 64}.example/", "its name is not known"),
    ],
)
def test_why_there_is_no_answer_is_told(url: str, message: str) -> None:
    answer = post(url)
    assert (answer.status, answer.message) == (0, message)


# TLS --------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Of hook.example, with its key, in one file."""
    path = tmp_path / "hook.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=hook.example"
        f" -addext subjectAltName=DNS:hook.example -keyout {path} -out {path}.crt"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    with open(path, "a") as stream:
        stream.write(Path(f"{path}.crt").read_text())
    return path


def test_tls_is_for_the_name_and_not_for_the_address(
    hook: Hook, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.sni_callback = lambda _, name, __: asked.append(name)
    hook.socket = context.wrap_socket(hook.socket, server_side=True)
    monkeypatch.setattr(socket, "getaddrinfo", Names("127.0.0.1"))
    port = hook.server_address[1]
    doubtful = post(f"https://hook.example:{port}/")
    assert (doubtful.status, doubtful.message) == (0, "its certificate is not valid")
    monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.crt")
    assert post(f"https://hook.example:{port}/").ok
    assert not post(f"https://other.example:{port}/").ok
    assert asked == ["hook.example", "hook.example", "other.example"]
    assert len(hook.heard) == 1


# Hostile receivers --------------------------------------------------------------


class Hostile(socketserver.ThreadingTCPServer):
    """Sends pieces without end, one after the other, with a pause between them."""

    daemon_threads = True

    def __init__(self, first: bytes, piece: bytes, pause: float) -> None:
        super().__init__(("127.0.0.1", 0), _Hostile)
        self.first, self.piece, self.pause = first, piece, pause
        self.ended = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"


class _Hostile(socketserver.BaseRequestHandler):
    server: Hostile

    def handle(self) -> None:
        try:
            self.request.sendall(self.server.first)
            while not self.server.ended.wait(self.server.pause):
                self.request.sendall(self.server.piece)
        except OSError:
            pass  # it was left


@pytest.mark.parametrize(
    ("first", "piece", "pause", "status"),
    [
        pytest.param(b"", b"H", 0.1, 0, id="a byte now and then"),
        pytest.param(b"HTTP/1.1 200 OK\r\n", b"a: b\r\n", 0.05, 0, id="headers without end"),
        pytest.param(b"HTTP/1.1 200 OK\r\na: ", b"b" * 65536, 0, 0, id="a header without end"),
        pytest.param(b"", b"HTTP/1.1 100 \r\n\r\n", 0.05, 0, id="promises without end"),
        pytest.param(b"SSH-2.0-x\r\n", b"", 60, 0, id="no HTTP"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", b"b" * 65536, 0, 200, id="a body without end"),
    ],
)
def test_a_hostile_receiver_is_left_in_time(
    first: bytes, piece: bytes, pause: float, status: int
) -> None:
    with serving(Hostile(first, piece, pause)) as hostile:
        answer = post(hostile.url, timeout=1)
        hostile.ended.set()
    assert answer.status == status
    assert answer.seconds < 10


def test_what_it_answers_is_not_told(hook: Hook) -> None:
    hook.answers, hook.words = [400], "<b>the password is hush</b>"
    answer = post(hook.url)
    assert (answer.status, answer.message) == (400, "Bad Request")
