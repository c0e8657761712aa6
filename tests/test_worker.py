from __future__ import annotations

from backoffice import assignments, records
from backoffice.assignments import Assignment
from backoffice.claims import Claimed
from backoffice.outcomes import MadeFile, Outcome
from backoffice.states import SUCCEEDED
from backoffice.worker import Worker
from tests.board import Board, chain


def made(href: str) -> MadeFile:
    return MadeFile(href, "x.mp4", "rendition", "video/mp4", False, 1, "0" * 64, {})


def ended(board: Board, claimed: Claimed, outcome: Outcome) -> tuple[Assignment, Outcome]:
    (assignment,) = board.do(assignments.build, [claimed])
    return assignment, outcome


def test_an_outcome_that_cannot_be_recorded_fails_alone(board: Board) -> None:
    jobs = [board.submit(chain("one"), title=title) for title in ("good", "bad", "also good")]
    worker = Worker(board.settings, board.database, monotonic=lambda: 0.0)
    worker.id = board.worker(slots=3)
    good, bad, also_good = board.claim(worker.id, 3)
    twice = [made("file:///a"), made("file:///a")]  # two files cannot be in one place
    worker.outbox = [
        ended(board, good, Outcome(SUCCEEDED)),
        ended(board, bad, Outcome(SUCCEEDED, outputs=twice)),
        ended(board, also_good, Outcome(SUCCEEDED)),
    ]
    worker._talk()
    assert not worker.outbox
    states = [board.read(records.job, job)["state"] for job in jobs]
    assert states == ["succeeded", "failed", "succeeded"]
    assert "cannot be recorded" in board.read(records.job, jobs[1])["message"]
