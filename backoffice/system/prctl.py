"""prctl(2): die with the parent process, adopt orphaned descendants.

Import it before any fork: a child must not import between fork and exec.
"""

from __future__ import annotations

import ctypes
import os

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


def die_with(parent: int, number: int) -> None:
    """In a child: get signal ``number`` when ``parent`` ends; exit if it has already
    ended. To the kernel the parent is the thread that forked."""
    _libc.prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(127)


def adopt_orphans() -> None:
    """Become the parent of processes that this process's descendants leave behind."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
