"""Channels of alerts: webhook, e-mail and chat.

Owns how a notice looks in each, and one try to deliver it. ``alerts`` decides what is
sent, to whom, and whether it is tried again. Text of users (titles, messages) can
neither forge a header nor add markup.
"""

from __future__ import annotations

import json
import smtplib
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime

from backoffice.config import redaction
from backoffice.config.addresses import ANYWHERE
from backoffice.config.settings import Alert, NotifySettings
from backoffice.system import webhooks

SHOWN = 3  # items described to people
NAMED = 20  # more items by their numbers
LONGEST = 500  # characters of one line
_SUBJECT = 200  # characters

_Refused = Mapping[str, tuple[int, bytes]]  # recipients, with the code and text of each


@dataclass(frozen=True)
class NoticeItem:
    """One event. ``at`` is naive UTC; ``href`` is the address of its page, or empty."""

    what: str  # such as "Job 4 failed"; has no text of users
    subject: str  # such as "job 4"
    at: datetime
    why: str
    event: int | None = None
    job: int | None = None
    task: int | None = None
    title: str = ""  # of the job, as its workflow
    workflow: str = ""
    host: str = ""
    href: str = ""


@dataclass(frozen=True)
class Notice:
    """One message: the first items, and how many there are. It has the same ``id`` when
    it is sent again."""

    id: str
    alert: str
    kind: str
    headline: str  # has no text of users
    at: datetime  # naive UTC
    items: Sequence[NoticeItem]
    count: int
    others: Sequence[str] = field(default=())  # subjects of those not in ``items``

    @property
    def text(self) -> str:
        shown = self.items[:SHOWN]
        parts = [_description(item) for item in shown]
        if self.count > len(shown):
            named = [item.subject for item in self.items[SHOWN:]] + list(self.others)
            parts.append(f"and {self.count - len(shown):,} more: {_named(named)}")
        return "\n\n".join([*parts, f"(alert {self.alert}, from {socket.gethostname()})"])


@dataclass(frozen=True)
class Sent:
    """The result of a try. ``text`` is for the history, which every user may read;
    ``said`` is the mail server's answer, for admins."""

    ok: bool
    text: str
    said: str = ""


def send(alert: Alert, notice: Notice, notify: NotifySettings) -> Sent:
    """Try once. The time limit of ``notify`` applies to each step of a mail, and to a
    whole webhook. Its keys sign the webhooks of alerts without keys."""
    match alert.type:
        case "webhook":
            return _webhook(alert, notice, notify)
        case "slack":
            return _slack(alert, notice, notify.timeout)
        case _:
            return _email(alert, notice, notify.timeout)


def receiver(alert: Alert) -> str:
    """The receiver in words, without secrets."""
    if alert.type == "email":
        return f"{', '.join(alert.to)} by {alert.smtp[0]}:{alert.smtp[1]}"
    return f"{alert.type} at {redaction.shown(alert.url)}"


# Text -----------------------------------------------------------------------


def line(text: str, longest: int = LONGEST) -> str:
    """``text`` as one printable line, which cannot look like several."""
    words = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return words if len(words) <= longest else words[: longest - 1] + "…"


def _description(item: NoticeItem) -> str:
    job = ""
    if item.job is not None:
        title = f", {item.title}" if item.title else ""
        job = f"{item.job}{title} ({item.workflow})"
    facts = {
        "job": job,
        "why": item.why,
        "host": item.host,
        "when": f"{item.at:%Y-%m-%d %H:%M:%S} UTC",
        "page": item.href,
    }
    lines = [f"{name:<6}{line(value)}" for name, value in facts.items() if value]
    return "\n".join([item.what, *lines])


def _named(subjects: Sequence[str]) -> str:
    """``jobs 4, 5, 6 …``. All subjects are of one kind."""
    distinct = list(dict.fromkeys(subjects))
    kind = distinct[0].partition(" ")[0]
    names = ", ".join(line(subject.partition(" ")[2]) for subject in distinct[:NAMED])
    return f"{kind}s {names}{' …' if len(distinct) > NAMED else ''}"


def _subject(notice: Notice) -> str:
    title = notice.items[0].title if notice.count == 1 else ""
    return line(f"[Backoffice] {notice.headline}{f': {title}' if title else ''}", _SUBJECT)


# Webhook --------------------------------------------------------------------


def _webhook(alert: Alert, notice: Notice, notify: NotifySettings) -> Sent:
    content = json.dumps(_document(notice)).encode()
    keys = alert.secret or notify.secret
    headers = webhooks.sign(content, notice.id, int(time.time()), keys)
    return _post(alert.url, content, headers, notify.timeout)


def _document(notice: Notice) -> Mapping[str, object]:
    return {
        "type": notice.kind,
        "timestamp": _moment(notice.at),
        "data": {
            "alert": notice.alert,
            "headline": notice.headline,
            "text": notice.text,
            "count": notice.count,
            "items": [vars(item) | {"at": _moment(item.at)} for item in notice.items],
            "others": list(notice.others),
        },
    }


def _moment(value: datetime) -> str:
    return value.strftime("%Y-%m-%dT%H:%M:%SZ")


def _post(url: str, content: bytes, headers: Mapping[str, str], timeout: float) -> Sent:
    """To any host, because an admin set the URL; chat servers are often internal."""
    answer = webhooks.post(url, content, headers, timeout, ANYWHERE)
    if not answer.status:
        return Sent(False, line(f"no answer: {answer.message}"))
    return Sent(answer.ok, line(f"{answer.status} {answer.message}"))


# Chat -----------------------------------------------------------------------


def _slack(alert: Alert, notice: Notice, timeout: float) -> Sent:
    """A block of code has no markup, mentions or links, so the links come after it."""
    text = notice.text.replace("```", "'''")
    links = [f"<{item.href}>" for item in notice.items[:SHOWN] if item.href]
    parts = [f"*{_escaped(notice.headline)}*", f"```\n{_escaped(text)}\n```", *links]
    content = json.dumps({"text": "\n".join(parts)}).encode()
    return _post(alert.url, content, {}, timeout)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


# E-mail ---------------------------------------------------------------------


def _email(alert: Alert, notice: Notice, timeout: float) -> Sent:
    try:
        server = _connect(alert, timeout)
        try:
            refused = server.send_message(_message(alert, notice))
            with suppress(smtplib.SMTPException, OSError):  # it has the message by now
                server.quit()
        finally:
            server.close()
    except (smtplib.SMTPException, OSError, UnicodeError) as error:
        return Sent(False, line(_reason(error)), line(_said(error)))
    if refused:
        return Sent(True, line(f"accepted, but not for {_refused(refused)}"), _texts(refused))
    return Sent(True, "accepted")


def _message(alert: Alert, notice: Notice) -> EmailMessage:
    message = EmailMessage()
    message["Subject"] = _subject(notice)
    message["From"] = alert.sender
    message["To"] = ", ".join(alert.to)
    message["Date"] = format_datetime(datetime.now().astimezone())
    message["Message-ID"] = f"<{notice.id}@{alert.sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"  # no out-of-office replies
    message.set_content(notice.text)
    return message


def _connect(alert: Alert, timeout: float) -> smtplib.SMTP:
    name = socket.gethostname()  # the default would ask the DNS, which may take long
    host, port = alert.smtp
    server: smtplib.SMTP
    if alert.tls == "tls":
        context = ssl.create_default_context()
        server = smtplib.SMTP_SSL(host, port, name, timeout=timeout, context=context)
    else:
        server = smtplib.SMTP(host, port, name, timeout=timeout)
    try:
        if alert.tls == "starttls":
            server.starttls(context=ssl.create_default_context())
        if alert.user:
            server.login(alert.user, alert.password)
    except BaseException:
        server.close()
        raise
    return server


def _reason(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return f"refused for {_refused(error.recipients)}"
    if isinstance(error, smtplib.SMTPResponseException):
        return f"the mail server refuses ({error.smtp_code})"
    return str(error) or type(error).__name__


def _refused(recipients: _Refused) -> str:
    return ", ".join(f"{address} ({code})" for address, (code, _) in recipients.items())


def _said(error: Exception) -> str:
    """The mail server's answer, or empty."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return _texts(error.recipients)
    if isinstance(error, smtplib.SMTPResponseException):
        said = error.smtp_error
        return said.decode("utf-8", "replace") if isinstance(said, bytes) else said
    return ""


def _texts(recipients: _Refused) -> str:
    texts = {text.decode("utf-8", "replace") for _, text in recipients.values()}
    return line("; ".join(sorted(texts)))
