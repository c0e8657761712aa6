"""Landlock: kernel rules for what a process may do with files.

The three system calls and their constants (<linux/landlock.h>), no policy. The parent
makes the rules; the child only enters them, because it must not import or allocate
much between fork and exec.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from enum import IntFlag
from functools import cache
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on all architectures
_ASK_VERSION = 1
_PATH_BENEATH = 1
_TCP = 0b11  # bind and connect
_ABSTRACT_UNIX_SOCKET, _SIGNAL = 0b01, 0b10

FILES, REFER, TRUNCATE, TCP, IOCTL, SCOPES = 1, 2, 3, 4, 5, 6  # the version that introduced each

_libc = ctypes.CDLL(None, use_errno=True)


class Access(IntFlag):
    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13
    TRUNCATE = 1 << 14
    IOCTL_DEV = 1 << 15


READ = Access.READ_FILE | Access.READ_DIR
RUN = READ | Access.EXECUTE
# Everything except making devices and sockets, and executing written files.
WRITE = (
    READ
    | Access.WRITE_FILE
    | Access.TRUNCATE
    | Access.REFER
    | Access.REMOVE_DIR
    | Access.REMOVE_FILE
    | Access.MAKE_DIR
    | Access.MAKE_REG
    | Access.MAKE_SYM
    | Access.MAKE_FIFO
)
DEVICE = Access.READ_FILE | Access.WRITE_FILE | Access.READ_DIR | Access.IOCTL_DEV
_OF_FILES = (
    Access.EXECUTE | Access.WRITE_FILE | Access.READ_FILE | Access.TRUNCATE | Access.IOCTL_DEV
)


class _RulesetAttr(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneathAttr(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


@cache
def version() -> int:
    """The Landlock version of this kernel; 0 if it has none."""
    return max(0, _syscall(_CREATE_RULESET, None, 0, _ASK_VERSION))


class Ruleset:
    """Denies all files except those that ``allow`` names. Raises OSError if the kernel has
    no Landlock. Close it in the parent."""

    def __init__(self, *, network: bool = False) -> None:
        self.handled = _handled(version())
        attr = _RulesetAttr(self.handled, 0, 0)
        if version() >= TCP and not network:
            attr.handled_access_net = _TCP
        if version() >= SCOPES:
            attr.scoped = _ABSTRACT_UNIX_SOCKET | _SIGNAL
        self.descriptor = _checked(
            _syscall(_CREATE_RULESET, ctypes.byref(attr), ctypes.sizeof(attr), 0)
        )

    def allow(self, paths: Iterable[Path | str], access: Access) -> None:
        """With everything beneath. A path that does not exist needs no rule."""
        for path in paths:
            with suppress(OSError):
                descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
                try:
                    self._allow(descriptor, access)
                finally:
                    os.close(descriptor)

    def _allow(self, descriptor: int, access: Access) -> None:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            access &= _OF_FILES
        attr = _PathBeneathAttr(access & self.handled, descriptor)
        _checked(_syscall(_ADD_RULE, self.descriptor, _PATH_BENEATH, ctypes.byref(attr), 0))

    def enter(self) -> None:
        """Apply the rules to this process, which must have set ``no_new_privs``."""
        _checked(_syscall(_RESTRICT_SELF, self.descriptor, 0))

    def close(self) -> None:
        os.close(self.descriptor)


def _handled(known: int) -> Access:
    access = Access((1 << 13) - 1)
    for since, right in (
        (REFER, Access.REFER),
        (TRUNCATE, Access.TRUNCATE),
        (IOCTL, Access.IOCTL_DEV),
    ):
        if known >= since:
            access |= right
    return access


def _syscall(number: int, *arguments: object) -> int:
    return int(_libc.syscall(number, *arguments))


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
