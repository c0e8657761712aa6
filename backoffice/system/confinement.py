"""Confinement of commands: files, network, system calls and resources.

ffmpeg reads untrusted files, so ffmpeg, ffprobe and the commands of ``[command NAME]``
run with the least they need: Landlock for files, seccomp for system calls, resource
limits, ``no_new_privs``. Owns what is allowed, and how a child enters it; the caller
says which files a command needs.
"""

from __future__ import annotations

import ctypes
import os
import re
import resource
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from backoffice.config.settings import Settings
from backoffice.errors import TaskFailed
from backoffice.states import Reason
from backoffice.system import landlock, seccomp

NONE, AUTO, REQUIRE = "no", "auto", "require"

# Programs, libraries, fonts, and what libraries read about the machine. Not all of
# /etc, which has settings with passwords.
_SYSTEM = """
/usr /lib /lib32 /lib64 /libx32 /bin /sbin
/etc/ld.so.cache /etc/ld.so.conf /etc/ld.so.conf.d /etc/alternatives /etc/fonts
/etc/localtime /etc/timezone /etc/mime.types /etc/magic /etc/passwd /etc/group
/etc/nsswitch.conf /etc/OpenCL /etc/ImageMagick-6 /etc/ImageMagick-7 /var/cache/fontconfig
/proc/cpuinfo /proc/meminfo /proc/stat /proc/filesystems /proc/sys/vm/overcommit_memory
/sys/devices/system
/dev/zero /dev/full /dev/random /dev/urandom
""".split()
_NETWORK = "/etc/hosts /etc/resolv.conf /etc/host.conf /etc/gai.conf /etc/services /etc/ssl".split()
_DESCRIPTOR = re.compile(r"/proc/self/fd/([0-9]+)(?:/|\Z)").match
_XCPU_AFTER = 5  # seconds from the signal that ends a command to the one it cannot catch
_PR_SET_NO_NEW_PRIVS = 38
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Confinement:
    """What one command may use: files and folders to ``read``, folders to ``write``,
    ``programs`` and libraries besides the system's and its own, ``devices`` to read and
    write. Sizes are in bytes, ``cpu`` in seconds; ``processes`` counts all processes and
    threads of the user; 0 is no limit."""

    mode: str = AUTO
    read: tuple[Path, ...] = ()
    write: tuple[Path, ...] = ()
    programs: tuple[Path, ...] = ()
    devices: tuple[Path, ...] = ()
    network: bool = False
    memory: int = 0
    file_size: int = 0
    cpu: int = 0
    processes: int = 0

    @property
    def guards_files(self) -> bool:
        """Whether only the named files can be opened."""
        return self.mode != NONE and landlock.version() > 0

    @property
    def descriptors(self) -> tuple[int, ...]:
        """Those that ``read`` names as /proc/self/fd/N; the child must inherit them."""
        found = (_DESCRIPTOR(str(path)) for path in self.read)
        return tuple(sorted({int(match[1]) for match in found if match}))


NOTHING = Confinement()


def of_tools(
    settings: Settings, *, read: Sequence[Path] = (), write: Sequence[Path] = ()
) -> Confinement:
    """The confinement of ffmpeg and ffprobe by the settings."""
    limits, tools = settings.limits, settings.tools
    return Confinement(
        mode=limits.confine,
        read=tuple(read),
        write=tuple(write),
        programs=tools.read,
        devices=tools.devices,
        memory=limits.memory,
        file_size=limits.output,
        cpu=int(limits.cpu),
        processes=limits.processes,
    )


def missing() -> list[str]:
    """What this host cannot confine, in words for admins."""
    gaps = []
    known, filters = landlock.version(), seccomp.available()
    if not known:
        gaps.append("Landlock: commands can open every file of the service's user")
    if not filters:
        gaps.append("seccomp or libseccomp: commands can use the network")
    if not filters and known < landlock.SCOPES:
        gaps.append("signals: commands can end the service")
    return gaps


def lacks() -> list[str]:
    """What ``confine = require`` needs and this host lacks."""
    needed = {"Landlock": landlock.version() > 0, "seccomp and libseccomp": seccomp.available()}
    return [name for name, there in needed.items() if not there]


class Entrance:
    """Made in the parent; a child enters its confinement with it."""

    def __init__(self, wanted: Confinement, program: str) -> None:
        if wanted.mode == REQUIRE and (without := lacks()):
            raise TaskFailed(
                f"this host has no {' and no '.join(without)}, and [limits] confine = require",
                retry=False,
                reason=Reason.NOT_STARTED,
            )
        filters = wanted.mode != NONE and seccomp.available()
        self.wanted = wanted
        self.rules = _rules(wanted, program) if wanted.guards_files else None
        self.filter = _filter(wanted) if filters else None

    def enter(self) -> None:
        """Call it between fork and exec. Raises OSError."""
        _limit(self.wanted)
        _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if self.rules is not None:
            # Libraries read /proc/self; the process id is known only in the child.
            self.rules.allow(("/proc/self",), landlock.READ)
            self.rules.enter()
        if self.filter is not None:
            self.filter.enter()

    def close(self) -> None:
        if self.rules is not None:
            self.rules.close()


@contextmanager
def entrance(wanted: Confinement, program: str) -> Iterator[Entrance]:
    """Raises TaskFailed if confinement is required and this host lacks it."""
    made = Entrance(wanted, program)
    try:
        yield made
    finally:
        made.close()


def _rules(wanted: Confinement, program: str) -> landlock.Ruleset:
    rules = landlock.Ruleset(network=wanted.network)
    found = shutil.which(program)
    own = (os.path.realpath(found),) if found else ()
    rules.allow((*_SYSTEM, *own, *wanted.programs), landlock.RUN)
    rules.allow((*wanted.read, *(_NETWORK if wanted.network else ())), landlock.READ)
    rules.allow(wanted.write, landlock.WRITE)
    rules.allow(("/dev/null", *wanted.devices), landlock.DEVICE)
    return rules


def _filter(wanted: Confinement) -> seccomp.Filter:
    """Calls that reach beyond the command are allowed only if Landlock restricts them."""
    known = landlock.version()
    return seccomp.filter_for(
        signals=known >= landlock.SCOPES,
        network=wanted.network,
        truncate=known >= landlock.TRUNCATE,
    )


def _limit(wanted: Confinement) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _lower(resource.RLIMIT_AS, wanted.memory)
    _lower(resource.RLIMIT_NPROC, wanted.processes)
    if wanted.cpu:
        _lower(resource.RLIMIT_CPU, wanted.cpu, _XCPU_AFTER)
    if wanted.file_size:
        # Ignored, so that the write fails with an error that ffmpeg reports.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        _lower(resource.RLIMIT_FSIZE, wanted.file_size)


def _lower(which: int, limit: int, beyond: int = 0) -> None:
    """Set a limit; a lower one is kept."""
    if not limit:
        return
    _, hard = resource.getrlimit(which)
    most = limit + beyond if hard == resource.RLIM_INFINITY else min(limit + beyond, hard)
    resource.setrlimit(which, (min(limit, most), most))


def prepare() -> None:
    """Compile the usual filter before any fork, so that no child spends time on it."""
    if seccomp.available():
        _filter(NOTHING)
