"""Room on disks; a mount that hangs keeps nobody waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from backoffice.config.settings import Settings
from backoffice.system import disk_space
from backoffice.system.disk_space import Disks, Room

LONG = 30.0


@pytest.fixture
def answers() -> Iterator[threading.Event]:
    """Lets a mount that hangs answer; at the end, every one."""
    event = threading.Event()
    yield event
    event.set()


def test_folders_on_one_disk_are_one(tmp_path: Path) -> None:
    (disk,) = Disks({"work": tmp_path, "root in": tmp_path / "is" / "made" / "later"}).look(LONG)
    assert list(disk.names) == ["work", "root in"]
    assert disk.room is not None
    assert 0 < disk.room.free < disk.room.total
    assert (disk.room.writable, disk.trouble) == (True, "")


def test_a_mount_that_hangs_is_told_and_the_others_are_shown(answers: threading.Event) -> None:
    def ask(path: Path) -> Room:
        if path == Path("/hangs"):
            answers.wait(LONG)
        return Room(1, 50, 100, True)

    looked = Disks({"work": Path("/well"), "root in": Path("/hangs")}, ask)
    began = time.monotonic()
    well, hung = looked.look(0.05)
    assert time.monotonic() - began < LONG / 2
    assert (well.trouble, well.room) == ("", Room(1, 50, 100, True))
    assert hung.trouble.startswith("has not answered for")
    answers.set()
    (both,) = looked.look(LONG)
    assert list(both.names) == ["work", "root in"]


def test_a_mount_that_hangs_is_asked_once(answers: threading.Event) -> None:
    asked = []

    def ask(path: Path) -> Room:
        asked.append(path)
        answers.wait(LONG)
        return Room(1, 50, 100, True)

    looked = Disks({"work": Path("/hangs")}, ask)
    for _ in range(5):
        looked.look(0.01)
    assert len(asked) == 1


def test_what_cannot_be_looked_at_is_told() -> None:
    def ask(path: Path) -> Room:
        raise PermissionError(13, "Permission denied")

    (disk,) = Disks({"work": Path("/no")}, ask).look(LONG)
    assert (disk.room, disk.trouble) == (None, "cannot be looked at: Permission denied")


def test_what_is_read_worked_in_and_published_to_is_looked_at(settings: Settings) -> None:
    assert list(disk_space.folders(settings)) == ["work", "root media", "target site"]


def test_folders_on_one_disk_are_told_each_by_itself(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    looked = Disks({"work": tmp_path / "there", "root in": tmp_path / "later"})
    work, root = looked.each(LONG)
    assert (list(work.names), list(root.names)) == (["work"], ["root in"])
    assert work.room is not None
    assert root.room is not None
    assert (work.room.there, root.room.there) == (True, False)


def test_roots_of_one_name_are_all_looked_at(settings: Settings) -> None:
    roots = (Path("/srv/a/in"), Path("/srv/b/in"), Path("/srv/out"), Path("/"))
    paths = replace(settings.paths, roots=roots)
    names = list(disk_space.folders(replace(settings, paths=paths)))
    assert names[1:5] == ["root /srv/a/in", "root /srv/b/in", "root out", "root /"]
