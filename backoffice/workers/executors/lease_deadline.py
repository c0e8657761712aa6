"""A deadline that a worker sets and its child's process obeys by itself.

The time is shared memory: the child needs to read no pipe to learn that its
lease was renewed. A timer signal makes it look; once the deadline has passed
it kills its whole process group. A process that was stopped past the deadline
finds the signal waiting when it goes on, before it can do anything else.
"""

from __future__ import annotations

import math
import mmap
import os
import signal
import struct
import time
from types import FrameType

_DOUBLE = struct.Struct("d")


class Lease:
    """Times are of ``time.monotonic``, which all processes of a host share."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)
        self.deadline = math.inf

    @property
    def deadline(self) -> float:
        value: float = _DOUBLE.unpack_from(self._memory)[0]
        return value

    @deadline.setter
    def deadline(self, value: float) -> None:
        _DOUBLE.pack_into(self._memory, 0, value)

    def close(self) -> None:
        self._memory.close()

    def guard(self) -> None:
        """In the child: from now on obey the deadline."""
        signal.signal(signal.SIGALRM, self._look)
        self._look(signal.SIGALRM, None)

    def release(self) -> None:
        """In the child: obey it no longer."""
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _look(self, number: int, frame: FrameType | None) -> None:
        remaining = self.deadline - time.monotonic()
        if remaining <= 0:
            os.killpg(0, signal.SIGKILL)
        if remaining < math.inf:
            signal.setitimer(signal.ITIMER_REAL, remaining)
