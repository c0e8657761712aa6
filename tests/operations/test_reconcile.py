"""Differences between the database and the disks are found, and no others."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from backoffice.config import loading
from backoffice.config.settings import Target
from backoffice.engine.claims import Claim
from backoffice.operations import disk_contents, reconcile
from backoffice.operations.disk_contents import Difference
from backoffice.reports import expected_files
from backoffice.system import files
from backoffice.system.blocking_io import BlockingReads, NotAnswering
from backoffice.tasks import Published
from tests.board import ENCODE, Board, made_file

FILM = b"film" * 100


class Shelf:
    """A target, a work folder and a log folder that are as the database says."""

    def __init__(self, board: Board, source: Path) -> None:
        self.board = board
        self.source = source
        self.site = board.settings.targets["site"].path or Path()
        self.site.mkdir(parents=True)
        self.worker = board.worker(host=socket.gethostname())

    def look(self, **more: Any) -> dict[str, list[Difference]]:
        """What differs, by kind."""
        found: dict[str, list[Difference]] = {}
        for one in reconcile.differences(self.board.database, self.board.settings, **more):
            found.setdefault(one.kind, []).append(one)
        return found

    def claim(self) -> Claim:
        self.board.submit(ENCODE, inputs=[("source", str(self.source))])
        (claimed,) = self.board.claim(self.worker)
        return claimed.claim

    def folder(self, held: Claim) -> Path:
        folder = self.board.settings.paths.work / "jobs" / str(held.job_id) / "encode-1"
        folder.mkdir(parents=True)
        return folder

    def encoded(self) -> Path:
        """The output of a job."""
        held = self.claim()
        path = self.folder(held) / "out.mp4"
        path.write_bytes(FILM)
        log = self.board.settings.paths.logs / "attempts" / str(held.job_id) / "encode.log"
        log.parent.mkdir(parents=True)
        log.write_text("log")
        digest = hashlib.sha256(FILM).hexdigest()
        made = made_file(
            files.href(path), path.name, "film", "video/mp4", False, len(FILM), digest, {}
        )
        self.board.finish(held, outputs=[made], log=str(log), log_size=3)
        return path

    def published(self, name: str, *, tree: bool = False) -> Path:
        """A file, or a folder of two, at the target."""
        path = self.site / name
        path.parent.mkdir(parents=True, exist_ok=True)
        for one in (path / "a", path / "b/c") if tree else (path,):
            one.parent.mkdir(parents=True, exist_ok=True)
            one.write_bytes(FILM)
        self.record(name, path, tree)
        return path

    def record(self, name: str, path: Path, tree: bool = False) -> None:
        size = files.size_of(path / "a" if tree else path, tree)
        digest = files.tree_sha256(path) if tree else files.sha256(path)
        published = Published(1, "site", name, "", tree, digest, size)
        self.board.finish(self.claim(), published=[published])

    def retract(self, number: int) -> None:
        self.board.finish(self.claim(), retracted=[number])

    def set_type(self, kind: str) -> None:
        """Let what runs now be of this type."""
        self.board.do(lambda s: s.execute(f"UPDATE task SET type = '{kind}' WHERE state='running'"))


def stocked(board: Board) -> Shelf:
    source = board.settings.paths.roots[0] / "clip.mp4"
    source.write_bytes(FILM)
    return Shelf(board, source)


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    """On SQLite, for what is a matter of the disks alone."""
    (tmp_path / "media").mkdir()
    named = {
        "DATABASE_URI": f"sqlite:{tmp_path}/database",
        "PATHS_HOME": str(tmp_path),
        "PATHS_ROOTS": "media",
    }
    board = Board(loading.load(None, {f"BACKOFFICE_{name}": text for name, text in named.items()}))
    yield stocked(board)
    board.close()


@pytest.fixture
def each_shelf(board: Board) -> Shelf:
    """On each database: every question is put to both of them."""
    return stocked(board)


def paths(found: dict[str, list[Difference]]) -> dict[str, list[str]]:
    return {kind: [one.path for one in those] for kind, those in found.items()}


def test_what_is_as_it_should_be_is_no_difference(each_shelf: Shelf) -> None:
    each_shelf.encoded()
    each_shelf.published("a/film.mp4")
    each_shelf.published("a/hls", tree=True)
    (each_shelf.site / "lost+found").mkdir()
    assert each_shelf.look() == each_shelf.look(deep=True) == {}


def test_an_installation_that_has_done_nothing_yet_has_none(board: Board) -> None:
    (board.settings.targets["site"].path or Path()).mkdir(parents=True)
    assert list(reconcile.differences(board.database, board.settings)) == []


def test_what_is_gone_from_a_target_is_missing(each_shelf: Shelf) -> None:
    film, package = each_shelf.published("film.mp4"), each_shelf.published("hls", tree=True)
    film.unlink()
    shutil.rmtree(package)
    found = each_shelf.look()
    assert paths(found) == {"publication-missing": [str(film), str(package)]}
    assert [one.subject for one in found["publication-missing"]] == [
        "publication 1",
        "publication 2",
    ]
    assert found["publication-missing"][0].size == len(FILM)


def test_another_size_is_seen_and_another_content_when_looking_deep(shelf: Shelf) -> None:
    longer, other = shelf.published("longer.mp4"), shelf.published("other.mp4")
    package = shelf.published("hls", tree=True)
    longer.write_bytes(FILM + b"!")
    other.write_bytes(FILM[::-1])
    (package / "b/c").write_bytes(FILM[::-1])
    assert paths(shelf.look()) == {"publication-changed": [str(longer)]}
    found = shelf.look(deep=True)
    assert paths(found) == {"publication-changed": [str(longer), str(other), str(package)]}
    said = [one.message for one in found["publication-changed"]]
    assert said == ["has 401 bytes; it had 400", *["has another checksum"] * 2]


def test_a_link_or_folder_in_the_place_of_a_file_is_a_change(shelf: Shelf) -> None:
    film, package = shelf.published("film.mp4"), shelf.published("hls", tree=True)
    film.unlink()
    film.symlink_to(shelf.source)
    shutil.rmtree(package)
    package.write_bytes(b"")
    said = [one.message for one in shelf.look()["publication-changed"]]
    assert said == ["is no file any more", "is no folder any more"]


def test_what_nobody_published_is_found_in_any_folder(each_shelf: Shelf) -> None:
    each_shelf.published("a/b/film.mp4")
    package = each_shelf.published("hls", tree=True)
    strange = [
        each_shelf.site / "a/b/other.mp4",
        each_shelf.site / "x/y/z.mp4",
        each_shelf.site / "top.mp4",
    ]
    for path in strange:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")
    (each_shelf.site / os.fsdecode(b"\xff.mp4")).write_bytes(b"1")
    (package / "d").write_bytes(b"in a package it is a change of it")
    found = each_shelf.look()
    assert sorted(paths(found)["publication-unknown"])[:3] == sorted(map(str, strange))
    assert len(found["publication-unknown"]) == 4
    assert len(found["publication-changed"]) == 1
    assert {one.size for one in found["publication-unknown"]} == {5, 1}


def test_what_was_retracted_and_is_still_there_lingers(each_shelf: Shelf) -> None:
    film = each_shelf.published("film.mp4")
    each_shelf.retract(1)
    assert paths(each_shelf.look()) == {"publication-lingering": [str(film)]}
    film.write_bytes(b"somebody's own")
    assert paths(each_shelf.look()) == {"publication-unknown": [str(film)]}
    film.unlink()
    assert each_shelf.look() == {}


def test_what_replaced_a_retracted_one_is_well(shelf: Shelf) -> None:
    film = shelf.published("film.mp4")
    film.write_bytes(FILM[::-1])
    shelf.record("film.mp4", film)  # overwrites: the first one is retracted
    assert shelf.look(deep=True) == {}


def test_a_target_within_a_target_is_its_own(shelf: Shelf) -> None:
    inner = shelf.site / "inner"
    targets = dict(shelf.board.settings.targets)
    targets["inner"] = Target("inner", "folder", inner, "", {})
    shelf.board.settings = replace(shelf.board.settings, targets=targets)
    inner.mkdir()
    (inner / "a.mp4").write_bytes(b"1")
    assert paths(shelf.look()) == {"publication-unknown": [str(inner / "a.mp4")]}


def test_a_target_that_is_no_longer_configured_is_told(shelf: Shelf) -> None:
    shelf.published("film.mp4")
    shelf.board.settings = replace(shelf.board.settings, targets={})
    ((one,),) = shelf.look().values()
    assert (one.kind, one.subject) == ("publication-missing", "publication 1")
    assert "'site'" in one.message


def test_a_target_that_is_not_mounted_is_told_once(shelf: Shelf) -> None:
    for name in ("a.mp4", "b.mp4"):
        shelf.published(name)
    shutil.rmtree(shelf.site)
    ((one,),) = shelf.look().values()
    assert (one.kind, one.path) == ("disk-away", str(shelf.site))
    assert one.message == "is not there: mount it, or make it; things not looked at there: 2"


# Files and logs


def test_files_and_logs_that_are_gone_are_missing(each_shelf: Shelf) -> None:
    made = each_shelf.encoded()
    made.unlink()
    each_shelf.source.unlink()
    shutil.rmtree(each_shelf.board.settings.paths.logs / "attempts")
    assert paths(each_shelf.look()) == {
        "source-missing": [str(each_shelf.source)],
        "file-missing": [str(made)],
        "log-missing": [str(each_shelf.board.settings.paths.logs / "attempts/1/encode.log")],
    }


def test_files_that_are_other_than_they_were_are_changed(shelf: Shelf) -> None:
    made = shelf.encoded()
    made.write_bytes(FILM[::-1])
    shelf.source.write_bytes(b"another")
    assert paths(shelf.look(deep=True)) == {
        "source-changed": [str(shelf.source)],
        "file-changed": [str(made)],
    }


def test_logs_of_other_hosts_are_not_looked_for_here(shelf: Shelf) -> None:
    shelf.encoded()
    shelf.board.do(lambda s: s.execute("UPDATE attempt SET host = 'elsewhere'"))
    shutil.rmtree(shelf.board.settings.paths.logs / "attempts")
    assert shelf.look() == {}


# What is left


def test_folders_of_jobs_that_are_no_more_are_left(each_shelf: Shelf) -> None:
    left = [each_shelf.board.settings.paths.work / "jobs/99", each_shelf.board.settings.paths.logs]
    left[1] = left[1] / "attempts/98"
    for folder in left:
        (folder / "deep").mkdir(parents=True)
        (folder / "deep/file").write_bytes(b"123")
    found = each_shelf.look()
    assert paths(found) == {"work-left": [str(left[0])], "log-left": [str(left[1])]}
    assert found["work-left"][0].size == 3


def test_a_folder_of_an_attempt_is_left_when_it_runs_no_more_and_made_nothing(
    each_shelf: Shelf,
) -> None:
    held = each_shelf.claim()
    folder = each_shelf.folder(held)
    assert each_shelf.look() == {}
    each_shelf.board.finish(held, "failed", "no", retry=False)
    assert paths(each_shelf.look()) == {"work-left": [str(folder)]}


def test_a_work_folder_behind_a_link_is_the_same(shelf: Shelf, tmp_path: Path) -> None:
    shelf.encoded()
    work = shelf.board.settings.paths.work
    (tmp_path / "link").symlink_to(work)
    way = replace(shelf.board.settings.paths, work=tmp_path / "link")
    shelf.board.settings = replace(shelf.board.settings, paths=way)
    assert shelf.look() == {}


def test_staging_is_left_when_its_attempt_lives_no_more(each_shelf: Shelf) -> None:
    held = each_shelf.claim()
    staging = each_shelf.site / f".backoffice-{held.task_id}-{held.attempt}"
    strange = each_shelf.site / ".backoffice-strange"
    for folder in (staging, strange):
        folder.mkdir()
        (folder / "0").write_bytes(FILM)
    assert paths(each_shelf.look()) == {"staging-left": [str(strange)]}
    each_shelf.board.finish(held, "failed", "no", retry=False)
    found = each_shelf.look()
    assert sorted(paths(found)["staging-left"]) == sorted([str(staging), str(strange)])
    assert found["staging-left"][0].size == len(FILM)


# Beside the service


def test_what_a_running_task_has_just_published_is_no_difference(each_shelf: Shelf) -> None:
    held = each_shelf.claim()
    each_shelf.set_type("publish")
    new = each_shelf.site / "new.mp4"
    new.write_bytes(FILM)
    assert each_shelf.look() == {}
    each_shelf.board.finish(held, "failed", "no", retry=False)
    assert paths(each_shelf.look()) == {"publication-unknown": [str(new)]}


def test_what_a_running_task_has_just_retracted_is_no_difference(shelf: Shelf) -> None:
    film = shelf.published("film.mp4")
    held = shelf.claim()
    shelf.set_type("retract")
    film.unlink()
    assert shelf.look() == {}
    shelf.board.finish(held, "failed", "no", retry=False)
    assert paths(shelf.look()) == {"publication-missing": [str(film)]}


def test_what_was_recorded_while_we_looked_is_no_difference(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    film, new = shelf.published("film.mp4"), shelf.site / "new.mp4"
    film.unlink()
    new.write_bytes(FILM)
    inner = expected_files.targets_busy_since
    turns = iter([lambda: shelf.retract(1), lambda: shelf.record("new.mp4", new)])

    def meanwhile(store: Any) -> datetime | None:
        store.rollback()
        next(turns, lambda: None)()
        return inner(store)

    monkeypatch.setattr(expected_files, "targets_busy_since", meanwhile)
    assert shelf.look() == {}


def test_every_row_is_looked_at_over_many_pages(
    each_shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = [each_shelf.published(f"{n}/film.mp4") for n in range(5)]
    for path in gone:
        path.unlink()
        path.with_name("strange").write_bytes(b"")
    monkeypatch.setattr(reconcile, "PAGE", 2)
    monkeypatch.setattr(expected_files, "PAGE", 2)
    found = each_shelf.look()
    assert paths(found)["publication-missing"] == list(map(str, gone))
    assert len(found["publication-unknown"]) == 5


# Disks that hang


def test_a_disk_that_hangs_is_told_and_the_others_are_looked_at(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = shelf.encoded()
    for name in ("a.mp4", "b.mp4"):
        shelf.published(name)
    made.unlink()
    free, inner = threading.Event(), disk_contents.difference_of

    def hangs(deep: bool, one: Any, beat: Any) -> str:
        if one.path.is_relative_to(shelf.site):
            free.wait(60)
        return inner(deep, one, beat)

    monkeypatch.setattr(disk_contents, "difference_of", hangs)
    found = shelf.look(wait=0.5)
    free.set()
    assert paths(found) == {"file-missing": [str(made)], "disk-away": [str(shelf.site)]}
    assert found["disk-away"][0].message.endswith("for 0.5 s; things not looked at there: 2")


def test_a_place_that_hung_is_not_asked_again(tmp_path: Path) -> None:
    reads, free = BlockingReads(0.05), threading.Event()
    with pytest.raises(NotAnswering):
        reads.run(tmp_path, lambda beat: free.wait(60), 3)
    free.set()
    with pytest.raises(NotAnswering):
        reads.run(tmp_path, lambda beat: 1, 4)
    assert reads.skipped[tmp_path] == 7
    assert reads.failed[tmp_path] == "has not answered for 0.05 s"
    assert reads.run(tmp_path.parent, lambda beat: 1) == 1


def test_who_gets_on_is_waited_for(tmp_path: Path) -> None:
    reads, now = BlockingReads(30), threading.Event()

    def slow(beat: Any) -> int:
        for _ in range(3):
            beat()
            now.wait(0.01)
        return 7

    assert reads.run(tmp_path, slow) == 7


def test_what_a_look_raises_comes_out(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        BlockingReads(5).run(tmp_path, lambda beat: (tmp_path / "none").stat())


def test_differences_come_in_pages_of_records() -> None:
    found = [Difference("log-missing", "task 1", f"/{n}") for n in range(5)]
    pages = list(reconcile.pages(found, 2))
    assert [len(page) for page in pages] == [2, 2, 1]
    assert pages[0][0]["kind"] == "log-missing"
    with closing(reconcile.pages(iter(found), 2)) as lazy:
        assert len(next(lazy)) == 2
