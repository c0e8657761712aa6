"""Counter store: the counters of all processes, added up in the database.

A process counts in memory (``counters``); its :class:`CounterWriter` adds that to the
table ``counter`` every ``EVERY`` seconds, in a small transaction, so that claims and
outcomes do not wait for it. The sums never decrease, also after pruning, stops and
restarts. They lack what a killed process had not written yet. If the connection
breaks during a commit that took effect all the same, that part is counted twice.

A few gauges, which are set rather than added to, are in the same table.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from storm.exceptions import Error
from storm.locals import Store

from backoffice.data import counters
from backoffice.data.counters import Key
from backoffice.data.database import Database
from backoffice.data.sql import clock, is_mysql
from backoffice.errors import BackofficeError
from backoffice.system.logs import line

EVERY = 15.0  # seconds between two writes of one process
TICK: Key = ("scheduler_last_tick_timestamp_seconds", ())
_AT_ONCE = 200  # rows in one statement

_log = logging.getLogger("backoffice.counters")


def read(store: Store) -> dict[Key, float]:
    rows = store.execute("SELECT name, labels, value FROM counter").get_all()
    return {(name, tuple(json.loads(labels))): value for name, labels, value in rows}


def add(store: Store, counts: Mapping[Key, float]) -> None:
    _upsert(store, counts, "value = value + {new}")


def put(store: Store, figures: Mapping[Key, float]) -> None:
    _upsert(store, figures, "value = {new}")


def _upsert(store: Store, given: Mapping[Key, float], change: str) -> None:
    if is_mysql(store):
        on_conflict = "ON DUPLICATE KEY UPDATE " + change.format(new="VALUES(value)")
    else:
        on_conflict = "ON CONFLICT (name, labels) DO UPDATE SET " + change.format(
            new="excluded.value"
        )
    # In one order: two processes that write at once must not deadlock.
    rows = [(name, _labels(values), given[name, values]) for name, values in sorted(given)]
    for start in range(0, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE]
        store.execute(
            "INSERT INTO counter (name, labels, value) VALUES"
            f" {', '.join(['(?, ?, ?)'] * len(some))} {on_conflict}",
            [value for row in some for value in row],
            noresult=True,
        )


def _labels(values: tuple[str, ...]) -> str:
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))


class CounterWriter:
    """Adds the counters of this process to the database at intervals.

    With ``scheduler`` it also writes when it last ran; with ``apart`` it keeps no
    connection between two writes. Errors are only logged: what could not be written
    is written the next time.
    """

    def __init__(
        self,
        database: Database,
        *,
        scheduler: bool = False,
        apart: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.database = database
        self.scheduler = scheduler
        self.apart = apart
        self.monotonic = monotonic
        self.due = monotonic() + (0 if scheduler else EVERY)

    def turn(self) -> None:
        """Write if it is time; call it often."""
        if self.monotonic() >= self.due:
            self.write()

    def write(self) -> None:
        self.due = self.monotonic() + EVERY
        counts = counters.take()
        if not counts and not self.scheduler:
            return
        try:
            self.database.transact(self._write, counts)
        except (BackofficeError, Error) as error:
            counters.add(counts)
            _log.warning(line("counters.unwritten", reason=error))
        finally:
            if self.apart:
                self.database.close()

    def _write(self, store: Store, counts: Mapping[Key, float]) -> None:
        add(store, counts)
        if self.scheduler:
            put(store, {TICK: clock(store).replace(tzinfo=UTC).timestamp()})


def scheduler_heard_of(store: Store) -> datetime | None:
    """When a scheduler last ran (naive UTC, to ``EVERY`` seconds); None: never."""
    row = store.execute(
        "SELECT value FROM counter WHERE name = ? AND labels = ?", (TICK[0], _labels(TICK[1]))
    ).get_one()
    return datetime.fromtimestamp(row[0], UTC).replace(tzinfo=None) if row else None
