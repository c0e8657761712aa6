"""What real processes count of real work, and that it never goes down."""

from __future__ import annotations

import signal
import subprocess
from datetime import timedelta

from prometheus_client.parser import text_string_to_metric_families

from backoffice.scheduler import retention
from backoffice.web.app import make_app
from tests.acceptance.proc import wait_for
from tests.acceptance.site import Site
from tests.clips import Clips
from tests.middleware import wsgi

Figures = dict[tuple[str, tuple[str, ...]], float]


def figures(site: Site) -> Figures:
    """What Prometheus is told, by name and the values of labels."""
    answer = wsgi.call(make_app(site.settings), path="/metrics", HTTP_HOST="localhost")
    assert answer.status == 200, answer.text
    return {
        (sample.name, tuple(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def counts(found: Figures) -> Figures:
    """Of them what may only go up."""
    ends = ("_total", "_bucket", "_count", "_sum")
    return {
        key: value
        for key, value in found.items()
        if key[0].startswith("backoffice_") and key[0].endswith(ends)
    }


def once(site: Site, name: str, otherwise: str, **attributes: str) -> str:
    """A task that does well but for the first time."""
    mark = site.home / name
    return site.command(name, f"test -e {mark} || {{ touch {mark}; {otherwise}; }}", **attributes)


def work(site: Site, clips: Clips) -> None:
    """One publishes and has one attempt that fails, one loses its worker."""
    fails = once(site, "fails", "exit 1", attempts="2", backoff="100ms")
    dies = once(site, "dies", "sleep 60")
    put = site.put()
    worker = site.start("scheduler", "worker")
    assert site.ended(site.submit(fails)) == "succeeded"
    assert site.ended(site.submit(put, site.source(clips["plain.mp4"]))) == "succeeded"
    stop(worker)
    worker = site.start("worker")
    lost = site.submit(dies)
    wait_for((site.home / "dies").exists, "the task runs")
    site.kill(worker)
    site.start("worker")
    assert site.ended(lost) == "succeeded"
    site.stop()


def stop(worker: subprocess.Popen[bytes]) -> None:
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=20) == 0


def test_what_happened_is_counted_and_never_forgotten(either_site: Site, clips: Clips) -> None:
    site = either_site
    work(site, clips)
    first = figures(site)
    # Labels in the order of their names: outcome, type; outcome, target.
    assert first["backoffice_attempts_total", ("failed", "command")] == 1
    assert first["backoffice_attempts_total", ("lost", "command")] == 1
    assert first["backoffice_attempts_total", ("succeeded", "command")] == 2
    assert first["backoffice_attempt_duration_seconds_count", ("failed", "command")] == 1
    assert first["backoffice_leases_lost_total", ()] == 1
    assert first["backoffice_publishes_total", ("succeeded", "site")] == 1
    assert first["backoffice_jobs", ("succeeded",)] == 3
    assert first["backoffice_scheduler_last_tick_timestamp_seconds", ()] > 0

    retention.prune(site.database, site.settings, timedelta(0))
    site.accepted.clear()
    worker = site.start("worker")
    assert site.ended(site.submit("put", site.source(clips["plain.mp4"], "new.mp4"))) == "succeeded"
    stop(worker)
    then = figures(site)
    assert then["backoffice_jobs", ("succeeded",)] == 1
    assert then["backoffice_publishes_total", ("succeeded", "site")] == 2
    assert {key: value for key, value in counts(first).items() if then[key] < value} == {}
