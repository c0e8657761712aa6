"""How many jobs ended, minute by minute, over the last week.

What has been counted is kept, so that a look costs what is new. A process that
has just begun counts backwards, no longer at a time than it is given: until it
is through, what lies further back is not known. A job that is retried later
stays counted where it ended.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

from storm.locals import Store

from backoffice.database import Database, clock, is_mysql, moment, use_index
from backoffice.states import JOB_ENDED

WEEK = 7 * 24 * 60  # minutes
BUDGET = 0.02  # seconds for what lies back
_SETTLED = 2  # minutes after which none of their ends is committed any more
_CHUNK = 60  # minutes counted at a time
_LONG_AGO = 24 * 60  # minutes after which it is cheaper to begin anew
_EPOCH = datetime(1970, 1, 1)

Counts = Mapping[str, int]


@dataclass(frozen=True)
class Slot:
    """``start`` is in seconds since 1970. ``ended`` is by state; None: not counted yet."""

    start: int
    ended: Counts | None


class Throughput:
    """``monotonic`` is for the budget alone."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._ended: dict[int, dict[str, int]] = {}  # by minute, if there were any
        self._first = self._next = 0  # minutes from and before which all is counted
        self._now = 0

    def look(self, store: Store, budget: float = BUDGET) -> None:
        """Count what is new and, for as long as ``budget`` seconds, what lies back."""
        deadline = self._monotonic() + budget
        with self._lock:
            self._now = _minute(clock(store))
            settled = self._now - _SETTLED
            if not 0 <= settled - self._next < _LONG_AGO:
                self._ended.clear()
                self._first = self._next = settled
            self._ended.update(_counted(store, self._next, None))
            self._next = settled
            self._look_back(store, deadline)
            self._forget()

    def _look_back(self, store: Store, deadline: float) -> None:
        oldest = self._now - WEEK
        while self._first > oldest and self._monotonic() < deadline:
            last = _last_before(store, self._first)
            low = oldest if last is None else max(oldest, min(last + 1, self._first) - _CHUNK)
            self._ended.update(_counted(store, low, self._first))
            self._first = low

    def _forget(self) -> None:
        for minute in [one for one in self._ended if one < self._now - WEEK]:
            del self._ended[minute]

    def slots(self, minutes: int, number: int) -> list[Slot]:
        """The last ``number`` slots of so many minutes each, the oldest first.
        They begin at whole multiples, so that the newest is not over yet."""
        with self._lock:
            newest = self._now // minutes
            sums: dict[int, dict[str, int]] = {}
            for minute, counts in self._ended.items():
                if (slot := minute // minutes) > newest - number:
                    of_slot = sums.setdefault(slot, dict.fromkeys(JOB_ENDED, 0))
                    for state, count in counts.items():
                        of_slot[state] += count
            return [
                self._slot(slot, minutes, sums) for slot in range(newest - number + 1, newest + 1)
            ]

    def _slot(self, slot: int, minutes: int, sums: Mapping[int, Counts]) -> Slot:
        oldest = max(slot * minutes, self._now - WEEK)
        counted = oldest >= self._first
        ended = sums.get(slot, dict.fromkeys(JOB_ENDED, 0)) if counted else None
        return Slot(slot * minutes * 60, ended)


@lru_cache(maxsize=4)
def of(database: Database) -> Throughput:
    """The one of this process."""
    return Throughput()


def _minute(when: datetime) -> int:
    return int((when - _EPOCH).total_seconds()) // 60


def _time(minute: int) -> datetime:
    return _EPOCH + timedelta(minutes=minute)


def _last_before(store: Store, minute: int) -> int | None:
    """The last minute before that one in which a job ended."""
    (last,) = store.execute(
        f"SELECT MAX(finished) FROM job{use_index(store, 'job_finished')} WHERE finished < ?",
        (_time(minute),),
    ).get_one()
    found = moment(last)
    return None if found is None else _minute(found)


def _counted(store: Store, first: int, before: int | None) -> dict[int, dict[str, int]]:
    """By minute and state; the database counts."""
    mysql = is_mysql(store)
    minute = (
        "TIMESTAMPDIFF(MINUTE, '1970-01-01', finished)"
        if mysql
        else "CAST(STRFTIME('%s', finished) AS INTEGER) / 60"
    )
    until = "" if before is None else " AND finished < ?"
    values = (_time(first),) if before is None else (_time(first), _time(before))
    rows = store.execute(
        f"SELECT {minute} AS minute, state, COUNT(*) FROM job{use_index(store, 'job_finished')}"
        f" WHERE finished >= ?{until} GROUP BY minute, state",
        values,
    ).get_all()
    found: dict[int, dict[str, int]] = {}
    for number, state, count in rows:
        if state in JOB_ENDED:
            found.setdefault(int(number), {})[state] = count
    return found
