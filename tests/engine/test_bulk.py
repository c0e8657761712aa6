"""Actions on many jobs, files that are registered, publications taken back."""

from __future__ import annotations

from pathlib import Path

import pytest

from backoffice.data.search import Filter
from backoffice.engine import bulk_actions, file_registry, jobs, submission
from backoffice.errors import Conflict, Invalid
from backoffice.reports import records
from backoffice.states import JOB_ACTIONS
from tests.board import Board, chain


@pytest.fixture
def mixed(board: Board) -> Board:
    """Jobs 1 to 3 failed, 4 to 6 queued, 7 paused."""
    for _ in range(3):
        board.submit(submitter="alice")
    board.run(board.worker(), fail={"one": "broken"})
    for _ in range(3):
        board.submit(title="night sea")
    board.do(jobs.pause, board.submit(), "alice")
    return board


def states(board: Board) -> list[str]:
    return [job["state"] for job in board.read(records.jobs, limit=99)][::-1]


def test_a_preview_counts_and_changes_nothing(mixed: Board) -> None:
    before = states(mixed), mixed.read(records.events, limit=99)
    found = bulk_actions.preview(mixed.database, "cancel", Filter())
    assert (states(mixed), mixed.read(records.events, limit=99)) == before
    assert (found["matched"], found["possible"], found["done"]) == (7, 4, 0)
    assert (found["action"], found["preview"], found["more"]) == ("cancel", True, False)
    assert [one["job"] for one in found["refusals"]] == [3, 2, 1]
    assert "job 3 is failed; cancel is possible when" in found["refusals"][0]["message"]


def test_a_preview_counts_only_so_far(mixed: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_actions, "COUNTED", 3)
    found = bulk_actions.preview(mixed.database, "cancel", Filter())
    assert (found["matched"], found["possible"], found["more"]) == (3, 3, True)


@pytest.mark.parametrize("batch", [1, 2, 50])
def test_an_action_reaches_every_job_that_matches(
    mixed: Board, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(bulk_actions, "_BATCH", batch)
    result = bulk_actions.apply(mixed.database, "cancel", Filter(), "bob")
    assert states(mixed) == ["failed"] * 3 + ["cancelled"] * 4
    assert (result["matched"], result["possible"], result["done"]) == (7, 4, 4)
    assert result["preview"] is False
    happened = mixed.read(records.events, limit=99)
    asked = [e["job"] for e in happened if e["action"] == "job.cancel-requested"]
    assert sorted(asked) == [4, 5, 6, 7]
    assert {e["actor"] for e in happened if e["action"] == "job.cancel-requested"} == {"bob"}


def test_an_action_keeps_to_its_filter(mixed: Board) -> None:
    assert bulk_actions.apply(mixed.database, "pause", Filter(text="sea"), "bob")["done"] == 3
    assert states(mixed) == ["failed"] * 3 + ["paused"] * 4
    assert (
        bulk_actions.apply(mixed.database, "resume", Filter(states=["failed"]), "bob")["done"] == 0
    )
    assert (
        bulk_actions.apply(mixed.database, "retry", Filter(submitter="alice"), "bob")["done"] == 3
    )


def test_an_action_on_named_jobs_tells_of_those_it_cannot_change(mixed: Board) -> None:
    result = bulk_actions.apply(mixed.database, "retry", [2, 4, 99], "bob")
    assert (result["matched"], result["possible"], result["done"]) == (3, 1, 1)
    assert [one["job"] for one in result["refusals"]] == [4, 99]
    assert result["refusals"][1]["message"] == "there is no job 99"
    assert states(mixed)[1] == "running" or states(mixed)[1] == "queued"


def test_the_priority_of_many_is_set(mixed: Board) -> None:
    bulk_actions.apply(mixed.database, "priority", Filter(states=["queued"]), "bob", 7)
    assert [job["priority"] for job in mixed.read(records.jobs, limit=4)] == [50, 7, 7, 7]


def test_a_job_that_changes_meanwhile_is_told_of(mixed: Board) -> None:
    done, refusals = mixed.do(bulk_actions._act_on, jobs.pause, [5, 7, 99], "bob")
    assert done == 1
    assert [one["job"] for one in refusals] == [7, 99]


@pytest.mark.parametrize(
    ("action", "value", "words"),
    [
        ("priority", None, "say which priority"),
        ("priority", 101, "not from 0"),
        ("clone", None, "no action on many jobs"),
    ],
)
def test_a_wrong_action_on_many_is_refused(
    board: Board, action: str, value: int | None, words: str
) -> None:
    with pytest.raises(Invalid, match=words):
        bulk_actions.apply(board.database, action, Filter(), "bob", value)


def test_every_action_on_many_can_be_counted(mixed: Board) -> None:
    for action in JOB_ACTIONS:
        assert bulk_actions.preview(mixed.database, action, Filter())["matched"] == 7


# Files ----------------------------------------------------------------------


def register(board: Board, path: Path, **metadata: str) -> tuple[int, bool]:
    size = path.stat().st_size
    found: tuple[int, bool] = board.do(file_registry.register, path, size, "alice", metadata)
    return found


def last_actions(board: Board) -> list[str]:
    return [event["action"] for event in board.read(records.events, limit=9)]


def test_a_file_is_registered_once(board: Board, source: Path) -> None:
    file, new = register(board, source, title="A")
    assert new
    assert register(board, source, title="A") == (file, False)
    assert last_actions(board) == ["file.registered"]
    shown = board.read(records.file, file)
    assert (shown["metadata"], shown["size"]) == ({"title": "A"}, source.stat().st_size)
    (event,) = board.read(records.events, limit=9)
    assert (event["actor"], event["subject"]) == ("alice", f"file {file}")


def test_metadata_of_a_known_file_is_added_to(board: Board, source: Path) -> None:
    file, _ = register(board, source, title="A", note="old")
    register(board, source, note="new", place="x")
    assert board.read(records.file, file)["metadata"] == {"title": "A", "note": "new", "place": "x"}
    assert last_actions(board) == ["file.registered", "file.changed"]


def test_what_was_known_of_a_file_that_grew_is_forgotten(board: Board, source: Path) -> None:
    file, _ = register(board, source)
    board.do(lambda s: s.execute("UPDATE file SET sha256 = 'x' WHERE id = ?", (file,)))
    source.write_bytes(source.read_bytes() + b"more")
    assert register(board, source) == (file, False)
    assert board.read(records.file, file)["sha256"] == ""


def test_metadata_too_long_is_refused(board: Board, source: Path) -> None:
    with pytest.raises(Invalid, match="at most"):
        register(board, source, title="x" * 10_001)


# Publications ---------------------------------------------------------------


def test_a_publication_is_taken_back_by_a_job() -> None:
    publication = {"id": 7, "path": "a/" + "x" * 600, "state": "published"}
    request = submission.retraction(publication)
    assert (request.workflow, request.parameters) == ("retract", {"publication": "7"})
    submission._check(request)
    with pytest.raises(Conflict, match="publication 7 is retracted already"):
        submission.retraction(publication | {"state": "retracted"})


def test_an_action_on_no_job_is_no_fault(board: Board) -> None:
    board.submit(chain("one"))
    selections: list[bulk_actions.Selection] = [Filter(workflow="none"), []]
    for wanted in selections:
        result = bulk_actions.apply(board.database, "cancel", wanted, "bob")
        assert (result["matched"], result["done"], result["refusals"]) == (0, 0, [])
