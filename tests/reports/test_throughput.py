"""Jobs that ended, minute by minute."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

import pytest

from backoffice.reports import throughput
from backoffice.reports.throughput import WEEK, Throughput
from tests.board import Board, chain
from tests.plans import plans

NOW = datetime(2026, 11, 21, 12, 30, 30)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[datetime]:
    """The database's time, which a test may set."""
    times = [NOW]
    monkeypatch.setattr(throughput, "clock", lambda store: times[0])
    return times


def ended(board: Board, when: datetime, state: str = "succeeded", number: int = 1) -> list[int]:
    made = [board.submit(chain("one")) for _ in range(number)]
    for job in made:
        values = (state, when, job)
        board.do(
            lambda s, v: s.execute("UPDATE job SET state = ?, finished = ? WHERE id = ?", v), values
        )
    return made


def sums(seen: Throughput, minutes: int, number: int, state: str = "succeeded") -> list[int | None]:
    return [s.ended and s.ended[state] for s in seen.intervals(minutes, number)]


def test_jobs_are_counted_where_they_ended(board: Board, clock: list[datetime]) -> None:
    ended(board, NOW - timedelta(seconds=5), number=2)
    ended(board, NOW - timedelta(minutes=1), "failed")
    ended(board, NOW - timedelta(minutes=3))
    ended(board, NOW - timedelta(days=6), "failed")
    ended(board, NOW - timedelta(days=8))
    seen = Throughput()
    board.read(seen.look, math.inf)
    assert sums(seen, 1, 5) == [0, 1, 0, 0, 2]
    assert sums(seen, 1, 5, "failed") == [0, 0, 0, 1, 0]
    assert sum(sums(seen, 120, 84)) == 3  # type: ignore[arg-type]
    assert sum(sums(seen, 120, 84, "failed")) == 2  # type: ignore[arg-type]


def test_slots_begin_at_whole_multiples_and_the_newest_is_now(
    board: Board, clock: list[datetime]
) -> None:
    seen = Throughput()
    board.read(seen.look, math.inf)
    starts = [slot.start for slot in seen.intervals(120, 3)]
    assert [datetime.utcfromtimestamp(one).hour for one in starts] == [8, 10, 12]


def test_what_is_new_is_added(board: Board, clock: list[datetime]) -> None:
    seen = Throughput()
    board.read(seen.look, math.inf)
    for minute in range(1, 200, 7):
        clock[0] = NOW + timedelta(minutes=minute)
        ended(board, clock[0] - timedelta(seconds=1))
        board.read(seen.look, math.inf)
    assert sum(sums(seen, 1, 300)) == 29  # type: ignore[arg-type]


def test_an_end_that_is_committed_late_is_not_missed(board: Board, clock: list[datetime]) -> None:
    seen = Throughput()
    board.read(seen.look, math.inf)
    clock[0] = NOW + timedelta(minutes=1)
    board.read(seen.look, math.inf)
    ended(board, NOW - timedelta(seconds=20))
    board.read(seen.look, math.inf)
    assert sum(sums(seen, 1, 10)) == 1  # type: ignore[arg-type]


def test_what_was_counted_is_not_read_again(board: Board, clock: list[datetime]) -> None:
    (job,) = ended(board, NOW - timedelta(days=1), "failed")
    seen = Throughput()
    board.read(seen.look, math.inf)
    board.do(lambda s: s.execute("UPDATE job SET finished = NULL WHERE id = ?", (job,)))
    board.read(seen.look, math.inf)
    assert sum(sums(seen, 120, 84, "failed")) == 1  # type: ignore[arg-type]


def test_what_lies_back_is_counted_bit_by_bit(board: Board, clock: list[datetime]) -> None:
    for hour in (1, 30, 60):
        ended(board, NOW - timedelta(hours=hour))
    seen = Throughput()
    board.read(seen.look, 0.0)
    assert sums(seen, 60, 100)[0] is None
    known = [sum(one or 0 for one in sums(seen, 60, 100))]
    for _ in range(3):
        board.read(seen.look, 0.0)
        known.append(sum(one or 0 for one in sums(seen, 60, 100)))
    assert known == [1, 2, 3, 3]
    assert None not in sums(seen, 120, 84)


def test_after_a_long_rest_it_begins_anew(board: Board, clock: list[datetime]) -> None:
    seen = Throughput()
    board.read(seen.look, math.inf)
    for moved in (timedelta(days=3), timedelta(days=1)):  # the second: set back
        clock[0] = NOW + moved
        ended(board, clock[0] - timedelta(seconds=1))
        board.read(seen.look, math.inf)
        assert sums(seen, 1, 1) == [1]


def test_what_is_older_than_a_week_is_forgotten(board: Board, clock: list[datetime]) -> None:
    ended(board, NOW - timedelta(days=6, hours=23))
    seen = Throughput()
    board.read(seen.look, math.inf)
    assert sum(one or 0 for one in sums(seen, 60, WEEK // 60)) == 1
    clock[0] = NOW + timedelta(hours=12)
    board.read(seen.look, math.inf)
    assert sum(one or 0 for one in sums(seen, 60, 2 * WEEK // 60)) == 0


def test_jobs_are_counted_by_an_index(board: Board) -> None:
    ended(board, board.clock() - timedelta(hours=2), number=3)
    with plans(board, "finished") as found:
        board.read(Throughput().look, math.inf)
    assert found
    for plan in found:
        # It groups what it has read, in memory.
        known = ("job_finished", "tables optimized away", "No matching min/max row")
        assert any(words in plan.text for words in known), plan
        assert " ALL " not in plan.text
