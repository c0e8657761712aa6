"""Limit of concurrent long responses: 503 Service Unavailable.

``application = StreamLimit(application, most=4)``

A long response keeps a server's thread until the client has read it. This keeps
threads free: at most ``most`` responses longer than ``small`` bytes run at once,
and one less for a single client. A response without Content-Length is read that
far before it starts.

The server limits how slowly a client may read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from threading import Lock
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from middleware import paste
from middleware.buffering import BufferedStart, PrefetchedBody, close, prefetch, read_ahead
from middleware.problem import Problem
from middleware.rate_limit import client


class StreamLimit:
    """``key`` returns a client's name; it is called after the app, which may set the user."""

    def __init__(
        self,
        app: WSGIApplication,
        *,
        most: int,
        small: int = 256 << 10,
        key: Callable[[WSGIEnvironment], str] = client,
    ) -> None:
        if most < 1:
            raise ValueError("most: is less than 1; no long response would ever be sent")
        self.app = app
        self.most = most
        self.small = small
        self.key = key
        self._each = max(1, most - 1)
        self._running: Counter[str] = Counter()
        self._lock = Lock()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start = BufferedStart(start_response)
        body = self.app(environ, start)
        if not start.status:
            body = prefetch(body)
        if start.sent:
            return body
        try:
            long, body = self._measured(environ, start, body)
            key = self.key(environ)
            if long and not self._acquire(key):
                close(body)
                return _problem()(environ, start_response)
            start.send()
        except BaseException:
            with suppress(Exception):  # report the first failure
                close(body)
            raise
        return self._counted(body, key) if long else body

    def _measured(
        self, environ: WSGIEnvironment, start: BufferedStart, body: Iterable[bytes]
    ) -> tuple[bool, Iterable[bytes]]:
        """Whether the body is long, and a body that still gives all of it."""
        if isinstance(body, list | tuple) or environ["REQUEST_METHOD"] == "HEAD":
            return False, body
        lengths = [value for name, value in start.headers if name.lower() == "content-length"]
        if lengths:
            return int(lengths[0]) > self.small, body
        pieces, body = read_ahead(body, self.small)
        return sum(map(len, pieces)) > self.small, body

    def _acquire(self, key: str) -> bool:
        with self._lock:
            if self._running.total() >= self.most or self._running[key] >= self._each:
                return False
            self._running[key] += 1
            return True

    def _counted(self, body: Iterable[bytes], key: str) -> Iterable[bytes]:
        counted = PrefetchedBody([], iter(body), body)
        counted.after_close = partial(self._release, key)
        return counted

    def _release(self, key: str) -> None:
        with self._lock:
            self._running[key] -= 1
            if not self._running[key]:
                del self._running[key]


def _problem() -> Problem:
    detail = "too many long responses are being read at once; try again"
    return Problem(503, detail, headers=[("Retry-After", "5")])


filter_factory = paste.factory(StreamLimit, most=paste.whole, small=paste.whole, key=paste.thing)
