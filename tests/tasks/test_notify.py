"""Notifications over a real socket."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from backoffice import webhooks
from backoffice.errors import TaskFailed
from backoffice.tasks import Publication, notify
from tests.tasks.context import FakeContext, make_context, settings


class Receiver(ThreadingHTTPServer):
    """Answers with ``status`` and keeps what it was sent."""

    daemon_threads = True
    status = 204
    received: list[tuple[str, dict[str, str], bytes]]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Receiver)
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        server.received.append((self.path, headers, body))
        self.send_response(server.status)
        self.send_header("location", "/other")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Tests are quiet."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver(("127.0.0.1", 0), Handler)
    server.received = []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def context(folder: Path, url: str, secret: str = "s3cret") -> FakeContext:
    given = settings(folder, notify={"secret": secret, "timeout": 2.0})
    found = make_context(folder, settings=given, url=url)
    found.publications = [Publication(3, "site", "ep/hls", "ab", True)]
    return found


def test_the_message_is_signed(tmp_path: Path, receiver: Receiver) -> None:
    result = notify.run(context(tmp_path, receiver.url))
    path, headers, body = receiver.received[0]
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    digest = hmac.new(b"s3cret", signed, hashlib.sha256).digest()
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"
    assert path == "/hook"
    assert [(d.url, d.status) for d in result.deliveries] == [(receiver.url, 204)]
    data = json.loads(body)["data"]
    assert data["workflow"] == "test"
    assert data["publications"][0]["path"] == "ep/hls"


def test_attempts_share_an_id(tmp_path: Path, receiver: Receiver) -> None:
    run = context(tmp_path, receiver.url)
    notify.run(run)
    notify.run(replace(run, attempt=2))
    assert len({headers["webhook-id"] for _, headers, _ in receiver.received}) == 1


def test_without_a_secret_there_is_no_signature(tmp_path: Path, receiver: Receiver) -> None:
    notify.run(context(tmp_path, receiver.url, secret=""))
    assert "webhook-signature" not in receiver.received[0][1]


def test_a_secret_in_the_specifications_form_is_base64() -> None:
    plain = webhooks.sign(b"x", "a", 1, "key")
    assert webhooks.sign(b"x", "a", 1, f"whsec_{base64.b64encode(b'key').decode()}") == plain


@pytest.mark.parametrize(
    ("status", "retry"),
    [(500, True), (503, True), (408, True), (429, True), (400, False), (410, False), (302, False)],
)
def test_a_refusal_is_recorded_and_tried_again_if_that_may_help(
    tmp_path: Path, receiver: Receiver, status: int, retry: bool
) -> None:
    receiver.status = status
    with pytest.raises(notify.DeliveryFailed) as caught:
        notify.run(context(tmp_path, receiver.url))
    assert caught.value.retry is retry
    assert [d.status for d in caught.value.deliveries] == [status]
    assert len(receiver.received) == 1


def test_nobody_there_is_told_and_tried_again(tmp_path: Path) -> None:
    with pytest.raises(notify.DeliveryFailed, match="could not be reached") as caught:
        notify.run(context(tmp_path, "http://127.0.0.1:1/"))
    assert caught.value.retry
    assert caught.value.deliveries[0].status == 0


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://a/", "http://", "", "http://[/"])
def test_only_http_urls(tmp_path: Path, url: str) -> None:
    with pytest.raises(TaskFailed, match="no http or https URL") as caught:
        notify.run(context(tmp_path, url))
    assert not caught.value.retry


def test_the_secret_is_not_in_the_log(tmp_path: Path, receiver: Receiver) -> None:
    run = context(tmp_path, receiver.url)
    notify.run(run)
    assert "s3cret" not in "\n".join([*run.lines, *notify.plan(run).notes])
