from __future__ import annotations

import re
from datetime import datetime, timedelta
from functools import partial

import pytest

from backoffice.data import tokens
from backoffice.data.sql import clock, moment
from backoffice.errors import DatabaseUnavailable, Invalid, NotFound
from backoffice.reports import records
from tests.board import Board

HOUR = timedelta(hours=1)


def make(board: Board, **changes: object) -> tuple[int, str]:
    wanted = {"name": "ci", "role": "operator", "actor": "alice"} | changes
    made: tuple[int, str] = board.do(tokens.create, **wanted)
    return made


def later(board: Board, by: timedelta) -> None:
    """Let all that happened to tokens lie further back."""
    for column in ("created", "expires", "last_used"):
        rows = board.read(lambda s, c=column: s.execute(f"SELECT id, {c} FROM token").get_all())
        for token, value in rows:
            if value is not None:
                then = (moment(value) or datetime.min) - by
                board.do(
                    lambda s, c=column, v=then, t=token: s.execute(
                        f"UPDATE token SET {c} = ? WHERE id = ?", (v, t)
                    )
                )


def test_a_secret_finds_its_token(board: Board) -> None:
    make(board, name="other", role="viewer")
    token, secret = make(board)
    found = board.read(tokens.find, secret)
    assert (found.id, found.name, found.role) == (token, "ci", "operator")


def test_a_secret_is_long_random_and_not_stored(board: Board) -> None:
    _, secret = make(board)
    assert re.fullmatch(r"bo_[A-Za-z0-9_-]{43}", secret)
    assert make(board)[1] != secret
    rows = board.read(lambda s: s.execute("SELECT * FROM token").get_all())
    rows += board.read(lambda s: s.execute("SELECT * FROM event").get_all())
    assert secret not in str(rows)


@pytest.mark.parametrize("secret", ["", "bo_", "x" * 10_000, "bo_\udcff"])
def test_an_unknown_secret_finds_nothing(board: Board, secret: str) -> None:
    make(board)
    assert board.read(tokens.find, secret) is None


def test_an_expired_token_is_not_good(board: Board) -> None:
    _, secret = make(board, lifetime=HOUR)
    _, lasting = make(board)
    assert board.read(tokens.find, secret)
    later(board, HOUR)
    assert board.read(tokens.find, secret) is None
    assert board.read(tokens.find, lasting)
    assert [one["state"] for one in board.read(records.tokens)] == ["active", "expired"]


def test_a_revoked_token_is_not_good(board: Board) -> None:
    token, secret = make(board)
    board.do(tokens.revoke, token, "bob")
    assert board.read(tokens.find, secret) is None
    assert [one["state"] for one in board.read(records.tokens)] == ["revoked"]


def test_revoking_twice_changes_nothing(board: Board) -> None:
    token, _ = make(board)
    board.do(tokens.revoke, token, "bob")
    before = board.read(records.tokens)
    board.do(tokens.revoke, token, "carol")
    assert board.read(records.tokens) == before
    with pytest.raises(NotFound, match="there is no token 99"):
        board.do(tokens.revoke, 99, "bob")


def test_the_history_tells_who_made_and_revoked_a_token(board: Board) -> None:
    token, _ = make(board)
    board.do(tokens.revoke, token, "bob")
    happened = board.read(records.events, limit=9)
    assert [(e["actor"], e["action"], e["subject"], e["detail"]) for e in happened] == [
        ("alice", "token.created", f"token {token}", "ci: operator"),
        ("bob", "token.revoked", f"token {token}", "ci"),
    ]


def test_the_last_use_is_noted_once_a_minute(board: Board) -> None:
    def used() -> object:
        return board.read(records.tokens)[0]["last_used"]

    _, secret = make(board)
    board.read(tokens.find, secret)
    assert used() is None
    assert tokens.check(board.database, secret)
    first = used()
    assert first is not None
    tokens.check(board.database, secret)
    assert used() == first
    later(board, HOUR)
    tokens.check(board.database, secret)
    assert board.clock() - used() < HOUR  # type: ignore[operator]


def test_a_database_that_takes_no_writes_keeps_nobody_out(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, secret = make(board)

    def refuse(*args: object) -> None:
        raise DatabaseUnavailable("the database takes no writes now")

    monkeypatch.setattr(tokens, "_touch", refuse)
    assert tokens.check(board.database, secret)
    assert tokens.check(board.database, "bo_unknown") is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": " "}, "printable characters"),
        ({"name": "a\nb"}, "printable characters"),
        ({"name": "x" * 129}, "1 to 128"),
        ({"role": "root"}, "there are viewer, operator, admin"),
        ({"lifetime": timedelta()}, "longer than nothing"),
        ({"lifetime": timedelta(days=99999)}, "at most 100 years"),
    ],
)
def test_a_wrong_token_is_refused(board: Board, changes: dict[str, object], words: str) -> None:
    with pytest.raises(Invalid, match=words):
        make(board, **changes)
    assert board.read(records.tokens) == []


def test_a_token_expires_by_the_clock_of_the_database(board: Board) -> None:
    make(board, lifetime=HOUR)
    (one,) = board.read(records.tokens)
    assert one["expires"] - one["created"] == HOUR
    assert abs(one["created"] - board.read(partial(clock))) < HOUR
