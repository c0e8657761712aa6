"""The three things that Linux lets a process ask of its kernel about kinship;
standard library only.

Loaded before any fork: a child between fork and exec must not import.
"""

from __future__ import annotations

import ctypes
import os

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


def die_with(parent: int, number: int) -> None:
    """In a child: get signal ``number`` when ``parent`` ends; end at once if it
    already has. The kernel means the parent's thread that forked."""
    _libc.prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(127)


def adopt_orphans() -> None:
    """Become the parent of whatever this process's descendants leave behind."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
