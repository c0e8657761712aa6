"""Commands over HTTP: what is particular to the way there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from backoffice.cli import main
from backoffice.config import loading
from backoffice.data import tokens
from backoffice.reports import records
from backoffice.web.app import make_app
from backoffice.web.server.http_server import serve
from tests import line
from tests.board import chain
from tests.cli.command_line import LOOKS, Cli
from tests.cli.conftest import URL
from tests.line import Line

# What differs between databases is tested below the commands.
pytestmark = pytest.mark.parametrize("database_uri", ["sqlite"], indirect=True)


# Submitting


@pytest.mark.parametrize(
    ("argv", "status", "words"),
    [
        (["quick", "media/a.mp4"], 2, "absolute path there"),
        (["quick", "http:x.mp4"], 2, "absolute path there"),
        (["quick", "/media/gone.mp4"], 2, "gone.mp4"),
        (["quick"], 2, "takes 1 to 9 files"),
        (["nope", "/a.mp4"], 1, "no workflow 'nope'"),
        (["quick", "/a.mp4", "--priority", "101"], 2, "priority"),
        (["quick", "/a.mp4", "--dry-run"], 2, "/a.mp4"),
    ],
)
def test_what_cannot_be_accepted_is_told_in_a_line(
    run: Cli, afar: Cli, argv: Sequence[str], status: int, words: str
) -> None:
    afar("submit", *argv, status=status)
    (told,) = afar.err.splitlines()
    assert words in told
    assert run.ids() == []


def test_an_interrupt_leaves_the_job_alone_and_says_so(run: Cli, afar: Cli, wire: Line) -> None:
    def interrupted(request: object) -> Any:
        raise KeyboardInterrupt

    wire.troubles = [None, None, interrupted]
    afar("submit", "quick", run.home / "media/a.mp4", "--wait", status=130)
    assert "job 1 goes on" in afar.err


# Looking


MORE = [
    ("tasks", "--job", 1), ("tasks", "--job", 1, "--state", "failed"), ("tasks", "--before", 2),
    ("jobs", "--state", "failed", "--state", "queued", "--limit", 1), ("jobs", "--before", 2),
    ("jobs", "--text", "zwei", "--since", "1h"), ("jobs", "--until", "2020-01-01T00:00Z"),
    ("events", "--after", 2), ("events", "--job", 1, "--limit", 2), ("workers", "--all"),
    ("files", "--job", 1), ("schedules",), ("events", "--limit", 0), ("jobs", "--limit", 0),
    ("publications", "--state", "retracted"),
]  # fmt: skip


@pytest.mark.parametrize("look", [*LOOKS, *MORE])
def test_every_look_shows_the_same_from_afar(
    busy: Cli, afar: Cli, look: tuple[object, ...]
) -> None:
    busy.board.do(lambda store: store.execute("UPDATE task SET ready_at = NULL"))
    for form in ((), ("--json",), ("--xml",)):
        assert afar(*look, *form) == busy(*look, *form)


def test_a_log_is_the_same_from_afar_however_long(
    busy: Cli, afar: Cli, wire: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backoffice.cli.http_backend._PART", 7)
    path = busy.home / "var/log/one.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("frame \x1b[2J 影影影\rnext\r\nbad ".encode() + b"\xff\nend")
    busy.board.do(lambda s: s.execute("UPDATE attempt SET log = ?", (str(path),)))
    assert afar("log", 1) == busy("log", 1) == "frame \\x1b[2J 影影影\nnext\nbad \ufffd\nend\n"
    assert len(wire.asked) > 5
    afar("log", 1, "--attempt", 2, status=1)
    assert "no attempt 2" in afar.err


# Control


def test_jobs_are_controlled_by_id(busy: Cli, afar: Cli) -> None:
    assert afar("pause", 2) == "pause: job 2\n"
    afar("resume", 2)
    afar("priority", 2, "--to", 3)
    assert busy.board.read(records.job, 2)["priority"] == 3
    assert afar("cancel", 2, "--dry-run") == "would cancel job 2\n"
    assert afar("cancel", 9, 1, 2, status=1) == "cancel: job 2\n"
    assert afar.err.splitlines() == [
        "backoffice: there is no job 9",
        "backoffice: job 1 is failed; cancel is possible when it is queued or running or paused",
    ]
    assert afar("retry", 1) == "retry: job 1\n"
    (actor,) = {
        one["actor"]
        for one in busy.board.read(records.events, limit=99)
        if one["action"] == "job.paused"
    }
    assert actor == "anonymous"  # whoever it is to the service


def test_jobs_are_controlled_by_filter_when_somebody_says_yes(
    busy: Cli, afar: Cli, wire: Line
) -> None:
    wanted = ("--state", "failed", "--workflow", "quick")
    afar("retry", *wanted, status=2)
    assert "say --yes" in afar.err
    named = "retry: jobs that match: 1 (1)\n"
    assert afar("retry", *wanted, "--dry-run") == f"{named}would retry job 1\n"
    assert busy.ids("--state", "failed") == [1]
    assert afar("retry", *wanted, "--yes") == f"{named}retry: jobs done: 1\n"
    assert busy.ids("--state", "failed") == []
    assert wire.paths.count("/jobs/actions") == 4  # three times only to count
    assert afar("retry", *wanted, "--yes") == "no job matches\n"
    afar("priority", "--workflow", "quick", "--to", 9, "--yes")
    assert busy.board.read(records.job, 2)["priority"] == 9


def test_many_jobs_are_one_request(run: Cli, afar: Cli, wire: Line) -> None:
    for _ in range(15):
        run.board.submit(chain("one"))
    out = afar("cancel", "--workflow", "chain", "--yes")
    assert out.splitlines() == [
        "cancel: jobs that match: 15 (15, 14, 13, 12, 11, 10, 9, 8, 7, 6 …)",
        "cancel: jobs done: 15",
    ]
    assert len(run.ids("--state", "cancelled")) == 15
    assert len(wire.asked) == 3


@pytest.mark.parametrize(
    "argv",
    [
        ("serve",),
        ("web",),
        ("worker",),
        ("scheduler",),
        ("migrate",),
        ("check",),
        ("prune",),
        ("token", "list"),
        ("token", "create", "x", "--role", "viewer"),
        ("token", "revoke", "1"),
    ],
)
def test_what_makes_no_sense_from_afar_says_so(run: Cli, wire: Line, argv: tuple[str, ...]) -> None:
    run(*URL, *argv, status=2)
    (told,) = run.err.splitlines()
    assert f"'{' '.join(argv[:2]) if argv[0] == 'token' else argv[0]}'" in told
    assert "without --url" in told
    assert wire.asked == []


# The service and who asks


@pytest.mark.parametrize(
    ("trouble", "status"),
    [
        (line.refused, 4),
        (line.answers(503), 4),
        (line.answers(429, retry_after="3600"), 4),
        (line.answers(500), 1),
        (line.answers(403), 1),
        (line.answers(401), 1),
        (line.answers(200, b"<html>"), 1),
        *((line.answers(code), 2) for code in (400, 413, 415, 422)),
        *((line.answers(code), 1) for code in (404, 409)),
    ],
)
def test_each_trouble_has_its_status_and_is_told_in_a_line(
    busy: Cli, afar: Cli, wire: Line, trouble: line.Trouble, status: int
) -> None:
    wire.troubles = [trouble] * 4
    afar("jobs", status=status)
    assert len(afar.err.splitlines()) == 1
    wire.troubles = [trouble] * 4
    afar("queue", "pause", "default", status=status)
    assert len(afar.err.splitlines()) == 1


def test_losing_the_service_in_the_midst_of_many_stops_them(
    busy: Cli, afar: Cli, wire: Line
) -> None:
    wire.troubles = [line.refused]
    afar("cancel", 2, 1, status=4)
    assert len(wire.asked) == 1


def test_the_environment_names_service_and_token(
    busy: Cli, afar: Cli, wire: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACKOFFICE_URL", "http://localhost")
    monkeypatch.setenv("BACKOFFICE_TOKEN", "bo_secret")
    busy("jobs", status=1)  # the service does not know this token
    assert wire.asked[-1].headers["Authorization"] == "Bearer bo_secret"
    assert "give a token" in busy.err
    assert "bo_secret" not in busy.err
    count = len(wire.asked)
    assert busy("--url", "", "jobs")  # here, whatever the environment says
    assert len(wire.asked) == count


def test_a_token_may_stand_in_a_file(
    busy: Cli, afar: Cli, wire: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = busy.board.do(tokens.create, "ci", "operator", "tester")[1]
    (busy.home / "token").write_text(f"{secret}\n")
    (busy.home / "token").chmod(0o600)
    monkeypatch.setenv("BACKOFFICE_TOKEN", "another")
    afar("--token-file", "token", "cancel", 2)
    events = busy.board.read(records.events, limit=9)
    assert [one["actor"] for one in events if one["action"] == "job.cancel-requested"] == [
        "token:ci"
    ]


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff\xfe"])
def test_a_file_that_holds_no_token_is_refused(run: Cli, wire: Line, content: bytes | None) -> None:
    if content is not None:
        (run.home / "token").write_bytes(content)
        (run.home / "token").chmod(0o600)
    run(*URL, "--token-file", "token", "jobs", status=2)
    assert run.err.startswith("backoffice: token: ")
    assert wire.asked == []


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o622])
def test_a_token_that_others_can_read_or_change_is_refused(run: Cli, wire: Line, mode: int) -> None:
    (run.home / "token").write_text("bo_x\n")
    (run.home / "token").chmod(mode)
    run(*URL, "--token-file", "token", "jobs", status=2)
    assert "type: chmod " in run.err
    assert wire.asked == []


def test_a_token_file_without_a_service_is_wrong_use(run: Cli) -> None:
    run("--token-file", "token", "jobs", status=2)
    assert "--url" in run.err


def test_a_token_is_not_sent_in_the_clear(run: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKOFFICE_TOKEN", "bo_secret")
    run("--url", "http://backoffice.example.org", "jobs", status=2)
    assert "https" in run.err


def test_a_process_reaches_a_service_over_its_socket(busy: Cli, wire: Line) -> None:
    path = Path(busy.home / "s")
    here = str(Path(main.__file__).parents[2])
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": here, "BACKOFFICE_URL": f"http+unix://{path}"}
    with serve(make_app(loading.load(None, os.environ)), path, threads=2):
        done = subprocess.run(
            [sys.executable, "-m", "backoffice", "jobs", "--json"],
            capture_output=True,
            text=True,
            check=False,
            env=env,
            cwd="/",
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert [one["id"] for one in json.loads(done.stdout)["jobs"]] == [2, 1]
