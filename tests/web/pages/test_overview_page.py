"""The overview as a browser gets it."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from lxml import html

from backoffice.config.settings import Settings
from backoffice.engine import jobs
from backoffice.reports import queue_depths, queue_statistics
from backoffice.system import disk_space
from backoffice.web.app import make_app
from backoffice.web.pages import overview as overview_page
from tests.board import Board, chain
from tests.web.visitor import FORM, Visitor

BROWSER = {"HTTP_ACCEPT": "text/html", "HTTP_SEC_FETCH_SITE": "same-origin"}
NASTY = "<script>alert('x')</script> שלום 🎬 " + "w" * 300


def page(visitor: Visitor, **more: str) -> Any:
    answer = visitor.get("/", **BROWSER | more)
    assert answer.status == 200, answer.text
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    return html.document_fromstring(answer.body, parser=html.HTMLParser(encoding="utf-8"))


def part(whole: Any, name: str) -> str:
    """The words of a section."""
    return " ".join(whole.get_element_by_id(name).text_content().split())


def test_an_empty_site_says_what_to_do(visitor: Visitor) -> None:
    whole = page(visitor)
    assert "Nothing runs. Submit a job" in part(whole, "running")
    assert "a queue appears with its first task" in part(whole, "queues")
    assert "No worker is active, so nothing will run: start one." in part(whole, "queues")
    assert "No job has failed" in part(whole, "failures")
    assert "backoffice worker" in part(whole, "workers")
    assert "work" in part(whole, "disks")


def test_what_runs_is_shown_with_its_job_and_its_host(board: Board, visitor: Visitor) -> None:
    board.submit(title="Episode 1")
    (one,) = board.claim(board.worker(host="render-7"))
    told = "UPDATE task SET progress = 42.4, speed = '1.5x', eta = 90 WHERE id = ?"
    board.do(lambda s: s.execute(told, (one.claim.task_id,)))
    whole = page(visitor)
    row = part(whole, "running")
    for words in ("one", "Episode 1", "42 %", "1.5x", "1 min 30 s", "render-7"):
        assert words in row
    running = whole.get_element_by_id("running")
    assert running.get("data-running") is not None
    links = {link.get("href") for link in running.iter("a")}
    assert links == {"/tasks/1", "/jobs/1", "/workers/1"}
    assert running.find(".//progress").get("value") == "42.4"


def test_a_line_tells_all_at_once(board: Board, visitor: Visitor) -> None:
    assert part(page(visitor), "summary") == "0 running · 0 waiting · 0 failed in the last day"
    worker = board.worker()
    board.submit(chain("one"))
    board.run(worker, fail={"one": "broken"})
    for _ in range(3):
        board.submit()
    board.claim(worker)
    assert part(page(visitor), "summary") == "1 running · 2 waiting · 1 failed in the last day"


def test_of_many_running_tasks_some_are_shown(
    board: Board, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview_page, "RUNNING_SHOWN", 2)
    for _ in range(3):
        board.submit()
    board.claim(board.worker(), 3)
    whole = page(visitor)
    assert len(whole.get_element_by_id("running").findall(".//tbody/tr")) == 2
    assert "These are the newest of 3" in part(whole, "running")


def test_queues_tell_what_waits_and_why(board: Board, visitor: Visitor) -> None:
    board.submit()
    board.do(jobs.pause, board.submit(), "tester")
    board.submit(delay=600)
    told = part(page(visitor), "queues")
    assert "no worker is active: start one" in told
    assert "1 job is paused" in told
    assert "1 task waits for a time" in told
    assert "unknown" in told


def test_no_more_is_counted_than_anybody_needs(
    board: Board, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (queue_depths, queue_statistics):
        monkeypatch.setattr(module, "COUNTED", 3)
    for _ in range(5):
        board.submit()
    assert "more than 3" in part(page(visitor), "queues")


def test_failures_are_grouped_and_retried_after_a_preview(board: Board, visitor: Visitor) -> None:
    worker = board.worker()
    for name in ("a", "b", "c"):
        board.submit(chain("one"))
        board.run(worker, fail={"one": f"/srv/{name}.mp4: no picture"})
    whole = page(visitor)
    assert "one failed: …: no picture" in part(whole, "failures")
    assert "3 jobs" in part(whole, "failures")
    (form,) = whole.get_element_by_id("failures").findall(".//form")
    fields = {one.get("name"): one.get("value") for one in form.iter("input")}
    assert fields["job"] == "3,2,1"
    answer = visitor.post(form.get("action"), urlencode(fields), FORM, **BROWSER)
    assert answer.status == 200
    assert "Nothing has been done yet" in answer.text
    assert {one["state"] for one in visitor.json("/jobs")["jobs"]} == {"failed"}
    del fields["preview"]
    assert visitor.post(form.get("action"), urlencode(fields), FORM, **BROWSER).status == 303
    assert {one["state"] for one in visitor.json("/jobs")["jobs"]} == {"running"}
    assert "none is failed now" in part(page(visitor), "failures")


def test_what_ended_is_drawn_from_figures_that_are_a_table_too(
    board: Board, visitor: Visitor
) -> None:
    worker = board.worker()
    for fail in ({}, {}, {"one": "broken"}):
        board.submit(chain("one"))
        board.run(worker, fail=fail)
    whole = page(visitor)
    while "still being counted" in whole.text_content():
        whole = page(visitor)
    for name, slots, rows in (("ended-hour", 60, 12), ("ended-day", 48, 12), ("ended-week", 84, 7)):
        element = whole.get_element_by_id(name)
        chart = json.loads(element.get("data-chart"))
        assert (sum(chart["succeeded"]), sum(chart["failed"])) == (2, 1), name
        assert len(chart["succeeded"]) == len(chart["failed"]) == slots
        assert len(element.findall(".//tbody/tr")) == rows
        assert part(whole, f"{name}-sums") == "2 succeeded, 1 failed"
        assert element.getparent().get("open") is not None, "without scripts it is all there is"


def test_texts_of_others_are_texts(board: Board, visitor: Visitor) -> None:
    worker = board.worker(host="<b>host", tags=["x"])
    board.submit(chain("one"), title=NASTY)
    board.run(worker, fail={"one": NASTY + "z" * 9000})
    board.submit(title=NASTY)
    board.claim(worker)
    answer = visitor.get("/", **BROWSER)
    assert "<script>alert" not in answer.text
    assert "<b>host" not in answer.text
    assert len(answer.body) < 60_000
    whole = page(visitor)
    assert NASTY in part(whole, "running")
    assert "<script>alert('x')" in part(whole, "failures")
    assert not whole.xpath("//@style | //@onclick")
    assert all(one.get("src") for one in whole.iter("script"))


def test_a_mount_that_hangs_is_told_on_a_page_that_comes(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = threading.Event()

    def ask(path: Path) -> disk_space.Room:
        answers.wait(60)
        raise OSError(5, "Input/output error")

    looked = disk_space.Disks({"root in": Path("/hangs")}, ask)
    monkeypatch.setattr(disk_space, "of", lambda settings: looked)
    try:
        assert "has not answered for 0 s" in part(page(visitor), "disks")
    finally:
        answers.set()


# Who looks ------------------------------------------------------------------


def logged_in(settings: Settings) -> Visitor:
    users = {"viewers": frozenset({"vera"}), "operators": frozenset({"olga", "otto"})}
    auth = replace(settings.auth, required=True, **users)
    return Visitor(make_app(replace(settings, auth=auth)))


def failed(board: Board) -> None:
    board.submit(chain("one"))
    board.run(board.worker(), fail={"one": "broken"})


def test_a_viewer_sees_all_and_may_do_nothing(board: Board, settings: Settings) -> None:
    failed(board)
    visitor = logged_in(settings)
    assert page(visitor, HTTP_X_REMOTE_USER="olga").findall(".//main//form")
    whole = page(visitor, HTTP_X_REMOTE_USER="vera")
    assert "broken" in part(whole, "failures")
    assert not whole.findall(".//main//form")
    assert not whole.findall(".//main//button")


def test_everybody_has_a_token_of_their_own(board: Board, settings: Settings) -> None:
    failed(board)
    visitor = logged_in(settings)
    fields = {}
    for user in ("olga", "otto"):
        (form,) = page(visitor, HTTP_X_REMOTE_USER=user).findall(".//main//form")
        fields[user] = {one.get("name"): one.get("value") for one in form.iter("input")}
    for user, other in (("olga", "otto"), ("otto", "olga")):
        body, who = urlencode(fields[user]), {"HTTP_X_REMOTE_USER": user}
        assert visitor.post("/jobs/actions", body, FORM, **BROWSER | who).status == 200
        who = {"HTTP_X_REMOTE_USER": other}
        assert visitor.post("/jobs/actions", body, FORM, **BROWSER | who).status == 403


def test_it_is_made_once_until_something_happens(
    board: Board, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview_page, "_FRESH", 3600.0)
    board.submit(title="First")
    board.claim(board.worker())
    assert "First" in part(page(visitor), "running")
    board.do(lambda s: s.execute("UPDATE job SET title = 'Renamed'"))
    assert "First" in part(page(visitor), "running")
    board.submit()  # is an event
    assert "Renamed" in part(page(visitor), "running")


def test_what_is_no_event_shows_a_moment_later(
    board: Board, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview_page, "_FRESH", 0.0)
    board.submit()
    board.claim(board.worker())
    assert " 0 %" in part(page(visitor), "running")
    board.do(lambda s: s.execute("UPDATE task SET progress = 42 WHERE id = 1"))
    assert "42 %" in part(page(visitor), "running")


def test_while_something_waits_the_page_is_looked_at_again(board: Board, visitor: Visitor) -> None:
    assert page(visitor).xpath("//*[@data-running]") == []
    board.submit()
    assert page(visitor).get_element_by_id("queues").get("data-running") is not None


# How it is built ------------------------------------------------------------


def test_every_part_that_changes_is_live_and_has_an_id(visitor: Visitor) -> None:
    whole = page(visitor)
    live = [one.get("id") for one in whole.xpath("//*[@data-live]")]
    assert {"running", "queues", "failures", "ended-hour", "workers", "disks"} <= set(live)
    ids = whole.xpath("//@id")
    assert len(ids) == len(set(ids))
    headings = [
        int(one.tag[1]) for one in whole.xpath("//main//*[self::h1 or self::h2 or self::h3]")
    ]
    assert headings[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(headings))
    assert all(one.get("scope") for one in whole.iter("th"))


def test_it_is_a_document_for_others(visitor: Visitor) -> None:
    assert visitor.xml("/").tag.endswith("service")
    assert visitor.json("/")["links"]
