"""Webhooks: told once the work is done, told again until they are heard."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest

from tests.acceptance.proc import wait_for
from tests.acceptance.site import Site
from tests.clips import Clips


class Receiver:
    """Answers with each of ``answers`` in turn, then with 204."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.heard: list[tuple[dict[str, str], bytes]] = []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.heard.append((dict(self.headers), body))
                self.send_response(receiver.answers.pop(0) if receiver.answers else 204)
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()


def told(site: Site) -> str:
    """A workflow that publishes and then tells somebody."""
    return site.recipe(
        "told",
        '<task name="publish" type="publish"><input role="source"/>'
        '<parameter name="target">site</parameter></task>'
        '<task name="notify" type="notify" needs="publish" backoff="100ms" attempts="4">'
        '<parameter name="url" from="notify"/></task>',
        inputs='<input role="source"/><parameter name="notify" type="url" required="true"/>',
    )


def test_a_notice_is_sent_again_until_it_is_heard(
    either_site: Site, receiver: Receiver, clips: Clips
) -> None:
    site = either_site
    site.set("notify", secret="between us")
    receiver.answers = [500, 503]
    site.start("scheduler", "worker")
    source = site.source(clips["second.mp4"])
    job = site.submit(told(site), source, parameters={"notify": receiver.url})
    assert site.ended(job) == "succeeded"
    assert len(receiver.heard) == 3
    assert site.task(job, "publish").attempt == 1
    assert site.rows("SELECT status FROM delivery ORDER BY id") == [(500,), (503,), (204,)]
    assert all(b"between us" not in body for _, body in receiver.heard)


def test_a_notice_nobody_hears_fails_without_taking_the_publication_back(
    site: Site, clips: Clips
) -> None:
    site.start("scheduler", "worker")
    source = site.source(clips["second.mp4"])
    job = site.submit(told(site), source, parameters={"notify": "http://127.0.0.1:9/hook"})
    assert site.ended(job) == "failed"
    assert "notify" in site.message(job)
    assert len(site.rows("SELECT id FROM delivery")) == 4
    assert len(site.published(job)) == 1


def test_a_worker_killed_between_publication_and_notice_publishes_once_and_tells(
    either_site: Site, receiver: Receiver, clips: Clips
) -> None:
    site = either_site
    job = site.submit(
        told(site), site.source(clips["second.mp4"]), parameters={"notify": receiver.url}
    )
    worker = site.start("scheduler", "worker", hold="backoffice.tasks.notify:run:before")
    site.held()
    site.kill(worker)
    assert site.task(job, "publish").state == "succeeded"
    assert receiver.heard == []
    site.start("worker")
    assert site.ended(job) == "succeeded"
    assert len(receiver.heard) == 1
    assert site.task(job, "publish").attempt == 1
    wait_for(lambda: not site.ffmpegs(), "nothing is left", 2)
