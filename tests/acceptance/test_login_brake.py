"""Guessing passwords: fail2ban, as it is shipped, before the site of Apache as it is."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.acceptance.apache import MODULES, Apache, apache
from tests.acceptance.proc import wait_for
from tests.acceptance.servers import basic, client
from tests.acceptance.site import ROOT

JAIL = ROOT / "etc/fail2ban/jail.d/backoffice.conf"
DEBIAN = Path("/etc/fail2ban")
TRIES = 10  # as the jail says
STRANGER, COLLEAGUE = "192.0.2.7", "192.0.2.8"


class Brake:
    """A fail2ban of a test's own, which writes down whom it would shut out."""

    def __init__(self, folder: Path, log: Path) -> None:
        self.folder = folder
        self.log = log
        self.banned = folder / "banned"
        self.socket = folder / "socket"

    def configure(self) -> None:
        for name in ("filter.d", "paths-debian.conf", "paths-common.conf"):
            (self.folder / name).symlink_to(DEBIAN / name)
        for name in ("action.d", "jail.d"):
            (self.folder / name).mkdir()
        shutil.copy(JAIL, self.folder / "jail.d")
        self.banned.touch()
        (self.folder / "fail2ban.conf").write_text(
            "[Definition]\nloglevel = INFO\nlogtarget = STDOUT\nsyslogsocket = auto\n"
            f"socket = {self.socket}\npidfile = {self.folder}/pid\n"
            "dbfile = :memory:\ndbpurgeage = 1d\ndbmaxmatches = 10\n"
        )
        (self.folder / "action.d/note.conf").write_text(
            f"[Definition]\nactionban = echo <ip> >>{self.banned}\n"
        )
        (self.folder / "jail.conf").write_text("[DEFAULT]\nbackend = polling\naction = note\n")
        (self.folder / "jail.local").write_text(
            f"[backoffice]\nenabled = true\nlogpath = {self.log}\n"
        )

    def ask(self, *words: str) -> str:
        command = ("fail2ban-client", "-c", self.folder, "-s", self.socket, *words)
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        return done.stdout if done.returncode == 0 else ""

    def failures(self) -> int:
        """How many wrong passwords it has counted."""
        told = self.ask("status", "backoffice")
        lines = [line for line in told.splitlines() if "Total failed" in line]
        return int(lines[0].rpartition(":")[2]) if lines else -1


@contextmanager
def braking(folder: Path, log: Path) -> Iterator[Brake]:
    if shutil.which("fail2ban-server") is None:
        pytest.fail("fail2ban is missing; apt-get install fail2ban", pytrace=False)
    brake = Brake(folder, log)
    brake.configure()
    command = ("fail2ban-server", "-f", "-c", folder, "-s", brake.socket, "-p", folder / "pid")
    with open(folder / "log", "wb") as said:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", *map(str, command)], stdout=said, stderr=said
        )
    try:
        wait_for(lambda: process.poll() is not None or brake.failures() == 0, "fail2ban watches")
        assert process.poll() is None, (folder / "log").read_text()
        yield brake
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture
def server() -> Iterator[Apache]:
    """The site, with no service behind it; a header tells where a client is."""
    module = MODULES / "mod_remoteip.so"
    more = f"LoadModule remoteip_module {module}\nRemoteIPHeader X-Test-Client\n"
    with apache("backoffice.conf", {"vera": "secret"}, before=more, SOCKET="/nowhere") as made:
        yield made


def ask(server: Apache, where: str, *credentials: str) -> list[int]:
    with client(server.address, X_Test_Client=where) as visitor:
        return [visitor.get("/published/x", Authorization=one).status for one in credentials]


def test_an_address_that_guesses_passwords_is_shut_out_and_no_other(
    server: Apache, tmp_path: Path
) -> None:
    wrong = [basic("vera", f"guess {number}") for number in range(TRIES)]
    with braking(tmp_path, server.folder / "backoffice-error.log") as brake:
        assert ask(server, STRANGER, *wrong[1:]) == [401] * (TRIES - 1)
        assert ask(server, COLLEAGUE, wrong[0], basic("vera", "secret")) == [401, 404]
        wait_for(lambda: brake.failures() == TRIES, "the wrong ones are counted")
        assert brake.banned.read_text() == ""
        assert ask(server, STRANGER, basic("nobody", "guess")) == [401]
        wait_for(lambda: brake.banned.read_text() != "", "the stranger is shut out")
        assert brake.banned.read_text().split() == [STRANGER]


def test_what_browsers_and_scripts_do_is_no_guess(server: Apache, tmp_path: Path) -> None:
    with braking(tmp_path, server.folder / "backoffice-error.log") as brake:
        with client(server.address, X_Test_Client=COLLEAGUE) as visitor:
            for _ in range(2 * TRIES):
                assert visitor.get("/published/x").status == 401  # before it asks for a password
                assert visitor.get("/published/x", Authorization="Bearer x").status == 401
        assert ask(server, COLLEAGUE, *[basic("vera", "secret")] * 2 * TRIES) == [404] * 2 * TRIES
        # In its order: once this one is counted, those before would have been.
        assert ask(server, STRANGER, basic("vera", "guess")) == [401]
        wait_for(lambda: brake.failures() > 0, "the wrong one is counted")
        assert brake.failures() == 1
