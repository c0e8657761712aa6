"""API tokens as a page: made, shown once, revoked."""

from __future__ import annotations

from datetime import timedelta

import pytest

from backoffice.data import tokens
from backoffice.reports import records
from tests.board import Board
from tests.web.reader import EVIL, Reader
from tests.web.visitor import FORM, Visitor


@pytest.fixture
def reader(visitor: Visitor) -> Reader:
    return Reader(visitor)


def create(reader: Reader, **typed: str) -> str:
    """Through the page; the secret that it shows."""
    page = reader.press(reader.open("/tokens"), "Create", *typed.items())
    assert page.status == 201, page.text()
    return page.text("//*[@id='secret']")


def test_without_tokens_the_page_says_how_to_make_one(reader: Reader) -> None:
    assert "There is no token yet" in reader.open("/tokens").text()


def test_a_token_is_made_and_its_secret_is_shown_once(board: Board, reader: Reader) -> None:
    secret = create(reader, name="ci", role="viewer", days="30")
    found = board.read(tokens.find, secret)
    assert (found.name, found.role) == ("ci", "viewer")
    (one,) = board.read(records.tokens)
    assert one["expires"] - one["created"] == timedelta(days=30)
    assert one["created_by"] == "anonymous"
    page = reader.open("/tokens")
    assert secret not in page.text("//body")
    assert page.all("//tbody/tr")[0].startswith("ci ")


def test_a_token_may_have_no_end(board: Board, reader: Reader) -> None:
    create(reader, name="for ever", days="")
    assert board.read(records.tokens)[0]["expires"] is None


def test_the_page_is_kept_nowhere(visitor: Visitor) -> None:
    assert visitor.get("/tokens").headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("name", [" ", "a\nb", "x" * 129])
def test_a_wrong_name_is_told_beside_it(board: Board, reader: Reader, name: str) -> None:
    page = reader.press(reader.open("/tokens"), "Create", ("name", name), ("role", "viewer"))
    assert page.status == 422
    assert "1 to 128 printable characters" in page.text("//*[@class='fault']")
    assert page.root.xpath("//select[@name='role']/option[@selected]/@value") == ["viewer"]
    assert board.read(records.tokens) == []


@pytest.mark.parametrize(
    ("fields", "status"),
    [("", 422), ("name=a&role=root&days=1", 422), ("name=a&role=admin&days=0", 400)],
)
def test_what_no_page_offers_is_refused(
    board: Board, visitor: Visitor, fields: str, status: int
) -> None:
    assert visitor.post("/tokens", fields, FORM).status == status
    assert board.read(records.tokens) == []


def test_a_token_is_revoked_after_it_is_said_what_that_does(board: Board, reader: Reader) -> None:
    secret = create(reader, name=EVIL, role="admin", days="1")
    page = reader.open("/tokens")
    assert "is refused from now on" in page.text("//details")
    after = reader.press(page, "Revoke it")
    assert after.path == "/tokens"
    assert "revoked" in after.all("//tbody/tr")[0]
    assert not after.root.xpath("//tbody//button")
    assert board.read(tokens.find, secret) is None


def test_a_token_that_is_not_there_cannot_be_revoked(visitor: Visitor) -> None:
    assert visitor.post("/tokens/7/revoke").status == 404
