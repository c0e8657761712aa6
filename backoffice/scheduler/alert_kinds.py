"""Kinds of alerts: which events each is about, and how it words them."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import NamedTuple

from backoffice import tasks
from backoffice.reports.alert_events import AlertEvent
from backoffice.states import Reason
from backoffice.tasks import Trait


class Kind(NamedTuple):
    says: Mapping[str, str]  # action → what it says of the event's subject
    many: str  # the headline of several, after their number
    trait: Trait | None = None  # only of tasks whose type has it
    reasons: frozenset[str] = frozenset()  # only events with one of these; empty: any

    def matches(self, event: AlertEvent, workflow: str) -> bool:
        """Whether an alert for jobs of ``workflow`` (a pattern) is about the event.
        Events that belong to no job match every pattern."""
        if self.trait and not tasks.has(event.type or "", self.trait):
            return False
        if self.reasons and event.reason not in self.reasons:
            return False
        if event.job is None:
            return True
        return event.workflow is not None and fnmatch.fnmatchcase(event.workflow, workflow)


KINDS: Mapping[str, Kind] = {
    "job.failed": Kind({"job.failed": "failed"}, "jobs failed"),
    "task.stalled": Kind(
        {"task.retrying": "stalled", "task.failed": "stalled for the last time"},
        "tasks stalled",
        reasons=frozenset({Reason.STALLED, Reason.TIMED_OUT}),
    ),
    "worker.lost": Kind({"worker.lost": "is lost"}, "workers are lost"),
    "disk.low": Kind(
        {"disk.low": "is nearly full", "disk.ok": "has room again"},
        "disks are nearly full or have room again",
    ),
    "publish.refused": Kind(
        {"task.failed": "could not publish"}, "tasks could not publish", trait=Trait.PUBLISH
    ),
}
