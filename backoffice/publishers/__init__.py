"""Publishers: each module with ``open(target)`` serves one kind of target.

A publisher brings complete, verified files to a target and removes them again. It
knows nothing of tasks or the database, and imports ``config``, ``errors`` and
``system``. To add one, add a module to this package; its name is the ``type`` of a
``[target …]``. ``staging`` names what an unfinished attempt leaves at a target.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast
from urllib.parse import quote

from backoffice.config.settings import Target
from backoffice.errors import TaskFailed
from backoffice.publishers import staging
from backoffice.states import Reason

Fence = Callable[[], None]
Tick = Callable[[float], None]


@dataclass(frozen=True)
class Item:
    """A file to publish; with ``tree``, a folder."""

    path: Path
    name: str  # its place, relative to the target's root, with slashes
    sha256: str = ""  # of the content that is expected; empty: any content
    tree: bool = False


@dataclass(frozen=True)
class PublishedItem:
    """An item that is now complete at its place."""

    name: str
    sha256: str
    size: int
    adopted: bool  # it was already there, with the same content


class Publisher(Protocol):
    """``token`` is the attempt's (see ``staging``): what earlier attempts of the task
    left staged is removed, and nothing of attempts that run. ``fence`` is called just
    before anything becomes visible and may raise to stop it. ``publish`` and
    ``retract`` may be repeated after a crash at any moment, and raise TaskFailed with
    the reason for operators."""

    def publish(
        self, items: Sequence[Item], *, token: str, overwrite: bool, fence: Fence, tick: Tick
    ) -> list[PublishedItem]:
        """All of the items, or none. An existing file with the same content is
        adopted; other content is replaced only with ``overwrite``."""

    def retract(self, name: str, *, sha256: str, tree: bool, token: str, fence: Fence) -> bool:
        """Remove the published file if its content is unchanged; False: it was gone.
        Raises TaskFailed if the content has changed."""

    def href(self, name: str) -> str:
        """The address of ``name`` for people."""

    def staged(self) -> list[str]:
        """The tokens of attempts that have files staged there."""

    def clear(self, token: str) -> bool:
        """Remove what an attempt that has ended left staged. False: nothing was
        there, or a process still uses it."""


def open(target: Target) -> Publisher:
    """The publisher for a configured target."""
    module = importlib.import_module(f"{__name__}.{target.type}")
    return cast(Publisher, module.open(target))


def check_name(name: str) -> None:
    """Raise TaskFailed for a name that could leave the target or hide in it."""
    parts = name.split("/")
    if any(part in ("", ".", "..") or staging.is_staging(part) for part in parts):
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
