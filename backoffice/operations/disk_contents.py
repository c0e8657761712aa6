"""The disk side of ``reconcile``: what is at a path, and how it differs.

The functions that take a ``beat`` run in a thread of their own, because a disk may
hang; they call ``beat`` as they progress.
"""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

from backoffice.errors import BackofficeError
from backoffice.system import files
from backoffice.system.blocking_io import Beat

T = TypeVar("T")


@dataclass(frozen=True)
class Difference:
    """``kind`` is one of

    publication-missing, -changed, -lingering (retracted, but still there),
    -unknown (a file at a target that no publication names) ·
    file-missing, -changed (what a task made) ·
    source-missing, -changed (what came from outside) ·
    log-missing · staging-left, work-left, log-left (of attempts and jobs that
    no longer exist) · disk-away (it was not read, or not all of it).
    """

    kind: str
    subject: str  # such as "publication 7"; empty: the database knows nothing of it
    path: str
    size: int | None = None  # bytes that should be there, or should not
    message: str = ""


class Expected(NamedTuple):
    """What the database says is on a disk."""

    noun: str
    subject: str
    id: int
    place: Path  # the disk
    path: Path
    tree: bool
    size: int  # bytes
    sha256: str


class Found(NamedTuple):
    """A difference, unless a running task is about to record it."""

    difference: Difference
    id: int  # of the row
    changed: float  # when the file, or what is left above it, last changed (Unix time)


class Entry(NamedTuple):
    name: str  # from the root, with slashes
    folder: bool
    size: int
    changed: float  # Unix time


def each(
    group: Sequence[Expected], look: Callable[[Expected, Beat], T | None], beat: Beat
) -> list[T | None]:
    results = []
    for expected in group:
        results.append(look(expected, beat))
        beat()
    return results


def compare(deep: bool, expected: Expected, beat: Beat) -> Found | None:
    """How it differs; with ``deep`` the checksum is compared too."""
    try:
        message = difference_of(deep, expected, beat)
    except (FileNotFoundError, NotADirectoryError):
        return _found(expected, "missing", "")
    except (OSError, BackofficeError) as error:
        message = str(error)
    return _found(expected, "changed", message) if message else None


def _found(expected: Expected, how: str, message: str) -> Found:
    kind, path = f"{expected.noun}-{how}", str(expected.path)
    difference = Difference(kind, expected.subject, path, expected.size, message)
    return Found(difference, expected.id, _last_change(expected.path))


def difference_of(deep: bool, expected: Expected, beat: Beat) -> str:
    """In words; empty if there is none. Raises OSError."""
    status = expected.path.lstat()
    if not (stat.S_ISDIR if expected.tree else stat.S_ISREG)(status.st_mode):
        return f"is no {'folder' if expected.tree else 'file'} any more"
    size = files.size_of(expected.path / "any", True) if expected.tree else status.st_size
    if size != expected.size:
        return f"has {size} bytes; it had {expected.size}"
    if deep and expected.sha256 and _digest(expected, beat) != expected.sha256:
        return "has another checksum"
    return ""


def _digest(expected: Expected, beat: Beat) -> str:
    digest = files.tree_sha256 if expected.tree else files.sha256
    return digest(expected.path, lambda fraction: beat())


def lingers(deep: bool, expected: Expected, beat: Beat) -> Expected | None:
    """It, if it is still there unchanged."""
    try:
        return None if difference_of(deep, expected, beat) else expected
    except (OSError, BackofficeError):
        return None


def is_missing(expected: Expected, beat: Beat) -> Expected | None:
    return None if os.path.lexists(expected.path) else expected


def _last_change(path: Path) -> float:
    """Of the file, or of the nearest folder above it that exists."""
    for existing in (path, *path.parents):
        with suppress(OSError):
            return existing.lstat().st_ctime
    return 0.0


def entries(listing: Iterator[os.DirEntry[str]], above: str, limit: int, beat: Beat) -> list[Entry]:
    """The next ``limit`` of the listing; ``above`` is the folder's name from the root."""
    prefix = f"{above}/" if above else ""
    found = []
    for entry in itertools.islice(listing, limit):
        with suppress(FileNotFoundError):
            status = entry.stat(follow_symlinks=False)
            folder = entry.is_dir(follow_symlinks=False)
            found.append(Entry(f"{prefix}{entry.name}", folder, status.st_size, status.st_ctime))
        beat()
    return found


def members(folder: Path, beat: Beat) -> list[str]:
    """Names in a folder; none for one that cannot be read."""
    with suppress(OSError):
        return os.listdir(folder)
    return []


def weigh(path: Path, beat: Beat) -> int:
    """Bytes of a file, or of all files in a folder. Raises FileNotFoundError."""
    total = path.lstat().st_size if not path.is_dir() else 0
    for folder, _, names in os.walk(path):
        beat()
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total
