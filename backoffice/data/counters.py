"""Counters of this process: ended attempts, lost leases, database errors, and more.

Owns the names, help texts and labels that Prometheus shows, without the prefix
``backoffice_`` and the suffix ``_total``. Counting adds to a dictionary, so any thread
may count at any time. ``counter_store`` adds the counts to the database, where those
of all processes come together; a killed process loses what it had not written.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock

Key = tuple[str, tuple[str, ...]]  # the name of a series, and the values of its labels

_lock = Lock()
_pending: dict[Key, float] = {}


@dataclass(frozen=True)
class Counter:
    name: str
    text: str
    labels: tuple[str, ...] = ()

    def count(self, *values: str, n: float = 1) -> None:
        """One more (or ``n``) with these values of the labels, in their order.
        They must come from a bounded choice, never from a user."""
        assert len(values) == len(self.labels), self.name
        add({(self.name, values): n})


@dataclass(frozen=True)
class Histogram:
    """How many were observed up to each of ``bounds``; the last one is infinite."""

    name: str
    text: str
    labels: tuple[str, ...]
    bounds: tuple[float, ...]

    def observe(self, amount: float, *values: str) -> None:
        assert len(values) == len(self.labels), self.name
        bound = next((bound for bound in self.bounds if amount <= bound), math.inf)
        add({self.bucket(bound, *values): 1, self.sum(*values): amount})

    def bucket(self, bound: float, *values: str) -> Key:
        """The key of the amounts above the bound before, and not above this one."""
        return f"{self.name}_bucket", (*values, f"{bound:g}")

    def sum(self, *values: str) -> Key:
        return f"{self.name}_sum", values


def add(counts: Mapping[Key, float]) -> None:
    """Count; also used to put back what could not be written."""
    with _lock:
        for key, number in counts.items():
            _pending[key] = _pending.get(key, 0) + number


def take() -> dict[Key, float]:
    """Take away everything that was counted since the last call."""
    with _lock:
        taken = dict(_pending)
        _pending.clear()
    return taken


# What is counted ------------------------------------------------------------

ATTEMPTS = Counter(
    "attempts",
    "Attempts that ended, by type of task and outcome; lost and released ones are given back",
    ("type", "outcome"),
)
ATTEMPT_SECONDS = Histogram(
    "attempt_duration_seconds",
    "How long attempts ran that had a process of their own and told their end",
    ("type", "outcome"),
    (0.1, 0.5, 1, 5, 15, 60, 300, 900, 1800, 3600, 4 * 3600, 12 * 3600),
)
LEASES_LOST = Counter("leases_lost", "Tasks that were taken from a worker not heard of")
REFUSED = Counter("outcomes_refused", "Outcomes that came from a former owner of the task")
_WHERE = ("target", "outcome")
PUBLISHES = Counter("publishes", "Attempts to publish, by target and outcome", _WHERE)
RETRACTIONS = Counter("retractions", "Attempts to retract, by target and outcome", _WHERE)
DATABASE_RETRIES = Counter(
    "database_retries", "Transactions that were run again, by the reason", ("kind",)
)
DATABASE_ERRORS = Counter(
    "database_errors", "Times that the database could not be used, by the reason", ("kind",)
)
NOTIFICATIONS = Counter(
    "notifications", "Messages, of jobs (job) and to admins (alert)", ("kind", "outcome")
)
COUNTERS = (
    ATTEMPTS,
    LEASES_LOST,
    REFUSED,
    PUBLISHES,
    RETRACTIONS,
    DATABASE_RETRIES,
    DATABASE_ERRORS,
    NOTIFICATIONS,
)

# The bounded choices of labels.
RETRY_KINDS = tuple("deadlock lock_wait snapshot duplicate interrupted disconnected locked".split())
ERROR_KINDS = ("refused", "connections", "full", "read_only", "file", "away")
NOTIFICATION_KINDS = ("job", "alert")
SENT, UNSENT = "sent", "failed"
UNKNOWN = "unknown"  # a target that is not configured
