"""The machine in which the service is installed, killed and purged."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.acceptance.conftest import MachineFactory
from tests.acceptance.proc import wait_for
from tests.machine import CHECKOUT, PATH, POLICY, Machine


def test_what_is_written_in_it_is_not_written_here(machine: Machine) -> None:
    machine.write("/etc/backoffice-was-here", "yes\n", 0o600)
    machine.run("rm", CHECKOUT / "LICENSE")
    machine.run("chown", "daemon", CHECKOUT / "README.md")
    assert machine.read("/etc/backoffice-was-here") == "yes\n"
    assert (machine.root / "etc/backoffice-was-here").stat().st_mode & 0o777 == 0o600
    machine.run("rm", "/etc/hostname")
    assert {"/etc/backoffice-was-here", "/etc/hostname"} <= machine.written()
    assert not Path("/etc/backoffice-was-here").exists()
    assert (CHECKOUT / "LICENSE").exists()
    assert (CHECKOUT / "README.md").stat().st_uid == os.getuid()


def test_nothing_that_runs_in_it_outlives_it(machine_factory: MachineFactory) -> None:
    machine = machine_factory()
    stays = "trap '' TERM HUP; exec sleep 1000"
    command = ["setsid", "sh", "-c", f"({stays}) >/dev/null 2>&1 & readlink /proc/self/ns/pid"]
    namespace = machine.run(*command).stdout.strip()
    assert _members(namespace)
    machine.end()
    assert not _members(namespace)


def _members(namespace: str) -> list[Path]:
    def lives_in(process: Path) -> bool:
        try:
            return os.readlink(process / "ns/pid") == namespace
        except OSError:
            return False

    return [process for process in Path("/proc").glob("[0-9]*") if lives_in(process)]


def test_orphans_do_not_stay_as_zombies(machine: Machine) -> None:
    pid = machine.run("sh", "-c", "(true) >/dev/null 2>&1 & echo $!").stdout.strip()
    wait_for(lambda: not (machine.root / "proc" / pid).exists(), "the orphan is gone")


def test_commands_get_no_other_variables_than_they_are_given(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTSIDE", "1")
    assert machine.run("env", env={"A": "b"}).stdout.split() == [f"PATH={PATH}", "A=b"]


def test_it_hears_only_itself(machine: Machine) -> None:
    script = """
import os, socket
listener = socket.create_server(("localhost", 80))
socket.create_connection(("localhost", 80)).close()
print(os.listdir("/sys/class/net"), socket.gethostname())
"""
    assert machine.run("python3", "-c", script).stdout == "['lo'] machine\n"


def test_users_reach_the_checkout_wherever_it_lies(machine: Machine) -> None:
    argv = ("runuser", "-u", "daemon", "--", sys.executable, "-c", "import backoffice.cli.main")
    machine.run(*argv, env={"PYTHONPATH": str(CHECKOUT)})


def test_packages_start_nothing_unless_they_are_let(machine_factory: MachineFactory) -> None:
    machine = machine_factory()
    assert machine.run(POLICY, "x", "start", check=False).returncode == 101  # forbidden
    machine.let_services_start()
    assert machine.run("test", "-e", POLICY, check=False).returncode == 1
