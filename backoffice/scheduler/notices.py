"""Notices: the message of an alert, made from the events it is about."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from storm.locals import Store

from backoffice.config.settings import Alert
from backoffice.data.alert_states import AlertState
from backoffice.reports import alert_events
from backoffice.reports.alert_events import AlertEvent
from backoffice.scheduler.alert_channels import Notice, NoticeItem
from backoffice.scheduler.alert_kinds import KINDS, Kind

ITEMS = 20  # events of one notice that are described; programs get all of these
OTHERS = 100  # more events by their subjects; all events are counted
GIVEN_UP = timedelta(days=1)  # an event that was not delivered for so long is dropped


@dataclass
class PendingEvents:
    """The events of one kind that are to be sent now. If sending fails, the ``stale``
    ones have been tried for long enough."""

    state: AlertState
    first: list[AlertEvent] = field(default_factory=list)
    others: list[str] = field(default_factory=list)  # subjects
    count: int = 0
    last: int = 0  # id of the last event
    newest: datetime = datetime.min
    stale: int = 0
    last_stale: int = 0  # id of the last stale event

    def add(self, event: AlertEvent, now: datetime) -> None:
        self.count, self.last, self.newest = self.count + 1, event.id, event.at
        if len(self.first) < ITEMS:
            self.first.append(event)
        elif len(self.others) < OTHERS:
            self.others.append(event.subject)
        if event.at < now - GIVEN_UP:
            self.stale, self.last_stale = self.stale + 1, event.id


def pending_events(
    store: Store, alert: Alert, state: AlertState, newest: int, now: datetime
) -> PendingEvents:
    """Those after the state's last event, up to ``newest``."""
    kind, pending = KINDS[state.kind], PendingEvents(state)
    for event in alert_events.between(store, kind.says, state.last_event, newest):
        if kind.matches(event, alert.workflow):
            pending.add(event, now)
    return pending


def notice(store: Store, alert: Alert, pending: PendingEvents, url: str) -> Notice:
    """``url`` is the address of the pages, or empty."""
    name = pending.state.kind
    kind = KINDS[name]
    items = [_item(store, kind, event, url) for event in pending.first]
    return Notice(
        id=_identity(alert, items, pending),
        alert=alert.name,
        kind=name,
        headline=items[0].what if pending.count == 1 else f"{pending.count:,} {kind.many}",
        at=pending.newest,
        items=items,
        count=pending.count,
        others=pending.others,
    )


def _identity(alert: Alert, items: Sequence[NoticeItem], pending: PendingEvents) -> str:
    """With the time, because another installation has the same names and numbers."""
    kind = pending.state.kind.replace(".", "-")
    numbers = f"{items[0].event}-{pending.last}"
    return f"alert-{alert.name}-{kind}-{numbers}-{pending.newest:%Y%m%d%H%M%S%f}"


def _item(store: Store, kind: Kind, event: AlertEvent, url: str) -> NoticeItem:
    subject = event.subject[:1].upper() + event.subject[1:]
    return NoticeItem(
        what=f"{subject} {kind.says[event.action]}",
        subject=event.subject,
        at=event.at,
        why=event.detail,
        event=event.id,
        job=event.job,
        task=event.task,
        title=event.title or "",
        workflow=event.workflow or "",
        host=alert_events.host(store, event),
        href=f"{url}{_page(event)}" if url else "",
    )


def _page(event: AlertEvent) -> str:
    if event.task is not None:
        return f"/tasks/{event.task}"
    if event.job is not None:
        return f"/jobs/{event.job}"
    return "/workers" if event.action == "worker.lost" else "/"


def trial_notice(alert: Alert, url: str, now: datetime) -> Notice:
    """What ``backoffice alert test`` sends."""
    why = "an administrator tests whether this alert arrives; nothing is wrong"
    item = NoticeItem("This is a test", "test", now, why, host=socket.gethostname(), href=url)
    identity = f"alert-{alert.name}-test-{now:%Y%m%d%H%M%S%f}"
    return Notice(identity, alert.name, "test", "This is a test", now, [item], 1)
