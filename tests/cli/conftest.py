"""The command line in this process: on the database, and over HTTP."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from backoffice import client
from backoffice.config import loading
from backoffice.config.settings import Settings
from backoffice.system import logs
from backoffice.web.app import make_app
from tests.board import Board
from tests.cli.command_line import WORKFLOW, Cli
from tests.line import Line

URL = ("--url", "http://localhost")


@pytest.fixture
def run(
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Cli]:
    """Commands on the database."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own/quick.xml").write_text(WORKFLOW)
    (tmp_path / "media/a.mp4").write_bytes(b"film")
    for name in [name for name in os.environ if name.startswith("BACKOFFICE_")]:
        monkeypatch.delenv(name)
    for name, value in {
        "DATABASE_URI": settings.database.uri,
        "PATHS_HOME": tmp_path,
        "PATHS_ROOTS": "media",
        "PATHS_WORKFLOWS": "own",
    }.items():
        monkeypatch.setenv(f"BACKOFFICE_{name}", str(value))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logs, "setup", lambda settings: None)
    board = Board(settings)
    yield Cli(capsys, monkeypatch, tmp_path, board)
    board.close()


@pytest.fixture
def wire(run: Cli, monkeypatch: pytest.MonkeyPatch) -> Line:
    """To the service whose database the local commands use."""
    monkeypatch.setenv("BACKOFFICE_WEB_RATE", "0")
    settings = loading.load(None, os.environ)
    settings.paths.work.mkdir(parents=True, exist_ok=True)
    return Line(make_app(settings))


@pytest.fixture
def afar(run: Cli, wire: Line, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Commands over HTTP, where nothing of the installation can be reached."""
    connected = functools.partial(client.Client, transport=wire, sleep=lambda seconds: None)
    monkeypatch.setattr(client, "Client", connected)
    nowhere = {
        "BACKOFFICE_DATABASE_URI": "sqlite:/nowhere/x",
        "BACKOFFICE_PATHS_WORKFLOWS": "/nowhere",
    }
    return Cli(run.capture, run.patch, run.home, run.board, URL, nowhere)


@pytest.fixture(params=["database", "http"])
def both(request: pytest.FixtureRequest, run: Cli) -> Cli:
    """Commands on the database, and the same commands over HTTP."""
    cli: Cli = request.getfixturevalue("afar") if request.param == "http" else run
    return cli


@pytest.fixture
def busy(run: Cli) -> Cli:
    """Jobs 1, failed, with a queue and a worker, and 2, which waits."""
    for title in ("eins \x1b[2J", "zwei"):
        run("submit", "quick", run.film, "--title", title)
    worker = run.board.worker()
    (running,) = run.board.claim(worker)
    run.board.finish(running.claim, "failed", "no\nsound", retry=False)
    return run


@pytest.fixture
def both_busy(busy: Cli, both: Cli) -> Cli:
    return both
