"""The history as it is read: nothing is skipped, and filters are cheap."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from storm.locals import Store

from backoffice.data.sql import insert_many
from backoffice.engine import queue_control
from backoffice.reports import records
from backoffice.scheduler import retention
from tests.board import Board
from tests.conftest import MariaDB
from tests.plans import plans


def event(store: Store, at: datetime, number: int | None = None, **row: Any) -> None:
    row = {
        "id": number,
        "at": at,
        "actor": "ann",
        "action": "queue.paused",
        "subject": "queue q",
        "detail": "",
        **row,
    }
    insert_many(store, "event", list(row), [list(row.values())])


def given_out(board: Board, after: int = 0) -> list[int]:
    shown = board.read(records.events, after=after, limit=99)
    assert board.read(records.newest_event) == (shown[-1]["id"] if shown else after)
    return [one["id"] for one in shown]


@pytest.mark.parametrize("database_uri", ["mariadb"], indirect=True)
def test_what_may_still_come_before_an_event_is_waited_for(board: Board) -> None:
    now = board.clock()
    board.do(event, now, 2)
    assert given_out(board) == []
    board.do(event, now, 1)
    board.do(event, now, 4)
    assert given_out(board) == [1, 2]
    assert [one["id"] for one in board.read(records.events, limit=9)] == [1, 2]
    assert given_out(board, after=2) == []
    board.do(event, now, 3)
    assert given_out(board, after=2) == [3, 4]


@pytest.mark.parametrize("database_uri", ["mariadb"], indirect=True)
def test_an_event_that_never_comes_is_not_waited_for_long(board: Board) -> None:
    now = board.clock()
    board.do(event, now - timedelta(seconds=6), 3)
    board.do(event, now, 4)
    board.do(event, now - timedelta(seconds=6), 6)
    board.do(event, now, 8)
    assert given_out(board) == [3, 4, 6]


@pytest.mark.parametrize("database_uri", ["mariadb"], indirect=True)
def test_a_gap_is_found_however_many_events_are_young(board: Board) -> None:
    now = board.clock()
    for number in (*range(1, 150), *range(151, 400)):
        board.do(event, now, number)
    assert board.read(records.newest_event) == 149
    assert len(board.read(records.events, after=0, limit=999)) == 149


@pytest.mark.parametrize("database_uri", ["mariadb"], indirect=True)
def test_an_event_committed_late_is_not_skipped(board: Board, mariadb: MariaDB) -> None:
    (name,) = board.read(lambda s: s.execute("SELECT DATABASE()").get_one())
    other = mariadb.connect(name)
    try:
        other.cursor().execute(
            "INSERT INTO event (at, actor, action, subject, detail)"
            " VALUES (UTC_TIMESTAMP(6), 'slow', 'a', 's', '')"
        )
        board.do(event, board.clock())
        assert given_out(board) == []
        other.commit()
    finally:
        other.close()
    shown = board.read(records.events, after=0, limit=9)
    assert [one["actor"] for one in shown] == ["slow", "ann"]


def test_the_history_can_be_filtered(board: Board) -> None:
    first, second = board.submit(submitter="alice"), board.submit(submitter="bob")
    board.run(board.worker())
    board.do(queue_control.pause, "default", "alice")

    def found(**wanted: object) -> list[tuple[str, str]]:
        forwards = board.read(records.events, after=0, limit=99, **wanted)
        assert board.read(records.events, limit=99, **wanted) == forwards
        return [(one["action"], one["subject"]) for one in forwards]

    submitted = [("job.submitted", f"job {first}"), ("job.submitted", f"job {second}")]
    assert found(action="job.submitted") == submitted
    assert found(actor="alice") == [submitted[0], ("queue.paused", "queue default")]
    assert found(actor="alice", action="job.submitted") == submitted[:1]
    assert found(subject=f"job {second}")[0] == submitted[1]
    assert found(job=second, subject=f"job {second}") == found(subject=f"job {second}")
    assert {subject for _, subject in found(subject="task 3")} == {"task 3"}
    assert found(subject="queue default") == [("queue.paused", "queue default")]
    assert found(subject="task 99") == found(subject="job x") == found(actor="zoe") == []


def test_what_is_told_of_a_pruned_job_is_found(board: Board) -> None:
    gone = board.submit()
    board.run(board.worker())
    board.age(gone, timedelta(days=9))
    retention.prune(board.database, board.settings, timedelta(days=1))
    then = board.clock() - timedelta(seconds=9)
    board.do(lambda s: s.execute("UPDATE event SET at = ?", (then,)))
    (event,) = board.read(records.events, limit=9, subject=f"job {gone}")
    assert event["action"] == "job.pruned"


@pytest.mark.parametrize("wanted", ["actor", "action", "subject", "job"])
def test_no_filter_of_the_history_sorts_or_reads_all_of_it(board: Board, wanted: str) -> None:
    board.do(insert_many, "event", EVENT_COLUMNS, [event_row(n) for n in range(5000)])
    value: object = 4000 if wanted == "job" else "rare"
    rare = {"job_id": 4000} if wanted == "job" else {wanted: "rare"}
    board.do(event, board.clock() - timedelta(seconds=9), **rare)
    with plans(board, "FROM event") as found:
        assert board.read(records.events, limit=9, **{wanted: value})
    assert found
    assert not any(plan.slow for plan in found), found


EVENT_COLUMNS = ("at", "actor", "action", "subject", "job_id", "detail")


def event_row(number: int) -> tuple[Any, ...]:
    return (datetime(2026, 1, 1), "backoffice", "job.started", f"job {number}", number, "")
