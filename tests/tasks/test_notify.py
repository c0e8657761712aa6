"""Notifications over a real socket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from backoffice.config import addresses, webhook_keys
from backoffice.errors import Invalid, TaskFailed
from backoffice.tasks import Publication, notify
from tests.receivers import HERE, KEY, Hook, serving
from tests.tasks.context import FakeContext, make_context, settings


@pytest.fixture
def hook() -> Iterator[Hook]:
    with serving(Hook()) as server:
        yield server


def context(folder: Path, url: str, keys: str = KEY, hosts: str = HERE) -> FakeContext:
    configured = {
        "secret": webhook_keys.keys(keys),
        "hosts": addresses.parse(hosts),
        "timeout": 2.0,
    }
    found = make_context(folder, settings=settings(folder, notify=configured), url=url)
    found.publications = [Publication(3, "site", "ep/hls", "ab", True)]
    return found


def masked(hook: Hook) -> str:
    return f"http://127.0.0.1:{hook.server_address[1]}/…"


def test_the_message_is_signed_and_says_what_was_published(tmp_path: Path, hook: Hook) -> None:
    result = notify.run(context(tmp_path, hook.url))
    ((headers, body),) = hook.heard
    assert Webhook(KEY).verify(body, headers)["type"] == "job.notify"
    assert hook.targets == ["/hook/KEY"]
    assert [(d.url, d.status) for d in result.deliveries] == [(masked(hook), 204)]
    data = json.loads(body)["data"]
    assert data["workflow"] == "test"
    assert data["publications"][0]["path"] == "ep/hls"


def test_attempts_share_an_id(tmp_path: Path, hook: Hook) -> None:
    run = context(tmp_path, hook.url)
    notify.run(run)
    notify.run(replace(run, attempt=2))
    assert len({headers["webhook-id"] for headers, _ in hook.heard}) == 1


def test_without_a_key_nothing_is_sent(tmp_path: Path, hook: Hook) -> None:
    run = context(tmp_path, hook.url, keys="")
    with pytest.raises(TaskFailed, match=r"\[notify\] secret.* is not set") as caught:
        notify.run(run)
    assert not caught.value.retry
    with pytest.raises(Invalid, match=r"\[notify\] secret.* is not set"):
        notify.check(run.parameters, run.settings)
    assert hook.heard == []


def test_a_task_whose_url_was_left_out_needs_no_key(tmp_path: Path) -> None:
    notify.check({}, settings(tmp_path))


def test_a_host_that_is_not_allowed_is_sent_nothing_and_not_tried_again(
    tmp_path: Path, hook: Hook
) -> None:
    with pytest.raises(TaskFailed) as caught:
        notify.run(context(tmp_path, hook.url, hosts="public"))
    assert str(caught.value) == (
        f"nothing was sent to {masked(hook)}:"
        " its host is at an address that [notify] hosts does not allow"
    )
    assert not caught.value.retry
    assert hook.heard == []


@pytest.mark.parametrize(
    ("status", "retry"),
    [(500, True), (503, True), (408, True), (429, True), (400, False), (410, False), (302, False)],
)
def test_a_refusal_is_recorded_and_tried_again_if_that_may_help(
    tmp_path: Path, hook: Hook, status: int, retry: bool
) -> None:
    hook.answers = [status]
    with pytest.raises(notify.DeliveryFailed) as caught:
        notify.run(context(tmp_path, hook.url))
    assert caught.value.retry is retry
    assert [d.status for d in caught.value.deliveries] == [status]
    assert len(hook.heard) == 1


def test_a_closed_port_is_told_and_tried_again(tmp_path: Path) -> None:
    with pytest.raises(notify.DeliveryFailed, match="could not be reached") as caught:
        notify.run(context(tmp_path, "http://127.0.0.1:1/"))
    assert caught.value.retry
    assert caught.value.deliveries[0].status == 0


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://a/", "http://", "", "http://[/"])
def test_only_http_urls(tmp_path: Path, url: str) -> None:
    with pytest.raises(TaskFailed, match="no http or https URL") as caught:
        notify.run(context(tmp_path, url))
    assert not caught.value.retry


@pytest.mark.parametrize("status", [204, 302, 404, 500])
def test_neither_key_nor_url_nor_answer_is_told(tmp_path: Path, hook: Hook, status: int) -> None:
    hook.answers, hook.words = [status], "inside" if status != 204 else ""
    url = hook.url.replace("//", "//me:pass-word@") + "?token=quiet"
    run = context(tmp_path, url)
    told = [*notify.plan(run).notes]
    try:
        deliveries = notify.run(run).deliveries
    except notify.DeliveryFailed as error:
        deliveries = error.deliveries
        told.append(str(error))
    told += [*run.lines, *(f"{one.url} {one.message}" for one in deliveries)]
    for secret in ("between us", KEY, "pass-word", "quiet", "KEY", "inside"):
        assert secret not in "\n".join(told)
    assert masked(hook) in told[0]
