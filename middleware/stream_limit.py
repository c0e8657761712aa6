"""503 when too many long responses are being read at once.

``application = StreamLimit(application, most=4)``

A response that is longer than a server sends off at once keeps a thread until its
client has read it. This leaves threads for the others: of responses longer than
``small`` bytes, ``most`` go on at a time, and one client has at most one less. A
response whose length is not told is read ahead that far before it starts.

How fast a client must read is the server's business.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from threading import Lock
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from middleware import paste
from middleware.held import Begun, HeldStart, begin, close, read
from middleware.problem import Problem
from middleware.rate_limit import client


class StreamLimit:
    """``key`` tells clients apart; it is asked after the app, which may know more."""

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
        self._under_way: Counter[str] = Counter()
        self._lock = Lock()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        held = HeldStart(start_response)
        body = self.app(environ, held)
        if not held.status:
            body = begin(body)
        if held.released:
            return body
        try:
            long, body = self._measured(environ, held, body)
            key = self.key(environ)
            if long and not self._begin(key):
                close(body)
                return _refusal()(environ, start_response)
            held.release()
        except BaseException:
            with suppress(Exception):  # the first failure is the one to tell
                close(body)
            raise
        return self._counted(body, key) if long else body

    def _measured(
        self, environ: WSGIEnvironment, held: HeldStart, body: Iterable[bytes]
    ) -> tuple[bool, Iterable[bytes]]:
        """Whether it is long, and all of it still."""
        if isinstance(body, list | tuple) or environ["REQUEST_METHOD"] == "HEAD":
            return False, body
        lengths = [value for name, value in held.headers if name.lower() == "content-length"]
        if lengths:
            return int(lengths[0]) > self.small, body
        pieces, body = read(body, self.small)
        return sum(map(len, pieces)) > self.small, body

    def _begin(self, key: str) -> bool:
        with self._lock:
            if self._under_way.total() >= self.most or self._under_way[key] >= self._each:
                return False
            self._under_way[key] += 1
            return True

    def _counted(self, body: Iterable[bytes], key: str) -> Iterable[bytes]:
        counted = Begun([], iter(body), body)
        counted.after = partial(self._end, key)
        return counted

    def _end(self, key: str) -> None:
        with self._lock:
            self._under_way[key] -= 1
            if not self._under_way[key]:
                del self._under_way[key]


def _refusal() -> Problem:
    detail = "too many long responses are being read at once; try again"
    return Problem(503, detail, headers=[("Retry-After", "5")])


filter_factory = paste.factory(StreamLimit, most=paste.whole, small=paste.whole, key=paste.thing)
