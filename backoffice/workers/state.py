"""What the parts of a worker share: settings, identity, and whether it is ending."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from backoffice.config.settings import Settings


@dataclass
class WorkerState:
    """``settings`` is replaced by a reload; an attempt keeps those it began with."""

    settings: Settings
    monotonic: Callable[[], float] = time.monotonic
    id: int = 0  # of its row; 0 until it is registered
    host: str = field(default_factory=socket.gethostname)
    ffmpeg: str = ""  # version; empty without ffmpeg
    draining: bool = False  # an operator asked for it: what runs finishes, then it ends
    stop_by: float | None = None  # a signal asked for it: when attempts are handed back

    @property
    def ending(self) -> bool:
        """Whether it claims no more tasks and ends when nothing runs."""
        return self.draining or self.stop_by is not None

    def must_hand_back(self, now: float) -> bool:
        return self.stop_by is not None and now >= self.stop_by
