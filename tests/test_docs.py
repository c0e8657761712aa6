"""The pages of docs/ are true: each line is run, in order, against a real server
and a real worker, and prints what the page says."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from backoffice.config import loading
from backoffice.data import tokens
from backoffice.system.prctl import die_with
from backoffice.web.app import make_app
from backoffice.web.server.http_server import serve
from tests.board import Board
from tests.conftest import ClipFactory

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "api.md"
MARK = "\x1e"  # stands in no line and no output


class Line(NamedTuple):
    number: int
    command: str
    prints: str


def lines_of(page: str) -> list[Line]:
    """The lines of its blocks, with what they are said to print."""
    found, inside = [], False
    for number, text in enumerate(page.splitlines(), 1):
        if text.startswith("```"):
            inside = text == "```sh"
        elif inside and text:
            command, _, prints = text.partition("  # ")
            found.append(Line(number, command.rstrip(), prints.strip()))
    return found


LINES = lines_of(PAGE.read_text())
YOURS = re.compile(r"(API|CLIP|TOKEN)=")


@pytest.fixture
def place(tmp_path: Path, clip_factory: ClipFactory) -> Path:
    """A folder with a clip, and settings for it in its environment."""
    (tmp_path / "media").mkdir()
    (tmp_path / "var" / "work").mkdir(parents=True)
    shutil.copy(clip_factory(seconds=1, size="320x180"), tmp_path / "media" / "ep1.mp4")
    return tmp_path


@pytest.fixture
def environ(place: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "BACKOFFICE_DATABASE_URI": f"sqlite:{place}/database.sqlite",
        "BACKOFFICE_PATHS_HOME": str(place),
        "BACKOFFICE_PATHS_ROOTS": "media",
        "BACKOFFICE_WORKER_POLL": "0.05s",
        "BACKOFFICE_TARGET_SITE_PATH": str(place / "site"),
    }


@pytest.fixture
def service(place: Path, environ: dict[str, str]) -> Iterator[str]:
    """A server and a worker; gives the address."""
    settings = loading.load(None, environ)
    board = Board(settings)
    secret = board.do(tokens.create, "docs", "admin", "tester")[1]
    board.close()
    (place / "token.txt").write_text(f"Authorization: Bearer {secret}\n")
    with serve(make_app(settings), ("127.0.0.1", 0)) as server, open(place / "log", "wb") as log:
        parent = os.getpid()
        worker = subprocess.Popen(
            [sys.executable, "-P", "-m", "backoffice", "worker"],
            cwd=place,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=lambda: die_with(parent, signal.SIGTERM),
        )
        try:
            host, port = server.address  # type: ignore[misc]
            yield f"http://{host}:{port}"
        finally:
            worker.terminate()
            worker.wait(timeout=30)


def test_every_line_works_and_prints_what_the_page_says(service: str, place: Path) -> None:
    todo = [line for line in LINES if not YOURS.match(line.command)]
    script = [f"API={service} CLIP={place}/media/ep1.mp4 TOKEN=token.txt", "set -o pipefail"]
    for line in todo:
        script += [line.command, f"printf '{MARK}%s{MARK}' $?"]
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=place,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={"PATH": os.environ["PATH"], "no_proxy": "*"},
        timeout=100,
        check=False,
    )
    parts = done.stdout.decode(errors="replace").split(MARK)
    outputs, statuses = parts[:-1:2], parts[1::2]
    assert len(statuses) == len(todo), done.stdout.decode(errors="replace")
    for line, output, status in zip(todo, outputs, statuses, strict=True):
        told = f"docs/api.md:{line.number}: {line.command}\n{output}"
        assert status == "0", told
        assert line.prints in output, f"{told}\nshould have printed {line.prints!r}"


def test_the_page_is_made_of_curl_and_xmllint() -> None:
    assert len(LINES) > 30
    for line in LINES:
        words = {"curl", "xmllint"} & set(re.findall(r"\w+", line.command))
        assert words or re.match(r"[A-Z]+=", line.command), line
