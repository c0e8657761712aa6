"""The whole web application on an empty database, and who visits it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from backoffice.config import loading
from backoffice.config.settings import Settings
from backoffice.web.app import make_app
from tests.board import Board
from tests.web.visitor import Visitor


@pytest.fixture
def settings(database_uri: str, tmp_path: Path) -> Settings:
    (tmp_path / "media").mkdir()
    (tmp_path / "var" / "work").mkdir(parents=True)
    environ = {
        "BACKOFFICE_DATABASE_URI": database_uri,
        "BACKOFFICE_PATHS_HOME": str(tmp_path),
        "BACKOFFICE_PATHS_ROOTS": "media",
        "BACKOFFICE_WEB_RATE": "0",
    }
    return loading.load(None, environ)


@pytest.fixture
def visitor(board: Board, settings: Settings) -> Visitor:
    """Somebody who need not log in."""
    return Visitor(make_app(settings))


@pytest.fixture
def media(settings: Settings) -> Callable[..., Path]:
    """Make a file that a job may take. What is in it does not matter here."""

    def make(name: str = "a.mp4", data: bytes = b"0123456789") -> Path:
        path = settings.paths.roots[0] / name
        path.write_bytes(data)
        return path

    return make
