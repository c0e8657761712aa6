"""Maintenance mode and read-only mode, switched by a file.

``application = Maintenance(application, mode="/run/site/maintenance")``

While the file exists, every request is answered 503 with its content as the
reason. If the content begins with ``read-only``, only requests that change
something are: ``read-only: the database moves until noon``. The permissions of
its folder decide who can create the file.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from middleware import paste
from middleware.problem import Problem

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_MAX_REASON = 1000  # bytes
_DEFAULTS = {
    "maintenance": "this is down for maintenance: try again later",
    "read-only": "nothing can be changed for now: try again later",
}


class Maintenance:
    """``mode`` is the path of the file, or a function called for each request.

    The function returns "" for normal operation, "maintenance" or "read-only",
    with an optional ``: REASON``. The file is checked at most once a second. Paths
    that begin with one of ``exempt`` always pass. ``retry_after`` and ``clock``
    are in seconds.
    """

    def __init__(
        self,
        app: WSGIApplication,
        *,
        mode: Callable[[], str] | str | os.PathLike[str],
        exempt: Sequence[str] = ("/health/",),
        retry_after: int = 60,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.app = app
        self.mode = mode if callable(mode) else _ModeFile(Path(mode), clock)
        self.exempt = tuple(exempt)
        self.retry_after = retry_after

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        mode = self.mode()
        if mode and not environ.get("PATH_INFO", "").startswith(self.exempt):
            kind, reason = _parsed(mode)
            if kind == "maintenance" or environ["REQUEST_METHOD"] not in _SAFE:
                headers = [("Retry-After", str(self.retry_after))]
                return Problem(503, reason, headers=headers)(environ, start_response)
        return self.app(environ, start_response)


def _parsed(mode: str) -> tuple[str, str]:
    """Mode and reason; a text without a mode is a reason for maintenance."""
    first, _, rest = mode.partition(":")
    kind = first.strip().lower()
    if kind in _DEFAULTS:
        return kind, rest.strip() or _DEFAULTS[kind]
    return "maintenance", mode.strip() or _DEFAULTS["maintenance"]


class _ModeFile:
    """The content of the file, cached for a second."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._fresh_until = float("-inf")
        self._mode = ""

    def __call__(self) -> str:
        now = self._clock()
        if now >= self._fresh_until:
            # Set before reading, so that few threads read at once.
            self._fresh_until = now + 1
            self._mode = self._read()
        return self._mode

    def _read(self) -> str:
        try:
            with open(self._path, "rb") as file:
                text = file.read(_MAX_REASON).decode(errors="replace")
        except (FileNotFoundError, NotADirectoryError):
            return ""
        except OSError:
            return "maintenance"  # it exists but cannot be read
        return text.strip() or "maintenance"


filter_factory = paste.factory(
    Maintenance, mode=paste.text, exempt=paste.words, retry_after=paste.whole
)
