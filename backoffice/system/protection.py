"""Umask and core dumps: what a process makes is not readable by other users.

Child processes inherit both. Publications and sockets, which other users read, get
their mode where they are made.
"""

from __future__ import annotations

import os
import resource

UMASK = 0o027  # files 0640, folders 0750


def protect_process() -> None:
    """Call it first. A stricter umask is kept."""
    os.umask(UMASK | os.umask(UMASK))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # memory holds passwords
