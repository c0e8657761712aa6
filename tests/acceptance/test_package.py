"""The Debian package: what is in it, and what a machine is like that it came to and left."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from posixpath import normpath

import pytest

from backoffice.config import loading
from tests.acceptance.conftest import MachineFactory
from tests.acceptance.package import MARK, fresh, install, leftovers, newer, run
from tests.machine import Machine

pytestmark = pytest.mark.timeout(400)  # the first of them waits for the build

INI = "/etc/backoffice/backoffice.ini"
INSTANCE = """
cd /etc/backoffice
install -d -o backoffice -g backoffice /var/lib/backoffice-eu /var/log/backoffice-eu
cp backoffice.ini backoffice-eu.ini
sed -i 's|/var/[a-z]*/backoffice|&-eu|; s|^#parts = .*|parts = scheduler|' backoffice-eu.ini
chgrp backoffice backoffice-eu.ini && chmod 640 backoffice-eu.ini
runuser -u backoffice -- backoffice --config /etc/backoffice/backoffice-eu.ini migrate
ln -s backoffice /etc/init.d/backoffice-eu
update-rc.d backoffice-eu defaults
/etc/init.d/backoffice-eu start
"""  # as an admin makes one
DATA, LOGS, RUN = "/var/lib/backoffice", "/var/log/backoffice", "/run/backoffice"

# Prints the distributions in a folder of which nothing is imported.
NOT_IMPORTED = """
import importlib, os, pkgutil, sys
from importlib import metadata
import backoffice, middleware
import MySQLdb, language_data, marisa_trie, pyseccomp, sentry_sdk, tqdm  # imported when needed
for package in (backoffice, middleware):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
imported = {os.path.realpath(file) for file in files if file}
for distribution in metadata.distributions(path=[sys.argv[1]]):
    own = {os.path.realpath(distribution.locate_file(file)) for file in distribution.files}
    if not own & imported:
        print(distribution.name)
"""

# What it contains -------------------------------------------------------------


@pytest.fixture(scope="module")
def tree(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tree")
    run("dpkg-deb", "--extract", package, folder)
    return folder


@pytest.fixture(scope="module")
def site_packages(tree: Path) -> Path:
    (found,) = tree.glob("usr/lib/backoffice/lib/python3*/site-packages")
    return found


def files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def field(package: Path, name: str) -> str:
    return run("dpkg-deb", "--field", package, name).strip()


def test_no_file_names_where_it_was_built(tree: Path) -> None:
    assert [path for path in files(tree) if MARK.encode() in path.read_bytes()] == []


def test_no_bytecode_is_packed(tree: Path) -> None:
    assert list(tree.rglob("__pycache__")) == []


def test_no_command_of_a_library_is_packed(tree: Path) -> None:
    names = {path.name for path in (tree / "usr/lib/backoffice/bin").iterdir()}
    assert names == {"backoffice", "python", "python3", f"python3.{sys.version_info.minor}"}


def test_the_service_imports_something_of_each_library(site_packages: Path) -> None:
    command = ("env", "-i", "PYTHONDONTWRITEBYTECODE=1", f"PYTHONPATH={site_packages}")
    said = run(*command, "/usr/bin/python3", "-P", "-c", NOT_IMPORTED, site_packages)
    assert said.split() == []


def test_the_records_of_what_is_installed_are_right(package: Path) -> None:
    """Read from the package itself: a host may add its own authorities to the bundle of
    certificates as soon as the files lie on a disk."""
    done = subprocess.run(["dpkg-deb", "--fsys-tarfile", package], capture_output=True, check=True)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        contents = {
            PurePosixPath(member.name): archive.extractfile(member).read()  # type: ignore[union-attr]
            for member in archive
            if member.isfile()
        }
    records = [path for path in contents if path.match("*.dist-info/RECORD")]
    assert len(records) > 10
    for record in records:
        for name, digest, _ in csv.reader(contents[record].decode().splitlines()):
            if digest:
                content = contents[PurePosixPath(normpath(record.parent.parent / name))]
                found = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode()
                assert digest == f"sha256={found.rstrip('=')}", f"{record}: {name}"


def test_each_library_comes_with_its_licence(tree: Path, site_packages: Path) -> None:
    told = (tree / "usr/share/doc/backoffice/copyright").read_text()
    for folder in site_packages.glob("*.dist-info"):
        names = [path.name.lower() for path in folder.rglob("*")]
        metadata = (folder / "METADATA").read_text()
        if not any(name.startswith(("licen", "copying")) for name in names):
            licence = re.search(r"(?m)^(License|Classifier: License)", metadata)
            assert licence or folder.name.split("-")[0] in told, folder


def test_each_library_is_in_the_bill_of_materials(tree: Path, site_packages: Path) -> None:
    told = json.loads((tree / "usr/share/doc/backoffice/backoffice.cdx.json").read_text())
    named = {one["name"] for one in [*told["components"], told["metadata"]["component"]]}
    there = {path.name.split("-")[0] for path in site_packages.glob("*.dist-info")}
    assert {re.sub(r"[-_.]+", "-", name).lower() for name in there} <= named
    assert {"hls.js", "uplot"} <= named


def test_all_shared_libraries_it_needs_are_of_packages_it_names(
    package: Path, site_packages: Path
) -> None:
    wanted = set()
    for library in site_packages.rglob("*.so*"):
        said = run("ldd", library)
        assert "not found" not in said
        wanted |= set(re.findall(r"=> (/\S+)", said))
    outer = {path for path in wanted if str(site_packages) not in path}
    # Whether /lib or /usr/lib, they are the same; dpkg knows one name only.
    found = run("dpkg", "--search", *(f"*{path.removeprefix('/usr')}" for path in outer))
    owners = {line.split(":")[0] for line in found.splitlines()}
    named = {word.strip().split()[0] for word in field(package, "Depends").split(",")}
    indirect = {"libssl3", "libzstd1"}  # of libmariadb3
    assert owners - indirect <= named


def test_all_that_is_in_etc_is_kept_when_it_was_changed(package: Path, tree: Path) -> None:
    conffiles = run("dpkg-deb", "--info", package, "conffiles").split()
    assert conffiles == sorted(f"/{path.relative_to(tree)}" for path in files(tree / "etc"))


def test_root_owns_everything_and_nobody_else_may_write(package: Path) -> None:
    for line in run("dpkg-deb", "--contents", package).splitlines():
        mode, owner = line.split()[:2]
        assert owner == "root/root", line
        assert mode[0] == "l" or (mode[5], mode[8]) == ("-", "-"), line
        assert "s" not in mode, line


def test_what_belongs_to_a_service_is_where_admins_look(tree: Path) -> None:
    for place in (
        "etc/init.d/backoffice",
        "etc/logrotate.d/backoffice",
        "etc/fail2ban/jail.d/backoffice.conf",
        "etc/apache2/sites-available/backoffice.conf",
        "etc/apache2/sites-available/backoffice-wsgi.conf",
        "usr/bin/backoffice",
        "usr/lib/systemd/system/backoffice.service",
        "usr/lib/tmpfiles.d/backoffice.conf",
        "usr/lib/sysusers.d/backoffice.conf",
        "usr/share/bash-completion/completions/backoffice",
        "usr/share/man/man1/backoffice.1.gz",
        "usr/share/man/man5/backoffice.ini.5.gz",
        "usr/share/doc/backoffice/copyright",
        "usr/share/doc/backoffice/changelog.gz",
        "usr/share/doc/backoffice/README.md",
    ):
        path = tree / place
        assert path.is_symlink() or path.stat().st_size, place
    for folder in ("etc/workflows", "schema", "static"):
        assert any((tree / "usr/share/backoffice" / folder).iterdir()), folder


def test_its_settings_are_those_of_an_installed_service(tree: Path) -> None:
    path = tree / INI.lstrip("/")
    assert path.stat().st_mode & 0o777 == 0o640
    settings = loading.load(str(path), {})
    assert settings.database.uri == f"sqlite:{DATA}/backoffice.sqlite"
    assert settings.paths.work == Path(f"{DATA}/work")
    assert settings.paths.roots == (Path(f"{DATA}/media"),)
    assert settings.paths.logs == Path(LOGS)
    assert settings.paths.run == Path(RUN)
    assert (settings.log.to, settings.log.folder) == ("files", Path(LOGS))
    assert settings.web.listen == Path(f"{RUN}/web.sock")
    assert settings.web.maintenance == Path(f"{DATA}/maintenance")
    assert settings.auth.required
    assert settings.targets["site"].path == Path(f"{DATA}/publish")


# Where it is installed ----------------------------------------------------------


@pytest.fixture(scope="module")
def installed(package: Path, machine_factory: MachineFactory) -> Iterator[Machine]:
    """For tests that leave packages and settings as they were, and the service running."""
    machine = fresh(machine_factory())
    install(machine, package)
    yield machine
    machine.end()


def backoffice(machine: Machine, *words: str) -> str:
    """As the user of the service."""
    user = ("runuser", "-u", "backoffice", "--")
    done = machine.run(*user, "backoffice", *words, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def status(machine: Machine) -> int:
    return machine.run("/etc/init.d/backoffice", "status", check=False).returncode


def main_process(machine: Machine) -> str:
    return machine.read(f"{RUN}/backoffice.pid")


def test_it_is_running_when_it_has_been_installed(installed: Machine) -> None:
    assert status(installed) == 0
    assert backoffice(installed, "check")
    assert installed.run("sh", "-c", "ls /etc/rc2.d/S*backoffice").stdout
    pid = main_process(installed).split()[0]
    assert installed.run("ps", "-o", "user=", "--pid", pid, "--ppid", pid).stdout.split()
    assert set(installed.run("ps", "-o", "user=", "--pid", pid, "--ppid", pid).stdout.split()) == {
        "backoffice"
    }


def test_folders_and_settings_are_for_whom_they_should_be(installed: Machine) -> None:
    wanted = {
        INI: "root:backoffice 640",
        DATA: "backoffice:backoffice 751",
        f"{DATA}/work": "backoffice:backoffice 750",
        f"{DATA}/media": "backoffice:backoffice 750",
        f"{DATA}/publish": "backoffice:www-data 2750",
        f"{DATA}/backoffice.sqlite": "backoffice:backoffice 640",
        LOGS: "backoffice:adm 2750",
        RUN: "backoffice:www-data 2750",
        f"{RUN}/web.sock": "backoffice:www-data 660",
    }
    found = {path: installed.run("stat", "-c", "%U:%G %a", path).stdout.strip() for path in wanted}
    assert found == wanted


def test_it_runs_a_job_whose_result_apache_can_read_and_its_settings_not(
    installed: Machine,
) -> None:
    clip = f"{DATA}/media/clip.mp4"
    source = "testsrc2=size=160x90:rate=25:duration=1"
    user = ("runuser", "-u", "backoffice", "--")
    installed.run(*user, "ffmpeg", "-loglevel", "error", "-f", "lavfi", "-i", source, clip)
    backoffice(installed, "submit", "publish-only", clip, "--wait")
    published = installed.run("find", f"{DATA}/publish", "-name", "*.mp4").stdout.strip()
    apache = ("setpriv", "--reuid", "www-data", "--regid", "www-data", "--init-groups")
    assert installed.run(*apache, "cksum", published).stdout
    for secret in (INI, f"{DATA}/backoffice.sqlite", f"{LOGS}/error.log"):
        assert installed.run(*apache, "cat", secret, check=False).returncode != 0


def test_the_command_works_from_anywhere_with_no_environment(installed: Machine) -> None:
    command = "cd /usr/share && exec env -i /usr/bin/backoffice --version"
    assert installed.run("sh", "-c", command).stdout.startswith("backoffice ")


def test_its_modules_are_compiled_once_for_all_users(installed: Machine) -> None:
    code = "import backoffice; print(backoffice.__path__[0])"
    package = installed.run("/usr/lib/backoffice/bin/python3", "-c", code).stdout.strip()
    sources = installed.run("find", package, "-name", "*.py").stdout.split()
    found = installed.run("find", package, "-name", "*.pyc", "-user", "root").stdout.split()
    compiled = {re.sub(r"__pycache__/(.+)\.cpython-\d+\.pyc$", r"\1.py", path) for path in found}
    assert compiled == set(sources)


def test_its_files_are_as_they_were_packed(installed: Machine) -> None:
    said = installed.run("dpkg", "--verify", "backoffice").stdout
    assert [line for line in said.splitlines() if "/share/man/" not in line] == []


# Upgraded, removed and purged ---------------------------------------------------


@pytest.fixture(scope="module")
def next_version(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return newer(package, tmp_path_factory.mktemp("newer"))


def test_an_upgrade_keeps_settings_and_restarts_what_ran(
    package: Path, next_version: Path, machine_factory: MachineFactory
) -> None:
    machine = fresh(machine_factory())
    install(machine, package)
    machine.run("sed", "-i", "s/^#slots = 2/slots = 3/", INI)
    before = main_process(machine)
    install(machine, next_version)
    assert "slots = 3" in machine.read(INI)
    assert machine.run("stat", "-c", "%U:%G %a", INI).stdout == "root:backoffice 640\n"
    assert status(machine) == 0
    assert main_process(machine) != before
    machine.end()


def reinstall(machine: Machine) -> str:
    """What dpkg calls when a version is installed over another, and what that says."""
    script = "cd /var/lib/dpkg/info && ./backoffice.prerm upgrade 9.9 && ./backoffice.postinst"
    done = machine.run("sh", "-c", f"{{ {script} configure 0.1.0; }} 2>&1", env={"LC_ALL": "C"})
    return done.stdout


def test_an_upgrade_starts_the_instances_that_ran_and_no_others(installed: Machine) -> None:
    installed.run("sh", "-exc", INSTANCE)
    installed.run("/etc/init.d/backoffice", "stop")
    installed.run("rm", "/var/lib/backoffice-eu/backoffice.sqlite")  # it is made anew
    reinstall(installed)
    assert status(installed) == 3
    installed.run("/etc/init.d/backoffice-eu", "status")
    installed.run("/etc/init.d/backoffice-eu", "stop")
    installed.run("/etc/init.d/backoffice", "start")


def test_settings_that_are_wrong_do_not_break_an_upgrade(installed: Machine) -> None:
    settings = installed.read(INI)
    installed.run("sed", "-i", "s/^#slots = 2/slots = many/", INI)
    said = reinstall(installed)
    assert "slots: is not a whole number" in said
    assert "backoffice was not started" in said
    assert "Traceback" not in said
    installed.run("tee", INI, input=settings)
    installed.run("/etc/init.d/backoffice", "start")


def test_a_database_that_cannot_be_made_does_not_break_an_installation(
    installed: Machine,
) -> None:
    database = f"{DATA}/backoffice.sqlite"
    installed.run("/etc/init.d/backoffice", "stop")
    installed.run("mv", database, f"{database}.away")
    installed.run("mkdir", database)
    said = reinstall(installed)
    assert f"runuser -u backoffice -- backoffice --config {INI} migrate" in said
    assert "Traceback" not in said
    installed.run("rmdir", database)
    installed.run("mv", f"{database}.away", database)
    installed.run("/etc/init.d/backoffice", "start")


def test_removing_keeps_what_is_the_admins_and_purging_keeps_nothing(
    package: Path, machine_factory: MachineFactory
) -> None:
    machine = fresh(machine_factory())
    before = machine.written()
    install(machine, package)
    machine.run("apt-get", "remove", "-y", "backoffice", timeout=120)
    assert machine.run("pgrep", "-u", "backoffice", check=False).stdout == ""
    assert not (machine.root / "usr/lib/backoffice").exists()
    machine.run("test", "-s", INI, "-a", "-s", f"{DATA}/backoffice.sqlite")
    machine.run("apt-get", "purge", "-y", "backoffice", timeout=120)
    assert leftovers(machine, before) == []
    machine.end()
