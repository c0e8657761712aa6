"""Positions in a stream of replicated transactions, as MariaDB and MySQL write them.

MariaDB names the last transaction of each domain, ``0-1-270,1-1-3`` (domain,
server, number); MySQL names all of each source, ``UUID:1-270:272``. Both are
kept as the numbers that are there, by domain or source.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

Ranges = tuple[tuple[int, int], ...]  # in order, none touching the next

LONGEST = 2000  # characters of a text that is parsed: it may come from a stranger
_MARIADB = re.compile(r"([0-9]{1,10})-([0-9]{1,10})-([0-9]{1,20})")
_MYSQL = re.compile(
    r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?::[a-z_][a-z0-9_]{0,31})?)"  # source, tag
    r"((?::[0-9]{1,20}(?:-[0-9]{1,20})?)+)"
)


@dataclass(frozen=True)
class Position:
    """What has been applied. Empty: nothing, which every position covers."""

    numbers: Mapping[str, Ranges] = field(default_factory=dict)
    servers: Mapping[str, str] = field(default_factory=dict, compare=False)  # of MariaDB's

    def __bool__(self) -> bool:
        return bool(self.numbers)

    def covers(self, other: Position) -> bool:
        """Whether a server at this position has applied all that ``other`` has."""
        return all(
            _within(ranges, self.numbers.get(name, ())) for name, ranges in other.numbers.items()
        )

    def merged(self, other: Position) -> Position:
        """The first position that covers both."""
        if self.covers(other):
            return self
        numbers, servers = dict(self.numbers), dict(self.servers)
        for name, ranges in other.numbers.items():
            mine = numbers.get(name, ())
            numbers[name] = _union(mine, ranges)
            if name in other.servers and not _within(ranges, mine):
                servers[name] = other.servers[name]
        return Position(numbers, servers)

    def __str__(self) -> str:
        return ",".join(self._written(name) for name in sorted(self.numbers))

    def _written(self, name: str) -> str:
        ranges = self.numbers[name]
        if name in self.servers:
            return f"{name}-{self.servers[name]}-{ranges[-1][1]}"
        return ":".join([name, *(f"{a}-{b}" if b > a else str(a) for a, b in ranges)])


def parse(text: str) -> Position:
    """Raises ValueError for what neither server writes."""
    if len(text) > LONGEST:
        raise ValueError("the position is too long")
    position = Position()
    for part in "".join(text.lower().split()).split(","):
        if part:
            position = position.merged(_parsed(part))
    return position


def _parsed(part: str) -> Position:
    if match := _MARIADB.fullmatch(part):
        domain, server, number = match.groups()
        if max(int(domain), int(server)) >= 1 << 32 or int(number) >= 1 << 64:
            raise ValueError("a number of the position is too large")
        return Position({domain: ((1, int(number)),)}, {domain: server})
    if match := _MYSQL.fullmatch(part):
        ranges: Ranges = ()
        for one in match[2].strip(":").split(":"):
            first, _, last = one.partition("-")
            low, high = int(first), int(last or first)
            if high >= 1 << 63:
                raise ValueError("a number of the position is too large")
            if high < low:
                raise ValueError("a range of the position ends before it begins")
            ranges = _union(ranges, ((low, high),))
        return Position({match[1]: ranges})
    raise ValueError("the position is none of MariaDB or MySQL")


def _within(inner: Ranges, outer: Ranges) -> bool:
    return all(any(low <= a and b <= high for low, high in outer) for a, b in inner)


def _union(one: Ranges, other: Ranges) -> Ranges:
    joined: list[tuple[int, int]] = []
    for low, high in sorted((*one, *other)):
        if joined and low <= joined[-1][1] + 1:
            joined[-1] = joined[-1][0], max(joined[-1][1], high)
        else:
            joined.append((low, high))
    return tuple(joined)
