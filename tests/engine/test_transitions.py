from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from backoffice.data.sql import moment
from backoffice.engine import claims, jobs, leases, transitions
from backoffice.engine.claims import Claim
from backoffice.engine.workflows import Condition, InputSpec, TaskSpec
from backoffice.reports import records
from backoffice.states import (
    BLOCKED,
    CANCELLED,
    FAILED,
    PAUSED,
    QUEUED,
    READY,
    RUNNING,
    SCHEDULED,
    SKIPPED,
    SUCCEEDED,
)
from tests.board import SOURCE, Board, chain, recipe


def task(name: str, *needs: str, **changes: Any) -> TaskSpec:
    return TaskSpec(name=name, type="noop", needs=needs, **changes)


DIAMOND = recipe(task("a"), task("b", "a"), task("c", "a"), task("d", "b", "c"))
RED = Condition("parameter.colour", equals="red")


def states(board: Board, job: int) -> dict[str, str]:
    return {t["name"]: t["state"] for t in board.read(records.job, job)["tasks"]}


def state(board: Board, job: int) -> str:
    return str(board.read(records.job, job)["state"])


def claimed(board: Board, worker: int) -> dict[str, Claim]:
    return {one.name: one.claim for one in board.claim(worker, 99)}


def run_at(board: Board) -> datetime:
    (value,) = board.read(
        lambda s: s.execute("SELECT run_at FROM task WHERE state = 'scheduled'").get_one()
    )
    return moment(value) or datetime.min


# Dependencies ---------------------------------------------------------------


def test_a_task_starts_when_all_that_it_needs_is_done(board: Board) -> None:
    job = board.submit(DIAMOND)
    worker = board.worker()
    assert states(board, job) == {"a": READY, "b": BLOCKED, "c": BLOCKED, "d": BLOCKED}
    board.finish(claimed(board, worker)["a"])
    middle = claimed(board, worker)
    assert set(middle) == {"b", "c"}
    board.finish(middle["b"])
    assert states(board, job)["d"] == BLOCKED
    board.finish(middle["c"])
    assert states(board, job) == {"a": SUCCEEDED, "b": SUCCEEDED, "c": SUCCEEDED, "d": READY}
    board.finish(claimed(board, worker)["d"])
    assert state(board, job) == SUCCEEDED


def test_a_job_is_queued_then_running_then_done_and_says_when(board: Board) -> None:
    job = board.submit(chain("one", "two"))
    assert state(board, job) == QUEUED
    worker = board.worker()
    held = claimed(board, worker)["one"]
    assert state(board, job) == RUNNING
    board.finish(held)
    assert state(board, job) == RUNNING
    board.run(worker)
    row = board.read(records.job, job)
    assert (row["state"], row["progress"]) == (SUCCEEDED, 100)
    assert row["submitted"] <= row["started"] <= row["finished"]


def test_a_job_without_tasks_has_succeeded_at_once(board: Board) -> None:
    assert state(board, board.submit(recipe())) == SUCCEEDED


def test_settling_once_more_changes_nothing(board: Board) -> None:
    job = board.submit(DIAMOND)
    board.finish(claimed(board, board.worker())["a"])

    def settle(store: Any) -> list[Any]:
        whole = transitions.lock(store, job)
        assert whole is not None
        return transitions.advance(store, whole, datetime(2026, 1, 1))

    before = board.read(records.job, job)
    assert board.do(settle) == []
    assert board.read(records.job, job) == before


def test_a_job_that_is_not_there_has_no_whole(board: Board) -> None:
    assert board.do(transitions.lock, 5) is None


# Conditions -----------------------------------------------------------------


def test_what_is_skipped_counts_as_done_and_lets_the_next_through(board: Board) -> None:
    job = board.submit(
        recipe(task("a"), task("b", "a", when=(RED,)), task("c", "b", when=(RED,)), task("d", "c"))
    )
    worker = board.worker()
    board.finish(claimed(board, worker)["a"])
    assert states(board, job) == {"a": SUCCEEDED, "b": SKIPPED, "c": SKIPPED, "d": READY}
    board.run(worker)
    assert state(board, job) == SUCCEEDED


def test_a_job_of_which_all_is_skipped_has_succeeded(board: Board) -> None:
    job = board.submit(recipe(task("a", when=(RED,)), task("b", "a", when=(RED,))))
    assert (state(board, job), set(states(board, job).values())) == (SUCCEEDED, {SKIPPED})


def test_a_task_whose_condition_holds_runs(board: Board) -> None:
    job = board.submit(recipe(task("a", when=(RED,))), parameters={"colour": "red"})
    assert states(board, job) == {"a": READY}


def test_a_condition_is_asked_when_the_task_could_start(board: Board, source: Any) -> None:
    tall = Condition("source.lines", minimum=720)
    job = board.submit(
        recipe(
            task("probe", inputs=(SOURCE,)),
            task("big", "probe", when=(tall,)),
            task("small", "probe"),
            inputs=(InputSpec("source"),),
        ),
        inputs=[("source", str(source))],
    )
    assert states(board, job)["big"] == BLOCKED
    facts = {1: {"video": [{"width": 1280, "height": 720}], "audio": []}}
    board.finish(claimed(board, board.worker())["probe"], facts=facts)
    assert states(board, job) == {"probe": SUCCEEDED, "big": READY, "small": READY}


@pytest.mark.parametrize(
    ("name", "named", "becomes"),
    [
        ("a.html", "application/octet-stream", "video/mp4"),
        ("a.jpg", "image/jpeg", "video/mp4"),
        ("a.mov", "video/quicktime", "video/quicktime"),
    ],
)
def test_a_file_is_taken_for_what_it_was_found_to_be(
    board: Board, source: Any, name: str, named: str, becomes: str
) -> None:
    path = source.rename(source.with_name(name))
    probing = recipe(task("probe", inputs=(SOURCE,)), inputs=(InputSpec("source"),))
    board.submit(probing, inputs=[("source", str(path))])
    assert board.read(records.file, 1)["media_type"] == named
    facts = {1: {"format": "mov,mp4,m4a,3gp,3g2,mj2", "video": [{"height": 720}]}}
    board.finish(claimed(board, board.worker())["probe"], facts=facts)
    assert board.read(records.file, 1)["media_type"] == becomes


def test_what_is_skipped_does_not_weigh_in_the_progress(board: Board) -> None:
    job = board.submit(recipe(task("a"), task("b", weight=98, when=(RED,)), task("c", "a")))
    board.finish(claimed(board, board.worker())["a"])
    assert board.read(records.job, job)["progress"] == 50


# Failures -------------------------------------------------------------------


def test_what_runs_beside_a_failure_may_finish_and_nothing_new_starts(board: Board) -> None:
    job = board.submit(recipe(task("a"), task("b"), task("c"), task("d", "b")))
    worker = board.worker()
    first = {one.name: one.claim for one in board.claim(worker, 2)}
    board.finish(first["a"], FAILED, "broken", retry=False)
    assert states(board, job) == {"a": FAILED, "b": RUNNING, "c": BLOCKED, "d": BLOCKED}
    assert state(board, job) == RUNNING
    assert board.claim(worker, 9) == []
    board.finish(first["b"])
    row = board.read(records.job, job)
    assert (row["state"], row["message"]) == (FAILED, "a failed: broken")
    assert states(board, job) == {"a": FAILED, "b": SUCCEEDED, "c": BLOCKED, "d": BLOCKED}


def test_what_fails_beside_a_failure_is_not_tried_again(board: Board) -> None:
    job = board.submit(recipe(task("a"), task("b")))
    both = claimed(board, board.worker())
    board.finish(both["a"], FAILED, "broken", retry=False)
    board.finish(both["b"], FAILED, "disk full")
    assert states(board, job) == {"a": FAILED, "b": BLOCKED}
    assert state(board, job) == FAILED
    assert board.do(claims.promote, board.clock() + timedelta(days=1)) == 0


def test_a_message_names_every_task_that_failed(board: Board) -> None:
    job = board.submit(recipe(task("a"), task("b")))
    for held in claimed(board, board.worker()).values():
        board.finish(held, FAILED, "broken", retry=False)
    assert board.read(records.job, job)["message"] == "a failed: broken; b failed: broken"


# Delays ---------------------------------------------------------------------


def test_the_delay_of_a_job_is_waited_for_by_its_first_tasks(board: Board) -> None:
    before = board.clock()
    job = board.submit(recipe(task("a"), task("b", "a")), delay=100)
    assert states(board, job) == {"a": SCHEDULED, "b": BLOCKED}
    assert timedelta(seconds=100) <= run_at(board) - before < timedelta(seconds=110)
    worker = board.worker()
    assert board.claim(worker) == []
    board.do(claims.promote, run_at(board))
    board.finish(claimed(board, worker)["a"])
    assert states(board, job)["b"] == READY


def test_the_delay_of_a_task_begins_when_it_could_start(board: Board) -> None:
    job = board.submit(recipe(task("a"), task("b", "a", delay=100.0)))
    board.finish(claimed(board, board.worker())["a"])
    assert states(board, job)["b"] == SCHEDULED
    assert run_at(board) > board.clock() + timedelta(seconds=90)


def test_a_delay_is_waited_for_once_whatever_happens_between(board: Board) -> None:
    job = board.submit(chain("one"), delay=100)
    worker = board.worker()
    board.do(jobs.pause, job, "me")
    board.do(claims.promote, run_at(board))
    assert states(board, job) == {"one": BLOCKED}
    board.do(jobs.resume, job, "me")
    assert states(board, job) == {"one": READY}
    board.do(jobs.pause, job, "me")
    board.do(jobs.resume, job, "me")
    assert states(board, job) == {"one": READY}
    board.finish(claimed(board, worker)["one"], FAILED, "broken", retry=False)
    board.do(jobs.retry, job, "me")
    assert states(board, job) == {"one": READY}


# Pauses ---------------------------------------------------------------------


def test_a_pause_holds_what_waits_and_lets_what_runs_finish(board: Board) -> None:
    job = board.submit(DIAMOND)
    worker = board.worker()
    board.finish(claimed(board, worker)["a"])
    (b,) = board.claim(worker)
    board.do(jobs.pause, job, "me")
    assert states(board, job) == {"a": SUCCEEDED, "b": RUNNING, "c": BLOCKED, "d": BLOCKED}
    assert board.claim(worker, 9) == []
    board.finish(b.claim)
    assert (state(board, job), states(board, job)["b"]) == (PAUSED, SUCCEEDED)
    board.do(jobs.resume, job, "me")
    assert state(board, job) == RUNNING
    board.run(worker)
    assert state(board, job) == SUCCEEDED


@pytest.mark.parametrize("how", ["lost", "released"])
def test_what_comes_back_while_paused_waits(board: Board, how: str) -> None:
    job = board.submit(chain("one"))
    worker = board.worker()
    held = claimed(board, worker)["one"]
    board.do(jobs.pause, job, "me")
    board.finish(held, how)
    assert states(board, job) == {"one": BLOCKED}
    board.do(jobs.resume, job, "me")
    assert set(claimed(board, worker)) == {"one"}


def test_what_is_to_be_tried_again_waits_when_due_while_paused(board: Board) -> None:
    job = board.submit(chain("one"))
    held = claimed(board, board.worker())["one"]
    board.do(jobs.pause, job, "me")
    board.finish(held, FAILED, "disk full")
    assert states(board, job) == {"one": SCHEDULED}
    board.do(claims.promote, run_at(board))
    assert (state(board, job), states(board, job)) == (PAUSED, {"one": BLOCKED})
    board.do(jobs.resume, job, "me")
    assert states(board, job) == {"one": READY}


def test_a_resume_before_it_is_due_does_not_hurry_a_back_off(board: Board) -> None:
    job = board.submit(chain("one"))
    held = claimed(board, board.worker())["one"]
    board.finish(held, FAILED, "disk full")
    due = run_at(board)
    board.do(jobs.pause, job, "me")
    board.do(jobs.resume, job, "me")
    assert (states(board, job), run_at(board)) == ({"one": SCHEDULED}, due)


def test_a_job_can_end_while_it_is_paused(board: Board) -> None:
    job = board.submit(chain("one"))
    held = claimed(board, board.worker())["one"]
    board.do(jobs.pause, job, "me")
    board.finish(held)
    assert state(board, job) == SUCCEEDED


# Cancels --------------------------------------------------------------------


def test_a_cancel_ends_what_waits_and_asks_what_runs(board: Board) -> None:
    job = board.submit(recipe(task("a"), task("b"), task("c", "a"), task("d", delay=9.0)))
    (a,) = board.claim(board.worker())
    board.do(jobs.cancel, job, "me")
    assert states(board, job) == {"a": RUNNING, "b": CANCELLED, "c": CANCELLED, "d": CANCELLED}
    assert board.read(leases.cancel_requests, [a.claim]) == {a.claim}
    assert state(board, job) == RUNNING
    board.finish(a.claim, CANCELLED, "cancelled on request")
    assert state(board, job) == CANCELLED


def test_a_cancel_of_what_has_not_started_ends_at_once(board: Board) -> None:
    job = board.submit(DIAMOND)
    board.do(jobs.cancel, job, "me")
    assert state(board, job) == CANCELLED
    assert board.claim(board.worker()) == []


def test_a_cancel_beside_a_failure_ends_cancelled(board: Board) -> None:
    job = board.submit(recipe(task("a"), task("b"), task("c")))
    both = {one.name: one.claim for one in board.claim(board.worker(), 2)}
    board.finish(both["a"], FAILED, "broken", retry=False)
    board.do(jobs.cancel, job, "me")
    board.finish(both["b"], CANCELLED)
    assert state(board, job) == CANCELLED
    assert states(board, job) == {"a": FAILED, "b": CANCELLED, "c": CANCELLED}
