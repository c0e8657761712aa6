"""Log lines of the service's own processes: plain, or JSON a line.

A line is an action's name with the ids it concerns, so that logs of many hosts
can be searched for one job: ``task.started task=7 attempt=1 worker=3``.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from backoffice.config import LogSettings

# Its lines are whole already, in a form that other programs read.
ACCESS = "backoffice.access"


def setup(settings: LogSettings) -> None:
    """Send the root logger to stderr in the configured format and level."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if settings.format == "json" else _Plain())
    logging.basicConfig(level=settings.level.upper(), handlers=[handler], force=True)


def line(action: str, **ids: object) -> str:
    """``action key=value …``; text with blanks in quotes."""
    return " ".join([action, *(f"{key}={_value(value)}" for key, value in ids.items())])


def _value(value: object) -> str:
    text = str(value)
    return text if text and text.isprintable() and " " not in text else json.dumps(text)


class _Plain(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        if record.name == ACCESS:
            return record.getMessage()
        time = _time(record)
        text = super().format(record)
        return f"{time} {record.levelname.lower()} {record.name} {text}"


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        if record.name == ACCESS:
            return record.getMessage()
        entry = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
