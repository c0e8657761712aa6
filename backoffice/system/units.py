"""Durations and sizes, read and shown."""

from __future__ import annotations


def size(number: int | None) -> str:
    """Bytes, with three digits or so."""
    if number is None:
        return ""
    value, units = float(number), ["B", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value /= 1000
        units.pop(0)
    digits = 1 if value < 10 and units[0] != "B" else 0
    return f"{value:.{digits}f} {units[0]}"
