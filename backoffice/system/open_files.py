"""Read leases: is a file open for writing? Known on local disks only.

The kernel grants a read lease (fcntl(2), F_SETLEASE) only while no process of this
host has the file open for writing. It is requested and released at once. Only the
file's owner and root may request one; on a network disk another host may be the
writer. In both cases the answer is not known.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import signal
from pathlib import Path
from typing import Final

_LOCAL: Final = frozenset(
    "bcachefs btrfs ext2 ext3 ext4 f2fs jfs nilfs2 overlay tmpfs xfs zfs".split()
)
_MOUNTS: Final = Path("/proc/self/mountinfo")


def is_local(path: Path) -> bool:
    """Whether ``path`` is on a disk that only this host writes to, so that its kernel
    sees every change."""
    try:
        mounts = _MOUNTS.read_bytes()
        return kind(mounts, os.path.realpath(path, strict=True)) in _LOCAL
    except OSError:
        return False


def kind(mounts: bytes, path: str) -> str:
    """The file system's type at a real path. ``mounts`` is as proc_pid_mountinfo(5)
    describes; a later mount lies over an earlier one."""
    place, found, name = b"", "", os.fsencode(path) + b"/"
    for line in mounts.splitlines():
        fields, _, rest = line.partition(b" - ")
        mount = _unescaped(fields.split()[4])
        if name.startswith(mount.rstrip(b"/") + b"/") and len(mount) >= len(place):
            place, found = mount, rest.split()[0].decode()
    return found


def _unescaped(name: bytes) -> bytes:
    return re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), name)


def is_written(path: Path) -> bool:
    """Whether a process of this host has the file, on a local disk, open for writing;
    False if that cannot be known, or the file has gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        # The kernel signals a writer that comes now. The default, SIGIO, would end the process.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    finally:
        os.close(descriptor)
    return False
