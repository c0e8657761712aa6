"""What the threads of this process are doing at this moment."""

from __future__ import annotations

import os
import sys
import threading
from types import FrameType

from backoffice.system.logs import line

DEPTH = 6  # frames that are shown of each


def threads() -> list[str]:
    """A line a thread: its name, and where it is, the innermost place first."""
    names = {one.ident: one.name for one in threading.enumerate()}
    frames = sorted(sys._current_frames().items())
    return [
        line("thread", name=names.get(ident, ident), at=_place(frame)) for ident, frame in frames
    ]


def _place(frame: FrameType | None) -> str:
    places: list[str] = []
    while frame is not None and len(places) < DEPTH:
        code = frame.f_code
        file, name = os.path.basename(code.co_filename), code.co_name
        if not (file == "threading.py" and name in ("run", "_bootstrap_inner", "_bootstrap")):
            places.append(f"{file}:{frame.f_lineno} {name}")
        frame = frame.f_back
    return " < ".join(places)
