"""Webhooks: told once the work is done, told again until they are heard."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from standardwebhooks import Webhook

from tests.acceptance.proc import wait_for
from tests.acceptance.site import Site
from tests.clips import Clips
from tests.receivers import HERE, KEY, Hook, serving


@pytest.fixture
def hook() -> Iterator[Hook]:
    with serving(Hook()) as server:
        yield server


def listened_to(site: Site) -> Site:
    """The site, with keys to sign with, and receivers of this host allowed."""
    site.set("notify", secret=KEY, hosts=HERE)
    return site


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
    either_site: Site, hook: Hook, clips: Clips
) -> None:
    site = listened_to(either_site)
    hook.answers = [500, 503]
    site.start("scheduler", "worker")
    source = site.source(clips["second.mp4"])
    job = site.submit(told(site), source, parameters={"notify": hook.url})
    assert site.ended(job) == "succeeded"
    assert len(hook.heard) == 3
    assert site.task(job, "publish").attempt == 1
    assert site.rows("SELECT status FROM delivery ORDER BY id") == [(500,), (503,), (204,)]
    assert all(Webhook(KEY).verify(body, headers) for headers, body in hook.heard)


def test_a_notice_nobody_hears_fails_without_taking_the_publication_back(
    site: Site, clips: Clips
) -> None:
    listened_to(site).start("scheduler", "worker")
    source = site.source(clips["second.mp4"])
    job = site.submit(told(site), source, parameters={"notify": "http://127.0.0.1:9/hook"})
    assert site.ended(job) == "failed"
    assert "notify" in site.message(job)
    assert len(site.rows("SELECT id FROM delivery")) == 4
    assert len(site.published(job)) == 1


def test_a_worker_killed_between_publication_and_notice_publishes_once_and_tells(
    either_site: Site, hook: Hook, clips: Clips
) -> None:
    site = listened_to(either_site)
    job = site.submit(told(site), site.source(clips["second.mp4"]), parameters={"notify": hook.url})
    worker = site.start("scheduler", "worker", hold="backoffice.tasks.notify:run:before")
    site.held()
    site.kill(worker)
    assert site.task(job, "publish").state == "succeeded"
    assert hook.heard == []
    site.start("worker")
    assert site.ended(job) == "succeeded"
    assert len(hook.heard) == 1
    assert site.task(job, "publish").attempt == 1
    wait_for(lambda: not site.ffmpegs(), "nothing is left", 2)
