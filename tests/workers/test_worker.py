from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import pytest

from backoffice.config.loading import Settings
from backoffice.engine import assignments, jobs
from backoffice.engine.assignments import Assignment
from backoffice.engine.claims import Claimed
from backoffice.engine.outcomes import Outcome
from backoffice.reports import records
from backoffice.states import SUCCEEDED
from backoffice.tasks import Output, Result
from backoffice.workers.executors.local import Slot
from backoffice.workers.worker import Running, Worker
from tests.board import Board, chain, made_file


def made(href: str) -> Output:
    return made_file(href, "x.mp4", "rendition", "video/mp4", False, 1, "0" * 64, {})


def ended(board: Board, claimed: Claimed, outcome: Outcome) -> tuple[Assignment, Outcome]:
    (assignment,) = board.do(assignments.build, [claimed])
    return assignment, outcome


def test_an_outcome_that_cannot_be_recorded_fails_alone(board: Board) -> None:
    titles = ("good", "bad", "also good")
    submitted = [board.submit(chain("one"), title=title) for title in titles]
    worker = Worker(board.settings, board.database, monotonic=lambda: 0.0)
    worker.id = board.worker(slots=3)
    good, bad, also_good = board.claim(worker.id, 3)
    twice = [made("file:///a"), made("file:///a")]  # two files cannot be in one place
    worker.outbox = [
        ended(board, good, Outcome(SUCCEEDED)),
        ended(board, bad, Outcome(SUCCEEDED, result=Result(outputs=twice))),
        ended(board, also_good, Outcome(SUCCEEDED)),
    ]
    worker._talk()
    assert not worker.outbox
    states = [board.read(records.job, job)["state"] for job in submitted]
    assert states == ["succeeded", "failed", "succeeded"]
    assert "cannot be recorded" in board.read(records.job, submitted[1])["message"]


@pytest.mark.parametrize("request_id", ["", "0123456789abcdef"])
def test_who_works_on_a_job_knows_which_request_brought_it(board: Board, request_id: str) -> None:
    prepared = jobs.prepare(jobs.Request("chain"), {"chain": chain("one")}, ())
    job, _ = board.do(jobs.submit, prepared, "ann", request_id)
    (claimed,) = board.claim(board.worker())
    (assignment,) = board.do(assignments.build, [claimed])
    ids = {"task": claimed.held.task_id, "job": job, "attempt": 1, "worker": 1}
    assert assignment.ids == ids | ({"request": request_id} if request_id else {})


@dataclass
class Stub:
    """Stands for a process for attempts."""

    settings: Settings
    buried: bool = False
    pid: int = 0

    def retire(self) -> None:
        pass

    def bury(self) -> int:
        self.buried = True
        return 0


def changed(settings: Settings, **values: Any) -> Settings:
    return replace(settings, worker=replace(settings.worker, **values))


def test_a_reload_ends_idle_processes_and_tells_the_database(board: Board) -> None:
    worker = Worker(board.settings, board.database)
    worker.id = board.worker(slots=2)
    idle = Stub(board.settings)
    worker.idle = [(cast(Slot, idle), 0.0)]
    worker.reload(changed(board.settings, slots=5, queues=("a", "b*"), lease=90.0))
    worker._talk()
    assert (idle.buried, worker.idle) == (True, [])
    row = board.read(
        lambda s: s.execute(
            "SELECT slots, queues, lease FROM worker WHERE id = ?", (worker.id,)
        ).get_one()
    )
    assert tuple(row) == (5, "a b*", 90.0)


def test_an_attempt_that_began_before_a_reload_ends_with_its_process(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Ours are not all children of the worker.
    monkeypatch.setattr("backoffice.workers.worker.kill_strays", lambda slots: None)
    board.submit(chain("one"))
    worker = Worker(board.settings, board.database)
    worker.id = board.worker()
    (claimed,) = board.claim(worker.id, 1)
    assignment, outcome = ended(board, claimed, Outcome(SUCCEEDED))
    old, new = Stub(board.settings), Stub(changed(board.settings, slots=5))
    worker.settings = new.settings
    for slot in (old, new):
        one = Running(assignment, cast(Slot, slot), started=0.0, heard=0.0)
        worker.running = [one]
        worker._done(one, outcome)
    assert (old.buried, new.buried) == (True, False)
