"""Processes killed and stopped at every awkward moment (kill -9, SIGSTOP)."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from pathlib import Path

from backoffice.engine import jobs
from backoffice.scheduler.target_sweep import EVERY as SWEEP_EVERY
from backoffice.system import processes
from tests.acceptance import proc
from tests.acceptance.proc import wait_for
from tests.acceptance.site import LEASE, POLL, Site
from tests.clips import Clips, ffmpeg

# From the end of a lease to the new attempt: two looks of the scheduler, one of
# the worker, and room for a busy machine.
SOON = LEASE + 2 * POLL + 4


def killed_at(site: Site, job: int, hold: str) -> float:
    """Kill a worker, and all its processes, where it is held; when that was."""
    worker = site.start("scheduler", "worker", hold=hold)
    site.held()
    site.kill(worker)
    wait_for(lambda: not site.ffmpegs(), "no ffmpeg is left", 2)
    return time.monotonic()


def test_a_kill_before_the_claim_commits_leaves_the_task_ready(
    either_site: Site, clips: Clips
) -> None:
    site = either_site
    job = site.submit(site.put(), site.source(clips["plain.mp4"]))
    worker = site.start("worker", hold="backoffice.engine.claims:claim:after")
    site.held()
    site.kill(worker)
    wait_for(lambda: site.task(job, "publish").state == "ready", "it is ready", 5)
    assert site.attempts(job) == []
    site.start("scheduler", "worker")
    assert site.ended(job) == "succeeded"
    assert site.task(job, "publish").attempt == 1


def test_a_kill_after_the_claim_gives_the_task_back_when_the_lease_has_ended(
    either_site: Site, clips: Clips
) -> None:
    site = either_site
    job = site.submit(site.put(attempts=1), site.source(clips["plain.mp4"]))
    since = killed_at(site, job, "backoffice.workers.running:RunningAttempts.start:before")
    site.start("worker")
    wait_for(lambda: site.task(job, "publish").attempt == 2, "another runs it")
    assert LEASE / 3 < time.monotonic() - since < SOON
    assert site.ended(job) == "succeeded"
    assert [a.state for a in site.attempts(job)] == ["lost", "succeeded"]


def test_no_ffmpeg_outlives_its_killed_worker(either_site: Site, long_clip: Path) -> None:
    site = either_site
    job = site.submit("transcode", site.source(long_clip), parameters={"profile": "mp4-360"})
    worker = site.start("scheduler", "worker")
    ffmpeg = site.encoding()
    site.kill(worker)
    wait_for(lambda: not proc.alive(ffmpeg), "ffmpeg is gone", 2)
    site.start("worker")
    assert site.ended(job) == "succeeded"
    assert [a.state for a in site.attempts(job) if a.task == "transcode"] == ["lost", "succeeded"]


def test_a_killed_attempt_is_run_again_at_once_and_costs_no_retry(
    either_site: Site, long_clip: Path
) -> None:
    site = either_site
    job = site.submit("transcode", site.source(long_clip), parameters={"profile": "mp4-360"})
    site.start("scheduler", "worker")
    ffmpeg = site.encoding()
    (attempt,) = (pid for pid in proc.beneath(site.home) if ffmpeg in proc.children(pid))
    proc.kill(attempt)
    wait_for(lambda: not proc.alive(ffmpeg), "ffmpeg is gone", 2)
    assert site.ended(job) == "succeeded"
    task = site.task(job, "transcode")
    assert (task.attempt, task.losses) == (2, 1)


def test_a_killed_ffmpeg_is_run_again(site: Site, long_clip: Path) -> None:
    job = site.submit("transcode", site.source(long_clip), parameters={"profile": "mp4-360"})
    site.start("scheduler", "worker")
    proc.kill(site.encoding())
    assert site.ended(job) == "succeeded"
    lost, done = (a for a in site.attempts(job) if a.task == "transcode")
    assert (lost.state, done.state) == ("lost", "succeeded")
    assert "SIGKILL" in lost.message


def test_a_kill_after_ffmpeg_and_before_the_outcome_makes_one_output(
    either_site: Site, clips: Clips
) -> None:
    site = either_site
    parameters = {"profile": "mp4-360", "target": "site"}
    job = site.submit("transcode", site.source(clips["plain.mp4"]), parameters=parameters)
    # The probe's outcome is the first; the transcode's is what matters here.
    killed_at(site, job, "backoffice.workers.executors.results:_measured:before")
    site.start("worker")
    assert site.ended(job) == "succeeded"
    assert site.task(job, "transcode").attempt == 2
    assert len(list(site.work.glob("jobs/*/*/*.mp4"))) == 1
    assert len(site.published(job)) == 1


def test_what_was_renamed_before_the_kill_is_adopted(either_site: Site, clips: Clips) -> None:
    site = either_site
    source = site.source(clips["plain.mp4"])
    job = site.submit(site.put(), source)
    killed_at(site, job, "backoffice.publishers.folder:FolderPublisher._place_all:after")
    (there,) = (p for p in site.publish.rglob("*.mp4") if ".backoffice" not in str(p))
    first = there.stat().st_ino
    site.start("worker")
    assert site.ended(job) == "succeeded"
    assert there.stat().st_ino == first
    assert site.published(job) == [there]


def test_a_kill_in_the_midst_of_a_copy_leaves_nothing_at_the_final_name(
    either_site: Site, clips: Clips
) -> None:
    site = either_site
    job = site.submit(site.put(), site.source(clips["plain.mp4"]))
    killed_at(site, job, "backoffice.publishers.folder:_Copier.verify:before")
    assert [p for p in site.publish.iterdir() if not p.name.startswith(".backoffice-")] == []
    site.start("worker")
    assert site.ended(job) == "succeeded"
    assert len(site.published(job)) == 1


def test_what_a_killed_attempt_staged_goes_when_its_job_was_cancelled(
    either_site: Site, clips: Clips
) -> None:
    site = either_site
    job = site.submit(site.put(), site.source(clips["plain.mp4"]))
    since = killed_at(site, job, "backoffice.publishers.folder:_Copier.verify:before")
    assert list(site.publish.iterdir())
    site.do(jobs.cancel, job, "tester")
    assert site.ended(job) == "cancelled"
    wait_for(lambda: not list(site.publish.iterdir()), "the target is clean", 2 * POLL + 2)
    assert time.monotonic() - since < SOON


def test_what_a_stopped_attempt_staged_goes_with_its_process(site: Site, clips: Clips) -> None:
    job = site.submit(site.put(), site.source(clips["plain.mp4"]))
    hold = "backoffice.publishers.folder:FolderPublisher._place_all:before"
    stopped = site.start("scheduler", "worker", hold=hold)
    attempt = site.held()
    proc.kill(stopped.pid, signal.SIGSTOP)
    site.do(jobs.cancel, job, "tester")
    assert site.ended(job) == "cancelled"
    assert len(list(site.publish.iterdir())) == 1  # its process might go on
    proc.kill(attempt, signal.SIGCONT)
    wait_for(lambda: not proc.alive(attempt), "it ends itself", 2)
    proc.kill(stopped.pid, signal.SIGCONT)
    wait_for(lambda: not list(site.publish.iterdir()), "the target is clean", SWEEP_EVERY + 2)


def test_a_kill_after_the_publication_was_recorded_runs_nothing_again(
    either_site: Site, clips: Clips
) -> None:
    site = either_site
    name = site.recipe(
        "two",
        '<task name="publish" type="publish"><input role="source"/>'
        '<parameter name="target">site</parameter></task>'
        '<task name="after" type="noop" needs="publish"/>',
    )
    job = site.submit(name, site.source(clips["plain.mp4"]))
    worker = site.start(
        "scheduler", "worker", hold="backoffice.workers.outbox:Outbox.delivered:before"
    )
    site.held()
    # Each turn with the database comes by here: on to that of the publishing.
    while site.task(job, "publish").state != "succeeded":
        (site.home / "held").unlink()
        proc.kill(worker.pid, signal.SIGCONT)
        site.held()
    site.kill(worker)
    site.start("worker")
    assert site.ended(job) == "succeeded"
    assert site.task(job, "publish").attempt == 1
    events = site.rows("SELECT COUNT(*) FROM event WHERE action = 'publication.published'")
    assert events == [(1,)]


def test_a_worker_stopped_past_its_lease_changes_nothing_when_it_goes_on(
    either_site: Site, long_clip: Path
) -> None:
    site = either_site
    parameters = {"profile": "mp4-360", "target": "site"}
    job = site.submit("transcode", site.source(long_clip), parameters=parameters)
    stopped = site.start("scheduler", "worker")
    ffmpeg = site.encoding()
    proc.kill(stopped.pid, signal.SIGSTOP)
    wait_for(lambda: not proc.alive(ffmpeg), "its ffmpeg ends before the lease does", LEASE)
    assert site.task(job, "transcode").attempt == 1
    site.start("worker")
    wait_for(lambda: site.task(job, "transcode").attempt == 2, "another has it")
    proc.kill(stopped.pid, signal.SIGCONT)
    assert site.ended(job) == "succeeded"
    assert [a.state for a in site.attempts(job) if a.task == "transcode"] == ["lost", "succeeded"]


def test_an_attempt_stopped_just_before_it_publishes_does_not_publish_after_its_lease(
    either_site: Site, clips: Clips
) -> None:
    site = either_site
    job = site.submit(site.put(), site.source(clips["plain.mp4"]))
    stopped = site.start(
        "scheduler",
        "worker",
        hold="backoffice.publishers.folder:FolderPublisher._place_all:before",
    )
    attempt = site.held()
    proc.kill(stopped.pid, signal.SIGSTOP)
    site.start("worker")
    assert site.ended(job) == "succeeded"
    (there,) = site.published(job)
    status = there.stat()
    proc.kill(attempt, signal.SIGCONT)
    wait_for(lambda: not proc.alive(attempt), "it ends itself", 2)
    proc.kill(stopped.pid, signal.SIGCONT)
    wait_for(lambda: "lease.ended" in site.log() or "not-ours" in site.log(), "it knows", 5)
    assert there.stat().st_ino == status.st_ino
    assert [a.state for a in site.attempts(job)] == ["lost", "succeeded"]


def test_a_stopped_ffmpeg_is_taken_for_a_stall_and_tried_again(site: Site, long_clip: Path) -> None:
    name = site.recipe(
        "stalls",
        '<task name="encode" type="transcode" stall="3s" backoff="100ms"><input role="source"/>'
        '<parameter name="profile">mp4-360</parameter></task>',
    )
    job = site.submit(name, site.source(long_clip))
    site.start("scheduler", "worker")
    ffmpeg = site.encoding()
    wait_for(lambda: site.task(job, "encode").progress > 0, "there is progress")
    proc.kill(ffmpeg, signal.SIGSTOP)
    wait_for(lambda: not proc.alive(ffmpeg), "the stalled ffmpeg is gone", 10)
    assert site.ended(job) == "succeeded"
    first, second = site.attempts(job)
    assert (first.state, second.state) == ("failed", "succeeded")
    assert "stalled" in first.message


def test_a_command_that_ends_well_with_too_little_is_a_failure(site: Site, clips: Clips) -> None:
    """An ffmpeg in front of the real one that leaves off after one second."""
    fake = site.home / "ffmpeg-short"
    fake.write_text(
        '#!/bin/sh\nfor last; do :; done\ncase "$*" in\n*libx264*) eval "set -- \\"\\$@\\"";'
        ' n=$#; i=0; for a; do i=$((i+1)); shift; [ $i -eq $n ] && set -- "$@" -t 1;'
        ' set -- "$@" "$a"; done;;\nesac\nexec ffmpeg "$@"\n'
    )
    fake.chmod(0o755)
    site.set("tools", ffmpeg=str(fake))
    name = site.recipe(
        "short",
        '<task name="encode" type="transcode" attempts="1"><input role="source"/>'
        '<parameter name="profile">mp4-360</parameter></task>',
    )
    job = site.submit(name, site.source(clips["plain.mp4"]))
    site.start("scheduler", "worker")
    assert site.ended(job) == "failed"
    assert "1" in site.message(job)
    assert "4" in site.message(job)


def test_a_task_that_kills_its_worker_every_time_is_set_aside_and_others_flow(
    site: Site,
) -> None:
    deadly = site.command("deadly", "kill -9 $(cut -d' ' -f4 /proc/$PPID/stat)")
    good = site.command("good", "echo well > result")
    site.set("worker", lease="1s", heartbeat="0.3s", slots="2")
    site.start("scheduler")
    workers = [site.start("worker")]
    bad = site.submit(deadly)
    others = [site.submit(good, priority=60) for _ in range(5)]

    def ended() -> bool:
        if workers[-1].poll() is not None:
            assert len(workers) < 8
            workers.append(site.start("worker"))
        return site.state(bad) == "failed"

    wait_for(ended, "it is set aside", 60)
    assert "set aside" in site.message(bad)
    assert [a.state for a in site.attempts(bad)] == ["lost"] * 5
    site.start("worker")
    # Also the neighbour that was lost with it, again and again at first.
    assert {site.ended(job) for job in others} == {"succeeded"}


def test_too_little_memory_is_a_failure_in_words_and_the_worker_lives(
    site: Site, clips: Clips
) -> None:
    site.set("limits", memory="160M")
    name = site.recipe(
        "big",
        '<task name="encode" type="transcode" attempts="1"><input role="source"/>'
        '<parameter name="profile">mp4-1080</parameter></task>',
    )
    source = site.source(clips["plain.mp4"])
    job = site.submit(name, source)
    worker = site.start("scheduler", "worker")
    assert site.ended(job) == "failed"
    assert "memory" in site.message(job)
    assert worker.poll() is None
    assert site.ended(site.submit(site.put(), source)) == "succeeded"


def test_an_encoder_that_runs_out_of_memory_is_a_failure_in_words(site: Site) -> None:
    source = site.media / "large.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=1920x1080:rate=25:duration=1", str(source))
    site.set("limits", memory="340M")
    name = site.recipe(
        "big",
        '<task name="probe" type="probe"><input role="source"/></task>'
        '<task name="encode" type="transcode" attempts="1" needs="probe"><input role="source"/>'
        '<parameter name="profile">mp4-1080</parameter></task>',
    )
    job = site.submit(name, source)
    worker = site.start("scheduler", "worker")
    assert site.ended(job) == "failed"
    assert site.task(job, "probe").state == "succeeded"
    assert "memory" in site.task(job, "encode").message
    assert worker.poll() is None


def test_grandchildren_end_with_their_task_even_in_a_session_of_their_own(site: Site) -> None:
    name = site.command(
        "family", "sleep 300 &\nsetsid sleep 301 &\n(setsid sleep 302 &)\necho done > result"
    )
    worker = site.start("scheduler", "worker")
    job = site.submit(name)
    assert site.ended(job) == "succeeded"
    wait_for(
        lambda: not [p for p in proc.beneath(site.home) if proc.command(p)[:1] == ["sleep"]],
        "no grandchild is left",
        5,
    )
    wait_for(
        lambda: all(proc.state(pid) != "Z" for pid in proc.children(worker.pid)),
        "there are no zombies",
        5,
    )


def test_grandchildren_end_when_their_task_runs_into_its_time_limit(site: Site) -> None:
    name = site.command("family", "setsid sleep 301 &\nsleep 300", timeout="1s", attempts="1")
    site.start("scheduler", "worker")
    job = site.submit(name)
    assert site.ended(job) == "failed"
    assert "time limit" in site.message(job)
    wait_for(
        lambda: not [p for p in proc.beneath(site.home) if proc.command(p)[:1] == ["sleep"]],
        "no grandchild is left",
        5,
    )


def test_what_a_killed_worker_left_behind_is_ended_by_the_next(site: Site) -> None:
    name = site.command("daemon", "setsid sleep 301 &\nsleep 300", attempts="1")
    worker = site.start("scheduler", "worker")
    job = site.submit(name)

    def sleeping() -> list[int]:
        return [p for p in proc.beneath(site.home) if proc.command(p) == ["sleep", "301"]]

    wait_for(sleeping, "the grandchild runs")
    site.do(jobs.cancel, job, "tester")
    site.kill(worker)
    site.start("worker")
    wait_for(lambda: not sleeping(), "the stray is gone", 5)
    assert site.ended(job) == "cancelled"


def test_a_stranger_with_a_dead_workers_process_id_is_never_signalled(site: Site) -> None:
    """The mark of a worker that is gone names a process id that is now a
    stranger's, and the stranger itself bears no mark."""
    stranger = sleeper("")
    here = processes.mark(stranger.pid).split(":")[0]
    marked = sleeper(f"{here}:{stranger.pid}:1:another-boot")
    elsewhere = sleeper(f"pid[1]:{stranger.pid}:1:another-boot")
    try:
        site.start("worker")
        site.started()
        wait_for(lambda: marked.poll() is not None, "what the dead worker left is ended", 10)
        assert stranger.poll() is None
        assert elsewhere.poll() is None  # a container's: who knows whether its worker lives?
    finally:
        for process in (stranger, marked, elsewhere):
            process.kill()
            process.wait()


def sleeper(mark: str) -> subprocess.Popen[bytes]:
    environ = {"PATH": os.environ["PATH"]} | ({"BO_WORKER": mark} if mark else {})
    return subprocess.Popen(["sleep", "300"], env=environ)


def test_a_task_of_a_type_that_a_worker_does_not_know_fails_and_the_worker_goes_on(
    either_site: Site, clips: Clips
) -> None:
    site = either_site
    job = site.submit(site.put(), site.source(clips["plain.mp4"]))
    site.do(lambda store: store.execute("UPDATE task SET type = 'magic'", noresult=True))
    worker = site.start("scheduler", "worker")
    assert site.ended(job) == "failed"
    assert "there is no task type 'magic'" in site.message(job)
    assert site.ended(site.submit("put", site.source(clips["plain.mp4"]))) == "succeeded"
    assert worker.poll() is None


def test_a_worker_that_can_start_no_process_tries_again_and_goes_on(
    site: Site, clips: Clips
) -> None:
    worker = site.start("scheduler", "worker")
    site.started()
    few, many = resource.prlimit(worker.pid, resource.RLIMIT_NOFILE)
    there = max(int(p.name) for p in Path(f"/proc/{worker.pid}/fd").iterdir())
    resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (there + 1, many))
    job = site.submit(site.put(), site.source(clips["plain.mp4"]))
    wait_for(lambda: site.attempts(job) and site.attempts(job)[0].finished, "it was tried")
    assert "no process can be started" in site.attempts(job)[0].message
    resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (few, many))
    assert site.ended(job) == "succeeded"
    assert worker.poll() is None
