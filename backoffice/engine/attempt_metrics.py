"""Metrics of attempts: how they end. Call after the commit; a transaction may be retried."""

from __future__ import annotations

from collections.abc import Collection

from backoffice import tasks
from backoffice.data import counters
from backoffice.engine.assignments import Assignment
from backoffice.engine.leases import LeaseRecord
from backoffice.engine.outcomes import Outcome
from backoffice.states import LOST
from backoffice.tasks import Trait


def ended(assignment: Assignment, outcome: Outcome, targets: Collection[str]) -> None:
    """An outcome was accepted. ``targets`` are those configured; other names come from
    users, and are counted as one."""
    counters.ATTEMPTS.count(assignment.type, outcome.state)
    if outcome.wall_seconds is not None:
        counters.ATTEMPT_SECONDS.observe(outcome.wall_seconds, assignment.type, outcome.state)
    if tasks.has(assignment.type, Trait.PUBLISH):
        counters.PUBLISHES.count(
            _known(assignment.parameters.get("target", ""), targets), outcome.state
        )
    if tasks.has(assignment.type, Trait.RETRACT):
        for target in {
            _known(publication.target, targets) for publication in assignment.publications
        }:
            counters.RETRACTIONS.count(target, outcome.state)
    for delivery in outcome.result.deliveries:
        sent = 200 <= delivery.status < 300
        counters.NOTIFICATIONS.count("job", counters.SENT if sent else counters.UNSENT)


def _known(target: str, targets: Collection[str]) -> str:
    return target if target in targets else counters.UNKNOWN


def rescued(lease: LeaseRecord) -> None:
    """A task was given back because its worker was lost."""
    counters.LEASES_LOST.count()
    counters.ATTEMPTS.count(lease.type, LOST)


def refused() -> None:
    """An outcome came too late: another worker has the task."""
    counters.REFUSED.count()
