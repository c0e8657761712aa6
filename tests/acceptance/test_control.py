"""Jobs, queues and workers under control, seen from outside."""

from __future__ import annotations

import concurrent.futures
import signal
import time
from pathlib import Path

import pytest

from backoffice.data.database import Database
from backoffice.engine.submission import submit
from tests.acceptance import proc
from tests.acceptance.proc import wait_for
from tests.acceptance.site import Site
from tests.clips import Clips


def sleeper(site: Site, name: str = "sleeper", seconds: float = 300, **attributes: str) -> str:
    """A task that goes on until it is told to stop, and says that it lives."""
    script = f"n=0; while [ $n -lt {int(seconds * 10)} ]; do n=$((n+1)); echo $n; sleep 0.1; done"
    return site.command(name, script, **attributes)


def ordered(site: Site, **attributes: str) -> str:
    """Tasks that write into a file in which order they ran."""
    name = attributes.pop("name", "ordered")
    return site.command(name, f"echo $PWD >> {site.home}/order", **attributes)


def order(site: Site) -> list[int]:
    """Jobs in the order in which they ran."""
    path = site.home / "order"
    lines = path.read_text().splitlines() if path.exists() else []
    return [int(Path(line).parent.name) for line in lines]


def command(site: Site, *arguments: str, status: int = 0) -> str:
    done = site.run(*arguments)
    assert done.returncode == status, done.stderr
    return done.stdout


# Cancel, pause, retry


def test_a_cancelled_transcode_is_gone_in_five_seconds_with_all_it_made(
    either_site: Site, long_clip: Path
) -> None:
    site = either_site
    job = site.submit("transcode", site.source(long_clip), parameters={"profile": "mp4-360"})
    worker = site.start("scheduler", "worker")
    ffmpeg = site.encoding()
    command(site, "cancel", str(job))
    asked = time.monotonic()
    wait_for(lambda: not proc.alive(ffmpeg), "ffmpeg is gone", 5)
    assert site.ended(job) == "cancelled"
    assert time.monotonic() - asked < 5
    assert worker.poll() is None
    assert not (site.work / "jobs" / str(job)).exists()


def test_a_command_that_ignores_term_is_killed_when_cancelled(site: Site) -> None:
    name = site.command("stubborn", "trap '' TERM\nwhile :; do sleep 1; done")
    job = site.submit(name)
    site.start("scheduler", "worker")
    site.running(job, "run")
    command(site, "cancel", str(job))
    asked = time.monotonic()
    assert site.ended(job) == "cancelled"
    assert time.monotonic() - asked < 5


def test_cancel_of_a_queued_job_needs_no_worker(site: Site) -> None:
    job = site.submit(sleeper(site))
    command(site, "cancel", str(job))
    assert site.state(job) == "cancelled"


def test_a_paused_job_finishes_what_runs_and_starts_nothing_until_resumed(site: Site) -> None:
    site.command("one", f"while [ ! -e {site.home}/go ]; do echo; sleep 0.05; done")
    site.recipe(
        "pair",
        '<task name="first" type="command"><parameter name="command">one</parameter></task>'
        '<task name="second" type="noop" needs="first"/>',
        inputs="",
    )
    bystander = site.command("other", "echo")
    job = site.submit("pair")
    site.start("scheduler", "worker")
    site.running(job, "first")
    command(site, "pause", str(job))
    (site.home / "go").touch()
    wait_for(lambda: site.task(job, "first").state == "succeeded", "the running one finishes")
    other = site.submit(bystander)
    assert site.ended(other) == "succeeded"  # the worker had time to look
    assert site.state(job) == "paused"
    assert site.task(job, "second").state == "blocked"
    command(site, "resume", str(job))
    assert site.ended(job) == "succeeded"


def test_retry_goes_on_from_what_failed_and_keeps_what_was_made(
    either_site: Site, clips: Clips
) -> None:
    site = either_site
    site.command("gate", f"test -e {site.home}/open")
    site.recipe(
        "gated",
        '<task name="encode" type="transcode"><input role="source"/>'
        '<parameter name="profile">mp4-360</parameter></task>'
        '<task name="gate" type="command" needs="encode" attempts="1">'
        '<parameter name="command">gate</parameter></task>'
        '<task name="publish" type="publish" needs="gate"><input task="encode"/>'
        '<parameter name="target">site</parameter></task>',
    )
    job = site.submit("gated", site.source(clips["plain.mp4"]))
    site.start("scheduler", "worker")
    assert site.ended(job) == "failed"
    assert "gate" in site.message(job)
    (made,) = site.work.glob("jobs/*/encode-1/*.mp4")
    before = made.stat()
    (site.home / "open").touch()
    command(site, "retry", str(job))
    assert site.ended(job) == "succeeded"
    assert made.stat() == before or made.stat().st_ino == before.st_ino
    assert site.task(job, "encode").attempt == 1
    assert site.task(job, "gate").attempt == 2
    assert len(site.published(job)) == 1


# Stopping workers


def test_term_lets_short_work_finish_and_takes_nothing_new(site: Site) -> None:
    name = sleeper(site, "short", 1)
    worker = site.start("scheduler", "worker")
    site.set("worker", slots="1")
    first = site.submit(name)
    site.running(first, "run")
    worker.send_signal(signal.SIGTERM)
    late = site.submit(name)
    assert worker.wait(timeout=10) == 0
    assert site.state(first) == "succeeded"
    assert site.attempts(late) == []
    assert site.rows("SELECT state FROM worker") == [("stopped",)]
    site.start("worker")
    assert site.ended(late) == "succeeded"


def test_term_hands_long_work_back_within_the_grace_time(either_site: Site) -> None:
    site = either_site
    site.set("worker", grace="1s")
    name = sleeper(site, attempts="1")
    worker = site.start("scheduler", "worker")
    job = site.submit(name)
    site.running(job, "run")
    worker.send_signal(signal.SIGTERM)
    began = time.monotonic()
    assert worker.wait(timeout=10) == 0
    assert 0.9 < time.monotonic() - began < 4.5
    assert site.task(job, "run").state == "ready"
    site.start("worker")
    wait_for(lambda: site.task(job, "run").attempt == 2, "another takes it", 10)
    command(site, "cancel", str(job))
    assert site.ended(job) == "cancelled"
    assert [a.state for a in site.attempts(job)] == ["released", "cancelled"]


def test_a_second_term_hands_work_back_at_once(site: Site) -> None:
    site.set("worker", grace="60s")
    worker = site.start("scheduler", "worker")
    job = site.submit(sleeper(site))
    site.running(job, "run")
    worker.send_signal(signal.SIGTERM)
    wait_for(lambda: "worker.stopping" in site.log(), "it has heard")
    began = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=10) == 0
    assert time.monotonic() - began < 4
    assert site.task(job, "run").state == "ready"
    command(site, "cancel", str(job))


def test_a_drained_worker_finishes_and_ends(site: Site) -> None:
    job = site.submit(sleeper(site, "short", 1))
    worker = site.start("scheduler", "worker")
    site.running(job, "run")
    command(site, "worker", "drain", "1")
    late = site.submit("short")
    assert worker.wait(timeout=10) == 0
    assert site.state(job) == "succeeded"
    assert site.attempts(late) == []
    assert site.rows("SELECT state FROM worker") == [("stopped",)]
    command(site, "cancel", str(late))


def test_a_task_beyond_its_time_limit_is_stopped_and_tried_again(site: Site) -> None:
    name = site.command(
        "slow",
        f"[ -e {site.home}/again ] && exit 0\ntouch {site.home}/again\nsleep 300",
        timeout="1s",
        attempts="2",
        backoff="100ms",
    )
    site.start("scheduler", "worker")
    job = site.submit(name)
    assert site.ended(job) == "succeeded"
    first, second = site.attempts(job)
    assert (first.state, second.state) == ("failed", "succeeded")
    assert "time limit of 1 s" in first.message


# What runs next


def test_priority_up_and_down_changes_what_runs_next(either_site: Site) -> None:
    site = either_site
    site.set("worker", slots="1")
    name = ordered(site)
    jobs = [site.submit(name) for _ in range(4)]
    command(site, "priority", str(jobs[3]), "--to", "10")
    command(site, "priority", str(jobs[0]), "--to", "90")
    site.start("scheduler", "worker")
    assert {site.ended(job) for job in jobs} == {"succeeded"}
    assert order(site) == [jobs[3], jobs[1], jobs[2], jobs[0]]


def test_a_queues_limit_holds_over_two_workers(either_site: Site) -> None:
    site = either_site
    site.set("worker", slots="3")
    script = (
        f"mkdir {site.home}/in.$$; ls -d {site.home}/in.* | wc -l >> {site.home}/seen;"
        f" sleep 0.3; rmdir {site.home}/in.$$"
    )
    name = site.command("counted", script, queue="narrow")
    jobs = [site.submit(name) for _ in range(8)]
    command(site, "queue", "limit", "narrow", "2")
    site.start("scheduler", "worker", "worker")
    assert {site.ended(job) for job in jobs} == {"succeeded"}
    seen = [int(line) for line in (site.home / "seen").read_text().split()]
    assert max(seen) == 2


def test_a_paused_queue_rests_until_resumed_and_says_why(site: Site) -> None:
    name = site.command("quiet", "echo", queue="resting")
    other = site.submit(site.command("other", "echo"))
    job = site.submit(name)
    command(site, "queue", "pause", "resting")
    site.start("scheduler", "worker")
    assert site.ended(other) == "succeeded"
    assert site.attempts(job) == []
    assert "paused" in command(site, "why", str(job))
    command(site, "queue", "resume", "resting")
    assert site.ended(job) == "succeeded"


def test_a_task_waits_for_a_worker_with_its_tags(site: Site) -> None:
    job = site.submit(site.command("special", "echo", tags="gpu"))
    other = site.submit(site.command("plain", "echo"))
    site.start("scheduler", "worker")
    assert site.ended(other) == "succeeded"
    assert site.attempts(job) == []
    assert "gpu" in command(site, "why", str(job))
    site.start("worker", BACKOFFICE_WORKER_TAGS="gpu big")
    assert site.ended(job) == "succeeded"
    assert site.attempts(job)[0].worker == 2


def test_a_worker_of_one_queue_leaves_the_others_alone(site: Site) -> None:
    site.set("worker", queues="mine*")
    theirs = site.submit(site.command("theirs", "echo", queue="yours"))
    mine = site.submit(site.command("ours", "echo", queue="mine-too"))
    site.start("scheduler", "worker")
    assert site.ended(mine) == "succeeded"
    assert site.attempts(theirs) == []
    command(site, "cancel", str(theirs))


def test_a_delayed_job_starts_when_its_time_has_come(site: Site) -> None:
    site.start("scheduler", "worker")
    job = site.submit(site.command("later", "echo"), delay=1.0)
    assert site.task(job, "run").state == "scheduled"
    assert site.ended(job) == "succeeded"
    ((waited,),) = site.rows(
        "SELECT (julianday(started) - julianday(submitted)) * 86400 FROM job WHERE id = ?", job
    )
    assert 1.0 <= waited < 4


def test_fifty_submits_with_one_key_make_one_job(either_site: Site) -> None:
    site = either_site
    name = site.command("once", "echo")
    prepared = site.prepare(name, key="ep-001")
    _ = site.database

    def once(_: int) -> tuple[int, bool]:
        database = Database(site.settings.database)
        try:
            return database.transact(submit, prepared, "tester")
        finally:
            database.close()

    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        made = list(pool.map(once, range(50)))
    assert len({job for job, _ in made}) == 1
    assert sum(new for _, new in made) == 1
    site.start("worker")
    assert site.ended(made[0][0]) == "succeeded"


# What starts by itself


def test_a_file_in_a_watch_folder_becomes_one_job(either_site: Site, clips: Clips) -> None:
    site = either_site
    folder = site.media / "incoming"
    folder.mkdir()
    site.put()
    site.set(
        "watch incoming",
        folder=str(folder),
        workflow="put",
        quiet="1s",
        pattern="*.mp4",
    )
    site.start("scheduler", "scheduler", "worker")
    data = clips["plain.mp4"].read_bytes()
    with open(folder / "grows.mp4", "wb") as stream:
        # It grows for longer than it would have to be quiet.
        for part in range(12):
            stream.write(data[part * len(data) // 12 : (part + 1) * len(data) // 12])
            stream.flush()
            until = time.monotonic() + 0.2
            wait_for(lambda until=until: time.monotonic() > until, "a moment")
            assert site.rows("SELECT id FROM job") == []
    wait_for(lambda: site.rows("SELECT id FROM job"), "it is taken", 10)
    site.accepted = [row[0] for row in site.rows("SELECT id FROM job")]
    assert [site.ended(job) for job in site.accepted] == ["succeeded"]
    (there,) = site.published()
    assert there.read_bytes() == data
    # Both schedulers have looked again, and a second file is a second job.
    site.source(clips["silent.mp4"], "incoming/second.mp4")
    wait_for(lambda: len(site.rows("SELECT id FROM job")) >= 2, "the second is taken", 10)
    site.accepted = [row[0] for row in site.rows("SELECT id FROM job")]
    assert [site.ended(job) for job in site.accepted] == ["succeeded"] * 2


def test_a_due_schedule_fires_once_with_two_schedulers(either_site: Site) -> None:
    site = either_site
    site.command("nightly", "echo")
    site.set("schedule night", cron="0 0 1 1 *", workflow="nightly")
    site.start("scheduler", "scheduler", "worker")
    wait_for(lambda: site.rows("SELECT name FROM schedule"), "the schedule is known")
    site.do(lambda s: s.execute("UPDATE schedule SET next_run = '2020-01-01 00:00:00'"))
    wait_for(lambda: site.rows("SELECT id FROM job"), "it fires")
    site.accepted = [row[0] for row in site.rows("SELECT id FROM job")]
    assert [site.ended(job) for job in site.accepted] == ["succeeded"]
    ((run,),) = site.rows("SELECT next_run FROM schedule")
    assert str(run) > "2026"
    site.stop()
    assert len(site.rows("SELECT id FROM job")) == 1
    assert "scheduler.fault" not in site.log()


def test_two_schedulers_and_two_workers_run_each_task_once(either_site: Site) -> None:
    site = either_site
    name = site.recipe(
        "many",
        "".join(f'<task name="t{n}" type="noop" delay="{n % 3}00ms"/>' for n in range(10)),
        inputs="",
    )
    site.start("scheduler", "scheduler", "worker", "worker")
    jobs = [site.submit(name) for _ in range(10)]
    assert {site.ended(job) for job in jobs} == {"succeeded"}
    assert [a for job in jobs for a in site.attempts(job) if a.state != "succeeded"] == []
    assert all(t.attempt == 1 for job in jobs for t in site.tasks(job).values())


# The service


@pytest.mark.parametrize("part", ["worker", "scheduler"])
def test_the_service_replaces_a_part_that_was_killed(site: Site, part: str) -> None:
    name = site.command("well", "echo")
    service = site.start("serve")
    site.started()
    (victim,) = parts(service.pid, part)
    proc.kill(victim)
    wait_for(lambda: parts(service.pid, part) not in ([], [victim]), "it is replaced", 10)
    job = site.submit(name, delay=0.2)
    assert site.ended(job) == "succeeded"
    service.send_signal(signal.SIGTERM)
    assert service.wait(timeout=15) == 0


def test_the_parts_end_when_the_service_is_killed(either_site: Site) -> None:
    site = either_site
    site.set("worker", grace="1s")
    service = site.start("serve")
    job = site.submit(sleeper(site))
    site.running(job, "run")
    site.kill(service)
    wait_for(lambda: not proc.beneath(site.home), "every process has ended", 10)
    assert site.task(job, "run").state == "ready"
    site.start("serve")
    wait_for(lambda: site.task(job, "run").attempt == 2, "it is taken again")
    command(site, "cancel", str(job))
    assert site.ended(job) == "cancelled"


def test_the_service_stops_in_good_order_and_hands_work_back(either_site: Site) -> None:
    site = either_site
    site.set("worker", grace="1s")
    job = site.submit(sleeper(site))
    service = site.start("serve")
    site.running(job, "run")
    service.send_signal(signal.SIGTERM)
    assert service.wait(timeout=10) == 0
    assert proc.beneath(site.home) == []
    assert site.task(job, "run").state == "ready"
    assert site.rows("SELECT state FROM worker") == [("stopped",)]
    command(site, "cancel", str(job))
    assert [a.state for a in site.attempts(job)] == ["released"]


def parts(service: int, name: str) -> list[int]:
    return [pid for pid in proc.children(service) if proc.command(pid)[-1:] == [name]]
