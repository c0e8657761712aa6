"""Thread dump: a log line per thread of this process."""

from __future__ import annotations

import os
import sys
import threading
from types import FrameType

from backoffice.system.logs import line

DEPTH = 6  # frames shown per thread


def threads() -> list[str]:
    """A line per thread: its name, and its stack with the innermost frame first."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    frames = sorted(sys._current_frames().items())
    return [
        line("thread", name=names.get(ident, ident), at=_stack(frame)) for ident, frame in frames
    ]


def _stack(frame: FrameType | None) -> str:
    places: list[str] = []
    while frame is not None and len(places) < DEPTH:
        code = frame.f_code
        file, name = os.path.basename(code.co_filename), code.co_name
        if not (file == "threading.py" and name in ("run", "_bootstrap_inner", "_bootstrap")):
            places.append(f"{file}:{frame.f_lineno} {name}")
        frame = frame.f_back
    return " < ".join(places)
