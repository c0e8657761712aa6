"""The local executor: a child process of the worker that runs attempts one by one.

Each is forked from the worker into its own process group and dies with the
worker: the kernel kills it. What it started dies with it, or is found by
``orphans``.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import time
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from types import FrameType

from backoffice.config.settings import Settings
from backoffice.system import logs, processes
from backoffice.system.prctl import die_with
from backoffice.workers.executors import attempt
from backoffice.workers.executors.lease_deadline import LeaseDeadline
from backoffice.workers.executors.orphans import MARK, REAP_WITHIN

_FAULT = 70  # exit status of a child that crashed outside of an attempt

_log = logging.getLogger("backoffice.executor")


class ChildProcess:
    """Fork only from the worker's main thread: the kernel ties a child's death to
    the thread that forked it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.lease = LeaseDeadline()
        self.pipe, childs_end = Pipe()
        worker = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            _become_child(worker, childs_end, self.lease, settings)
        childs_end.close()
        # Parent and child both do it: neither may continue before it is done.
        with suppress(OSError):
            os.setpgid(self.pid, self.pid)

    def send(self, message: object) -> None:
        with suppress(OSError):  # it has died; the end of the pipe tells the worker
            self.pipe.send(message)

    def signal(self, number: int) -> None:
        """Signal the whole group. Its id is not reused before the process is reaped."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def ended(self) -> bool:
        """Whether it has ended; it still has to be reaped."""
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.pid, flags) is not None

    def retire(self) -> None:
        """Ask an idle process to end."""
        self.pipe.close()

    def reap(self) -> int:
        """Kill what is left of the group, wait for the process and return its exit
        status; negative: the number of the signal that ended it."""
        self.signal(signal.SIGKILL)
        status = processes.reap(self.pid, time.monotonic() + REAP_WITHIN)
        self.pipe.close()
        self.lease.close()
        return -signal.SIGKILL if status is None else os.waitstatus_to_exitcode(status)


def _become_child(worker: int, pipe: Connection, lease: LeaseDeadline, settings: Settings) -> None:
    """Never returns, so no cleanup of the worker's runs in the child."""
    status = _FAULT
    try:
        os.setpgid(0, 0)
        die_with(worker, signal.SIGKILL)
        _reset_signal_handlers()
        _replace_descriptors(pipe.fileno())
        logs.start_anew()
        random.seed()
        os.environ[MARK] = processes.mark(worker)
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


def _reset_signal_handlers() -> None:
    """TERM unwinds the attempt, so that it removes what it staged at a target; the
    other signals get their default action instead of the worker's handlers."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, _unwind)


def _unwind(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _replace_descriptors(keep: int) -> None:
    """Point the worker's descriptors, its database connection among them, to
    /dev/null. They are not closed: an object of the worker's that still writes to
    its descriptor must not reach a file that the attempt has opened since."""
    null = os.open(os.devnull, os.O_RDWR)
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        if number > 2 and number not in (keep, null):
            with suppress(OSError):  # the listing's own descriptor is closed by now
                os.dup2(null, number, inheritable=False)
    os.dup2(null, 0)
    os.close(null)
