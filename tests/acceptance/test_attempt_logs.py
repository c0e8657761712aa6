"""Logs of noisy attempts: bounded, and whole at their end."""

from __future__ import annotations

import re
from pathlib import Path

from tests.acceptance.proc import wait_for
from tests.acceptance.site import Site

LIMIT = 256 << 10
NOISE = (
    'echo begun; yes "[mpeg2video] ac-tex damaged at 12 3" | head -c {size}; echo; echo "{last}"'
)
LONG = 180.0


def log_of(site: Site, job: int) -> tuple[Path, int]:
    query = (
        "SELECT a.log, a.log_size FROM attempt a JOIN task t ON t.id = a.task_id WHERE t.job_id = ?"
    )
    ((log, size),) = site.rows(query, job)
    return Path(log), size


def test_a_noisy_commands_log_is_bounded_and_tells_its_end(site: Site) -> None:
    site.set("limits", log="256K")
    loud = site.command("loud", NOISE.format(size=30_000_000, last="the last word"))
    calm = site.command("calm", "echo calm")
    site.start("scheduler", "worker")
    noisy = site.submit(loud)
    site.running(noisy, "run")
    assert site.ended(site.submit(calm), LONG) == "succeeded"
    assert site.state(noisy) == "running", "the worker is not slowed, or the noise was short"
    assert site.ended(noisy, LONG) == "succeeded"
    log, size = log_of(site, noisy)
    assert size == log.stat().st_size <= LIMIT + 300
    assert [one.name for one in log.parent.iterdir()] == [log.name]
    lines = log.read_text().splitlines()
    assert any(line.endswith(" begun") for line in lines[:5])
    assert any(line.endswith(" the last word") for line in lines[-5:])
    (left_out,) = re.findall(r"^\[([0-9]+) bytes were left out here", log.read_text(), re.M)
    assert int(left_out) > 30_000_000
    assert len(site.attempts(noisy)) == 1
    (task,) = site.rows("SELECT id FROM task WHERE job_id = ?", noisy)
    assert site.run("log", str(task[0])).stdout.splitlines()[-2:] == lines[-2:]


def test_the_log_of_a_killed_attempt_has_its_end(site: Site) -> None:
    site.set("limits", log="256K")
    script = NOISE.format(size=2_000_000, last="the last word") + "; touch said; sleep 600"
    site.start("scheduler", "worker")
    job = site.submit(site.command("loud", script, attempts="1", timeout="1h"))
    wait_for(lambda: list(site.work.rglob("said")), "all is said", LONG)
    assert site.run("cancel", str(job)).returncode == 0
    assert site.ended(job, LONG) == "cancelled"
    log, size = log_of(site, job)
    assert size == log.stat().st_size <= LIMIT + 300
    assert " the last word\n" in log.read_text()
