"""Whatever one client does, another is answered: alone, and behind Apache.

``make test`` attacks for some seconds each, ``make test-slow`` for a minute.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.acceptance import proc
from tests.acceptance.apache import apache
from tests.acceptance.attackers import ATTACKS
from tests.acceptance.servers import Address, Client, Secure, basic, client, free_port, serving
from tests.acceptance.site import ROOT, Site
from tests.acceptance.test_servers import filled, submit_many

SOON = 1.0  # seconds that an answer may take
LATE = 5.0  # and what one in twenty may take, on a machine that does much else
PASSWORD = "secret"


@dataclass(frozen=True)
class Service:
    """``backoffice serve``, with its watchdog, and how it is reached."""

    site: Site
    address: Address
    headers: list[str] = field(default_factory=list)  # that let a client in

    @property
    def place(self) -> str:
        if isinstance(self.address, Secure):
            return f"tls:{self.address.port}"
        assert not isinstance(self.address, Path)
        return f"{self.address[0]}:{self.address[1]}"

    def processes(self) -> list[int]:
        return sorted(proc.beneath(self.site.home))

    def asked(self) -> float:
        """Seconds until a new client has its answer."""
        begun = time.monotonic()
        with client(self.address) as visitor:
            assert visitor.get("/health/live").status == 200
        return time.monotonic() - begun


@pytest.fixture(scope="module")
def open_folder() -> Iterator[Path]:
    """Which Apache can come to."""
    folder = Path(tempfile.mkdtemp(prefix="backoffice-attacker-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def _site(home: Path) -> Iterator[Site]:
    site = Site(home, f"sqlite:{home}/database.sqlite")
    site.set("service", parts="web", watchdog="5s")
    for _ in filled(site):
        with open(site.media / "big.mp4", "wb") as stream:
            stream.truncate(64 << 20)
        for _ in range(5):  # so that their list is longer than what is sent at once
            site.do(submit_many, site)
        yield site


def _register(visitor: Client, site: Site, **headers: str) -> None:
    """A large file is file 1."""
    href = (site.media / "big.mp4").as_uri()
    made = visitor.post("/files", f'<file xmlns="urn:backoffice:1" href="{href}"/>', **headers)
    assert made.headers["Location"] == "/files/1", made
    visitor.close()


@pytest.fixture(scope="module")
def alone(open_folder: Path) -> Iterator[Service]:
    for site in _site(open_folder / "alone"):
        address = ("127.0.0.1", free_port())
        site.set("web", listen=f"{address[0]}:{address[1]}", proxies="unix")
        with serving(site, "backoffice", "serve", address=address) as visitor:
            _register(visitor, site)
            yield Service(site, address)


@pytest.fixture(scope="module")
def behind(open_folder: Path) -> Iterator[Service]:
    for site in _site(open_folder / "behind"):
        socket = site.home / "socket"
        site.set("web", listen=f"unix:{socket}", proxies="unix", url="https://localhost")
        site.set("auth", required="yes", admins="anna")
        with (
            serving(site, "backoffice", "serve", address=socket) as visitor,
            apache(
                "backoffice.conf", {"anna": PASSWORD}, SOCKET=socket, PUBLISHED=site.publish
            ) as server,
        ):
            _register(visitor, site, X_Remote_User="anna")
            headers = [f"Authorization: {basic('anna', PASSWORD)}"]
            yield Service(site, server.address, headers)


@pytest.fixture(params=["alone", "behind"])
def service(request: pytest.FixtureRequest) -> Service:
    found: Service = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize("attack", ATTACKS)
def test_another_client_is_answered_while_one_attacks(service: Service, attack: str) -> None:
    withstands(service, attack, 4)


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("attack", ATTACKS)
def test_another_client_is_answered_while_one_attacks_for_a_minute(
    service: Service, attack: str
) -> None:
    withstands(service, attack, 60)


def withstands(service: Service, attack: str, seconds: float) -> None:
    before = service.processes()
    arguments = [attack, str(seconds), service.place, *service.headers]
    attacker = subprocess.Popen(
        [sys.executable, "-P", "-m", "tests.acceptance.attackers", *arguments],
        env={"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    )
    try:
        assert attacker.stdout is not None
        assert attacker.stdout.readline() == b"begun\n"
        times = []
        while attacker.poll() is None:
            times.append(service.asked())
            time.sleep(0.02)
    finally:
        attacker.kill()
        attacker.wait()
    assert attacker.returncode == 0
    print(f"{attack}: {len(times)} answers, median {statistics.median(times):.3f} s,", max(times))
    assert service.processes() == before, "the watchdog ended the web server"
    late = [each for each in times if each > SOON]
    assert len(late) <= len(times) / 20, times
    assert max(times) < LATE
