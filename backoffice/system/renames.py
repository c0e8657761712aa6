"""Renames with renameat2(2): never over another file, and exchanges."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

_NOREPLACE, _EXCHANGE = 1, 2  # of renameat2(2)
_AT_FDCWD = -100
_UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
_libc = ctypes.CDLL(None, use_errno=True)


def rename_new(source: Path, final: Path) -> None:
    """Rename; raises FileExistsError if ``final`` exists, even if it has just appeared."""
    try:
        _renameat2(source, final, _NOREPLACE)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        if source.is_dir():
            os.mkdir(final)  # a rename over an empty folder is allowed, and this one was just made
            os.rename(source, final)
        else:
            os.link(source, final)
            os.unlink(source)


def exchange(first: Path, second: Path) -> None:
    """Exchange the two names, so that neither is ever missing."""
    try:
        _renameat2(first, second, _EXCHANGE)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        spare = first.with_name(f"{first.name}.spare")
        if first.is_dir() or second.is_dir():
            os.rename(second, spare)  # a folder cannot be linked: it is missing for a moment
        else:
            os.link(second, spare)
        os.replace(first, second)
        os.rename(spare, first)


def _renameat2(source: Path, final: Path, flags: int) -> None:
    old, new = os.fsencode(source), os.fsencode(final)
    if _libc.renameat2(_AT_FDCWD, old, _AT_FDCWD, new, flags) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(source), None, str(final))
