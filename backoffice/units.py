"""Durations and sizes, read and shown; standard library only."""

from __future__ import annotations

import re
from typing import Final

_SECONDS: Final = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_DURATION: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?(ms|[smhd]?)")
_SIZE: Final = re.compile(r"([0-9]{1,15}) ?([KMGT]?)B?")
_STEPS: Final = (("days", 86400), ("h", 3600), ("min", 60), ("s", 1))


def parse_duration(text: str) -> float:
    """Seconds of a text such as ``500ms``, ``30``, ``30s``, ``1.5h`` or ``30d``.

    Raises ValueError, whose message ends the sentence "… is not".
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError("a length of time such as 30s, 5m, 2h or 30d")
    return float(match[1]) * _SECONDS[match[2]]


def parse_size(text: str) -> int:
    """Bytes of a text such as ``4096``, ``512M`` or ``8G``; letters are powers of 1024.

    Raises ValueError, whose message ends the sentence "… is not".
    """
    match = _SIZE.fullmatch(text.strip().upper())
    if match is None:
        raise ValueError("a size such as 512M or 8G")
    return int(match[1]) * _BYTES[match[2]]


def duration(seconds: float) -> str:
    """A length of time in its two largest units: ``4.2 s``, ``4 min 5 s``, ``2 days 2 h``."""
    if 0 < seconds < 9.95:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    whole = max(0, round(seconds))
    for place, (unit, size) in enumerate(_STEPS[:-1]):
        if whole >= size * (2 if unit == "days" else 1):
            return _two_units(whole, place)
    return f"{whole} s"


def _two_units(whole: int, place: int) -> str:
    (unit, size), (smaller, step) = _STEPS[place : place + 2]
    count, rest = divmod(whole, size)
    text = f"{count} {unit}"
    return f"{text} {rest // step} {smaller}" if rest >= step else text


def size(number: float) -> str:
    """Bytes in powers of 1000, as disks are sold: ``999 B``, ``1.5 kB``, ``85 GB``."""
    value, names = float(number), ["B", "kB", "MB", "GB", "TB"]
    while value >= 999.5 and len(names) > 1:
        value /= 1000
        names.pop(0)
    digits = 1 if 0 < value < 9.95 and names[0] != "B" else 0
    return f"{value:.{digits}f} {names[0]}"
