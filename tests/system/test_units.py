"""Durations and sizes, read and shown."""

from __future__ import annotations

import pytest

from backoffice.system import units


@pytest.mark.parametrize(
    ("number", "text"),
    [(None, ""), (0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (85_000_000_000, "85 GB")],
)
def test_sizes_read_well(number: int | None, text: str) -> None:
    assert units.size(number) == text
