"""Problems as people see them: inside the frame, with a way on."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from backoffice.config import loading
from backoffice.config.settings import Settings
from backoffice.reports import records
from backoffice.web.app import make_app
from backoffice.web.pages import render
from tests.board import Board
from tests.middleware import wsgi
from tests.web.reader import ACCEPT, EVIL, Page, Reader
from tests.web.visitor import FORM, Visitor


@pytest.fixture
def reader(visitor: Visitor) -> Reader:
    return Reader(visitor)


def page_of(answer: wsgi.Answer, path: str = "/") -> Page:
    return Reader._read(path, answer, answer.status)


def in_frame(page: Page) -> bool:
    return bool(page.root.xpath("//nav[@aria-label='Main']/a"))


def test_an_address_of_nothing_has_the_frame_around_it(reader: Reader) -> None:
    page = reader.open("/nothing", 404)
    assert in_frame(page)
    assert page.text("//h1") == "Not Found 404"
    assert "there is nothing at this address" in page.text()
    assert page.all("//main//a") == ["Overview", "Jobs"]


def test_a_job_that_vanished_is_told_with_what_may_have_been(reader: Reader) -> None:
    text = reader.open("/jobs/7", 404).text()
    assert "there is no job 7" in text
    assert "may have been removed" in text


def test_who_comes_second_learns_how_it_stands_now(board: Board, reader: Reader) -> None:
    job = board.submit()
    page = reader.open(f"/jobs/{job}")
    board.run(board.worker())
    late = reader.press(page, f"Cancel job {job}")
    assert late.status == 409
    assert "succeeded" in late.text()
    assert late.root.xpath("//a[.='How it stands now']/@href") == [f"/jobs/{job}"]


def test_a_form_that_is_too_old_says_what_to_do(board: Board, visitor: Visitor) -> None:
    job = board.submit()
    answer = visitor.post(f"/jobs/{job}/cancel", "csrf_token=x", FORM, HTTP_ACCEPT=ACCEPT)
    assert answer.status == 403
    assert "load the page again" in page_of(answer).text()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("PUT", "/about", 405), ("GET", "/jobs?state=odd", 400), ("GET", "/files?limit=0", 400)],
)
def test_what_is_not_understood_is_told(
    visitor: Visitor, method: str, path: str, status: int
) -> None:
    path, _, query = path.partition("?")
    more = {"HTTP_ACCEPT": ACCEPT, "QUERY_STRING": query, "CONTENT_TYPE": "application/json"}
    answer = visitor(method, path, **more)
    assert answer.status == status
    assert in_frame(page_of(answer))


def test_words_of_strangers_are_text(reader: Reader) -> None:
    page = reader.open(f"/workflows/{EVIL.replace('/', '')}", 404)
    assert "<script>alert(1)<script>" in page.text("//p[@class='error']")


def test_a_fault_of_ours_tells_the_requests_id_and_no_more(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **rest: Any) -> None:
        raise RuntimeError("the secret is 42")

    monkeypatch.setattr(records, "tokens", fail)
    page = reader.open("/tokens", 500)
    assert in_frame(page)
    assert "This is not your fault" in page.text()
    assert "The request's id is" in page.text()
    assert "42" not in page.text("//h1")
    assert "secret" not in page.text("//body")


def test_maintenance_is_told_inside_the_frame(
    board: Board, visitor: Visitor, settings: Settings
) -> None:
    job = board.submit()
    settings.web.maintenance.parent.mkdir(parents=True, exist_ok=True)
    settings.web.maintenance.write_text("read-only")
    answer = visitor.post(f"/jobs/{job}/cancel", HTTP_ACCEPT=ACCEPT)
    assert (answer.status, bool(answer.headers["Retry-After"])) == (503, True)
    assert "Jobs that run are not touched" in page_of(answer).text()


def test_who_is_not_logged_in_sees_no_buttons_of_others(settings: Settings, board: Board) -> None:
    environ = {
        "BACKOFFICE_DATABASE_URI": settings.database.uri,
        "BACKOFFICE_PATHS_HOME": str(settings.paths.home),
        "BACKOFFICE_AUTH_REQUIRED": "yes",
    }
    page = Reader(Visitor(make_app(loading.load(None, environ)))).open("/jobs", 401)
    assert "Log in" in page.text()
    assert not page.root.xpath("//a[@href='/submit'] | //a[@href='/tokens']")


def test_where_no_page_can_be_made_plain_html_does(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: Any, **rest: Any) -> None:
        raise RuntimeError("no template")

    monkeypatch.setattr(render, "html", fail)
    with caplog.at_level(logging.ERROR):
        answer = visitor.get("/nothing", HTTP_ACCEPT=ACCEPT)
    assert answer.status == 404
    assert "<h1>404 Not Found</h1>" in answer.text
    assert "no template" in caplog.text


def test_what_is_refused_at_the_door_needs_no_page(visitor: Visitor) -> None:
    answer = visitor.get("/jobs", HTTP_X_REMOTE_USER="(null)", HTTP_ACCEPT=ACCEPT)
    assert answer.status == 400
    assert not in_frame(page_of(answer))


def test_scripts_get_documents_as_before(visitor: Visitor) -> None:
    assert visitor.get("/nothing").headers["Content-Type"] == "application/problem+xml"
