"""Turns: requests that wait for a thread, and which comes next.

Clients take turns: the next is of the client of whom the fewest are being answered,
and one thread is always left to the other clients. Else those who ask much, or for
what takes long, keep out all the others.
"""

from __future__ import annotations

from collections import Counter, deque
from queue import Queue
from typing import Any


class Turns(Queue[Any]):
    """A queue of connections, which have an ``asker``, for so many ``threads``. What
    has none, as cheroot's order to end, comes when no one waits.

    ``done`` must be called once for each connection that was got.
    """

    def __init__(self, threads: int) -> None:
        self._each = max(1, threads - 1)
        self._waiting: dict[str, deque[Any]] = {}  # who waits longest stands first
        self._running: Counter[str] = Counter()
        self._orders: deque[Any] = deque()
        super().__init__()

    def done(self, asker: str) -> None:
        with self.mutex:
            self._running[asker] -= 1
            if not self._running[asker]:
                del self._running[asker]
            self.not_empty.notify()

    # What Queue is made of; it holds the lock

    def _qsize(self) -> int:
        """How many may be got now."""
        return len(self._orders) + sum(len(self._waiting[asker]) for asker in self._next())

    def _put(self, item: Any) -> None:
        asker = getattr(item, "asker", None)
        if asker is None:
            self._orders.append(item)
        else:
            self._waiting.setdefault(asker, deque()).append(item)

    def _get(self) -> Any:
        askers = self._next()
        if not askers:
            return self._orders.popleft()
        asker = min(askers, key=self._running.__getitem__)
        self._running[asker] += 1
        line = self._waiting.pop(asker)
        item = line.popleft()
        if line:
            self._waiting[asker] = line  # behind the others
        return item

    def _next(self) -> list[str]:
        return [asker for asker in self._waiting if self._running[asker] < self._each]
