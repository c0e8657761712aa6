"""What a hostile program in ffmpeg's place can reach, and what a file exchanged for a
link brings in, in the service as it runs."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from backoffice.errors import Invalid
from backoffice.system import landlock
from tests.acceptance.proc import wait_for
from tests.acceptance.site import Site
from tests.clips import Clips

HOSTILE = Path(__file__).with_name("hostile.py")
needs_landlock = pytest.mark.skipif(
    landlock.version() < landlock.SCOPES, reason="this kernel's Landlock is too old"
)
# What the kernel, or the file system of the test, may refuse to any program.
NOT_EVERYWHERE = {"change attributes", "set up io_uring", "make a namespace", "connect by IPv6"}

# The shell itself must read them: of another process they are not to be had.
SHOW = (
    "for f in limits status environ; do while read -r l; do echo $l >&2; done </proc/self/$f; done"
)

# Two names change places without a pause.
EXCHANGE = """
import ctypes, os, sys
one, other = map(os.fsencode, sys.argv[1:])
exchange = ctypes.CDLL(None).renameat2
print("goes", flush=True)
while True:
    exchange(-100, one, -100, other, 2)
"""


@contextmanager
def listening(unix: Path) -> Iterator[int]:
    """A TCP port of this host, and a Unix socket as the web server has one."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as local:
        local.bind(str(unix))
        local.listen()
        yield server.getsockname()[1]


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    for name in ("secret", "victim"):
        (folder / name).write_text("a password")
    return folder


def attack(site: Site, outside: Path, submit: Callable[[Path], int]) -> dict[str, list[str]]:
    """Run the hostile program as a job of the service: what it could do and what not."""
    program = site.home / "hostile"
    _script(program, "exit 1")
    site.set("tools", read=str(HOSTILE))
    with listening(site.home / "web.sock") as port:
        job = submit(program)
        worker = site.start("scheduler", "worker")
        site.started()
        # It knows all that an attacker could find out.
        known = (site.home, site.ini, site.home / "web.sock", port, worker.pid, outside)
        arguments = " ".join(f"'{one}'" for one in known)
        _script(program, f"exec /usr/bin/python3 -I {HOSTILE} {arguments}")
        site.ended(job)
    text = "".join(one.read_text() for one in (site.logs / "attempts").rglob("*.log"))
    assert "the end" in text, text
    told: dict[str, list[str]] = {"done": [], "refused": []}
    for kind, name in re.findall(r" (done|refused): ([^(\n]*[^( \n])", text):
        told[kind].append(name)
    return told


def _script(path: Path, command: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(f"#!/bin/sh\n{command}\n")
    new.chmod(0o755)
    new.rename(path)


def as_ffmpeg(site: Site, clips: Clips, program: Path) -> int:
    site.set("tools", ffmpeg=str(program))
    name = site.recipe(
        "encode",
        '<task name="probe" type="probe"><input role="source"/></task>'
        '<task name="wait" type="noop" needs="probe" delay="3s"/>'
        '<task name="encode" type="transcode" attempts="1" needs="wait"><input role="source"/>'
        '<parameter name="profile">mp4-360</parameter></task>',
    )
    return site.submit(name, site.source(clips["plain.mp4"]))


def as_command(site: Site, program: Path, confine: str) -> int:
    name = site.command("hostile", "", attempts="1", delay="3s")
    site.set("command hostile", argv=str(program), confine=confine, read=str(HOSTILE))
    return site.submit(name)


@needs_landlock
@pytest.mark.parametrize("place", ["ffmpeg", "command"])
def test_a_hostile_program_reaches_nothing(
    site: Site, clips: Clips, outside: Path, place: str
) -> None:
    def submit(program: Path) -> int:
        if place == "ffmpeg":
            return as_ffmpeg(site, clips, program)
        return as_command(site, program, "yes")

    told = attack(site, outside, submit)
    assert told["done"] == []
    assert len(told["refused"]) > 30
    assert sorted(os.listdir(outside)) == ["secret", "victim"]
    assert (outside / "secret").read_text() == "a password"


def test_unconfined_the_same_program_reaches_nearly_everything(site: Site, outside: Path) -> None:
    """Otherwise the test above would prove nothing."""
    try:
        told = attack(site, outside, lambda program: as_command(site, program, "no"))
        assert set(told["refused"]) <= NOT_EVERYWHERE
        site.do(lambda store: store.execute("DROP TABLE forged"))
    finally:
        Path("/tmp/backoffice-hostile").unlink(missing_ok=True)


@needs_landlock
def test_a_command_uses_the_network_only_where_its_settings_allow_it(site: Site) -> None:
    script = (
        "import socket,sys; socket.create_connection(('127.0.0.1',int(sys.argv[1]))).send(b'x')"
    )
    jobs = []
    with listening(site.home / "web.sock") as port:
        for network in ("no", "yes"):
            name = site.command(f"call-{network}", "", attempts="1")
            argv = f'/usr/bin/python3 -I -c "{script}" {port}'
            site.set(f"command {name}", argv=argv, confine="yes", network=network)
            jobs.append(site.submit(name))
        site.start("scheduler", "worker")
        assert [site.ended(job) for job in jobs] == ["failed", "succeeded"]


def test_ffmpeg_runs_with_limits_and_without_new_privileges(site: Site, clips: Clips) -> None:
    program = site.home / "ffmpeg-limits"
    _script(program, f"{SHOW}; exit 1")
    job = as_ffmpeg(site, clips, program)
    site.start("scheduler", "worker", BACKOFFICE_AUTH_SECRET="not for ffmpeg")
    assert site.ended(job) == "failed"
    text = "".join(one.read_text() for one in (site.logs / "attempts").rglob("encode*.log"))
    for name in ("cpu time", "file size", "processes", "address space"):
        assert re.search(rf"Max {name} +\d", text), name
    assert re.search(r"Max core file size +0 +0", text)
    assert re.search(r"NoNewPrivs:\s+1", text)
    assert re.search(r"Seccomp:\s+2", text)
    assert "not for ffmpeg" not in text


def test_what_has_used_up_its_processor_time_fails_in_words(site: Site) -> None:
    name = site.command("spin", "while :; do :; done", attempts="1")
    site.set("limits", cpu="1s")
    job = site.submit(name)
    site.start("scheduler", "worker")
    assert site.ended(job) == "failed"
    assert "[limits] cpu" in site.message(job)


# A file and a link that change places


@contextmanager
def exchanging(one: Path, other: Path) -> Iterator[None]:
    command = [sys.executable, "-c", EXCHANGE, str(one), str(other)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"goes\n"
        yield
    finally:
        process.kill()
        process.communicate()


def race(site: Site, outside: Path, seconds: float) -> int:
    """Publish a clip while a link takes its place; how many jobs published it."""
    good, bad = b"clip" * 500, b"SECR" * 500  # the same size
    clip, link = site.media / "clip.bin", site.media / "other.bin"
    clip.write_bytes(good)
    (outside / "secret").write_bytes(bad)
    link.symlink_to(outside / "secret")
    name = site.put(attempts=1)
    site.start("scheduler", "worker")
    until = time.monotonic() + seconds
    jobs = []
    with exchanging(clip, link):
        while time.monotonic() < until:
            try:
                jobs.append(site.submit(name, clip))
            except Invalid:
                continue  # seen as the link
            wait_for(lambda: site.state(jobs[-1]) != "queued", "it is taken", 30)
        states = [site.ended(job) for job in jobs]
    made = [path for path in site.publish.rglob("*") if path.is_file()]
    assert {path.read_bytes() for path in made} == {good}
    assert set(states) <= {"succeeded", "failed"}
    return states.count("succeeded")


def test_a_file_exchanged_for_a_link_is_never_published_from_outside(
    site: Site, outside: Path
) -> None:
    assert race(site, outside, 5) > 0


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_minute_of_exchanges_publishes_nothing_from_outside(site: Site, outside: Path) -> None:
    assert race(site, outside, 60) > 20
