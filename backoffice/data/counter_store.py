"""The counts of all processes, added up in the database.

A process counts in memory (``tally``) and its :class:`Book` writes that down
every ``EVERY`` seconds, in a small transaction of its own: no claim and no
outcome waits for it. So the sums never go down, whatever is pruned, stopped or
started anew; they only miss what a process that was killed had not yet written.
When the connection breaks while a commit is under way, and it took all the same,
that much is counted twice.

Beside the counts stand a few figures that are set rather than added to.
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

_log = logging.getLogger("backoffice.ledger")


def read(store: Store) -> dict[Key, float]:
    rows = store.execute("SELECT name, labels, value FROM tally").get_all()
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
    # In one order: two that write at once wait for each other, and never in a circle.
    rows = [(name, _labels(values), given[name, values]) for name, values in sorted(given)]
    for start in range(0, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE]
        store.execute(
            f"INSERT INTO tally (name, labels, value) VALUES {', '.join(['(?, ?, ?)'] * len(some))}"
            f" {on_conflict}",
            [value for row in some for value in row],
            noresult=True,
        )


def _labels(values: tuple[str, ...]) -> str:
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))


class Book:
    """Writes down what this process counts, when it is asked to and it is time.

    ``scheduler`` says that it is one, which is heard of even if there is nothing
    to write; ``apart``, that it keeps no connection between two writes. Trouble
    goes to the log alone: what could not be written is written the next time.
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
        """To be called often."""
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
            _log.warning(line("tally.unwritten", reason=error))
        finally:
            if self.apart:
                self.database.close()

    def _write(self, store: Store, counts: Mapping[Key, float]) -> None:
        add(store, counts)
        if self.scheduler:
            put(store, {TICK: clock(store).replace(tzinfo=UTC).timestamp()})


def scheduler_heard_of(store: Store) -> datetime | None:
    """When a scheduler last went round (naive UTC, to ``EVERY`` seconds); None:
    never."""
    row = store.execute(
        "SELECT value FROM tally WHERE name = ? AND labels = ?", (TICK[0], _labels(TICK[1]))
    ).get_one()
    return datetime.fromtimestamp(row[0], UTC).replace(tzinfo=None) if row else None
