"""Follow a job to its end: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any, Protocol

from backoffice import units
from backoffice.cli.terminal import clean
from backoffice.states import RUNNING

STEP = 10  # percent between two lines about a task

Record = Mapping[str, Any]


class View(Protocol):
    def update(self, job: Record) -> None:
        """Show how the job stands now."""

    def close(self) -> None:
        """Leave the terminal in order."""


def watch(looks: Iterable[Record], out: IO[str]) -> str:
    """Show a job's progress, as its states come, until it has ended; gives its final state."""
    view: View = Bars(out) if out.isatty() else Lines(out)
    state = ""
    try:
        for seen in looks:
            view.update(seen)
            state = seen["state"]
    finally:
        view.close()
    return state


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


_TOLD = ("succeeded", "failed", "cancelled", "skipped", "scheduled")  # with their message


def _pace(task: Record) -> str:
    parts = [task["speed"]] if task["speed"] else []
    if task["eta"] is not None:
        parts.append(f"{units.duration(task['eta'])} left")
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
