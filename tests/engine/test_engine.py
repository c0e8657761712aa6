"""Whatever is done to jobs in whatever order, they stay whole and they end."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from json import loads
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from backoffice.data.sql import clock
from backoffice.engine import claims, jobs, leases, outcomes
from backoffice.engine.claims import Claim
from backoffice.engine.outcomes import Outcome
from backoffice.engine.transitions import DONE
from backoffice.engine.workflows import Condition, TaskSpec, Workflow
from backoffice.errors import Conflict
from backoffice.states import (
    BLOCKED,
    CANCELLED,
    FAILED,
    JOB_ACTIONS,
    JOB_ENDED,
    LOST,
    PAUSED,
    QUEUED,
    READY,
    RELEASED,
    RUNNING,
    SCHEDULED,
    SUCCEEDED,
    TASK_ENDED,
)
from tests.board import Board, recipe

TABLES = ("job", "task", "attempt", "event", "worker", "lane", "job_parameter")
ACTIONS: dict[str, Callable[..., None]] = {
    "cancel": jobs.cancel,
    "pause": jobs.pause,
    "resume": jobs.resume,
    "retry": jobs.retry,
}
RED = Condition("parameter.colour", equals="red")
LATER = timedelta(days=2)


@st.composite
def graphs(draw: st.DrawFn) -> Workflow:
    """A workflow of up to five tasks, each after some of those before it."""
    tasks: list[TaskSpec] = []
    for number in range(draw(st.integers(1, 5))):
        before = [task.name for task in tasks]
        task = TaskSpec(
            name=f"t{number}",
            type="noop",
            needs=tuple(name for name in before if draw(st.booleans())),
            when=(RED,) if draw(st.integers(0, 4)) == 0 else (),
            attempts=draw(st.integers(1, 2)),
            delay=draw(st.sampled_from([0.0, 0.0, 60.0])),
            weight=draw(st.integers(0, 3)),
        )
        tasks.append(task)
    return recipe(*tasks)


class Engine(RuleBasedStateMachine):
    board: Board

    def __init__(self) -> None:
        super().__init__()
        for table in TABLES:
            self.board.do(lambda s, table=table: s.execute(f"DELETE FROM {table}"))
        self.jobs: list[int] = []
        self.held: list[Claim] = []
        self.former: list[Claim] = []
        self.workers = [self.board.worker(), self.board.worker()]

    # What may happen

    @initialize(graph=graphs())
    def begin(self, graph: Workflow) -> None:
        self.submit(graph, 1, True)

    @precondition(lambda self: len(self.jobs) < 4)
    @rule(graph=graphs(), priority=st.integers(0, 2), red=st.booleans())
    def submit(self, graph: Workflow, priority: int, red: bool) -> None:
        parameters = {"colour": "red" if red else "blue"}
        self.jobs.append(self.board.submit(graph, priority=priority, parameters=parameters))

    @precondition(lambda self: self.rows("SELECT 1 FROM task WHERE state = 'ready'"))
    @rule(worker=st.integers(0, 1), limit=st.integers(1, 3))
    def claim(self, worker: int, limit: int) -> None:
        claimed = [one.claim for one in self.board.claim(self.workers[worker], limit)]
        assert len(claimed) <= limit
        assert not {one.task_id for one in claimed} & {one.task_id for one in self.held}
        assert not set(claimed) & set(self.former)
        self.held += claimed

    @precondition(lambda self: self.held)
    @rule(data=st.data(), state=st.sampled_from([FAILED, FAILED, LOST, RELEASED]))
    def break_off(self, data: st.DataObject, state: str) -> None:
        held = data.draw(st.sampled_from(self.held))
        self.end(held, state, retry=data.draw(st.booleans()))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def succeed(self, data: st.DataObject) -> None:
        self.end(data.draw(st.sampled_from(self.held)), SUCCEEDED)

    @precondition(lambda self: self.asked())
    @rule(data=st.data())
    def stop(self, data: st.DataObject) -> None:
        self.end(data.draw(st.sampled_from(self.asked())), CANCELLED)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def cancel_under_way(self, data: st.DataObject) -> None:
        held = data.draw(st.sampled_from(self.held))
        self.board.do(jobs.cancel, held.job_id, "me")

    def asked(self) -> list[Claim]:
        wanted = self.board.read(leases.cancel_requests, self.held)
        return [one for one in self.held if one in wanted]

    def end(self, held: Claim, state: str, *, retry: bool = True) -> None:
        self.board.finish(held, state, "so it went", retry=retry)
        self.held.remove(held)
        self.former.append(held)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), percent=st.floats(0, 100))
    def progress(self, data: st.DataObject, percent: float) -> None:
        held = data.draw(st.sampled_from(self.held))
        assert self.board.do(leases.report_progress, held, percent, "1x", None)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def rescue(self, data: st.DataObject) -> None:
        held = data.draw(st.sampled_from(self.held))
        (lease,) = [one for one in self.board.read(leases.current) if one.claim == held]
        assert self.board.do(lambda s: outcomes.rescue(s, lease, clock(s)))
        self.held.remove(held)
        self.former.append(held)

    @precondition(lambda self: self.former)
    @rule(data=st.data(), state=st.sampled_from([SUCCEEDED, FAILED, RELEASED, LOST]))
    def report_too_late(self, data: st.DataObject, state: str) -> None:
        held = data.draw(st.sampled_from(self.former))
        before = self.everything()
        self.board.do(lambda s: outcomes.finish(s, held, Outcome(state, "late"), clock(s)))
        assert not self.board.do(leases.report_progress, held, 99.0, "", None)
        assert self.everything() == before

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), action=st.sampled_from(sorted(ACTIONS)))
    def act(self, data: st.DataObject, action: str) -> None:
        job = data.draw(st.sampled_from(self.jobs))
        ((state,),) = self.rows("SELECT state FROM job WHERE id = ?", job)
        if state in JOB_ACTIONS[action]:
            self.board.do(ACTIONS[action], job, "me")
            return
        before = self.everything()
        with pytest.raises(Conflict):
            self.board.do(ACTIONS[action], job, "me")
        assert self.everything() == before

    @precondition(lambda self: self.rows("SELECT 1 FROM task WHERE state = 'scheduled'"))
    @rule()
    def promote(self) -> None:
        self.board.do(lambda s: claims.promote(s, clock(s) + LATER))

    # What must hold, always

    @invariant()
    def jobs_are_whole(self) -> None:
        for job, (state, started, progress, cancelling) in self.job_rows().items():
            tasks = self.task_rows(job)
            kinds = {state for state, _, _ in tasks.values()}
            assert 0 <= progress <= 100
            if state == SUCCEEDED:
                assert kinds <= set(DONE)
                assert progress == 100
            if state == FAILED:
                assert FAILED in kinds
            if state == CANCELLED:
                assert kinds <= set(TASK_ENDED)
            if state in JOB_ENDED:
                assert not kinds & {RUNNING, READY, SCHEDULED}
            if state == QUEUED:
                assert started is None
            if state == RUNNING:
                assert started is not None
            if state == PAUSED or FAILED in kinds or cancelling:
                assert READY not in kinds
            self.follows(tasks, moving=state in (QUEUED, RUNNING) and FAILED not in kinds)

    @staticmethod
    def follows(tasks: dict[str, tuple[str, int, list[str]]], moving: bool) -> None:
        for state, _, needs in tasks.values():
            met = all(tasks[name][0] in DONE for name in needs)
            if state in (RUNNING, READY, SCHEDULED, SUCCEEDED):
                assert met, "it began before its time"
            if state == BLOCKED and moving:
                assert not met, "nothing holds it, and yet it waits"

    @invariant()
    def history_is_whole(self) -> None:
        running = self.rows("SELECT id, attempt, worker_id FROM task WHERE state = 'running'")
        assert sorted(running) == sorted(one.key for one in self.held)
        open_ = self.rows(
            "SELECT task_id, number, worker_id FROM attempt"
            " WHERE state = 'running' OR finished IS NULL"
        )
        assert sorted(open_) == sorted(running)
        counted = self.rows("SELECT task_id, COUNT(*), MAX(number) FROM attempt GROUP BY task_id")
        last = dict(self.rows("SELECT id, attempt FROM task WHERE attempt > 0"))
        assert {task: count for task, count, _ in counted} == last
        assert {task: number for task, _, number in counted} == last

    # And in the end

    def teardown(self) -> None:
        self.drain()
        for state, *_ in self.job_rows().values():
            assert state in (*JOB_ENDED, PAUSED)
        for job, (state, *_) in self.job_rows().items():
            if state == PAUSED:
                self.board.do(jobs.resume, job, "me")
        self.drain()
        for state, *_ in self.job_rows().values():
            assert state in JOB_ENDED

    def drain(self) -> None:
        """Let workers and scheduler go on until there is nothing to do."""
        for _ in range(50):
            for held in list(self.held):
                self.end(held, SUCCEEDED)
            self.promote()
            self.claim(0, 3)
            if not self.held and not self.rows("SELECT 1 FROM task WHERE state = 'scheduled'"):
                return
        raise AssertionError("there is no end to it")

    # Looking

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = self.board.read(lambda s: s.execute(query, values).get_all())
        return list(found)

    def job_rows(self) -> dict[int, tuple[str, object, float, bool]]:
        query = "SELECT id, state, started, progress, cancel_requested IS NOT NULL FROM job"
        return {
            job: (state, began, done, bool(c)) for job, state, began, done, c in self.rows(query)
        }

    def task_rows(self, job: int) -> dict[str, tuple[str, int, list[str]]]:
        query = "SELECT name, state, attempt, spec FROM task WHERE job_id = ?"
        return {
            name: (state, attempt, loads(spec)["needs"])
            for name, state, attempt, spec in self.rows(query, job)
        }

    def everything(self) -> list[list[tuple[Any, ...]]]:
        return [self.rows(f"SELECT * FROM {table} ORDER BY id") for table in TABLES[:4]]


def run(board: Board, examples: int, steps: int) -> None:
    machine = type("Engine", (Engine,), {"board": board})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_jobs_stay_whole_and_end(board: Board) -> None:
    run(board, examples=60, steps=40)


@pytest.mark.slow
def test_jobs_stay_whole_and_end_in_many_ways(board: Board) -> None:
    run(board, examples=200, steps=50)
