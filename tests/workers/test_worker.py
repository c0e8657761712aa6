from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from backoffice.config.settings import Settings
from backoffice.engine import assignments, submission
from backoffice.engine.assignments import Assignment
from backoffice.engine.claims import ClaimedTask
from backoffice.engine.outcomes import Outcome
from backoffice.reports import records
from backoffice.states import SUCCEEDED
from backoffice.tasks import Output, Result
from backoffice.workers.executors.local import ChildProcess
from backoffice.workers.worker import Worker
from tests.board import Board, chain, made_file
from tests.workers.fakes import FakeProcess, run


def made(href: str) -> Output:
    return made_file(href, "x.mp4", "rendition", "video/mp4", False, 1, "0" * 64, {})


def ended(board: Board, claimed: ClaimedTask, outcome: Outcome) -> tuple[Assignment, Outcome]:
    (assignment,) = board.do(assignments.build, [claimed])
    return assignment, outcome


def test_an_outcome_that_cannot_be_recorded_fails_alone(board: Board) -> None:
    titles = ("good", "bad", "also good")
    submitted = [board.submit(chain("one"), title=title) for title in titles]
    worker = Worker(board.settings, board.database, monotonic=lambda: 0.0)
    worker.state.id = board.worker(slots=3)
    good, bad, also_good = board.claim(worker.state.id, 3)
    twice = [made("file:///a/x.mp4"), made("file:///a/x.mp4")]  # two files cannot be in one place
    worker.outbox.entries = [
        ended(board, good, Outcome(SUCCEEDED)),
        ended(board, bad, Outcome(SUCCEEDED, result=Result(outputs=twice))),
        ended(board, also_good, Outcome(SUCCEEDED)),
    ]
    worker.sync.run()
    assert not worker.outbox
    states = [board.read(records.job, job)["state"] for job in submitted]
    assert states == ["succeeded", "failed", "succeeded"]
    assert "cannot be recorded" in board.read(records.job, submitted[1])["message"]


@pytest.mark.parametrize("request_id", ["", "0123456789abcdef"])
def test_an_assignment_names_the_request_that_submitted_its_job(
    board: Board, request_id: str
) -> None:
    prepared = submission.prepare(submission.JobRequest("chain"), {"chain": chain("one")}, ())
    job, _ = board.do(submission.submit, prepared, "ann", request_id)
    (claimed,) = board.claim(board.worker())
    (assignment,) = board.do(assignments.build, [claimed])
    ids = {"task": claimed.claim.task_id, "job": job, "attempt": 1, "worker": 1}
    assert assignment.ids == ids | ({"request": request_id} if request_id else {})


def changed(settings: Settings, **values: Any) -> Settings:
    return replace(settings, worker=replace(settings.worker, **values))


def test_a_reload_ends_idle_processes_and_updates_the_workers_row(board: Board) -> None:
    worker = Worker(board.settings, board.database)
    worker.state.id = board.worker(slots=2)
    idle = FakeProcess(board.settings)
    worker.pool.idle = [(cast(ChildProcess, idle), 0.0)]
    worker.reload(changed(board.settings, slots=5, queues=("a", "b*"), lease=90.0))
    worker.sync.run()
    assert (idle.reaped, worker.pool.idle) == (True, [])
    row = board.read(
        lambda s: s.execute(
            "SELECT slots, queues, lease FROM worker WHERE id = ?", (worker.state.id,)
        ).get_one()
    )
    assert tuple(row) == (5, "a b*", 90.0)


def test_an_attempt_that_began_before_a_reload_ends_with_its_process(board: Board) -> None:
    board.submit(chain("one"))
    worker = Worker(board.settings, board.database)
    worker.state.id = board.worker()
    (claimed,) = board.claim(worker.state.id, 1)
    assignment, outcome = ended(board, claimed, Outcome(SUCCEEDED))
    old, new = FakeProcess(board.settings), FakeProcess(changed(board.settings, slots=5))
    worker.state.settings = new.settings
    for process in (old, new):
        worker.attempts.done(run(worker, assignment, process), outcome)
    assert (old.reaped, new.reaped) == (True, False)
    assert worker.pool.busy == []


def test_progress_that_is_not_due_yet_is_written_later(board: Board) -> None:
    job = board.submit(chain("one"))
    now = [1000.0]
    worker = Worker(board.settings, board.database, monotonic=lambda: now[0])
    worker.state.id = board.worker()
    (claimed,) = board.claim(worker.state.id, 1)
    assignment, _ = ended(board, claimed, Outcome(SUCCEEDED))
    running = run(worker, assignment, FakeProcess(board.settings))
    for seconds, fraction in ((1.0, 0.25), (0.5, 0.5)):
        now[0] += seconds
        running.fraction = fraction
        running.heard = now[0]
        worker.sync.leases.next_heartbeat = 0.0  # a transaction is due, whatever else is
        worker.sync.run()
    assert board.read(records.job, job)["progress"] == 25
    now[0] += 0.6
    worker.sync.run()
    assert board.read(records.job, job)["progress"] == 50
