"""What systemd is told of the service, tried with a systemd of a machine of its own."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import MachineFactory
from tests.acceptance.installation import Instance, add_instance, install
from tests.acceptance.proc import wait_for
from tests.machine import CHECKOUT, Machine

UNITS = CHECKOUT / "etc/systemd"
EXPOSURE = 16  # tenths, as systemd-analyze counts; 100 is a service that may do anything
# Its own /tmp would hide a checkout that lies there.
HERE = f"[Service]\nRestartSec=0\nBindReadOnlyPaths={CHECKOUT}\n"
LIGHT = "[service]\nparts = scheduler\n"


def needs(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is missing; apt-get install systemd")


# The files


def test_an_instance_has_the_same_unit() -> None:
    text = (UNITS / "backoffice@.service").read_text()
    text = text.replace("backoffice-%i", "backoffice").replace(" (%i)", "").replace("@,", ",")
    assert text == (UNITS / "backoffice.service").read_text()


@pytest.mark.parametrize("name", ["backoffice.service", "backoffice@.service"])
def test_the_memory_of_the_service_is_never_dumped(name: str) -> None:
    assert "\nLimitCORE=0\n" in (UNITS / name).read_text()


@pytest.mark.parametrize("name", ["backoffice.service", "backoffice@.service"])
def test_the_service_may_do_little(name: str, tmp_path: Path) -> None:
    needs("systemd-analyze")
    unit = shutil.copy(UNITS / name, tmp_path / name.replace("@", "@eu"))
    rate = ("systemd-analyze", "security", "--offline=yes", "--no-pager")
    run(*rate, f"--threshold={EXPOSURE}", str(unit))


def run(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_its_user_and_folders_are_made(machine: Machine) -> None:
    needs("systemd-tmpfiles")
    for kind in ("sysusers.d", "tmpfiles.d"):
        text = (CHECKOUT / "etc" / kind / "backoffice.conf").read_text()
        machine.write(f"/usr/lib/{kind}/backoffice.conf", text)
    machine.run("systemd-sysusers", "backoffice.conf")
    machine.run("systemd-tmpfiles", "--create", "backoffice.conf")
    entry = machine.run("getent", "passwd", "backoffice").stdout.strip().split(":")
    assert entry[5:] == ["/var/lib/backoffice", "/usr/sbin/nologin"]
    folders = {
        "/run/backoffice": "2750 backoffice:www-data",
        "/var/lib/backoffice": "751 backoffice:backoffice",
        "/var/lib/backoffice/media": "750 backoffice:backoffice",
        "/var/lib/backoffice/work": "750 backoffice:backoffice",
        "/var/lib/backoffice/publish": "2750 backoffice:www-data",
        "/var/log/backoffice": "2750 backoffice:adm",
        "/var/log/backoffice/attempts": "2750 backoffice:adm",
    }
    found = machine.run("stat", "-c", "%n %a %U:%G", *folders).stdout.splitlines()
    assert found == [f"{path} {mode}" for path, mode in folders.items()]


# With systemd


@pytest.fixture(scope="module")
def installed(machine_factory: MachineFactory) -> Iterator[Instance]:
    machine = machine_factory(systemd=True)
    for unit in UNITS.iterdir():
        machine.write(f"/lib/systemd/system/{unit.name}", unit.read_text())
    for unit in ("backoffice", "backoffice@"):
        machine.write(f"/etc/systemd/system/{unit}.service.d/here.conf", HERE)
    instance = install(machine)
    machine.boot()
    yield instance
    machine.end()


@pytest.fixture
def service(installed: Instance) -> Iterator[Instance]:
    """Not running, with light settings that a test may replace."""
    installed.configure(LIGHT)
    yield installed
    installed.machine.run("systemctl", "stop", "backoffice")
    installed.machine.run("systemctl", "reset-failed", "backoffice", check=False)  # if it has


def show(instance: Instance, name: str) -> str:
    """A property of its unit, as systemd knows it."""
    show = ("systemctl", "show", "backoffice", "--value", "--property")
    return instance.machine.run(*show, name).stdout.strip()


def processes(instance: Instance) -> list[str]:
    """What the unit's control group holds."""
    group = "/sys/fs/cgroup/system.slice/backoffice.service/cgroup.procs"
    return instance.machine.run("cat", group, check=False).stdout.split()


def test_the_units_are_as_systemd_wants_them(installed: Instance) -> None:
    verify = ("systemd-analyze", "verify", "--man=no", "--recursive-errors=no")
    told = installed.machine.run(*verify, "backoffice.service", "backoffice@eu.service")
    assert told.stdout + told.stderr == ""


def test_a_job_succeeds_within_the_walls(service: Instance) -> None:
    """Ready when started, with everything that it needs, and gone when stopped. The
    unit leaves the service what it confines ffmpeg by."""
    machine = service.machine
    service.configure("[limits]\nconfine = require\n")
    machine.run("systemctl", "start", "backoffice")
    ask = ("curl", "-sS", "--fail", "--unix-socket", "/run/backoffice/web.sock")
    machine.run(*ask, "http://localhost/health/ready")
    clip = f"{service.home}/media/clip.mp4"
    make = ("ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=320x180:d=1")
    machine.run(*make, clip)
    published = ("--param", "target=site", "--wait")
    service.backoffice("submit", "transcode", clip, *published)
    machine.run("systemctl", "stop", "backoffice")
    assert (show(service, "Result"), show(service, "ExecMainStatus")) == ("success", "0")
    assert machine.run("ls", "/run/backoffice").stdout == ""


def test_reload_keeps_it_running_and_refuses_wrong_settings(service: Instance) -> None:
    machine = service.machine
    machine.run("systemctl", "start", "backoffice")
    pid = show(service, "MainPID")
    machine.run("systemctl", "reload", "backoffice")
    service.configure("[service]\nparts = nothing\n")
    assert machine.run("systemctl", "reload", "backoffice", check=False).returncode == 1
    assert "[service] parts" in machine.run("journalctl", "-u", "backoffice").stdout
    assert (show(service, "ActiveState"), show(service, "MainPID")) == ("active", pid)


def test_wrong_settings_are_not_tried_again(service: Instance) -> None:
    service.configure("[service]\nparts = nothing\n")
    assert service.machine.run("systemctl", "start", "backoffice", check=False).returncode == 1
    assert (show(service, "ActiveState"), show(service, "NRestarts")) == ("failed", "0")
    assert show(service, "ExecMainStatus") == "2"


def test_a_killed_service_is_started_again_and_leaves_nothing(service: Instance) -> None:
    machine = service.machine
    machine.run("systemctl", "start", "backoffice")
    old = processes(service)
    machine.run("kill", "-KILL", show(service, "MainPID"))
    wait_for(lambda: show(service, "NRestarts") != "0", "it is started again")
    wait_for(lambda: show(service, "ActiveState") == "active", "it is ready")
    assert old
    assert not set(old) & set(processes(service))


def test_a_service_that_hangs_is_started_again(service: Instance) -> None:
    machine = service.machine
    settings = "[Service]\nWatchdogSec=3\nTimeoutAbortSec=1\n"
    machine.write("/run/systemd/system/backoffice.service.d/hasty.conf", settings)
    machine.run("systemctl", "daemon-reload")
    try:
        machine.run("systemctl", "start", "backoffice")
        pid = show(service, "MainPID")
        machine.run("kill", "-STOP", pid)
        wait_for(lambda: show(service, "MainPID") not in (pid, "0"), "another one is started")
    finally:
        machine.run("rm", "/run/systemd/system/backoffice.service.d/hasty.conf")
        machine.run("systemctl", "daemon-reload")


def test_the_init_script_hands_over_to_systemd(service: Instance) -> None:
    assert service.act("start").returncode == 0
    assert show(service, "ActiveState") == "active"
    assert service.act("status").returncode == 0
    assert service.act("stop").returncode == 0
    assert show(service, "ActiveState") == "inactive"


def test_instances_have_folders_of_their_own(service: Instance) -> None:
    machine = service.machine
    second = add_instance(service, "backoffice-eu")
    second.configure(LIGHT)
    machine.run("systemctl", "start", "backoffice", "backoffice@eu")
    assert second.pid() != service.pid()
    machine.run("systemctl", "stop", "backoffice@eu")
    assert show(service, "ActiveState") == "active"
