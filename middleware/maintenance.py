"""The site rests, or only shows: a file says so, without a restart.

``application = Maintenance(application, mode="/run/site/maintenance")``

While the file is there, everything is answered 503 with its content as the
reason. If its content begins with ``read-only``, only what would change
something is: ``read-only: the database moves until noon``. Who may make the
file is the business of its folder.
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
_LONGEST = 1000  # bytes of a reason
_DEFAULTS = {
    "maintenance": "this is down for maintenance: try again later",
    "read-only": "nothing can be changed for now: try again later",
}


class Maintenance:
    """``mode`` is the path of a flag file, or a function that is asked each time.

    The function returns "" in normal times, "maintenance" or "read-only",
    either of them with ``: REASON`` if it likes. The file is looked for at most
    once a second. ``exempt`` paths, by how they begin, always go through.
    ``retry_after`` and ``clock`` are in seconds.
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
        self.mode = mode if callable(mode) else _Flag(Path(mode), clock)
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
    """Kind and reason; a text that begins with no kind is a reason alone."""
    first, _, rest = mode.partition(":")
    kind = first.strip().lower()
    if kind in _DEFAULTS:
        return kind, rest.strip() or _DEFAULTS[kind]
    return "maintenance", mode.strip() or _DEFAULTS["maintenance"]


class _Flag:
    """What a flag file says, a second late at most."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._until = float("-inf")
        self._mode = ""

    def __call__(self) -> str:
        now = self._clock()
        if now >= self._until:
            # First, so that of many threads few look.
            self._until = now + 1
            self._mode = self._read()
        return self._mode

    def _read(self) -> str:
        try:
            with open(self._path, "rb") as file:
                text = file.read(_LONGEST).decode(errors="replace")
        except (FileNotFoundError, NotADirectoryError):
            return ""
        except OSError:
            return "maintenance"  # it is there, if only for its name
        return text.strip() or "maintenance"


filter_factory = paste.factory(
    Maintenance, mode=paste.text, exempt=paste.words, retry_after=paste.whole
)
