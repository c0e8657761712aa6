"""Reason codes: stored with attempts, tasks and events, and shown in documents."""

from __future__ import annotations

from json import loads

import pytest

from backoffice.documents import safe_xml, writing
from backoffice.engine import jobs
from backoffice.engine.outcomes import MAX_LOSSES
from backoffice.reports import records
from backoffice.states import CANCELLED, FAILED, LOST, RELEASED, SUCCEEDED, Reason
from tests.board import Board, chain


def reasons(board: Board, task: int) -> tuple[str | None, list[str | None]]:
    """Of a task and of its attempts."""
    attempts = board.read(records.attempts, task)
    return board.read(records.task, task)["reason"], [one["reason"] for one in attempts]


def events(board: Board) -> dict[str, str | None]:
    history = board.read(records.events, limit=100)
    return {event["action"]: event["reason"] for event in history}


@pytest.mark.parametrize("reason", [Reason.DISK_FULL, Reason.EXIT_STATUS, Reason.OTHER])
def test_a_failure_has_its_reason_in_attempt_task_job_and_history(
    board: Board, reason: Reason
) -> None:
    board.submit(chain("one", attempts=1))
    (claimed,) = board.claim(board.worker())
    board.finish(claimed.claim, FAILED, "in words", reason=reason)
    assert reasons(board, claimed.claim.task_id) == (reason, [reason])
    history = events(board)
    assert (history["task.failed"], history["job.failed"]) == (reason, reason)
    assert (history["task.started"], history["job.started"]) == (None, None)


def test_a_task_that_is_tried_again_keeps_the_last_reason_until_it_starts(board: Board) -> None:
    board.submit(chain("one", attempts=2, backoff=0.0))
    worker = board.worker()
    (claimed,) = board.claim(worker)
    board.finish(claimed.claim, FAILED, "no", reason=Reason.TIMED_OUT)
    assert events(board)["task.retrying"] == Reason.TIMED_OUT
    board.do(lambda s: s.execute("UPDATE task SET state = 'ready'"))
    assert reasons(board, claimed.claim.task_id)[0] == Reason.TIMED_OUT
    (again,) = board.claim(worker)
    assert reasons(board, claimed.claim.task_id) == (None, [Reason.TIMED_OUT, None])
    board.finish(again.claim, SUCCEEDED)
    assert reasons(board, claimed.claim.task_id) == (None, [Reason.TIMED_OUT, None])


def test_a_task_that_is_lost_too_often_says_so(board: Board) -> None:
    board.submit(chain("one"))
    worker = board.worker()
    for _ in range(MAX_LOSSES):
        (claimed,) = board.claim(worker)
        board.finish(claimed.claim, LOST, "gone", reason=Reason.LOST_PROCESS)
    task, attempts = reasons(board, claimed.claim.task_id)
    assert (task, set(attempts)) == (Reason.LOST_TOO_OFTEN, {Reason.LOST_PROCESS})
    assert events(board)["job.failed"] == Reason.LOST_TOO_OFTEN


def test_what_is_handed_back_has_a_reason_in_its_attempt_alone(board: Board) -> None:
    board.submit(chain("one"))
    (claimed,) = board.claim(board.worker())
    board.finish(claimed.claim, RELEASED, "stops", reason=Reason.WORKER_STOPPED)
    assert reasons(board, claimed.claim.task_id) == (None, [Reason.WORKER_STOPPED])
    assert events(board)["task.released"] == Reason.WORKER_STOPPED


def test_a_cancel_is_the_reason_of_what_waited_and_of_what_ran(board: Board) -> None:
    job = board.submit(chain("one", "two"))
    (claimed,) = board.claim(board.worker())
    board.do(jobs.cancel, job, "ann")
    board.finish(claimed.claim, CANCELLED, "on request", reason=Reason.CANCELLED)
    tasks = board.read(records.job, job)["tasks"]
    assert [task["reason"] for task in tasks] == [Reason.CANCELLED, Reason.CANCELLED]


def test_a_retry_forgets_the_reason(board: Board) -> None:
    job = board.submit(chain("one", attempts=1))
    (claimed,) = board.claim(board.worker())
    board.finish(claimed.claim, FAILED, "no", reason=Reason.DAMAGED_SOURCE)
    board.do(jobs.retry, job, "ann")
    assert reasons(board, claimed.claim.task_id)[0] is None


def test_documents_show_the_reason_and_are_valid(board: Board) -> None:
    board.submit(chain("one", attempts=1))
    (claimed,) = board.claim(board.worker())
    board.finish(claimed.claim, FAILED, "no", reason=Reason.STALLED)
    shown = {
        "task": [board.read(records.task, claimed.claim.task_id)],
        "attempt": board.read(records.attempts, claimed.claim.task_id),
        "event": board.read(records.events, limit=100)[-1:],
    }
    for kind, found in shown.items():
        xml = writing.to_xml(f"{kind}s", found)
        root = safe_xml.parse(xml, kind, limit=len(xml))
        assert root[0].get("reason") == "stalled", kind
        assert loads(writing.to_json(f"{kind}s", found))[f"{kind}s"][0]["reason"] == "stalled"
