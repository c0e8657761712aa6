"""Room on the disks that are worked on. A mount that hangs keeps nobody waiting.

Each folder is asked by a thread of its own, which is left alone if its mount
does not answer; until it does, what was known before is shown with its age.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from backoffice.config.settings import Settings

WAIT = 0.2  # seconds for answers, in all
FRESH = 5.0  # seconds for which an answer is good enough
HANGS = 5.0  # seconds without an answer


@dataclass(frozen=True)
class Room:
    """Bytes; ``device`` tells which folders are on one disk."""

    device: int
    free: int
    total: int
    writable: bool
    there: bool = True  # the folder itself, not only what it would be made in


@dataclass(frozen=True)
class Disk:
    """One disk, or a folder that is none now. ``trouble`` is why nothing is known."""

    names: Sequence[str]  # such as "[paths] work"
    folders: Sequence[Path]
    room: Room | None
    trouble: str
    silent: float = 0.0  # seconds for which it has been waited for

    @property
    def away(self) -> bool:
        """Whether there is nothing to be done with it. One that is only slow is not away."""
        return self.silent > HANGS if self.silent else bool(self.trouble)


@dataclass
class _Folder:
    path: Path
    room: Room | None = None
    trouble: str = ""
    asked: float | None = None  # since when an answer is waited for
    told: float | None = None  # when the last one came


def room(path: Path) -> Room:
    """Of the disk a folder is on, or will be on once it is made; raises OSError."""
    there = next(one for one in (path, *path.parents) if one.exists())
    found = os.statvfs(there)
    return Room(
        there.stat().st_dev,
        found.f_bavail * found.f_frsize,
        found.f_blocks * found.f_frsize,
        os.access(there, os.W_OK),
        there == path,
    )


class Disks:
    def __init__(self, folders: Mapping[str, Path], ask: Callable[[Path], Room] = room) -> None:
        self._ask = ask
        self._folders = {name: _Folder(path) for name, path in folders.items()}
        self._changed = threading.Condition()

    def look(self, wait: float = WAIT) -> list[Disk]:
        """Every disk, after at most ``wait`` seconds."""
        with self._changed:
            self._ask_all(wait)
            return self._disks()

    def each(self, wait: float = WAIT) -> list[Disk]:
        """The same folder by folder, also of those that are on one disk."""
        with self._changed:
            self._ask_all(wait)
            return [_disk([member]) for member in self._folders.items()]

    def _ask_all(self, wait: float) -> None:
        for folder in self._folders.values():
            self._begin(folder)
        self._changed.wait_for(lambda: self._all_told(wait), wait)

    def _begin(self, folder: _Folder) -> None:
        now = time.monotonic()
        if folder.asked is None and (folder.told is None or now - folder.told > FRESH):
            folder.asked = now
            threading.Thread(target=self._look, args=(folder,), daemon=True).start()

    def _look(self, folder: _Folder) -> None:
        try:
            found, trouble = self._ask(folder.path), ""
        except OSError as error:
            found, trouble = None, f"cannot be looked at: {error.strerror or error}"
        with self._changed:
            folder.room, folder.trouble = found, trouble
            folder.asked, folder.told = None, time.monotonic()
            self._changed.notify_all()

    def _all_told(self, wait: float) -> bool:
        """What has been waited for so long before is not waited for again."""
        now = time.monotonic()
        return all(one.asked is None or now - one.asked > wait for one in self._folders.values())

    def _disks(self) -> list[Disk]:
        by_disk: dict[object, list[tuple[str, _Folder]]] = {}
        for name, folder in self._folders.items():
            known = folder.room is not None and not _hangs(folder)
            key = folder.room.device if known and folder.room else name
            by_disk.setdefault(key, []).append((name, folder))
        return [_disk(members) for members in by_disk.values()]


def _hangs(folder: _Folder) -> bool:
    return folder.asked is not None


def _disk(members: Sequence[tuple[str, _Folder]]) -> Disk:
    first = members[0][1]
    trouble, silent = first.trouble, 0.0
    if first.asked is not None:
        silent = time.monotonic() - first.asked
        trouble = f"has not answered for {silent:.0f} s"
    return Disk(
        [name for name, _ in members],
        [folder.path for _, folder in members],
        first.room,
        trouble,
        silent,
    )


def folders(settings: Settings) -> dict[str, Path]:
    """What is read, worked in and published to on this host, by name."""
    paths = settings.paths
    names = Counter(root.name for root in paths.roots if root.name)
    roots = {f"root {root.name if names[root.name] == 1 else root}": root for root in paths.roots}
    targets = {
        f"target {one.name}": one.path for one in settings.targets.values() if one.path is not None
    }
    return {"work": paths.work, **roots, **targets}


@lru_cache(maxsize=4)
def _of(folders: tuple[tuple[str, Path], ...]) -> Disks:
    return Disks(dict(folders))


def of(settings: Settings) -> Disks:
    """The ones of this process."""
    return _of(tuple(folders(settings).items()))
