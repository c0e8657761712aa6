"""Durations and sizes, read and shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backoffice import units


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 30), ("30s", 30), ("500ms", 0.5), ("5m", 300), ("1.5h", 5400), ("30d", 2592000)],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert units.parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "-1s", "1w", "1h30m", "1e3", "1.s", "٣s", "1" * 10])
def test_other_texts_are_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="such as 30s"):
        units.parse_duration(text)


@pytest.mark.parametrize(
    ("text", "number"), [("0", 0), ("4096", 4096), ("512M", 1 << 29), ("8 gb", 8 << 30)]
)
def test_sizes_are_read(text: str, number: int) -> None:
    assert units.parse_size(text) == number


@pytest.mark.parametrize("text", ["", "M", "1.5G", "-1", "1P", "1MM"])
def test_other_texts_are_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="such as 512M"):
        units.parse_size(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0 s"),
        (0, "0 s"),
        (0.04, "0 s"),
        (4.2, "4.2 s"),
        (4, "4 s"),
        (9.96, "10 s"),
        (59.6, "1 min"),
        (245, "4 min 5 s"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (90000, "25 h"),
        (180000, "2 days 2 h"),
    ],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert units.duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1500, "1.5 kB"),
        (999_600, "1.0 MB"),
        (85_000_000_000, "85 GB"),
        (5e15, "5000 TB"),
    ],
)
def test_sizes_read_well(number: float, text: str) -> None:
    assert units.size(number) == text


@given(st.floats(0, 1e9))
def test_a_shown_duration_is_within_a_tenth(seconds: float) -> None:
    steps = {"days": 86400, "h": 3600, "min": 60, "s": 1}
    words = units.duration(seconds).split()
    shown = sum(float(n) * steps[unit] for n, unit in zip(words[::2], words[1::2], strict=True))
    assert shown == pytest.approx(seconds, rel=0.1, abs=0.06)
