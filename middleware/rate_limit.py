"""Rate limit per client: 429 Too Many Requests.

``application = RateLimit(application, rate=50, burst=200)``

A token bucket for each client, in this process's memory: each process allows the
rate. It counts requests; BodyLimit counts bytes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from threading import Lock
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from middleware import paste
from middleware.problem import Problem


def client(environ: WSGIEnvironment) -> str:
    """The authenticated user; otherwise the network address."""
    identity = environ.get("middleware.identity")
    if identity is not None and identity.via != "anonymous":
        return f"user {identity.name}"
    return network_of(environ.get("REMOTE_ADDR", ""))


@lru_cache(maxsize=1024)
def network_of(address: str) -> str:
    """An IPv4 address, or the /64 network of an IPv6 one: one client has 2**64."""
    if ":" not in address:
        return address
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    return str(parsed.ipv4_mapped or parsed.exploded[:19])


class RateLimit:
    """``burst`` requests at once, then ``rate`` a second.

    ``key`` returns a client's name. Of at most ``clients`` buckets, the longest
    unused is dropped first. Paths that begin with one of ``exempt`` are not
    counted. ``clock`` returns seconds.
    """

    def __init__(
        self,
        app: WSGIApplication,
        *,
        rate: float,
        burst: int,
        key: Callable[[WSGIEnvironment], str] = client,
        exempt: Sequence[str] = (),
        clients: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        for name, value in (("rate", rate), ("burst", burst), ("clients", clients)):
            if value <= 0:
                raise ValueError(f"{name}: must be more than 0; for no limit, leave RateLimit out")
        self.app = app
        self.key = key
        self.exempt = tuple(exempt)
        self.clients = clients
        self.clock = clock
        self._interval = 1 / rate
        self._room = burst / rate
        # When each client's bucket will be full; the most recently used is last.
        self._full_at: dict[str, float] = {}
        self._lock = Lock()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if not environ.get("PATH_INFO", "").startswith(self.exempt):
            wait = self._take(self.key(environ))
            if wait > 0:
                seconds = str(math.ceil(wait))
                problem = Problem(
                    429,
                    f"too many requests: wait {seconds} s",
                    headers=[("Retry-After", seconds)],
                )
                return problem(environ, start_response)
        return self.app(environ, start_response)

    def _take(self, key: str) -> float:
        """Take a token from the bucket; returns 0, or the seconds until there is one."""
        with self._lock:
            now = self.clock()
            full_at = max(self._full_at.pop(key, now), now)
            wait = full_at + self._interval - self._room - now
            # 1e-9 s: more than a rounding error.
            self._full_at[key] = full_at if wait > 1e-9 else full_at + self._interval
            self._forget(now)
            return wait if wait > 1e-9 else 0.0

    def _forget(self, now: float) -> None:
        """Drop up to two buckets: those that are full, which equal new ones, and
        those beyond ``clients``; the longest unused first."""
        for _ in range(2):
            oldest = next(iter(self._full_at))
            if len(self._full_at) <= self.clients and self._full_at[oldest] > now:
                return
            del self._full_at[oldest]


filter_factory = paste.factory(
    RateLimit,
    rate=paste.number,
    burst=paste.whole,
    key=paste.thing,
    exempt=paste.words,
    clients=paste.whole,
)
