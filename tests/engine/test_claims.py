from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from storm.locals import Store

from backoffice.data.sql import clock, insert_many, moment
from backoffice.engine import claims, jobs, leases, outcomes, queue_control, worker_registry
from backoffice.engine.claims import Claim, ClaimedTask
from backoffice.engine.outcomes import Outcome
from backoffice.engine.workflows import TaskSpec
from backoffice.reports import records
from backoffice.states import (
    ATTEMPT_STATES,
    CANCELLED,
    FAILED,
    LOST,
    READY,
    RELEASED,
    RUNNING,
    SCHEDULED,
    SUCCEEDED,
)
from backoffice.tasks import Delivery, Published, Result
from tests.board import Board, chain, made_file, recipe
from tests.conftest import MariaDB
from tests.crowd import processes, together

ONE = chain("one", attempts=3, backoff=100.0)
SOON = timedelta(seconds=1)


def rows(board: Board, query: str, *values: object) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = board.read(lambda s: s.execute(query, values).get_all())
    return found


def task(board: Board, held: Claim, columns: str = "state") -> tuple[Any, ...]:
    (row,) = rows(board, f"SELECT {columns} FROM task WHERE id = ?", held.task_id)
    return row


def started(board: Board, worker: int) -> Claim:
    (one,) = board.claim(worker)
    return one.claim


def everything(board: Board) -> dict[str, list[tuple[Any, ...]]]:
    """All that a report could change."""
    tables = ("job", "task", "attempt", "file", "publication", "delivery", "event", "worker")
    return {table: rows(board, f"SELECT * FROM {table} ORDER BY id") for table in tables}


def names(claimed: Sequence[ClaimedTask]) -> list[str]:
    return [one.name for one in claimed]


# Fencing --------------------------------------------------------------------

FILES = [made_file("file:///x/out.mp4", "out.mp4", "made", "video/mp4", False, 1, "a" * 64, {})]
PUBLISHED = [Published(1, "site", "a.mp4", "http://x/a.mp4", False, "a" * 64, 1)]
WHOLE: dict[str, Any] = {
    "outputs": FILES,
    "facts": {1: {"duration": 1}},
    "checksums": {1: "b" * 64},
    "published": PUBLISHED,
    "retracted": [1],
    "deliveries": [Delivery("http://x", 200, "", 0.1)],
}
NOT_LOST = [state for state in ATTEMPT_STATES if state not in (RUNNING, LOST)]

Report = Callable[[Store, Claim], object]
REPORTS: dict[str, Report] = {
    "progress": lambda s, held: leases.report_progress(s, held, 99.0, "9x", 1.0),
    "command": lambda s, held: leases.report_command(s, held, [["ffmpeg"]], "6.0", "/log"),
    "ours": leases.still_ours,
    "fence": lambda s, held: leases.fence(s, held, 999.0, clock(s)),
    **{
        f"finish {state}": lambda s, held, state=state: outcomes.finish(  # type: ignore[misc]
            s, held, Outcome(state, "late", result=Result(**WHOLE)), clock(s)
        )
        for state in NOT_LOST
    },
}


def given_to_another(board: Board, held: Claim) -> None:
    board.finish(held, LOST, "its worker was lost")
    started(board, board.worker())


def finished_by_another(board: Board, held: Claim) -> None:
    board.finish(held, LOST, "its worker was lost")
    board.finish(started(board, board.worker()))


def set_aside(board: Board, held: Claim) -> None:
    board.do(lambda s: s.execute("UPDATE task SET losses = 4"))
    board.finish(held, LOST, "its worker was lost")


def claimed_again_by_the_same(board: Board, held: Claim) -> None:
    board.finish(held, LOST, "its worker was lost")
    assert started(board, held.worker_id) != held


def waiting_again(board: Board, held: Claim) -> None:
    board.finish(held, LOST, "its worker was lost")


def job_gone(board: Board, held: Claim) -> None:
    for table in ("task", "attempt"):
        board.do(lambda s, table=table: s.execute(f"DELETE FROM {table}"))
    board.do(lambda s: s.execute("DELETE FROM job"))


@pytest.mark.parametrize(
    "taken",
    [
        given_to_another,
        finished_by_another,
        set_aside,
        claimed_again_by_the_same,
        waiting_again,
        job_gone,
    ],
)
@pytest.mark.parametrize("report", REPORTS)
def test_a_report_of_a_former_owner_changes_nothing(
    board: Board, report: str, taken: Callable[[Board, Claim], None]
) -> None:
    board.submit(chain("one", "two"))
    held = started(board, board.worker())
    taken(board, held)
    before = everything(board)
    assert board.do(REPORTS[report], held) is False
    assert everything(board) == before


@pytest.mark.parametrize("part", ["task_id", "attempt", "worker_id"])
@pytest.mark.parametrize("report", REPORTS)
def test_a_report_must_name_task_attempt_and_worker(board: Board, report: str, part: str) -> None:
    board.submit(chain("one"))
    held = started(board, board.worker())
    other = Claim(**{**held.__dict__, part: 99})
    before = everything(board)
    assert board.do(REPORTS[report], other) is False
    assert everything(board) == before


@pytest.mark.parametrize("report", REPORTS)
def test_a_report_of_the_owner_counts(board: Board, report: str) -> None:
    board.submit(chain("one"))
    held = started(board, board.worker())
    before = everything(board)
    assert board.do(REPORTS[report], held) is True
    assert (everything(board) == before) == (report == "ours")


def test_a_former_owner_that_gives_up_too_changes_nothing(board: Board) -> None:
    board.submit(ONE)
    held = started(board, board.worker())
    waiting_again(board, held)
    before = everything(board)
    board.do(lambda s: outcomes.finish(s, held, Outcome(LOST, "again"), clock(s)))
    assert everything(board) == before


@pytest.mark.parametrize("state", [s for s in ATTEMPT_STATES if s != RUNNING])
def test_the_same_outcome_told_twice_is_accepted_and_changes_nothing(
    board: Board, state: str
) -> None:
    board.submit(chain("one", "two"))
    held = started(board, board.worker())
    board.finish(held, state, "so it went", retry=False)
    before = everything(board)
    board.finish(held, state, "so it went", retry=False)
    assert everything(board) == before


def test_a_beat_keeps_only_what_is_ours(board: Board) -> None:
    for _ in range(2):
        board.submit(ONE)
    worker = board.worker()
    ours, gone = started(board, worker), started(board, worker)
    given_to_another(board, gone)
    until = task(board, gone, "lease_until")
    now = board.clock()
    beat = board.do(leases.heartbeat, worker, [gone, ours], 500.0, now)
    assert beat == leases.HeartbeatResult(frozenset({ours}), frozenset(), False)
    assert moment(task(board, ours, "lease_until")[0]) == now + timedelta(seconds=500)
    assert task(board, gone, "lease_until") == until


def test_a_beat_brings_the_wish_to_cancel_and_to_drain(board: Board) -> None:
    job = board.submit(ONE)
    board.submit(ONE)
    worker = board.worker()
    held, other = started(board, worker), started(board, worker)
    board.do(jobs.cancel, job, "alice")
    board.do(worker_registry.drain, worker, "alice")
    beat = board.do(leases.heartbeat, worker, [held, other], 60.0, board.clock())
    assert beat == leases.HeartbeatResult(frozenset({held, other}), frozenset({held}), True)


def test_what_others_can_see_is_refused_once_cancel_was_asked(board: Board) -> None:
    job = board.submit(ONE)
    held = started(board, board.worker())
    assert board.do(leases.fence, held, 60.0, board.clock())
    board.do(jobs.cancel, job, "alice")
    assert not board.do(leases.fence, held, 60.0, board.clock())


# Order and choice -----------------------------------------------------------


def test_the_first_by_priority_then_by_age_over_all_lanes(board: Board) -> None:
    def one(name: str, **changes: Any) -> Any:
        return recipe(TaskSpec(name=name, type="noop", **changes))

    board.submit(one("c"), priority=50)
    board.submit(one("d", queue="encode"), priority=50)
    board.submit(one("e", tags=frozenset({"gpu"})), priority=51)
    board.submit(one("b", queue="encode", tags=frozenset({"gpu"})), priority=2)
    board.submit(one("a"), priority=1)
    worker = board.worker(tags=["gpu"])
    assert [board.claim(worker)[0].name for _ in range(5)] == ["a", "b", "c", "d", "e"]


def test_several_are_claimed_at_once_from_all_lanes(board: Board) -> None:
    for queue, priority in [("x", 3), ("y", 1), ("x", 2), ("z", 4)]:
        board.submit(chain("one", queue=queue), priority=priority)
    worker = board.worker()
    assert sorted(one.claim.task_id for one in board.claim(worker, 3)) == [1, 2, 3]
    assert [one.claim.task_id for one in board.claim(worker, 3)] == [4]
    assert board.claim(worker, 3) == []


@pytest.mark.parametrize(
    ("wanted", "tags", "served"),
    [
        ("", "", True),
        ("", "gpu", True),
        ("gpu", "", False),
        ("gpu", "gpu big", True),
        ("gpu big", "gpu", False),
        ("gpu big", "big gpu", True),
        ("gpu", "gpu2", False),
    ],
)
def test_a_worker_takes_only_what_its_tags_cover(
    board: Board, wanted: str, tags: str, served: bool
) -> None:
    board.submit(chain("one", tags=frozenset(wanted.split())))
    assert bool(board.claim(board.worker(tags=tags.split()))) is served


def test_a_worker_takes_only_from_its_queues(board: Board) -> None:
    for queue in ("encode", "encode-4k", "default"):
        board.submit(chain(queue, queue=queue))
    assert names(board.claim(board.worker(queues=["encode*"]), 9)) == ["encode", "encode-4k"]
    assert names(board.claim(board.worker(queues=["quick", "default"]), 9)) == ["default"]


def test_a_paused_queue_gives_nothing_until_it_is_resumed(board: Board) -> None:
    board.submit(chain("one", queue="encode"))
    board.submit(chain("two"))
    worker = board.worker()
    board.do(queue_control.pause, "encode", "admin")
    assert names(board.claim(worker, 9)) == ["two"]
    board.do(queue_control.resume, "encode", "admin")
    assert names(board.claim(worker, 9)) == ["one"]


def test_a_claim_records_who_runs_what_and_until_when(board: Board) -> None:
    job = board.submit(ONE)
    worker = board.worker(host="north")
    held = started(board, worker)
    assert held == Claim(1, 1, worker, job)
    state, attempt, holder, until, began = task(
        board, held, "state, attempt, worker_id, lease_until, started"
    )
    assert (state, attempt, holder) == (RUNNING, 1, worker)
    assert moment(until) == (moment(began) or datetime.min) + timedelta(seconds=60)
    assert rows(board, "SELECT number, worker_id, host, state FROM attempt") == [
        (1, worker, "north", RUNNING)
    ]
    assert board.read(records.job, job)["state"] == RUNNING


# Limits ---------------------------------------------------------------------


def test_a_limit_is_kept_within_one_claim(board: Board) -> None:
    for _ in range(5):
        board.submit(chain("one"))
    board.do(queue_control.limit, "default", 2, "admin")
    worker = board.worker()
    claimed = board.claim(worker, 9)
    assert len(claimed) == 2
    board.finish(claimed[0].claim)
    assert len(board.claim(worker, 9)) == 1


def test_a_limit_is_of_the_queue_whatever_tags_its_tasks_ask_for(board: Board) -> None:
    for tags in ((), ("gpu",), ("big",), ("big", "gpu")):
        board.submit(chain("one", tags=frozenset(tags)))
    board.do(queue_control.limit, "default", 2, "admin")
    assert len(board.claim(board.worker(tags=["gpu", "big"]), 9)) == 2


def test_a_full_queue_does_not_hide_the_others(board: Board) -> None:
    for _ in range(3):
        board.submit(chain("one", queue="encode"), priority=1)
    board.submit(chain("two"), priority=90)
    board.do(queue_control.limit, "encode", 1, "admin")
    worker = board.worker()
    assert names(board.claim(worker, 2)) == ["one", "two"]
    board.submit(chain("three"), priority=90)
    assert names(board.claim(worker, 2)) == ["three"]


@pytest.mark.parametrize(("limit", "running"), [(0, 0), (None, 5)])
def test_a_limit_of_none_is_no_limit_and_of_0_lets_nothing_run(
    board: Board, limit: int | None, running: int
) -> None:
    for _ in range(5):
        board.submit(chain("one"))
    board.do(queue_control.limit, "default", 3, "admin")
    board.do(queue_control.limit, "default", limit, "admin")
    assert len(board.claim(board.worker(), 9)) == running


def test_a_limit_is_never_exceeded_by_claimers_at_once(board: Board) -> None:
    for number in range(40):
        board.submit(chain("one", tags=frozenset({"gpu"} if number % 2 else ())))
    board.do(queue_control.limit, "default", 3, "admin")
    worker = board.worker(tags=["gpu"], slots=9)
    seen: list[int] = []

    def work() -> int:
        done = 0
        for _ in range(300):
            claimed = board.claim(worker, 2)
            seen.append(board.read(claims.running_in, "default"))
            for one in claimed:
                board.finish(one.claim)
            done += len(claimed)
            if not rows(board, "SELECT 1 FROM task WHERE state = 'ready' LIMIT 1"):
                break
        return done

    assert sum(together(board.database, *[work] * 8)) == 40
    assert max(seen) <= 3


# Two claimers ---------------------------------------------------------------


def claim_all(board: Board, finish: bool) -> list[int]:
    """Claim, and finish, until nothing is left; what was claimed."""
    worker, mine = board.worker(), []
    while claimed := board.claim(worker, 5):
        mine += [one.claim.task_id for one in claimed]
        for one in claimed if finish else ():
            board.finish(one.claim)
    return mine


def fill(store: Store, count: int, state: str = READY, lane: int = 1) -> None:
    """So many jobs of one task, in few statements."""
    (last,) = store.execute("SELECT COALESCE(MAX(id), 0) FROM job").get_one()
    now, spec = clock(store), '{"needs":[],"when":[],"delay":0,"weight":1,"backoff":1}'
    for first in range(last + 1, last + count + 1, 500):
        ids = range(first, min(first + 500, last + count + 1))
        insert_many(
            store,
            "job",
            tuple(
                (
                    "id token fingerprint title workflow version state priority submitter submitted"
                    " message"
                ).split()
            ),
            [(i, f"id:{i}", "", "", "w", 1, "queued", 50, "me", now, "") for i in ids],
        )
        insert_many(
            store,
            "task",
            tuple("job_id name type state lane_id priority max_attempts message spec".split()),
            [(i, "one", "noop", state, lane, 50, 3, "", spec) for i in ids],
        )


def test_claimers_at_once_never_get_the_same(board: Board) -> None:
    board.submit(chain("one"))
    board.do(fill, 199)
    shares = together(board.database, *[partial(claim_all, board, False)] * 8)
    taken = Counter(task for share in shares for task in share)
    assert len(taken) == 200
    assert set(taken.values()) == {1}


CLAIM_ALL = """
import json, sys
from backoffice.config.loading import load
from tests.board import Board
from tests.engine.test_claims import claim_all
GO
print(json.dumps(claim_all(Board(load(None, {
    "BACKOFFICE_DATABASE_URI": sys.argv[1], "BACKOFFICE_PATHS_HOME": sys.argv[2]})), True)))
"""


def run_out(board: Board, uri: str, tasks: int) -> None:
    """Eight processes run so many tasks; each is run once, and all end."""
    board.submit(chain("one"))
    board.do(fill, tasks - 1)
    said = processes(CLAIM_ALL, [[uri, str(board.settings.paths.home)]] * 8)
    taken = sorted(int(task) for share in said for task in share.strip("[]").split(",") if task)
    assert taken == list(range(1, tasks + 1))
    assert rows(board, "SELECT state, COUNT(*) FROM job GROUP BY state") == [(SUCCEEDED, tasks)]
    assert rows(board, "SELECT state, COUNT(*) FROM attempt GROUP BY state") == [(SUCCEEDED, tasks)]


def test_eight_claimers_run_each_task_once(board: Board, database_uri: str) -> None:
    run_out(board, database_uri, 600)


@pytest.mark.slow
@pytest.mark.parametrize("database_uri", ["mariadb"], indirect=True)
def test_eight_claimers_run_each_of_5000_tasks_once(board: Board, database_uri: str) -> None:
    run_out(board, database_uri, 5000)


def test_tasks_of_one_job_end_at_once_without_trouble(board: Board) -> None:
    wide = [TaskSpec(name=f"t{n}", type="noop") for n in range(24)]
    last = TaskSpec(name="last", type="noop", needs=tuple(task.name for task in wide))
    job = board.submit(recipe(*wide, last))
    together(board.database, *[partial(claim_all, board, True)] * 6)
    claim_all(board, True)
    assert board.read(records.job, job)["state"] == SUCCEEDED
    assert rows(board, "SELECT COUNT(*) FROM attempt") == [(25,)]


# How the claim is found -----------------------------------------------------


def test_the_claim_is_read_off_its_index_without_a_sort(board: Board) -> None:
    board.submit(chain("one"))
    board.do(fill, 200)
    board.do(fill, 50_000, SUCCEEDED)
    ends = "" if board.database.mysql else "QUERY PLAN "
    if board.database.mysql:
        board.do(lambda s: s.execute("ANALYZE TABLE task").get_all())
    locks = " FOR UPDATE SKIP LOCKED" if board.database.mysql else ""
    plan = board.read(
        lambda s: s.execute(f"EXPLAIN {ends}{claims.CLAIM}{locks}", (1, 10)).get_all()
    )
    text = " ".join(str(cell) for row in plan for cell in row)
    assert "task_claim" in text
    assert "filesort" not in text
    assert "TEMP B-TREE" not in text


@pytest.mark.parametrize("database_uri", ["mariadb"], indirect=True)
def test_a_claim_locks_no_more_than_it_takes(board: Board, mariadb: MariaDB) -> None:
    board.submit(chain("one"))
    board.do(fill, 99)
    (name,) = rows(board, "SELECT DATABASE()")[0]
    other = mariadb.connect(name)
    try:
        cursor = other.cursor()
        statement = claims.CLAIM.replace("?", "%s") + " FOR UPDATE SKIP LOCKED"
        cursor.execute("SET tx_isolation = 'READ-COMMITTED'")
        cursor.execute(statement, (1, 10))
        assert len(cursor.fetchall()) == 10
        assert [one.claim.task_id for one in board.claim(board.worker(), 90)] == [*range(11, 101)]
    finally:
        other.close()


# How attempts end -----------------------------------------------------------


def test_a_failure_waits_and_comes_back(board: Board) -> None:
    board.submit(ONE)
    worker = board.worker()
    held = started(board, worker)
    before = board.clock()
    board.finish(held, FAILED, "no luck")
    after = board.clock()
    state, run_at, failures, message = task(board, held, "state, run_at, failures, message")
    assert (state, failures, message) == (SCHEDULED, 1, "no luck")
    due = moment(run_at) or datetime.min
    assert before + timedelta(seconds=50) <= due <= after + timedelta(seconds=100)
    assert board.do(claims.promote, due - SOON) == 0
    assert board.claim(worker) == []
    assert board.do(claims.promote, due) == 1
    assert started(board, worker).attempt == 2


@pytest.mark.parametrize(
    ("failures", "low", "high"), [(1, 5, 10), (2, 10, 20), (3, 20, 40), (30, 1800, 3600)]
)
def test_the_back_off_doubles_with_jitter_up_to_an_hour(
    failures: int, low: float, high: float
) -> None:
    waits = [outcomes.backoff(10.0, failures).total_seconds() for _ in range(500)]
    assert low <= min(waits) < low * 1.1
    assert high * 0.9 < max(waits) <= high


def test_after_the_last_attempt_the_task_has_failed(board: Board) -> None:
    job = board.submit(ONE)
    worker = board.worker()
    for number in range(1, 4):
        held = started(board, worker)
        board.finish(held, FAILED, f"no luck {number}")
        board.do(claims.promote, board.clock() + timedelta(days=1))
    assert task(board, held, "state, failures") == (FAILED, 3)
    assert board.read(records.job, job)["message"] == "one failed: no luck 3"
    states = rows(board, "SELECT number, state, message FROM attempt ORDER BY number")
    assert states == [(n, FAILED, f"no luck {n}") for n in (1, 2, 3)]


def test_a_failure_that_no_retry_mends_is_final(board: Board) -> None:
    board.submit(ONE)
    held = started(board, board.worker())
    board.finish(held, FAILED, "is no video", retry=False)
    assert task(board, held, "state, failures") == (FAILED, 1)


def test_a_lost_worker_costs_no_retry_but_five_are_too_many(board: Board) -> None:
    board.submit(chain("one", attempts=1))
    worker = board.worker()
    for losses in range(1, 5):
        held = started(board, worker)
        board.finish(held, LOST, "gone")
        assert task(board, held, "state, losses, failures") == (READY, losses, 0)
    board.finish(started(board, worker), LOST, "gone")
    state, message = task(board, held, "state, message")
    assert state == FAILED
    assert message == "set aside: it lost its worker 5 times; the last time: gone"
    assert rows(board, "SELECT state, COUNT(*) FROM attempt GROUP BY state") == [(LOST, 5)]


def test_what_a_stopping_worker_hands_back_is_ready_at_once(board: Board) -> None:
    board.submit(chain("one", attempts=1))
    worker = board.worker()
    held = started(board, worker)
    board.finish(held, RELEASED)
    assert task(board, held, "state, failures, losses, worker_id") == (READY, 0, 0, None)
    assert started(board, worker).attempt == 2


@pytest.mark.parametrize("state", [CANCELLED, FAILED, LOST, RELEASED])
def test_however_an_attempt_ends_after_a_cancel_it_is_not_run_again(
    board: Board, state: str
) -> None:
    job = board.submit(chain("one", "two", attempts=3))
    worker = board.worker()
    held = started(board, worker)
    board.do(jobs.cancel, job, "alice")
    assert board.read(records.job, job)["state"] == RUNNING
    board.finish(held, state, "stopped")
    assert [t["state"] for t in board.read(records.job, job)["tasks"]] == [CANCELLED] * 2
    assert board.read(records.job, job)["state"] == CANCELLED
    assert board.claim(worker) == []


def test_what_succeeded_in_spite_of_a_cancel_has_succeeded(board: Board) -> None:
    job = board.submit(chain("one"))
    held = started(board, board.worker())
    board.do(jobs.cancel, job, "alice")
    board.finish(held)
    assert board.read(records.job, job)["state"] == SUCCEEDED


def test_an_outcome_is_stored_whole(board: Board) -> None:
    board.submit(chain("one"))
    held = started(board, board.worker())
    board.finish(
        held,
        outputs=FILES,
        published=PUBLISHED,
        deliveries=WHOLE["deliveries"],
        report={"loudness": -23.0},
        commands=[["ffmpeg", "-i", "größe.mp4"]],
        exit_status=0,
        cpu_seconds=1.5,
        peak_memory=5 << 30,
        wall_seconds=2.5,
        log_size=10,
    )
    assert rows(board, "SELECT commands, report, cpu_seconds, peak_memory FROM attempt") == [
        ('[["ffmpeg","-i","größe.mp4"]]', '{"loudness":-23.0}', 1.5, 5 << 30)
    ]
    assert rows(board, "SELECT href, job_id, task_id FROM file") == [
        ("file:///x/out.mp4", held.job_id, held.task_id)
    ]
    assert rows(board, "SELECT target, path, state FROM publication") == [
        ("site", "a.mp4", "published")
    ]
    assert rows(board, "SELECT number, status FROM delivery") == [(1, 200)]


def test_several_attempts_end_in_one_transaction_each_in_its_own_way(board: Board) -> None:
    wide = recipe(*[TaskSpec(name=name, type="noop") for name in "abc"])
    board.submit(wide)
    board.submit(chain("d", "e"))
    board.submit(ONE)
    worker = board.worker()
    held = {one.name: one.claim for one in board.claim(worker, 9)}
    board.finish(held["b"], LOST, "gone")
    ended = [
        (held["a"], Outcome(SUCCEEDED, "a warning", result=Result(outputs=FILES))),
        (held["b"], Outcome(SUCCEEDED)),
        (held["d"], Outcome(SUCCEEDED)),
        (held["one"], Outcome(FAILED, "no luck")),
        (held["c"], Outcome(SUCCEEDED)),
    ]
    accepted = board.do(lambda s: outcomes.finish_all(s, ended, clock(s)))
    assert accepted == {one: one != held["b"] for one, _ in ended}
    assert rows(board, "SELECT name, state, message FROM task ORDER BY name") == [
        ("a", SUCCEEDED, "a warning"),
        ("b", READY, "gone"),
        ("c", SUCCEEDED, ""),
        ("d", SUCCEEDED, ""),
        ("e", READY, ""),
        ("one", SCHEDULED, "no luck"),
    ]
    assert rows(board, "SELECT task_id FROM file") == [(held["a"].task_id,)]
    before = everything(board)
    assert board.do(lambda s: outcomes.finish_all(s, ended, clock(s))) == accepted
    assert everything(board) == before


def test_the_same_place_has_one_publication(board: Board) -> None:
    def publish(digest: str) -> None:
        board.submit(chain("one"))
        one = Published(1, "site", "a.mp4", "http://x/a.mp4", False, digest * 64, 1)
        board.finish(started(board, board.worker()), published=[one])

    for digest in "aab":
        publish(digest)
    assert rows(board, "SELECT state, sha256 FROM publication ORDER BY id") == [
        ("retracted", "a" * 64),
        ("published", "b" * 64),
    ]


def test_a_failed_attempt_leaves_no_files_but_its_deliveries(board: Board) -> None:
    board.submit(ONE)
    board.finish(started(board, board.worker()), FAILED, "no luck", **WHOLE)
    assert rows(board, "SELECT 1 FROM file") == rows(board, "SELECT 1 FROM publication")
    assert len(rows(board, "SELECT 1 FROM file")) == 0
    assert len(rows(board, "SELECT 1 FROM delivery")) == 1


def test_progress_is_the_jobs_too_by_weight(board: Board) -> None:
    job = board.submit(
        recipe(TaskSpec(name="a", type="noop"), TaskSpec(name="b", type="noop", weight=3))
    )
    worker = board.worker()
    board.finish(started(board, worker))
    held = started(board, worker)
    assert board.do(leases.report_progress, held, 50.0, "2.5x", 12.0)
    assert task(board, held, "progress, speed, eta") == (50.0, "2.5x", 12.0)
    assert board.read(records.job, job)["progress"] == 62.5


# Promotion ------------------------------------------------------------------


def test_only_what_is_due_is_promoted(board: Board) -> None:
    for delay in (10, 1000):
        board.submit(chain("one"), delay=delay)
    assert board.do(claims.promote, board.clock() + timedelta(seconds=100)) == 1
    assert [one.claim.task_id for one in board.claim(board.worker(), 9)] == [1]


def test_what_another_scheduler_has_promoted_is_left_alone(board: Board) -> None:
    board.submit(chain("one"), delay=10)
    later = board.clock() + timedelta(seconds=100)
    counts = together(board.database, *[partial(board.do, claims.promote, later)] * 4)
    assert sorted(counts) == [0, 0, 0, 1]


@pytest.mark.parametrize("database_uri", ["mariadb"], indirect=True)
def test_what_was_put_off_again_meanwhile_is_not_promoted(board: Board, mariadb: MariaDB) -> None:
    board.submit(chain("one"), delay=10)
    later = board.clock() + timedelta(seconds=100)
    (name,) = rows(board, "SELECT DATABASE()")[0]
    other = mariadb.connect(name)

    def put_off_while_it_waits(statement: str) -> None:
        other.cursor().execute("SELECT 1 FROM job FOR UPDATE")
        other.cursor().execute("UPDATE task SET run_at = '2100-01-01 00:00:00'")

    class Slow:
        """The store, but somebody puts the task off right after it was found."""

        def __init__(self, store: Store) -> None:
            self.store = store

        def __getattr__(self, attribute: str) -> Any:
            return getattr(self.store, attribute)

        def execute(self, statement: str, *args: Any, **kwargs: Any) -> Any:
            result = self.store.execute(statement, *args, **kwargs)
            if "run_at <=" in statement and statement.startswith("SELECT"):
                put_off_while_it_waits(statement)
                other.commit()
            return result

    try:
        assert board.do(lambda s: claims.promote(Slow(s), later)) == 0
    finally:
        other.close()
    assert rows(board, "SELECT state FROM task") == [(SCHEDULED,)]


# Lost workers ---------------------------------------------------------------


def test_a_lease_that_was_not_renewed_is_given_back(board: Board) -> None:
    board.submit(ONE)
    worker = board.worker(host="north", pid=77)
    held = started(board, worker)
    (lease,) = board.read(leases.current)
    assert (lease.claim, lease.length) == (held, 60.0)
    assert board.do(outcomes.rescue, lease, board.clock())
    assert task(board, held, "state, losses, reason, message") == (
        READY,
        1,
        "lost-worker",
        f"worker {worker} on north, process 77 was lost",
    )
    assert not board.do(outcomes.rescue, lease, board.clock())


def test_a_lease_that_was_renewed_meanwhile_is_left_alone(board: Board) -> None:
    board.submit(ONE)
    worker = board.worker()
    held = started(board, worker)
    (lease,) = board.read(leases.current)
    board.do(leases.heartbeat, worker, [held], 60.0, board.clock() + SOON)
    before = everything(board)
    assert not board.do(outcomes.rescue, lease, board.clock())
    assert everything(board) == before


def test_of_rescuers_at_once_one_gives_the_task_back(board: Board) -> None:
    board.submit(ONE)
    held = started(board, board.worker())
    (lease,) = board.read(leases.current)
    now = board.clock()
    given = together(board.database, *[partial(board.do, outcomes.rescue, lease, now)] * 4)
    assert sorted(given) == [False, False, False, True]
    assert task(board, held, "state, losses") == (READY, 1)


def test_a_lost_worker_that_beats_is_active_again(board: Board) -> None:
    worker = board.worker()
    board.do(worker_registry.mark_lost, board.read(worker_registry.living), board.clock())
    assert rows(board, "SELECT state FROM worker") == [(LOST,)]
    lost = rows(board, "SELECT reason, host FROM event WHERE action = 'worker.lost'")
    assert lost == [("lost-worker", "here")]
    board.do(leases.heartbeat, worker, [], 60.0, board.clock())
    assert rows(board, "SELECT state FROM worker") == [("active",)]


def test_a_worker_that_has_beaten_since_is_not_lost(board: Board) -> None:
    worker = board.worker()
    before = board.read(worker_registry.living)
    board.do(leases.heartbeat, worker, [], 60.0, board.clock())
    board.do(worker_registry.mark_lost, before, board.clock())
    assert rows(board, "SELECT state FROM worker") == [("active",)]


def test_a_worker_that_signed_off_is_not_lost(board: Board) -> None:
    worker = board.worker()
    before = board.read(worker_registry.living)
    board.do(worker_registry.sign_off, worker, board.clock())
    board.do(worker_registry.mark_lost, before, board.clock())
    assert rows(board, "SELECT state FROM worker") == [("stopped",)]
    assert rows(board, "SELECT action FROM event ORDER BY id") == [
        ("worker.started",),
        ("worker.stopped",),
    ]
