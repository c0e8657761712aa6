"""Up, and ready: or not, and why."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from lxml import etree

from middleware.health import CHECK_TIMEOUT, Health
from tests.middleware.wsgi import call, hello


class Site:
    """What a test says of its readiness, by a clock of its own."""

    def __init__(self, *reasons: str) -> None:
        self.reasons: Any = reasons
        self.now = 0.0
        self.asked = 0
        self.health = Health(hello, checks=self.check, clock=lambda: self.now)

    def check(self) -> Any:
        self.asked += 1
        if isinstance(self.reasons, Exception):
            raise self.reasons
        return self.reasons

    def ready(self, **more: Any) -> int:
        return call(self.health, path="/health/ready", **more).status


def test_it_lives_whatever_the_checks_say() -> None:
    site = Site("no database")
    assert call(site.health, path="/health/live").text == "ok\n"
    assert site.asked == 0


def test_it_is_ready_when_there_is_no_reason_against() -> None:
    assert Site().ready() == 200


def test_it_is_not_and_says_why() -> None:
    site = Site("the database is away", "no queue")
    answer = call(site.health, path="/health/ready", HTTP_ACCEPT="application/json")
    assert answer.status == 503
    told = json.loads(answer.body)
    assert told["detail"] == "the database is away; no queue"
    assert [error["message"] for error in told["errors"]] == list(site.reasons)
    assert answer.headers["Retry-After"]


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
@pytest.mark.parametrize(
    ("suffix", "accept", "media_type"),
    [
        ("", None, "text/plain"),
        ("", "*/*", "text/plain"),
        ("", "text/html", "text/plain"),
        ("", "application/json", "application/json"),
        ("", "application/xml", "application/xml"),
        (".json", "application/xml", "application/json"),
        (".xml", None, "application/xml"),
    ],
)
def test_the_answer_has_the_format_that_is_asked_for(
    path: str, suffix: str, accept: str | None, media_type: str
) -> None:
    answer = call(Site().health, path=path + suffix, HTTP_ACCEPT=accept)
    assert (answer.headers["Content-Type"] or "").split(";")[0] == media_type
    assert answer.headers["Cache-Control"] == "no-store"
    told = {
        "text/plain": bytes.strip,
        "application/json": json.loads,
        "application/xml": lambda body: etree.fromstring(body).text,
    }[media_type](answer.body)
    assert told in (b"ok", "ok", {"status": "ok"})


def test_head_has_no_body_and_other_methods_are_refused() -> None:
    assert call(Site().health, "HEAD", "/health/ready").body == b""
    answer = call(Site().health, "POST", "/health/ready", b"x")
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", ["/", "/health", "/health/", "/health/live/", "/health/ready.txt"])
def test_other_paths_are_the_business_of_the_app(path: str) -> None:
    assert call(Site().health, path=path).text == "Hello\n"


def test_the_checks_run_once_a_second() -> None:
    site = Site()
    statuses = [site.ready()]
    site.reasons = ("away",)
    for seconds in (0.0, 0.9, 0.1, 0.5):
        site.now += seconds
        statuses.append(site.ready())
    assert (statuses, site.asked) == ([200, 200, 200, 503, 503], 2)


def test_a_failure_of_the_checks_is_a_reason_and_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    site = Site()
    site.reasons = ConnectionError("mysql://root:secret@db")
    answer = call(site.health, path="/health/ready")
    assert answer.status == 503
    assert "ConnectionError" in answer.text
    assert "secret" not in answer.text
    assert caplog.records[0].exc_info


def test_a_check_that_hangs_holds_up_one_request_alone() -> None:
    running, go_on = threading.Event(), threading.Event()
    site = Site()

    def hangs() -> list[str]:
        running.set()
        go_on.wait(30)
        return []

    assert site.ready() == 200
    site.health.checks = hangs
    site.now += 1
    other = threading.Thread(target=site.ready)
    other.start()
    try:
        assert running.wait(30)
        assert site.ready() == 200  # what was said last
        site.now += CHECK_TIMEOUT + 1
        answer = call(site.health, path="/health/ready")
        assert "have not answered for 6 s" in answer.text
    finally:
        go_on.set()
        other.join()
    assert site.ready() == 200


def test_the_route_is_known_to_metrics() -> None:
    given: dict[str, Any] = {}

    def outer(environ: Any, start_response: Any) -> Any:
        given.update(environ)
        result = site.health(environ, start_response)
        given.update(environ)
        return result

    site = Site()
    call(outer, path="/health/live.xml")
    assert given["middleware.route"] == "/health/live"
