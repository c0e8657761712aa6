"""Looks at disks that may hang: each is a thread's, and nobody waits for ever.

A place (a mount, a target) that did not answer once is not asked again; what
was not looked at because of it is counted. Knows nothing of what is looked for.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
Beat = Callable[[], None]


class Away(Exception):
    """The place does not answer, or is not there."""


class Looks:
    """``away`` tells why of each place that is; ``unseen`` how many things were
    not looked at there."""

    def __init__(self, wait: float) -> None:
        self.wait = wait  # seconds without a sign of life
        self.away: dict[Path, str] = {}
        self.unseen: Counter[Path] = Counter()
        self._there: set[Path] = set()

    def look(self, place: Path, look: Callable[[Beat], T], things: int = 0) -> T:
        """What ``look`` returns; it calls its argument as it gets on. Raises what
        it raises, or Away: then so many things were not looked at."""
        try:
            if not self.is_there(place):
                self.away[place] = "is not there: mount it, or make it"
            return self._answer(place, look)
        except Away:
            self.unseen[place] += things
            raise

    def is_there(self, place: Path) -> bool:
        """Whether it is a folder; raises Away if that cannot be told."""
        if place not in self._there and self._answer(place, lambda beat: place.is_dir()):
            self._there.add(place)
        return place in self._there

    def _answer(self, place: Path, look: Callable[[Beat], T]) -> T:
        if place in self.away:
            raise Away
        answer = _Answer(look)
        threading.Thread(target=answer.run, daemon=True).start()
        while not answer.done.wait(max(0.0, answer.heard + self.wait - time.monotonic())):
            if time.monotonic() - answer.heard >= self.wait:
                self.away[place] = f"has not answered for {self.wait:g} s"
                raise Away
        if answer.error is not None:
            raise answer.error
        value: T = answer.value
        return value


class _Answer:
    def __init__(self, look: Callable[[Beat], Any]) -> None:
        self.look = look
        self.done = threading.Event()
        self.heard = time.monotonic()
        self.value: Any = None
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self.value = self.look(self.beat)
        except Exception as error:
            self.error = error
        self.done.set()

    def beat(self) -> None:
        self.heard = time.monotonic()
