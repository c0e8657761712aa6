from __future__ import annotations

from backoffice.scheduler.unchanged import Unchanged


def test_counting_starts_anew_with_every_change() -> None:
    values = Unchanged()
    assert [values.seconds("a", 1, now) for now in (10, 15, 20)] == [0, 5, 10]
    assert [values.seconds("a", 2, now) for now in (21, 25)] == [0, 4]


def test_what_is_no_longer_there_is_forgotten() -> None:
    values = Unchanged()
    values.seconds("a", 1, 10)
    values.forget_others({"b"})
    assert values.seconds("a", 1, 20) == 0
