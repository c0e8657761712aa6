"""Converters: the text of a setting to its value.

Each raises ValueError whose message ends the sentence "… is not"; the message
never repeats the text, which may be secret.
"""

from __future__ import annotations

import ipaddress
import math
import pkgutil
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from cronsim import CronSim, CronSimError

from backoffice import units
from backoffice.config import webhook_keys
from backoffice.config.names import ALERT_KINDS, LEAVE, PARTS, REPLICATED, TOKEN_ACTOR

_MYSQL = ("mysql", REPLICATED)
_CENTURY = 100 * 365 * 86400.0


@dataclass(frozen=True)
class Floor:
    """How much of a disk is to stay free: a share of it, or bytes."""

    share: float  # 0 to 1
    size: int

    def of(self, total: int) -> float:
        """Bytes of a disk of ``total`` bytes."""
        return max(self.share * total, self.size)

    def __str__(self) -> str:
        return units.size(self.size) if self.size else f"{self.share * 100:g} %"


def any_text(text: str) -> str:
    return text


def required(text: str) -> str:
    if not text:
        raise ValueError("a value; give one")
    return text


def word(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", text):
        raise ValueError("a name of letters, digits, '-', '_' and '.'")
    return text


def word_list(text: str) -> tuple[str, ...]:
    return tuple(text.replace(",", " ").split())


def queues(text: str) -> tuple[str, ...]:
    queues = word_list(text)
    if not queues:
        raise ValueError("a list of queues; * means all of them")
    return queues


def parts(text: str) -> tuple[str, ...]:
    parts = word_list(text)
    if not parts or not set(parts) <= set(PARTS):
        raise ValueError(f"a list of parts; there are {', '.join(PARTS)}")
    return tuple(dict.fromkeys(parts))


def tags(text: str) -> frozenset[str]:
    return frozenset(word_list(text))


def users(text: str) -> frozenset[str]:
    users = tags(text)
    if any(user.lower().startswith(TOKEN_ACTOR) for user in users):
        raise ValueError(f"a list of users; no user is {TOKEN_ACTOR}NAME, and tokens have roles")
    return users


def arguments(text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise ValueError("a command line: a quote is not closed") from error


def argv(text: str) -> tuple[str, ...]:
    argv = arguments(text)
    if not argv:
        raise ValueError("a command line; give the program and its arguments")
    for argument in argv:
        for name in re.findall(r"\{([\w.-]+)\}", argument):
            if name not in ("input", "output") and not name.startswith("parameter."):
                raise ValueError("known: use {input}, {output} or {parameter.NAME}")
    return argv


def patterns(text: str) -> tuple[str, ...]:
    patterns = arguments(text)
    if not patterns:
        raise ValueError("a list of patterns such as *.mp4 *.mov; * means all files")
    return patterns


def sidecars(text: str) -> Mapping[str, str]:
    pairs = [word.partition(":")[::2] for word in word_list(text)]
    if not all(re.fullmatch(r"[A-Za-z0-9]+", ending) and role for ending, role in pairs):
        raise ValueError("a list of endings with their roles, such as srt:subtitles xml:metadata")
    return {ending.lower(): word(role) for ending, role in pairs}


def after(text: str) -> str:
    place = text.removeprefix("move:")
    if text == LEAVE or (place != text and _is_below(place)):
        return place
    raise ValueError("leave, or move:FOLDER with a folder beneath the watched one")


def _is_below(place: str) -> bool:
    parts = Path(place).parts
    return bool(parts) and parts[0] != "/" and ".." not in parts


def path(text: str) -> Path:
    return Path(required(text))


def path_or_none(text: str) -> Path | None:
    return Path(text) if text else None


def paths(text: str) -> tuple[Path, ...]:
    return tuple(Path(p.strip()) for p in re.split(r"[:\n]", text) if p.strip())


def whole(low: int, high: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,18}", text) or not low <= int(text) <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return int(text)

    return convert


def number(low: float, high: float) -> Callable[[str], float]:
    def convert(text: str) -> float:
        if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) or not low <= float(text) <= high:
            raise ValueError(f"a number from {low:g} to {high:g}")
        return float(text)

    return convert


def seconds(low: float, high: float = math.inf) -> Callable[[str], float]:
    def convert(text: str) -> float:
        value = units.parse_duration(text)
        if not low <= value <= high:
            most = "" if high == math.inf else f" and at most {high:g}s"
            raise ValueError(f"at least {low:g}s{most}")
        return value

    return convert


def age(text: str) -> timedelta:
    return timedelta(seconds=seconds(0, _CENTURY)(text))


def size(low: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        value = units.parse_size(text)
        if value < low:
            raise ValueError(f"at least {low} bytes")
        return value

    return convert


def floor(text: str) -> Floor:
    if match := re.fullmatch(r"([0-9]{1,2}(?:\.[0-9]+)?)\s*%", text):
        return Floor(float(match[1]) / 100, 0)
    try:
        return Floor(0.0, units.parse_size(text))
    except ValueError:
        raise ValueError("a share such as 5% or a size such as 20G") from None


def area(text: str) -> int:
    match = re.fullmatch(r"([1-9][0-9]{0,5})x([1-9][0-9]{0,5})", text)
    if not match:
        raise ValueError("a picture size such as 8192x4320")
    return int(match[1]) * int(match[2])


def choice(*values: str) -> Callable[[str], str]:
    def convert(text: str) -> str:
        if text not in values:
            raise ValueError(f"one of {', '.join(values)}")
        return text

    return convert


def database_uri(text: str) -> str:
    if re.fullmatch(r"sqlite:[^:?][^?]*", text):
        return text
    try:
        parts = urlsplit(text)
        usable = parts.scheme in _MYSQL and parts.hostname and len(parts.path) > 1
        if parts.scheme != REPLICATED:  # which names several servers
            _ = parts.port  # raises ValueError when it is no number
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(
            "sqlite:PATH or mysql://USER:PASSWORD@HOST/DATABASE, or mysql-replicated://…"
        )
    return text


def url(text: str) -> str:
    if text and not re.match(r"[a-z][a-z0-9+.-]*://", text):
        raise ValueError("a URL such as https://media.example.org/")
    return text


def web_url(text: str) -> str:
    if text and not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", text):
        raise ValueError("a URL such as https://media.example.org or https://example.org/media")
    return text.rstrip("/")


def dsn(text: str) -> str:
    if text and not re.fullmatch(r"https?://[^\s@/]+@[^\s/@]+/\S+", text):
        raise ValueError("a DSN such as https://KEY@sentry.example.org/1")
    return text


def listen(text: str) -> Path | tuple[str, int]:
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


def server(text: str) -> tuple[str, int]:
    if (found := _host_and_port(text)) is None:
        raise ValueError("HOST:PORT, such as localhost:25 or mail.example.org:587")
    return found


def receiver(text: str) -> str:
    if text and not webhook_keys.is_url(text):
        raise ValueError("a URL such as https://chat.example.org/hooks/KEY")
    return text


def mail_addresses(text: str) -> tuple[str, ...]:
    words = word_list(text)
    if not all(re.fullmatch(r"[^@<>\"]+@[^@<>\"]+", word) and word.isprintable() for word in words):
        raise ValueError("a list of addresses such as ops@example.org")
    return words


def mail_address(text: str) -> str:
    if len(words := mail_addresses(text)) > 1:
        raise ValueError("one address; there are several")
    return words[0] if words else ""


def alert_kinds(text: str) -> tuple[str, ...]:
    kinds = word_list(text)
    if not kinds or not set(kinds) <= set(ALERT_KINDS):
        raise ValueError(f"a list of what to tell; there are {', '.join(ALERT_KINDS)}")
    return tuple(dict.fromkeys(kinds))


def networks(text: str) -> tuple[str, ...]:
    for word in (words := word_list(text)):
        try:
            if word != "unix":
                ipaddress.ip_network(word)
        except ValueError:
            raise ValueError(
                "a list of addresses and networks such as 127.0.0.1 or 10.0.0.0/8; or unix"
            ) from None
    return words


def hosts(text: str) -> tuple[str, ...]:
    words = word_list(text.lower())
    if not all(re.fullmatch(r"[a-z0-9.-]+|\[[0-9a-f:.]+\]", word) for word in words):
        raise ValueError("a list of names such as media.example.org, without port and path")
    return words


def header(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9]+(-[A-Za-z0-9]+)*", text):
        raise ValueError("a header's name of letters, digits and '-'")
    return text


def yes_or_no(text: str) -> bool:
    return choice("yes", "no")(text) == "yes"


def publisher(text: str) -> str:
    folder = Path(__file__).parent.parent / "publishers"
    types = {m.name for m in pkgutil.iter_modules([str(folder)])}
    if text not in types:
        raise ValueError(f"a type of target; there are {', '.join(sorted(types))}")
    return text


def cron(text: str) -> str:
    try:
        next(CronSim(text, datetime.now(UTC)))
    except CronSimError as error:
        raise ValueError("a cron expression such as '30 2 * * *' (in UTC)") from error
    except StopIteration:
        raise ValueError("a cron expression that ever comes true") from None
    return text
