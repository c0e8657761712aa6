"""Health checks: liveness and readiness, for load balancers and supervisors.

``application = Health(application, checks=reasons)``

/health/live is 200 while the process answers. /health/ready is 200, or 503 with
the reasons that ``checks`` returns.
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

CHECK_TIMEOUT = 5  # seconds after which unfinished checks make this not ready

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
    """``checks`` returns the reasons why this is not ready; none if it is.

    Its result is cached for a second. An exception is logged and counts as a
    reason. While one request runs the checks, others get the last result, for up
    to ``CHECK_TIMEOUT``. ``clock`` returns seconds.
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
        self._started = self._fresh_until = float("-inf")
        self._reasons: Sequence[str] = ("the first checks are still running",)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        endpoint = self._paths.get(environ.get("PATH_INFO", ""))
        if endpoint is None:
            return self.app(environ, start_response)
        path, suffix, ready = endpoint
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
        if now < self._fresh_until:
            return self._reasons
        # A check that hangs must not block every thread.
        if not self._lock.acquire(blocking=False):
            waited = now - self._started
            late = (f"the checks have not answered for {waited:.0f} s",)
            return late if waited > CHECK_TIMEOUT else self._reasons
        try:
            self._started = now
            self._reasons = self._run_checks()
            self._fresh_until = self.clock() + 1
        finally:
            self._lock.release()
        return self._reasons

    def _run_checks(self) -> Sequence[str]:
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
