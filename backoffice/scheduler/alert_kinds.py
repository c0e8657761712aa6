"""Kinds of alerts: which events each is about, and how it words them."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from typing import NamedTuple

from backoffice.engine.outcomes import STALLED, TOOK_TOO_LONG
from backoffice.reports.alert_events import AlertEvent


class Kind(NamedTuple):
    says: Mapping[str, str]  # action → what it says of the event's subject
    many: str  # the headline of several, after their number
    task: str = ""  # only of tasks of this type
    detail: re.Pattern[str] | None = None  # only events with such a detail
    why: str = ""  # the reason, for events that have no detail

    def matches(self, event: AlertEvent, workflow: str) -> bool:
        """Whether an alert for jobs of ``workflow`` (a pattern) is about the event.
        Events that belong to no job match every pattern."""
        if self.task and event.type != self.task:
            return False
        if self.detail and not self.detail.match(event.detail):
            return False
        if event.job is None:
            return True
        return event.workflow is not None and fnmatch.fnmatchcase(event.workflow, workflow)


_STALLED = re.compile(f"[^:]*: ({STALLED}|{TOOK_TOO_LONG}) ")

KINDS: Mapping[str, Kind] = {
    "job.failed": Kind({"job.failed": "failed"}, "jobs failed"),
    "task.stalled": Kind(
        {"task.retrying": "stalled", "task.failed": "stalled for the last time"},
        "tasks stalled",
        detail=_STALLED,
    ),
    "worker.lost": Kind(
        {"worker.lost": "is lost"},
        "workers are lost",
        why="it was not heard of for as long as its lease; others get its tasks",
    ),
    "disk.low": Kind(
        {"disk.low": "is nearly full", "disk.ok": "has room again"},
        "disks are nearly full or have room again",
    ),
    "publish.refused": Kind(
        {"task.failed": "could not publish"}, "tasks could not publish", task="publish"
    ),
}
