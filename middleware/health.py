"""Is the process up, and can it work: for load balancers and supervisors.

``application = Health(application, checks=reasons)``

/health/live is 200 as long as it answers at all. /health/ready is 200, or 503
with the reasons. It measures nothing itself: ``checks`` does.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from threading import Lock
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from webob.acceptparse import create_accept_header

from middleware import paste
from middleware.problem import Problem

PATIENCE = 5  # seconds in which the checks should have answered

_log = logging.getLogger(__name__)
_DOCUMENTS = {
    "text": ("text/plain; charset=utf-8", b"ok\n"),
    "json": ("application/json", b'{"status": "ok"}\n'),
    "xml": ("application/xml", b'<?xml version="1.0" encoding="UTF-8"?>\n<health>ok</health>\n'),
}
_OFFERS = {
    "text/plain": "text",
    "application/json": "json",
    "application/xml": "xml",
    "text/xml": "xml",
}


class Health:
    """``checks`` returns the reasons why this is not ready, none if it is.

    What it returned counts for a second; if it raises, that is a reason, and
    goes to the log. While one request waits for it, others get what it said
    last, for ``PATIENCE``. ``clock`` tells seconds.
    """

    def __init__(
        self,
        app: WSGIApplication,
        *,
        checks: Callable[[], Sequence[str]],
        live: str = "/health/live",
        ready: str = "/health/ready",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.app = app
        self.checks = checks
        self.clock = clock
        self._paths = {
            path + suffix: (path, suffix[1:], path == ready)
            for path in (live, ready)
            for suffix in ("", ".xml", ".json")
        }
        self._lock = Lock()
        self._asked = self._until = float("-inf")
        self._reasons: Sequence[str] = ("the first checks are still running",)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        found = self._paths.get(environ.get("PATH_INFO", ""))
        if found is None:
            return self.app(environ, start_response)
        path, suffix, ready = found
        environ["middleware.route"] = path
        if suffix:
            environ["middleware.format"] = suffix
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            headers = [("Allow", "GET, HEAD")]
            return Problem(405, "read it with GET", headers=headers)(environ, start_response)
        reasons = self._checked() if ready else ()
        return (_unready(reasons) if reasons else _ok)(environ, start_response)

    def _checked(self) -> Sequence[str]:
        now = self.clock()
        if now < self._until:
            return self._reasons
        # A check that hangs must not take all threads with it.
        if not self._lock.acquire(blocking=False):
            waited = now - self._asked
            late = (f"the checks have not answered for {waited:.0f} s",)
            return late if waited > PATIENCE else self._reasons
        try:
            self._asked = now
            self._reasons = self._ask()
            self._until = self.clock() + 1
        finally:
            self._lock.release()
        return self._reasons

    def _ask(self) -> Sequence[str]:
        try:
            return tuple(self.checks())
        except Exception as error:
            _log.exception("the checks of readiness failed")
            return (f"the checks failed: {type(error).__name__}",)


def _ok(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    media_type, body = _DOCUMENTS[_format(environ)]
    headers = [
        ("Content-Type", media_type),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
    ]
    start_response("200 OK", headers)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


def _unready(reasons: Sequence[str]) -> Problem:
    faults = [{"message": reason} for reason in reasons]
    return Problem(503, "; ".join(reasons), errors=faults, headers=[("Retry-After", "5")])


def _format(environ: WSGIEnvironment) -> str:
    chosen = environ.get("middleware.format")
    if chosen in _DOCUMENTS:
        return str(chosen)
    accept = create_accept_header(environ.get("HTTP_ACCEPT"))
    best = accept.acceptable_offers(list(_OFFERS))
    return _OFFERS[best[0][0]] if best else "text"


filter_factory = paste.factory(Health, checks=paste.thing, live=paste.text, ready=paste.text)
