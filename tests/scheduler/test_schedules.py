from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from backoffice.config.settings import Schedule, Settings
from backoffice.data.sql import moment
from backoffice.engine.catalogue import Catalogue
from backoffice.reports import records
from backoffice.scheduler import schedules
from backoffice.scheduler.schedules import fire_schedules, next_run
from tests.board import ENCODE, Board, chain
from tests.crowd import together

NEVER = datetime(2100, 1, 1)
PAST = datetime(2020, 1, 1)
RECIPES = Catalogue({"encode": ENCODE, "chain": chain("one")}, {})


def rows(board: Board, query: str, *values: object) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = board.read(lambda s: s.execute(query, values).get_all())
    return found


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
    found = board.do(schedules.due_schedules, settings.schedules)
    fire_schedules(board.database, settings, RECIPES)
    (name, run), *_ = found
    late = schedules.fire(board.database, settings, RECIPES, settings.schedules[name], run)
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
    monkeypatch.setattr(schedules, "clock", lambda store: now - timedelta(hours=2))
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
