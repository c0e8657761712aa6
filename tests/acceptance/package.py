"""The Debian package of this checkout, built as its users build it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from tests.machine import CHECKOUT, LAYERS, PATH, Machine

MARK = "where-it-was-built"  # a part of the path of everything that the build writes
# What dpkg, apt and others note of what has been done.
NOTES = re.compile(
    r"/var/(lib/(dpkg|apt)|cache|log/(dpkg|alternatives|apt))(/|\.log|$)|"
    r"/etc/(passwd|group|shadow|gshadow|subuid|subgid)-|/etc/\.pwd\.lock|/var/lib/systemd$"
)
UNWANTED = shutil.ignore_patterns(".*", "var", "build", "dist", "*.egg-info", "__pycache__")
LENT = ("PIP_", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


def build(folder: Path) -> Path:
    """By ``make deb`` in a clean copy of the checkout, with next to no environment."""
    source, scratch = folder / "source", folder / MARK
    shutil.copytree(CHECKOUT, source, ignore=UNWANTED)
    scratch.mkdir()
    # Which index pip asks is this machine's affair.
    lent = {name: value for name, value in os.environ.items() if name.startswith(LENT)}
    environ = {"TMPDIR": str(scratch), **lent}
    done = subprocess.run(
        ["/usr/bin/make", "deb"],
        cwd=source,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"make deb:\n{done.stdout}{done.stderr}"
    assert not list(scratch.iterdir()), "make deb left something behind"
    return source / done.stdout.splitlines()[-1]


def newer(package: Path, folder: Path) -> Path:
    """The same as a version 9.9, whose settings have one line more."""
    tree = folder / "newer"
    run("dpkg-deb", "--raw-extract", package, tree)
    control = tree / "DEBIAN" / "control"
    lines = control.read_text().splitlines()
    kept = [line for line in lines if not line.startswith("Version:")]
    control.write_text("\n".join(["Version: 9.9", *kept]) + "\n")
    with open(tree / "etc/backoffice/backoffice.ini", "a") as stream:
        stream.write("# New in 9.9.\n")
    run("dpkg-deb", "-Znone", "--root-owner-group", "--build", tree, folder / "newer.deb")
    shutil.rmtree(tree)
    return folder / "newer.deb"


def run(*command: str | Path) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        env={"PATH": PATH},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def install(machine: Machine, package: Path) -> str:
    """As an admin does, with apt-get; gives what was said. Settings that were changed are kept."""
    shutil.copy(package, machine.root / "tmp" / "backoffice.deb")
    done = machine.run(
        *"apt-get install -y --no-install-recommends --allow-downgrades".split(),
        *"--reinstall -o Dpkg::Options::=--force-confold /tmp/backoffice.deb".split(),
        env={"DEBIAN_FRONTEND": "noninteractive"},
        timeout=120,
    )
    return done.stdout + done.stderr


def fresh(machine: Machine) -> Machine:
    """``machine``, which now starts what is installed."""
    machine.let_services_start()
    machine.run("rm", "-f", "/var/lib/man-db/auto-update")  # of all manuals, 3 s each time
    return machine


def leftovers(machine: Machine, before: set[str]) -> list[str]:
    """What differs on its disk from before, and in /run; notes of dpkg and apt aside."""
    found = [p for p in machine.written() - before if not NOTES.match(p) and _differs(machine, p)]
    order = ("find", "/run", "-path", LAYERS, "-prune", "-o", "-name", "*backoffice*", "-print")
    return sorted(found) + machine.run(*order).stdout.split()


def _differs(machine: Machine, path: str) -> bool:
    here, there = Path(path), machine.root / path.lstrip("/")
    if here.is_dir() and not here.is_symlink():
        return not there.is_dir()
    if not (os.path.lexists(here) and os.path.lexists(there)):
        return True
    if here.is_symlink() or there.is_symlink():
        return not (
            here.is_symlink() and there.is_symlink() and here.readlink() == there.readlink()
        )
    return here.read_bytes() != there.read_bytes()
