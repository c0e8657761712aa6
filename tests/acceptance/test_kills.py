"""kill -9 at random moments, again and again: every job succeeds, nothing is
published twice, and no ffmpeg is left."""

from __future__ import annotations

import random
import subprocess
import time
from pathlib import Path

import pytest

from tests.acceptance import proc
from tests.acceptance.proc import wait_for
from tests.acceptance.site import Site

MANY = pytest.param(20, marks=[pytest.mark.slow, pytest.mark.timeout(900)])
PARAMETERS = {"profile": "mp4-360", "target": "site"}


def until(moment: float) -> None:
    wait_for(lambda: time.monotonic() >= moment, "the moment comes")


def one_round(site: Site, source: Path, number: int) -> int:
    return site.submit("transcode", source, parameters=PARAMETERS, key=f"round-{number}")


def how_long(site: Site, source: Path) -> float:
    """Seconds that a job takes when nobody kills anything."""
    began = time.monotonic()
    assert site.ended(one_round(site, source, 0)) == "succeeded"
    return time.monotonic() - began


def check(site: Site, rounds: int) -> None:
    assert {site.ended(job) for job in site.accepted} == {"succeeded"}
    assert len(site.published()) == rounds + 1
    events = site.rows("SELECT COUNT(*) FROM event WHERE action = 'publication.published'")
    assert events == [(rounds + 1,)]
    wait_for(lambda: not site.ffmpegs(), "no ffmpeg is left", 2)


def kill_and_replace(site: Site, part: str, rounds: int, source: Path) -> None:
    if part == "worker":
        site.start("scheduler")
    process = site.start(part)
    usual = how_long(site, source)
    for number in range(1, rounds + 1):
        moment = time.monotonic() + random.uniform(0, usual)
        job = one_round(site, source, number)
        until(moment)
        site.kill(process)
        wait_for(lambda: not site.ffmpegs(), "no ffmpeg outlives it", 2)
        process = site.start(part)
        assert site.ended(job) == "succeeded"
    check(site, rounds)


@pytest.mark.parametrize("rounds", [2, MANY])
def test_a_worker_killed_at_any_moment(either_site: Site, medium_clip: Path, rounds: int) -> None:
    kill_and_replace(either_site, "worker", rounds, either_site.source(medium_clip))


@pytest.mark.parametrize("rounds", [2, MANY])
def test_the_service_killed_at_any_moment(site: Site, medium_clip: Path, rounds: int) -> None:
    site.set("worker", grace="1s")
    kill_service(site, rounds, site.source(medium_clip))


def kill_service(site: Site, rounds: int, source: Path) -> None:
    """Its parts are told by the kernel, and have the grace time to end."""
    service = site.start("serve")
    usual = how_long(site, source)
    for number in range(1, rounds + 1):
        moment = time.monotonic() + random.uniform(0, usual)
        job = one_round(site, source, number)
        until(moment)
        site.kill(service)
        wait_for(lambda: not proc.beneath(site.home), "all of it ends", 10)
        service = site.start("serve")
        assert site.ended(job) == "succeeded"
    check(site, rounds)


@pytest.mark.parametrize("victim", ["attempt", "ffmpeg"])
@pytest.mark.parametrize("rounds", [2, MANY])
def test_what_a_worker_runs_killed_at_any_moment(
    site: Site, medium_clip: Path, victim: str, rounds: int
) -> None:
    worker = site.start("scheduler", "worker")
    source = site.source(medium_clip)
    usual = how_long(site, source)
    killed = 0
    for number in range(1, rounds + 1):
        moment = time.monotonic() + random.uniform(0, usual)
        job = one_round(site, source, number)
        until(moment)
        for pid in site.ffmpegs() if victim == "ffmpeg" else attempts(worker):
            proc.kill(pid)
            killed += 1
        assert site.ended(job) == "succeeded"
    assert worker.poll() is None
    assert killed or rounds < 20
    check(site, rounds)


def attempts(worker: subprocess.Popen[bytes]) -> list[int]:
    return proc.children(worker.pid)
