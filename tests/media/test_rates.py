from __future__ import annotations

import math
import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backoffice.media import rates

MILLISECOND = 1000
ABSURD = {"avg_frame_rate": "1000/1", "r_frame_rate": "1000/1"}
EMPTY = {"avg_frame_rate": "0/0", "r_frame_rate": "90000/1"}


def times(rate: Fraction, count: int = 200, clock: int = MILLISECOND) -> list[float]:
    """Of a constant rate, as a coarse clock tells them."""
    return [round(n / rate * clock) / clock for n in range(count)]


@pytest.mark.parametrize(
    "rate",
    (
        "24000/1001 24 25 30000/1001 30 48 50 60000/1001 60 10 12 25/2 15 15000/1001 20"
        " 100 120 1 5 1/5 1/10 8 18 50/3 90"
    ).split(),
)
def test_a_constant_rate_is_found_exactly_on_a_clock_of_milliseconds(rate: str) -> None:
    assert rates.real(ABSURD, [times(Fraction(rate))]) == Fraction(rate)


@given(st.sampled_from([r for r in rates.STANDARD if r <= 120]), st.integers(100, 200))
def test_standard_rates_are_found_in_any_length(rate: Fraction, count: int) -> None:
    assert rates.real(EMPTY, [times(rate, count, 90000)]) == rate


def test_frames_that_are_missing_do_not_change_the_rate() -> None:
    whole = times(Fraction(30), 300)
    assert rates.real(ABSURD, [[t for n, t in enumerate(whole) if n % 7]]) == 30
    dim = [t for n, t in enumerate(whole) if not 60 <= n < 200 or n % 2]
    assert rates.real(ABSURD, [dim]) == 30


def test_frames_at_the_same_time_count_once() -> None:
    doubled = [t for moment in times(Fraction(30)) for t in (moment, moment + 0.00001)]
    assert rates.real(ABSURD, [doubled]) == 30


def test_frames_when_they_like_give_the_nearest_standard_rate_to_their_average() -> None:
    grid = {"avg_frame_rate": "15/1", "r_frame_rate": "120/1"}
    uneven = [(n * 8 + math.floor(1.9 * math.sin(n * 1.7) + 0.5)) / 120 for n in range(75)]
    assert rates.real(grid, [uneven]) == 15
    chance = random.Random(7)
    jittered = sorted(n * 0.04 + chance.uniform(0, 0.039) for n in range(200))
    assert rates.real(ABSURD, [jittered]) == 25


def test_film_with_repeated_fields_is_film() -> None:
    """Soft telecine: a frame lasts three fields, the next two."""
    flags = {"avg_frame_rate": "2997/125", "r_frame_rate": "60000/1001"}
    shown = [(n // 2 * 5 + n % 2 * 3) * 1001 / 60000 for n in range(200)]
    assert rates.real(flags, [shown]) == Fraction(24000, 1001)


def test_slow_frames_when_they_like_get_a_rate_that_keeps_them_in_step() -> None:
    chance = random.Random(3)
    slides = sorted(chance.uniform(0, 100) for _ in range(50))
    assert rates.real(EMPTY, [slides]) == 15


def test_windows_are_not_joined() -> None:
    late = [1000 + moment for moment in times(Fraction(25))]
    assert rates.real(ABSURD, [times(Fraction(25)), late]) == 25


@pytest.mark.parametrize("stream", [ABSURD, EMPTY, {}, {"avg_frame_rate": "x"}])
def test_a_frame_alone_has_the_usual_rate(stream: dict[str, str]) -> None:
    assert rates.real(stream, [[0.0]]) == rates.USUAL


def test_a_fast_camera_is_believed() -> None:
    assert rates.real({"avg_frame_rate": "480/1", "r_frame_rate": "480/1"}) == 480


def test_a_burst_is_no_rate_beyond_any_screen() -> None:
    assert rates.real(ABSURD, [[n / 1000 for n in range(100)]]) <= rates.FASTEST


@pytest.mark.parametrize(
    ("average", "base", "container", "settled"),
    [
        ("25/1", "25/1", "mov,mp4,m4a,3gp,3g2,mj2", True),
        ("30000/1001", "30000/1001", "avi", True),
        ("25/1", "25/1", "matroska,webm", False),
        ("15/1", "120/1", "mov,mp4,m4a,3gp,3g2,mj2", False),
        ("1000/1", "1000/1", "avi", False),
        ("480/1", "480/1", "mov,mp4,m4a,3gp,3g2,mj2", True),
        ("480/1", "480/1", "matroska,webm", False),
        ("0/0", "90000/1", "mov,mp4,m4a,3gp,3g2,mj2", False),
    ],
)
def test_headers_are_believed_where_they_cannot_be_wrong(
    average: str, base: str, container: str, settled: bool
) -> None:
    stream = {"avg_frame_rate": average, "r_frame_rate": base}
    assert rates.settled(stream, container) is settled


@pytest.mark.parametrize(
    ("rate", "most", "shown"),
    [
        ("240", "60", "60"),
        ("120000/1001", "60", "60000/1001"),
        ("100", "60", "50"),
        ("60000/1001", "60", "60000/1001"),
        ("60", "60", "60"),
        ("144", "60", "48"),
        ("90", "60", "45"),
        ("15", "60", "15"),
        ("1/5", "60", "1/5"),
        ("50", "30", "25"),
    ],
)
def test_a_cap_takes_every_second_frame_or_third(rate: str, most: str, shown: str) -> None:
    assert rates.shown(Fraction(rate), Fraction(most)) == Fraction(shown)


@pytest.mark.parametrize("rate", ["24000/1001", "30000/1001", "25", "1/5", "50/3"])
def test_a_rate_of_six_digits_is_exact_again(rate: str) -> None:
    assert rates.exact(round(float(Fraction(rate)), 6)) == Fraction(rate)
