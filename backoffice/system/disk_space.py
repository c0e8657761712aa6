"""Free space of the disks in use, with a time limit for mounts that hang.

Each folder is read by its own thread. While a mount does not answer, its thread is
left waiting, and what was known before is given with its age.
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

WAIT = 0.2  # seconds for the answers of all folders
FRESH = 5.0  # seconds for which an answer is used again
HANGS = 5.0  # seconds without an answer after which a disk counts as away


@dataclass(frozen=True)
class Room:
    """Bytes; ``device`` tells which folders are on one disk."""

    device: int
    free: int
    total: int
    writable: bool
    there: bool = True  # the folder itself exists, not only a folder above it


@dataclass(frozen=True)
class Disk:
    """One disk, or a folder that cannot be read. ``trouble`` is the reason for that."""

    names: Sequence[str]  # such as "[paths] work"
    folders: Sequence[Path]
    room: Room | None
    trouble: str
    silent: float = 0.0  # seconds for which it has not answered

    @property
    def away(self) -> bool:
        """Whether it is unusable. A disk that is only slow is not away."""
        return self.silent > HANGS if self.silent else bool(self.trouble)


@dataclass
class _Folder:
    path: Path
    room: Room | None = None
    trouble: str = ""
    asked: float | None = None  # when the pending read began
    answered: float | None = None  # when the last read ended


def room(path: Path) -> Room:
    """Of the disk that a folder is on, or will be on once it is made. Raises OSError."""
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    status = os.statvfs(existing)
    return Room(
        existing.stat().st_dev,
        status.f_bavail * status.f_frsize,
        status.f_blocks * status.f_frsize,
        os.access(existing, os.W_OK),
        existing == path,
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
        """One entry per folder, even of folders on the same disk."""
        with self._changed:
            self._ask_all(wait)
            return [_disk([member]) for member in self._folders.items()]

    def _ask_all(self, wait: float) -> None:
        for folder in self._folders.values():
            self._begin(folder)
        self._changed.wait_for(lambda: self._all_answered(wait), wait)

    def _begin(self, folder: _Folder) -> None:
        now = time.monotonic()
        if folder.asked is None and (folder.answered is None or now - folder.answered > FRESH):
            folder.asked = now
            threading.Thread(target=self._look, args=(folder,), daemon=True).start()

    def _look(self, folder: _Folder) -> None:
        try:
            found, trouble = self._ask(folder.path), ""
        except OSError as error:
            found, trouble = None, f"cannot be looked at: {error.strerror or error}"
        with self._changed:
            folder.room, folder.trouble = found, trouble
            folder.asked, folder.answered = None, time.monotonic()
            self._changed.notify_all()

    def _all_answered(self, wait: float) -> bool:
        """A folder that has not answered for ``wait`` seconds is not waited for again."""
        now = time.monotonic()
        folders = self._folders.values()
        return all(folder.asked is None or now - folder.asked > wait for folder in folders)

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
    """The folders of this host that are read, worked in and published to, by name."""
    paths = settings.paths
    names = Counter(root.name for root in paths.roots if root.name)
    roots = {f"root {root.name if names[root.name] == 1 else root}": root for root in paths.roots}
    targets = {
        f"target {target.name}": target.path
        for target in settings.targets.values()
        if target.path is not None
    }
    return {"work": paths.work, **roots, **targets}


@lru_cache(maxsize=4)
def _of(folders: tuple[tuple[str, Path], ...]) -> Disks:
    return Disks(dict(folders))


def of(settings: Settings) -> Disks:
    """The disks of the settings; one object per process, which remembers answers."""
    return _of(tuple(folders(settings).items()))
