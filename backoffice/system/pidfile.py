"""One service a run folder: its lock and its PID file.

The file has two lines, the process id and when that process started (field 22
of ``/proc/PID/stat``): an id alone may be a stranger's tomorrow. The lock is on
the file and ends with the process, however it ends, so a file that was left
behind hinders nobody.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from backoffice.errors import Conflict, Invalid

NAME = "backoffice.pid"


class Instance:
    """Holds the folder until it is released, or its process ends."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._write()

    def _write(self) -> None:
        # Over what was there, then cut: who reads meanwhile finds two whole lines.
        data = f"{os.getpid()}\n{start_time(os.getpid())}\n".encode("ascii")
        os.pwrite(self._descriptor, data, 0)
        os.ftruncate(self._descriptor, len(data))

    def release(self) -> None:
        """Remove the file, unless somebody has put another in its place."""
        if _is_at(self.path, self._descriptor):
            self.path.unlink()
        os.close(self._descriptor)


def take(folder: Path) -> Instance:
    """Make this process the folder's service. Raises Conflict when it has one,
    and Invalid when the file cannot be written."""
    path = folder / NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o640)
            _lock(descriptor, path)
            if _is_at(path, descriptor):
                return Instance(path, descriptor)
            os.close(descriptor)  # its former owner removed it at this moment
    except OSError as error:
        reason = error.strerror or error
        raise Invalid(f"{path} cannot be written: {reason}; see [paths] run") from error


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = read(path)
        os.close(descriptor)
        who = f" (process {pid})" if pid else ""
        raise Conflict(
            f"the service is running already{who}: stop it first, or give this one a folder of"
            f" its own in [paths] run, which is {path.parent}"
        ) from None


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def read(path: Path) -> int | None:
    """The process that the PID file at ``path`` names, if it runs and is no
    stranger that has got the same id."""
    with suppress(OSError, UnicodeDecodeError):
        pid, started, *_ = [*path.read_text("ascii").split("\n"), "", ""]
        if pid.isdecimal() and started and start_time(int(pid)) == started:
            return int(pid)
    return None


def start_time(pid: int) -> str:
    """In clock ticks since the host started; empty when there is no such process,
    or when it has ended and only waits to be buried."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    except OSError:
        return ""
    state, *fields = stat.rpartition(")")[2].split()
    return "" if state in "ZX" else fields[18]
