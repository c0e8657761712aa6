"""Server-Timing header: the app's duration, for a browser's developer tools.

``application = Timing(application)``

Adds ``Server-Timing: app;dur=12.3``: the milliseconds until the response
starts. Metrics keeps statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from middleware import paste


class Timing:
    """``clock`` returns seconds."""

    def __init__(self, app: WSGIApplication, *, clock: Callable[[], float] = perf_counter) -> None:
        self.app = app
        self.clock = clock

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        started = self.clock()

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            pair = ("Server-Timing", f"app;dur={(self.clock() - started) * 1000:.1f}")
            return start_response(status, [*headers, pair], exc_info)

        return self.app(environ, start)


filter_factory = paste.factory(Timing)
