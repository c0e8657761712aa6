"""Throughput: how many jobs ended, minute by minute, over the last week.

Counts are kept, so that each call costs only what is new. A process that has just
started counts backwards, within a time budget for each call: until it is done, older
minutes are not known. A job that is retried later stays counted where it ended.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import repeat

from storm.locals import Store

from backoffice.data.database import Database
from backoffice.data.sql import clock, is_mysql, moment, use_index
from backoffice.states import JOB_ENDED

WEEK = 7 * 24 * 60  # minutes
BUDGET = 0.01  # seconds for counting backwards
_SETTLED = 2  # minutes after which none of their ends is committed any more
_CHUNK = 60  # minutes counted at a time
_LONG_AGO = 24 * 60  # minutes after which it is cheaper to begin anew
_EPOCH = datetime(1970, 1, 1)

Counts = Mapping[str, int]


@dataclass(frozen=True)
class Interval:
    """``start`` is in seconds since 1970. ``ended`` is by state; None: not counted yet."""

    start: int
    ended: Counts | None


class Throughput:
    """``monotonic`` is for the budget alone."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        # By state and minute, of minutes in which any job ended.
        self._ended: dict[str, dict[int, int]] = {state: {} for state in JOB_ENDED}
        self._first = self._next = 0  # minutes from and before which all is counted
        self._now = 0

    def look(self, store: Store, budget: float = BUDGET) -> None:
        """Count what is new and, for at most ``budget`` seconds, older minutes."""
        deadline = self._monotonic() + budget
        with self._lock:
            self._now = _minute(clock(store))
            settled = self._now - _SETTLED
            if not 0 <= settled - self._next < _LONG_AGO:
                self._forget_before(self._now + 1)
                self._first = self._next = settled
            self._add(_counted(store, self._next, None))
            self._next = settled
            self._look_back(store, deadline)
            self._forget_before(self._now - WEEK)

    def _look_back(self, store: Store, deadline: float) -> None:
        oldest = self._now - WEEK
        while self._first > oldest:
            last = _last_before(store, self._first)
            low = oldest if last is None else max(oldest, min(last + 1, self._first) - _CHUNK)
            self._add(_counted(store, low, self._first))
            self._first = low
            if self._monotonic() >= deadline:
                break

    def _add(self, counts: Iterable[tuple[int, str, int]]) -> None:
        for minute, state, count in counts:
            self._ended[state][minute] = count

    def _forget_before(self, first: int) -> None:
        for counts in self._ended.values():
            for minute in [minute for minute in counts if minute < first]:
                del counts[minute]

    def intervals(self, minutes: int, number: int) -> list[Interval]:
        """The last ``number`` intervals of so many minutes each, the oldest first. They
        begin at whole multiples, so the newest is not complete."""
        with self._lock:
            newest = self._now // minutes
            return [
                self._interval(index * minutes, minutes)
                for index in range(newest - number + 1, newest + 1)
            ]

    def _interval(self, first: int, minutes: int) -> Interval:
        if max(first, self._now - WEEK) < self._first:
            return Interval(first * 60, None)
        every = range(first, first + minutes)
        ended = {
            state: sum(map(counts.get, every, repeat(0))) for state, counts in self._ended.items()
        }
        return Interval(first * 60, ended)


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
    finished = moment(last)
    return None if finished is None else _minute(finished)


def _counted(store: Store, first: int, before: int | None) -> list[tuple[int, str, int]]:
    """Minute, state and number; the database counts."""
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
    return [(int(number), state, count) for number, state, count in rows if state in JOB_ENDED]
