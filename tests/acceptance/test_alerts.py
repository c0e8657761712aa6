"""What goes wrong is told by real schedulers, each once, whoever does not listen."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.acceptance.proc import wait_for
from tests.acceptance.site import Site
from tests.receivers import KEY, Hook, serving


@pytest.fixture
def ops() -> Iterator[Hook]:
    with serving(Hook()) as hook:
        yield hook


@pytest.fixture
def deaf() -> Iterator[Hook]:
    """Takes what it is sent, and never answers."""
    with serving(Hook()) as hook:
        hook.speak.clear()
        yield hook


def told(hook: Hook) -> Counter[str]:
    return Counter(json.loads(body)["type"] for _, body in hook.heard)


def sent(site: Site) -> int:
    return int(site.rows("SELECT COUNT(*) FROM event WHERE action = 'alert.sent'")[0][0])


def test_what_goes_wrong_is_told_once_by_two_schedulers_though_a_receiver_hangs(
    maria_site: Site, ops: Hook, deaf: Hook
) -> None:
    site = maria_site
    site.set("notify", secret=KEY, timeout="60s")
    site.set("limits", disk_free="9999T")  # so that a disk is low
    site.set("alert ops", type="webhook", url=ops.url, every="1s")
    site.set("alert deaf", type="slack", url=deaf.url)
    name = site.command("sleeps", "sleep 60", timeout="500ms", attempts="1")
    schedulers = [site.start("scheduler"), site.start("scheduler")]
    worker = site.start("worker")
    wait_for(lambda: site.rows("SELECT COUNT(*) FROM alert") == [(8,)], "alerts are known")
    job = site.submit(name)
    assert site.ended(job) == "failed"
    wait_for(lambda: sent(site) == 3, "all is told")
    assert told(ops) == {"disk.low": 1, "task.stalled": 1, "job.failed": 1}
    for scheduler in schedulers:
        scheduler.terminate()
        assert scheduler.wait(timeout=10) == 0  # no receiver holds it up
    again = site.submit(name)
    assert site.ended(again) == "failed"
    site.kill(worker)
    site.start("scheduler")
    wait_for(lambda: sent(site) == 6, "what happened meanwhile is told")
    assert told(ops) == {"disk.low": 1, "task.stalled": 2, "job.failed": 2, "worker.lost": 1}
    assert any(f"process {worker.pid} on ".encode() in body for _, body in ops.heard)
    assert deaf.heard
    assert "between us" not in site.log()
    assert "KEY" not in site.log()
