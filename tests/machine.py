"""A machine to break: this one's files in namespaces of their own.

Whatever is written goes to an overlay in memory, over the checkout and its
.venv too; processes, mounts, network (lo alone), host name and IPC are its own,
and so are /run, /tmp and /dev. Nothing that runs in it outlives it, and nothing
of it stays. It shares the kernel, the clock and the users' names of its files.
Its first process does nothing, or is systemd, which then runs services as ever.

Run as a program, this file makes the machine that it finds itself in.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
POLICY = "/usr/sbin/policy-rc.d"
LAYERS = "/run/machine"  # inside: what was written to each overlay lies in N/upper

_TOP = Path("/dev/shm")  # never holds a checkout; hidden in the new namespace alone
_ROOT = _TOP / "root"
_UNSHARE = ["unshare", "--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--kill-child"]
_SYSTEMD = "/lib/systemd/systemd"
_BOOT = f"""mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec env -i container=other PATH={PATH} \
    {_SYSTEMD} --system --unit=basic.target --log-target=journal --show-status=no"""
_ENTER = ["--mount", "--pid", "--net", "--uts", "--ipc", "--root", "--wd"]
_PROBE = """cd /dev/shm && mount -t tmpfs tmpfs . && cd "$PWD" && mkdir upper work root &&
exec mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work overlay root"""


class Machine:
    def __init__(self, systemd: bool = False) -> None:
        self._group = _make_group() if systemd else None
        command = [
            "setpriv",
            "--pdeathsig",
            "KILL",  # it must not outlive a test run that was killed
            *_UNSHARE,
            sys.executable,
            __file__,
            str(self._group or ""),
            str(CHECKOUT),
            sys.prefix,
            sys.base_prefix,  # to be seen in it by all
        ]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            umask=0o022,
        )
        self.pid = self._await()

    def _await(self) -> int:
        """The PID of its first process, once everything is in its place."""
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        if not said:
            told = self._process.communicate()[1]
            self._remove_group()
            raise RuntimeError(f"no machine: {told}")
        return int(said)

    @property
    def root(self) -> Path:
        """Its / as seen from outside. Beware of absolute symlinks: they lead out of it."""
        return Path(f"/proc/{self.pid}/root")

    def run(
        self,
        *argv: str | Path,
        env: Mapping[str, str] | None = None,
        check: bool = True,
        input: str | None = None,
        timeout: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as root in / with PATH and ``env`` and no other variables.

        Returns when it has ended and nobody holds its output any more. With
        ``check`` a status other than 0 is an AssertionError that shows the output.
        """
        done = subprocess.run(
            [_program("nsenter"), "--target", str(self.pid), *_ENTER, "--", *map(str, argv)],
            env={"PATH": PATH, **(env or {})},
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            umask=0o022,
        )
        if check:
            told = f"{done.stdout}{done.stderr}"
            assert done.returncode == 0, f"{argv} ended with {done.returncode}:\n{told}"
        return done

    def write(self, path: str | Path, text: str, mode: int = 0o644) -> None:
        """Replace a file of root's, and make its folder if there is none."""
        script = 'mkdir -p "$(dirname "$1")" && rm -f "$1" && cat >"$1" && chmod "$2" "$1"'
        self.run("sh", "-c", script, "sh", str(path), f"{mode:o}", input=text)

    def read(self, path: str | Path) -> str:
        return self.run("cat", "--", path).stdout

    def written(self) -> set[str]:
        """Every path on the disk of / that was made, changed or removed; not in /run or /tmp."""
        found = self.run("find", f"{LAYERS}/1/upper", "-mindepth", "1", "-printf", "/%P\\0").stdout
        return set(found.split("\0")) - {""}

    def boot(self) -> None:
        """Return when systemd has started what it starts by itself."""
        answers = "until systemctl show-environment; do sleep 0.05; done"
        self.run("sh", "-c", f"{answers}; systemctl is-system-running --wait || true")

    def let_services_start(self) -> None:
        """From now on what packages install is started; before, only by hand."""
        self.run("rm", "-f", POLICY)
        # Init says in which runlevel the machine is; it is asked which services that one starts.
        kind, level = 1, ord("2")  # RUN_LVL; see utmp(5)
        fields = (b"~", b"~~", b"runlevel", b"")
        (self.root / "run/utmp").write_bytes(
            struct.pack("=hxxi32s4s32s256s52x", kind, level, *fields)
        )

    def end(self) -> None:
        if self._process.poll() is None:
            os.kill(self.pid, signal.SIGKILL)  # with it the kernel ends all the others
        self._process.communicate()
        self._remove_group()

    def _remove_group(self) -> None:
        if self._group is not None:
            for folder, _, _ in os.walk(self._group, topdown=False):
                os.rmdir(folder)


def unavailable(systemd: bool = False) -> str:
    """Why there can be no such machine here; empty if there can."""
    if os.geteuid() != 0:
        return "a machine of its own needs root"
    missing = [name for name in ("unshare", "nsenter", "setpriv") if not _program(name)]
    if missing:
        return f"{', '.join(missing)} is missing; apt-get install util-linux"
    probe = subprocess.run([*_UNSHARE, "sh", "-c", _PROBE], capture_output=True, text=True)
    if probe.returncode:
        return f"no namespaces or no overlay here: {probe.stderr.strip()}"
    if systemd and not os.path.exists(_SYSTEMD):
        return "systemd is missing"
    if systemd and not os.access(_groups(), os.W_OK):
        return "control groups cannot be made here"
    return ""


def _groups() -> Path:
    """Where control groups of this process's can be made."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    top = next((where for _, where, kind, *_ in mounts if kind == "cgroup2"), "/nowhere")
    own = re.search("^0::/(.*)$", Path("/proc/self/cgroup").read_text(), re.MULTILINE)
    return Path(top, own[1] if own else "")


def _make_group() -> Path:
    group = _groups() / f"machine-{uuid.uuid4()}"
    group.mkdir()
    return group


def _program(name: str) -> str:
    return shutil.which(name, path=PATH) or ""


def _make(group: str, *folders: str) -> None:
    """Become the first process of the machine; systemd, if it has a control group."""
    if group:
        Path(group, "cgroup.procs").write_text("0")
    pid = os.readlink("/proc/self")  # as the namespaces outside count
    _mount("tmpfs", _TOP, "mode=755")
    _layer(1, "/")
    _kernel_folders()
    for number, folder in enumerate(map(os.path.realpath, folders), 2):
        _open_way(folder)
        if not os.path.isdir(f"{_ROOT}{folder}") or not os.listdir(f"{_ROOT}{folder}"):
            _layer(number, folder)  # it lies beneath another mount than /
    _names()
    _raise_loopback()
    _turn_to_root()
    print(pid, flush=True)
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    if group:
        os.execvp("unshare", ["unshare", "--cgroup", "sh", "-c", _BOOT])
    # Whoever was left by its parent comes to the first process, which must not collect zombies.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    os.execvp("sleep", ["sleep", "infinity"])


def _mount(kind: str, where: str | Path, options: str = "rw", what: str = "") -> None:
    subprocess.run(["mount", "-t", kind, "-o", options, what or kind, str(where)], check=True)


def _bind(what: Path, where: Path, options: str = "rw") -> None:
    subprocess.run(["mount", "--bind", "-o", options, what, where], check=True)


def _layer(number: int, folder: str) -> None:
    upper, work = _TOP / f"{number}/upper", _TOP / f"{number}/work"
    root = Path(f"{_ROOT}{folder}")
    for path in (upper, work, root):
        path.mkdir(parents=True, exist_ok=True)
    _mount("overlay", root, f"lowerdir={folder},upperdir={upper},workdir={work}")


def _kernel_folders() -> None:
    _mount("proc", _ROOT / "proc")
    _bind(_ROOT / "proc/sys", _ROOT / "proc/sys", "ro")  # the kernel's settings are not its own
    _mount("sysfs", _ROOT / "sys", "ro")
    _mount("tmpfs", _ROOT / "run", "mode=755")
    (_ROOT / "run/lock").mkdir()
    (_ROOT / "run/lock").chmod(0o1777)
    _mount("tmpfs", _ROOT / "tmp", "mode=1777")
    _mount("tmpfs", _ROOT / "dev", "mode=755")
    for name in ("null", "zero", "full", "random", "urandom", "tty"):
        (_ROOT / "dev" / name).touch()
        _bind(Path("/dev", name), _ROOT / "dev" / name)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        (_ROOT / "dev" / name).symlink_to(f"/proc/self/fd/{number}")
    (_ROOT / "dev/fd").symlink_to("/proc/self/fd")
    (_ROOT / "dev/ptmx").symlink_to("pts/ptmx")
    for kind, name in (("devpts", "pts"), ("tmpfs", "shm")):
        (_ROOT / "dev" / name).mkdir()
        _mount(kind, _ROOT / "dev" / name, "mode=1777" if name == "shm" else "ptmxmode=666")


def _open_way(folder: str) -> None:
    """Users of the service must get there, even beneath /root."""
    for parent in [*reversed(Path(folder).parents), Path(folder)]:
        inside = Path(f"{_ROOT}{parent}")
        if inside.is_dir():
            inside.chmod(inside.stat().st_mode | 0o111)


def _names() -> None:
    socket.sethostname("machine")
    (_ROOT / "etc/hostname").write_text("machine\n")
    (_ROOT / "etc/hosts").write_text("127.0.0.1 localhost machine\n::1 localhost\n")
    policy = Path(f"{_ROOT}{POLICY}")
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)


def _raise_loopback() -> None:
    get, put, up = 0x8913, 0x8914, 1  # SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP
    with socket.socket() as any_socket:
        asked = struct.pack("16sH22x", b"lo", 0)
        flags: int = struct.unpack_from("16sH", fcntl.ioctl(any_socket, get, asked))[1]
        fcntl.ioctl(any_socket, put, struct.pack("16sH22x", b"lo", flags | up))


def _turn_to_root() -> None:
    layers = Path(f"{_ROOT}{LAYERS}")
    layers.mkdir()
    _bind(_TOP, layers)
    old = _ROOT / "tmp/old"
    old.mkdir()
    subprocess.run(["pivot_root", _ROOT, old], check=True)
    os.chdir("/")
    subprocess.run(["umount", "--lazy", "/tmp/old"], check=True)
    Path("/tmp/old").rmdir()


if __name__ == "__main__":
    _make(*sys.argv[1:])
