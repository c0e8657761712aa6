"""Every setting: where it is looked for, what is right, what it is by default.

Owns the way from a file and the environment to one frozen :class:`Settings`;
nothing else reads either. What a setting does is told in ``etc/backoffice.ini``
alone. It looks at no folder, program or database: that is ``backoffice check``.
"""

from __future__ import annotations

import configparser
import ipaddress
import math
import os
import pkgutil
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from cronsim import CronSim, CronSimError

from backoffice.config import addresses, redaction, webhook_keys
from backoffice.config.addresses import Hosts
from backoffice.config.resources import share
from backoffice.errors import ConfigError

PREFIX = "BACKOFFICE_"
FROM_FILE = "_FILE"  # ends the name of a variable that names the file with the value
FILE_VARIABLE = "BACKOFFICE_CONFIG"
URL_VARIABLE, TOKEN_VARIABLE = "BACKOFFICE_URL", "BACKOFFICE_TOKEN"  # of the command line
NO_SETTINGS = (FILE_VARIABLE, URL_VARIABLE, TOKEN_VARIABLE, TOKEN_VARIABLE + FROM_FILE)
SEARCH = ("etc/backoffice.ini", "/etc/backoffice/backoffice.ini")
DEFAULTS = "defaults"
PARTS = ("scheduler", "worker", "web")
VIEWER, OPERATOR, ADMIN = ROLES = "viewer", "operator", "admin"  # each may do what those before may
EVERYBODY = "*"
TOKEN_ACTOR = "token:"  # begins the name by which a token acts; no user's begins so
LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")
ALERT_KINDS = ("job.failed", "task.stalled", "worker.lost", "disk.low", "publish.refused")
LEAVE = "leave"  # of [watch NAME] after
_REPLICATED = "mysql-replicated"
_MYSQL = ("mysql", _REPLICATED)
_SOCKET_PATH = 107  # bytes that Linux has room for
_ALERT_NAME = 64  # characters that the database has room for


@dataclass(frozen=True)
class DatabaseSettings:
    uri: str = field(repr=False)  # may hold a password
    timeout: float  # seconds to connect, and to wait for a lock


@dataclass(frozen=True)
class PathSettings:
    """All absolute."""

    home: Path
    work: Path
    logs: Path
    run: Path
    roots: tuple[Path, ...]
    workflows: tuple[Path, ...]  # the shipped folder first
    profiles: tuple[Path, ...]  # the shipped folder first


@dataclass(frozen=True)
class ServiceSettings:
    parts: tuple[str, ...]  # of PARTS
    watchdog: float  # seconds


@dataclass(frozen=True)
class WorkerSettings:
    slots: int
    queues: tuple[str, ...]  # names or patterns
    tags: frozenset[str]
    poll: float  # seconds, as the following
    lease: float
    heartbeat: float
    grace: float


@dataclass(frozen=True)
class SchedulerSettings:
    poll: float  # seconds


@dataclass(frozen=True)
class ToolSettings:
    ffmpeg: str
    ffprobe: str
    threads: int  # 0: ffmpeg decides
    read: tuple[Path, ...]  # absolute, as the following
    devices: tuple[Path, ...]


@dataclass(frozen=True)
class Floor:
    """How much of a disk is to stay free: a share of it, or bytes."""

    share: float  # 0 to 1
    size: int

    def of(self, total: int) -> float:
        """Bytes, of a disk of so many."""
        return max(self.share * total, self.size)

    def __str__(self) -> str:
        return f"{self.size / 1e9:.1f} GB" if self.size else f"{self.share * 100:g} %"


@dataclass(frozen=True)
class LimitSettings:
    confine: str
    memory: int  # bytes; 0: no limit, as in the following three
    cpu: float  # seconds of processor time
    processes: int
    output: int  # bytes a file
    pixels: int  # width × height
    streams: int
    frame_rate: float
    duration: float  # seconds
    document: int  # bytes of XML
    log: int  # bytes of an attempt's log
    disk_free: Floor


@dataclass(frozen=True)
class RetentionSettings:
    jobs: timedelta
    batch: int


@dataclass(frozen=True)
class NotifySettings:
    secret: tuple[bytes, ...] = field(repr=False)  # keys, each signs
    hosts: Hosts
    timeout: float  # seconds


@dataclass(frozen=True)
class LogSettings:
    to: str
    folder: Path
    level: str
    format: str
    sentry: str = field(repr=False)


@dataclass(frozen=True)
class WebSettings:
    listen: Path | tuple[str, int]  # a Unix socket, or host and port
    threads: int
    url: str  # without a slash at its end; empty: as the request says
    proxies: tuple[str, ...]  # networks, or "unix"
    hosts: tuple[str, ...]  # in lower case
    maintenance: Path
    rate: float  # requests a second; 0: no limit
    burst: int
    access_log: str
    head_timeout: float  # seconds, as the following
    body_timeout: float
    send_rate: int  # bytes a second
    connections_per_client: int

    @property
    def named(self) -> tuple[str, ...]:
        """The hosts that the settings name, by ``hosts`` and ``url``."""
        host = urlsplit(self.url).hostname
        return (*self.hosts, _bracketed(host)) if host else self.hosts

    @property
    def own_hosts(self) -> tuple[str, ...]:
        """All that Host may name, whatever the port. No page elsewhere can have a
        name of loopback, and health checks use no other."""
        bound: tuple[str, ...] = ()
        if isinstance(self.listen, tuple) and _is_loopback(self.listen[0]):
            bound = (_bracketed(self.listen[0].lower()),)
        return tuple(dict.fromkeys((*LOOPBACK_HOSTS, *bound, *self.named)))


@dataclass(frozen=True)
class AuthSettings:
    required: bool
    user_header: str
    viewers: frozenset[str]
    operators: frozenset[str]
    admins: frozenset[str]
    secret: str = field(repr=False)

    def role_of(self, user: str) -> str | None:
        """The highest role of a user; None for one who has none, or no name."""
        members = (ADMIN, self.admins), (OPERATOR, self.operators), (VIEWER, self.viewers)
        names = {user, EVERYBODY} if user else set()
        return next((role for role, users in members if names & users), None)


@dataclass(frozen=True)
class Target:
    name: str
    type: str
    path: Path | None
    url: str
    options: Mapping[str, str] = field(repr=False)  # may hold a password


@dataclass(frozen=True)
class Command:
    name: str
    argv: tuple[str, ...]
    confine: bool = True
    network: bool = False
    read: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Watch:
    name: str
    folder: Path
    pattern: tuple[str, ...]  # of names, as the following; case does not count
    exclude: tuple[str, ...]
    recursive: bool
    workflow: str
    role: str
    sidecars: Mapping[str, str]  # ending in lower case, without the dot → role
    quiet: timedelta
    patience: timedelta
    after: str  # "leave", or a path beneath the folder that files are moved to
    priority: int
    parameters: Mapping[str, str]

    @property
    def done(self) -> Path | None:
        """Where files are moved to whose job has succeeded; None: nowhere."""
        return None if self.after == LEAVE else self.folder / self.after


@dataclass(frozen=True)
class Schedule:
    name: str
    cron: str
    workflow: str
    inputs: tuple[str, ...]
    priority: int
    parameters: Mapping[str, str]


@dataclass(frozen=True)
class Alert:
    name: str
    type: str
    on: tuple[str, ...]  # of ALERT_KINDS
    every: timedelta
    workflow: str  # a pattern
    url: str = field(repr=False)  # as a rule, whoever knows it may write there
    secret: tuple[bytes, ...] = field(repr=False)  # keys, each signs
    to: tuple[str, ...]  # addresses, as the sender
    sender: str
    smtp: tuple[str, int]  # host and port
    tls: str
    user: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class Settings:
    source: str  # the file they came from, or "defaults"
    database: DatabaseSettings
    paths: PathSettings
    service: ServiceSettings
    worker: WorkerSettings
    scheduler: SchedulerSettings
    tools: ToolSettings
    limits: LimitSettings
    retention: RetentionSettings
    notify: NotifySettings
    log: LogSettings
    web: WebSettings
    auth: AuthSettings
    targets: Mapping[str, Target]
    commands: Mapping[str, Command]
    watches: Mapping[str, Watch]
    schedules: Mapping[str, Schedule]
    alerts: Mapping[str, Alert]


# Converters take the text and give the value, or raise ValueError whose message
# ends the sentence "… is not"; it never repeats the text, which may be secret.

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def _text(text: str) -> str:
    return text


def _required(text: str) -> str:
    if not text:
        raise ValueError("a value; give one")
    return text


def _word(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", text):
        raise ValueError("a name of letters, digits, '-', '_' and '.'")
    return text


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.replace(",", " ").split())


def _queues(text: str) -> tuple[str, ...]:
    queues = _words(text)
    if not queues:
        raise ValueError("a list of queues; * means all of them")
    return queues


def _parts(text: str) -> tuple[str, ...]:
    parts = _words(text)
    if not parts or not set(parts) <= set(PARTS):
        raise ValueError(f"a list of parts; there are {', '.join(PARTS)}")
    return tuple(dict.fromkeys(parts))


def _tags(text: str) -> frozenset[str]:
    return frozenset(_words(text))


def _users(text: str) -> frozenset[str]:
    users = _tags(text)
    if any(user.lower().startswith(TOKEN_ACTOR) for user in users):
        raise ValueError(f"a list of users; no user is {TOKEN_ACTOR}NAME, and tokens have roles")
    return users


def _arguments(text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise ValueError("a command line: a quote is not closed") from error


def _argv(text: str) -> tuple[str, ...]:
    argv = _arguments(text)
    if not argv:
        raise ValueError("a command line; give the program and its arguments")
    for argument in argv:
        for name in re.findall(r"\{([\w.-]+)\}", argument):
            if name not in ("input", "output") and not name.startswith("parameter."):
                raise ValueError("known: use {input}, {output} or {parameter.NAME}")
    return argv


def _patterns(text: str) -> tuple[str, ...]:
    patterns = _arguments(text)
    if not patterns:
        raise ValueError("a list of patterns such as *.mp4 *.mov; * means all files")
    return patterns


def _sidecars(text: str) -> Mapping[str, str]:
    pairs = [word.partition(":")[::2] for word in _words(text)]
    if not all(re.fullmatch(r"[A-Za-z0-9]+", ending) and role for ending, role in pairs):
        raise ValueError("a list of endings with their roles, such as srt:subtitles xml:metadata")
    return {ending.lower(): _word(role) for ending, role in pairs}


def _after(text: str) -> str:
    place = text.removeprefix("move:")
    if text == LEAVE or (place != text and _is_below(place)):
        return place
    raise ValueError("leave, or move:FOLDER with a folder beneath the watched one")


def _is_below(place: str) -> bool:
    parts = Path(place).parts
    return bool(parts) and parts[0] != "/" and ".." not in parts


def _path(text: str) -> Path:
    return Path(_required(text))


def _path_or_none(text: str) -> Path | None:
    return Path(text) if text else None


def _paths(text: str) -> tuple[Path, ...]:
    return tuple(Path(p.strip()) for p in re.split(r"[:\n]", text) if p.strip())


def _whole(low: int, high: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,18}", text) or not low <= int(text) <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return int(text)

    return convert


def _number(low: float, high: float) -> Callable[[str], float]:
    def convert(text: str) -> float:
        if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) or not low <= float(text) <= high:
            raise ValueError(f"a number from {low:g} to {high:g}")
        return float(text)

    return convert


def _seconds(low: float, high: float = math.inf) -> Callable[[str], float]:
    def convert(text: str) -> float:
        match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]+)?)\s*([smhd]?)", text)
        if not match:
            raise ValueError("a length of time such as 30s, 5m, 2h or 30d")
        seconds = float(match[1]) * _SECONDS[match[2]]
        if not low <= seconds <= high:
            most = "" if high == math.inf else f" and at most {high:g}s"
            raise ValueError(f"at least {low:g}s{most}")
        return seconds

    return convert


def _age(text: str) -> timedelta:
    return timedelta(seconds=_seconds(0, 100 * 365 * 86400)(text))


def _size(low: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        match = re.fullmatch(r"([0-9]{1,15})\s*([KMGT]?)B?", text.upper())
        if not match:
            raise ValueError("a size such as 512M or 8G")
        size = int(match[1]) * _BYTES[match[2]]
        if size < low:
            raise ValueError(f"at least {low} bytes")
        return size

    return convert


def _floor(text: str) -> Floor:
    if match := re.fullmatch(r"([0-9]{1,2}(?:\.[0-9]+)?)\s*%", text):
        return Floor(float(match[1]) / 100, 0)
    try:
        return Floor(0.0, _size(0)(text))
    except ValueError:
        raise ValueError("a share such as 5% or a size such as 20G") from None


def _area(text: str) -> int:
    match = re.fullmatch(r"([1-9][0-9]{0,5})x([1-9][0-9]{0,5})", text)
    if not match:
        raise ValueError("a picture size such as 8192x4320")
    return int(match[1]) * int(match[2])


def _choice(*values: str) -> Callable[[str], str]:
    def convert(text: str) -> str:
        if text not in values:
            raise ValueError(f"one of {', '.join(values)}")
        return text

    return convert


def _database(text: str) -> str:
    if re.fullmatch(r"sqlite:[^:?][^?]*", text):
        return text
    try:
        parts = urlsplit(text)
        usable = parts.scheme in _MYSQL and parts.hostname and len(parts.path) > 1
        if parts.scheme != _REPLICATED:  # which names several servers
            _ = parts.port  # raises ValueError when it is no number
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(
            "sqlite:PATH or mysql://USER:PASSWORD@HOST/DATABASE, or mysql-replicated://…"
        )
    return text


def _url(text: str) -> str:
    if text and not re.match(r"[a-z][a-z0-9+.-]*://", text):
        raise ValueError("a URL such as https://media.example.org/")
    return text


def _web_url(text: str) -> str:
    if text and not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", text):
        raise ValueError("a URL such as https://media.example.org or https://example.org/media")
    return text.rstrip("/")


def _dsn(text: str) -> str:
    if text and not re.fullmatch(r"https?://[^\s@/]+@[^\s/@]+/\S+", text):
        raise ValueError("a DSN such as https://KEY@sentry.example.org/1")
    return text


def _listen(text: str) -> Path | tuple[str, int]:
    if text.startswith("unix:") and text != "unix:":
        return Path(text.removeprefix("unix:"))
    if (found := _host_and_port(text)) is None:
        raise ValueError("HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080, or unix:PATH")
    return found


def _host_and_port(text: str) -> tuple[str, int] | None:
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]+)):([0-9]{1,5})", text)
    if not match or int(match[3]) > 65535:
        return None
    return match[1] or match[2], int(match[3])


def _server(text: str) -> tuple[str, int]:
    if (found := _host_and_port(text)) is None:
        raise ValueError("HOST:PORT, such as localhost:25 or mail.example.org:587")
    return found


def _receiver(text: str) -> str:
    if text and not webhook_keys.is_url(text):
        raise ValueError("a URL such as https://chat.example.org/hooks/KEY")
    return text


def _addresses(text: str) -> tuple[str, ...]:
    words = _words(text)
    if not all(re.fullmatch(r"[^@<>\"]+@[^@<>\"]+", word) and word.isprintable() for word in words):
        raise ValueError("a list of addresses such as ops@example.org")
    return words


def _address(text: str) -> str:
    if len(words := _addresses(text)) > 1:
        raise ValueError("one address; there are several")
    return words[0] if words else ""


def _alert_kinds(text: str) -> tuple[str, ...]:
    kinds = _words(text)
    if not kinds or not set(kinds) <= set(ALERT_KINDS):
        raise ValueError(f"a list of what to tell; there are {', '.join(ALERT_KINDS)}")
    return tuple(dict.fromkeys(kinds))


def _networks(text: str) -> tuple[str, ...]:
    for word in (words := _words(text)):
        try:
            if word != "unix":
                ipaddress.ip_network(word)
        except ValueError:
            raise ValueError(
                "a list of addresses and networks such as 127.0.0.1 or 10.0.0.0/8; or unix"
            ) from None
    return words


def _hosts(text: str) -> tuple[str, ...]:
    words = _words(text.lower())
    if not all(re.fullmatch(r"[a-z0-9.-]+|\[[0-9a-f:.]+\]", word) for word in words):
        raise ValueError("a list of names such as media.example.org, without port and path")
    return words


def _header(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9]+(-[A-Za-z0-9]+)*", text):
        raise ValueError("a header's name of letters, digits and '-'")
    return text


def _yes(text: str) -> bool:
    return _choice("yes", "no")(text) == "yes"


def _publisher(text: str) -> str:
    folder = Path(__file__).parent.parent / "publishers"
    types = {m.name for m in pkgutil.iter_modules([str(folder)])}
    if text not in types:
        raise ValueError(f"a type of target; there are {', '.join(sorted(types))}")
    return text


def _cron(text: str) -> str:
    try:
        next(CronSim(text, datetime.now(UTC)))
    except CronSimError as error:
        raise ValueError("a cron expression such as '30 2 * * *' (in UTC)") from error
    except StopIteration:
        raise ValueError("a cron expression that ever comes true") from None
    return text


def _never(text: str) -> bool:
    return False


class Key(NamedTuple):
    name: str
    convert: Callable[[str], Any]
    default: str | None = None  # as it would stand in the file; None: must be given
    secret: Callable[[str], bool] = _never  # whether a text must not be read by all


# What programs call a file that they have not finished, and what systems leave in folders.
EXCLUDED = (
    ".* ~* *~ *.part *.filepart *.crdownload *.tmp *.temp *.partial *.download *.opdownload"
    " *.!ut *.!qb *.aria2 *.ytdl *.aspera-ckpt *.lock Thumbs.db ehthumbs.db desktop.ini @eaDir"
    " #recycle @Recycle $RECYCLE.BIN 'System Volume Information' lost+found"
)

_PRIORITY = Key("priority", _whole(0, 100), "50")

SECTIONS: dict[str, tuple[Key, ...]] = {
    "database": (
        Key("uri", _database, "sqlite:var/backoffice.sqlite", redaction.holds_password),
        Key("timeout", _seconds(0.1, 600), "10s"),
    ),
    "paths": (
        Key("home", _path, "."),
        Key("work", _path, "var/work"),
        Key("logs", _path, "var/log"),
        Key("run", _path, "var/run"),
        Key("roots", _paths, "var/media"),
        Key("workflows", _paths, ""),
        Key("profiles", _paths, ""),
    ),
    "service": (
        Key("parts", _parts, " ".join(PARTS)),
        Key("watchdog", _seconds(3, 86400), "60s"),
    ),
    "worker": (
        Key("slots", _whole(1, 256), "2"),
        Key("queues", _queues, "*"),
        Key("tags", _tags, ""),
        Key("poll", _seconds(0.01, 60), "0.1s"),
        Key("lease", _seconds(1, 86400), "60s"),
        Key("heartbeat", _seconds(0.05, 3600), "10s"),
        Key("grace", _seconds(0, 86400), "30s"),
    ),
    "scheduler": (Key("poll", _seconds(0.01, 60), "1s"),),
    "tools": (
        Key("ffmpeg", _required, "ffmpeg"),
        Key("ffprobe", _required, "ffprobe"),
        Key("threads", _whole(0, 256), "0"),
        Key("read", _paths, ""),
        Key("devices", _paths, ""),
    ),
    "limits": (
        Key("confine", _choice("no", "auto", "require"), "auto"),
        Key("memory", _size(0), "8G"),
        Key("cpu", _seconds(0), "48h"),
        Key("processes", _whole(0, 1_000_000), "4096"),
        Key("output", _size(0), "512G"),
        Key("pixels", _area, "8192x4320"),
        Key("streams", _whole(1, 10000), "64"),
        Key("frame_rate", _number(1, 100000), "240"),
        Key("duration", _seconds(1), "24h"),
        Key("document", _size(1024), "1M"),
        Key("log", _size(1 << 16), "64M"),
        Key("disk_free", _floor, "5%"),
    ),
    "retention": (
        Key("jobs", _age, "30d"),
        Key("batch", _whole(1, 10000), "500"),
    ),
    "notify": (
        Key("secret", webhook_keys.keys, "", bool),
        Key("hosts", addresses.parse, addresses.PUBLIC),
        Key("timeout", _seconds(0.1, 600), "10s"),
    ),
    "log": (
        Key("to", _choice("stderr", "stdout", "files", "syslog"), "stderr"),
        Key("folder", _path, "var/log/service"),
        Key("level", _choice("debug", "info", "warning", "error"), "info"),
        Key("format", _choice("plain", "json"), "plain"),
        Key("sentry", _dsn, "", bool),
    ),
    "web": (
        Key("listen", _listen, "127.0.0.1:8080"),
        Key("threads", _whole(1, 1024), "8"),
        Key("url", _web_url, ""),
        Key("proxies", _networks, "unix"),
        Key("hosts", _hosts, ""),
        Key("maintenance", _path, "var/run/maintenance"),
        Key("rate", _number(0, 1_000_000), "200"),
        Key("burst", _whole(1, 1_000_000), "1000"),
        Key("access_log", _choice("combined", "json", "none"), "combined"),
        Key("head_timeout", _seconds(0.1, 3600), "10s"),
        Key("body_timeout", _seconds(0.1, 3600), "30s"),
        Key("send_rate", _size(1), "4K"),
        Key("connections_per_client", _whole(1, 1_000_000), "100"),
    ),
    "auth": (
        Key("required", _yes, "no"),
        Key("user_header", _header, "X-Remote-User"),
        Key("viewers", _users, ""),
        Key("operators", _users, ""),
        Key("admins", _users, ""),
        Key("secret", _text, "", bool),
    ),
}

# Sections that stand as often as wanted, each as [kind NAME].
NAMED: dict[str, tuple[Key, ...]] = {
    "target": (
        Key("type", _publisher, "folder"),
        Key("path", _path_or_none, ""),
        Key("url", _url, ""),
    ),
    "command": (
        Key("argv", _argv),
        Key("confine", _yes, "yes"),
        Key("network", _yes, "no"),
        Key("read", _paths, ""),
    ),
    "watch": (
        Key("folder", _path),
        Key("pattern", _patterns, "*"),
        Key("exclude", _arguments, EXCLUDED),
        Key("recursive", _yes, "no"),
        Key("workflow", _word),
        Key("role", _word, "source"),
        Key("sidecars", _sidecars, "srt:subtitles vtt:subtitles xml:metadata"),
        Key("quiet", _age, "30s"),
        Key("patience", _age, "10m"),
        Key("after", _after, LEAVE),
        _PRIORITY,
    ),
    "schedule": (
        Key("cron", _cron),
        Key("workflow", _word),
        Key("inputs", _arguments, ""),
        _PRIORITY,
    ),
    "alert": (
        Key("type", _choice("webhook", "email", "slack")),
        Key("on", _alert_kinds, "job.failed task.stalled worker.lost disk.low"),
        Key("every", _age, "5m"),
        Key("workflow", _required, "*"),
        Key("url", _receiver, "", bool),
        Key("secret", webhook_keys.keys, "", bool),
        Key("to", _addresses, ""),
        Key("from", _address, ""),
        Key("smtp", _server, "localhost:25"),
        Key("tls", _choice("none", "starttls", "tls"), "none"),
        Key("user", _text, ""),
        Key("password", _text, "", bool),
    ),
}

# Keys of the form GROUP.NAME, gathered into one mapping of the section's class.
GROUPS = {"target": "option", "watch": "parameter", "schedule": "parameter"}

# So that the shipped workflows can publish before anything was configured.
_SITE = {"path": "var/publish"}


class _Given(NamedTuple):
    """A value as somebody wrote it, and where."""

    text: str
    source: str


_Raw = dict[str, dict[str, _Given]]  # section header → key → value


def load(path: str | None, environ: Mapping[str, str]) -> Settings:
    """The settings from ``path``, or from the first file found, and ``environ``.

    Raises ConfigError, one line, for whatever is not exactly right.
    """
    return _build(*_gather(path, environ))


def _gather(path: str | None, environ: Mapping[str, str]) -> tuple[str, _Raw]:
    source = _find(path, environ)
    raw = _read(source) if source != DEFAULTS else {}
    raw.setdefault("target site", {k: _Given(v, DEFAULTS) for k, v in _SITE.items()})
    for variable in sorted(environ):
        if variable.startswith(PREFIX) and variable not in NO_SETTINGS:
            _override(raw, variable, environ)
    return source, raw


# What changes at a restart only: it is built upon from the start on.
_AT_RESTART = {
    "database": [one.name for one in fields(DatabaseSettings)],
    "paths": [one.name for one in fields(PathSettings)],
    "service": [one.name for one in fields(ServiceSettings)],
    "web": ["listen", "threads"],
}


def reload(old: Settings, environ: Mapping[str, str]) -> tuple[Settings, list[str]]:
    """The settings as they are written now, but what only a restart changes as in
    ``old``; and which of those have been changed, as ``[section] key``.

    Raises ConfigError like ``load``, and for what does not fit what is kept.
    """
    source, raw = _gather(None if old.source == DEFAULTS else old.source, environ)
    wanted = _build(source, raw)
    raw.setdefault("paths", {})["home"] = _Given(str(old.paths.home), source)
    waiting = [f"[{t}] {key}" for t, key in _restarted() if _at(wanted, t, key) != _at(old, t, key)]
    kept = _with_kept(_build(source, raw), old)
    try:
        _cross_check(kept, raw)
    except ConfigError as error:
        message = f"needs {', '.join(waiting)} as written now, which needs a restart"
        place = {"section": error.section, "key": error.key}
        raise ConfigError(message, source=error.source, **place) from error
    return kept, waiting


def _restarted() -> Iterator[tuple[str, str]]:
    return ((title, key) for title, keys in _AT_RESTART.items() for key in keys)


def _at(settings: Settings, title: str, key: str) -> Any:
    return getattr(getattr(settings, title), key)


def _with_kept(new: Settings, old: Settings) -> Settings:
    kept = {
        title: replace(getattr(new, title), **{key: _at(old, title, key) for key in keys})
        for title, keys in _AT_RESTART.items()
    }
    return replace(new, **kept)


@dataclass(frozen=True)
class Address:
    """A service elsewhere, and what opens it."""

    url: str
    token: str = field(repr=False)


def service(url: str | None, token_file: str | None, environ: Mapping[str, str]) -> Address | None:
    """The service that commands are for; None if they are for this installation.

    An empty ``url`` is none, whatever the environment says. Raises ConfigError for
    a file that holds no token, or that others can read.
    """
    found = environ.get(URL_VARIABLE, "") if url is None else url
    if not found:
        if token_file is not None:
            raise ConfigError("is of no use without --url", source="--token-file")
        return None
    if token_file is None and TOKEN_VARIABLE + FROM_FILE in environ:
        _refuse_both(TOKEN_VARIABLE + FROM_FILE, environ)
        token_file = environ[TOKEN_VARIABLE + FROM_FILE]
    if token_file is None:
        return Address(found, environ.get(TOKEN_VARIABLE, ""))
    token = _private(token_file, token_file).strip()
    if not token:
        raise ConfigError("holds no token: it is empty", source=token_file)
    return Address(found, token)


def _find(path: str | None, environ: Mapping[str, str]) -> str:
    if path is not None:
        return path
    if environ.get(FILE_VARIABLE):
        return environ[FILE_VARIABLE]
    return next((name for name in SEARCH if os.path.lexists(name)), DEFAULTS)


class _Parser(configparser.RawConfigParser):
    def optionxform(self, optionstr: str) -> str:
        return optionstr  # parameters' names keep their case


def _content(path: str, source: str) -> tuple[str, bool]:
    """The text of a file, and whether everybody can read it. Raises ConfigError for
    one that others can write: they could make us run what they like."""
    try:
        with open(path, encoding="utf-8-sig") as stream:
            status, text = os.fstat(stream.fileno()), stream.read()
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", source=source) from error
    except UnicodeDecodeError as error:
        raise ConfigError("is not UTF-8; save it as UTF-8", source=source) from error
    if redaction.writable_by_others(status):
        message = f"can be changed by others than its owner; type: chmod go-w {shlex.quote(path)}"
        raise ConfigError(message, source=source)
    return text, redaction.readable_by_all(status)


def _read(source: str) -> _Raw:
    text, open_to_all = _content(source, source)
    raw = _sections(_parse(text, source), source)
    if open_to_all:
        _refuse_secrets(raw, source)
    return raw


def _parse(text: str, source: str) -> configparser.RawConfigParser:
    parser = _Parser(delimiters=("=",), default_section="", empty_lines_in_values=False)
    try:
        parser.read_string(text)
    except configparser.DuplicateSectionError as error:
        message = f"stands twice (line {error.lineno}); make it one"
        raise ConfigError(message, source=source, section=error.section) from error
    except configparser.DuplicateOptionError as error:
        message = f"is set twice (line {error.lineno}); remove one"
        place = {"section": error.section, "key": error.option}
        raise ConfigError(message, source=source, **place) from error
    except configparser.MissingSectionHeaderError as error:
        message = f"line {error.lineno} stands before any [section]"
        raise ConfigError(message, source=source) from error
    except configparser.ParsingError as error:
        message = f"line {error.errors[0][0]} is neither [section] nor key = value"
        raise ConfigError(message, source=source) from error
    return parser


def _refuse_secrets(raw: _Raw, source: str) -> None:
    for title, given in raw.items():
        for key, value in given.items():
            if value.text and _is_secret(title.split()[0], key, value.text):
                message = f"is secret, and everybody can read the file; type: {_close(source)}"
                raise ConfigError(message, source=source, section=title, key=key)


def _close(path: str) -> str:
    return f"chmod o-r {shlex.quote(path)}"


def _is_secret(kind: str, key: str, text: str) -> bool:
    if GROUPS.get(kind) == "option" and _is_member(key, "option"):
        return redaction.is_secret_name(key)
    if GROUPS.get(kind) == "parameter" and _is_member(key, "parameter"):
        return redaction.shown(text) != text
    return any(known.name == key and known.secret(text) for known in _keys(kind))


def _sections(parser: configparser.RawConfigParser, source: str) -> _Raw:
    raw: _Raw = {}
    for header in parser.sections():
        title = " ".join(header.split())
        kind, _, name = title.partition(" ")
        if title in raw:
            raise ConfigError("stands twice; make it one", source=source, section=title)
        if title not in SECTIONS and not (kind in NAMED and _is_name(name)):
            raise _unknown_section(source, title)
        raw[title] = {}
        for key, text in parser.items(header):
            _require_known(kind, key, source, title)
            raw[title][key] = _Given(text, source)
    return raw


def _is_name(name: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name) is not None


def _unknown_section(source: str, title: str) -> ConfigError:
    if title in NAMED:
        message = f"needs a name of letters, digits, '-' and '_', such as [{title} main]"
        return ConfigError(message, source=source, section=title)
    known = [*SECTIONS, *(f"{kind} NAME" for kind in NAMED)]
    message = f"is no section; there are {', '.join(known)}"
    return ConfigError(message, source=source, section=title)


def _keys(kind: str) -> tuple[Key, ...]:
    return SECTIONS[kind] if kind in SECTIONS else NAMED[kind]


def _require_known(kind: str, key: str, source: str, title: str) -> None:
    group = GROUPS.get(kind)
    if any(key == known.name for known in _keys(kind)):
        return
    if group and _is_member(key, group):
        return
    names = [known.name for known in _keys(kind)] + ([f"{group}.NAME"] if group else [])
    message = f"is no setting; there are {', '.join(names)}"
    raise ConfigError(message, source=source, section=title, key=key)


def _is_member(key: str, group: str) -> bool:
    return re.fullmatch(rf"{group}\.[A-Za-z0-9][A-Za-z0-9_.-]*", key) is not None


def _override(raw: _Raw, variable: str, environ: Mapping[str, str]) -> None:
    setting = variable.removesuffix(FROM_FILE)
    kind, _, rest = setting.removeprefix(PREFIX).lower().partition("_")
    if kind in SECTIONS:
        title, key = kind, rest
    elif kind in NAMED:
        title, key = _named(raw, kind, rest, variable)
    else:
        raise _unknown_variable(variable, "names no section")
    if not any(key == known.name for known in _keys(kind)) and "." not in key:
        raise _unknown_variable(variable, f"names no setting of [{title}]")
    text = environ[variable] if setting == variable else _held(variable, environ)
    raw.setdefault(title, {})[key] = _Given(text, variable)


def _held(variable: str, environ: Mapping[str, str]) -> str:
    """What is in the file that ``variable`` names, without the end of its last line."""
    _refuse_both(variable, environ)
    path = environ[variable]
    place = f"{variable}: {path}"
    text = _private(path, place)
    if not text.strip():
        raise ConfigError("is empty", source=place)
    return text.rstrip("\r\n")


def _private(path: str, source: str) -> str:
    """The text of a file that is a secret as a whole. Raises ConfigError."""
    text, open_to_all = _content(path, source)
    if open_to_all and not os.path.realpath(path).startswith(redaction.MOUNTED):
        raise ConfigError(f"can be read by everybody; type: {_close(path)}", source=source)
    return text


def _refuse_both(variable: str, environ: Mapping[str, str]) -> None:
    other = variable.removesuffix(FROM_FILE)
    if other in environ:
        raise ConfigError(f"{other} is set too; unset one of them", source=variable)


def _named(raw: _Raw, kind: str, rest: str, variable: str) -> tuple[str, str]:
    """The section and key meant by ``rest``: of a section there is, or a new one."""
    found = list(_existing(raw, kind, rest)) or list(_new(kind, rest))
    if len({title for title, _ in found}) > 1:
        titles = " and ".join(f"[{title}]" for title, _ in found)
        raise _unknown_variable(variable, f"could mean {titles}; use the file")
    if not found:
        raise _unknown_variable(variable, f"names no setting of [{kind} NAME]")
    return found[0]


def _existing(raw: _Raw, kind: str, rest: str) -> Iterator[tuple[str, str]]:
    for title in raw:
        words = title.lower().replace("-", "_").split()
        if words[0] == kind and len(words) == 2 and rest.startswith(f"{words[1]}_"):
            key = _key_of(kind, rest.removeprefix(f"{words[1]}_"))
            if key:
                yield title, key


def _new(kind: str, rest: str) -> Iterator[tuple[str, str]]:
    for cut in (m.start() for m in re.finditer("_", rest)):
        key = _key_of(kind, rest[cut + 1 :])
        if key and _is_name(rest[:cut]):
            yield f"{kind} {rest[:cut]}", key
            return


def _key_of(kind: str, text: str) -> str:
    group = GROUPS.get(kind, "")
    if group and text.startswith(f"{group}_") and text != f"{group}_":
        return f"{group}.{text.removeprefix(f'{group}_')}"
    return text if any(text == known.name for known in NAMED[kind]) else ""


def _unknown_variable(variable: str, reason: str) -> ConfigError:
    form = f"{PREFIX}<SECTION>_<KEY> or {PREFIX}<SECTION>_<NAME>_<KEY>"
    return ConfigError(f"{reason}; settings are {form}, as in backoffice.ini", source=variable)


def _build(source: str, raw: _Raw) -> Settings:
    values = {title: _values(title, raw.get(title, {}), source) for title in SECTIONS}
    home = Path.cwd() / values["paths"]["home"]
    paths = _absolute(values["paths"], home)
    for name in ("workflows", "profiles"):
        paths[name] = (share("etc") / name, *paths[name])
    database = values["database"]
    database["uri"] = _absolute_uri(database["uri"], home)
    named = {kind: dict(_instances(raw, kind, source, home)) for kind in NAMED}
    settings = Settings(
        source=source,
        database=DatabaseSettings(**database),
        paths=PathSettings(**paths),
        service=ServiceSettings(**values["service"]),
        worker=WorkerSettings(**values["worker"]),
        scheduler=SchedulerSettings(**values["scheduler"]),
        tools=ToolSettings(**_absolute(values["tools"], home)),
        limits=LimitSettings(**values["limits"]),
        retention=RetentionSettings(**values["retention"]),
        notify=NotifySettings(**values["notify"]),
        log=LogSettings(**_absolute(values["log"], home)),
        web=WebSettings(**_absolute(values["web"], home)),
        auth=AuthSettings(**values["auth"]),
        targets={name: Target(**v) for name, v in named["target"].items()},
        commands={name: Command(**v) for name, v in named["command"].items()},
        watches={name: Watch(**v) for name, v in named["watch"].items()},
        schedules={name: Schedule(**v) for name, v in named["schedule"].items()},
        alerts={
            # Python has another use for the word.
            name: Alert(sender=v["from"], **{k: v[k] for k in v if k != "from"})
            for name, v in named["alert"].items()
        },
    )
    _cross_check(settings, raw)
    return settings


def _instances(
    raw: _Raw, kind: str, source: str, home: Path
) -> Iterator[tuple[str, dict[str, Any]]]:
    for title, given in raw.items():
        if title.startswith(f"{kind} "):
            name = title.split()[1]
            yield name, {"name": name, **_absolute(_values(title, given, source), home)}


def _values(title: str, given: Mapping[str, _Given], source: str) -> dict[str, Any]:
    kind = title.split()[0]
    values = {key.name: _value(title, key, given.get(key.name), source) for key in _keys(kind)}
    if group := GROUPS.get(kind):
        members = {key: value for key, value in given.items() if key.startswith(f"{group}.")}
        values[f"{group}s"] = {k.removeprefix(f"{group}."): v.text for k, v in members.items()}
    return values


def _value(title: str, key: Key, given: _Given | None, source: str) -> Any:
    if given is None:
        if key.default is None:
            raise ConfigError("must be given", source=source, section=title, key=key.name)
        return key.convert(key.default)
    place = {"source": given.source, "section": title, "key": key.name}
    if "\n" in given.text and key.convert not in (_paths, _arguments, _patterns, _argv):
        # An indented key would otherwise silently become part of this one.
        message = "goes on in an indented line; begin each key at the left edge"
        raise ConfigError(message, **place)
    try:
        return key.convert(given.text)
    except ValueError as error:
        raise ConfigError(f"is not {error}", **place) from error


def _absolute(values: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """``values`` with every path in them made absolute, beginning at ``home``."""

    def anchor(value: Any) -> Any:
        if isinstance(value, Path):
            return home / value
        if isinstance(value, tuple):
            return tuple(anchor(member) for member in value)
        return value

    return {name: anchor(value) for name, value in values.items()}


def _absolute_uri(uri: str, home: Path) -> str:
    if uri.startswith("sqlite:"):
        return f"sqlite:{home / uri.removeprefix('sqlite:')}"
    return uri


def _is_beneath(folder: Path, roots: Iterable[Path]) -> bool:
    """By name alone if that will do: a disk that hangs must not hold us up.
    What is read there has its links followed before it is opened."""
    for name in (os.path.normpath, os.path.realpath):
        path = Path(name(folder))
        if any(path.is_relative_to(name(root)) for root in roots):
            return True
    return False


def _bracketed(host: str) -> str:
    """A host as it stands in a URL."""
    return f"[{host}]" if ":" in host else host


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _cross_check(settings: Settings, raw: _Raw) -> None:
    def wrong(title: str, key: str, message: str) -> ConfigError:
        given = raw.get(title, {}).get(key)
        source = given.source if given else settings.source
        return ConfigError(message, source=source, section=title, key=key)

    worker = settings.worker
    if worker.heartbeat * 3 > worker.lease:
        message = f"is more than a third of lease ({worker.lease:g}s); two may get lost"
        raise wrong("worker", "heartbeat", message)
    if isinstance(listen := settings.web.listen, Path):
        if len(os.fsencode(listen)) > _SOCKET_PATH:
            message = f"is a path of more than {_SOCKET_PATH} bytes, too long for a socket"
            raise wrong("web", "listen", message)
    elif not (settings.auth.required or _is_loopback(listen[0])):
        message = (
            "can be reached from other hosts, and nobody has to log in: set [auth] required = yes,"
            " or listen on 127.0.0.1:PORT or unix:PATH"
        )
        raise wrong("web", "listen", message)
    elif not (settings.web.named or _is_loopback(listen[0])):
        message = (
            "can be reached from other hosts, and no name is given by which it is to be asked"
            " for: set [web] url or hosts"
        )
        raise wrong("web", "listen", message)
    for target in settings.targets.values():
        if target.type == "folder" and target.path is None:
            raise wrong(f"target {target.name}", "path", "must be given for a folder")
    for watch in settings.watches.values():
        if not _is_beneath(watch.folder, settings.paths.roots):
            message = "lies outside [paths] roots, so nothing in it could be read; add it there"
            raise wrong(f"watch {watch.name}", "folder", message)
    for alert in settings.alerts.values():
        for key, message in _faults(alert, settings.notify):
            raise wrong(f"alert {alert.name}", key, message)


def _faults(alert: Alert, notify: NotifySettings) -> Iterator[tuple[str, str]]:
    """Of keys that are well each for itself."""
    if len(alert.name) > _ALERT_NAME:
        yield "", f"has a name of more than {_ALERT_NAME} characters"
    if alert.type != "email":
        if not alert.url:
            yield "url", f"must be given for {alert.type}"
        if alert.type == "webhook" and not (alert.secret or notify.secret):
            yield "secret", "must be given for webhook, here or in [notify]: each is signed"
        return
    for key, value in (("to", alert.to), ("from", alert.sender)):
        if not value:
            yield key, "must be given for email"
    if alert.password and alert.tls == "none" and not _is_loopback(alert.smtp[0]):
        yield "tls", "would send the password in clear; set starttls or tls"
