"""A site of its own for each test, held against the invariants at its end."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.site import Site
from tests.clips import Clips, ffmpeg
from tests.conftest import MariaDB

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
    path = clips.folder / "long.mp4"
    ffmpeg(
        *("-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25:duration=24"),
        *("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000:duration=24"),
        *("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac"),
        str(path),
    )
    return path
