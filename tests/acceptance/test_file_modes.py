"""What the program makes is private, however lax the shell is that starts it."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.acceptance.proc import wait_for
from tests.acceptance.servers import live
from tests.acceptance.site import Site

FOLDERS = ("work", "logs", "run", "service", "database")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    home = tmp_path / "site"
    with closing(Site(home, f"sqlite:{home}/database/main.sqlite")) as site:
        site.set("paths", run="run")
        site.set("service", parts="scheduler worker web")
        site.set("web", listen=f"unix:{home}/service/socket")
        site.set("log", to="files", folder="service")
        yield site


def _start(site: Site, umask: int, *arguments: str) -> subprocess.Popen[bytes]:
    """As typed into a shell with that umask."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "backoffice", *arguments],
        cwd=site.home,
        env=site.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        umask=umask,
        start_new_session=True,
    )


def _run(site: Site, umask: int, *arguments: str) -> None:
    process = _start(site, umask, *arguments)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said.decode()


def _wide(site: Site) -> dict[str, str]:
    """What others than the owner and the group can do anything with, or the group
    can change; the socket is the group's."""
    wide = {}
    for folder in FOLDERS:
        found = [site.home / folder, *(site.home / folder).rglob("*")]
        for path in filter(os.path.lexists, found):
            mode = path.lstat().st_mode
            allowed = 0o660 if stat.S_ISSOCK(mode) else 0o750
            if stat.S_IMODE(mode) & ~allowed:
                wide[str(path.relative_to(site.home))] = stat.filemode(mode)
    return wide


def _kinds(site: Site) -> set[str]:
    names = (path.name for folder in FOLDERS for path in (site.home / folder).rglob("*"))
    return set(names)


@pytest.mark.parametrize("umask", [0o022, 0o000])
def test_nothing_that_a_service_started_by_hand_makes_is_open_to_others(
    site: Site, umask: int
) -> None:
    _run(site, umask, "migrate")
    site.command("make", 'umask; echo made >"$BACKOFFICE_OUTPUT/a.txt" 2>/dev/null; sleep 1')
    service = _start(site, umask, "serve")
    site.processes.append(service)
    address = site.home / "service" / "socket"
    wait_for(lambda: live(address), "the service answers")
    job = site.submit("make")
    wait_for(lambda: any((site.home / "work").rglob("run-1")), "the attempt has its folder")
    assert {"main.sqlite", "main.sqlite-wal", "main.sqlite-shm"} <= _kinds(site)
    assert not _wide(site)
    site.ended(job)
    _run(site, umask, "backup", str(site.home / "service" / "a.backup"))
    assert {"access.log", "error.log", "backoffice.pid", "a.backup"} <= _kinds(site)
    assert not _wide(site)
    limits = Path(f"/proc/{service.pid}/limits").read_text()
    assert [line.split()[4:6] for line in limits.splitlines() if "core file" in line] == [
        ["0", "0"]
    ]
    service.send_signal(signal.SIGTERM)
    assert service.wait(timeout=30) == 0
    service.stderr and service.stderr.close()


@pytest.mark.parametrize("umask", [0o022, 0o000])
def test_nothing_that_a_part_started_by_hand_makes_is_open_to_others(
    site: Site, umask: int
) -> None:
    _run(site, umask, "migrate")
    site.recipe("nothing", '<task name="rest" type="noop"/>', inputs="")
    job = site.submit("nothing")
    parts = [_start(site, umask, part) for part in ("worker", "scheduler", "web")]
    site.processes += parts
    wait_for(lambda: live(site.home / "service" / "socket"), "the web server answers")
    site.ended(job)
    assert not _wide(site)
    for part in parts:
        part.send_signal(signal.SIGTERM)
        assert part.wait(timeout=30) == 0
        part.stderr and part.stderr.close()


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_what_is_published_can_be_read_by_the_web_server(site: Site, umask: int) -> None:
    _run(site, umask, "migrate")
    site.put()
    (site.media / "a.mp4").write_bytes(b"0123456789")
    worker = _start(site, umask, "worker")
    site.processes.append(worker)
    job = site.submit("put", site.media / "a.mp4")
    assert site.ended(job) == "succeeded", site.message(job)
    (path,) = site.published()
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=30) == 0
    worker.stderr and worker.stderr.close()


def test_a_stricter_umask_stays(site: Site) -> None:
    _run(site, 0o077, "migrate")
    assert stat.S_IMODE((site.home / "database" / "main.sqlite").stat().st_mode) == 0o600


def test_other_servers_make_private_files_too(site: Site) -> None:
    code = "import backoffice.web.wsgi, os, resource; print(os.umask(0), end=' ');"
    code += "print(*resource.getrlimit(resource.RLIMIT_CORE))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=site.home,
        env=site.environment,
        umask=0o000,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == [str(0o027), "0", "0"]
