"""The checkout installed in a machine of a test's own, as the package would do it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.machine import CHECKOUT, Machine

PROGRAM = "/usr/bin/backoffice"
USER = "backoffice"


@dataclass(frozen=True)
class Instance:
    """A service of the machine, with the init script that is called like it."""

    machine: Machine
    name: str

    @property
    def script(self) -> str:
        return f"/etc/init.d/{self.name}"

    @property
    def config(self) -> str:
        return f"/etc/backoffice/{self.name}.ini"

    @property
    def home(self) -> str:
        return f"/var/lib/{self.name}"

    @property
    def run(self) -> str:
        return f"/run/{self.name}"

    @property
    def pid_file(self) -> str:
        return f"{self.run}/backoffice.pid"

    def act(self, action: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run the init script, whatever its status will be."""
        return self.machine.run(self.script, action, check=False, timeout=timeout)

    def backoffice(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command as the service's user."""
        command = ("runuser", "-u", USER, "--", PROGRAM)
        return self.machine.run(*command, "--config", self.config, *argv, check=check)

    def pid(self) -> int:
        """As the PID file says."""
        return int(self.machine.read(self.pid_file).split()[0])

    def configure(self, more: str = "") -> None:
        """Replace the settings: these, and ``more`` lines."""
        self.machine.write(self.config, _SETTINGS.format(home=self.home, run=self.run) + more)
        self.machine.run("chown", f"root:{USER}", self.config)
        self.machine.run("chmod", "640", self.config)


# Whoever tests the web server alone should not pay for the start of the others.
_SETTINGS = """[paths]
home = {home}
work = work
logs = log
run = {run}
roots = media
[database]
uri = sqlite:backoffice.sqlite
[target site]
path = publish
[web]
listen = unix:{run}/web.sock
[worker]
grace = 5s
"""


def install(machine: Machine) -> Instance:
    """The user, the program, the script and a first instance with its database."""
    home = "/var/lib/backoffice"
    useradd = ("useradd", "--system", "--user-group", "--home-dir", home)
    machine.run(*useradd, "--shell", "/usr/sbin/nologin", USER)
    run = f'PYTHONPATH={CHECKOUT} exec {sys.executable} -P -m backoffice "$@"'
    machine.write(PROGRAM, f"#!/bin/sh\n{run}\n", 0o755)
    machine.write("/etc/init.d/backoffice", (CHECKOUT / "init.d/backoffice").read_text(), 0o755)
    machine.run("install", "-d", "-g", USER, "-m", "0750", "/etc/backoffice")
    machine.run("install", "-d", "-o", USER, "-g", USER, "-m", "0750", "/var/log/backoffice")
    return prepare(Instance(machine, "backoffice"))


def add_instance(first: Instance, name: str) -> Instance:
    """Another one, by a link to the script."""
    first.machine.run("ln", "-s", "backoffice", f"/etc/init.d/{name}")
    return prepare(Instance(first.machine, name))


def prepare(instance: Instance) -> Instance:
    folders = [
        Path(instance.home),
        *(Path(instance.home) / n for n in ("work", "media", "publish")),
    ]
    for folder in folders:
        instance.machine.run("install", "-d", "-o", USER, "-g", USER, "-m", "0751", folder)
    instance.configure()
    instance.backoffice("migrate")
    return instance
