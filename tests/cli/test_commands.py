"""Commands say and do the same on the database and over HTTP."""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Sequence

import pytest
from lxml import etree

from backoffice.documents import safe_xml
from backoffice.reports import queue_depths, records
from backoffice.system import files
from tests import schemas
from tests.cli.command_line import LOOKS, Cli


def test_submit_prints_the_id_and_stores_all_that_was_said(both: Cli) -> None:
    words = both.home / "media/b ?#%41.srt"
    words.write_bytes(b"words")
    job = both(
        "submit",
        "quick",
        both.film,
        "--input",
        f"words={words}",
        "--param",
        "colour=a=b",
        "--meta",
        "dc:creator=Studio",
        "--priority",
        7,
        "--title",
        "Folge 1",
        "--key",
        "ep1",
    )
    shown = both.board.read(records.job, int(job))
    assert [(one["role"], one["href"]) for one in shown["inputs"]] == [
        ("film", files.href(both.film)),
        ("words", files.href(words)),
    ]
    assert shown["parameters"] == {"colour": "a=b"}
    assert shown["metadata"] == {"dc:creator": "Studio"}
    assert (shown["priority"], shown["title"], shown["key"]) == (7, "Folge 1", "ep1")
    local = pwd.getpwuid(os.getuid()).pw_name
    assert shown["submitter"] == ("anonymous" if both.options else local)


def test_the_same_key_gives_the_same_job(both: Cli) -> None:
    first = both("submit", "quick", both.film, "--key", "k")
    assert both("submit", "quick", both.film, "--key", "k") == first
    assert "it is the same" in both.err
    both("submit", "quick", both.film, "--key", "k", "--priority", 1, status=1)
    assert "choose another key" in both.err


def test_a_dry_run_changes_nothing(both: Cli) -> None:
    out = both("submit", "quick", both.film, "--dry-run")
    assert out == "do (noop)\n  does nothing\n"
    assert both.ids() == []


def test_a_dry_run_that_would_fail_says_so(both: Cli) -> None:
    out = both("submit", "transcode", both.film, "--dry-run", status=1)
    assert "probe (probe): would fail: " in out


def test_a_clone_asks_for_the_same_without_the_key(both: Cli) -> None:
    job = both("submit", "quick", both.film, "--key", "k", "--title", "T").strip()
    clone = int(both("clone", job))
    shown = both.board.read(records.job, clone)
    assert (shown["title"], shown["key"], len(shown["inputs"])) == ("T", "", 1)


def test_a_retraction_is_a_job(both: Cli) -> None:
    job = int(both("retract", 3, 4))
    shown = both.board.read(records.job, job)
    assert (shown["workflow"], shown["parameters"]) == ("retract", {"publication": "3 4"})


@pytest.mark.parametrize("look", LOOKS)
def test_every_look_comes_as_text_json_and_valid_xml(
    both_busy: Cli, look: tuple[object, ...]
) -> None:
    kind = str(look[0])
    text = both_busy(*look)
    assert "\x1b" not in text
    assert text or kind == "publications"
    assert json.loads(both_busy(*look, "--json")) is not None
    root = etree.fromstring(both_busy(*look, "--xml").encode())
    safe_xml.validate(root, schemas.schema_of(kind))


def test_jobs_can_be_filtered_and_paged(both_busy: Cli) -> None:
    assert both_busy.ids() == [2, 1]
    assert both_busy.ids("--state", "failed") == [1]
    assert both_busy.ids("--state", "failed", "--state", "queued") == [2, 1]
    assert both_busy.ids("--text", "zwei") == [2]
    assert both_busy.ids("--workflow", "other") == []
    assert both_busy.ids("--since", "1h") == [2, 1]
    assert both_busy.ids("--until", "2020-01-01T00:00Z") == []
    assert both_busy.ids("--limit", 1) == [2]
    assert both_busy.ids("--before", 2) == [1]


def test_what_is_not_there_ends_with_1(both_busy: Cli) -> None:
    for look in (("job", 9), ("task", 9), ("file", 9), ("attempts", 9), ("why", 9), ("log", 9)):
        both_busy(*look, status=1)
        assert both_busy.err.startswith("backoffice: there is no ")


def test_jobs_are_controlled_by_id(both_busy: Cli) -> None:
    assert both_busy("pause", 2) == "pause: job 2\n"
    assert "is paused by " in both_busy("why", 2)
    both_busy("resume", 2)
    both_busy("priority", 2, "--to", 3)
    assert both_busy.board.read(records.job, 2)["priority"] == 3
    both_busy("cancel", 2)
    assert both_busy.board.read(records.job, 2)["state"] == "cancelled"
    both_busy("retry", 1, 2)
    assert both_busy.ids("--state", "running") == [1]
    assert both_busy.ids("--state", "queued") == [2]  # it had never run


def test_one_that_cannot_be_changed_does_not_keep_the_others(both_busy: Cli) -> None:
    assert both_busy("cancel", 9, 1, 2, status=1) == "cancel: job 2\n"
    assert both_busy.err.splitlines() == [
        "backoffice: there is no job 9",
        "backoffice: job 1 is failed; cancel is possible when it is queued or running or paused",
    ]


def test_jobs_are_controlled_by_filter_when_somebody_says_yes(both_busy: Cli) -> None:
    both_busy("retry", "--state", "failed", "--workflow", "quick", status=2)
    assert "say --yes" in both_busy.err
    out = both_busy("retry", "--state", "failed", "--workflow", "quick", "--yes")
    assert out == "retry: jobs that match: 1 (1)\nretry: jobs done: 1\n"


def test_a_dry_run_names_the_jobs_and_changes_none(both_busy: Cli) -> None:
    out = both_busy("cancel", "--workflow", "quick", "--dry-run")
    assert out == "cancel: jobs that match: 1 (2)\nwould cancel job 2\n"
    assert both_busy("cancel", 2, "--dry-run") == "would cancel job 2\n"
    assert both_busy.ids("--state", "cancelled") == []


def test_a_filter_that_nothing_matches_is_no_failure(both_busy: Cli) -> None:
    assert both_busy("retry", "--workflow", "other", "--yes") == "no job matches\n"


def test_a_filter_of_states_in_which_it_is_not_possible_is_refused(both_busy: Cli) -> None:
    both_busy("retry", "--state", "queued", "--yes", status=1)
    assert "retry is possible for jobs that are failed or cancelled" in both_busy.err


@pytest.mark.parametrize("argv", [("cancel",), ("cancel", 1, "--state", "failed")])
def test_either_ids_or_a_filter(both_busy: Cli, argv: Sequence[object]) -> None:
    both_busy(*argv, status=2)
    assert "either ids or a filter" in both_busy.err


def test_queues_and_workers_are_controlled(both_busy: Cli) -> None:
    both_busy("queue", "pause", "default")
    both_busy("queue", "limit", "default", 3)
    (queue,) = both_busy.board.read(queue_depths.queues)
    assert (queue["paused"], queue["limit"]) == (True, 3)
    both_busy("queue", "resume", "default")
    both_busy("queue", "limit", "default", "none")
    (queue,) = both_busy.board.read(queue_depths.queues)
    assert (queue["paused"], queue["limit"]) == (False, None)
    both_busy("worker", "drain", 1)
    assert both_busy.board.read(records.workers)[0]["state"] == "draining"
    both_busy("queue", "pause", "gone", status=1)
    both_busy("worker", "drain", 9, status=1)


@pytest.mark.parametrize(("state", "status"), [("succeeded", 0), ("failed", 1), ("cancelled", 3)])
def test_waiting_shows_progress_and_ends_with_the_jobs_fate(
    both: Cli, state: str, status: int
) -> None:
    submit = ("submit", "quick", both.film, "--key", "k")
    both(*submit)
    if state == "cancelled":
        both("cancel", 1)
    else:
        both.board.run(both.board.worker(), fail={"do": "no"} if state == "failed" else None)
    both(*submit, "--wait", status=status)
    assert f"do {state}" in both.err
    assert both.err.splitlines()[-1].startswith(f"job 1 {state}")


@pytest.mark.parametrize(
    ("argv", "status"),
    [
        (("cancel",), 2),
        (("cancel", 1, "--state", "queued"), 2),
        (("retry", "--state", "running"), 1),
        (("priority", 2, "--to", 101), 1),
        (("queue", "pause", "gone"), 1),
        (("worker", "drain", 9), 1),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(
    both_busy: Cli, argv: tuple[object, ...], status: int
) -> None:
    both_busy(*argv, status=status)
    assert len(both_busy.err.splitlines()) == 1


@pytest.mark.parametrize(
    "order",
    [
        ("quick", "FILE", "--param", "colour=red", "--title", "T"),
        ("quick", "--param", "colour=red", "FILE", "--title", "T"),
        ("--title", "T", "quick", "--param", "colour=red", "FILE"),
        ("--title", "T", "--param", "colour=red", "quick", "FILE"),
    ],
)
def test_options_and_files_come_in_any_order(both: Cli, order: tuple[str, ...]) -> None:
    job = both("submit", *(both.film if word == "FILE" else word for word in order))
    shown = both.board.read(records.job, int(job))
    assert (shown["title"], shown["parameters"]) == ("T", {"colour": "red"})
    assert [one["href"] for one in shown["inputs"]] == [files.href(both.film)]


def test_ids_and_options_come_in_any_order(both_busy: Cli) -> None:
    both_busy("priority", 2, "--to", 3)
    both_busy("priority", "--to", 4, 2)
    assert both_busy.board.read(records.job, 2)["priority"] == 4
