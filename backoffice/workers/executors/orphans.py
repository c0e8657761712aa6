"""Processes that attempts leave behind, in this worker's life or an earlier one's.

The worker adopts every orphan beneath it, so what an attempt started and did not
end becomes the worker's child. Processes of a worker that was killed together
with its attempts carry that worker's mark in their environment.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from backoffice.system import processes

REAP_WITHIN = 1.0  # seconds to wait for killed processes
MARK = "BO_WORKER"  # environment variable of attempts: ``processes.mark`` of their worker


def kill_strays(keep: set[int]) -> None:
    """Kill and reap all children of the worker but ``keep``. One that does not die
    (its file system hangs, say) is left to the next call."""
    strays = processes.children() - keep
    for pid in strays:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + REAP_WITHIN
    for pid in strays:
        processes.reap(pid, deadline)


def kill_orphans() -> int:
    """Kill processes of dead workers of this host; returns how many."""
    pids = [int(folder.name) for folder in Path("/proc").glob("[0-9]*")]
    return sum([_kill_if_orphan(pid) for pid in pids])


def _kill_if_orphan(pid: int) -> bool:
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        # The descriptor was opened first: the signal reaches this very process,
        # even if its id has been reused since its environment was read.
        mark = processes.environment(pid).get(MARK.encode(), b"").decode("ascii", "replace")
        if not mark or not _is_dead_worker(mark):
            return False
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _is_dead_worker(mark: str) -> bool:
    """False for a worker in another container: whether it lives cannot be seen here."""
    namespace, _, rest = mark.partition(":")
    pid = rest.split(":")[0]
    if namespace != processes.pid_namespace() or not pid.isdigit():
        return False
    return processes.mark(int(pid)) != mark
