"""What people are told of unasked: failed jobs, stalled tasks, lost workers, low disks.

Owns which events are told to whom, and when; ``senders`` delivers. Everything
told of is an event of the history first, so a restart loses none of it. For each
alert and kind the table ``alert`` has the last event that is done with: told, or
given up.

Any number of schedulers may run. Whoever moves ``next_try`` on has the right to
send until then, sends outside of any transaction, and writes down how it went.
One that dies in between lets its right run out and another sends: at least once,
and twice only then. What happens while nothing may be sent is gathered into the
next message. A receiver that does not take it is tried for a day.
"""

from __future__ import annotations

import fnmatch
import logging
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from storm.locals import Store

from backoffice import tasks
from backoffice.config.loading import Alert, Floor, Settings
from backoffice.data import counters, events
from backoffice.data.database import Database, clock, insert_many, marks, moment, use_index
from backoffice.reports import records
from backoffice.scheduler import alert_channels
from backoffice.scheduler.alert_channels import Item, Notice
from backoffice.states import FAILED, LOST, Reason
from backoffice.system.disk_space import Disk, Room
from backoffice.system.logs import line
from backoffice.tasks import Trait

FIRST_AGAIN = timedelta(seconds=10)  # after a try that failed
LAST_AGAIN = timedelta(minutes=15)  # it grows up to this
GIVEN_UP = timedelta(days=1)
ITEMS = 20  # events of one message that are told at length to programs
OTHERS = 100  # more of them by their subjects; all are counted
IDLE = 1000  # events that may be looked through in vain again and again
_AT_ONCE = 1000
_LONGEST = 1000  # characters of an event's detail
_DISK_NAME = 100  # characters

_log = logging.getLogger("backoffice.alerts")


class Kind(NamedTuple):
    """Which events it is about, and what they say of their subject."""

    says: Mapping[str, str]  # by action
    many: str
    trait: Trait | None = None  # only of tasks whose type has it
    reasons: frozenset[str] = frozenset()  # only of these; empty: of any


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


@dataclass(frozen=True)
class Happening:
    """An event that somebody is to be told of, and what is known of its job."""

    id: int
    at: datetime
    action: str
    subject: str
    job: int | None
    task: int | None
    detail: str
    reason: str
    host: str
    title: str | None
    workflow: str | None
    type: str | None  # of the task


@dataclass(frozen=True)
class Row:
    """Of the table. ``failing`` is since when no try has succeeded; None: the
    last one did."""

    kind: str
    last_event: int
    next_try: datetime
    failing: datetime | None


@dataclass
class Gathered:
    """What is to be told of one kind now. Of what is ``stale`` it was tried long
    enough, if it cannot be told this time."""

    row: Row
    first: list[Happening] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    count: int = 0
    last: int = 0
    newest: datetime = datetime.min
    stale: int = 0
    last_stale: int = 0

    def add(self, one: Happening, now: datetime) -> None:
        self.count, self.last, self.newest = self.count + 1, one.id, one.at
        if len(self.first) < ITEMS:
            self.first.append(one)
        elif len(self.others) < OTHERS:
            self.others.append(one.subject)
        if one.at < now - GIVEN_UP:
            self.stale, self.last_stale = self.stale + 1, one.id


class Teller:
    """Tells what one alert is for. It may take as long as its receiver lets it
    wait: each has a thread of its own."""

    def __init__(self, alert: Alert, database: Database, settings: Settings) -> None:
        self.alert = alert
        self.database = database
        self.settings = settings

    @property
    def right(self) -> timedelta:
        """How long a scheduler may send: longer than a try takes."""
        return timedelta(seconds=60 + 6 * self.settings.notify.timeout)

    def run(self) -> None:
        """Look once, and send what is due."""
        if self.database.read(_unknown, self.alert):
            self.database.transact(_begin, self.alert)
        due, newest = self.database.read(self._due)
        for row in due:
            gathered = self.database.read(_gather, self.alert, row, newest)
            if gathered.count:
                self._tell(gathered)
            elif newest - row.last_event > IDLE:
                self.database.transact(_skip, self.alert.name, row, newest)

    def _due(self, store: Store) -> tuple[list[Row], int]:
        """Of what may be told now, and up to which event. Also what waits for longer
        than anything does: its clock was set back."""
        now = clock(store)
        longest = now + max(self.alert.every, self.right, LAST_AGAIN)
        due = [row for row in _rows(store, self.alert) if not now < row.next_try <= longest]
        newest = records.newest_event(store) if due else 0
        return [row for row in due if row.last_event < newest], newest

    def _tell(self, gathered: Gathered) -> None:
        name, row, settings = self.alert.name, gathered.row, self.settings
        notice = self.database.read(_notice, self.alert, gathered, settings.web.url)
        until = self.database.transact(_take, name, row, self.right)
        if until is None:
            return  # another scheduler has
        sent = alert_channels.send(self.alert, notice, settings.notify)
        counters.NOTIFICATIONS.count("alert", counters.SENT if sent.ok else counters.UNSENT)
        told = {"alert": name, "kind": row.kind, "count": gathered.count, "answer": sent.text}
        told |= {"said": sent.said} if sent.said else {}
        ours = replace(row, next_try=until)
        if sent.ok:
            _log.info(line("alert.sent", **told))
            detail = f"{row.kind} to {alert_channels.receiver(self.alert)}: {notice.headline}"
            self.database.transact(_told, self.alert, ours, gathered.last, detail)
        else:
            _log.warning(line("alert.failed", **told))
            self.database.transact(_missed, name, ours, gathered, sent.text)


# The table ------------------------------------------------------------------


def _rows(store: Store, alert: Alert) -> list[Row]:
    rows = store.execute(
        "SELECT kind, last_event, next_try, failing FROM alert"
        f" WHERE name = ? AND kind IN ({marks(alert.on)})",
        (alert.name, *alert.on),
    ).get_all()
    return [
        Row(kind, last, moment(next_try) or datetime.min, moment(failing))
        for kind, last, next_try, failing in rows
    ]


def _unknown(store: Store, alert: Alert) -> list[str]:
    known = {row.kind for row in _rows(store, alert)}
    return [kind for kind in alert.on if kind not in known]


def _begin(store: Store, alert: Alert) -> None:
    """What happened before anybody wanted to know is not told, unless it is so yet."""
    now, newest = clock(store), records.newest_event(store)
    first = {"disk.low": min(newest, _before_low(store, newest))}
    insert_many(
        store,
        "alert",
        ("name", "kind", "last_event", "next_try"),
        [(alert.name, kind, first.get(kind, newest), now) for kind in _unknown(store, alert)],
    )


def _take(store: Store, name: str, row: Row, length: timedelta) -> datetime | None:
    """The right to send, until then; None when another has it, or has sent."""
    until = clock(store) + length
    return until if _move(store, name, row, row.last_event, until, row.failing) else None


def _told(store: Store, alert: Alert, ours: Row, last: int, detail: str) -> None:
    now = clock(store)
    if _move(store, alert.name, ours, last, now + alert.every, None):
        events.append(store, now, _event("sent", alert.name, detail))


def _missed(store: Store, name: str, ours: Row, gathered: Gathered, reason: str) -> None:
    """Tried again later, ever more rarely; the history has the first failure and
    what was given up."""
    now = clock(store)
    failing = ours.failing or now
    again = now + min(max(now - failing, FIRST_AGAIN), LAST_AGAIN)
    lost = gathered.stale if now - failing >= GIVEN_UP else 0
    last = gathered.last_stale if lost else ours.last_event
    if not _move(store, name, ours, last, again, failing):
        return
    if lost:
        detail = f"{ours.kind}: gave up {lost:,} after a day: {reason}"
        events.append(store, now, _event("failed", name, detail))
    elif ours.failing is None:
        detail = f"{ours.kind}: {reason}; it is tried again for a day"
        events.append(store, now, _event("failed", name, detail))


def _skip(store: Store, name: str, row: Row, upto: int) -> None:
    _move(store, name, row, upto, row.next_try, row.failing)


def _move(
    store: Store, name: str, row: Row, last: int, next_try: datetime, failing: datetime | None
) -> bool:
    """Write the row, if it still is as it was seen."""
    moved = store.execute(
        "UPDATE alert SET last_event = ?, next_try = ?, failing = ?"
        " WHERE name = ? AND kind = ? AND last_event = ? AND next_try = ?",
        (last, next_try, failing, name, row.kind, row.last_event, row.next_try),
    )
    return bool(moved.rowcount)


def _event(verb: str, name: str, detail: str) -> events.Event:
    return events.Event(f"alert.{verb}", f"alert {name}", detail=detail)


# What happened --------------------------------------------------------------


def _gather(store: Store, alert: Alert, row: Row, newest: int) -> Gathered:
    """What is yet to be told, up to an event."""
    now, gathered = clock(store), Gathered(row)
    for one in _since(store, KINDS[row.kind], row.last_event, newest):
        if _wanted(alert, KINDS[row.kind], one):
            gathered.add(one, now)
    return gathered


def _since(store: Store, kind: Kind, after: int, newest: int) -> Iterator[Happening]:
    """Read by the action's index, which has the ids in order."""
    while after < newest:
        rows = store.execute(
            "SELECT e.id, e.at, e.action, e.subject, e.job_id, e.task_id,"
            f" SUBSTR(e.detail, 1, {_LONGEST}), e.reason, e.host,"
            " j.title, j.workflow, t.type"
            f" FROM event e{use_index(store, 'event_action')}"
            " LEFT JOIN job j ON j.id = e.job_id LEFT JOIN task t ON t.id = e.task_id"
            f" WHERE e.action IN ({marks(tuple(kind.says))}) AND e.id > ? AND e.id <= ?"
            " ORDER BY e.id LIMIT ?",
            (*kind.says, after, newest, _AT_ONCE),
        ).get_all()
        for number, at, *rest in rows:
            yield Happening(number, moment(at) or datetime.min, *rest)
        after = rows[-1][0] if len(rows) == _AT_ONCE else newest


def _wanted(alert: Alert, kind: Kind, one: Happening) -> bool:
    if kind.trait and not tasks.has(one.type or "", kind.trait):
        return False
    if kind.reasons and one.reason not in kind.reasons:
        return False
    if one.job is None:
        return True  # nothing that a workflow could be asked of
    return one.workflow is not None and fnmatch.fnmatchcase(one.workflow, alert.workflow)


# What is said ---------------------------------------------------------------


def _notice(store: Store, alert: Alert, gathered: Gathered, url: str) -> Notice:
    name, kind = gathered.row.kind, KINDS[gathered.row.kind]
    items = [_item(store, kind, one, url) for one in gathered.first]
    many = f"{gathered.count:,} {kind.many}"
    return Notice(
        # With the time: another installation has the same names and numbers.
        id=f"alert-{alert.name}-{name.replace('.', '-')}-{items[0].event}-{gathered.last}"
        f"-{gathered.newest:%Y%m%d%H%M%S%f}",
        alert=alert.name,
        kind=name,
        headline=items[0].what if gathered.count == 1 else many,
        at=gathered.newest,
        items=items,
        count=gathered.count,
        others=gathered.others,
    )


def _item(store: Store, kind: Kind, one: Happening, url: str) -> Item:
    subject = one.subject[:1].upper() + one.subject[1:]
    return Item(
        what=f"{subject} {kind.says[one.action]}",
        subject=one.subject,
        at=one.at,
        why=one.detail,
        event=one.id,
        job=one.job,
        task=one.task,
        title=one.title or "",
        workflow=one.workflow or "",
        host=_host(store, one),
        href=f"{url}{_page(one)}" if url else "",
    )


def _page(one: Happening) -> str:
    if one.task is not None:
        return f"/tasks/{one.task}"
    if one.job is not None:
        return f"/jobs/{one.job}"
    return "/workers" if one.action == "worker.lost" else "/"


def _host(store: Store, one: Happening) -> str:
    """Where it happened; of a job that is where its last attempt ended."""
    if one.job is None:
        return one.host
    which, key = ("a.task_id", one.task) if one.task is not None else ("t.job_id", one.job)
    row = store.execute(
        f"SELECT a.host FROM attempt a JOIN task t ON t.id = a.task_id WHERE {which} = ?"
        f" AND a.finished <= ? AND a.state IN ('{FAILED}', '{LOST}')"
        " ORDER BY a.finished DESC LIMIT 1",
        (key, one.at),
    ).get_one()
    return row[0] if row else ""


def trial(alert: Alert, url: str, now: datetime) -> Notice:
    """What ``backoffice alert test`` sends."""
    why = "somebody wanted to know whether this alert arrives; nothing is wrong"
    item = Item("This is a test", "test", now, why, host=socket.gethostname(), href=url)
    identity = f"alert-{alert.name}-test-{now:%Y%m%d%H%M%S%f}"
    return Notice(identity, alert.name, "test", "This is a test", now, [item], 1)


# Disks ----------------------------------------------------------------------


def watch_disks(database: Database, disks: Sequence[Disk], least: Floor, host: str) -> None:
    """Write into the history which disks of a host have become low, and which have
    room again. One of which nothing is known now stays as it was. Which are low is
    in the database, so that it is written once."""
    known = database.read(_low, host)
    for disk in disks:
        if disk.room is None or disk.trouble or not disk.room.total:
            continue
        names = [name[:_DISK_NAME] for name in disk.names]
        low = known & set(names)  # under the name that came first then
        detail = f"{host}: {_shown(disk.room, disk.folders)}; it should be {least}"
        if not low and disk.room.free < least.of(disk.room.total):
            database.transact(_set_low, host, names[0], detail)
        elif low and disk.room.free >= _enough(disk.room, least):
            database.transact(_set_ok, host, sorted(low), detail)


def _enough(room: Room, least: Floor) -> float:
    """A quarter more than the least, where that can be had: a disk that is hardly
    well would be told of all day."""
    low = least.of(room.total)
    return min(1.25 * low, (low + room.total) / 2)


def _shown(room: Room, folders: Sequence[Path]) -> str:
    free = f"{room.free / 1e9:.1f} GB of {room.total / 1e9:.1f} GB are free"
    there = ", ".join(map(str, folders))
    return f"{free} ({100 * room.free / room.total:.1f} %) on the disk of {there}"


def _before_low(store: Store, newest: int) -> int:
    """The event before those of the disks that are low now."""
    (event,) = store.execute(
        f"SELECT MIN(e.id) FROM event e{use_index(store, 'event_action')}"
        " JOIN low_disk d ON d.since = e.at WHERE e.action = 'disk.low'"
    ).get_one()
    return newest if event is None else event - 1


def _low(store: Store, host: str) -> set[str]:
    rows = store.execute("SELECT name FROM low_disk WHERE host = ?", (host,)).get_all()
    return {name for (name,) in rows}


def _set_low(store: Store, host: str, name: str, detail: str) -> None:
    """Of two schedulers on a host the second's insert fails, is run again, and
    finds it there."""
    if name in _low(store, host):
        return
    now = clock(store)
    insert_many(store, "low_disk", ("host", "name", "since"), [(host, name, now)])
    events.append(store, now, events.Event("disk.low", f"disk {name}", detail=detail, host=host))


def _set_ok(store: Store, host: str, names: Sequence[str], detail: str) -> None:
    gone = store.execute(
        f"DELETE FROM low_disk WHERE host = ? AND name IN ({marks(names)})", (host, *names)
    )
    if gone.rowcount:
        event = events.Event("disk.ok", f"disk {names[0]}", detail=detail, host=host)
        events.append(store, clock(store), event)
