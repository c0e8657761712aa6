from __future__ import annotations

from collections.abc import Iterator

import pytest

from backoffice.config.settings import Settings
from backoffice.engine import jobs, leases, queue_control, worker_registry
from backoffice.engine.claims import ClaimedTask
from backoffice.engine.workflows import Condition, TaskSpec
from backoffice.errors import NotFound
from backoffice.reports import why
from backoffice.states import FAILED
from tests.board import Board, chain, recipe


@pytest.fixture
def board(settings: Settings) -> Iterator[Board]:
    board = Board(settings)
    yield board
    board.close()


def of_task(board: Board, name: str, job: int) -> list[str]:
    (task,) = board.read(
        lambda s: s.execute(
            "SELECT id FROM task WHERE job_id = ? AND name = ?", (job, name)
        ).get_one()
    )
    reasons: list[str] = board.read(why.task, task)
    return reasons


def of_job(board: Board, job: int) -> list[str]:
    reasons: list[str] = board.read(why.job, job)
    return reasons


def started(board: Board, worker: int) -> ClaimedTask:
    (one,) = board.claim(worker)
    return one


def test_a_task_waits_for_those_it_needs(board: Board) -> None:
    job = board.submit()
    assert of_task(board, "two", job) == ["task two is blocked by task one (ready)"]
    one = started(board, board.worker())
    board.do(leases.report_progress, one.claim, 42.0, "1x", None)
    assert of_task(board, "two", job) == ["task two is blocked by task one (running, 42 %)"]
    board.finish(one.claim, FAILED, "no picture", retry=False)
    assert of_task(board, "two", job) == ["task two is blocked by task one (failed: no picture)"]


def test_a_task_waits_because_another_branch_failed(board: Board) -> None:
    tasks = [TaskSpec(name="a", type="noop"), TaskSpec(name="b", type="noop")]
    job = board.submit(recipe(*tasks))
    board.finish(started(board, board.worker()).claim, FAILED, "broken", retry=False)
    (reason,) = of_task(board, "b", job)
    assert reason.startswith("task b waits because task a failed: broken")


def test_a_paused_job_says_who_paused_it(board: Board) -> None:
    job = board.submit()
    board.do(jobs.pause, job, "alice")
    expected = f"job {job} is paused by alice: resume it to go on"
    assert of_job(board, job) == [expected]
    assert of_task(board, "one", job) == [expected]


def test_a_delayed_task_says_until_when(board: Board) -> None:
    job = board.submit(delay=3600)
    (reason,) = of_task(board, "one", job)
    assert reason.startswith("task one waits until ")
    assert reason.endswith((" UTC (in 1 h)", "(in 60 min)", "(in 59 min)"))
    assert of_job(board, job) == of_task(board, "one", job)


def test_a_task_that_is_tried_again_says_why(board: Board) -> None:
    job = board.submit(chain("one", attempts=3, backoff=600.0))
    board.finish(started(board, board.worker()).claim, FAILED, "disk full")
    (reason,) = of_task(board, "one", job)
    assert reason.endswith("; attempt 2 of 3 after: disk full)")


def test_a_task_that_is_due_asks_for_a_scheduler(board: Board) -> None:
    job = board.submit(delay=3600)
    board.do(lambda s: s.execute("UPDATE task SET run_at = '2020-01-01 00:00:00'"))
    assert "see that one runs" in of_task(board, "one", job)[0]


def test_a_ready_task_names_the_queue_that_is_paused(board: Board) -> None:
    job = board.submit(chain("one", queue="encode"))
    board.worker()
    board.do(queue_control.pause, "encode", "admin")
    assert of_task(board, "one", job) == [
        "task one is ready, but queue encode is paused: resume it"
    ]


def test_a_ready_task_names_the_limit_that_is_reached(board: Board) -> None:
    board.submit(chain("one"))
    job = board.submit(chain("one"))
    board.do(queue_control.limit, "default", 1, "admin")
    started(board, board.worker())
    assert of_job(board, job) == [
        "task one is ready, but the limit is reached: 1 of 1 tasks of queue default run"
    ]


def test_a_ready_task_says_what_workers_lack(board: Board) -> None:
    job = board.submit(chain("one", queue="encode", tags=frozenset({"gpu"})))
    assert of_job(board, job) == ["task one is ready, but no worker is active: start one"]
    board.worker(queues=["quick"], tags=["gpu"])
    assert of_job(board, job) == ["task one is ready, but no active worker serves queue encode"]
    board.worker(queues=["enc*"])
    assert of_job(board, job) == [
        "task one is ready, but no worker with tag gpu serves queue encode"
    ]
    board.worker(tags=["gpu", "big"])
    assert of_job(board, job) == ["task one is ready: a worker will take it at any moment"]


def test_draining_and_lost_workers_do_not_count(board: Board) -> None:
    job = board.submit(chain("one"))
    worker = board.worker()
    board.do(worker_registry.drain, worker, "admin")
    assert "no worker is active" in of_job(board, job)[0]


def test_a_ready_task_tells_when_all_slots_are_busy_and_how_many_are_ahead(board: Board) -> None:
    for _ in range(3):
        board.submit(chain("one"))
    job = board.submit(chain("one"))
    started(board, board.worker(slots=1))
    assert of_job(board, job) == [
        "task one is ready, but all slots of its workers are busy (1 of 1)",
        "task one is ready; 2 tasks are ahead of it in queue default",
    ]


def test_a_task_of_higher_priority_is_ahead(board: Board) -> None:
    board.worker()
    first = board.submit(chain("one"))
    urgent = board.submit(chain("one"), priority=1)
    assert of_job(board, first)[-1].endswith("1 task is ahead of it in queue default")
    assert "any moment" in of_job(board, urgent)[0]


def test_the_count_of_those_ahead_has_an_end(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(why, "COUNTED", 2)
    for _ in range(4):
        job = board.submit(chain("one"))
    assert "more than 2 tasks are ahead" in of_job(board, job)[-1]


def test_a_running_task_says_where_and_since_when(board: Board) -> None:
    job = board.submit()
    started(board, board.worker(host="north"))
    (reason,) = of_task(board, "one", job)
    assert reason.startswith("task one is running on north (worker 1) since ")
    assert of_job(board, job) == [reason]


def test_a_worker_that_is_overdue_is_mentioned(board: Board) -> None:
    job = board.submit()
    started(board, board.worker())
    board.do(lambda s: s.execute("UPDATE task SET lease_until = '2020-01-01 00:00:00'"))
    assert "is overdue by" in of_task(board, "one", job)[1]


def test_a_job_that_is_being_cancelled_says_so(board: Board) -> None:
    job = board.submit()
    started(board, board.worker())
    board.do(jobs.cancel, job, "bob")
    asked, running, stopping = of_job(board, job)
    assert asked.startswith("cancel was asked for at ")
    assert "by bob" in asked
    assert "is running" in running
    assert "is being stopped" in stopping


def test_what_has_ended_says_how(board: Board) -> None:
    worker = board.worker()
    done, failed, cancelled = (board.submit(chain(name)) for name in ("a", "b", "c"))
    board.do(jobs.cancel, cancelled, "carol")
    board.run(worker, fail={"b": "no sound"})
    assert of_job(board, done)[0].startswith(f"job {done} succeeded at ")
    assert of_task(board, "a", done)[0].startswith("task a succeeded at ")
    assert "failed: no sound (mend the cause" in of_job(board, failed)[0]
    assert f": no sound (mend the cause, then retry job {failed})" in of_task(board, "b", failed)[0]
    assert of_job(board, cancelled)[0].endswith("by carol")
    assert of_task(board, "c", cancelled)[0].endswith("by carol")


def test_a_skipped_task_says_which_condition_did_not_hold(board: Board) -> None:
    condition = Condition("parameter.colour", equals="red")
    job = board.submit(recipe(TaskSpec(name="paint", type="noop", when=(condition,))))
    assert of_task(board, "paint", job) == [
        "task paint was skipped because not parameter.colour is red"
    ]


def test_what_is_not_there_is_not_found(board: Board) -> None:
    with pytest.raises(NotFound, match="no job 5"):
        board.read(why.job, 5)
    with pytest.raises(NotFound, match="no task 5"):
        board.read(why.task, 5)
