"""An installation that many tests of a module use, on each database in turn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from backoffice.config import loading
from tests.board import Board
from tests.conftest import MariaDB

DATABASES = ["sqlite", "mariadb"]


@contextmanager
def lasting_board(request: pytest.FixtureRequest, home: Path, name: str) -> Iterator[Board]:
    """For a fixture with the params DATABASES; ``name`` is of its database. The
    folder ``media`` holds clip.mp4, which jobs may take."""
    server: MariaDB | None = None
    uri = f"sqlite:{home}/backoffice.sqlite"
    if request.param == "mariadb":
        server = request.getfixturevalue("mariadb")
        server.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        uri = server.uri(name)
    (home / "media").mkdir()
    (home / "media" / "clip.mp4").write_bytes(b"0123456789")
    environ = {
        "BACKOFFICE_DATABASE_URI": uri,
        "BACKOFFICE_PATHS_HOME": str(home),
        "BACKOFFICE_PATHS_ROOTS": "media",
        "BACKOFFICE_WEB_RATE": "0",
        "BACKOFFICE_WEB_ACCESS_LOG": "none",
    }
    board = Board(loading.load(None, environ))
    yield board
    board.close()
    if server is not None:
        server.execute(f"DROP DATABASE {name}")
