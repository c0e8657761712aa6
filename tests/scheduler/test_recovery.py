from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from backoffice.engine import leases
from backoffice.engine.claims import Claim
from backoffice.scheduler import recovery
from backoffice.scheduler.recovery import Recovery
from backoffice.states import READY, RUNNING
from tests.board import Board, chain
from tests.crowd import together

LEASE = 60.0  # seconds, as the board gives them


def rows(board: Board, query: str, *values: object) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = board.read(lambda s: s.execute(query, values).get_all())
    return found


class World:
    """A board with one running task, two clocks, and a scheduler that looks
    at them: the database's may be set, the monotonic one goes on."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.now = board.clock()
        self.passed = 1000.0
        self.recovery = self.another()
        board.submit(chain("one"))
        self.worker = board.worker()
        (one,) = board.claim(self.worker)
        self.claim: Claim = one.claim

    def another(self) -> Recovery:
        return Recovery(self.board.database, lambda: self.passed)

    def go(self, seconds: float, *, every: float = 1.0, beat: float = 0.0) -> None:
        """Let time pass with a look at each step; with ``beat`` the worker is
        heard of at such distances."""
        for number in range(1, round(seconds / every) + 1):
            self.now += timedelta(seconds=every)
            self.passed += every
            if beat and number % round(beat / every) == 0:
                self.beat()
            self.recovery.run()

    def beat(self) -> None:
        self.board.do(leases.heartbeat, self.worker, [self.claim], LEASE, self.now)

    @property
    def state(self) -> str:
        (row,) = rows(self.board, "SELECT state FROM task")
        return str(row[0])

    @property
    def worker_state(self) -> str:
        (row,) = rows(self.board, "SELECT state FROM worker")
        return str(row[0])


@pytest.fixture
def world(board: Board, monkeypatch: pytest.MonkeyPatch) -> World:
    world = World(board)
    monkeypatch.setattr(recovery, "clock", lambda store: world.now)
    return world


def test_a_worker_that_beats_keeps_its_task(world: World) -> None:
    world.go(600, every=2, beat=10)
    assert (world.state, world.worker_state) == (RUNNING, "active")


def test_a_silent_workers_task_comes_back_when_its_lease_has_ended(world: World) -> None:
    world.beat()
    world.go(LEASE - 1)
    assert (world.state, world.worker_state) == (RUNNING, "active")
    world.go(3)
    assert (world.state, world.worker_state) == (READY, "lost")
    assert rows(world.board, "SELECT action FROM event ORDER BY id DESC LIMIT 2") == [
        ("worker.lost",),
        ("task.lost",),
    ]
    assert world.board.claim(world.board.worker())[0].claim.attempt == 2


@pytest.mark.parametrize("jump", [timedelta(hours=2), timedelta(hours=-2)], ids=["on", "back"])
def test_a_clock_that_is_set_takes_no_task_from_a_worker_that_beats(
    world: World, jump: timedelta
) -> None:
    world.go(30, beat=10)
    world.now += jump
    world.go(120, beat=10)
    world.now -= jump
    world.go(120, beat=10)
    assert (world.state, world.worker_state) == (RUNNING, "active")
    assert rows(world.board, "SELECT COUNT(*) FROM attempt") == [(1,)]


@pytest.mark.parametrize("jump", [timedelta(hours=2), timedelta(hours=-2)], ids=["on", "back"])
def test_a_clock_that_is_set_keeps_no_task_with_a_worker_that_is_gone(
    world: World, jump: timedelta
) -> None:
    world.beat()
    world.go(5)
    world.now += jump
    world.go(LEASE + 3)
    assert (world.state, world.worker_state) == (READY, "lost")


def test_a_clock_set_on_makes_no_scheduler_hasty(world: World) -> None:
    world.beat()
    world.go(1)
    world.now += timedelta(hours=2)
    world.go(LEASE / 2 - 5)
    assert world.state == RUNNING


def test_a_scheduler_that_has_just_started_watches_before_it_acts(world: World) -> None:
    world.beat()
    world.now += timedelta(hours=2)
    world.recovery = world.another()
    world.go(LEASE / 2 - 2)
    assert world.state == RUNNING
    world.go(4)
    assert world.state == READY


def test_of_two_schedulers_one_gives_a_task_back_and_once(world: World) -> None:
    world.beat()
    both = [world.recovery, world.another()]
    for _ in range(round(LEASE) + 2):
        world.now += timedelta(seconds=1)
        world.passed += 1
        together(world.board.database, *[one.run for one in both])
    assert rows(world.board, "SELECT state, losses FROM task") == [(READY, 1)]
    assert rows(world.board, "SELECT COUNT(*) FROM event WHERE action = 'worker.lost'") == [(1,)]


def test_a_task_whose_worker_is_not_known_any_more_comes_back(world: World) -> None:
    world.board.do(lambda s: s.execute("DELETE FROM worker"))
    world.beat()
    world.go(LEASE + 3)
    assert world.state == READY


def test_what_was_watched_is_forgotten_with_its_task(world: World) -> None:
    world.recovery.run()
    assert world.recovery.leases.since
    world.board.finish(world.claim)
    world.recovery.run()
    assert not world.recovery.leases.since
