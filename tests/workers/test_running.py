"""Time limits, leases and ends of attempts, with stand-ins for their processes."""

from __future__ import annotations

import signal
from dataclasses import replace

import pytest

from backoffice.engine import assignments
from backoffice.engine.assignments import Assignment
from backoffice.engine.outcomes import Outcome
from backoffice.states import CANCELLED, FAILED, LOST, RELEASED, SUCCEEDED
from backoffice.workers.running import KILL_AFTER, LEASE_MARGIN, RunningAttempt
from backoffice.workers.worker import Worker
from tests.board import Board, chain
from tests.workers.fakes import FakeProcess, run


class Stage:
    """A worker with one running attempt, and a clock that stands still."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.now = 1000.0
        board.submit(chain("one"))
        self.worker = Worker(board.settings, board.database, monotonic=lambda: self.now)
        self.worker.state.id = board.worker()
        (claimed,) = board.claim(self.worker.state.id)
        (assignment,) = board.do(assignments.build, [claimed])
        self.assignment: Assignment = replace(assignment, timeout=100.0, stall=10.0)
        self.process = FakeProcess(board.settings)
        self.running: RunningAttempt = run(self.worker, self.assignment, self.process)

    def go(self, seconds: float) -> None:
        self.now += seconds
        self.worker.attempts.enforce_limits()

    @property
    def ending(self) -> str:
        return self.running.ending.state if self.running.ending else ""

    def give_to_another(self) -> None:
        self.board.do(lambda s: s.execute("UPDATE task SET attempt = attempt + 1"))


@pytest.fixture
def stage(board: Board) -> Stage:
    return Stage(board)


def test_a_silent_attempt_gets_term_and_later_kill(stage: Stage) -> None:
    stage.go(10)
    assert stage.process.signals == []
    stage.go(1)
    assert stage.process.signals == [signal.SIGTERM, signal.SIGCONT]
    assert stage.ending == FAILED
    assert stage.worker.attempts.next_kill() == stage.now + KILL_AFTER
    stage.go(KILL_AFTER)
    assert stage.process.signals[2:] == [signal.SIGKILL]


def test_an_attempt_that_waits_for_its_fence_has_not_stalled(stage: Stage) -> None:
    stage.running.awaits_fence = True
    stage.go(60)
    assert stage.ending == ""


def test_an_attempt_that_takes_too_long_ends_though_it_reports(stage: Stage) -> None:
    for _ in range(20):
        stage.running.heard = stage.now
        stage.go(5)
    assert stage.ending == ""
    stage.running.heard = stage.now
    stage.go(1)
    assert stage.ending == FAILED


def test_attempts_are_handed_back_when_the_grace_time_ends(stage: Stage) -> None:
    stage.worker.state.stop_by = stage.now + 5
    stage.go(4)
    assert stage.ending == ""
    stage.go(1)
    assert stage.ending == RELEASED


def test_an_attempt_that_succeeded_while_it_was_ended_has_succeeded(stage: Stage) -> None:
    stage.worker.attempts.end(stage.running, Outcome(FAILED, "stalled"))
    stage.worker.attempts.done(stage.running, Outcome(SUCCEEDED))
    ((_, outcome),) = stage.worker.outbox.entries
    assert outcome.state == SUCCEEDED
    assert stage.process.reaped


def test_an_attempt_that_was_ended_says_why(stage: Stage) -> None:
    stage.worker.attempts.end(stage.running, Outcome(CANCELLED, "cancelled on request"))
    stage.worker.attempts.done(stage.running, Outcome(FAILED, "killed by TERM"))
    ((_, outcome),) = stage.worker.outbox.entries
    assert (outcome.state, outcome.message) == (CANCELLED, "cancelled on request")


def test_a_heartbeat_renews_the_lease_of_the_process(stage: Stage) -> None:
    stage.worker.sync.run()
    lease = stage.board.settings.worker.lease
    assert stage.process.lease.time == stage.now + lease * (1 - LEASE_MARGIN)
    assert stage.ending == ""


def test_an_attempt_whose_task_another_worker_has_ends_without_an_outcome(stage: Stage) -> None:
    stage.give_to_another()
    stage.worker.sync.run()
    assert stage.ending == LOST
    stage.worker.attempts.done(stage.running, Outcome(FAILED, "killed by TERM"))
    assert stage.worker.outbox.entries == []


@pytest.mark.parametrize("allowed", [True, False])
def test_a_fence_is_answered_by_what_the_database_says(stage: Stage, allowed: bool) -> None:
    if not allowed:
        stage.give_to_another()
    stage.running.awaits_fence = True
    stage.worker.sync.leases.answer_fences()
    assert stage.process.sent == [allowed]
    assert not stage.running.awaits_fence


def test_an_attempt_that_is_ending_passes_no_fence(stage: Stage) -> None:
    stage.worker.attempts.end(stage.running, Outcome(CANCELLED, "cancelled on request"))
    stage.running.awaits_fence = True
    stage.worker.sync.leases.answer_fences()
    assert stage.process.sent == [False]


def test_a_slot_is_free_once_its_outcome_is_delivered(stage: Stage) -> None:
    claimer, slots = stage.worker.sync.claimer, stage.board.settings.worker.slots
    assert claimer.free_slots() == slots - 1
    stage.worker.attempts.done(stage.running, Outcome(SUCCEEDED))
    assert claimer.free_slots() == slots - 1
    stage.worker.sync.run()
    assert claimer.free_slots() == slots
    stage.worker.state.draining = True
    assert claimer.free_slots() == 0
