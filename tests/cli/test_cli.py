"""Commands on the database, and on the installation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from lxml import etree

from backoffice.cli import database_backend, main, progress
from backoffice.documents import safe_xml
from backoffice.engine import bulk_actions
from backoffice.errors import DatabaseUnavailable
from backoffice.reports import records
from backoffice.system import files
from tests.board import chain
from tests.cli.command_line import Cli

# Submitting


@pytest.mark.parametrize("name", ["-y.mp4", "http:x.mp4", "a b 影.mp4", "%41.mp4"])
def test_odd_names_are_files_like_others(run: Cli, name: str) -> None:
    (run.home / "media" / name).write_bytes(b"film")
    os.chdir(run.home / "media")
    job = int(run("submit", "quick", "--", name))
    (source,) = run.board.read(records.job, job)["inputs"]
    assert source["href"] == files.href(run.home / "media" / name)


def test_a_file_url_is_taken_as_it_is(run: Cli) -> None:
    run("submit", "quick", files.href(run.home / "media/a.mp4"))


def test_a_delay_is_kept(run: Cli) -> None:
    job = run("submit", "quick", "media/a.mp4", "--delay", "10m").strip()
    assert "waits until" in run("why", job)


@pytest.mark.parametrize(
    ("argv", "status", "words"),
    [
        (["quick", "gone.mp4"], 2, "gone.mp4"),
        (["quick"], 2, "takes 1 to 9 files"),
        (["quick", "media/a.mp4", "--param", "size=1"], 2, "has no parameter 'size'"),
        (["quick", "media/a.mp4", "--param", "size"], 2, "is not NAME=VALUE"),
        (["quick", "media/a.mp4", "--priority", "101"], 2, "is not from 0"),
        (["quick", "media/a.mp4", "--delay", "soon"], 2, "is not a length of time"),
        (["gone", "media/a.mp4"], 1, "there is no workflow 'gone'"),
    ],
)
def test_what_cannot_be_accepted_is_told_in_a_line(
    run: Cli, argv: Sequence[str], status: int, words: str
) -> None:
    run("submit", *argv, status=status)
    assert words in run.err.splitlines()[-1]
    assert run.ids() == []


def test_an_interrupt_leaves_the_job_alone_and_says_so(
    run: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(progress, "watch", interrupted)
    job = run("submit", "quick", "media/a.mp4", "--wait", status=130).strip()
    assert f"job {job} goes on" in run.err
    assert run.board.read(records.job, int(job))["state"] == "queued"


# Looking


def test_schedules_come_as_text_and_json(busy: Cli) -> None:
    assert busy("schedules") == ""
    assert json.loads(busy("schedules", "--json")) == {"schedules": []}


def test_a_log_is_printed_without_anything_that_drives_a_terminal(busy: Cli) -> None:
    path = busy.home / "one.log"
    path.write_bytes(b"frame \x1b[2J\nbad \xff\n")
    busy.board.do(lambda s: s.execute("UPDATE attempt SET log = ?", (str(path),)))
    assert busy("log", 1) == "frame \\x1b[2J\nbad \ufffd\n"
    busy("log", 1, "--attempt", 2, status=1)
    path.unlink()
    busy("log", 1, status=1)
    assert "was written on here" in busy.err


# Control


def test_a_filter_reaches_every_page(run: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_actions, "_BATCH", 2)
    for _ in range(5):
        run.board.submit(chain("one"))
    run("cancel", "--workflow", "chain", "--yes")
    assert len(run.ids("--state", "cancelled")) == 5


def test_prune_counts_first_and_removes_then(busy: Cli) -> None:
    busy.board.age(1, timedelta(days=40))
    assert busy("prune", "--dry-run") == "jobs that would be removed: 1\n"
    assert busy("prune", "--older-than", "41d") == "removed: nothing\n"
    assert "jobs 1" in busy("prune", "--older-than", "30d")
    assert busy.ids() == [2]


# The installation and its troubles


def test_migrating_again_finds_nothing_to_do(run: Cli) -> None:
    assert run("migrate") == "nothing to do: the schema is at version 1\n"
    assert run("migrate", "--check") == "the schema is current\n"


def test_a_database_without_schema_asks_for_migrate(
    run: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACKOFFICE_DATABASE_URI", "sqlite:other.sqlite")
    run("migrate", "--check", status=1)
    for argv in (("jobs",), ("submit", "quick", "media/a.mp4"), ("worker",), ("scheduler",)):
        run(*argv, status=4)
        assert "run 'backoffice migrate'" in run.err.splitlines()[-1]
    assert "applied: the schema is at version 1" in run("migrate")
    assert run("jobs") == ""


def test_a_database_that_is_away_ends_with_4(run: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = "mysql://u:secret@localhost/x?unix_socket=/nowhere/socket"
    monkeypatch.setenv("BACKOFFICE_DATABASE_URI", uri)
    run("jobs", status=4)
    assert run.err.startswith("backoffice: the database cannot be reached")
    assert "secret" not in run.err


def test_losing_the_database_in_the_midst_of_many_stops_them(
    busy: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*args: object) -> None:
        raise DatabaseUnavailable("the database cannot be reached")

    monkeypatch.setitem(database_backend._ACTIONS, "cancel", away)
    busy("cancel", 1, 2, status=4)
    assert len(busy.err.splitlines()) == 1


def test_bad_settings_end_with_2(run: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKOFFICE_WORKER_SLOTS", "many")
    run("jobs", status=2)
    assert "[worker] slots" in run.err
    run("--config", "gone.ini", "jobs", status=2)
    assert "gone.ini" in run.err


def test_a_broken_workflow_ends_with_2(run: Cli) -> None:
    (run.home / "own/bad.xml").write_text("<workflow/>")
    run("submit", "quick", "media/a.mp4", status=2)
    assert "bad.xml:1" in run.err


def test_check_tells_what_is_wrong_and_ends_with_1(run: Cli) -> None:
    in_the_way = run.home / "var/publish"
    in_the_way.parent.mkdir(exist_ok=True)
    in_the_way.touch()
    assert "FAIL target site" in run("check", status=1)
    in_the_way.unlink()
    assert "FAIL" not in run("check")


def test_check_of_settings_asks_no_database(run: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKOFFICE_DATABASE_URI", "mysql://nobody@127.0.0.1:1/none")
    assert run("check", "--settings").startswith("ok ")
    (run.home / "own/bad.xml").write_text("<workflow")
    run("check", "--settings", status=2)
    assert "bad.xml:1" in run.err
    (run.home / "settings.ini").write_text("[web]\nthreads = many\n")
    run("--config", "settings.ini", "check", "--settings", status=2)
    assert "settings.ini: [web] threads" in run.err


def test_a_fault_of_the_program_is_one_line_with_its_place(
    run: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object, **more: object) -> None:
        raise ZeroDivisionError("oops\n")

    monkeypatch.setattr(records, "jobs", broken)
    run("jobs", status=1)
    (line,) = run.err.splitlines()
    assert "ZeroDivisionError at test_cli.py:" in line


@pytest.mark.parametrize("argv", [(), ("nonsense",), ("jobs", "--limit", "-1"), ("job", "x")])
def test_wrong_use_ends_with_2(run: Cli, argv: Sequence[str]) -> None:
    run(*argv, status=2)
    assert run.err.startswith("usage: ")


def test_every_command_has_help(run: Cli) -> None:
    listed = run("--help")
    for name in ("serve", "submit", "prune", "why", "priority"):
        assert f"    {name} " in listed
        assert run(name, "--help").startswith(f"usage: backoffice {name}")


def test_a_reader_that_leaves_early_is_no_trouble(busy: Cli) -> None:
    shell = f"{sys.executable} -m backoffice events --json; echo status $? >&2"
    path = str(Path(main.__file__).parents[2])
    command = f"({shell}) | true"
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert done.stderr in ("status 0\n",)


def test_help_loads_no_database_and_no_xml() -> None:
    code = (
        "import sys; from backoffice.cli import arguments; arguments.parser().format_help();"
        "print([m for m in ('storm', 'lxml', 'httpx', 'tqdm') if m in sys.modules])"
    )
    path = str(Path(main.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert done.stdout == "[]\n"


# Tokens


def test_a_token_is_made_listed_and_revoked(run: Cli) -> None:
    secret = run("token", "create", "ci", "--role", "operator", "--lifetime", "90d").strip()
    assert secret.startswith("bo_")
    assert "not shown again" in run.err
    assert secret not in run("token", "list")
    (shown,) = json.loads(run("token", "list", "--json"))["tokens"]
    assert (shown["name"], shown["role"], shown["state"]) == ("ci", "operator", "active")
    assert run("token", "revoke", shown["id"]) == ""
    assert "revoked" in run("token", "list")
    run("token", "revoke", 99, status=1)
    assert "there is no token 99" in run.err


@pytest.mark.parametrize("form", ["--json", "--xml"])
def test_a_script_gets_a_new_token_as_a_document(run: Cli, form: str) -> None:
    text = run("token", "create", "ci", "--role", "viewer", form)
    if form == "--xml":
        root = etree.fromstring(text.encode())
        safe_xml.validate(root, "token")
        assert str(root.get("secret")).startswith("bo_")
    else:
        assert json.loads(text)["secret"].startswith("bo_")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["create", "ci"], "--role"),
        (["create", "ci", "--role", "root"], "invalid choice"),
        (["create", " ", "--role", "viewer"], "printable characters"),
        (["create", "ci", "--role", "viewer", "--lifetime", "soon"], "not a length of time"),
    ],
)
def test_a_wrong_token_is_refused_in_a_line(run: Cli, argv: Sequence[str], words: str) -> None:
    run("token", *argv, status=2)
    assert words in run.err
