"""Video in, renditions published: the whole of it, as a user would have it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.site import Site
from tests.clips import REAL, Clips


def probe(path: Path) -> dict[str, list[dict[str, object]]]:
    done = subprocess.run(
        ["ffprobe", "-v", "error", "-of", "json", "-show_streams", "-show_format", str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, list[dict[str, object]]] = json.loads(done.stdout)
    return found


def plays(path: Path) -> str:
    """What ffmpeg complains about when it plays all of it."""
    done = subprocess.run(
        ["ffmpeg", "-v", "error", "-nostdin", "-i", str(path), "-f", "null", "-"],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"{done.stderr}{done.returncode or ''}"


def check_published(site: Site, job: int, source: Path) -> None:
    assert site.ended(job, 600) == "succeeded", site.message(job)
    (master,) = site.publish.rglob("master.m3u8")
    assert plays(master) == ""
    original = probe(source)
    lines = next(s["height"] for s in original["streams"] if s["codec_type"] == "video")
    sound = any(s["codec_type"] == "audio" for s in original["streams"])
    made = probe(master)
    heights = {s["height"] for s in made["streams"] if s["codec_type"] == "video"}
    codecs = {s["codec_name"] for s in made["streams"]}
    needed = {540: 432, 720: 648, 1080: 864, 1440: 1296, 2160: 1728}
    rungs = [360, *(rung for rung, least in needed.items() if int(str(lines)) >= least)]
    assert len(heights) == len(rungs)
    assert max(heights) <= int(str(lines))
    assert codecs == ({"h264", "aac"} if sound else {"h264"})
    wanted, found = (float(str(p["format"]["duration"])) for p in (original, made))  # type: ignore[call-overload]
    assert abs(wanted - found) < 0.5
    assert len(list(site.publish.rglob("*.jpg"))) >= 3
    assert list(site.publish.rglob("*.vtt"))


def test_a_video_becomes_a_published_package_that_plays(either_site: Site, clips: Clips) -> None:
    site = either_site
    source = site.source(clips["plain.mp4"])
    site.start("scheduler", "worker")
    job = site.submit("web-video", source)
    check_published(site, job, source)
    tasks = site.tasks(job)
    assert {t.state for t in tasks.values()} == {"succeeded", "skipped"}
    assert tasks["notify"].state == "skipped"
    assert all(t.attempt == (t.state == "succeeded") for t in tasks.values())
    encode = next(a for a in site.attempts(job) if a.task == "rung")
    assert encode.cpu is not None
    assert encode.cpu > 0.05
    assert encode.memory is not None
    assert encode.memory > 10 << 20


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("clip", REAL, ids=lambda path: path.stem)
def test_real_video_is_published_and_plays(site: Site, clip: Path) -> None:
    source = site.source(clip)
    site.set("tools", threads="0")
    site.start("scheduler", "worker")
    check_published(site, site.submit("web-video", source), source)
