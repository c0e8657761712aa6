"""What a process leaves to others: modes of files, and core dumps.

Owns the umask and the limit of core dumps, which all that a process makes and
starts inherits. What others shall read, publications and sockets, is given its
mode where it is made.
"""

from __future__ import annotations

import os
import resource

UMASK = 0o027  # files 0640, folders 0750


def protect_process() -> None:
    """To be called first of all. A stricter umask than ours stays."""
    os.umask(UMASK | os.umask(UMASK))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # memory holds passwords
