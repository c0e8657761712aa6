"""The PID file: a lock that allows one service per run folder.

The file has two lines, the process id and the start time of that process: an id
alone may be reused. The lock is on the file and ends with the process, however
it ends, so a file that was left behind blocks no start.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from backoffice.errors import Conflict, Invalid
from backoffice.system.processes import start_time

NAME = "backoffice.pid"


class PidFile:
    """Locks the folder until it is released, or its process ends."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._write()

    def _write(self) -> None:
        # Overwrite, then truncate: a concurrent reader always finds two whole lines.
        data = f"{os.getpid()}\n{start_time(os.getpid())}\n".encode("ascii")
        os.pwrite(self._descriptor, data, 0)
        os.ftruncate(self._descriptor, len(data))

    def release(self) -> None:
        """Remove the file, unless another file has replaced it."""
        if _is_at(self.path, self._descriptor):
            self.path.unlink()
        os.close(self._descriptor)


def take(folder: Path) -> PidFile:
    """Make this process the folder's service. Raises Conflict when another process
    is, and Invalid when the file cannot be written."""
    path = folder / NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o640)
            _lock(descriptor, path)
            if _is_at(path, descriptor):
                return PidFile(path, descriptor)
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
    """The process that the PID file at ``path`` names, if it still runs; None if
    another process has the id now."""
    with suppress(OSError, UnicodeDecodeError):
        pid, started, *_ = [*path.read_text("ascii").split("\n"), "", ""]
        if pid.isdecimal() and started and start_time(int(pid)) == started:
            return int(pid)
    return None
