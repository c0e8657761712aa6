"""The counts of all processes come together in the database."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from backoffice.config.settings import DatabaseSettings
from backoffice.data import counter_store, counters
from backoffice.data.counter_store import EVERY, CounterWriter
from backoffice.data.counters import Counter, Key
from backoffice.data.database import Database
from tests.board import Board
from tests.crowd import together

WORDS = Counter("words", "Words", ("kind",))
LONG: Key = ("words", ("long",))


@pytest.fixture(autouse=True)
def _nothing_pending() -> Iterator[None]:
    counters.take()
    yield
    counters.take()


class Time:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def kept(board: Board) -> dict[Key, float]:
    found: dict[Key, float] = board.read(counter_store.read)
    return found


def test_what_several_have_counted_is_one_sum(board: Board) -> None:
    first, second = (
        CounterWriter(board.database),
        CounterWriter(Database(board.settings.database), apart=True),
    )
    for book, number in ((first, 2), (second, 3), (first, 4)):
        WORDS.count("long", n=number)
        book.write()
    WORDS.count("short", n=0.5)
    second.write()
    assert kept(board) == {LONG: 9, ("words", ("short",)): 0.5}


def test_all_sorts_of_labels_come_back_as_they_were(board: Board) -> None:
    strange = {("a", ()): 1.0, ("b", ("ü", 'q"]')): 2.0, ("b", ("", "x,y")): 3.0, ("B", ()): 4.0}
    board.do(counter_store.add, strange)
    assert kept(board) == strange


def test_more_than_one_statement_holds_is_written(board: Board) -> None:
    many = {("words", (str(number),)): float(number) for number in range(450)}
    board.do(counter_store.add, many)
    assert kept(board) == many


def test_those_that_write_at_once_lose_nothing_and_block_nobody(board: Board) -> None:
    counts = {("words", (str(number),)): 1.0 for number in range(20)}
    backwards = dict(reversed(counts.items()))

    def write(own: dict[Key, float]) -> None:
        for _ in range(5):
            board.database.transact(counter_store.add, own)

    together(board.database, *(partial(write, one) for one in (counts, backwards) * 2))
    assert set(kept(board).values()) == {20.0}
    assert ("database_retries", ("deadlock",)) not in counters.take()


def test_a_book_is_written_when_it_is_time(board: Board) -> None:
    time = Time()
    book = CounterWriter(board.database, monotonic=time)
    WORDS.count("long")
    book.turn()
    assert kept(board) == {}
    time.now += EVERY
    book.turn()
    assert kept(board) == {LONG: 1}
    WORDS.count("long")
    book.turn()
    assert kept(board) == {LONG: 1}


def test_who_has_nothing_to_write_does_not_ask_the_database() -> None:
    nowhere = Database(DatabaseSettings("mysql://nobody@127.0.0.1:1/none", 1))
    CounterWriter(nowhere).write()
    assert counters.take() == {}


def test_what_a_database_that_is_away_did_not_take_is_written_later(
    board: Board, caplog: pytest.LogCaptureFixture
) -> None:
    nowhere = Database(DatabaseSettings("mysql://nobody@127.0.0.1:1/none", 1))
    WORDS.count("long")
    CounterWriter(nowhere).write()
    assert "counters.unwritten" in caplog.text
    WORDS.count("long")
    CounterWriter(board.database).write()
    assert kept(board)[LONG] == 2


def test_trouble_with_the_database_is_counted_by_kind(board: Board) -> None:
    nowhere = Database(DatabaseSettings("mysql://nobody@127.0.0.1:1/none", 1))
    CounterWriter(nowhere, scheduler=True).write()
    assert counters.take() == {("database_errors", ("away",)): 1}


def test_a_transaction_that_runs_again_is_counted_by_its_reason(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that was there only for the first try makes it run again."""
    tries = []

    def insert(store: Any) -> None:
        tries.append(1)
        for _ in range(2 if len(tries) == 1 else 1):
            store.execute("INSERT INTO counter (name, labels, value) VALUES ('x', '', 1)")

    if not board.database.mysql:
        pytest.skip("SQLite has no error that says so")
    board.do(insert)
    assert counters.take() == {("database_retries", ("duplicate",)): 1}


# Set rather than added to ---------------------------------------------------


def test_a_figure_that_is_put_replaces_the_one_before(board: Board) -> None:
    board.do(counter_store.put, {("jobs", ("failed",)): 7.0})
    board.do(counter_store.put, {("jobs", ("failed",)): 5.0})
    assert kept(board) == {("jobs", ("failed",)): 5.0}


def test_a_scheduler_is_heard_of_even_if_nothing_happens(board: Board) -> None:
    assert board.read(counter_store.scheduler_heard_of) is None
    time = Time()
    book = CounterWriter(board.database, scheduler=True, monotonic=time)
    book.turn()
    first = board.read(counter_store.scheduler_heard_of)
    assert abs(first - board.clock()) < timedelta(seconds=30)
    book.turn()
    assert board.read(counter_store.scheduler_heard_of) == first
    time.now += EVERY
    book.turn()
    assert board.read(counter_store.scheduler_heard_of) > first


def test_others_than_schedulers_are_not_taken_for_one(board: Board) -> None:
    WORDS.count("long")
    CounterWriter(board.database).write()
    assert board.read(counter_store.scheduler_heard_of) is None
