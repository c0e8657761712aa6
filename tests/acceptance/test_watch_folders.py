"""The traffic of watch folders, played against schedulers that come and go."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from tests.acceptance.proc import wait_for
from tests.acceptance.site import Site

QUIET = 3.0  # seconds
LONG = 120.0
PUBLISH = (
    '<task name="publish" type="publish"><input role="source"/>'
    '<parameter name="target">site</parameter></task>'
)


@pytest.fixture
def inbox(either_site: Site) -> Path:
    folder = either_site.media / "in"
    folder.mkdir()
    workflow = either_site.recipe("copy", PUBLISH)
    either_site.set("watch in", folder=str(folder), workflow=workflow, quiet=f"{QUIET}s")
    return folder


def titles(site: Site) -> list[str]:
    return sorted(title for (title,) in site.rows("SELECT title FROM job"))


def accepted(site: Site) -> None:
    """Let the site's checks know the jobs that the schedulers have submitted."""
    site.accepted += [job for (job,) in site.rows("SELECT id FROM job")]


def test_the_usual_traffic_makes_one_job_for_each_film(
    either_site: Site, inbox: Path, medium_clip: Path
) -> None:
    site, film = either_site, medium_clip.read_bytes()
    half = len(film) // 2
    schedulers = [site.start("scheduler"), site.start("scheduler")]
    site.start("worker")
    (inbox / "a.mp4.part").write_bytes(film[:half])
    for name in ("b.mp4~", "c.mp4.filepart", "d.mp4.crdownload", "k.tmp"):
        (inbox / name).write_bytes(film)
    for name in ("e.srt", "Thumbs.db", "desktop.ini", "._g.mp4"):
        (inbox / name).write_text("x")
    (inbox / "h.mp4").touch()
    (inbox / "g.mp4").write_bytes(film)
    os.utime(inbox / "g.mp4", (978_307_200, 978_307_200))
    (inbox / "i.mp4").write_bytes(film[:half])
    wait_for(lambda: titles(site) == ["g.mp4"], "the whole film is taken", LONG)
    site.kill(schedulers[0])
    time.sleep(2 * QUIET)
    site.start("scheduler")
    for name in ("i.mp4", "a.mp4.part"):
        with open(inbox / name, "ab") as stream:
            stream.write(film[half:])
    time.sleep(QUIET)
    (inbox / "a.mp4.part").rename(inbox / "a.mp4")
    (inbox / "g.mp4").touch()
    wanted = ["a.mp4", "g.mp4", "i.mp4"]
    wait_for(lambda: len(titles(site)) >= 3, "the other films are taken", LONG)
    accepted(site)
    assert [site.ended(job, LONG) for job in site.accepted] == ["succeeded"] * 3
    (inbox / "i.mp4").rename(inbox / "j.mp4")
    time.sleep(4 * QUIET)
    assert titles(site) == wanted
    whole = hashlib.sha256(film).hexdigest()
    sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in site.published()}
    assert set(sums.values()) == {whole}


def test_what_arrives_while_no_scheduler_runs_is_taken_once(
    either_site: Site, inbox: Path, medium_clip: Path
) -> None:
    site, film = either_site, medium_clip.read_bytes()
    scheduler = site.start("scheduler")
    (inbox / "a.mp4").write_bytes(film)
    wait_for(lambda: titles(site) == ["a.mp4"], "the film is taken", LONG)
    site.kill(scheduler)
    (inbox / "a.mp4").rename(inbox / "renamed.mp4")
    (inbox / "b.mp4").write_bytes(film)
    site.start("scheduler", "scheduler")
    wait_for(lambda: len(titles(site)) >= 2, "the other film is taken", LONG)
    time.sleep(3 * QUIET)
    assert titles(site) == ["a.mp4", "b.mp4"]


def test_files_are_moved_to_the_folder_for_those_that_are_done(
    either_site: Site, inbox: Path, medium_clip: Path
) -> None:
    site = either_site
    site.set("watch in", after="move:done", recursive="yes")
    site.start("scheduler", "scheduler", "worker")
    (inbox / "card").mkdir()
    (inbox / "card" / "a.mp4").write_bytes(medium_clip.read_bytes())
    done = inbox / "done" / "card" / "a.mp4"
    wait_for(done.exists, "the film is moved", LONG)
    accepted(site)
    assert titles(site) == ["card/a.mp4"]
    assert done.read_bytes() == medium_clip.read_bytes()
    assert not (inbox / "card" / "a.mp4").exists()
    query = "SELECT f.href FROM job_input i JOIN file f ON f.id = i.file_id"
    wait_for(lambda: site.rows(query) == [(done.as_uri(),)], "the job knows where it is")
