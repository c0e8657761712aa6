"""How many there are of each, whatever it would cost to count them."""

from __future__ import annotations

import re

import pytest

from backoffice.data import counter_store
from backoffice.engine import jobs
from backoffice.reports import gauges, queue_statistics
from backoffice.reports.gauges import EVERY, REST, LargeCounts
from tests.board import Board, chain
from tests.plans import Plan, plans


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> int:
    """Counting more than these takes too long."""
    for module in (gauges, queue_statistics):
        monkeypatch.setattr(module, "COUNTED", 3)
    return 3


def in_state(board: Board, state: str) -> float:
    count: float = board.read(lambda s: gauges.jobs(s, counter_store.read(s)))[state]
    return count


def ready(board: Board, queue: str = "default") -> float:
    found = board.read(lambda s: gauges.queues(s, counter_store.read(s)))
    return {one["name"]: float(one["ready"]) for one in found}[queue]


def submit(board: Board, count: int, queue: str = "default") -> None:
    for _ in range(count):
        board.submit(chain("one", queue=queue))


def test_jobs_are_counted_in_each_state(board: Board) -> None:
    submit(board, 3)
    board.do(jobs.pause, 2, "tester")
    board.run(board.worker(), fail={"one": "no"})
    states = board.read(lambda s: gauges.jobs(s, {}))
    assert states == {
        "queued": 0,
        "running": 0,
        "paused": 1,
        "succeeded": 0,
        "failed": 2,
        "cancelled": 0,
    }


def test_queues_tell_what_waits_in_them(board: Board) -> None:
    submit(board, 2)
    submit(board, 1, "gpu")
    (one,) = board.claim(board.worker())
    assert (ready(board), ready(board, "gpu")) == (1, 1)
    queue = board.read(lambda s: gauges.queues(s, {}))[0]
    assert (queue["name"], queue["running"], queue["paused"], queue["limit"]) == (
        "default",
        1,
        False,
        None,
    )
    board.finish(one.claim)


def test_what_is_too_many_is_as_the_scheduler_counted_it(board: Board, few: int) -> None:
    submit(board, 7)
    assert (in_state(board, "queued"), ready(board)) == (few + 1, few + 1)
    LargeCounts(board.database).run()
    assert (in_state(board, "queued"), ready(board)) == (7, 7)


def test_what_is_few_again_is_counted_at_once(board: Board, few: int) -> None:
    submit(board, 7)
    LargeCounts(board.database).run()
    worker = board.worker()
    for claimed in board.claim(worker, 5):
        board.finish(claimed.claim)
    assert (in_state(board, "queued"), in_state(board, "succeeded"), ready(board)) == (2, 4, 2)


def test_the_lanes_of_a_queue_are_counted_together(board: Board, few: int) -> None:
    submit(board, 3)
    for _ in range(3):
        board.submit(chain("one", tags=frozenset({"gpu"})))
    LargeCounts(board.database).run()
    assert ready(board) == 6


def test_counting_takes_a_hundredth_of_the_time_at_most(board: Board, few: int) -> None:
    submit(board, 5)
    times = iter([0.0, 0.0, 10.0, 10.0 + EVERY, 10.0 * REST + 1, 10.0 * REST + 1])
    count = LargeCounts(board.database, monotonic=lambda: next(times))
    count.run()  # from 0 to 10
    submit(board, 1)
    count.run()
    assert ready(board) == 5
    count.run()
    assert ready(board) == 6


def test_nothing_is_sorted_or_read_from_end_to_end(board: Board, few: int) -> None:
    submit(board, 5)
    with plans(board, "COUNT(*)") as found:
        LargeCounts(board.database).run()
        ready(board)
        in_state(board, "queued")
    assert found
    for plan in found:
        # The rows that were counted, and the few lanes there are.
        own = "\n".join(row for row in plan.text.splitlines() if not re.search("some|lane", row))
        assert not Plan(plan.statement, own).slow, plan
