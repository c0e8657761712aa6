"""The end of a lease: the worker sets it, the child process enforces it on itself.

The time is in shared memory, so the child learns of a renewal without reading
its pipe. A timer signal makes it compare; once the deadline has passed it kills
its whole process group. The signal is pending for a process that was stopped
past the deadline, and arrives before that process can do anything else.
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


class LeaseDeadline:
    """Times are of ``time.monotonic``, which all processes of a host share."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)
        self.time = math.inf

    @property
    def time(self) -> float:
        """When the lease ends; infinite while the child has no attempt."""
        value: float = _DOUBLE.unpack_from(self._memory)[0]
        return value

    @time.setter
    def time(self, value: float) -> None:
        _DOUBLE.pack_into(self._memory, 0, value)

    def close(self) -> None:
        self._memory.close()

    def guard(self) -> None:
        """In the child: enforce the deadline from now on."""
        signal.signal(signal.SIGALRM, self._check)
        self._check(signal.SIGALRM, None)

    def release(self) -> None:
        """In the child: stop enforcing it."""
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _check(self, number: int, frame: FrameType | None) -> None:
        remaining = self.time - time.monotonic()
        if remaining <= 0:
            os.killpg(0, signal.SIGKILL)
        if remaining < math.inf:
            signal.setitimer(signal.ITIMER_REAL, remaining)
