from __future__ import annotations

import fcntl
import os
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from backoffice.config.settings import Schedule, Settings, Target
from backoffice.data.database import moment
from backoffice.engine import leases
from backoffice.engine.catalogue import Catalogue
from backoffice.engine.claims import Held
from backoffice.reports import records
from backoffice.scheduler import scheduler
from backoffice.scheduler.scheduler import Rescue, Sweep, fire_schedules, next_run
from backoffice.states import READY, RUNNING
from tests.board import ENCODE, Board, chain
from tests.crowd import together

LEASE = 60.0  # seconds, as the board gives them
NEVER = datetime(2100, 1, 1)
PAST = datetime(2020, 1, 1)
RECIPES = Catalogue({"encode": ENCODE, "chain": chain("one")}, {})


def rows(board: Board, query: str, *values: object) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = board.read(lambda s: s.execute(query, values).get_all())
    return found


# Lost workers ---------------------------------------------------------------


class World:
    """A board with one running task, two clocks, and a scheduler that looks
    at them: the database's may be set, the monotonic one goes on."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.now = board.clock()
        self.passed = 1000.0
        self.rescue = self.another()
        board.submit(chain("one"))
        self.worker = board.worker()
        (one,) = board.claim(self.worker)
        self.held: Held = one.held

    def another(self) -> Rescue:
        return Rescue(self.board.database, lambda: self.passed)

    def go(self, seconds: float, *, every: float = 1.0, beat: float = 0.0) -> None:
        """Let time pass with a look at each step; with ``beat`` the worker is
        heard of at such distances."""
        for number in range(1, round(seconds / every) + 1):
            self.now += timedelta(seconds=every)
            self.passed += every
            if beat and number % round(beat / every) == 0:
                self.beat()
            self.rescue.run()

    def beat(self) -> None:
        self.board.do(leases.beat, self.worker, [self.held], LEASE, self.now)

    @property
    def state(self) -> str:
        (row,) = rows(self.board, "SELECT state FROM task")
        return str(row[0])

    @property
    def worker_state(self) -> str:
        (row,) = rows(self.board, "SELECT state FROM worker")
        return str(row[0])


@pytest.fixture
def world(board: Board, monkeypatch: pytest.MonkeyPatch) -> World:
    world = World(board)
    monkeypatch.setattr(scheduler, "clock", lambda store: world.now)
    return world


def test_a_worker_that_beats_keeps_its_task(world: World) -> None:
    world.go(600, every=2, beat=10)
    assert (world.state, world.worker_state) == (RUNNING, "active")


def test_a_silent_workers_task_comes_back_when_its_lease_has_ended(world: World) -> None:
    world.beat()
    world.go(LEASE - 1)
    assert (world.state, world.worker_state) == (RUNNING, "active")
    world.go(3)
    assert (world.state, world.worker_state) == (READY, "lost")
    assert rows(world.board, "SELECT action FROM event ORDER BY id DESC LIMIT 2") == [
        ("worker.lost",),
        ("task.lost",),
    ]
    assert world.board.claim(world.board.worker())[0].held.attempt == 2


@pytest.mark.parametrize("jump", [timedelta(hours=2), timedelta(hours=-2)], ids=["on", "back"])
def test_a_clock_that_is_set_takes_no_task_from_a_worker_that_beats(
    world: World, jump: timedelta
) -> None:
    world.go(30, beat=10)
    world.now += jump
    world.go(120, beat=10)
    world.now -= jump
    world.go(120, beat=10)
    assert (world.state, world.worker_state) == (RUNNING, "active")
    assert rows(world.board, "SELECT COUNT(*) FROM attempt") == [(1,)]


@pytest.mark.parametrize("jump", [timedelta(hours=2), timedelta(hours=-2)], ids=["on", "back"])
def test_a_clock_that_is_set_keeps_no_task_with_a_worker_that_is_gone(
    world: World, jump: timedelta
) -> None:
    world.beat()
    world.go(5)
    world.now += jump
    world.go(LEASE + 3)
    assert (world.state, world.worker_state) == (READY, "lost")


def test_a_clock_set_on_makes_no_scheduler_hasty(world: World) -> None:
    world.beat()
    world.go(1)
    world.now += timedelta(hours=2)
    world.go(LEASE / 2 - 5)
    assert world.state == RUNNING


def test_a_scheduler_that_has_just_started_watches_before_it_acts(world: World) -> None:
    world.beat()
    world.now += timedelta(hours=2)
    world.rescue = world.another()
    world.go(LEASE / 2 - 2)
    assert world.state == RUNNING
    world.go(4)
    assert world.state == READY


def test_of_two_schedulers_one_gives_a_task_back_and_once(world: World) -> None:
    world.beat()
    both = [world.rescue, world.another()]
    for _ in range(round(LEASE) + 2):
        world.now += timedelta(seconds=1)
        world.passed += 1
        together(world.board.database, *[one.run for one in both])
    assert rows(world.board, "SELECT state, losses FROM task") == [(READY, 1)]
    assert rows(world.board, "SELECT COUNT(*) FROM event WHERE action = 'worker.lost'") == [(1,)]


def test_a_task_whose_worker_is_not_known_any_more_comes_back(world: World) -> None:
    world.board.do(lambda s: s.execute("DELETE FROM worker"))
    world.beat()
    world.go(LEASE + 3)
    assert world.state == READY


def test_what_was_watched_is_forgotten_with_its_task(world: World) -> None:
    world.rescue.run()
    assert world.rescue.leases.since
    world.board.finish(world.held)
    world.rescue.run()
    assert not world.rescue.leases.since


# Targets --------------------------------------------------------------------


@pytest.fixture
def target(tmp_path: Path) -> Target:
    (tmp_path / "site").mkdir()
    return Target("site", "folder", tmp_path / "site", "", {})


def staging(target: Target, token: str) -> Path:
    assert target.path is not None
    folder = target.path / f".backoffice-{token}"
    folder.mkdir()
    (folder / "0").write_text("half")
    return folder


def test_what_an_ended_attempt_left_at_a_target_is_cleared(board: Board, target: Target) -> None:
    board.submit(chain("one"))
    (one,) = board.claim(board.worker())
    ours, former = one.held.task_id, one.held.attempt - 1
    living = staging(target, f"{ours}-{one.held.attempt}")
    left = [staging(target, f"{ours}-{former}"), staging(target, f"{ours + 1}-1")]
    sweep = Sweep(board.database, target)
    sweep.run()
    assert (living.exists(), *(folder.exists() for folder in left)) == (True, False, False)
    board.finish(one.held)
    sweep.run()
    assert not living.exists()


def test_what_a_process_still_holds_at_a_target_stays(board: Board, target: Target) -> None:
    held = staging(target, "1-1")
    descriptor = os.open(held, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    sweep = Sweep(board.database, target)
    sweep.run()
    assert held.exists()
    os.close(descriptor)
    sweep.run()
    assert not held.exists()


@pytest.mark.parametrize("token", ["mine", "1-", "-1", "1-1-1", "1" * 30 + "-1"])
def test_what_is_no_attempts_at_a_target_stays(board: Board, target: Target, token: str) -> None:
    folder = staging(target, token)
    Sweep(board.database, target).run()
    assert folder.exists()


def test_a_target_that_cannot_be_read_is_told_once(
    board: Board, caplog: pytest.LogCaptureFixture
) -> None:
    sweep = Sweep(board.database, Target("bare", "folder", None, "", {}))
    for _ in range(3):
        sweep.run()
    assert caplog.text.count("target.unswept") == 1


# Schedules ------------------------------------------------------------------


def with_schedule(board: Board, cron: str = "0 * * * *", **changes: Any) -> Settings:
    values: dict[str, Any] = {
        "workflow": "chain",
        "inputs": (),
        "priority": 30,
        "parameters": {"colour": "red"},
    }
    schedule = Schedule(name="hourly", cron=cron, **values | changes)
    return replace(board.settings, schedules={"hourly": schedule})


def due(board: Board, run: datetime = PAST) -> None:
    board.do(lambda s: s.execute("UPDATE schedule SET next_run = ?", (run,)))


def row(board: Board) -> dict[str, Any]:
    names = ("cron", "next_run", "last_run", "last_job", "message")
    (found,) = rows(board, f"SELECT {', '.join(names)} FROM schedule")
    return dict(zip(names, found, strict=True))


@pytest.mark.parametrize(
    ("cron", "after", "run"),
    [
        ("0 * * * *", "2026-11-21 10:00:00", "2026-11-21 11:00:00"),
        ("0 * * * *", "2026-11-21 10:59:59.999999", "2026-11-21 11:00:00"),
        ("30 2 * * *", "2026-03-29 00:59:00", "2026-03-29 02:30:00"),  # summer time begins
        ("30 2 * * *", "2026-10-25 02:30:00", "2026-10-26 02:30:00"),  # and ends
        ("0 0 29 2 *", "2026-01-01 00:00:00", "2028-02-29 00:00:00"),
        ("*/15 9-17 * * mon-fri", "2026-11-20 17:45:00", "2026-11-23 09:00:00"),
    ],
)
def test_the_next_run_is_the_first_that_the_expression_names(
    cron: str, after: str, run: str
) -> None:
    assert next_run(cron, datetime.fromisoformat(after)) == datetime.fromisoformat(run)


def test_a_new_schedule_waits_for_its_first_time(board: Board) -> None:
    settings = with_schedule(board)
    assert fire_schedules(board.database, settings, RECIPES) == []
    run = moment(row(board)["next_run"]) or NEVER
    assert board.clock() < run <= board.clock() + timedelta(hours=1)
    assert fire_schedules(board.database, settings, RECIPES) == []


def test_a_schedule_submits_its_job(board: Board) -> None:
    settings = with_schedule(board)
    fire_schedules(board.database, settings, RECIPES)
    due(board, datetime(2020, 1, 1, 10))
    (job,) = fire_schedules(board.database, settings, RECIPES)
    found = board.read(records.job, job)
    assert (found["workflow"], found["priority"]) == ("chain", 30)
    assert (found["title"], found["submitter"]) == ("hourly 2020-01-01 10:00", "schedule:hourly")
    assert found["parameters"] == {"colour": "red"}
    assert moment(row(board)["last_run"]) == datetime(2020, 1, 1, 10)
    assert row(board)["last_job"] == job


def test_runs_that_were_missed_are_made_up_for_once(board: Board) -> None:
    settings = with_schedule(board)
    fire_schedules(board.database, settings, RECIPES)
    due(board)
    assert len(fire_schedules(board.database, settings, RECIPES)) == 1
    assert fire_schedules(board.database, settings, RECIPES) == []
    assert (moment(row(board)["next_run"]) or PAST) > board.clock()


def test_of_schedulers_at_the_same_moment_one_fires(board: Board) -> None:
    settings = with_schedule(board)
    fire_schedules(board.database, settings, RECIPES)
    for hour in range(5):
        due(board, datetime(2020, 1, 1, hour))
        fire = partial(fire_schedules, board.database, settings, RECIPES)
        assert sum(map(len, together(board.database, *[fire] * 4))) == 1
    assert rows(board, "SELECT COUNT(*) FROM job") == [(5,)]


def test_of_schedulers_that_meet_a_new_schedule_together_none_stumbles(board: Board) -> None:
    fire = partial(fire_schedules, board.database, with_schedule(board), RECIPES)
    assert together(board.database, *[fire] * 4) == [[]] * 4
    assert rows(board, "SELECT name FROM schedule") == [("hourly",)]


def test_a_scheduler_that_found_the_run_taken_does_nothing(board: Board) -> None:
    settings = with_schedule(board)
    fire_schedules(board.database, settings, RECIPES)
    due(board)
    found = board.do(scheduler._due_schedules, settings.schedules)
    fire_schedules(board.database, settings, RECIPES)
    (name, run), *_ = found
    late = scheduler._fire(board.database, settings, RECIPES, settings.schedules[name], run)
    assert late is None
    assert rows(board, "SELECT COUNT(*) FROM job") == [(1,)]


def test_a_clock_set_back_fires_nothing_again(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = with_schedule(board)
    fire_schedules(board.database, settings, RECIPES)
    due(board)
    fire_schedules(board.database, settings, RECIPES)
    now = board.clock()
    monkeypatch.setattr(scheduler, "clock", lambda store: now - timedelta(hours=2))
    assert fire_schedules(board.database, settings, RECIPES) == []


def test_a_changed_expression_counts_from_now(board: Board) -> None:
    fire_schedules(board.database, with_schedule(board), RECIPES)
    due(board)
    settings = with_schedule(board, "0 0 1 1 *")
    assert fire_schedules(board.database, settings, RECIPES) == []
    expected = next_run("0 0 1 1 *", board.clock())
    assert (row(board)["cron"], moment(row(board)["next_run"])) == ("0 0 1 1 *", expected)


def test_a_schedule_that_was_removed_is_forgotten(board: Board) -> None:
    fire_schedules(board.database, with_schedule(board), RECIPES)
    due(board)
    assert fire_schedules(board.database, board.settings, RECIPES) == []
    assert rows(board, "SELECT 1 FROM schedule") == rows(board, "SELECT 1 FROM job")


def test_a_run_that_cannot_be_says_why_and_the_next_is_tried(board: Board) -> None:
    settings = with_schedule(board, workflow="encode", inputs=("/nowhere/a.mp4",), parameters={})
    fire_schedules(board.database, settings, RECIPES)
    due(board)
    assert fire_schedules(board.database, settings, RECIPES) == []
    assert "/nowhere/a.mp4" in row(board)["message"]
    assert (moment(row(board)["next_run"]) or PAST) > board.clock()
    assert rows(board, "SELECT COUNT(*) FROM event WHERE action = 'schedule.failed'") == [(1,)]
    due(board)
    settings = with_schedule(board)
    assert len(fire_schedules(board.database, settings, RECIPES)) == 1
    assert row(board)["message"] == ""


def test_a_schedule_with_files_gives_them_to_the_job(board: Board, source: Path) -> None:
    settings = with_schedule(board, workflow="encode", inputs=(str(source),))
    fire_schedules(board.database, settings, RECIPES)
    due(board)
    (job,) = fire_schedules(board.database, settings, RECIPES)
    assert [one["href"] for one in board.read(records.job, job)["inputs"]] == [source.as_uri()]
