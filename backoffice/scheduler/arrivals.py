"""Files of a watch folder: found, grouped with their sidecars, identified.

Owns what counts as a file that has arrived and what as the same content. It
reads folders and a bounded part of files; it knows nothing of jobs, and nothing
of when a file is complete.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import stat
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final

from backoffice.engine.watched_files import Arrival, Group, Stamp
from backoffice.media import languages

SAMPLE: Final = 64 << 10  # bytes
SAMPLES: Final = 16  # of a file: its head, its tail, and what lies evenly between
_LARGEST: Final = 2**63  # of a number in the database, which has signed ones

# Words that stand where a language stands in the name of a sidecar.
_SIDECAR_WORDS: Final = frozenset({"forced", "sdh", "cc", "hi", "default", "full"})


@dataclass
class Listing:
    """What one look into a folder has found."""

    files: list[Arrival] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)  # that were looked into


def look(folder: Path, exclude: Sequence[str], depth: int, skip: Path | None = None) -> Listing:
    """The files with something in them, to so many levels of subfolders, in the order
    of their names. Folders that are links are not entered, nor is ``skip``.

    Raises OSError when ``folder`` cannot be read; a subfolder that cannot is left out.
    """
    found = Listing()
    excluded = matcher(tuple(exclude))
    above = len(os.path.join(folder, ""))
    pending = [(folder, depth)]
    while pending:
        place, levels = pending.pop()
        entries = _entries(place, folder)
        found.folders.append(place)
        for entry in entries:
            if excluded(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                if levels and Path(entry.path) != skip:
                    pending.append((Path(entry.path), levels - 1))
            elif (arrival := _arrival(entry, above)) is not None:
                found.files.append(arrival)
    found.files.sort(key=lambda one: one.relative)
    return found


def _entries(place: Path, top: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(place) as entries:
            return list(entries)
    except OSError:
        if place == top:
            raise
        return []


def _arrival(entry: os.DirEntry[str], above: int) -> Arrival | None:
    """None for what is no file, is empty, or has gone. ``above`` characters of the path
    are the watch folder's."""
    try:
        status = entry.stat()
    except OSError:
        return None
    if not (stat.S_ISREG(status.st_mode) and status.st_size):
        return None
    return Arrival(
        place=entry.path,
        relative=entry.path[above:],
        stamp=stamp_of(status),
        link=entry.is_symlink(),
    )


def stamp_of(status: os.stat_result) -> Stamp:
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ino % _LARGEST)


@lru_cache
def matcher(patterns: tuple[str, ...]) -> Callable[[str], bool]:
    """Whether a name matches one of the shell patterns, without regard to case."""
    if not patterns:
        return lambda name: False
    regex = "|".join(fnmatch.translate(pattern) for pattern in patterns)
    match = re.compile(regex, re.IGNORECASE).match
    return lambda name: match(name) is not None


# Sidecars -------------------------------------------------------------------


def groups(
    files: Collection[Arrival], pattern: Sequence[str], roles: Mapping[str, str]
) -> tuple[list[Group], list[Arrival]]:
    """The films whose names match, with their sidecars, and the sidecars that have no
    film. ``roles`` says which endings, in lower case and without the dot, are sidecars.
    """
    wanted = matcher(tuple(pattern))
    sidecars, films = [], []
    for one in files:
        if _ending(one) in roles:
            sidecars.append(one)
        elif wanted(one.name):
            films.append(one)
    owners = {name: film for film in films for name in _names(film)} if sidecars else {}
    joined: dict[str, list[tuple[str, Arrival]]] = {}
    alone = []
    for one in sidecars:
        film = _owner(one, owners)
        if film is None or one.link:
            alone.append(one)
        else:
            joined.setdefault(film.place, []).append((roles[_ending(one)], one))
    return [Group(film, tuple(joined.get(film.place, ()))) for film in films], alone


def _ending(one: Arrival) -> str:
    return os.path.splitext(one.place)[1][1:].lower()


def _names(film: Arrival) -> tuple[str, str]:
    """What its sidecars may be called, less their language and ending."""
    return film.place, os.path.splitext(film.place)[0]


def _owner(sidecar: Arrival, owners: Mapping[str, Arrival]) -> Arrival | None:
    """``film.srt``, ``film.de.srt`` and ``film.mp4.de.forced.srt`` belong to ``film.mp4``."""
    return next((owners[name] for name in _shorter(sidecar.place) if name in owners), None)


def _shorter(place: str) -> Iterator[str]:
    stem = os.path.splitext(place)[0]
    yield stem
    while _is_language((parts := os.path.splitext(stem))[1][1:]):
        stem = parts[0]
        yield stem


def _is_language(word: str) -> bool:
    return word.lower() in _SIDECAR_WORDS or bool(languages.tag(word))


# Identity -------------------------------------------------------------------


def identity(path: Path) -> str:
    """A SHA-256 of a file's size and of samples of it: all of a small file; else the
    head, the tail and what lies evenly between. Raises OSError."""
    with open(path, "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        digest = hashlib.sha256(f"{size}\0".encode())
        for start in _starts(size):
            stream.seek(start)
            digest.update(stream.read(SAMPLE))
    return digest.hexdigest()


def _starts(size: int) -> list[int]:
    if size <= SAMPLE * SAMPLES:
        return list(range(0, size, SAMPLE))
    step = (size - SAMPLE) / (SAMPLES - 1)
    return [round(number * step) for number in range(SAMPLES)]


# How the database has them --------------------------------------------------
