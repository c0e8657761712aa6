"""Whether a load balancer should send requests here, and why not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from backoffice.config.settings import Settings
from backoffice.data.database import Database
from backoffice.system import disk_space
from backoffice.system.disk_space import Disks, Room
from backoffice.web import readiness
from backoffice.web.app import make_app
from tests.board import Board
from tests.web.visitor import Visitor

GOOD = Room(1, 50, 100, True)


@pytest.fixture
def database_uri(tmp_path: Path) -> str:
    """It is the folders that this is about."""
    return f"sqlite:{tmp_path}/backoffice.sqlite"


@pytest.fixture
def rooms(monkeypatch: pytest.MonkeyPatch) -> dict[str, Room | OSError]:
    """What folders are like, by name; the others are as they should be."""
    told: dict[str, Room | OSError] = {}

    def ask(path: Path) -> Room:
        found = told.get(path.name, GOOD)
        if isinstance(found, OSError):
            raise found
        return found

    monkeypatch.setattr(disk_space, "of", lambda settings: Disks(disk_space.folders(settings), ask))
    return told


def reasons(board: Board, settings: Settings | None = None) -> list[str]:
    return readiness.reasons(Database(board.settings.database), settings or board.settings)


def test_all_is_well(board: Board, visitor: Visitor) -> None:
    assert reasons(board) == []
    assert visitor.get("/health/ready").text == "ok\n"


def test_no_worker_and_no_scheduler_are_no_reason(board: Board) -> None:
    assert board.read(lambda s: s.execute("SELECT COUNT(*) FROM worker").get_one()) == (0,)
    assert reasons(board) == []


def test_a_schema_that_is_not_ours_is_a_reason(settings: Settings) -> None:
    (reason,) = readiness.reasons(Database(settings.database), settings)
    assert "backoffice migrate" in reason


@pytest.mark.parametrize("name", ["work", "site"])
def test_a_folder_that_takes_nothing_is_a_reason(
    board: Board, rooms: dict[str, Room | OSError], name: str
) -> None:
    folder = {"work": board.settings.paths.work, "site": board.settings.targets["site"].path}[name]
    assert folder is not None
    rooms[folder.name] = replace(GOOD, writable=False)
    assert reasons(board) == [f"{folder} cannot be written"]


def test_a_root_is_only_read(board: Board, rooms: dict[str, Room | OSError]) -> None:
    rooms["media"] = replace(GOOD, writable=False)
    assert reasons(board) == []


def test_a_root_elsewhere_that_is_not_there_is_a_reason(
    board: Board, rooms: dict[str, Room | OSError]
) -> None:
    """It may be a disk that is not mounted."""
    rooms["media"] = replace(GOOD, there=False)
    assert reasons(board) == []
    elsewhere = replace(board.settings.paths, roots=(Path("/srv/media"),))
    (reason,) = reasons(board, replace(board.settings, paths=elsewhere))
    assert reason == "/srv/media is not there: mount it or make it"


def test_a_folder_that_cannot_be_looked_at_is_a_reason(
    board: Board, rooms: dict[str, Room | OSError]
) -> None:
    rooms["media"] = OSError(116, "Stale file handle")
    (reason,) = reasons(board)
    assert reason.endswith("media cannot be looked at: Stale file handle")


def test_targets_are_of_no_use_where_no_worker_is(
    board: Board, rooms: dict[str, Room | OSError]
) -> None:
    site = board.settings.targets["site"].path
    assert site is not None
    rooms[site.name] = replace(GOOD, writable=False)
    service = replace(board.settings.service, parts=("web",))
    assert reasons(board, replace(board.settings, service=service)) == []


@pytest.fixture
def release() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_a_mount_that_hangs_is_a_reason_once_it_has_hung_for_long(
    board: Board, monkeypatch: pytest.MonkeyPatch, release: threading.Event
) -> None:
    def ask(path: Path) -> Room:
        if path.name == "media":
            release.wait(30)
        return GOOD

    looked = Disks(disk_space.folders(board.settings), ask)
    monkeypatch.setattr(disk_space, "of", lambda settings: looked)
    assert reasons(board) == []
    monkeypatch.setattr(disk_space, "HANGS", 0.0)
    (reason,) = reasons(board)
    assert "media has not answered for" in reason


def test_the_reasons_are_told(settings: Settings) -> None:
    answer = Visitor(make_app(settings)).get("/health/ready", HTTP_ACCEPT="application/json")
    assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
    assert "backoffice migrate" in answer.text
