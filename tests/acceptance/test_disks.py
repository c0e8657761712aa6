"""Disks that fill up, turn read-only or hold what nobody expected."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.disks import Disk, fill
from tests.acceptance.proc import wait_for
from tests.acceptance.site import Site
from tests.clips import Clips


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def used(folder: Path) -> int:
    status = os.statvfs(folder)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def one_encode(site: Site, attempts: int = 1) -> str:
    return site.recipe(
        "encode",
        f'<task name="encode" type="transcode" attempts="{attempts}" backoff="100ms">'
        '<input role="source"/><parameter name="profile">mp4-360</parameter></task>',
    )


def test_a_full_work_disk_fails_the_task_in_words_and_leaves_nothing(
    disk: Disk, site: Site, long_clip: Path, clips: Clips
) -> None:
    work = disk(site.work)
    name = one_encode(site)
    worker = site.start("scheduler", "worker")
    job = site.submit(name, site.source(long_clip))
    assert site.ended(job) == "failed"
    assert "disk is full" in site.message(job)
    assert used(work) < 20_000
    assert worker.poll() is None
    small = site.submit(name, site.source(clips["second.mp4"]))
    assert site.ended(small) == "succeeded"


def test_a_work_disk_without_any_room_fails_the_task_in_words(
    disk: Disk, site: Site, clips: Clips
) -> None:
    ballast = fill(disk(site.work, "100k"))
    name = one_encode(site)
    worker = site.start("scheduler", "worker")
    job = site.submit(name, site.source(clips["second.mp4"]))
    assert site.ended(job) == "failed"
    assert "full" in site.message(job) or "No space left" in site.message(job)
    ballast.unlink()
    assert worker.poll() is None
    remount(site.work, "size=10m")
    assert site.run("retry", str(job)).returncode == 0
    assert site.ended(job) == "succeeded"


@pytest.mark.parametrize("overlay", ["400k", "1500k"])
def test_a_full_target_fails_the_task_in_words_and_publishes_nothing(
    disk: Disk, site: Site, clips: Clips, overlay: str
) -> None:
    """Too small for the file, and too small for the second of two files."""
    target = disk(site.publish, overlay)
    big = site.media / "big.bin"
    big.write_bytes(os.urandom(1_000_000))
    second = site.media / "second.bin"
    second.write_bytes(os.urandom(1_000_000))
    name = site.put(attempts=1)
    worker = site.start("scheduler", "worker")
    job = site.submit(name, big, second)
    assert site.ended(job) == "failed"
    assert "the disk of target site is full" in site.message(job)
    assert list(target.iterdir()) == []
    assert worker.poll() is None
    small = site.submit(name, site.source(clips["second.mp4"]))
    assert site.ended(small) == "succeeded"


def test_room_made_in_time_lets_the_next_attempt_publish(
    disk: Disk, site: Site, clips: Clips
) -> None:
    ballast = fill(disk(site.publish, "1m"))
    site.start("scheduler", "worker")
    job = site.submit(site.put(attempts=20), site.source(clips["plain.mp4"]))
    wait_for(lambda: len(site.attempts(job)) > 1, "it is tried again")
    ballast.unlink()
    assert site.ended(job) == "succeeded"


def test_a_read_only_target_fails_the_task_in_words(disk: Disk, site: Site, clips: Clips) -> None:
    target = disk(site.publish)
    site.start("scheduler", "worker")
    site.started()
    remount(target, "ro")
    done = site.run("check")
    assert done.returncode == 1
    assert str(target) in done.stdout + done.stderr
    job = site.submit(site.put(attempts=1), site.source(clips["second.mp4"]))
    assert site.ended(job) == "failed"
    assert "target site" in site.message(job)
    assert "Read-only" in site.message(job)
    remount(target, "rw")
    assert site.run("retry", str(job)).returncode == 0
    assert site.ended(job) == "succeeded"


def test_a_target_that_is_not_mounted_is_said_in_words(site: Site, clips: Clips) -> None:
    site.set("target site", path=str(site.home.parent / "elsewhere"))
    site.start("scheduler", "worker")
    job = site.submit(site.put(attempts=1), site.source(clips["second.mp4"]))
    assert site.ended(job) == "failed"
    assert "elsewhere" in site.message(job)
    assert not (site.home.parent / "elsewhere").exists()


def test_a_full_log_disk_does_not_keep_work_from_going_on(
    disk: Disk, site: Site, clips: Clips
) -> None:
    logs = disk(site.logs, "40k")
    fill(logs)
    site.start("scheduler", "worker")
    job = site.submit("web-video", site.source(clips["plain.mp4"]))
    assert site.ended(job) == "succeeded", site.message(job)


def test_a_log_disk_that_fills_up_does_not_keep_work_from_going_on(disk: Disk, site: Site) -> None:
    disk(site.logs, "40k")
    name = site.command("talks", 'n=0; while [ $n -lt 5000 ]; do n=$((n+1)); echo "line $n"; done')
    site.start("scheduler", "worker")
    job = site.submit(name)
    assert site.ended(job) == "succeeded", site.message(job)


def test_a_full_disk_of_the_database_is_said_in_words_and_work_resumes(
    disk: Disk, site: Site, clips: Clips
) -> None:
    folder = disk(site.home / "db", "3m")
    site.set("database", uri=f"sqlite:{folder}/database.sqlite")
    name = site.put()
    source = site.source(clips["second.mp4"])
    worker = site.start("scheduler", "worker")
    assert site.ended(site.submit(name, source)) == "succeeded"
    ballast = fill(folder)
    refused = site.run("submit", name, str(source), "--title", "x" * 500)
    while refused.returncode == 0:  # there was room in the log yet
        site.accepted.append(int(refused.stdout))
        fill(folder)
        refused = site.run("submit", name, str(source), "--title", "x" * 500)
    assert refused.returncode == 4
    assert "full" in refused.stderr
    assert "Traceback" not in refused.stderr
    ballast.unlink()
    job = site.submit(name, source)
    assert site.ended(job) == "succeeded"
    assert {site.ended(one) for one in site.accepted} == {"succeeded"}
    assert worker.poll() is None


def test_a_file_larger_than_allowed_is_not_written(site: Site, long_clip: Path) -> None:
    site.set("limits", output="200K")
    site.start("scheduler", "worker")
    job = site.submit(one_encode(site), site.source(long_clip))
    assert site.ended(job) == "failed"
    assert "[limits] output" in site.message(job)


def test_what_is_there_with_other_content_is_not_overwritten(site: Site, clips: Clips) -> None:
    source = site.source(clips["second.mp4"])
    place = site.publish / "ep" / source.name
    place.parent.mkdir()
    place.write_text("another's")
    site.start("scheduler", "worker")
    job = site.submit(site.put(), source, key="ep")
    assert site.ended(job) == "failed"
    assert "already there with other content" in site.message(job)
    assert len(site.attempts(job)) == 1  # a retry would not help
    assert place.read_text() == "another's"
    place.unlink()


def test_what_is_there_with_the_same_content_is_adopted(site: Site, clips: Clips) -> None:
    source = site.source(clips["second.mp4"])
    place = site.publish / "ep" / source.name
    place.parent.mkdir()
    place.write_bytes(source.read_bytes())
    before = place.stat()
    site.start("scheduler", "worker")
    job = site.submit(site.put(), source, key="ep")
    assert site.ended(job) == "succeeded"
    assert place.stat().st_ino == before.st_ino
    assert site.published(job) == [place]


def test_a_source_that_vanished_is_said_in_words(site: Site, clips: Clips) -> None:
    source = site.source(clips["plain.mp4"])
    job = site.submit("web-video", source)
    source.unlink()
    site.start("scheduler", "worker")
    assert site.ended(job) == "failed"
    assert "plain.mp4" in site.message(job)
    assert "No such file" in site.message(job)


@pytest.mark.parametrize("size", [10_000, 10_000_000])
def test_a_source_that_shrank_or_grew_is_said_in_words(site: Site, clips: Clips, size: int) -> None:
    source = site.source(clips["plain.mp4"])
    job = site.submit("web-video", source)
    os.truncate(source, size)
    site.start("scheduler", "worker")
    assert site.ended(job) == "failed"
    assert "has changed" in site.message(job)


def test_a_source_that_changes_while_it_is_published_does_not_get_out(
    site: Site, clips: Clips
) -> None:
    """Its checksum was taken before."""
    source = site.source(clips["plain.mp4"])
    name = site.recipe(
        "checked",
        '<task name="checksum" type="checksum"><input role="source"/></task>'
        '<task name="publish" type="publish" needs="checksum" attempts="1" delay="300ms">'
        '<input role="source"/><parameter name="target">site</parameter></task>',
    )
    job = site.submit(name, source)
    site.start("scheduler", "worker")
    wait_for(lambda: site.task(job, "checksum").state == "succeeded", "it is checked")
    with open(source, "r+b") as stream:
        stream.seek(5000)
        stream.write(b"changed")
    assert site.ended(job) == "failed"
    assert "has changed" in site.message(job)
    assert site.published() == []


def test_a_watch_folder_that_hangs_holds_up_nothing_else(site: Site, clips: Clips) -> None:
    """A mount whose server never speaks: who asks for it sleeps."""
    hung, good = site.media / "hung", site.media / "good"
    site.put()
    for folder in (hung, good):
        folder.mkdir()
        site.set(f"watch {folder.name}", folder=str(folder), workflow="put", quiet="0s")
    site.start("scheduler", "worker")

    def taken(count: int) -> None:
        wait_for(lambda: len(site.rows("SELECT id FROM job")) == count, "it is taken", 10)
        site.accepted = [row[0] for row in site.rows("SELECT id FROM job")]
        assert {site.ended(job) for job in site.accepted} == {"succeeded"}

    site.source(clips["second.mp4"], "hung/first.mp4")
    taken(1)
    with mute(hung):
        since = len(site.log())
        site.source(clips["second.mp4"], "good/second.mp4")
        taken(2)
        assert site.run("jobs").returncode == 0  # the settings can be read
        assert site.state(site.accepted[0]) == "succeeded"
        assert "fault" not in site.log()[since:]
        site.processes[0].terminate()
        assert site.processes[0].wait(timeout=5) == 0
    site.start("scheduler")


@contextlib.contextmanager
def mute(folder: Path) -> Iterator[None]:
    try:
        server = os.open("/dev/fuse", os.O_RDWR)
    except OSError as error:
        pytest.skip(f"no FUSE here: {error.strerror}")
    options = f"fd={server},rootmode=40000,user_id=0,group_id=0"
    command = ["mount", "-i", "-t", "fuse", "-o", options, "mute", str(folder)]
    done = subprocess.run(command, pass_fds=[server], capture_output=True, text=True, check=False)
    if done.returncode:
        os.close(server)
        pytest.skip(f"cannot mount FUSE here: {done.stderr.strip()}")
    try:
        yield
    finally:
        os.close(server)  # that ends the mount: whoever sleeps wakes up
        subprocess.run(["umount", "-l", str(folder)], check=True)
