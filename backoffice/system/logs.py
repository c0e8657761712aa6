"""Logging of the service's processes: format of lines, and where they go.

A line is an action's name with the ids it concerns, so that the logs of many hosts
can be searched for one job: ``task.started task=7 job=3 attempt=1 worker=3``. If the
disk, the stream or the syslog fails, logging neither blocks nor raises. The logs of
attempts belong to ``workers.executors``.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import socket
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from backoffice.config.redaction import masked
from backoffice.config.settings import LogSettings
from backoffice.errors import ConfigError
from backoffice.system import error_reports
from middleware.request_id import current as current_request

# Its lines are complete already, in a format that other programs read.
ACCESS = "backoffice.access"
ACCESS_FILE, ERROR_FILE = "access.log", "error.log"
SYSLOG = "/dev/log"
_DATAGRAM = 60_000  # bytes; a little less than the kernel takes

_log = logging.getLogger("backoffice.logs")
_unprintable = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]").sub


_in_use: tuple[LogSettings, list[logging.Handler]] | None = None


def setup(settings: LogSettings) -> None:
    """Log as the settings say from now on. Raises ConfigError, and changes nothing, if
    that is not possible."""
    global _in_use
    root = logging.getLogger()
    if _in_use == (settings, root.handlers):
        return
    reporters = [error_reports.Reporter(settings.sentry)] if settings.sentry else []
    handlers = [*_handlers(settings), *reporters]
    level = getattr(logging, settings.level.upper())
    for name in ("backoffice", "middleware"):
        logging.getLogger(name).setLevel(level)
    logging.getLogger(ACCESS).setLevel(logging.INFO)
    # Libraries log private data, such as the URLs of webhooks.
    root.setLevel(max(level, logging.WARNING))
    former, root.handlers = root.handlers, handlers
    _in_use = settings, handlers
    for handler in former:
        handler.close()
    threading.excepthook = _thread_fault
    logging.raiseExceptions = False


def reopen() -> None:
    """Open the log files again by their names. Safe in a signal handler."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _File):
            handler.reopen()


def start_anew() -> None:
    """Call it in a forked process that has replaced its parent's descriptors."""
    reopen()
    for handler in logging.getLogger().handlers:
        if isinstance(handler, error_reports.Reporter):
            handler.connect()


def flush() -> None:
    """Call it before os._exit; takes error_reports.FLUSH_WITHIN at most."""
    for handler in logging.getLogger().handlers:
        handler.flush()


class Line(str):
    """The text of a line, with its ids as values."""

    ids: Mapping[str, object]


def line(action: str, **ids: object) -> Line:
    """``action key=value …``; a value with blanks is quoted."""
    text = Line(" ".join([action, *(f"{key}={_value(value)}" for key, value in ids.items())]))
    text.ids = ids
    return text


def _value(value: object) -> str:
    text = str(value)
    return text if text and text.isprintable() and " " not in text else json.dumps(text)


def _thread_fault(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and args.exc_type is not SystemExit:
        name = args.thread.name if args.thread else "?"
        _log.error(line("thread.ended", thread=name), exc_info=args.exc_value)


# How lines look -------------------------------------------------------------


class _Plain(logging.Formatter):
    """A record begins at the left edge with its time. Further lines of it are indented,
    so that no text of a user looks like a record."""

    def format(self, record: logging.LogRecord) -> str:
        if record.name == ACCESS:
            return record.getMessage()
        text = f"{self.head(record)}{record.name} {_whole(record)}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return _unprintable(_escaped, masked(text)).replace("\n", "\n  ")

    def head(self, record: logging.LogRecord) -> str:
        return f"{_time(record)} {record.levelname.lower()} "


class _Short(_Plain):
    """For syslog, which adds time and severity."""

    def head(self, record: logging.LogRecord) -> str:
        return ""


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        if record.name == ACCESS:
            return record.getMessage()
        entry = _ids(record) | {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": masked(_message(record)),
        }
        if record.exc_info:
            entry["traceback"] = masked(self.formatException(record.exc_info))
        return json.dumps(entry, ensure_ascii=False)


def _message(record: logging.LogRecord) -> str:
    """If the arguments do not fit the message, the message is logged without them."""
    try:
        return record.getMessage()
    except Exception:
        return str(record.msg)


def _whole(record: logging.LogRecord) -> str:
    """The message, with the id of its request unless it contains that."""
    text, request = _message(record), _request(record)
    return text if request in text else f"{text} request={request}"


def _ids(record: logging.LogRecord) -> dict[str, object]:
    request = _request(record)
    found: dict[str, object] = {"request": request} if request else {}
    for name, value in getattr(record.msg, "ids", {}).items():
        found[name] = value if isinstance(value, int | float) else masked(str(value))
    return found


def _request(record: logging.LogRecord) -> str:
    """Lines about the log itself do not belong to the request that met the fault."""
    return "" if record.name == _log.name else current_request.get()


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


# Where lines go -------------------------------------------------------------


def _handlers(settings: LogSettings) -> list[logging.Handler]:
    formatter = _Json() if settings.format == "json" else _Plain()
    if settings.to == "files":
        return _files(settings.folder, formatter)
    if settings.to == "syslog":
        return [_Syslog(formatter, _Json() if settings.format == "json" else _Short())]
    return [_Stream(settings.to, formatter)]


def _files(folder: Path, formatter: logging.Formatter) -> list[logging.Handler]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        errors = _File(folder / ERROR_FILE, formatter)
        access = _File(folder / ACCESS_FILE, formatter)
    except OSError as error:
        message = (
            f"cannot be written: {error.strerror} ({error.filename}); change its owner or mode"
        )
        raise ConfigError(message, source="settings", section="log", key="folder") from error
    errors.addFilter(lambda record: record.name != ACCESS)
    access.addFilter(lambda record: record.name == ACCESS)
    access.reports_to = errors
    return [errors, access]


class _Lines(logging.Handler):
    """Writes each record with one call, so that lines of several processes never mix.
    Lines that cannot be written are counted; their number is logged when writing works
    again."""

    def __init__(self, where: str, formatter: logging.Formatter) -> None:
        super().__init__()
        self.where = where
        self.setFormatter(formatter)
        self.reports_to: _Lines = self
        self._lost = 0
        self._torn = False  # the last line has no end yet

    def descriptor(self) -> int:
        raise NotImplementedError

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.write(self.format(record))
        except OSError as error:
            self._lose(error)
            return
        if self._lost:
            self._log_lost()

    def write(self, text: str) -> None:
        data = f"{text}\n".encode(errors="backslashreplace")
        if self._torn:
            data = b"\n" + data
        while data:
            data = data[os.write(self.descriptor(), data) :]
            self._torn = bool(data)

    def _lose(self, error: OSError) -> None:
        self._lost += 1
        if self._lost == 1:
            _complain(f"the log {self.where} takes no lines: {error.strerror}")

    def _log_lost(self) -> None:
        text = line("log.lines-lost", log=self.where, count=self._lost)
        record = _log.makeRecord(_log.name, logging.ERROR, __file__, 0, text, (), None)
        with suppress(OSError):  # try again with the next line
            self.reports_to.write(self.reports_to.format(record))
            self._lost = 0


class _Stream(_Lines):
    """stdout or stderr, by their descriptors, except where a server such as mod_wsgi has
    replaced the stream. If they were closed when the program started, another file may
    have the descriptor: then nothing is written."""

    def __init__(self, name: str, formatter: logging.Formatter) -> None:
        super().__init__(name, formatter)
        self._number = _number(name)

    def descriptor(self) -> int:
        return self._number

    def write(self, text: str) -> None:
        stream = getattr(sys, self.where)
        if stream is None or stream is getattr(sys, f"__{self.where}__"):
            super().write(text)
            return
        try:
            stream.write(f"{text}\n")
            stream.flush()
        except ValueError as error:
            raise OSError(errno.EBADF, str(error)) from error


def _number(name: str) -> int:
    return {"stdout": 1, "stderr": 2}[name] if getattr(sys, f"__{name}__") else -1


class _File(_Lines):
    """Checks before each line whether the name still leads to the open file, so that log
    rotation needs no signal."""

    def __init__(self, path: Path, formatter: logging.Formatter) -> None:
        super().__init__(str(path), formatter)
        self._number = _open(self.where)
        self._id = _identity(os.fstat(self._number))

    def descriptor(self) -> int:
        try:
            same = _identity(os.stat(self.where)) == self._id
        except FileNotFoundError:
            same = False
        if not same:
            self._replace()
        return self._number

    def reopen(self) -> None:
        try:
            self._replace()
        except OSError as error:
            _complain(f"the log {self.where} cannot be opened anew: {error.strerror}")

    def _replace(self) -> None:
        """The descriptor stays open: a concurrent write goes to the old file or to the new
        one."""
        fresh = _open(self.where)
        os.dup2(fresh, self._number, inheritable=False)
        self._id = _identity(os.fstat(fresh))
        os.close(fresh)

    def close(self) -> None:
        self.acquire()
        if self._number >= 0:
            os.close(self._number)
        self._number = -1
        self.release()
        super().close()


def _open(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


class _Syslog(logging.Handler):
    """Sends each record as a datagram to the host's syslog; writes to stderr while there is
    none, or while it does not read."""

    _DAEMON = 3 << 3
    _SEVERITY = (
        (logging.CRITICAL, 2),
        (logging.ERROR, 3),
        (logging.WARNING, 4),
        (logging.INFO, 6),
        (logging.DEBUG, 7),
    )

    def __init__(self, formatter: logging.Formatter, short: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(short)
        self._instead = _Stream("stderr", formatter)
        self._away = False
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._send(self._datagram(record))
            self._away = False
        except OSError as error:
            if not self._away:
                _complain(f"no syslog at {SYSLOG} ({error.strerror}): logging to stderr instead")
            self._away = True
            self._instead.handle(record)

    def _datagram(self, record: logging.LogRecord) -> bytes:
        severity = next((s for level, s in self._SEVERITY if record.levelno >= level), 7)
        tag = "backoffice-access" if record.name == ACCESS else "backoffice"
        text = f"<{self._DAEMON | severity}>{tag}[{os.getpid()}]: {self.format(record)}"
        return text.encode(errors="backslashreplace")[:_DATAGRAM]

    def _send(self, data: bytes) -> None:
        try:
            self._socket.send(data)
        except BlockingIOError:
            raise
        except OSError:  # not connected yet, or syslog was restarted
            self._connect()
            self._socket.send(data)

    def _connect(self) -> None:
        self._socket.close()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.connect(SYSLOG)

    def close(self) -> None:
        self._socket.close()
        super().close()


def _complain(text: str) -> None:
    """Write to stderr: the log itself has failed."""
    with suppress(OSError):
        _Stream("stderr", _Plain()).write(f"backoffice: {text}")
