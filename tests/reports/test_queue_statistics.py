"""What the overview shows of the present."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from backoffice.data import counter_store
from backoffice.engine import jobs, queue_control
from backoffice.reports import queue_statistics
from tests.board import Board, chain
from tests.plans import plans


def queues(board: Board) -> dict[str, Any]:
    return {one["name"]: one for one in board.read(queue_statistics.queues)}


def gpu(**more: Any) -> Any:
    return chain("one", queue="gpu", tags=frozenset({"gpu"}), **more)


# Running --------------------------------------------------------------------


def test_running_tasks_come_with_their_jobs(board: Board) -> None:
    first = board.submit(title="First")
    board.submit(title="Second")
    worker = board.worker()
    board.claim(worker, 2)
    found = board.read(queue_statistics.running, 10)
    assert [one["job_title"] for one in found] == ["Second", "First"]
    assert (found[1]["job"], found[1]["workflow"], found[1]["host"]) == (first, "chain", "here")
    assert len(board.read(queue_statistics.running, 1)) == 1


def test_nothing_runs_on_an_empty_board(board: Board) -> None:
    assert board.read(queue_statistics.running, 10) == []
    assert board.read(queue_statistics.queues) == []
    assert board.read(queue_statistics.paused_jobs) == 0
    assert board.read(queue_statistics.scheduled_tasks) == (0, None)


# The scheduler --------------------------------------------------------------


def test_a_scheduler_that_is_not_there_is_told(board: Board) -> None:
    assert board.read(queue_statistics.no_scheduler) == "no scheduler has ever run: start one"
    counter_store.CounterWriter(board.database, scheduler=True).write()
    assert board.read(queue_statistics.no_scheduler) == ""
    long_ago = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    board.do(counter_store.put, {counter_store.TICK: long_ago.timestamp()})
    told = "no scheduler has been heard of since 2026-01-02 03:04 UTC: start one"
    assert board.read(queue_statistics.no_scheduler) == told


# Queues ---------------------------------------------------------------------


def test_queues_tell_what_waits_and_for_how_long(board: Board) -> None:
    board.submit(priority=50)
    board.submit(priority=10)
    board.submit(gpu())
    then = board.clock() - timedelta(minutes=5)
    board.do(lambda s: s.execute("UPDATE task SET ready_at = ? WHERE id = 1", (then,)))
    found = queues(board)
    assert list(found) == ["default", "gpu"]
    assert (found["default"]["ready"], found["default"]["running"]) == (2, 0)
    assert 299 <= found["default"]["oldest"] < 400
    assert found["gpu"]["lanes"] == [{"tags": ["gpu"], "ready": 1, "running": 0}]


def test_the_oldest_is_found_behind_more_urgent_ones(board: Board) -> None:
    board.submit(priority=90)
    then = board.clock() - timedelta(minutes=5)
    board.do(lambda s: s.execute("UPDATE task SET ready_at = ? WHERE id = 1", (then,)))
    for _ in range(3):
        board.submit(priority=1)
    assert queues(board)["default"]["oldest"] >= 299


def test_long_queues_are_counted_so_far_and_no_further(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_statistics, "COUNTED", 2)
    for _ in range(5):
        board.submit()
    found = queues(board)["default"]
    assert (found["ready"], found["empty_in"]) == (3, None)


def test_how_long_a_queue_takes_is_told_by_what_it_did(board: Board) -> None:
    for _ in range(4):
        board.submit(chain("one"))
    worker = board.worker()
    for held in board.claim(worker, 2):
        board.finish(held.claim)
    then = board.clock() - timedelta(minutes=10)
    board.do(
        lambda s: s.execute("UPDATE event SET at = ? WHERE action = 'task.succeeded'", (then,))
    )
    assert queues(board)["default"]["empty_in"] == pytest.approx(
        600, rel=0.05
    )  # two in ten minutes


def test_nobody_knows_when_a_queue_that_did_nothing_is_empty(board: Board) -> None:
    board.submit()
    assert queues(board)["default"]["empty_in"] is None
    worker = board.worker()
    board.run(worker)
    assert queues(board)["default"]["empty_in"] == 0
    board.submit()
    board.do(lambda s: s.execute("UPDATE event SET at = '2020-01-01 00:00:00'"))
    assert queues(board)["default"]["empty_in"] is None


def test_a_paused_queue_will_not_be_empty(board: Board) -> None:
    for _ in range(3):
        board.submit(chain("one"))
    for held in board.claim(board.worker(), 2):
        board.finish(held.claim)
    board.do(queue_control.pause, "default", "tester")
    assert queues(board)["default"]["empty_in"] is None


# Why they wait --------------------------------------------------------------


def why(board: Board, queue: str = "default") -> str:
    sentence: str = queues(board)[queue]["waits"]
    return sentence


def test_a_queue_tells_why_it_waits(board: Board) -> None:
    board.submit(chain("one"))
    assert why(board) == "no worker is active: start one"
    worker = board.worker(slots=1, queues=["def*"])
    assert why(board) == "workers are about to take them"
    board.submit(gpu())
    assert why(board, "gpu") == "no active worker serves queue gpu"
    board.worker(pid=8, slots=1)
    assert why(board, "gpu") == "no worker with tag gpu serves queue gpu"
    board.do(queue_control.limit, "default", 1, "tester")
    board.claim(worker)
    assert why(board) == ""
    board.submit(chain("one"))
    assert why(board) == "the limit is reached: 1 of 1 tasks of queue default run"
    board.do(queue_control.pause, "default", "tester")
    assert why(board) == "queue default is paused: resume it"


def test_busy_workers_are_a_reason(board: Board) -> None:
    for _ in range(2):
        board.submit(chain("one"))
    board.claim(board.worker(slots=1))
    assert why(board) == "all slots of its workers are busy (1 of 1)"
    board.worker(pid=8, tags=["gpu"])
    assert why(board) == "workers are about to take them"


def test_paused_jobs_and_scheduled_tasks_are_counted(board: Board) -> None:
    board.do(jobs.pause, board.submit(), "tester")
    board.submit(delay=3600)
    count, coming = board.read(queue_statistics.scheduled_tasks)
    assert board.read(queue_statistics.paused_jobs) == 1
    assert count == 1
    assert timedelta(minutes=59) < coming - board.clock() <= timedelta(hours=1)


# Watch folders --------------------------------------------------------------


def test_a_watch_folder_tells_what_it_took(board: Board) -> None:
    board.submit(submitter="watch:other")
    ids = [board.submit(submitter="watch:in", title=str(n)) for n in range(3)]
    assert [one["id"] for one in board.read(queue_statistics.taken, "in", 2)] == ids[:0:-1]


# How the database goes about it ---------------------------------------------


def test_no_table_is_read_from_end_to_end(board: Board) -> None:
    for n in range(30):
        board.submit(gpu() if n % 3 else None, priority=n)
    worker = board.worker()
    board.run(worker)
    board.submit(delay=60)
    board.submit()
    assert board.claim(worker, 1)
    for part in ("FROM task", "FROM event", "FROM job"):
        with plans(board, part) as found:
            board.read(queue_statistics.queues)
            board.read(queue_statistics.running, 10)
            board.read(queue_statistics.paused_jobs)
            board.read(queue_statistics.scheduled_tasks)
            board.read(queue_statistics.taken, "in", 5)
            board.read(queue_statistics.untaken, "in", 5)
        assert found
        for plan in found:
            few = " IN (" in plan.statement or plan.statement.startswith(RUNNING)
            counted = replace(plan, text=plan.text.replace("SCAN some", ""))
            assert few or not counted.slow, plan


# What these read was chosen before, or is no more than workers have slots.
RUNNING = "SELECT task.id FROM task WHERE task.state = "
