from __future__ import annotations

import errno
import hashlib
import itertools
import os
import shlex
import shutil
import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from inotify_simple import INotify

from backoffice.config import names
from backoffice.config.settings import Watch
from backoffice.engine import watched_files
from backoffice.engine.catalogue import Catalogue
from backoffice.engine.workflows import InputSpec, Workflow
from backoffice.errors import DatabaseUnavailable
from backoffice.reports import queue_statistics, records
from backoffice.scheduler import watch_folders
from backoffice.scheduler.folder_events import FolderEvents
from backoffice.scheduler.watch_folders import (
    LOOK_ANYWAY,
    PRUNE_EVERY,
    RETRY_FIRST,
    WatchFolder,
)
from backoffice.system import open_files
from tests.board import ENCODE, Board
from tests.crowd import together

QUIET, PATIENCE = 10.0, 100.0  # seconds
EXCLUDED = tuple(shlex.split(names.EXCLUDED))
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

    def watch(self, workflows: Mapping[str, Workflow] | None = None, **changes: Any) -> None:
        """Go on with a watcher of other settings."""
        self.watcher = self.another(**changes)
        if workflows is not None:
            self.watcher.recipes = Catalogue(dict(workflows), {})

    def another(self, **changes: Any) -> WatchFolder:
        values: dict[str, Any] = {
            "name": "inbox",
            "folder": self.path,
            "pattern": ("*.mp4",),
            "workflow": "encode",
            "exclude": EXCLUDED,
            "recursive": False,
            "role": "source",
            "sidecars": SIDECARS,
            "quiet": timedelta(seconds=QUIET),
            "patience": timedelta(seconds=PATIENCE),
            "after": names.LEAVE,
            "priority": 20,
            "parameters": {"colour": "red"},
        }
        watch = Watch(**values | changes)
        board = self.board
        return WatchFolder(watch, board.database, board.settings, RECIPES, lambda: self.passed)

    def put(self, name: str, content: bytes = b"video", at: int = 1_700_000_000) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
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

    def run(self, seconds: int) -> list[int]:
        """As the scheduler does, each second; the jobs submitted."""
        found = []
        for _ in range(seconds):
            self.passed += 1
            found += self.watcher.run()
        return found


def events(board: Board, action: str) -> list[str]:
    found = rows(board, "SELECT detail FROM event WHERE action = ? ORDER BY id", action)
    return [detail for (detail,) in found]


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


def test_a_name_that_is_not_utf8_is_refused_and_holds_no_other_up(
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


# Which files ---------------------------------------------------------------

LEFT_BEHIND = tuple(
    (
        "a.mp4.part A.MP4.PART b.mp4~ c.mp4.filepart d.mp4.crdownload e.tmp"
        " f.mp4.partial g.mp4.download h.mp4.!ut .i.mp4 ._j.mp4 ~$k.mp4 .DS_Store"
        " Thumbs.db THUMBS.DB desktop.ini l.mp4.aria2"
    ).split()
)


@pytest.mark.parametrize("name", LEFT_BEHIND)
def test_what_programs_and_systems_leave_in_folders_is_no_job(folder: Folder, name: str) -> None:
    folder.watch(pattern=("*",))
    folder.put(name)
    assert folder.look(0, QUIET, PATIENCE) == []


def test_an_unfinished_file_is_taken_under_its_final_name(board: Board, folder: Folder) -> None:
    folder.watch(pattern=("*",))
    part = folder.put("a.mp4.part")
    assert folder.look(0, QUIET, QUIET) == []
    part.rename(folder.path / "a.mp4")
    assert folder.look(1) == []
    assert folder.look(QUIET) == [1]


def test_names_match_in_whatever_case_and_any_pattern_will_do(folder: Folder) -> None:
    folder.watch(pattern=("*.mov", "*.mp4"))
    for name in ("A.MP4", "b.Mov", "c.mkv"):
        folder.put(name)
    assert len(folder.look(0, QUIET)) == 2


def test_subfolders_are_looked_into_as_configured(board: Board, folder: Folder) -> None:
    for name in ("day 1/card/a.mp4", "@eaDir/b.mp4", ".trash/c.mp4", "day 1/#recycle/d.mp4"):
        folder.put(name)
    (folder.path / "loop").symlink_to(folder.path)
    assert folder.look(0, QUIET) == []
    folder.watch(recursive=True)
    (job,) = folder.look(0, QUIET, QUIET)
    found = board.read(records.job, job)
    assert found["metadata"] == {"watch:path": "day 1/card/a.mp4"}
    assert found["title"] == "day 1/card/a.mp4"


def test_a_link_to_a_folder_elsewhere_is_not_followed(folder: Folder, tmp_path: Path) -> None:
    folder.watch(recursive=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.mp4").write_bytes(b"video")
    (folder.path / "there").symlink_to(tmp_path / "elsewhere")
    assert folder.look(0, QUIET, QUIET) == []


# The same content -----------------------------------------------------------


def test_a_file_that_is_touched_is_not_taken_again(board: Board, folder: Folder) -> None:
    path = folder.put("a.mp4")
    assert folder.look(0, QUIET) == [1]
    os.utime(path)
    assert folder.look(1, QUIET, QUIET) == []
    told = "a.mp4 has the content that job 1 was given; to run it again, clone the job"
    assert events(board, "watch.known") == [told]
    os.utime(path, (1, 1))
    folder.watcher = folder.another()
    assert folder.look(1, QUIET, QUIET) == []


def test_a_file_that_is_copied_over_itself_is_not_taken_again(folder: Folder) -> None:
    folder.put("a.mp4")
    assert folder.look(0, QUIET) == [1]
    folder.put("new").replace(folder.path / "a.mp4")
    assert folder.look(1, QUIET, QUIET) == []


@pytest.mark.parametrize("anew", [False, True], ids=["seen", "while it was stopped"])
def test_a_file_that_is_renamed_is_not_taken_again(
    board: Board, folder: Folder, anew: bool
) -> None:
    path = folder.put("a.mp4")
    assert folder.look(0, QUIET) == [1]
    path.rename(folder.path / "b.mp4")
    if anew:
        folder.watcher = folder.another()
    assert folder.look(1, QUIET, QUIET) == []
    assert events(board, "watch.renamed") == ["a.mp4 is b.mp4 now"]
    folder.put("b.mp4", b"another")
    assert folder.look(1, QUIET) == [2]


def test_a_folder_that_is_renamed_gives_nothing_anew(folder: Folder) -> None:
    folder.watch(recursive=True)
    for number in range(3):
        folder.put(f"card/{number}.mp4", b"%d" % number)
    assert len(folder.look(0, QUIET)) == 3
    (folder.path / "card").rename(folder.path / "day")
    assert folder.look(1, QUIET, QUIET) == []


def test_a_new_file_is_no_renamed_one_though_the_content_is_the_same(folder: Folder) -> None:
    """Also where the file system gives it the inode of the one that is gone."""
    folder.put("a.mp4").unlink()
    folder.put("a.mp4")
    assert folder.look(0, QUIET) == [1]
    (folder.path / "a.mp4").unlink()
    folder.put("b.mp4", at=1_700_000_001)
    assert folder.look(1, QUIET) == [2]


def test_a_copy_under_another_name_is_another_file(folder: Folder) -> None:
    folder.put("a.mp4")
    assert folder.look(0, QUIET) == [1]
    folder.put("b.mp4")
    assert folder.look(1, QUIET) == [2]


@pytest.mark.parametrize("at", [0, 500_000, 2_999_999], ids=["head", "between", "tail"])
def test_changed_content_of_the_same_size_is_taken_again(folder: Folder, at: int) -> None:
    content = bytearray(3_000_000)
    folder.put("a.mp4", bytes(content))
    assert folder.look(0, QUIET) == [1]
    content[at : at + 300_000] = b"x" * len(content[at : at + 300_000])
    folder.put("a.mp4", bytes(content), at=1_700_000_001)
    assert folder.look(1, QUIET) == [2]


def test_content_that_comes_back_is_taken_again(folder: Folder) -> None:
    for number, content in enumerate((b"one", b"other", b"one"), 1):
        folder.put("a.mp4", content, at=1_700_000_000 + number)
        assert folder.look(1, QUIET) == [number]


def test_a_large_file_is_not_read_whole(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder.put("a.mp4")
    os.truncate(path, 1 << 40)  # a hole: to read it all would take hours
    assert folder.look(0, QUIET) == [1]


def test_what_was_taken_gets_the_sha256_of_all_of_it(board: Board, folder: Folder) -> None:
    folder.put("a.mp4")
    folder.look(0, QUIET)
    folder.watcher.check()
    whole = hashlib.sha256(b"video").hexdigest()
    assert rows(board, "SELECT sha256, checked FROM watched") == [(whole, 1)]
    assert rows(board, "SELECT sha256 FROM file") == [(whole,)]


def test_a_change_that_no_sample_shows_is_found_by_the_sha256(folder: Folder) -> None:
    content = bytearray(8_000_000)
    folder.put("a.mp4", bytes(content))
    assert folder.look(0, QUIET) == [1]
    folder.watcher.check()
    content[100_000:100_010] = b"other take"
    folder.put("a.mp4", bytes(content), at=1_700_000_001)
    assert folder.look(1, QUIET) == []
    folder.watcher.check()
    assert folder.look(1, QUIET) == [2]
    folder.watcher.check()
    os.utime(folder.path / "a.mp4")
    assert folder.look(1, QUIET) == []
    folder.watcher.check()
    assert folder.look(1, QUIET) == []


def test_what_has_gone_is_checked_no_more(board: Board, folder: Folder) -> None:
    folder.put("a.mp4")
    folder.look(0, QUIET)
    (folder.path / "a.mp4").unlink()
    folder.watcher.check()
    assert rows(board, "SELECT sha256, checked FROM watched") == [("", 1)]


# Whole files only -----------------------------------------------------------


def mp4(there: int, declared: int = 1000) -> bytes:
    """An MP4 of so many bytes of picture out of those that it declares."""
    head = struct.pack(">I4s", 16, b"ftyp") + b"isom0000"
    return head + struct.pack(">I4s", declared + 8, b"mdat") + b"x" * there


def test_a_copy_that_stalls_for_longer_than_quiet_makes_one_job(folder: Folder) -> None:
    folder.put("a.mp4", mp4(500))
    assert folder.look(0, QUIET, QUIET) == []
    folder.put("a.mp4", mp4(1000))
    assert folder.look(1) == []
    assert folder.look(QUIET) == [1]
    assert folder.look(QUIET, PATIENCE) == []


def test_a_file_that_stays_incomplete_is_taken_in_the_end(folder: Folder) -> None:
    folder.put("a.mp4", mp4(500))
    assert folder.look(0, PATIENCE - 1) == []
    assert folder.look(1) == [1]


def test_a_file_that_is_open_for_writing_is_waited_for(folder: Folder) -> None:
    path = folder.put("a.mp4")
    if not open_files.is_local(path):
        pytest.skip("the disk of the tests is not local")
    with open(path, "r+b"):
        assert folder.look(0, QUIET, QUIET) == []
    assert folder.look(1) == [1]


def test_one_that_only_reads_a_file_keeps_none(folder: Folder) -> None:
    with open(folder.put("a.mp4"), "rb"):
        assert folder.look(0, QUIET) == [1]


def test_a_writer_that_comes_while_a_file_is_tried_is_not_held_up(folder: Folder) -> None:
    path = folder.put("a.mp4")
    for _ in range(200):
        open_files.is_written(path)
        with open(path, "r+b"):
            pass


def test_a_changed_file_supersedes_its_job(board: Board, folder: Folder) -> None:
    folder.put("a.mp4", b"half")
    assert folder.look(0, QUIET) == [1]
    folder.put("a.mp4", b"the whole")
    assert folder.look(1, QUIET) == [2]
    states = [board.read(records.job, job)["state"] for job in (1, 2)]
    assert states == ["cancelled", "queued"]
    assert events(board, "job.superseded") == ["a.mp4 has changed since; job 2 has it as it is now"]


def test_a_job_that_has_ended_is_not_superseded(board: Board, folder: Folder) -> None:
    folder.put("a.mp4", b"one")
    assert folder.look(0, QUIET) == [1]
    board.do(lambda s: s.execute("UPDATE job SET state = 'succeeded'"))
    folder.put("a.mp4", b"another")
    assert folder.look(1, QUIET) == [2]
    assert board.read(records.job, 1)["state"] == "succeeded"


def test_what_was_known_of_a_changed_file_is_forgotten(board: Board, folder: Folder) -> None:
    folder.put("a.mp4", b"one")
    folder.look(0, QUIET)
    board.do(lambda s: s.execute("""UPDATE file SET sha256 = 'old', facts = '{"old": 1}'"""))
    folder.put("a.mp4", b"two", at=1_700_000_001)
    folder.look(1, QUIET)
    assert rows(board, "SELECT sha256, facts FROM file") == [("", "{}")]


# Sidecars -------------------------------------------------------------------

WITH_SUBTITLES = replace(
    ENCODE, name="subtitled", inputs=(InputSpec("source"), InputSpec("subtitles", 0, 2))
)


def test_sidecars_never_become_jobs_of_their_own(folder: Folder) -> None:
    folder.watch(pattern=("*",))
    for name in ("e.srt", "f.VTT", "g.xml"):
        folder.put(name)
    assert folder.look(0, QUIET, PATIENCE) == []


@pytest.mark.parametrize(
    "name", ["a.srt", "a.de.srt", "a.pt-BR.vtt", "a.de.forced.srt", "a.mp4.en.SRT"]
)
def test_sidecars_are_inputs_of_their_role(board: Board, folder: Folder, name: str) -> None:
    folder.watch({"encode": replace(WITH_SUBTITLES, name="encode")})
    film, sidecar = folder.put("a.mp4"), folder.put(name)
    folder.put("ab.srt")
    (job,) = folder.look(0, QUIET)
    found = board.read(records.job, job)
    assert [(one["role"], one["href"]) for one in found["inputs"]] == [
        ("source", film.as_uri()),
        ("subtitles", sidecar.as_uri()),
    ]
    assert found["metadata"] == {"watch:path": "a.mp4"}


def test_a_sidecar_belongs_to_the_film_with_the_longest_name(board: Board, folder: Folder) -> None:
    folder.watch({"encode": replace(WITH_SUBTITLES, name="encode")})
    for name in ("a.mp4", "a.de.mp4", "a.de.srt"):
        folder.put(name)
    inputs = {}
    for job in folder.look(0, QUIET):
        found = board.read(records.job, job)
        inputs[found["title"]] = [Path(one["href"]).name for one in found["inputs"]]
    assert inputs == {"a.mp4": ["a.mp4"], "a.de.mp4": ["a.de.mp4", "a.de.srt"]}


def test_sidecars_that_the_workflow_cannot_take_are_told(board: Board, folder: Folder) -> None:
    folder.watch({"encode": replace(WITH_SUBTITLES, name="encode")})
    for name in ("a.mp4", "a.xml", "a.de.srt", "a.en.srt", "a.fr.srt"):
        folder.put(name)
    (job,) = folder.look(0, QUIET)
    found = board.read(records.job, job)
    assert len(found["inputs"]) == 3
    assert found["metadata"]["watch:sidecars"] == "a.fr.srt, a.xml"
    assert events(board, "watch.sidecar-unused") == [
        "a.fr.srt: the workflow has no input for it",
        "a.xml: the workflow has no input for it",
    ]


def test_a_sidecar_that_comes_within_quiet_is_joined(board: Board, folder: Folder) -> None:
    folder.watch({"encode": replace(WITH_SUBTITLES, name="encode")})
    folder.put("a.mp4")
    assert folder.look(0, QUIET - 1) == []
    folder.put("a.srt")
    assert folder.look(0, QUIET - 1) == []
    (job,) = folder.look(1)
    assert len(board.read(records.job, job)["inputs"]) == 2


def test_a_sidecar_that_comes_too_late_is_told_once(board: Board, folder: Folder) -> None:
    folder.put("a.mp4")
    assert folder.look(0, QUIET) == [1]
    folder.put("a.srt")
    for watcher in (folder.watcher, folder.another(), folder.another()):
        folder.watcher = watcher
        assert folder.look(1, QUIET, QUIET) == []
    assert events(board, "watch.sidecar-late") == [
        "a.srt came after its film, a.mp4, was taken by job 1"
    ]


def test_sidecars_can_be_left_to_the_pattern(folder: Folder) -> None:
    folder.watch(pattern=("*.srt",), sidecars={})
    folder.put("a.srt")
    assert folder.look(0, QUIET) == [1]


# Refused files --------------------------------------------------------------


def test_a_refused_file_is_tried_again_later_and_later(
    board: Board, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.watch({})
    folder.put("a.mp4")
    assert folder.look(0, QUIET) == []
    tried = []
    take = watched_files.take
    monkeypatch.setattr(watched_files, "take", lambda *a: tried.append(folder.passed) or take(*a))
    began = folder.passed
    folder.look(*[1] * 100)
    gaps = [b - a for a, b in itertools.pairwise([began, *tried])]
    assert gaps == [RETRY_FIRST, 2 * RETRY_FIRST, 4 * RETRY_FIRST, 8 * RETRY_FIRST]
    assert len(events(board, "watch.refused")) == 1
    folder.watcher.recipes = RECIPES
    assert folder.look(16 * RETRY_FIRST) == [1]


def test_a_file_that_cannot_be_read_yet_is_taken_when_it_can(board: Board, folder: Folder) -> None:
    path = folder.put("a.mp4")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("root reads everything")
    assert folder.look(0, QUIET, PATIENCE) == []
    path.chmod(0o600)
    assert folder.look(RETRY_FIRST) == [1]


def test_nothing_is_lost_while_the_database_is_away(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.put("a.mp4")
    folder.look(0)
    with monkeypatch.context() as patch:

        def away(*arguments: object) -> None:
            raise DatabaseUnavailable("away")

        patch.setattr(folder.board.database, "transact", away)
        with pytest.raises(DatabaseUnavailable):
            folder.look(QUIET)
    assert folder.look(1) == [1]


# Taken files ----------------------------------------------------------------


def succeeded(board: Board) -> None:
    board.do(lambda s: s.execute("UPDATE job SET state = 'succeeded'"))


def test_files_are_moved_away_when_their_job_has_succeeded(board: Board, folder: Folder) -> None:
    folder.watch(after="done", recursive=True)
    folder.put("card/a.mp4", b"film")
    folder.put("card/a.srt", b"text")
    (job,) = folder.look(0, QUIET)
    assert folder.look(1) == []
    assert (folder.path / "card/a.mp4").exists()
    succeeded(board)
    assert folder.look(1, QUIET, QUIET) == []
    assert (folder.path / "done/card/a.mp4").read_bytes() == b"film"
    assert (folder.path / "done/card/a.srt").read_bytes() == b"text"
    assert list((folder.path / "card").iterdir()) == []
    (source,) = board.read(records.job, job)["inputs"]
    assert source["href"] == (folder.path / "done/card/a.mp4").as_uri()


def test_no_file_is_overwritten_by_one_that_is_moved(board: Board, folder: Folder) -> None:
    folder.watch(after="done")
    for content in (b"one", b"two", b"two"):
        folder.put("a.mp4", content)
        assert len(folder.look(1, QUIET)) == 1
        succeeded(board)
        folder.look(1)
    done = {path.name: path.read_bytes() for path in (folder.path / "done").iterdir()}
    assert done == {"a.mp4": b"one", "a (2).mp4": b"two", "a (3).mp4": b"two"}


def test_a_name_that_another_scheduler_takes_first_is_not_overwritten(
    board: Board, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.watch(after="done")
    folder.put("done/a.mp4", b"other")
    folder.put("a.mp4")
    folder.look(0, QUIET)
    succeeded(board)
    with monkeypatch.context() as patch:
        patch.setattr(watch_folders, "_free", lambda store, wanted: wanted)
        folder.look(1)
    assert (folder.path / "done/a.mp4").read_bytes() == b"other"
    folder.look(1)
    assert (folder.path / "done/a (2).mp4").read_bytes() == b"video"


def test_the_file_of_a_failed_job_stays(board: Board, folder: Folder) -> None:
    folder.watch(after="done")
    path = folder.put("a.mp4")
    folder.look(0, QUIET)
    board.do(lambda s: s.execute("UPDATE job SET state = 'failed'"))
    folder.look(1, QUIET)
    assert path.exists()


def test_a_file_that_cannot_be_moved_stays_known(
    board: Board, folder: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    folder.watch(after="done")
    path = folder.put("a.mp4")
    folder.look(0, QUIET)
    succeeded(board)
    (folder.path / "done").write_text("a file")
    assert folder.look(1, QUIET) == []
    assert path.exists()
    assert rows(board, "SELECT moved FROM watched") == [(0,)]


# When to look ---------------------------------------------------------------


def test_an_idle_folder_is_not_looked_through_until_something_happens(folder: Folder) -> None:
    if not open_files.is_local(folder.path):
        pytest.skip("the disk of the tests is not local")
    for name in ("notes.txt", "lonely.srt"):
        folder.put(name)
    looks = counted(folder)
    folder.run(5)
    assert looks() <= 3
    folder.run(20)
    assert looks() <= 3
    folder.put("a.mp4")
    assert folder.run(round(QUIET) + 3) == [1]
    before = looks()
    folder.run(20)
    assert looks() <= before + 2
    folder.run(round(LOOK_ANYWAY))
    assert looks() > before


@pytest.mark.parametrize("polled", [False, True], ids=["events", "polled"])
def test_a_folder_becomes_the_same_jobs_with_events_and_without(
    board: Board, folder: Folder, monkeypatch: pytest.MonkeyPatch, polled: bool
) -> None:
    if polled:
        monkeypatch.setattr(open_files, "is_local", lambda path: False)
    folder.watch(recursive=True, pattern=("*",))
    taken = folder.run(2)
    folder.put("a.mp4.part")
    folder.put("sub/deeper/b.mp4")
    folder.put("c.mp4", mp4(500))
    taken += folder.run(round(QUIET) + 3)
    (folder.path / "a.mp4.part").rename(folder.path / "a.mp4")
    folder.put("c.mp4", mp4(1000))
    (folder.path / "sub").rename(folder.path / "other")
    taken += folder.run(round(QUIET) + 3)
    os.utime(folder.path / "other/deeper/b.mp4")
    taken += folder.run(round(QUIET) + 3)
    titles = [title for (title,) in rows(board, "SELECT title FROM job ORDER BY title")]
    assert titles == ["a.mp4", "c.mp4", "sub/deeper/b.mp4"]
    assert len(taken) == 3


def test_a_file_that_is_written_and_not_closed_is_waited_for(folder: Folder) -> None:
    """Also one of another user, whose file we may not ask a lease of."""
    if not open_files.is_local(folder.path):
        pytest.skip("the disk of the tests is not local")
    events = FolderEvents()
    assert events.follow([folder.path])
    with open(folder.path / "a.mp4", "wb") as stream:
        stream.write(b"video")
        stream.flush()
        assert events.happened()
        assert events.written == {folder.path / "a.mp4"}
    assert events.happened()
    assert events.written == set()
    assert not events.happened()
    events.close()


def overflow(folder: Path) -> None:
    """Let more happen than the kernel keeps for who does not ask."""
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    path = folder / "b.tmp"
    for _ in range(limit // 2 + 10):
        path.touch()
        path.unlink()


def test_a_file_whose_closing_was_lost_is_not_waited_for(folder: Folder) -> None:
    if not open_files.is_local(folder.path):
        pytest.skip("the disk of the tests is not local")
    events = FolderEvents()
    events.follow([folder.path])
    with open(folder.path / "a.mp4", "wb", buffering=0) as stream:
        stream.write(b"video")
        assert events.happened()
        assert events.written
        overflow(folder.path)
    assert events.happened()
    assert events.written == set()
    events.close()


def test_lost_events_and_removed_folders_are_survived(folder: Folder) -> None:
    if not open_files.is_local(folder.path):
        pytest.skip("the disk of the tests is not local")
    folder.watch(recursive=True)
    folder.put("sub/a.mp4")
    folder.run(3)
    assert folder.watcher.events._inotify is not None
    overflow(folder.path / "sub")
    folder.put("sub/b.mp4")
    assert len(folder.run(round(QUIET) + 3)) == 2
    shutil.rmtree(folder.path / "sub")
    assert folder.run(3) == []
    folder.put("sub/c.mp4", b"another")
    assert len(folder.run(round(QUIET) + 3)) == 1


def test_a_disk_that_is_not_mounted_for_a_while_gives_nothing_anew(folder: Folder) -> None:
    place, away = folder.path / "in", folder.path / "away"
    place.mkdir()
    folder.watch(folder=place)
    folder.put("in/a.mp4")
    assert folder.run(round(QUIET) + 3) == [1]
    place.rename(away)
    assert folder.run(5) == []
    place.mkdir()  # as an empty mount point
    assert folder.run(5) == []
    place.rmdir()
    away.rename(place)
    assert folder.run(2 * round(QUIET)) == []
    folder.put("in/b.mp4")
    assert folder.run(round(QUIET) + 3) == [2]


def test_a_kernel_that_watches_no_more_folders_is_done_without(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(INotify, "add_watch", full)
    folder.put("a.mp4")
    assert folder.run(round(QUIET) + 3) == [1]
    assert caplog.text.count("watch.polled") <= 1


def test_a_folder_that_takes_long_to_look_through_is_looked_through_seldom(folder: Folder) -> None:
    looks = counted(folder, cost=0.5)
    folder.put("a.mp4")
    folder.run(60)
    assert looks() <= 7


def counted(folder: Folder, cost: float = 0.0) -> Callable[[], int]:
    """How many looks there have been, each of which takes so many seconds."""
    look, made = folder.watcher._listing, []

    def listing() -> Any:
        made.append(folder.passed)
        folder.passed += cost
        return look()

    folder.watcher._listing = listing  # type: ignore[method-assign]
    return lambda: len(made)


# What cannot be taken ------------------------------------------------------


def untaken(board: Board, watch: str = "inbox") -> list[tuple[str, str]]:
    found = board.read(queue_statistics.untaken, watch, 10)
    return [(Path(one["path"]).name, one["reason"]) for one in found]


def test_a_file_that_stalls_is_told_until_it_is_taken(board: Board, folder: Folder) -> None:
    folder.put("a.mp4", mp4(500))
    assert folder.look(0, QUIET, QUIET) == []
    ((name, reason),) = untaken(board)
    assert (name, reason.split(":")[0]) == ("a.mp4", "is waited for")
    (told,) = events(board, "watch.waiting")
    assert "a.mp4 is waited for" in told
    assert board.read(queue_statistics.untaken_count, "inbox") == (1, True)
    assert folder.look(PATIENCE) == [1]
    assert untaken(board) == []


def test_a_refused_file_is_told_until_it_has_gone(board: Board, folder: Folder) -> None:
    path = folder.put("a.mp4")
    folder.watch({})
    folder.look(0, QUIET)
    assert [name for name, _ in untaken(board)] == ["a.mp4"]
    path.unlink()
    folder.look(1)
    assert board.read(queue_statistics.untaken_count, "inbox") == (0, True)


def test_a_folder_that_cannot_be_read_is_told_until_it_can(board: Board, folder: Folder) -> None:
    folder.watch(folder=folder.path / "later")
    folder.look(0, 1)
    assert untaken(board) == [("later", "No such file or directory")]
    assert board.read(queue_statistics.untaken_count, "inbox") == (0, False)
    assert len(events(board, "watch.unreadable")) == 1
    (folder.path / "later").mkdir()
    folder.watch(folder=folder.path / "later")  # by a scheduler that starts anew
    folder.look(0)
    assert board.read(queue_statistics.untaken_count, "inbox") == (0, True)


def test_files_that_have_gone_are_forgotten_with_their_jobs(board: Board, folder: Folder) -> None:
    paths = [folder.put(name, name.encode()) for name in ("a.mp4", "b.mp4", "c.mp4")]
    first, _, _ = folder.look(0, QUIET)
    for path in paths[:2]:
        path.unlink()
    folder.look(PRUNE_EVERY)
    assert len(rows(board, "SELECT 1 FROM watched")) == 3, "their jobs are there"
    board.do(lambda s: s.execute("DELETE FROM job WHERE id <> ?", (first,)))
    folder.look(PRUNE_EVERY)
    known = rows(board, "SELECT href FROM watched ORDER BY href")
    assert known == [(paths[0].as_uri(),), (paths[2].as_uri(),)]
    assert folder.look(QUIET) == [], "what is there is not taken anew"


def test_nothing_is_forgotten_while_the_disk_is_not_mounted(board: Board, folder: Folder) -> None:
    path = folder.put("a.mp4")
    folder.look(0, QUIET)
    path.unlink()
    board.do(lambda s: s.execute("DELETE FROM job"))
    folder.look(PRUNE_EVERY)
    assert len(rows(board, "SELECT 1 FROM watched")) == 1
    folder.put("a.mp4")
    assert folder.look(0, QUIET) == []
