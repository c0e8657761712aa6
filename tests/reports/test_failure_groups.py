"""Failures of the same cause are one."""

from __future__ import annotations

from datetime import timedelta

import pytest

from backoffice.engine import jobs
from backoffice.reports import failure_groups
from backoffice.reports.failure_groups import Causes, alike
from tests.board import Board, chain
from tests.plans import plans


def since_yesterday(board: Board) -> Causes:
    found: Causes = board.read(failure_groups.since, board.clock() - timedelta(days=1))
    return found


def fail(board: Board, worker: int, message: str, **request: object) -> int:
    job = board.submit(chain("one", name=str(request.pop("workflow", "chain"))), **request)  # type: ignore[arg-type]
    board.run(worker, fail={"one": message})
    return job


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("exit status 1 after 3.5 s", "exit status 187 after 12 s"),
        ("/srv/in/a.mp4: no such file", "/mnt/x/y/z.mov: no such file"),
        ("'/srv/in/my clip.mp4' is no video", "'/srv/in/other.mp4' is no video"),
        ("/srv/a b.mp4 is gone", "/srv/c.mp4 is gone"),
        ("clip-1.mp4 is too long", "über.mov is too long"),
        ("[libx264 @ 0x55d0c8a2] broken", "[libx264 @ 0x7f001234ab] broken"),
        ("http://x.example/a?b=1 answered 500", "https://y.example:8080/ answered 503"),
        ("job 3f2a1b9c-1111-4222-8333-abcdefabcdef", "job 00000000-1111-4222-8333-abcdefabcdef"),
        ("no room: 123456789 bytes", "no room: 99 bytes"),
        ("broken\nat 0:01", "broken\nat the end"),
        ("  broken ", "broken"),
    ],
)
def test_messages_of_one_cause_are_alike(one: str, other: str) -> None:
    assert alike(one) == alike(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("exit status 1", "killed by signal 9"),
        ("encoder libx264 is missing", "encoder libx265 is missing too"),
        ("no picture", "no sound"),
        ("deadbeef food", "no food"),
    ],
)
def test_messages_of_different_causes_stay_different(one: str, other: str) -> None:
    assert alike(one) != alike(other)


def test_a_cause_is_short_and_never_empty() -> None:
    assert alike("") == alike(" \n ") == "no message"
    assert len(alike("ü" * 10_000)) == 200


def test_failures_are_grouped_and_counted(board: Board) -> None:
    worker = board.worker()
    first = fail(board, worker, "/srv/a.mp4: no picture", workflow="proxy")
    second = fail(board, worker, "/srv/b.mp4: no picture", workflow="audio")
    other = fail(board, worker, "no room")
    found = since_yesterday(board)
    assert (found.jobs, found.more) == (3, False)
    assert [cause.failed for cause in found.found] == [[second, first], [other]]
    cause = found.found[0]
    assert cause.text == "one failed: …: no picture"
    assert cause.message == "one failed: /srv/b.mp4: no picture"
    assert (cause.jobs, cause.example, cause.workflows) == (2, second, ["audio", "proxy"])
    assert abs(cause.newest - board.clock()) < timedelta(minutes=1)


def test_a_job_that_was_retried_is_told_but_cannot_be_retried(board: Board) -> None:
    worker = board.worker()
    job = fail(board, worker, "no room")
    board.do(jobs.retry, job, "tester")
    (cause,) = since_yesterday(board).found
    assert (cause.jobs, cause.failed) == (1, [])


def test_a_job_that_fails_again_counts_once_with_its_newest_cause(board: Board) -> None:
    worker = board.worker()
    job = fail(board, worker, "no room")
    board.do(jobs.retry, job, "tester")
    board.run(worker, fail={"one": "no picture"})
    (cause,) = since_yesterday(board).found
    assert (cause.text, cause.jobs, cause.failed) == ("one failed: no picture", 1, [job])


def test_what_failed_before_is_left_out(board: Board) -> None:
    fail(board, board.worker(), "no room")
    board.do(lambda s: s.execute("UPDATE event SET at = '2020-01-01 00:00:00'"))
    assert since_yesterday(board) == Causes([], 0, False)


def test_no_more_than_the_newest_are_looked_at(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failure_groups, "LOOKED_AT", 2)
    worker = board.worker()
    ids = [fail(board, worker, "no room") for _ in range(3)]
    found = since_yesterday(board)
    assert (found.jobs, found.more) == (2, True)
    assert found.found[0].failed == ids[:0:-1]


def test_failures_are_read_by_an_index(board: Board) -> None:
    fail(board, board.worker(), "no room")
    with plans(board, "job.failed") as found:
        since_yesterday(board)
    assert found
    assert not any(plan.slow for plan in found), found
