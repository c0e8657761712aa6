from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from backoffice import config, records
from backoffice.catalogue import Catalogue
from backoffice.config import Watch
from backoffice.watch_folders import WatchFolder
from tests.board import ENCODE, Board
from tests.crowd import together

QUIET, PATIENCE = 10.0, 100.0  # seconds
EXCLUDED = tuple(shlex.split(config.EXCLUDED))
SIDECARS = {"srt": "subtitles", "vtt": "subtitles", "xml": "metadata"}
RECIPES = Catalogue({"encode": ENCODE}, {})


def rows(board: Board, query: str, *values: object) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = board.read(lambda s: s.execute(query, values).get_all())
    return found


class Folder:
    """A watched folder, and a clock that only goes on when told to."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.path = board.settings.paths.roots[0]
        self.passed = 1000.0
        self.watcher = self.another()

    def another(self, **changes: Any) -> WatchFolder:
        values: dict[str, Any] = {
            **{"name": "inbox", "folder": self.path, "pattern": ("*.mp4",), "workflow": "encode"},
            **{"exclude": EXCLUDED, "recursive": False, "role": "source", "sidecars": SIDECARS},
            **{"quiet": timedelta(seconds=QUIET), "patience": timedelta(seconds=PATIENCE)},
            **{"after": config.LEAVE, "priority": 20, "parameters": {"colour": "red"}},
        }
        watch = Watch(**values | changes)
        board = self.board
        return WatchFolder(watch, board.database, board.settings, RECIPES, lambda: self.passed)

    def put(self, name: str, content: bytes = b"video", at: int = 1_700_000_000) -> Path:
        path = self.path / name
        path.write_bytes(content)
        os.utime(path, (at, at))
        return path

    def look(self, *times: float) -> list[int]:
        """Look after so many seconds each; the jobs submitted."""
        found = []
        for seconds in times:
            self.passed += seconds
            found += self.watcher.look()
        return found


@pytest.fixture
def folder(board: Board) -> Folder:
    return Folder(board)


def test_a_file_is_taken_once_it_has_been_quiet(board: Board, folder: Folder) -> None:
    path = folder.put("a.mp4")
    assert folder.look(0, 5, 4.9) == []
    (job,) = folder.look(0.1)
    found = board.read(records.job, job)
    assert [(one["role"], one["href"]) for one in found["inputs"]] == [("source", path.as_uri())]
    assert (found["submitter"], found["priority"]) == ("watch:inbox", 20)
    assert found["parameters"] == {"colour": "red"}
    assert folder.look(1, 100, 1000) == []


def test_a_file_that_grows_is_not_taken(folder: Folder) -> None:
    for size in range(1, 10):
        folder.put("a.mp4", b"x" * size)
        assert folder.look(QUIET - 1) == []
    assert folder.look(QUIET) == [1]


def test_a_file_that_is_written_anew_in_the_same_size_is_not_taken(folder: Folder) -> None:
    for second in range(10):
        folder.put("a.mp4", at=1_700_000_000 + second)
        assert folder.look(QUIET - 1) == []
    assert folder.look(QUIET) == [1]


def test_a_file_that_went_away_and_came_back_is_watched_from_the_start(folder: Folder) -> None:
    folder.put("a.mp4").unlink()
    folder.put("a.mp4")
    assert folder.look(0, 5) == []
    (folder.path / "a.mp4").unlink()
    assert folder.look(4) == []
    folder.put("a.mp4")
    assert folder.look(3, 5) == []
    assert folder.look(5) == [1]


def test_a_file_that_was_replaced_is_taken_again(folder: Folder) -> None:
    folder.put("a.mp4")
    assert folder.look(0, QUIET) == [1]
    folder.put("a.mp4", b"another video")
    assert folder.look(1, QUIET) == [2]


def test_a_watcher_that_starts_anew_knows_what_was_taken(folder: Folder) -> None:
    folder.put("a.mp4")
    assert folder.look(0, QUIET) == [1]
    folder.watcher = folder.another()
    assert folder.look(0, QUIET, QUIET) == []


def test_of_watchers_at_once_one_takes_each_file(board: Board, folder: Folder) -> None:
    for number in range(6):
        folder.put(f"{number}.mp4")
    watchers = [folder.another() for _ in range(4)]
    for watcher in watchers:
        watcher.look()
    folder.passed += QUIET
    taken = together(board.database, *[watcher.look for watcher in watchers])
    assert sorted(job for jobs_ in taken for job in jobs_) == rows_of_jobs(board)
    assert len(rows_of_jobs(board)) == 6
    assert rows(board, "SELECT COUNT(*) FROM watched") == [(6,)]


def rows_of_jobs(board: Board) -> list[int]:
    return [job for (job,) in rows(board, "SELECT id FROM job ORDER BY id")]


def make_pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe.mp4")


@pytest.mark.parametrize(
    "make",
    [
        lambda path: (path / "notes.txt").write_text("text"),
        lambda path: (path / ".hidden.mp4").write_bytes(b"video"),
        lambda path: (path / "empty.mp4").touch(),
        lambda path: (path / "folder.mp4").mkdir(),
        lambda path: (path / "dangling.mp4").symlink_to(path / "nowhere"),
        make_pipe,
    ],
    ids=["other names", "hidden", "empty", "folders", "dangling links", "pipes"],
)
def test_what_is_no_finished_file_is_left_alone(
    board: Board, folder: Folder, make: Callable[[Path], object]
) -> None:
    make(folder.path)
    folder.put("a.mp4")
    assert folder.look(0, QUIET, QUIET) == [1]
    assert rows(board, "SELECT COUNT(*) FROM watched") == [(1,)]


def test_a_file_that_is_refused_is_recorded_and_told_once(
    board: Board, folder: Folder, tmp_path: Path
) -> None:
    (tmp_path / "secret.mp4").write_bytes(b"secret")
    (folder.path / "a.mp4").symlink_to(tmp_path / "secret.mp4")
    folder.put("b.mp4")
    assert folder.look(0, QUIET, QUIET) == [1]
    ((job, message),) = rows(board, "SELECT job_id, message FROM watched WHERE job_id IS NULL")
    assert (job, "is a link" in message) == (None, True)
    ((subject, detail),) = rows(
        board, "SELECT subject, detail FROM event WHERE action = 'watch.refused'"
    )
    assert subject == "watch inbox"
    assert detail.startswith(f"{folder.path}/a.mp4: ")


def test_a_name_that_is_not_utf8_is_refused_and_holds_nobody_up(
    board: Board, folder: Folder
) -> None:
    folder.put(os.fsdecode(b"a-\xff.mp4"))
    folder.put("b.mp4")
    assert folder.look(0, QUIET, QUIET) == [1]
    ((message,),) = rows(board, "SELECT message FROM watched WHERE job_id IS NULL")
    assert "is not UTF-8; rename the file" in message


@pytest.mark.parametrize("name", ["-y.mp4", "größe 🎬 % ?#.mp4", "http:x.mp4", "a'b\"c.mp4"])
def test_odd_names_are_taken_like_others(board: Board, folder: Folder, name: str) -> None:
    path = folder.put(name)
    (job,) = folder.look(0, QUIET)
    assert board.read(records.job, job)["inputs"][0]["href"] == path.as_uri()


def test_a_folder_that_cannot_be_read_is_not_the_end(folder: Folder) -> None:
    folder.watcher = folder.another(folder=folder.path / "later")
    assert folder.look(0, QUIET) == []
    (folder.path / "later").mkdir()
    folder.put("later/a.mp4")
    assert folder.look(0, QUIET) == [1]


def test_two_watches_on_one_folder_each_take_the_file(board: Board, folder: Folder) -> None:
    folder.put("a.mp4")
    other = folder.another(name="archive")
    other.look()
    assert folder.look(0, QUIET) == [1]
    assert other.look() == [2]
