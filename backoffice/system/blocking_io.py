"""Reads of disks that may hang: each has its own thread and a time limit.

A place (a mount, a target) that did not answer once is not read again; what was not
read because of it is counted. What is read is up to the caller.
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


class NotAnswering(Exception):
    """The place does not answer, or does not exist."""


class BlockingReads:
    """``failed`` has the reason for each place that cannot be read; ``skipped`` how
    many things were not read there."""

    def __init__(self, wait: float) -> None:
        self.wait = wait  # seconds without progress after which a place counts as hung
        self.failed: dict[Path, str] = {}
        self.skipped: Counter[Path] = Counter()
        self._existing: set[Path] = set()

    def run(self, place: Path, read: Callable[[Beat], T], things: int = 0) -> T:
        """What ``read`` returns; it calls its argument as it progresses. Raises what it
        raises, or NotAnswering: then ``things`` are counted as skipped."""
        try:
            if not self.exists(place):
                self.failed[place] = "is not there: mount it, or make it"
            return self._answer(place, read)
        except NotAnswering:
            self.skipped[place] += things
            raise

    def exists(self, place: Path) -> bool:
        """Whether it is a folder. Raises NotAnswering if that cannot be told."""
        if place not in self._existing and self._answer(place, lambda beat: place.is_dir()):
            self._existing.add(place)
        return place in self._existing

    def _answer(self, place: Path, read: Callable[[Beat], T]) -> T:
        if place in self.failed:
            raise NotAnswering
        call = _Call(read)
        threading.Thread(target=call.run, daemon=True).start()
        while not call.done.wait(max(0.0, call.heard + self.wait - time.monotonic())):
            if time.monotonic() - call.heard >= self.wait:
                self.failed[place] = f"has not answered for {self.wait:g} s"
                raise NotAnswering
        if call.error is not None:
            raise call.error
        value: T = call.value
        return value


class _Call:
    """A call in another thread, with its result and the time of its last progress."""

    def __init__(self, read: Callable[[Beat], Any]) -> None:
        self.read = read
        self.done = threading.Event()
        self.heard = time.monotonic()
        self.value: Any = None
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self.value = self.read(self.beat)
        except Exception as error:
            self.error = error
        self.done.set()

    def beat(self) -> None:
        self.heard = time.monotonic()
