"""What users hand in by mistake, or to see what happens."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from backoffice.errors import Invalid
from tests.acceptance.proc import wait_for
from tests.acceptance.site import Site
from tests.clips import Clips, ffmpeg


def refused(site: Site, source: Path, task: str = "probe") -> str:
    """Run web-video on it; the message of the task that found the fault."""
    worker = site.start("scheduler", "worker")
    job = site.submit("web-video", source)
    assert site.ended(job) == "failed"
    assert site.published() == []
    assert list(site.publish.iterdir()) == []
    wait_for(lambda: not list(site.work.glob("jobs/*/*")), "nothing is left", 5)
    assert worker.poll() is None
    message = site.task(job, task).message
    assert message
    assert message in site.message(job)
    assert "Traceback" not in message
    assert len(message) < 300
    assert [a.state for a in site.attempts(job) if a.task == task] == ["failed"]
    return message


@pytest.mark.parametrize(
    ("clip", "words"),
    [
        ("text.mp4", "not a video"),
        ("empty.mp4", "0 bytes"),
        ("playlist.mp4", "playlist"),
        ("concat.mp4", "playlist"),
        ("headless.mp4", "incomplete"),
        ("sound.m4a", "no picture"),
        ("cover.m4a", "no picture"),
    ],
)
def test_what_is_no_whole_video_is_refused_by_the_probe_in_words(
    site: Site, clips: Clips, clip: str, words: str
) -> None:
    message = refused(site, site.source(clips[clip]))
    assert words in message
    assert clip in message


def test_a_truncated_file_with_a_good_index_is_found_at_once(site: Site, clips: Clips) -> None:
    assert "truncated" in refused(site, site.source(clips["truncated.mp4"]), "probe")


@pytest.fixture(scope="module")
def stream(clips: Clips) -> bytes:
    """A transport stream: it does not say how long it should be."""
    path = clips.folder / "stream.ts"
    ffmpeg("-i", str(clips["plain.mp4"]), "-c", "copy", str(path))
    return path.read_bytes()


def test_a_transport_stream_is_published(site: Site, stream: bytes) -> None:
    (site.media / "whole.ts").write_bytes(stream)
    site.start("scheduler", "worker")
    job = site.submit("web-video", site.media / "whole.ts")
    assert site.ended(job) == "succeeded"
    assert site.task(job, "check").message == ""


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_a_truncated_transport_stream_is_found_at_once(
    site: Site, stream: bytes, share: float
) -> None:
    (site.media / "cut.ts").write_bytes(stream[: round(len(stream) * share) | 1])
    assert "truncated" in refused(site, site.media / "cut.ts", "probe")


def test_a_damaged_transport_stream_is_found_by_the_check(site: Site, stream: bytes) -> None:
    data = bytearray(stream)
    for start in range(len(data) // 3, len(data) - 4000, 4000):
        data[start : start + 1500] = bytes(1500)
    (site.media / "broken.ts").write_bytes(data)
    assert "damaged: broken packets" in refused(site, site.media / "broken.ts", "check")


@pytest.mark.parametrize(
    "name",
    [
        "-y.mp4",
        "http:x.mp4",
        'it\'s "quoted" & $(odd).mp4',
        "spät 🎬 фильм.mp4",
        "per%20cent?#.mp4",
        "-i.mp4",
        "a;b|c>d.mp4",
        "%03d.mp4",
        "x" * 200 + ".mp4",
    ],
)
def test_odd_names_are_names(site: Site, clips: Clips, name: str) -> None:
    site.start("scheduler", "worker")
    source = site.source(clips["second.mp4"], name)
    before = sorted(p.name for p in site.home.iterdir())
    jobs = [site.submit("web-video", source), site.submit("publish-only", source)]
    assert [site.ended(job) for job in jobs] == ["succeeded"] * 2, [*map(site.message, jobs)]
    assert (site.publish / f"job-{jobs[1]}" / name).read_bytes() == source.read_bytes()
    assert set(p.name for p in site.home.iterdir()) - set(before) <= {"work", "logs"}


def test_a_file_outside_the_roots_is_refused_when_submitted(site: Site, clips: Clips) -> None:
    outside = Path(shutil.copy(clips["second.mp4"], site.home / "outside.mp4"))
    (site.media / "link.mp4").symlink_to(outside)
    for name in (outside, site.media / "link.mp4", site.media / ".." / "outside.mp4"):
        with pytest.raises(Invalid, match="outside the folders"):
            site.submit("web-video", name)
        done = site.run("submit", "web-video", str(name))
        assert done.returncode == 2
        assert "outside the folders" in done.stderr
    assert site.rows("SELECT COUNT(*) FROM job") == [(0,)]


def test_a_link_swapped_in_after_the_submit_leads_nowhere(site: Site, clips: Clips) -> None:
    outside = Path(shutil.copy(clips["second.mp4"], site.home / "outside.mp4"))
    source = site.source(clips["second.mp4"])
    job = site.submit("web-video", source)
    source.unlink()
    source.symlink_to(outside)
    site.start("scheduler", "worker")
    assert site.ended(job) == "failed"
    assert "outside the folders" in site.message(job)
    assert list(site.publish.iterdir()) == []


def test_a_folder_swapped_for_a_link_after_the_submit_leads_nowhere(
    site: Site, clips: Clips
) -> None:
    folder = site.media / "in"
    folder.mkdir()
    source = site.source(clips["second.mp4"], "in/clip.mp4")
    job = site.submit("web-video", source)
    folder.rename(site.home / "moved")
    folder.symlink_to(site.home / "moved")
    site.start("scheduler", "worker")
    assert site.ended(job) == "failed"
    assert "outside the folders" in site.message(job)


def test_a_pipe_swapped_in_after_the_submit_holds_nothing_up(site: Site, clips: Clips) -> None:
    source = site.source(clips["second.mp4"])
    job = site.submit("web-video", source)
    source.unlink()
    os.mkfifo(source)
    site.start("scheduler", "worker")
    assert site.ended(job, 10) == "failed"
    assert "pipe" in site.message(job)


@pytest.mark.parametrize(
    ("limit", "value", "words"),
    [
        ("pixels", "100x100", "320×180"),
        ("frame_rate", "10", "25 frames"),
        ("duration", "2s", "lasts"),
        ("streams", "1", "2 streams"),
    ],
)
def test_what_exceeds_a_limit_is_refused_in_words(
    site: Site, clips: Clips, limit: str, value: str, words: str
) -> None:
    site.set("limits", **{limit: value})
    message = refused(site, site.source(clips["plain.mp4"]))
    assert words in message
    assert f"[limits] {limit}" in message


def test_a_broken_workflow_is_refused_before_any_job_runs(site: Site) -> None:
    site.recipe("broken", '<task name="a" type="noop" needs="b"/>', inputs="")
    for command in (("scheduler",), ("check",), ("submit", "web-video")):
        done = site.run(*command)
        assert done.returncode in (1, 2)
        assert "broken.xml" in done.stdout + done.stderr
