"""Alerts: messages about failed jobs, stalled tasks, lost workers and low disks.

Owns when an alert is sent, and what happens when that fails. ``alert_kinds`` says
which events it is about, ``notices`` makes the message, ``alert_channels`` delivers
it. Alerts are about events of the history, so a restart loses none.

Any number of schedulers may run. The one that moves ``next_try`` on may send until
then; it sends outside of any transaction and records the result. If it dies in
between, another sends once ``next_try`` has passed: each message arrives at least
once, and twice only then. Events that happen while nothing may be sent go into the
next message. A message that is not accepted is tried again for a day.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta

from storm.locals import Store

from backoffice.config.settings import Alert, Settings
from backoffice.data import alert_states, counters, events, low_disks
from backoffice.data.alert_states import AlertState
from backoffice.data.database import Database
from backoffice.data.sql import clock
from backoffice.reports import records
from backoffice.scheduler import alert_channels, notices
from backoffice.scheduler.alert_channels import Notice, Sent
from backoffice.scheduler.notices import GIVEN_UP, PendingEvents
from backoffice.system.logs import line

FIRST_PAUSE = timedelta(seconds=10)  # after a try that failed
LONGEST_PAUSE = timedelta(minutes=15)
IDLE = 1000  # events of other kinds after which the last event is moved on all the same

_log = logging.getLogger("backoffice.alerts")


class AlertDispatcher:
    """Sends the messages of one alert. Sending blocks as long as the receiver lets it:
    run each dispatcher in its own thread."""

    def __init__(self, alert: Alert, database: Database, settings: Settings) -> None:
        self.alert = alert
        self.database = database
        self.settings = settings

    @property
    def send_time(self) -> timedelta:
        """For how long one scheduler may send: longer than a try takes."""
        return timedelta(seconds=60 + 6 * self.settings.notify.timeout)

    def run(self) -> None:
        """Send what is due."""
        if self.database.read(_missing_kinds, self.alert):
            self.database.transact(_begin, self.alert)
        due, newest = self.database.read(self._due)
        for state in due:
            pending = self.database.read(_pending, self.alert, state, newest)
            if pending.count:
                self._send(pending)
            elif newest - state.last_event > IDLE:
                self.database.transact(_skip, self.alert.name, state, newest)

    def _due(self, store: Store) -> tuple[list[AlertState], int]:
        """What may be sent now, and up to which event. A ``next_try`` that is further
        off than any pause counts as due: the clock was set back."""
        now = clock(store)
        longest = now + max(self.alert.every, self.send_time, LONGEST_PAUSE)
        states = alert_states.read(store, self.alert.name, self.alert.on)
        due = [state for state in states if not now < state.next_try <= longest]
        newest = records.newest_event(store) if due else 0
        return [state for state in due if state.last_event < newest], newest

    def _send(self, pending: PendingEvents) -> None:
        notice = self.database.read(notices.notice, self.alert, pending, self.settings.web.url)
        taken = self.database.transact(_take, self.alert.name, pending.state, self.send_time)
        if taken is None:
            return  # another scheduler sends it
        sent = alert_channels.send(self.alert, notice, self.settings.notify)
        counters.NOTIFICATIONS.count("alert", counters.SENT if sent.ok else counters.UNSENT)
        self._log_result(pending, sent)
        if sent.ok:
            detail = self._sent_detail(notice)
            self.database.transact(_record_sent, self.alert, taken, pending.last, detail)
        else:
            self.database.transact(_record_failed, self.alert.name, taken, pending, sent.text)

    def _sent_detail(self, notice: Notice) -> str:
        return f"{notice.kind} to {alert_channels.receiver(self.alert)}: {notice.headline}"

    def _log_result(self, pending: PendingEvents, sent: Sent) -> None:
        facts = {"alert": self.alert.name, "kind": pending.state.kind, "count": pending.count}
        said = {"said": sent.said} if sent.said else {}
        level, action = (logging.INFO, "sent") if sent.ok else (logging.WARNING, "failed")
        _log.log(level, line(f"alert.{action}", **facts, answer=sent.text, **said))


def _missing_kinds(store: Store, alert: Alert) -> list[str]:
    """Kinds of the alert that the table does not have yet."""
    known = {state.kind for state in alert_states.read(store, alert.name, alert.on)}
    return [kind for kind in alert.on if kind not in known]


def _begin(store: Store, alert: Alert) -> None:
    """Events before the alert existed are not sent, except for disks that are low now."""
    now, newest = clock(store), records.newest_event(store)
    low = low_disks.first_event(store)
    before_low = newest if low is None else min(newest, low - 1)
    states = [
        AlertState(kind, before_low if kind == "disk.low" else newest, now, None)
        for kind in _missing_kinds(store, alert)
    ]
    alert_states.add(store, alert.name, states)


def _pending(store: Store, alert: Alert, state: AlertState, newest: int) -> PendingEvents:
    return notices.pending_events(store, alert, state, newest, clock(store))


def _take(store: Store, name: str, state: AlertState, length: timedelta) -> AlertState | None:
    """The state of the scheduler that may send now; None when another one may, or has
    sent."""
    taken = replace(state, next_try=clock(store) + length)
    return taken if alert_states.update(store, name, state, taken) else None


def _record_sent(store: Store, alert: Alert, taken: AlertState, last: int, detail: str) -> None:
    now = clock(store)
    sent = AlertState(taken.kind, last, now + alert.every, None)
    if alert_states.update(store, alert.name, taken, sent):
        events.append(store, now, _event("sent", alert.name, detail))


def _record_failed(
    store: Store, name: str, taken: AlertState, pending: PendingEvents, reason: str
) -> None:
    """The next try comes after a pause that grows. The history gets the first failure,
    and what was given up."""
    now = clock(store)
    failing = taken.failing or now
    pause = min(max(now - failing, FIRST_PAUSE), LONGEST_PAUSE)
    dropped = pending.stale if now - failing >= GIVEN_UP else 0
    last = pending.last_stale if dropped else taken.last_event
    if not alert_states.update(
        store, name, taken, AlertState(taken.kind, last, now + pause, failing)
    ):
        return
    if dropped:
        detail = f"{taken.kind}: gave up {dropped:,} after a day: {reason}"
        events.append(store, now, _event("failed", name, detail))
    elif taken.failing is None:
        detail = f"{taken.kind}: {reason}; it is tried again for a day"
        events.append(store, now, _event("failed", name, detail))


def _skip(store: Store, name: str, state: AlertState, newest: int) -> None:
    alert_states.update(store, name, state, replace(state, last_event=newest))


def _event(verb: str, name: str, detail: str) -> events.Event:
    return events.Event(f"alert.{verb}", f"alert {name}", detail=detail)
