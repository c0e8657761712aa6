"""How an alert reaches people: webhook, e-mail, or chat.

Owns what a notice looks like to each, and one try to deliver it. What is told,
to whom, and whether it is tried again is decided in ``alerts``. Whatever others
wrote (titles, messages) can neither forge a header nor mark up a text.
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

SHOWN = 3  # things told at length to people
NAMED = 20  # of the others, by their numbers
LONGEST = 500  # characters of one line
_SUBJECT = 200  # characters

_Refused = Mapping[str, tuple[int, bytes]]  # recipients, with the code and text of each


@dataclass(frozen=True)
class Item:
    """One thing that happened. ``at`` is naive UTC, ``href`` its page, if known."""

    what: str  # in words of ours alone, such as "Job 4 failed"
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
    """What one message tells: the first things that happened, and how many in all.
    The same notice has the same ``id`` when it is sent again."""

    id: str
    alert: str
    kind: str
    headline: str  # in words of ours alone
    at: datetime  # naive UTC
    items: Sequence[Item]
    count: int
    others: Sequence[str] = field(default=())  # subjects of those not in ``items``

    @property
    def text(self) -> str:
        shown = self.items[:SHOWN]
        parts = [_told(item) for item in shown]
        if self.count > len(shown):
            named = [item.subject for item in self.items[SHOWN:]] + list(self.others)
            parts.append(f"and {self.count - len(shown):,} more: {_named(named)}")
        return "\n\n".join([*parts, f"(alert {self.alert}, from {socket.gethostname()})"])


@dataclass(frozen=True)
class Sent:
    """How a try went. ``text`` is for the history, which all may read; ``said`` is
    what a mail server answered, for admins."""

    ok: bool
    text: str
    said: str = ""


def send(alert: Alert, notice: Notice, notify: NotifySettings) -> Sent:
    """Try once, for as long as ``notify`` says: each step of a mail, all of a webhook.
    Its keys sign webhooks of an alert that has none of its own."""
    match alert.type:
        case "webhook":
            return _webhook(alert, notice, notify)
        case "slack":
            return _slack(alert, notice, notify.timeout)
        case _:
            return _email(alert, notice, notify.timeout)


def receiver(alert: Alert) -> str:
    """Who gets it, in words that may be shown."""
    if alert.type == "email":
        return f"{', '.join(alert.to)} by {alert.smtp[0]}:{alert.smtp[1]}"
    return f"{alert.type} at {redaction.shown(alert.url)}"


# Text -----------------------------------------------------------------------


def line(text: str, longest: int = LONGEST) -> str:
    """``text`` as one line that is shown as it stands and forges nothing."""
    words = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return words if len(words) <= longest else words[: longest - 1] + "…"


def _told(item: Item) -> str:
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
    told = [f"{name:<6}{line(value)}" for name, value in facts.items() if value]
    return "\n".join([item.what, *told])


def _named(subjects: Sequence[str]) -> str:
    """``jobs 4, 5, 6 …``: they are all of one kind."""
    once = list(dict.fromkeys(subjects))
    kind = once[0].partition(" ")[0]
    names = ", ".join(line(one.partition(" ")[2]) for one in once[:NAMED])
    return f"{kind}s {names}{' …' if len(once) > NAMED else ''}"


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
    """Anywhere, since the URL is an admin's own: a chat server inside is usual."""
    answer = webhooks.post(url, content, headers, timeout, ANYWHERE)
    if not answer.status:
        return Sent(False, line(f"no answer: {answer.message}"))
    return Sent(answer.ok, line(f"{answer.status} {answer.message}"))


# Chat -----------------------------------------------------------------------


def _slack(alert: Alert, notice: Notice, timeout: float) -> Sent:
    """In a block of code nothing is markup, a mention or a link; so the links,
    which are ours, come after it."""
    text = notice.text.replace("```", "'''")
    links = [f"<{item.href}>" for item in notice.items[:SHOWN] if item.href]
    told = "\n".join([f"*{_escaped(notice.headline)}*", f"```\n{_escaped(text)}\n```", *links])
    content = json.dumps({"text": told}).encode()
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
    message["Auto-Submitted"] = "auto-generated"  # nobody's absence is answered with
    message.set_content(notice.text)
    return message


def _connect(alert: Alert, timeout: float) -> smtplib.SMTP:
    name = socket.gethostname()  # or it would be asked of the DNS, however long that takes
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
    """The mail server's own words, if it said any."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return _texts(error.recipients)
    if isinstance(error, smtplib.SMTPResponseException):
        said = error.smtp_error
        return said.decode("utf-8", "replace") if isinstance(said, bytes) else said
    return ""


def _texts(recipients: _Refused) -> str:
    texts = {text.decode("utf-8", "replace") for _, text in recipients.values()}
    return line("; ".join(sorted(texts)))
