from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import IO

import pytest

from backoffice.cli import progress
from backoffice.cli.database_backend import DatabaseBackend
from backoffice.config.settings import Settings
from backoffice.engine import claims, jobs, leases
from backoffice.errors import DatabaseUnavailable, NotFound
from backoffice.states import FAILED
from tests.board import Board, chain


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def board(settings: Settings) -> Iterator[Board]:
    board = Board(settings)
    yield board
    board.close()


def follow(board: Board, job: int, out: IO[str], sleep: Callable[[float], None]) -> str:
    backend = DatabaseBackend(board.settings, board.database, sleep)
    return progress.watch(backend.follow(job), out)


def followed(board: Board, job: int, *steps: Callable[[], object]) -> tuple[str, list[str]]:
    """The final state and the lines, with a step taken at each pause."""
    out, todo = io.StringIO(), iter(steps)

    def step(seconds: float) -> None:
        next(todo)()

    state = follow(board, job, out, sleep=step)
    return state, out.getvalue().splitlines()


def test_lines_tell_of_every_change_and_every_ten_percent(board: Board) -> None:
    job = board.submit()
    worker = board.worker()
    held = []

    def start() -> None:
        held.append(board.claim(worker)[0].claim)

    def report(percent: float) -> Callable[[], object]:
        return lambda: board.do(leases.report_progress, held[0], percent, "2x", 65.0)

    state, lines = followed(
        board, job, start, report(4), report(11), report(19), lambda: board.run(worker),
        lambda: board.finish(held[0]), lambda: board.run(worker),
    )  # fmt: skip
    assert state == "succeeded"
    assert lines == [
        f"job {job} queued",
        "one running",
        f"job {job} running",
        "one running 10 % (2x, 1 min 5 s left)",
        "one succeeded",
        "two succeeded",
        f"job {job} succeeded",
    ]


def test_a_failure_is_told_with_its_reason(board: Board) -> None:
    job = board.submit(chain("one", attempts=2, backoff=0.0))
    worker = board.worker()

    def fail() -> None:
        board.finish(board.claim(worker)[0].claim, FAILED, "disk\x1b full")

    def again() -> None:
        board.do(lambda store: store.execute("UPDATE task SET run_at = '2020-01-01 00:00:00'"))
        board.do(lambda store: claims.promote(store, board.clock()))
        fail()

    state, lines = followed(board, job, fail, again)
    assert state == "failed"
    assert lines[1:] == [
        "one scheduled: disk\\x1b full",
        f"job {job} running",
        "one failed: disk\\x1b full",
        f"job {job} failed: one failed: disk\\x1b full",
    ]


def test_a_terminal_gets_bars_and_is_left_in_order(board: Board) -> None:
    job = board.submit()
    out = Terminal()

    def step(seconds: float) -> None:
        board.run(board.worker(), fail={"two": "no\x1bgood"})

    assert follow(board, job, out, sleep=step) == "failed"
    assert "two failed: no\\x1bgood" in out.getvalue()
    assert "100 %" not in out.getvalue()
    assert out.getvalue().endswith("\n")


def test_a_bar_shows_what_runs(board: Board) -> None:
    job = board.submit()
    worker = board.worker()
    (one,) = board.claim(worker)
    board.do(leases.report_progress, one.claim, 42.0, "3x", 5.0)
    out = Terminal()

    def step(seconds: float) -> None:
        board.do(jobs.cancel, job, "tester")
        board.finish(one.claim, "cancelled")

    assert follow(board, job, out, sleep=step) == "cancelled"
    assert "one" in out.getvalue()
    assert " 42 %" in out.getvalue()


def test_a_database_that_comes_back_is_waited_for(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = board.submit()
    board.run(board.worker())
    read = board.database.read
    answers = iter([DatabaseUnavailable("away"), None])

    def flaky(*args: object) -> object:
        if error := next(answers):
            raise error
        return read(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(board.database, "read", flaky)
    assert follow(board, job, io.StringIO(), sleep=lambda s: None) == "succeeded"


def test_a_database_that_stays_away_is_reported(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*args: object) -> None:
        raise DatabaseUnavailable("away")

    monkeypatch.setattr(board.database, "read", away)
    with pytest.raises(DatabaseUnavailable):
        follow(board, 1, io.StringIO(), sleep=lambda s: None)


def test_a_job_that_is_not_there_is_not_found(board: Board) -> None:
    with pytest.raises(NotFound):
        follow(board, 9, io.StringIO(), sleep=lambda s: None)
