"""What a publisher is: a module here with ``open(target)``.

A publisher brings files whole and verified to one kind of target, and takes
them away again. It knows nothing of tasks or the database. A new one is a new
module of this package; its file name is the ``type`` of a ``[target …]``.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast
from urllib.parse import quote

from backoffice.config.loading import Target
from backoffice.errors import TaskFailed
from backoffice.states import Reason

Fence = Callable[[], None]
Tick = Callable[[float], None]


@dataclass(frozen=True)
class Item:
    """Something to publish. With ``tree``, ``path`` is a folder."""

    path: Path
    name: str  # where it shall be, relative to the target's root, with slashes
    sha256: str = ""  # what it must be; empty: whatever it is now
    tree: bool = False


@dataclass(frozen=True)
class Outcome:
    """An item that is now whole at its place."""

    name: str
    sha256: str
    size: int
    adopted: bool  # it was already there, with the same content


class Publisher(Protocol):
    """``token`` is ``TASK-ATTEMPT``: what an earlier attempt of the task left
    half done is removed, and nothing that others work on. ``fence`` is called
    just before anything becomes visible and may raise to stop it. Both methods
    may be repeated after a crash at any moment, and raise TaskFailed with the
    reason for operators."""

    def publish(
        self, items: Sequence[Item], *, token: str, overwrite: bool, fence: Fence, tick: Tick
    ) -> list[Outcome]:
        """All of the items, or none. What is there with the same content is
        adopted; other content is replaced only if ``overwrite`` says so."""

    def retract(self, name: str, *, sha256: str, tree: bool, token: str, fence: Fence) -> bool:
        """Remove what was published if it still is that; False: it was gone."""

    def href(self, name: str) -> str:
        """Where people find ``name``."""

    def staged(self) -> list[str]:
        """The tokens of attempts that have something half done there."""

    def clear(self, token: str) -> bool:
        """Remove what an attempt that has ended left half done. False: nothing
        was there, or its process is not quite dead after all."""


_TOKEN = re.compile(r"(\d{1,18})-(\d{1,9})")


def attempt_of(token: str) -> tuple[int, int] | None:
    """The task, and the attempt's number; None if the token is a stranger's."""
    match = _TOKEN.fullmatch(token)
    return (int(match[1]), int(match[2])) if match else None


def open(target: Target) -> Publisher:
    """The publisher for a configured target."""
    module = importlib.import_module(f"{__name__}.{target.type}")
    return cast(Publisher, module.open(target))


def check_name(name: str) -> None:
    """Raise TaskFailed for a name that could leave the target or hide in it."""
    parts = name.split("/")
    if any(part in ("", ".", "..") or part.startswith(".backoffice-") for part in parts):
        raise TaskFailed(
            f"{name!r} is no name for a published file", retry=False, reason=Reason.BAD_PARAMETER
        )
    if any(ord(c) < 32 or ord(c) == 127 for c in name):
        raise TaskFailed(
            f"{name!r} has control characters in it", retry=False, reason=Reason.BAD_PARAMETER
        )
    if any(len(part.encode("utf-8", "surrogateescape")) > 255 for part in parts):
        raise TaskFailed(
            f"{name!r} is too long for a file name", retry=False, reason=Reason.BAD_PARAMETER
        )


def url(base: str, name: str) -> str:
    """``name`` beneath the URL ``base``, percent-encoded."""
    return f"{base.rstrip('/')}/{quote(name, errors='surrogateescape')}"
