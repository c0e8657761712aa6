"""Records as people read them on a terminal: aligned tables and plain lines.

Nothing that others wrote reaches the terminal raw: control characters are
shown as escapes. Times are UTC.
"""

from __future__ import annotations

import shlex
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from backoffice import units
from backoffice.documents import shapes

Record = Mapping[str, Any]
Column = tuple[str, Callable[[Record], object]]

_LONGEST = 1000  # characters of one cell


def clean(text: str) -> str:
    """``text`` without anything that could drive a terminal or forge a line."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def cell(value: object) -> str:
    """A value in a table or after a label."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, list | tuple | set | frozenset):
        return " ".join(cell(one) for one in value)
    return clean(str(value)[:_LONGEST])


def width_of(text: str) -> int:
    """How many columns it takes: some characters take two, some none."""
    return sum(_columns(character) for character in text)


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut(text: str, width: int) -> str:
    if width_of(text) <= width:
        return text
    kept, room = "", max(0, width - 1)
    for character in text:
        room -= _columns(character)
        if room < 0:
            break
        kept += character
    return kept + "…"


def table(columns: Sequence[Column], records: Iterable[Record], width: int | None) -> list[str]:
    """A line for the headings and one for each record, cut to ``width``; None
    cuts nothing. Nothing at all for no records."""
    rows = [[cell(value(record)) for _, value in columns] for record in records]
    if not rows:
        return []
    rows.insert(0, [heading for heading, _ in columns])
    widths = [max(width_of(row[n]) for row in rows) for n in range(len(columns))]
    return [_line(row, widths, width) for row in rows]


def _line(row: Sequence[str], widths: Sequence[int], width: int | None) -> str:
    padded = [text + " " * (room - width_of(text)) for text, room in zip(row, widths, strict=True)]
    line = "  ".join(padded).rstrip()
    return line if width is None else cut(line, width)


def _of(name: str) -> Callable[[Record], object]:
    return lambda record: record.get(name)


def _plain(*names: str) -> list[Column]:
    return [(name.upper(), _of(name)) for name in names]


def _shown(words: Callable[[float], str], name: str) -> Callable[[Record], str]:
    return lambda record: "" if record[name] is None else words(record[name])


_PROGRESS: Column = ("DONE", lambda r: f"{r['progress']:.0f} %")

TABLES: Mapping[str, Sequence[Column]] = {
    "jobs": [
        *_plain("id", "state"),
        _PROGRESS,
        *_plain("workflow", "priority", "submitter"),
        *_plain("submitted", "title"),
    ],
    "tasks": [
        *_plain("id", "job", "name", "state"),
        _PROGRESS,
        *_plain("queue", "host"),
        ("SPEED", lambda r: r["speed"]),
        ("LEFT", _shown(units.duration, "eta")),
        *_plain("message"),
    ],
    "attempts": [
        *_plain("number", "state", "host", "started"),
        ("TOOK", _shown(units.duration, "wall_seconds")),
        ("CPU", lambda r: "" if r["cpu_seconds"] is None else f"{r['cpu_seconds']:.1f} s"),
        ("MEMORY", _shown(units.size, "peak_memory")),
        *_plain("message"),
    ],
    "files": [
        *_plain("id", "state", "job", "role"),
        ("SIZE", _shown(units.size, "size")),
        *_plain("media_type", "href"),
    ],
    "workers": [
        *_plain("id", "name", "state"),
        ("RUNS", lambda r: f"{len(r['running'])} of {r['slots']}"),
        *_plain("queues", "tags", "heartbeat", "version"),
    ],
    "queues": [
        *_plain("name"),
        ("STATE", lambda r: "paused" if r["paused"] else "open"),
        *_plain("limit", "ready", "running"),
        ("OLDEST", _shown(units.duration, "oldest")),
    ],
    "events": _plain("id", "at", "actor", "action", "subject", "detail"),
    "publications": _plain("id", "state", "target", "job", "published", "href"),
    "tokens": _plain(
        "id", "name", "role", "state", "created_by", "created", "expires", "last_used"
    ),
    "schedules": _plain("name", "cron", "next_run", "last_run", "last_job", "message"),
    "outputs": [
        *_plain("file", "task", "role"),
        ("SIZE", _shown(units.size, "size")),
        *_plain("href"),
    ],
}


def show(kind: str, record: Any, width: int | None) -> list[str]:
    """The lines for a record or a list of them; ``kind`` as in ``web.documents``."""
    if kind in TABLES:
        lines = table(TABLES[kind], record, width)
        return lines + _commands(record) if kind == "attempts" else lines
    if kind == "why":
        return [clean(reason) for reason in record["reasons"]]
    told = shapes.SHAPES[kind].names()  # what a document tells, and no more
    lines = _labelled({name: record[name] for name in record if name in told})
    if kind == "job":
        for part in _PARTS:
            rows = table(TABLES[part], record[part], width)
            lines += ["", *rows] if rows else []
    return lines


_PARTS = ("tasks", "outputs", "publications")


def _labelled(record: Record) -> list[str]:
    """``name: value`` a line, without what is empty."""
    lines = []
    for name, value in record.items():
        if name in _PARTS or value in (None, "", [], {}):
            continue
        if isinstance(value, Mapping):
            lines += [f"{name}: {cell(k)} = {cell(v)}" for k, v in value.items()]
        elif name == "inputs":
            lines += [f"input: {cell(one['role'])} {cell(one['href'])}" for one in value]
        else:
            lines.append(f"{name}: {cell(value)}")
    return lines


def _commands(attempts: Sequence[Record]) -> list[str]:
    """Ready to be pasted into a shell."""
    lines = []
    for attempt in attempts:
        lines += [f"{attempt['number']} $ {clean(shlex.join(argv))}" for argv in attempt["argv"]]
    return lines
