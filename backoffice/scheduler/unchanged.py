"""How long values have stayed the same, by a monotonic clock."""

from __future__ import annotations

from collections.abc import Collection, Hashable
from dataclasses import dataclass, field


@dataclass
class Unchanged:
    """The values that were seen last, each with the time since which it is so."""

    since: dict[Hashable, tuple[object, float]] = field(default_factory=dict)

    def seconds(self, key: Hashable, value: object, now: float) -> float:
        """Seconds that ``key`` has had ``value``, as far as was seen."""
        known = self.since.get(key)
        if known is None or known[0] != value:
            self.since[key] = (value, now)
            return 0.0
        return now - known[1]

    def forget_others(self, keys: Collection[Hashable]) -> None:
        for gone in self.since.keys() - set(keys):
            del self.since[gone]
