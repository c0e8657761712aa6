"""seccomp: the system calls that a confined command may make.

Every other call is refused with EPERM. Owns the list; libseccomp compiles it into a
filter, once, in the parent.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from typing import Any

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_INSTRUCTION = 8  # bytes of a struct sock_filter

_FILES = """
read readv pread64 preadv preadv2 write writev pwrite64 pwritev pwritev2 close close_range
lseek _llseek stat stat64 fstat fstat64 lstat lstat64 newfstatat fstatat64 statx statfs
fstatfs access faccessat faccessat2 readlink readlinkat getcwd chdir fchdir getdents getdents64
mkdir mkdirat rmdir unlink unlinkat rename renameat renameat2 link linkat symlink symlinkat
creat ftruncate ftruncate64 fallocate fadvise64 fsync fdatasync sync_file_range readahead
dup dup2 dup3 fcntl fcntl64 flock ioctl pipe pipe2 fchmod fchown fsetxattr getxattr lgetxattr
fgetxattr listxattr llistxattr flistxattr umask mknod mknodat sendfile splice tee vmsplice
copy_file_range memfd_create inotify_init inotify_init1 inotify_add_watch inotify_rm_watch
"""
_WAITING = """
poll ppoll select pselect6 _newselect epoll_create epoll_create1 epoll_ctl epoll_wait
epoll_pwait epoll_pwait2 eventfd eventfd2 timerfd_create timerfd_settime timerfd_gettime
signalfd signalfd4 futex futex_waitv restart_syscall nanosleep clock_nanosleep pause alarm
setitimer getitimer timer_create timer_settime timer_gettime timer_delete timer_getoverrun
"""
_MEMORY = """
mmap mmap2 munmap mremap mprotect madvise msync mincore mlock mlock2 munlock brk membarrier
get_mempolicy set_mempolicy mbind rseq set_robust_list get_robust_list arch_prctl
"""
_PROCESSES = """
fork vfork execve execveat exit exit_group wait4 waitid waitpid prctl set_tid_address getpid
getppid gettid getpgrp getpgid getsid setpgid setsid getuid getuid32 geteuid geteuid32 getgid
getgid32 getegid getegid32 getresuid getresuid32 getresgid getresgid32 getgroups getgroups32
getrlimit ugetrlimit setrlimit getrusage times sysinfo uname getpriority ioprio_get capget
sched_yield sched_getaffinity sched_setaffinity sched_getparam sched_getscheduler
sched_getattr sched_get_priority_max sched_get_priority_min sched_rr_get_interval getcpu
rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait rt_sigsuspend
sigaltstack sigreturn getrandom time gettimeofday clock_gettime clock_getres pidfd_open
"""
# Calls on existing sockets; new sockets can only be pairs.
_SOCKETS = """
socketpair sendto recvfrom sendmsg recvmsg sendmmsg recvmmsg shutdown getsockname getpeername
getsockopt setsockopt
"""
_NETWORK = "connect bind listen accept accept4"
_SIGNALS = "kill tkill tgkill pidfd_send_signal rt_sigqueueinfo rt_tgsigqueueinfo"
_TRUNCATE = "truncate truncate64"

# Reported as missing, so that the C library uses older calls, whose arguments can be checked.
_MISSING = "clone3 openat2"
_NAMESPACES = 0x7E020080  # the CLONE_NEW… flags

_libc = ctypes.CDLL(None, use_errno=True)


class Filter(ctypes.Structure):
    """A ``struct sock_fprog``."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))

    def enter(self) -> None:
        """Apply the filter to this process, which must have set ``no_new_privs``."""
        if _libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(self), 0, 0) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))


@cache
def available() -> bool:
    """Whether the kernel and libseccomp support it."""
    try:
        import_module("pyseccomp")
    except (ImportError, RuntimeError):  # RuntimeError: libseccomp is missing
        return False
    # A kernel that supports filters answers EFAULT to a null pointer.
    _libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, None, 0, 0)
    return ctypes.get_errno() == errno.EFAULT


@cache
def filter_for(*, signals: bool, network: bool, truncate: bool) -> Filter:
    """``signals`` allows sending signals, ``network`` TCP and UDP, ``truncate`` shortening
    a file by its path. Allow each only if Landlock restricts it."""
    import pyseccomp

    made = pyseccomp.SyscallFilter(pyseccomp.ERRNO(errno.EPERM))
    for name in _MISSING.split():
        _add(made, pyseccomp.ERRNO(errno.ENOSYS), name)
    for name in _allowed(signals, network, truncate):
        _add(made, pyseccomp.ALLOW, name)
    for name, *arguments in _conditional(pyseccomp, network):
        _add(made, pyseccomp.ALLOW, name, *arguments)
    code = _exported(made)
    return Filter(len(code) // _INSTRUCTION, code)


def _allowed(signals: bool, network: bool, truncate: bool) -> Iterator[str]:
    for names in (_FILES, _WAITING, _MEMORY, _PROCESSES, _SOCKETS):
        yield from names.split()
    if network:
        yield from _NETWORK.split()
    if signals:
        yield from _SIGNALS.split()
    if truncate:
        yield from _TRUNCATE.split()


def _conditional(pyseccomp: Any, network: bool) -> Iterator[tuple[Any, ...]]:
    """Calls that are allowed with certain arguments only."""
    arg, masked, equal = pyseccomp.Arg, pyseccomp.MASKED_EQ, pyseccomp.EQ
    # Opening for reading must not truncate: Landlock controls that from version 3 on.
    for name, flags in (("open", 1), ("openat", 2)):
        for access in (os.O_WRONLY, os.O_RDWR):
            yield name, arg(flags, masked, os.O_ACCMODE, access)
        yield name, arg(flags, masked, os.O_ACCMODE | os.O_TRUNC, os.O_RDONLY)
    # Times of an open file only, not of a path.
    yield "utimensat", arg(1, equal, 0)
    yield "clone", arg(0, masked, _NAMESPACES, 0)
    # Limits of the calling process only.
    yield "prlimit64", arg(0, equal, 0)
    if network:
        for family in (socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK):
            yield "socket", arg(0, equal, family)


def _add(made: Any, action: int, name: str, *arguments: Any) -> None:
    """A name that this architecture or libseccomp does not know needs no rule."""
    try:
        made.add_rule(action, name, *arguments)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EFAULT, errno.EDOM, errno.ENOENT):
            raise


def _exported(made: Any) -> bytes:
    with open(os.memfd_create("seccomp"), "w+b") as stream:
        made.export_bpf(stream)
        stream.seek(0)
        return stream.read()
