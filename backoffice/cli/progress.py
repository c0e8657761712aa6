"""Follow a job to its end: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any, Protocol

from storm.locals import Store

from backoffice.cli.terminal import clean
from backoffice.data import model
from backoffice.data.database import Database
from backoffice.data.model import Job
from backoffice.errors import DatabaseUnavailable
from backoffice.reports import records
from backoffice.reports.why import span
from backoffice.states import CANCELLED, FAILED, JOB_ENDED, RUNNING, SCHEDULED, SKIPPED, SUCCEEDED

POLL = 0.5  # seconds
PATIENCE = 60.0  # seconds that the database may be away
STEP = 10  # percent between two lines about a task

Record = Mapping[str, Any]


class View(Protocol):
    def update(self, job: Record) -> None:
        """Show how the job stands now."""

    def close(self) -> None:
        """Leave the terminal in order."""


def job(
    database: Database,
    job_id: int,
    out: IO[str],
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Show the job's progress until it ends; returns its final state.

    Raises NotFound, or DatabaseUnavailable after it was away for a while.
    """
    return watch(_looks(database, job_id, sleep), out)


def watch(looks: Iterable[Record], out: IO[str]) -> str:
    """The same for whatever gives the job again and again, until it has ended."""
    view: View = Bars(out) if out.isatty() else Lines(out)
    state = ""
    try:
        for seen in looks:
            view.update(seen)
            state = seen["state"]
    finally:
        view.close()
    return state


def _looks(database: Database, job_id: int, sleep: Callable[[float], None]) -> Iterator[Record]:
    away = 0.0
    while True:
        try:
            seen = database.read(_look, job_id)
        except DatabaseUnavailable as error:
            away += POLL
            if error.refused or away > PATIENCE:
                raise
        else:
            away = 0.0
            yield seen
            if seen["state"] in JOB_ENDED:
                return
        sleep(POLL)


def _look(store: Store, job_id: int) -> Record:
    """No more of a job than is shown: this is asked again and again."""
    row = model.get(store, Job, job_id, "job")
    return {
        "id": job_id,
        "state": row.state,
        "progress": row.progress,
        "message": row.message,
        "tasks": records.tasks(store, job=job_id),
    }


@dataclass
class Lines:
    """A line when something changes state, and one every so many percent."""

    out: IO[str]
    _state: str = ""
    _tasks: dict[int, tuple[str, int, int]] = field(default_factory=dict)

    def update(self, job: Record) -> None:
        for task in job["tasks"]:
            self._task(task)
        if job["state"] != self._state:
            self._state = job["state"]
            self._say(f"job {job['id']} {job['state']}", job["message"])

    def _task(self, task: Record) -> None:
        step = int(task["progress"]) // STEP * STEP if task["state"] == RUNNING else 0
        now = (task["state"], task["attempt"], step)
        before = self._tasks.get(task["id"])
        self._tasks[task["id"]] = now
        if before == now or task["state"] not in (RUNNING, *_TOLD):
            return
        text = f"{task['name']} {task['state']}"
        if task["state"] == RUNNING and step:
            text += f" {step} %{_pace(task)}"
        self._say(text, task["message"] if task["state"] in _TOLD else "")

    def _say(self, text: str, message: str) -> None:
        self.out.write(clean(f"{text}: {message}" if message else text) + "\n")
        self.out.flush()

    def close(self) -> None:
        pass


_TOLD = (SUCCEEDED, FAILED, CANCELLED, SKIPPED, SCHEDULED)  # with their message


def _pace(task: Record) -> str:
    parts = [task["speed"]] if task["speed"] else []
    if task["eta"] is not None:
        parts.append(f"{span(task['eta'])} left")
    return f" ({', '.join(parts)})" if parts else ""


class Bars:
    """A bar for the job and one for each task that runs."""

    def __init__(self, out: IO[str]) -> None:
        from tqdm import tqdm

        self._out = out
        self._tqdm: Callable[..., Any] = tqdm
        self._whole = self._bar("job", 0)
        self._tasks: dict[int, Any] = {}
        self._told: dict[int, tuple[str, int]] = {}

    def update(self, job: Record) -> None:
        running = {task["id"]: task for task in job["tasks"] if task["state"] == RUNNING}
        for gone in self._tasks.keys() - running.keys():
            self._tasks.pop(gone).close()
        for task in job["tasks"]:
            self._tell(task)
        for task in running.values():
            bar = self._tasks.get(task["id"])
            if bar is None:
                bar = self._tasks[task["id"]] = self._bar(task["name"], self._free_row())
            self._set(bar, task["progress"], _pace(task).strip(" ()"))
        self._set(self._whole, job["progress"], clean(job["state"]))

    def _bar(self, name: str, row: int) -> Any:
        return self._tqdm(
            total=100,
            desc=clean(name),
            position=row,
            file=self._out,
            leave=row == 0,
            unit="",
            bar_format="{desc:<20.20} {percentage:3.0f} % |{bar}| {unit}",
        )

    def _free_row(self) -> int:
        taken = {abs(bar.pos) for bar in self._tasks.values()}
        return next(row for row in range(1, len(taken) + 2) if row not in taken)

    def _tell(self, task: Record) -> None:
        """Each end of an attempt, once, above the bars."""
        now = (task["state"], task["attempt"])
        if task["state"] not in _TOLD or self._told.get(task["id"]) == now:
            return
        self._told[task["id"]] = now
        message = f": {task['message']}" if task["message"] else ""
        self._whole.write(clean(f"{task['name']} {task['state']}{message}"), file=self._out)

    @staticmethod
    def _set(bar: Any, percent: float, text: str) -> None:
        bar.n = percent
        bar.unit = text
        bar.refresh()

    def close(self) -> None:
        for bar in (*self._tasks.values(), self._whole):
            bar.close()
