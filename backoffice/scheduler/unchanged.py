"""How long values have been unchanged, by a monotonic clock."""

from __future__ import annotations

from collections.abc import Collection, Hashable
from dataclasses import dataclass, field


@dataclass
class Unchanged:
    """The last value seen of each key, with the time when it was first seen."""

    since: dict[Hashable, tuple[object, float]] = field(default_factory=dict)

    def seconds(self, key: Hashable, value: object, now: float) -> float:
        """For how many seconds ``key`` is known to have had ``value``."""
        known = self.since.get(key)
        if known is None or known[0] != value:
            self.since[key] = (value, now)
            return 0.0
        return now - known[1]

    def forget_others(self, keys: Collection[Hashable]) -> None:
        for key in self.since.keys() - set(keys):
            del self.since[key]
