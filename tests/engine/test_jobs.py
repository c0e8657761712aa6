from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from backoffice.engine import jobs, queue_control, submission, worker_registry
from backoffice.engine.claims import Claim
from backoffice.engine.workflows import Condition, InputSpec, TaskSpec
from backoffice.errors import Conflict, Invalid, NotFound
from backoffice.reports import records
from backoffice.states import (
    BLOCKED,
    CANCELLED,
    FAILED,
    JOB_ACTIONS,
    JOB_STATES,
    PAUSED,
    QUEUED,
    READY,
    RUNNING,
    SKIPPED,
    SUCCEEDED,
)
from tests.board import SOURCE, Board, chain, recipe
from tests.crowd import processes, together

WITH_INPUTS = recipe(
    TaskSpec(name="encode", type="noop", inputs=(SOURCE,)),
    name="encode",
    inputs=(InputSpec("source", maximum=3),),
)
DUO = chain("one", "two")


def rows(board: Board, query: str, *values: object) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = board.read(lambda s: s.execute(query, values).get_all())
    return found


def state(board: Board, job: int) -> str:
    return str(board.read(records.job, job)["state"])


def states(board: Board, job: int) -> dict[str, str]:
    return {t["name"]: t["state"] for t in board.read(records.job, job)["tasks"]}


def everything(board: Board) -> dict[str, list[tuple[Any, ...]]]:
    tables = ("job", "task", "attempt", "file", "event")
    return {table: rows(board, f"SELECT * FROM {table} ORDER BY id") for table in tables}


def actions(board: Board, job: int) -> list[tuple[str, str]]:
    """Who did what to the job itself, in order."""
    found = rows(board, "SELECT action, actor FROM event WHERE job_id = ? ORDER BY id", job)
    return [(action, actor) for action, actor in found if action.startswith("job.")]


# States and actions ---------------------------------------------------------


def queued(board: Board) -> int:
    return board.submit(DUO)


def running(board: Board) -> int:
    job = board.submit(DUO)
    board.claim(board.worker())
    return job


def paused(board: Board) -> int:
    job = running(board)
    board.do(jobs.pause, job, "me")
    return job


def succeeded(board: Board) -> int:
    job = board.submit(DUO)
    board.run(board.worker())
    return job


def failed(board: Board) -> int:
    job = board.submit(DUO)
    board.run(board.worker(), fail={"one": "broken"})
    return job


def cancelled(board: Board) -> int:
    job = board.submit(DUO)
    board.do(jobs.cancel, job, "me")
    return job


IN_STATE = {f.__name__: f for f in (queued, running, paused, succeeded, failed, cancelled)}
ACTIONS: dict[str, Callable[..., None]] = {
    "cancel": jobs.cancel,
    "pause": jobs.pause,
    "resume": jobs.resume,
    "retry": jobs.retry,
    "priority": lambda store, job, actor: jobs.prioritise(store, job, 7, actor),
}
# What a job is after an action; where nothing stands, it is a conflict.
MOVES = {
    (QUEUED, "cancel"): CANCELLED,
    (RUNNING, "cancel"): RUNNING,  # until the task that runs has been stopped
    (PAUSED, "cancel"): PAUSED,
    (QUEUED, "pause"): PAUSED,
    (RUNNING, "pause"): PAUSED,
    (PAUSED, "resume"): RUNNING,
    (FAILED, "retry"): RUNNING,
    (CANCELLED, "retry"): QUEUED,  # this one had never started
    (QUEUED, "priority"): QUEUED,
    (RUNNING, "priority"): RUNNING,
    (PAUSED, "priority"): PAUSED,
}


def test_the_table_covers_every_state_and_action() -> None:
    assert set(IN_STATE) == set(JOB_STATES)
    assert {(s, a) for a in ACTIONS for s in JOB_ACTIONS[a]} == set(MOVES)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("before", JOB_STATES)
def test_an_action_moves_a_job_or_conflicts(board: Board, before: str, action: str) -> None:
    job = IN_STATE[before](board)
    assert state(board, job) == before
    after = MOVES.get((before, action))
    was = everything(board)
    if after is None:
        with pytest.raises(Conflict, match=f"job {job} is {before}"):
            board.do(ACTIONS[action], job, "alice")
        assert everything(board) == was
    else:
        board.do(ACTIONS[action], job, "alice")
        assert state(board, job) == after
        new = [e for e in rows(board, "SELECT * FROM event ORDER BY id") if e not in was["event"]]
        assert "alice" in new[0], "every change says who made it"


@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_on_no_job_finds_none(board: Board, action: str) -> None:
    with pytest.raises(NotFound, match="there is no job 5"):
        board.do(ACTIONS[action], 5, "alice")


@pytest.mark.parametrize("before", JOB_STATES)
def test_a_job_in_any_state_can_be_cloned(board: Board, before: str) -> None:
    job = IN_STATE[before](board)
    request = board.read(submission.request_of, job)
    again = board.do(submission.submit, submission.prepare(request, {DUO.name: DUO}, ()), "bob")
    assert again == (job + 1, True)
    assert state(board, job + 1) == QUEUED


def test_a_job_paused_before_it_started_is_queued_again(board: Board) -> None:
    job = board.submit(DUO)
    board.do(jobs.pause, job, "me")
    assert states(board, job) == {"one": BLOCKED, "two": BLOCKED}
    board.do(jobs.resume, job, "me")
    assert (state(board, job), states(board, job)["one"]) == (QUEUED, READY)


def test_a_retry_of_what_never_started_starts_like_any_other(board: Board) -> None:
    job = cancelled(board)
    board.do(jobs.retry, job, "me")
    board.run(board.worker())
    row = board.read(records.job, job)
    assert row["state"] == SUCCEEDED
    assert row["started"] is not None
    assert ("job.started", "backoffice") in actions(board, job)


def test_asking_twice_for_a_cancel_changes_nothing(board: Board) -> None:
    job = running(board)
    board.do(jobs.cancel, job, "alice")
    before = everything(board)
    board.do(jobs.cancel, job, "bob")
    assert everything(board) == before


def test_a_paused_job_that_is_cancelled_ends_with_what_runs(board: Board) -> None:
    job = paused(board)
    board.do(jobs.cancel, job, "me")
    board.finish(Claim(1, 1, 1, job), CANCELLED)
    assert state(board, job) == CANCELLED


# Retry ----------------------------------------------------------------------


def test_a_retry_keeps_what_succeeded_and_gives_the_rest_all_its_attempts(board: Board) -> None:
    red = Condition("parameter.colour", equals="red")
    job = board.submit(
        recipe(
            TaskSpec(name="done", type="noop"),
            TaskSpec(name="left out", type="noop", needs=("done",), when=(red,)),
            TaskSpec(name="broken", type="noop", needs=("left out",), attempts=1),
            TaskSpec(name="after", type="noop", needs=("broken",)),
        )
    )
    worker = board.worker()
    board.run(worker, fail={"broken": "no luck"})
    assert state(board, job) == FAILED
    board.do(jobs.retry, job, "me")
    assert board.read(records.job, job)["message"] == ""
    assert states(board, job) == {
        "done": SUCCEEDED,
        "left out": SKIPPED,
        "broken": READY,
        "after": BLOCKED,
    }
    board.run(worker)
    assert state(board, job) == SUCCEEDED
    counted = rows(board, "SELECT task_id, COUNT(*) FROM attempt GROUP BY task_id ORDER BY 1")
    assert counted == [(1, 1), (3, 2), (4, 1)]
    assert rows(board, "SELECT number FROM attempt WHERE task_id = 3 ORDER BY id") == [(1,), (2,)]


def test_a_retry_forgets_failures_and_losses(board: Board) -> None:
    job = board.submit(chain("one", attempts=1))
    board.do(lambda s: s.execute("UPDATE task SET losses = 4"))
    (one,) = board.claim(board.worker())
    board.finish(one.claim, "lost", "gone")
    assert state(board, job) == FAILED
    board.do(jobs.retry, job, "me")
    assert rows(board, "SELECT failures, losses, message, cancel_requested FROM task") == [
        (0, 0, "", None)
    ]


def test_a_retry_of_a_cancelled_job_goes_on_where_it_was(board: Board) -> None:
    job = board.submit(DUO)
    worker = board.worker()
    board.finish(board.claim(worker)[0].claim)
    board.do(jobs.cancel, job, "me")
    assert states(board, job) == {"one": SUCCEEDED, "two": CANCELLED}
    board.do(jobs.retry, job, "me")
    assert (state(board, job), states(board, job)["two"]) == (RUNNING, READY)
    board.run(worker)
    assert state(board, job) == SUCCEEDED


# Submit ---------------------------------------------------------------------


def test_a_job_keeps_what_it_was_asked(board: Board, source: Path) -> None:
    job = board.submit(
        WITH_INPUTS,
        inputs=[("source", str(source))],
        title="Épisode 🎬",
        key="ep-1",
        priority=7,
        parameters={"colour": "red"},
        metadata={"dc:creator": "Studio"},
        submitter="alice",
    )
    row = board.read(records.job, job)
    assert (row["title"], row["key"], row["priority"]) == ("Épisode 🎬", "ep-1", 7)
    assert (row["submitter"], row["workflow"], row["version"]) == ("alice", "encode", 1)
    assert board.read(submission.request_of, job) == submission.JobRequest(
        workflow="encode",
        inputs=[("source", source.as_uri())],
        title="Épisode 🎬",
        priority=7,
        parameters={"colour": "red"},
        metadata={"dc:creator": "Studio"},
    )
    assert actions(board, job) == [("job.submitted", "alice")]


def test_a_job_without_a_title_is_called_after_its_files(board: Board, source: Path) -> None:
    job = board.submit(WITH_INPUTS, inputs=[("source", str(source))] * 2)
    assert board.read(records.job, job)["title"] == "clip.mp4, clip.mp4"
    assert board.read(records.job, board.submit(DUO))["title"] == "Chain"


def test_a_file_is_known_once_and_forgotten_when_it_has_changed(board: Board, source: Path) -> None:
    for _ in range(2):
        board.submit(WITH_INPUTS, inputs=[("source", str(source))])
    assert rows(board, "SELECT id, size FROM file") == [(1, source.stat().st_size)]
    board.do(lambda s: s.execute("UPDATE file SET sha256 = 'old', facts = '{\"duration\":4}'"))
    board.submit(WITH_INPUTS, inputs=[("source", str(source))])
    assert rows(board, "SELECT sha256 FROM file") == [("old",)]
    source.write_bytes(b"another")
    board.submit(WITH_INPUTS, inputs=[("source", str(source))])
    assert rows(board, "SELECT id, size, sha256, facts FROM file") == [(1, 7, "", "{}")]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"priority": -1}, "priority -1 is not from 0"),
        ({"priority": 101}, "to 100"),
        ({"title": "x" * 501}, "a title has at most 500 characters; this has 501"),
        ({"title": "a\0b"}, "NUL"),
        ({"key": "x" * 201}, "a key has at most 200"),
        ({"title": "\udcff.mp4"}, "a title is not UTF-8"),
        ({"key": "ep-1 "}, "a key cannot begin or end with a blank: 'ep-1 '"),
        ({"metadata": {"a": "1", "a ": "2"}}, "a name cannot begin or end with a blank"),
        ({"delay": -1}, "delay"),
        ({"delay": float("nan")}, "delay"),
        ({"delay": 1e12}, "delay"),
        ({"parameters": {"size": "1"}}, "has no parameter 'size'"),
        ({"parameters": {"colour": "x" * 10_001}}, "a value has at most 10000"),
        ({"metadata": {"x" * 129: "1"}}, "a name has at most 128"),
        ({"inputs": [("source", "/etc/passwd")]}, "takes no 'source'"),
    ],
)
@pytest.mark.parametrize("database_uri", ["sqlite"], indirect=True)
def test_a_request_that_cannot_be_is_refused(
    board: Board, wrong: dict[str, Any], words: str
) -> None:
    with pytest.raises(Invalid, match=words):
        board.submit(DUO, **wrong)
    assert rows(board, "SELECT 1 FROM job") == rows(board, "SELECT 1 FROM task")


@pytest.mark.parametrize("database_uri", ["sqlite"], indirect=True)
def test_an_unknown_workflow_is_not_found_and_the_known_are_named(board: Board) -> None:
    with pytest.raises(NotFound, match="no workflow 'x'; there are: chain"):
        submission.prepare(submission.JobRequest("x"), {"chain": DUO}, ())


@pytest.mark.parametrize("priority", [0, 100])
def test_the_first_and_the_last_priority_are_allowed(board: Board, priority: int) -> None:
    job = board.submit(DUO, priority=priority)
    assert board.read(records.job, job)["priority"] == priority


def test_longest_texts_fit(board: Board) -> None:
    emoji = "🎬"
    job = board.submit(
        DUO,
        title=emoji * 500,
        key=emoji * 200,
        parameters={"colour": emoji * 10_000},
        metadata={emoji * 128: emoji * 10_000},
        submitter=emoji * 255,
    )
    row = board.read(records.job, job)
    assert (row["title"], row["key"]) == (emoji * 500, emoji * 200)
    assert row["metadata"] == {emoji * 128: emoji * 10_000}


# Keys -----------------------------------------------------------------------


def test_the_same_key_with_the_same_content_is_the_same_job(board: Board) -> None:
    job = board.submit(DUO, key="ep-1", title="Episode")
    before = everything(board)
    assert board.submit(DUO, key="ep-1", title="Episode") == job
    assert everything(board) == before


def test_without_a_key_each_is_a_job_of_its_own(board: Board) -> None:
    assert [board.submit(DUO) for _ in range(3)] == [1, 2, 3]


@pytest.mark.parametrize(
    "changes",
    [
        {"title": "other"},
        {"priority": 1},
        {"parameters": {"colour": "blue"}},
        {"metadata": {"a": "c"}},
        {"delay": 1.0},
        {"inputs": "both"},
    ],
)
def test_the_same_key_with_other_content_conflicts(
    board: Board, source: Path, changes: dict[str, Any]
) -> None:
    same: dict[str, Any] = {
        "inputs": [("source", str(source))],
        "parameters": {"colour": "red"},
        "metadata": {"a": "b"},
    }
    if "inputs" in changes:
        changes = {"inputs": [("source", str(source))] * 2}
    job = board.submit(WITH_INPUTS, key="ep-1", **same)
    before = everything(board)
    with pytest.raises(Conflict, match=f"key 'ep-1' belongs to job {job}, which is different"):
        board.submit(WITH_INPUTS, key="ep-1", **same | changes)
    assert everything(board) == before


def test_the_order_of_names_and_the_spelling_of_a_path_make_no_difference(
    board: Board, source: Path
) -> None:
    def submit(name: str, metadata: dict[str, str]) -> int:
        return board.submit(WITH_INPUTS, key="k", inputs=[("source", name)], metadata=metadata)

    job = submit(str(source), {"a": "1", "b": "2"})
    assert submit(source.as_uri(), {"b": "2", "a": "1"}) == job


def test_keys_are_told_apart_by_case_and_accent(board: Board) -> None:
    keys = ["a", "A", "á", "a a", "a  a"]
    assert len({board.submit(DUO, key=key) for key in keys}) == len(keys)


def test_fifty_threads_with_one_key_make_one_job(board: Board) -> None:
    made = together(board.database, *[partial(board.submit, DUO, key="ep-1")] * 50)
    assert set(made) == {made[0]}
    assert rows(board, "SELECT COUNT(*) FROM job") == [(1,)]
    assert rows(board, "SELECT COUNT(*) FROM task") == [(2,)]
    assert actions(board, made[0]) == [("job.submitted", "tester")]


SUBMIT = """
import json, sys
from functools import partial
from backoffice.config.loading import load
from tests.board import Board, chain
from tests.crowd import together
GO
board = Board(load(None, {
    "BACKOFFICE_DATABASE_URI": sys.argv[1], "BACKOFFICE_PATHS_HOME": sys.argv[2]}))
print(json.dumps(together(board.database, *[partial(board.submit, chain("a"), key="k")] * 10)))
"""


def test_fifty_submits_of_five_processes_with_one_key_make_one_job(
    board: Board, database_uri: str
) -> None:
    said = processes(SUBMIT, [[database_uri, str(board.settings.paths.home)]] * 5)
    made = [job for jobs_ in said for job in json.loads(jobs_)]
    assert len(made) == 50
    assert len(set(made)) == 1
    assert rows(board, "SELECT COUNT(*) FROM job") == [(1,)]


def test_of_fifty_with_one_key_and_other_content_one_wins_and_the_rest_conflict(
    board: Board,
) -> None:
    def submit(number: int) -> str:
        try:
            board.submit(DUO, key="k", title=str(number))
        except Conflict:
            return "conflict"
        return "made"

    said = together(board.database, *[partial(submit, n) for n in range(20)])
    assert sorted(said) == ["conflict"] * 19 + ["made"]
    assert rows(board, "SELECT COUNT(*) FROM job") == [(1,)]


def test_new_queues_and_files_at_once_are_made_once(board: Board, source: Path) -> None:
    def submit(number: int) -> int:
        return board.submit(
            WITH_INPUTS, inputs=[("source", str(source))], title=str(number), key=str(number)
        )

    made = together(board.database, *[partial(submit, n) for n in range(12)])
    assert len(set(made)) == 12
    assert rows(board, "SELECT COUNT(*) FROM lane") == rows(board, "SELECT COUNT(*) FROM file")
    assert rows(board, "SELECT COUNT(*) FROM lane") == [(1,)]


# Priorities, queues, workers ------------------------------------------------


def test_a_new_priority_reaches_the_tasks_that_wait(board: Board) -> None:
    slow, urgent = board.submit(DUO), board.submit(DUO)
    worker = board.worker()
    board.do(jobs.prioritise, urgent, 1, "me")
    assert board.claim(worker)[0].claim.job_id == urgent
    board.do(jobs.prioritise, slow, 0, "me")
    board.do(jobs.prioritise, urgent, 99, "me")
    assert board.claim(worker)[0].claim.job_id == slow
    assert board.read(records.job, urgent)["priority"] == 99
    with pytest.raises(Invalid, match="priority 101"):
        board.do(jobs.prioritise, slow, 101, "me")


@pytest.mark.parametrize(
    "act",
    [queue_control.pause, queue_control.resume, lambda s, n, a: queue_control.limit(s, n, 1, a)],
)
def test_a_queue_without_tasks_is_not_found(board: Board, act: Callable[..., None]) -> None:
    with pytest.raises(NotFound, match="there is no queue 'nope'"):
        board.do(act, "nope", "admin")


@pytest.mark.parametrize("limit", [-1, 100_001])
def test_a_limit_that_makes_no_sense_is_refused(board: Board, limit: int) -> None:
    board.submit(DUO)
    with pytest.raises(Invalid, match="from 0 to 100000"):
        board.do(queue_control.limit, "default", limit, "admin")


def test_a_pause_and_a_limit_of_a_queue_at_once_both_hold(board: Board) -> None:
    board.submit(DUO)
    together(
        board.database,
        partial(board.do, queue_control.pause, "default", "a"),
        partial(board.do, queue_control.limit, "default", 3, "b"),
    )
    assert rows(board, "SELECT paused, capacity FROM queue") == [(1, 3)]


def test_a_worker_is_drained_once_and_only_while_active(board: Board) -> None:
    worker = board.worker()
    for _ in range(2):
        board.do(worker_registry.drain, worker, "admin")
    assert rows(board, "SELECT state FROM worker") == [("draining",)]
    found = rows(board, "SELECT actor FROM event WHERE action = 'worker.drained'")
    assert found == [("admin",)]
    board.do(worker_registry.sign_off, worker, board.clock())
    with pytest.raises(Conflict, match="is stopped; only an active one"):
        board.do(worker_registry.drain, worker, "admin")
    with pytest.raises(NotFound, match="no worker 9"):
        board.do(worker_registry.drain, 9, "admin")


def test_a_failed_job_with_nothing_left_to_do_succeeds_when_retried(board: Board) -> None:
    """As after a restore that took the job from one moment, its tasks from another."""
    job = board.submit(chain("one"))
    board.run(board.worker())
    board.do(lambda store: store.execute("UPDATE job SET state = 'failed' WHERE id = ?", (job,)))
    board.do(jobs.retry, job, "alice")
    assert board.read(records.job, job)["state"] == SUCCEEDED


# Which actions a state allows -------------------------------------------------


@pytest.mark.parametrize("state", JOB_STATES)
@pytest.mark.parametrize("action", JOB_ACTIONS)
def test_an_action_is_refused_where_the_table_does_not_have_it(action: str, state: str) -> None:
    if state in JOB_ACTIONS[action]:
        jobs.guard(action, 7, state)
        return
    with pytest.raises(Conflict, match=f"job 7 is {state}; {action} is possible when it is"):
        jobs.guard(action, 7, state)


def test_a_refusal_names_the_states_in_the_order_of_a_jobs_life() -> None:
    with pytest.raises(Conflict, match=r"when it is queued or running or paused$"):
        jobs.guard("cancel", 1, FAILED)
