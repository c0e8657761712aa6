"""One line in a log for each request, when its response has ended.

``application = AccessLog(application, logging.getLogger("access"))``

Logs at INFO; the logger's handlers and their format are the application's, and
``%(message)s`` is all they need. What a client sent is escaped, so that it
cannot forge a line or a field. Exceptions go through; ErrorHandler logs them.
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
from middleware.held import close
from middleware.problem import instance_of

_unsafe = re.compile(r"[^\x20!\x23-\x5b\x5d-\x7e]").sub
_unsafe_word = re.compile(r"[^!\x23-\x5b\x5d-\x7e]").sub
_MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()


class AccessLog:
    """``format`` is "combined" or "json".

    "combined" is Apache's format of that name, in UTC, followed by the seconds
    it took and the request's id. The status is 500 when the app raised before
    it had started its response.
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
    """The app's response; counts what the server took of it."""

    def __init__(
        self, owner: AccessLog, environ: WSGIEnvironment, start_response: StartResponse
    ) -> None:
        self._owner = owner
        self._environ = environ
        self._start_response = start_response
        self._begun = owner.clock()
        self._status = "500"
        self._sent = 0
        self._logged = False
        try:
            self._result = owner.app(environ, self._start)
        except BaseException:
            self._log()
            raise

    def _start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        write = self._start_response(status, headers, exc_info)
        self._status = status[:3]

        def counting(data: bytes) -> object:
            done = write(data)
            self._sent += len(data)
            return done

        return counting

    def __iter__(self) -> Iterator[bytes]:
        try:
            for chunk in self._result:
                yield chunk
                # The server asks for more when it has sent this.
                self._sent += len(chunk)
        except Exception:
            if not self._sent:
                self._status = "500"
            raise

    def close(self) -> None:
        try:
            close(self._result)
        finally:
            self._log()

    def _log(self) -> None:
        if not self._logged:
            self._logged = True
            owner = self._owner
            seconds = owner.clock() - self._begun
            owner.log(self._environ, self._status, self._sent, seconds)


def _user(environ: WSGIEnvironment) -> str:
    """Who it was, if anybody said so."""
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
    """As Apache writes it; strftime would follow the locale."""
    t = time.gmtime(second)
    return (
        f"{t.tm_mday:02}/{_MONTHS[t.tm_mon - 1]}/{t.tm_year}"
        f":{t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02} +0000"
    )


def _safe(value: Any) -> str:
    """What may stand between quotes; - for nothing."""
    return _unsafe(_escaped, value) if value else "-"


def _word(value: Any) -> str:
    """What may stand between spaces; - for nothing."""
    return _unsafe_word(_escaped, value) if value else "-"


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode() if match[0] not in '" ' else _ASCII[match[0]]


_ASCII = {'"': r"\x22", " ": r"\x20"}
_WRITERS = {"combined": _combined, "json": _json}

filter_factory = paste.factory(AccessLog, logger=getLogger, format=paste.choice("combined", "json"))
