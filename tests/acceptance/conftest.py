"""A site of its own for each test, held against the invariants at its end."""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.acceptance.disks import Disk, small_disks
from tests.acceptance.package import build
from tests.acceptance.site import Site
from tests.clips import Clips, ffmpeg
from tests.conftest import MariaDB
from tests.machine import Machine, unavailable

MachineFactory = Callable[..., Machine]

_numbers = itertools.count(1)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """On SQLite."""
    yield from _site(tmp_path / "site", f"sqlite:{tmp_path}/site/database.sqlite")


@pytest.fixture
def maria_site(tmp_path: Path, mariadb: MariaDB) -> Iterator[Site]:
    name = f"site_{next(_numbers)}"
    mariadb.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
    yield from _site(tmp_path / "site", mariadb.uri(name))
    mariadb.execute(f"DROP DATABASE {name}")


@pytest.fixture(params=["sqlite", "mariadb"])
def either_site(request: pytest.FixtureRequest) -> Site:
    """On each database in turn."""
    site: Site = request.getfixturevalue("site" if request.param == "sqlite" else "maria_site")
    return site


def _site(home: Path, uri: str) -> Iterator[Site]:
    site = Site(home, uri)
    try:
        yield site
        site.check()
    finally:
        site.close()
        print(site.log())


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Clips:
    return Clips(tmp_path_factory.mktemp("acceptance-clips"))


@pytest.fixture(scope="session")
def long_clip(clips: Clips) -> Path:
    """Takes several seconds to encode; a moving picture and a tone."""
    return _clip(clips.folder / "long.mp4", 16)


@pytest.fixture(scope="session")
def medium_clip(clips: Clips) -> Path:
    """Takes a second or two to encode."""
    return _clip(clips.folder / "medium.mp4", 6)


def _clip(path: Path, seconds: int) -> Path:
    ffmpeg(
        "-f",
        "lavfi",
        "-i",
        f"testsrc2=size=640x360:rate=25:duration={seconds}",
        "-f",
        "lavfi",
        "-i",
        f"sine=frequency=440:sample_rate=48000:duration={seconds}",
        *"-c:v libx264 -preset ultrafast -pix_fmt yuv420p -c:a aac".split(),
        str(path),
    )
    return path


@pytest.fixture
def disk() -> Iterator[Disk]:
    """Mounts a small disk of its own at a folder."""
    yield from small_disks()


@pytest.fixture(scope="session")
def machine_factory() -> Iterator[MachineFactory]:
    """Makes machines, with systemd or without; they end with the test run at the latest."""
    with ExitStack() as ends:

        def make(systemd: bool = False) -> Machine:
            reason = unavailable(systemd)
            if reason:
                pytest.skip(reason)
            machine = Machine(systemd)
            ends.callback(machine.end)
            return machine

        yield make


@pytest.fixture(scope="module")
def machine(machine_factory: MachineFactory) -> Iterator[Machine]:
    """One for all tests of a module; it takes a tenth of a second."""
    machine = machine_factory()
    yield machine
    machine.end()


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Debian package of this checkout, built once for all processes of a run."""
    if shutil.which("dpkg-deb") is None:
        pytest.skip("dpkg is missing: this is no Debian")
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "package"
    folder.mkdir(exist_ok=True)
    told = folder / "path"
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not told.exists():
            told.write_text(str(build(Path(tempfile.mkdtemp(dir=folder)))))
    return Path(told.read_text())
