"""Queues, workers, schedules and what this is, as a browser gets them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from lxml import html

from backoffice import __version__
from backoffice.config.settings import Schedule, Settings, Watch
from backoffice.data import counter_store
from backoffice.engine import catalogue, queue_control
from backoffice.scheduler.schedules import fire_schedules
from backoffice.scheduler.watch_folders import WatchFolder
from backoffice.web.app import make_app
from tests.board import Board, chain
from tests.web.visitor import FORM, Visitor

BROWSER = {"HTTP_ACCEPT": "text/html", "HTTP_SEC_FETCH_SITE": "same-origin"}


def page(visitor: Visitor, path: str, **more: str) -> Any:
    answer = visitor.get(path, **BROWSER | more)
    assert answer.status == 200, answer.text
    return html.document_fromstring(answer.body, parser=html.HTMLParser(encoding="utf-8"))


def words(element: Any) -> str:
    return " ".join(element.text_content().split())


def main(visitor: Visitor, path: str, **more: str) -> str:
    return words(page(visitor, path, **more).get_element_by_id("main"))


def press(visitor: Visitor, path: str, button: str, **values: str) -> None:
    """Press a button of a page, with what is typed into its form."""
    for form in page(visitor, path).iter("form"):
        if any(words(one) == button for one in form.iter("button")):
            fields = {one.get("name"): one.get("value") or "" for one in form.iter("input")}
            body = urlencode(fields | values)
            answer = visitor.post(form.get("action"), body, FORM, **BROWSER)
            assert (answer.status, answer.headers["Location"]) == (303, path)
            return
    raise AssertionError(f"{path} has no button {button!r}")


def viewer(settings: Settings) -> Visitor:
    auth = replace(settings.auth, required=True, viewers=frozenset({"vera"}))
    return Visitor(make_app(replace(settings, auth=auth)))


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/queues", "A queue appears with its first task"),
        ("/workers", "Start one on any host"),
        ("/schedules", "[schedule NAME]"),
        ("/schedules", "[watch NAME]"),
    ],
)
def test_an_empty_list_says_what_to_do(visitor: Visitor, path: str, told: str) -> None:
    assert told in main(visitor, path)


@pytest.mark.parametrize("database_uri", ["sqlite"], indirect=True)
def test_where_there_is_one_server_its_page_says_so(visitor: Visitor) -> None:
    assert "One server takes all reads and writes: SQLite" in main(visitor, "/nodes")


# Queues ---------------------------------------------------------------------


def test_a_queue_is_paused_resumed_and_limited_by_its_page(board: Board, visitor: Visitor) -> None:
    board.submit(chain("one", queue="a-b"))
    assert "a-b" in main(visitor, "/queues")
    press(visitor, "/queues/a-b", "Pause a-b")
    assert visitor.json("/queues/a-b")["paused"] is True
    assert "is paused" in main(visitor, "/queues/a-b")
    assert "queue a-b is paused: resume it" in main(visitor, "/queues")
    press(visitor, "/queues/a-b", "Resume a-b")
    assert visitor.json("/queues/a-b")["paused"] is False
    press(visitor, "/queues/a-b", "Set the limit", value="3")
    assert visitor.json("/queues/a-b")["limit"] == 3
    press(visitor, "/queues/a-b", "Remove the limit")
    assert visitor.json("/queues/a-b")["limit"] is None


def test_a_queue_shows_its_tags_and_who_serves_it(board: Board, visitor: Visitor) -> None:
    board.submit(chain("one", tags=frozenset({"gpu", "big"})))
    board.worker(host="serves", queues=["def*"])
    board.worker(host="elsewhere", queues=["other"])
    told = main(visitor, "/queues/default")
    assert "big gpu" in told
    assert "serves:7" in told
    assert "elsewhere" not in told


def test_what_a_button_does_is_said_before(board: Board, visitor: Visitor) -> None:
    board.submit()
    board.worker()
    for path in ("/queues/default", "/workers/1"):
        for form in page(visitor, path).iter("form"):
            if form.find(".//button[@class='danger']") is not None:
                assert len(words(form.getparent())) > 100, path


def test_a_queue_that_is_not_there_is_explained(visitor: Visitor) -> None:
    answer = visitor.get("/queues/none", **BROWSER)
    assert answer.status == 404
    assert "a queue appears with its first task" in answer.text


def test_who_may_only_look_gets_no_buttons(board: Board, settings: Settings) -> None:
    board.submit()
    board.worker()
    visitor = viewer(settings)
    for path in ("/queues/default", "/workers/1", "/queues", "/workers", "/schedules", "/about"):
        whole = page(visitor, path, HTTP_X_REMOTE_USER="vera")
        assert not whole.findall(".//main//form"), path
    answer = visitor.post("/queues/default/pause", HTTP_X_REMOTE_USER="vera")
    assert answer.status == 403


# Workers --------------------------------------------------------------------


def test_workers_tell_what_they_run(board: Board, visitor: Visitor) -> None:
    board.submit(title="Episode <1>")
    worker = board.worker(host="render-7", tags=["gpu"], slots=3)
    board.claim(worker)
    told = main(visitor, "/workers")
    assert "1 active, with 1 of 3 slots busy" in told
    assert "render-7:7" in told
    one = main(visitor, f"/workers/{worker}")
    for expected in ("Episode <1>", "gpu", "1 of 3 busy", "ago"):
        assert expected in one


def test_a_worker_is_drained_by_its_page(board: Board, visitor: Visitor) -> None:
    worker = board.worker()
    press(visitor, f"/workers/{worker}", "Drain here:7")
    assert "finishes what it runs" in main(visitor, f"/workers/{worker}")
    assert "Drain …" not in main(visitor, f"/workers/{worker}")


def test_those_that_are_there_come_first(board: Board, visitor: Visitor) -> None:
    first = board.worker(host="active")
    for state in ("lost", "stopped", "draining"):
        worker = board.worker(host=state)
        values = (state, worker)
        board.do(lambda s, v: s.execute("UPDATE worker SET state = ? WHERE id = ?", v), values)
    rows = page(visitor, "/workers").findall(".//tbody/tr/th")
    assert [words(one) for one in rows] == ["active:7", "draining:7", "lost:7", "stopped:7"]
    assert first == 1


def test_a_lost_worker_is_explained(board: Board, visitor: Visitor) -> None:
    board.worker()
    board.do(lambda s: s.execute("UPDATE worker SET state = 'lost'"))
    assert "has not been heard of" in main(visitor, "/workers/1")


def test_a_worker_that_is_gone_is_a_page(visitor: Visitor) -> None:
    answer = visitor.get("/workers/9", **BROWSER)
    assert (answer.status, "there is no worker 9" in answer.text) == (404, True)


# Schedules and watch folders ------------------------------------------------


def watching(settings: Settings, **more: Any) -> Settings:
    folder = settings.paths.roots[0]
    watch = Watch(
        name="in",
        folder=folder,
        pattern=("*.mp4", "*.mov"),
        exclude=(),
        recursive=True,
        workflow="proxy",
        role="source",
        sidecars={},
        quiet=timedelta(0),
        patience=timedelta(0),
        after="done",
        priority=50,
        parameters={},
    )
    return replace(settings, watches={"in": watch}, **more)


def test_watch_folders_tell_what_they_took(
    board: Board, settings: Settings, media: Callable[..., Path]
) -> None:
    media("<b>ep 1.mp4")
    settings = watching(settings)
    recipes = catalogue.load(settings)
    WatchFolder(settings.watches["in"], board.database, settings, recipes).run()
    refusing = replace(settings.watches["in"], workflow="missing", name="bad")
    WatchFolder(refusing, board.database, settings, recipes).run()
    bad = replace(settings, watches={"in": settings.watches["in"], "bad": refusing})
    told = main(Visitor(make_app(bad)), "/schedules")
    assert "<b>ep 1.mp4" in told
    assert "queued" in told
    assert "there is no workflow" in told
    assert str(settings.paths.roots[0]) in told
    visitor = Visitor(make_app(bad))
    assert "1 file cannot be taken: see" in main(visitor, "/")
    metrics = visitor.get("/metrics").text
    assert 'backoffice_watch_untaken_files{watch="bad"} 1.0' in metrics
    assert 'backoffice_watch_untaken_files{watch="in"} 0.0' in metrics
    assert 'backoffice_watch_folder_readable{watch="in"} 1.0' in metrics


def test_schedules_tell_when_they_run(board: Board, settings: Settings) -> None:
    schedule = Schedule("night", "0 3 * * *", "proxy", (), 50, {})
    settings = replace(settings, schedules={"night": schedule})
    visitor = Visitor(make_app(settings))
    assert "night: no scheduler has seen this yet" in main(visitor, "/schedules")
    recipes = catalogue.load(settings)
    fire_schedules(board.database, settings, recipes)
    board.do(lambda s: s.execute("UPDATE schedule SET next_run = '2020-01-01 03:00:00'"))
    fire_schedules(board.database, settings, recipes)
    told = main(visitor, "/schedules")
    assert "no scheduler" not in told
    for expected in ("night", "0 3 * * *", "proxy", "2020-01-01 03:00:00 UTC", "takes 1 file"):
        assert expected in told


# About ----------------------------------------------------------------------


def test_about_tells_versions_health_and_keys(board: Board, visitor: Visitor) -> None:
    told = main(visitor, "/about")
    assert "no worker is active" in told
    assert "no scheduler has ever run" in told
    database = "MariaDB" if board.database.mysql else "SQLite"
    for expected in (__version__, "Python", "ffmpeg", database, "version 1", "MIT", "lxml"):
        assert expected in told
    board.worker()
    counter_store.CounterWriter(board.database, scheduler=True).write()
    assert "All is well" in main(visitor, "/about")


def test_about_tells_that_changes_are_refused(
    board: Board, visitor: Visitor, settings: Settings
) -> None:
    board.worker()
    settings.web.maintenance.parent.mkdir(parents=True, exist_ok=True)
    settings.web.maintenance.write_text("read-only: we move")
    assert "it is in maintenance" in main(visitor, "/about")


# All of them ----------------------------------------------------------------

PAGES = tuple(
    (
        "/queues /queues/default /workers /workers/1 /nodes /schedules /about"
        " /workflows /workflows/web-video /profiles /profiles/hls-ladder"
    ).split()
)


@pytest.mark.parametrize("path", PAGES)
def test_pages_are_in_order(board: Board, visitor: Visitor, path: str) -> None:
    board.submit(title="T")
    board.claim(board.worker())
    board.do(queue_control.limit, "default", 4, "tester")
    whole = page(visitor, path)
    assert not whole.xpath("//@style | //@onclick")
    assert all(one.get("scope") for one in whole.iter("th"))
    ids = whole.xpath("//@id")
    assert len(ids) == len(set(ids))
    assert all(one.get("id") for one in whole.xpath("//*[@data-live]"))
    assert len(whole.xpath("//h1")) == 1
    labelled = whole.xpath("//label/@for")
    for field in whole.xpath("//main//input[not(@type='hidden')]"):
        assert field.get("id") in labelled or field.getparent().tag == "label", path
