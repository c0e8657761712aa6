"""What a process counts before anybody writes it down."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from backoffice.data import counters
from backoffice.data.counters import Counter, Histogram

WORDS = Counter("words", "Words", ("kind",))
SECONDS = Histogram("seconds", "Seconds", ("kind",), (1, 5))


@pytest.fixture(autouse=True)
def _nothing_pending() -> Iterator[None]:
    counters.take()
    yield
    counters.take()


def test_counts_add_up_for_each_choice_of_labels() -> None:
    WORDS.count("long")
    WORDS.count("long", n=2)
    WORDS.count("short")
    assert counters.take() == {("words", ("long",)): 3, ("words", ("short",)): 1}


def test_what_was_taken_is_pending_no_more() -> None:
    WORDS.count("long")
    counters.take()
    assert counters.take() == {}


def test_what_could_not_be_written_is_put_back() -> None:
    WORDS.count("long")
    taken = counters.take()
    WORDS.count("long")
    counters.add(taken)
    assert counters.take() == {("words", ("long",)): 2}


@pytest.mark.parametrize(
    ("amount", "bound"), [(0, "1"), (1, "1"), (1.1, "5"), (5, "5"), (6, "inf")]
)
def test_an_amount_belongs_to_the_first_bound_that_it_does_not_exceed(
    amount: float, bound: str
) -> None:
    SECONDS.observe(amount, "long")
    taken = counters.take()
    assert taken == {("seconds_bucket", ("long", bound)): 1, ("seconds_sum", ("long",)): amount}


def test_values_must_be_as_many_as_labels() -> None:
    with pytest.raises(AssertionError):
        WORDS.count()
    with pytest.raises(AssertionError):
        SECONDS.observe(1, "long", "more")


def test_threads_that_count_at_once_lose_nothing() -> None:
    taken: list[float] = []

    def work() -> None:
        for number in range(2000):
            WORDS.count("long")
            if number % 100 == 0:
                taken.extend(counters.take().values())

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work) for _ in range(4)]:
            done.result()
    assert sum(taken) + sum(counters.take().values()) == 8000
