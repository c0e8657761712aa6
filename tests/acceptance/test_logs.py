"""Logs of real processes: how a request is followed, and what is lost of them."""

from __future__ import annotations

import getpass
import grp
import gzip
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.acceptance import proc
from tests.acceptance.disks import Disk, fill
from tests.acceptance.proc import wait_for
from tests.acceptance.site import ROOT, Site
from tests.conftest import MariaDB
from tests.receivers import signing_key
from tests.sentry import receiving

ROTATIONS, WRITERS = 20, 4
WRITER = """
import logging, pathlib, select, sys
from backoffice.system import logs
from backoffice.config.settings import LogSettings
logs.setup(LogSettings("files", pathlib.Path(sys.argv[1]), "info", "plain", ""))
log, name, count = logging.getLogger("backoffice"), sys.argv[2], 0
while not select.select([sys.stdin], [], [], 0.001)[0]:
    for count in range(count + 1, count + 51):
        log.info("line writer=%s number=%d %s.", name, count, "x" * 50)
print(count)
"""


@contextmanager
def serving(site: Site, **environ: str) -> Iterator[httpx.Client]:
    """Asks the service of a site that logs to files."""
    socket = site.home / "web.sock"
    site.set("service", parts="scheduler worker web")
    site.set("web", listen=f"unix:{socket}", rate="0")
    site.set("log", to="files", folder="service")
    site.start("serve", **environ)
    transport = httpx.HTTPTransport(uds=str(socket))
    with httpx.Client(transport=transport, base_url="http://localhost") as client:
        wait_for(lambda: _live(client), "the service answers", 30)
        yield client


def _live(client: httpx.Client) -> bool:
    try:
        return client.get("/health/live").status_code == 200
    except httpx.TransportError:
        return False


def lines(path: Path, *words: str) -> list[str]:
    """Those of a log that have all the words."""
    found = path.read_text().splitlines() if path.exists() else []
    return [line for line in found if all(word in line for word in words)]


def submit(client: httpx.Client, workflow: str) -> tuple[int, str]:
    """A job, and the id of the request that brought it."""
    document = f'<job xmlns="urn:backoffice:1" workflow="{workflow}"/>'
    answer = client.post("/jobs", content=document, headers={"Content-Type": "application/xml"})
    assert answer.status_code == 201, answer.text
    return int(answer.headers["Location"].rpartition("/")[2]), answer.headers["X-Request-ID"]


# One request, all the way -----------------------------------------------------


def test_a_request_is_followed_from_the_web_to_the_command_and_no_secret_is(site: Site) -> None:
    secrets = {
        "BACKOFFICE_NOTIFY_SECRET": signing_key("hush-notify"),
        "BACKOFFICE_AUTH_SECRET": "hush-form",
        "BACKOFFICE_LOG_SENTRY": "http://hush@127.0.0.1:9/1",
        "BACKOFFICE_LOG_LEVEL": "debug",
    }
    name = site.command("tell", f"env > {site.home}/environment; echo hello")
    with serving(site, **secrets) as client:
        job, request = submit(client, name)
        assert site.ended(job) == "succeeded"
        task = site.task(job, "run").id
        ids = f"task={task} job={job} attempt=1 worker=1 request={request}"
        service = site.home / "service"
        wait_for(lambda: lines(service / "access.log", request), "it is told")
        (access,) = lines(service / "access.log", request)
        assert '"POST /jobs HTTP/1.1" 201' in access
        wait_for(lambda: lines(service / "error.log", "task.succeeded", ids), "it is told")
        assert lines(service / "error.log", "task.started", ids)
        (log,) = site.logs.glob("attempts/*/*.log")
        first, *rest = log.read_text().splitlines()
        assert f"name=run {ids} host=" in first
        assert any(line.endswith(" hello") for line in rest)
        arguments = [proc.command(pid) for pid in proc.beneath(site.home)]
    site.stop()
    assert "hush" not in str(arguments)
    for path in site.home.rglob("*"):
        if path.is_file():
            assert b"hush" not in path.read_bytes(), path


def test_a_password_that_the_database_refuses_is_told_nowhere(
    site: Site, mariadb: MariaDB, tmp_path: Path
) -> None:
    uri = f"mysql://nobody:hush@localhost/nothing?unix_socket={mariadb.socket}"
    held = tmp_path / "uri"
    held.touch(0o600)
    held.write_text(f"{uri}\n")
    for command in ("check", "jobs", "serve"):
        done = site.run(command, BACKOFFICE_DATABASE_URI_FILE=str(held))
        assert done.returncode == (1 if command == "check" else 4), done.stderr
        told = done.stdout + done.stderr
        assert "Access denied for user 'nobody'" in told
        assert "hush" not in told
        assert "Traceback" not in told


@pytest.fixture
def crashing(tmp_path: Path) -> Callable[..., str]:
    """A path to import from, where a function of the program raises at each call."""

    def make(function: str, before: str = "()") -> str:
        module, _, name = function.partition(":")
        code = f"import {module}\n{module}.{name} = lambda it: ({before}, 1 / 0)\n"
        (tmp_path / "sitecustomize.py").write_text(code)
        return f"{tmp_path}:{ROOT}"

    return make


def test_sentry_is_told_of_a_crash_in_an_attempt(site: Site, crashing: Callable[..., str]) -> None:
    name = site.command("crash", "true", attempts="1")
    environ = {"PYTHONPATH": crashing("backoffice.tasks.command:run", "it.execute(['true'])")}
    with (
        receiving() as sentry,
        serving(site, **environ, BACKOFFICE_LOG_SENTRY=sentry.dsn) as client,
    ):
        job, request = submit(client, name)
        assert site.ended(job) == "failed"
        wait_for(lambda: sentry.events, "it is told")
        (event,) = sentry.events
        assert lines(site.home / "service/error.log", "task.crashed", request)
    assert event["exception"]["values"][-1]["type"] == "ZeroDivisionError"
    assert event["tags"].items() >= {"job": str(job), "request": request}.items()


def test_sentry_is_told_of_what_ends_a_part(site: Site, crashing: Callable[..., str]) -> None:
    path = crashing("backoffice.scheduler.scheduler:Scheduler.run")
    with receiving() as sentry:
        done = site.run("scheduler", PYTHONPATH=path, BACKOFFICE_LOG_SENTRY=sentry.dsn)
        assert done.returncode == 1
        (event,) = sentry.events
    assert event["exception"]["values"][-1]["type"] == "ZeroDivisionError"
    assert event["tags"]["logger"] == "backoffice.process"


# A full disk, and rotation ----------------------------------------------------


def test_a_full_disk_of_logs_holds_up_nothing_and_is_told_afterwards(
    disk: Disk, site: Site
) -> None:
    service = disk(site.home / "service", "200k")
    with serving(site) as client:
        ballast = fill(service)
        begun = time.monotonic()
        for _ in range(500):  # more than the last page of the log has room for
            assert client.get("/health/live").status_code == 200
        assert time.monotonic() - begun < 30
        ballast.unlink()
        assert client.get("/jobs").status_code == 200
        # The line is written once the answer has been sent.
        words = "log.lines-lost", "access.log"
        wait_for(lambda: lines(service / "error.log", *words), "it is told")
        (told,) = lines(service / "error.log", *words)
        found = re.search(r"count=(\d+)$", told)
        assert found is not None
        kept = len(lines(service / "access.log", "/health/live"))
        assert int(found[1]) > 300
        assert 500 <= int(found[1]) + kept < 600
        assert len(lines(service / "access.log", "GET /jobs")) == 1
    site.stop()
    assert site.log().count("access.log takes no lines: No space left on device") == 1


def logrotate() -> str:
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
    return shutil.which("logrotate", path=path) or pytest.fail(
        "logrotate is missing; apt-get install logrotate", pytrace=False
    )


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """The shipped ones, but for this user and folder, and such that nothing is removed."""
    group = grp.getgrgid(os.getgid()).gr_name
    text = (ROOT / "etc/logrotate.d/backoffice").read_text()
    for shipped, here in (
        ("/var/log/backoffice/", f"{tmp_path}/logs/"),
        ("/var/log/backoffice-", f"{tmp_path}/others-"),
        ("su backoffice adm", f"su {getpass.getuser()} {group}"),
        ("rotate 14", f"rotate {ROTATIONS + 5}"),
    ):
        assert shipped in text
        text = text.replace(shipped, here)
    path = tmp_path / "rules"
    path.write_text(text)
    path.chmod(0o644)
    (tmp_path / "logs").mkdir(mode=0o750)
    return path


def rotate(rules: Path, *options: str) -> str:
    command = [logrotate(), "-s", str(rules.parent / "state"), *options, str(rules)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "error" not in done.stderr.replace("error.log", "")
    return done.stderr


def test_logrotate_accepts_the_shipped_rules(rules: Path) -> None:
    (rules.parent / "logs/error.log").write_text("line\n")
    assert "after 1 days (25 rotations)" in rotate(rules, "-d")


def test_rotation_under_load_loses_no_line_and_tears_none(rules: Path) -> None:
    folder = rules.parent / "logs"
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder), str(number)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(WRITERS)
    ]
    try:
        for _ in range(ROTATIONS):
            # None is still at the line that it began before the last rotation.
            wait_for(lambda: all_write(folder / "error.log"), "all write", 60)
            rotate(rules, "-f")
        counts = [int(writer.communicate("\n", timeout=60)[0]) for writer in writers]
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()
    found: Counter[tuple[str, str]] = Counter()
    files = list(folder.iterdir())
    for path in files:
        read = gzip.open if path.suffix == ".gz" else open
        with read(path, "rt") as stream:
            for line in stream:
                whole = re.fullmatch(r"\S+ info \S+ line writer=(\d) number=(\d+) x{50}\.\n", line)
                assert whole, line
                found[whole[1], whole[2]] += 1
    assert len(files) >= ROTATIONS
    assert set(found.values()) == {1}
    assert [sum(w == str(n) for w, _ in found) for n in range(WRITERS)] == counts


def all_write(path: Path) -> bool:
    text = path.read_text() if path.exists() else ""
    return all(f"writer={number} " in text for number in range(WRITERS))
