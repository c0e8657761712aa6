"""Access log: one line per request, in Apache's format or JSON.

``application = AccessLog(application, logging.getLogger("access"))``

Logs at INFO when the response has ended; the format of the logger's handlers
should be ``%(message)s``. Data of the client are escaped, so that they cannot
forge a line or a field. Exceptions pass; ErrorHandler logs them.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from logging import INFO, Logger, getLogger
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from middleware import paste
from middleware.buffering import close
from middleware.problem import instance_of

_unsafe = re.compile(r"[^\x20!\x23-\x5b\x5d-\x7e]").sub
_unsafe_word = re.compile(r"[^!\x23-\x5b\x5d-\x7e]").sub
_MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()


class AccessLog:
    """``format`` is "combined" or "json".

    "combined" is Apache's format of that name, in UTC, followed by the duration
    in seconds and the request's id. The status is 500 if the app raised before it
    started its response.
    """

    def __init__(
        self,
        app: WSGIApplication,
        logger: Logger,
        format: str = "combined",
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        if format not in _WRITERS:
            raise ValueError(f"format: {format!r} is not one of {', '.join(_WRITERS)}")
        self.app = app
        self.logger = logger
        self.clock = clock
        self.now = now
        self._write = _WRITERS[format]

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if not self.logger.isEnabledFor(INFO):
            return self.app(environ, start_response)
        return _Response(self, environ, start_response)

    def log(self, environ: WSGIEnvironment, status: str, sent: int, seconds: float) -> None:
        self.logger.info(self._write(environ, self.now(), status, sent, seconds))


class _Response:
    """The app's response; counts the bytes that the server took."""

    def __init__(
        self, access_log: AccessLog, environ: WSGIEnvironment, start_response: StartResponse
    ) -> None:
        self._access_log = access_log
        self._environ = environ
        self._start_response = start_response
        self._started = access_log.clock()
        self._status = "500"
        self._sent = 0
        self._logged = False
        try:
            self._body = access_log.app(environ, self._start)
        except BaseException:
            self._log()
            raise

    def _start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        write = self._start_response(status, headers, exc_info)
        self._status = status[:3]

        def write_and_count(data: bytes) -> object:
            result = write(data)
            self._sent += len(data)
            return result

        return write_and_count

    def __iter__(self) -> Iterator[bytes]:
        try:
            for piece in self._body:
                yield piece
                # The server asks for the next piece after it has sent this one.
                self._sent += len(piece)
        except Exception:
            if not self._sent:
                self._status = "500"
            raise

    def close(self) -> None:
        try:
            close(self._body)
        finally:
            self._log()

    def _log(self) -> None:
        if not self._logged:
            self._logged = True
            access_log = self._access_log
            seconds = access_log.clock() - self._started
            access_log.log(self._environ, self._status, self._sent, seconds)


def _user(environ: WSGIEnvironment) -> str:
    """The user's name; empty if unknown."""
    user = environ.get("REMOTE_USER")
    if not user:
        user = getattr(environ.get("middleware.identity"), "name", "")
    return str(user)


def _combined(environ: WSGIEnvironment, now: float, status: str, sent: int, seconds: float) -> str:
    get = environ.get
    query = get("QUERY_STRING")
    target = f"{instance_of(environ)}?{query}" if query else instance_of(environ)
    request = f"{environ['REQUEST_METHOD']} {target} {get('SERVER_PROTOCOL', '-')}"
    return (
        f"{_word(get('REMOTE_ADDR'))} - {_word(_user(environ))} [{_clf_time(int(now))}]"
        f' "{_safe(request)}" {status} {sent}'
        f' "{_safe(get("HTTP_REFERER"))}" "{_safe(get("HTTP_USER_AGENT"))}"'
        f" {seconds:.6f} {_word(get('middleware.request_id'))}"
    )


def _json(environ: WSGIEnvironment, now: float, status: str, sent: int, seconds: float) -> str:
    get = environ.get
    moment = datetime.fromtimestamp(now, UTC).replace(tzinfo=None)
    return json.dumps(
        {
            "time": moment.isoformat(timespec="milliseconds") + "Z",
            "remote": get("REMOTE_ADDR", ""),
            "user": _user(environ),
            "method": environ["REQUEST_METHOD"],
            "path": instance_of(environ),
            "query": get("QUERY_STRING", ""),
            "protocol": get("SERVER_PROTOCOL", ""),
            "status": int(status),
            "bytes": sent,
            "seconds": round(seconds, 6),
            "request_id": get("middleware.request_id", ""),
            "referer": get("HTTP_REFERER", ""),
            "agent": get("HTTP_USER_AGENT", ""),
        }
    )


@lru_cache(maxsize=4)
def _clf_time(second: int) -> str:
    """A time as Apache writes it. strftime would use the locale's month names."""
    t = time.gmtime(second)
    return (
        f"{t.tm_mday:02}/{_MONTHS[t.tm_mon - 1]}/{t.tm_year}"
        f":{t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02} +0000"
    )


def _safe(value: Any) -> str:
    """A value to put between quotes; "-" for an empty one."""
    return _unsafe(_escaped, value) if value else "-"


def _word(value: Any) -> str:
    """A value to put between spaces; "-" for an empty one."""
    return _unsafe_word(_escaped, value) if value else "-"


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode() if match[0] not in '" ' else _ASCII[match[0]]


_ASCII = {'"': r"\x22", " ": r"\x20"}
_WRITERS = {"combined": _combined, "json": _json}

filter_factory = paste.factory(AccessLog, logger=getLogger, format=paste.choice("combined", "json"))
