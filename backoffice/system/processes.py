"""Processes of this host as /proc shows them: start times, marks, children, environment."""

from __future__ import annotations

import os
import select
import time
from pathlib import Path
from typing import NamedTuple

_STATE, _START_TIME = 0, 19  # fields 3 and 22 of proc_pid_stat(5), counted after the name
_ENDED = "ZX"  # states of a process that has ended and has not been waited for


class Stat(NamedTuple):
    """What ``/proc/PID/stat`` says of a process."""

    state: str  # one letter, as ps shows it
    start_time: str  # clock ticks since the host booted


def stat(pid: int) -> Stat | None:
    """None when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    except OSError:
        return None
    # The name may contain blanks and brackets itself.
    fields = text.rpartition(")")[2].split()
    return Stat(fields[_STATE], fields[_START_TIME])


def start_time(pid: int) -> str:
    """Clock ticks since the host booted; empty when there is no such process, or
    when it has ended and waits to be reaped."""
    known = stat(pid)
    return known.start_time if known is not None and known.state not in _ENDED else ""


def mark(pid: int) -> str:
    """An identifier that no other process ever has: ``NAMESPACE:PID:START:BOOT``.
    A process id alone is reused, and is another process's in another container."""
    known = stat(pid)
    started = f"{known.start_time}:{_boot_id()}" if known is not None else ""
    return f"{pid_namespace()}:{pid}:{started}"


def pid_namespace() -> str:
    """The namespace in which this process's ids are valid."""
    return os.readlink("/proc/self/ns/pid").replace(":", "")


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


def children() -> set[int]:
    """Ids of this thread's children, adopted ones included."""
    try:
        text = Path(f"/proc/self/task/{os.getpid()}/children").read_text("ascii")
    except OSError:
        return set()
    return {int(pid) for pid in text.split()}


def environment(pid: int) -> dict[bytes, bytes]:
    """Empty for a process that may not be read, or is gone."""
    try:
        block = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    return dict(entry.split(b"=", 1) for entry in block.split(b"\0") if b"=" in entry)


def reap(pid: int, deadline: float) -> int | None:
    """Wait for a killed child until ``deadline`` (monotonic). Its status as waitpid
    gives it, or None when it does not end in time or is no child of this process."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    try:
        poll = select.poll()  # select refuses descriptors above 1023
        poll.register(descriptor, select.POLLIN)
        poll.poll(1000 * max(0.0, deadline - time.monotonic()))
        done, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    finally:
        os.close(descriptor)
    return status if done else None
