"""Schedules: submit jobs at the times that cron expressions name."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from cronsim import CronSim
from storm.locals import Store

from backoffice.config.settings import Schedule, Settings
from backoffice.data import events
from backoffice.data import schedules as schedule_table
from backoffice.data.database import Database
from backoffice.data.sql import clock
from backoffice.engine import submission
from backoffice.engine.catalogue import Catalogue
from backoffice.engine.submission import JobRequest, PreparedJob
from backoffice.errors import BackofficeError, Conflict


def fire_schedules(database: Database, settings: Settings, recipes: Catalogue) -> list[int]:
    """Submit the jobs of schedules that are due; returns their ids. Runs that were
    missed while no scheduler ran are made up for by one job, not by one each."""
    due = database.transact(due_schedules, settings.schedules)
    fired = [fire(database, settings, recipes, settings.schedules[name], run) for name, run in due]
    return [job for job in fired if job is not None]


def next_run(cron: str, after: datetime) -> datetime:
    """The first time after ``after`` (both naive UTC) that the expression names."""
    run: datetime = next(CronSim(cron, after.replace(tzinfo=UTC)))
    return run.replace(tzinfo=None)


def due_schedules(store: Store, schedules: Mapping[str, Schedule]) -> list[tuple[str, datetime]]:
    """Bring the table up to date with the settings; returns which runs are due."""
    now = clock(store)
    known = schedule_table.known(store)
    schedule_table.remove(store, known.keys() - schedules.keys())
    due = []
    for name, schedule in schedules.items():
        cron, run = known.get(name, ("", None))
        if cron != schedule.cron:
            write = schedule_table.change if name in known else schedule_table.add
            write(store, name, schedule.cron, next_run(schedule.cron, now))
        elif run is not None and run <= now:
            due.append((name, run))
    return due


def fire(
    database: Database, settings: Settings, recipes: Catalogue, schedule: Schedule, run: datetime
) -> int | None:
    """Submit the job of one run; None when it is refused, or another scheduler has it."""
    try:
        prepared, refusal = recipes.prepare(_request(recipes, schedule, run), settings), ""
    except BackofficeError as error:
        prepared, refusal = None, str(error)
    try:
        return database.transact(_take_run, schedule, run, prepared, refusal)
    except Conflict as error:  # a job that a user submitted has the run's key
        return database.transact(_take_run, schedule, run, None, str(error))


def _request(recipes: Catalogue, schedule: Schedule, run: datetime) -> JobRequest:
    role = _first_role(recipes, schedule.workflow)
    return JobRequest(
        workflow=schedule.workflow,
        inputs=[(role, name) for name in schedule.inputs],
        title=f"{schedule.name} {run:%Y-%m-%d %H:%M}",
        key=f"schedule:{schedule.name}:{run.isoformat()}",
        priority=schedule.priority,
        parameters=schedule.parameters,
    )


def _first_role(recipes: Catalogue, workflow: str) -> str:
    known = recipes.workflows.get(workflow)
    return known.first_role if known else "source"


def _take_run(
    store: Store, schedule: Schedule, run: datetime, prepared: PreparedJob | None, refusal: str
) -> int | None:
    """The scheduler that moves ``next_run`` on submits the job."""
    now = clock(store)
    following = next_run(schedule.cron, max(now, run))
    if not schedule_table.take_run(store, schedule.name, run, following, refusal):
        return None
    if prepared is None:
        subject = f"schedule {schedule.name}"
        events.append(store, now, events.Event("schedule.failed", subject, detail=refusal))
        return None
    job, _ = submission.submit(store, prepared, f"schedule:{schedule.name}")
    schedule_table.set_last_job(store, schedule.name, job)
    return job
