"""A process on this host for attempts: its birth, its end and what it leaves.

Each is forked from the worker into a process group of its own and dies with
the worker (the kernel sees to it); what it started dies with it, or is found
by :func:`kill_strays`, because the worker adopts every orphan beneath it.
"""

from __future__ import annotations

import logging
import os
import random
import select
import signal
import time
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

from backoffice.config.settings import Settings
from backoffice.system import logs
from backoffice.system.prctl import die_with
from backoffice.workers.executors import attempt
from backoffice.workers.executors.lease import Lease

REAP_WITHIN = 1.0  # seconds that a killed process is waited for

_log = logging.getLogger("backoffice.executor")


class Slot:
    """One such process. Fork only from the worker's main thread: the kernel
    ties a child's death to the thread that made it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.lease = Lease()
        self.pipe, theirs = Pipe()
        worker = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            _become_child(worker, theirs, self.lease, settings)
        theirs.close()
        # Both sides do it: neither may go on before it is done.
        with suppress(OSError):
            os.setpgid(self.pid, self.pid)

    def signal(self, number: int) -> None:
        """Signal the whole group. Its id cannot be anybody else's while the
        process has not been waited for."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def ended(self) -> bool:
        """Whether it has ended; it stays to be waited for."""
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.pid, flags) is not None

    def retire(self) -> None:
        """Tell an idle process to end."""
        self.pipe.close()

    def bury(self) -> int:
        """Kill what is left of the group, wait for the process and return its
        exit status (negative: the signal that ended it)."""
        self.signal(signal.SIGKILL)
        status = _reap(self.pid, time.monotonic() + REAP_WITHIN)
        self.pipe.close()
        self.lease.close()
        return -signal.SIGKILL if status is None else os.waitstatus_to_exitcode(status)


def _become_child(worker: int, pipe: Connection, lease: Lease, settings: Settings) -> None:
    """Never returns, so nothing of the worker's is ever torn down here."""
    status = 70
    try:
        os.setpgid(0, 0)
        die_with(worker, signal.SIGKILL)
        attempt.replace_the_workers_handlers()
        _let_go_of_descriptors(pipe.fileno())
        logs.start_anew()
        random.seed()
        os.environ["BO_WORKER"] = process_mark(worker)
        attempt.serve(pipe, lease, settings)
        status = 0
    except SystemExit as error:
        status = int(error.code or 0)
    except (BrokenPipeError, ConnectionResetError):
        pass  # the worker is gone
    except BaseException:
        _log.exception("attempt.process-crashed")
        logs.flush()
    finally:
        os._exit(status)


def _let_go_of_descriptors(keep: int) -> None:
    """The worker's database connection among them. They are replaced rather
    than closed: an object of the worker's that still writes to its number
    must not hit a file of ours."""
    null = os.open(os.devnull, os.O_RDWR)
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        if number > 2 and number not in (keep, null):
            with suppress(OSError):  # one was the listing's own
                os.dup2(null, number, inheritable=False)
    os.dup2(null, 0)
    os.close(null)


def kill_strays(slots: set[int]) -> None:
    """Kill and wait for adopted children: what attempts left behind. One that
    does not die, since a mount hangs, say, is left to the next time."""
    strays = _children() - slots
    for pid in strays:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + REAP_WITHIN
    for pid in strays:
        _reap(pid, deadline)


def _reap(pid: int, deadline: float) -> int | None:
    """The status of a killed child as the kernel gives it; None when it is not
    to be had in time: the worker has leases to renew."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    try:
        poll = select.poll()  # select would refuse large descriptors
        poll.register(descriptor, select.POLLIN)
        poll.poll(1000 * max(0.0, deadline - time.monotonic()))
        done, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    finally:
        os.close(descriptor)
    return status if done else None


def _children() -> set[int]:
    try:
        text = Path(f"/proc/self/task/{os.getpid()}/children").read_text("ascii")
    except OSError:
        return set()
    return {int(pid) for pid in text.split()}


def process_mark(pid: int) -> str:
    """Names a process for ever: an id alone may be another's tomorrow, or that of
    a process in a container."""
    return f"{_namespace()}:{pid}:{_start_time(pid)}"


def _namespace() -> str:
    """Where process ids mean what they mean to us."""
    return os.readlink("/proc/self/ns/pid").replace(":", "")


def kill_orphans() -> int:
    """Kill processes that a worker of this host left behind when it was killed
    together with its attempts; returns how many. They are known by a mark in
    their environment, held through a descriptor so that it is they who get
    the signal."""
    count = 0
    for folder in Path("/proc").glob("[0-9]*"):
        pid = int(folder.name)
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:
            continue
        try:
            mark = _environment(pid).get(b"BO_WORKER", b"").decode("ascii", "replace")
            if mark and _is_ours_and_gone(mark):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                count += 1
        except OSError:
            pass
        finally:
            os.close(descriptor)
    return count


def _is_ours_and_gone(mark: str) -> bool:
    """Of a worker elsewhere, in a container say, nobody knows here whether it lives."""
    namespace, _, rest = mark.partition(":")
    pid = rest.split(":")[0]
    return namespace == _namespace() and pid.isdigit() and process_mark(int(pid)) != mark


def _environment(pid: int) -> dict[bytes, bytes]:
    try:
        block = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    return dict(entry.split(b"=", 1) for entry in block.split(b"\0") if b"=" in entry)


def _start_time(pid: int) -> str:
    """In clock ticks since boot, with the boot's id; empty if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""
    return f"{stat.rpartition(')')[2].split()[19]}:{boot}"
