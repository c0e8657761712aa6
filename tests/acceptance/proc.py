"""What /proc tells of processes: whose they are, what they run, how they are."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

POLL = 0.02


def wait_for(true: Callable[[], object], what: str, seconds: float = 30) -> None:
    """Poll until ``true()``; fail with ``what`` when it takes longer."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(POLL)


def state(pid: int) -> str:
    """R, S, T (stopped), Z (zombie) …; empty when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def alive(pid: int) -> bool:
    return state(pid) not in ("", "Z", "X")


def command(pid: int) -> list[str]:
    try:
        text = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return []
    return [part.decode("utf-8", "replace") for part in text.split(b"\0")[:-1]]


def environment(pid: int) -> bytes:
    """As it was when the program was started."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def children(pid: int) -> list[int]:
    try:
        return [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def beneath(folder: Path) -> list[int]:
    """Living processes that were started with ``folder`` in their environment."""
    mark = os.fsencode(folder)
    pids = [int(p.name) for p in Path("/proc").glob("[0-9]*")]
    return [pid for pid in pids if mark in environment(pid) and alive(pid)]


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
