from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from lxml import etree

from backoffice.cli import commands, main, progress
from backoffice.config.loading import Settings
from backoffice.documents import safe_xml
from backoffice.engine import jobs
from backoffice.errors import DatabaseUnavailable
from backoffice.reports import queue_depths, records
from backoffice.system import files, logs
from backoffice.web import documents
from tests.board import Board, chain

WORKFLOW = """<workflow xmlns="urn:backoffice:1" name="quick" version="1">
  <title>Quick</title>
  <input role="film" max="9"/>
  <input role="words" min="0"/>
  <parameter name="colour"/>
  <task name="do" type="noop"><input role="film"/></task>
</workflow>
"""


@dataclass
class Cli:
    """The command line, run in this process."""

    capture: pytest.CaptureFixture[str]
    home: Path
    board: Board
    err: str = ""

    def __call__(self, *argv: object, status: int = 0) -> str:
        self.capture.readouterr()
        try:
            found = main.main([str(one) for one in argv])
        except SystemExit as error:  # argparse
            found = int(error.code or 0)
        out, self.err = self.capture.readouterr()
        assert found == status, (out, self.err)
        assert "Traceback" not in self.err
        return out

    def ids(self, *argv: object) -> list[int]:
        return [job["id"] for job in json.loads(self("jobs", "--json", *argv))["jobs"]]


@pytest.fixture
def run(
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Cli]:
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
    yield Cli(capsys, tmp_path, board)
    board.close()


# Submitting


def test_submit_prints_the_id_and_stores_all_that_was_said(run: Cli) -> None:
    (run.home / "media/b.srt").write_bytes(b"words")
    job = run(
        *(
            "submit",
            "quick",
            "media/a.mp4",
            "--input",
            "words=media/b.srt",
            "--param",
            "colour=a=b",
        ),
        *("--meta", "dc:creator=Studio", "--priority", 7, "--title", "Folge 1", "--key", "ep1"),
    )
    shown = run.board.read(records.job, int(job))
    assert [(one["role"], one["href"]) for one in shown["inputs"]] == [
        ("film", files.href(run.home / "media/a.mp4")),
        ("words", files.href(run.home / "media/b.srt")),
    ]
    assert shown["parameters"] == {"colour": "a=b"}
    assert shown["metadata"] == {"dc:creator": "Studio"}
    assert (shown["priority"], shown["title"], shown["key"]) == (7, "Folge 1", "ep1")
    assert shown["submitter"] == pwd.getpwuid(os.getuid()).pw_name


def test_the_same_key_gives_the_same_job(run: Cli) -> None:
    first = run("submit", "quick", "media/a.mp4", "--key", "k")
    assert run("submit", "quick", "media/a.mp4", "--key", "k") == first
    assert "it is the same" in run.err
    run("submit", "quick", "media/a.mp4", "--key", "k", "--priority", 1, status=1)
    assert "choose another key" in run.err


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
        (["quick", "media/a.mp4", "--delay", "soon"], 2, "is no length of time"),
        (["gone", "media/a.mp4"], 1, "there is no workflow 'gone'"),
    ],
)
def test_what_cannot_be_accepted_is_told_in_a_line(
    run: Cli, argv: Sequence[str], status: int, words: str
) -> None:
    run("submit", *argv, status=status)
    assert words in run.err.splitlines()[-1]
    assert run.ids() == []


def test_a_dry_run_changes_nothing(run: Cli) -> None:
    out = run("submit", "quick", "media/a.mp4", "--dry-run")
    assert out == "do (noop)\n  does nothing\n"
    assert run.ids() == []


def test_a_dry_run_that_would_fail_says_so(run: Cli) -> None:
    out = run("submit", "transcode", "media/a.mp4", "--dry-run", status=1)
    assert "probe (probe): would fail: " in out


@pytest.mark.parametrize(("fail", "status"), [({}, 0), ({"do": "no"}, 1)])
def test_waiting_ends_with_the_jobs_fate(run: Cli, fail: dict[str, str], status: int) -> None:
    submit = ("submit", "quick", "media/a.mp4", "--key", "k")
    run(*submit)
    run.board.run(run.board.worker(), fail=fail)
    run(*submit, "--wait", status=status)
    assert "do " in run.err


def test_waiting_for_a_job_that_is_cancelled_ends_with_3(run: Cli) -> None:
    submit = ("submit", "quick", "media/a.mp4", "--key", "k")
    run("cancel", run(*submit).strip())
    run(*submit, "--wait", status=3)


def test_an_interrupt_leaves_the_job_alone_and_says_so(
    run: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(progress, "job", interrupted)
    job = run("submit", "quick", "media/a.mp4", "--wait", status=130).strip()
    assert f"job {job} goes on" in run.err
    assert run.board.read(records.job, int(job))["state"] == "queued"


def test_a_clone_asks_for_the_same_without_the_key(run: Cli) -> None:
    job = run("submit", "quick", "media/a.mp4", "--key", "k", "--title", "T").strip()
    clone = int(run("clone", job))
    shown = run.board.read(records.job, clone)
    assert (shown["title"], shown["key"], len(shown["inputs"])) == ("T", "", 1)


def test_a_retraction_is_a_job(run: Cli) -> None:
    job = int(run("retract", 3, 4))
    shown = run.board.read(records.job, job)
    assert (shown["workflow"], shown["parameters"]) == ("retract", {"publication": "3 4"})


# Looking


@pytest.fixture
def busy(run: Cli) -> Cli:
    """Jobs 1, failed, with a queue and a worker, and 2, which waits."""
    for title in ("eins \x1b[2J", "zwei"):
        run("submit", "quick", "media/a.mp4", "--title", title)
    worker = run.board.worker()
    (one,) = run.board.claim(worker)
    run.board.finish(one.claim, "failed", "no\nsound", retry=False)
    return run


LOOKS = [
    ("jobs",), ("job", 1), ("tasks",), ("task", 1), ("attempts", 1), ("files",), ("file", 1),
    ("workers",), ("queues",), ("events",), ("publications",), ("why", 1), ("why", 1, "--task"),
]  # fmt: skip


@pytest.mark.parametrize("look", LOOKS)
def test_every_look_comes_as_text_json_and_valid_xml(busy: Cli, look: tuple[object, ...]) -> None:
    kind = str(look[0])
    text = busy(*look)
    assert "\x1b" not in text
    assert text or kind == "publications"
    assert json.loads(busy(*look, "--json")) is not None
    root = etree.fromstring(busy(*look, "--xml").encode())
    safe_xml.validate(root, documents.schema_of(kind))


def test_schedules_come_as_text_and_json(busy: Cli) -> None:
    assert busy("schedules") == ""
    assert json.loads(busy("schedules", "--json")) == {"schedules": []}


def test_jobs_can_be_filtered_and_paged(busy: Cli) -> None:
    assert busy.ids() == [2, 1]
    assert busy.ids("--state", "failed") == [1]
    assert busy.ids("--state", "failed", "--state", "queued") == [2, 1]
    assert busy.ids("--text", "zwei") == [2]
    assert busy.ids("--workflow", "other") == []
    assert busy.ids("--since", "1h") == [2, 1]
    assert busy.ids("--until", "2020-01-01T00:00Z") == []
    assert busy.ids("--limit", 1) == [2]
    assert busy.ids("--before", 2) == [1]


def test_what_is_not_there_ends_with_1(busy: Cli) -> None:
    for look in (("job", 9), ("task", 9), ("file", 9), ("attempts", 9), ("why", 9), ("log", 9)):
        busy(*look, status=1)
        assert busy.err.startswith("backoffice: there is no ")


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


def test_jobs_are_controlled_by_id(busy: Cli) -> None:
    assert busy("pause", 2) == "pause: job 2\n"
    assert "is paused by " in busy("why", 2)
    busy("resume", 2)
    busy("priority", 2, "--to", 3)
    assert busy.board.read(records.job, 2)["priority"] == 3
    busy("cancel", 2)
    assert busy.board.read(records.job, 2)["state"] == "cancelled"
    busy("retry", 1, 2)
    assert busy.ids("--state", "running") == [1]
    assert busy.ids("--state", "queued") == [2]  # it had never run


def test_one_that_cannot_be_changed_does_not_keep_the_others(busy: Cli) -> None:
    assert busy("cancel", 9, 1, 2, status=1) == "cancel: job 2\n"
    assert busy.err.splitlines() == [
        "backoffice: there is no job 9",
        "backoffice: job 1 is failed; cancel is possible when it is queued or running or paused",
    ]


def test_jobs_are_controlled_by_filter_when_somebody_says_yes(busy: Cli) -> None:
    busy("retry", "--state", "failed", "--workflow", "quick", status=2)
    assert "say --yes" in busy.err
    out = busy("retry", "--state", "failed", "--workflow", "quick", "--yes")
    assert out == "retry: jobs that match: 1 (1)\nretry: job 1\n"


def test_a_dry_run_names_the_jobs_and_changes_none(busy: Cli) -> None:
    out = busy("cancel", "--workflow", "quick", "--dry-run")
    assert out == "cancel: jobs that match: 1 (2)\nwould cancel job 2\n"
    assert busy("cancel", 2, "--dry-run") == "would cancel job 2\n"
    assert busy.ids("--state", "cancelled") == []


def test_a_filter_that_nothing_matches_is_no_failure(busy: Cli) -> None:
    assert busy("retry", "--workflow", "other", "--yes") == "no job matches\n"


def test_a_filter_of_states_in_which_it_is_not_possible_is_refused(busy: Cli) -> None:
    busy("retry", "--state", "queued", "--yes", status=1)
    assert "retry is possible for jobs that are failed or cancelled" in busy.err


@pytest.mark.parametrize("argv", [("cancel",), ("cancel", 1, "--state", "failed")])
def test_either_ids_or_a_filter(busy: Cli, argv: Sequence[object]) -> None:
    busy(*argv, status=2)
    assert "either ids or a filter" in busy.err


def test_a_filter_reaches_every_page(run: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "_PAGE", 2)
    for _ in range(5):
        run.board.submit(chain("one"))
    run("cancel", "--workflow", "chain", "--yes")
    assert len(run.ids("--state", "cancelled")) == 5


def test_queues_and_workers_are_controlled(busy: Cli) -> None:
    busy("queue", "pause", "default")
    busy("queue", "limit", "default", 3)
    (queue,) = busy.board.read(queue_depths.queues)
    assert (queue["paused"], queue["limit"]) == (True, 3)
    busy("queue", "resume", "default")
    busy("queue", "limit", "default", "none")
    (queue,) = busy.board.read(queue_depths.queues)
    assert (queue["paused"], queue["limit"]) == (False, None)
    busy("worker", "drain", 1)
    assert busy.board.read(records.workers)[0]["state"] == "draining"
    busy("queue", "pause", "gone", status=1)
    busy("worker", "drain", 9, status=1)


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

    monkeypatch.setattr(jobs, "cancel", away)
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
        "import sys; from backoffice.cli import main; main._parser().format_help();"
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
        (["create", "ci", "--role", "viewer", "--lifetime", "soon"], "no length of time"),
    ],
)
def test_a_wrong_token_is_refused_in_a_line(run: Cli, argv: Sequence[str], words: str) -> None:
    run("token", *argv, status=2)
    assert words in run.err
