"""Watched files: what watch folders have taken; a file becomes a job once.

Owns the table ``watched``. Each function runs inside ``Database.transact``. The row
of a path is written in the transaction that submits its job; of several schedulers,
the primary key lets one do so: the insert of another fails, its transaction runs
again and finds the file taken.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from storm.locals import Store

from backoffice.data import events
from backoffice.data.model import WATCH_FOLDER
from backoffice.data.sql import clock, for_update, insert_many, marks
from backoffice.engine import jobs, submission
from backoffice.engine.submission import PreparedJob
from backoffice.states import JOB_ACTIONS, SUCCEEDED
from backoffice.system.files import path_of

_BATCH = 500  # rows asked for at once
_COLUMNS = tuple(
    "watch place href identity size changed inode job_id moved sha256 checked message taken".split()
)


class Stamp(NamedTuple):
    """What a folder says of a file: equal stamps of one path mean that nothing has
    written to it."""

    size: int
    changed: int  # nanoseconds
    inode: int


class Arrival(NamedTuple):
    """A file beneath a watch folder. There may be many, and often: paths are text."""

    place: str  # its absolute path
    relative: str  # its path below the watch folder
    stamp: Stamp
    link: bool = False

    @property
    def path(self) -> Path:
        return Path(self.place)

    @property
    def name(self) -> str:
        return self.place.rpartition("/")[2]


@dataclass(frozen=True)
class Group:
    """A film and the files that belong to it, each with its role."""

    film: Arrival
    sidecars: tuple[tuple[str, Arrival], ...] = ()

    @property
    def members(self) -> list[Arrival]:
        return [self.film, *(sidecar for _, sidecar in self.sidecars)]


@dataclass(frozen=True)
class Taking:
    """A complete group, and its prepared job or the reason for its refusal."""

    watch: str
    group: Group
    identity: str
    prepared: PreparedJob | None
    refusal: str = ""
    unused: tuple[Arrival, ...] = ()  # sidecars that the workflow has no input for

    @property
    def actor(self) -> str:
        return f"watch:{self.watch}"


class Taken(NamedTuple):
    job: int | None  # None: there is none, or was one before
    refused: bool = False


@dataclass(frozen=True)
class _Row:
    identity: str
    stamp: Stamp
    job: int | None
    moved: bool
    sha256: str
    message: str


def stamps(store: Store, watch: str, paths: Collection[str]) -> dict[str, Stamp]:
    """The stamps of files that were taken and not moved away, as they were then."""
    places = {_place(path): path for path in paths}
    known = {}
    for start in range(0, len(places), _BATCH):
        batch = list(places)[start : start + _BATCH]
        rows = store.execute(
            "SELECT place, size, changed, inode FROM watched WHERE watch = ?"
            f" AND place IN ({marks(batch)}) AND moved = 0 AND job_id IS NOT NULL",
            (watch, *batch),
        ).get_all()
        known.update({places[place]: Stamp(*stamp) for place, *stamp in rows})
    return known


def take(store: Store, taking: Taking) -> Taken:
    """Submit the job, unless the same content was taken before at this path, or at the
    path that the file was renamed from."""
    film, now = taking.group.film, clock(store)
    row = _row(store, taking.watch, film.path)
    former = row.job if row is not None and not row.moved else None
    if row is not None and former is not None and row.identity == taking.identity:
        if row.stamp != film.stamp:
            _recognise(store, taking, former, now)
        return Taken(None)
    if former is None and _renamed(store, taking, row, now):
        return Taken(None)
    if taking.prepared is None:
        _refuse(store, taking, row, now)
        return Taken(None, refused=True)
    job, _ = submission.submit(store, taking.prepared, taking.actor)
    if former is not None:
        _supersede(store, taking, former, job, now)
    _record(store, taking, row, job, now)
    return Taken(job)


def wait(store: Store, watch: str, film: Arrival, reason: str) -> None:
    """Tell that a file has been quiet and is not complete."""
    row = _row(store, watch, film.path)
    message = f"is waited for: {reason}"
    if row is not None and (row.job is not None or row.message == message):
        return
    now, detail = clock(store), f"{_text(film.path)} {message}"
    events.append(store, now, events.Event("watch.waiting", f"watch {watch}", detail=detail))
    _write(store, watch, film, row, now, message=message)


def unreadable(store: Store, watch: str, folder: Path, reason: str) -> None:
    """Tell that the folder itself cannot be looked through, until :func:`readable`."""
    row, now = _row(store, watch, folder), clock(store)
    if row is not None and row.message == reason:
        return
    detail = f"{_text(folder)}: {reason}"
    events.append(store, now, events.Event("watch.unreadable", f"watch {watch}", detail=detail))
    itself = Arrival(str(folder), "", Stamp(0, 0, 0))
    _write(store, watch, itself, row, now, WATCH_FOLDER, message=reason)


def readable(store: Store, watch: str) -> None:
    store.execute(
        "DELETE FROM watched WHERE watch = ? AND checked = 0 AND identity = ?",
        (watch, WATCH_FOLDER),
    )


def forget_untaken(store: Store, watch: str, paths: Collection[str]) -> None:
    """Of files that have gone and were not taken."""
    for path in paths:
        store.execute(
            "DELETE FROM watched WHERE watch = ? AND place = ? AND job_id IS NULL",
            (watch, _place(path)),
        )


def prune(store: Store, watch: str, there: Collection[str]) -> int:
    """Forget files that have gone, and whose job has too if they had one; how many.
    ``there`` are the paths of those that have not."""
    rows = store.execute(
        "SELECT place, href FROM watched WHERE watch = ? AND (job_id IS NULL"
        " OR NOT EXISTS (SELECT 1 FROM job WHERE job.id = watched.job_id))",
        (watch,),
    ).get_all()
    known = {_place(path) for path in there}
    gone = [
        place for place, href in rows if place not in known and not os.path.lexists(path_of(href))
    ]
    for start in range(0, len(gone), _BATCH):
        some = gone[start : start + _BATCH]
        store.execute(
            f"DELETE FROM watched WHERE watch = ? AND place IN ({marks(some)})", (watch, *some)
        )
    return len(gone)


def join_late(store: Store, watch: str, film: Arrival, sidecar: Arrival) -> bool:
    """Record a sidecar that came after its film was taken. False if it was known."""
    owner, row, now = _row(store, watch, film.path), _row(store, watch, sidecar.path), clock(store)
    if owner is None or owner.job is None or row is not None:
        return False
    message = f"came after its film, {shown(film)}, was taken by job {owner.job}"
    _write(store, watch, sidecar, None, now, job=owner.job, message=message)
    detail = f"{shown(sidecar)} {message}"
    event = events.Event("watch.sidecar-late", f"watch {watch}", owner.job, detail=detail)
    events.append(store, now, event)
    return True


def finished(store: Store, watch: str) -> list[str]:
    """URLs of files that were not moved away, and whose job has succeeded."""
    rows = store.execute(
        "SELECT w.href FROM watched w JOIN job j ON j.id = w.job_id"
        f" WHERE w.watch = ? AND w.moved = 0 AND j.state = '{SUCCEEDED}'",
        (watch,),
    ).get_all()
    return [href for (href,) in rows]


def move(
    store: Store, watch: str, path: Path, target: Path, rename: Callable[[Path, Path], None]
) -> bool:
    """Move a file away and record its new place. False if it was moved before. The rename
    comes last: if it raises OSError, nothing was written."""
    moved = store.execute(
        "UPDATE watched SET moved = 1 WHERE watch = ? AND place = ? AND moved = 0",
        (watch, _place(path)),
    ).rowcount
    if not moved:
        return False
    store.execute("UPDATE file SET href = ? WHERE href = ?", (target.as_uri(), path.as_uri()))
    detail = f"{_text(path.name)} to {_text(target)}"
    events.append(store, clock(store), events.Event("watch.moved", f"watch {watch}", detail=detail))
    rename(path, target)
    return True


def unchecked(store: Store, watch: str) -> list[tuple[Path, Stamp]]:
    """Files whose SHA-256 is to be made, or compared; the newest first."""
    rows = store.execute(
        "SELECT href, size, changed, inode FROM watched WHERE watch = ? AND checked = 0"
        " AND moved = 0 AND job_id IS NOT NULL AND identity <> '' ORDER BY taken DESC LIMIT ?",
        (watch, _BATCH),
    ).get_all()
    return [(path_of(href), Stamp(*stamp)) for href, *stamp in rows]


def check(store: Store, watch: str, path: Path, stamp: Stamp, sha256: str) -> bool:
    """Keep the SHA-256 of what was taken; an empty one if it cannot be made any more.
    False if it is another one than before: then the file counts as new content."""
    row = _row(store, watch, path)
    if row is None or row.stamp != stamp:
        return True
    same = sha256 in ("", row.sha256) or not row.sha256
    identity, changed = (row.identity, stamp.changed) if same else ("", -1)
    store.execute(
        "UPDATE watched SET checked = 1, sha256 = ?, identity = ?, changed = ?"
        " WHERE watch = ? AND place = ?",
        (sha256, identity, changed, watch, _place(path)),
    )
    if sha256 and same:
        store.execute(
            "UPDATE file SET sha256 = ? WHERE href = ? AND size = ? AND sha256 = ''",
            (sha256, path.as_uri(), stamp.size),
        )
    return same


def is_registered(store: Store, path: Path) -> bool:
    row = store.execute("SELECT 1 FROM file WHERE href = ?", (path.as_uri(),)).get_one()
    return row is not None


def shown(file: Arrival) -> str:
    """Its path below the watch folder, for people."""
    return _text(file.relative)


def _text(name: str | Path) -> str:
    return os.fsencode(name).decode("utf-8", "replace")


def _place(path: Path | str) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()


def _row(store: Store, watch: str, path: Path) -> _Row | None:
    row = store.execute(
        "SELECT identity, size, changed, inode, job_id, moved, sha256, message FROM watched"
        " WHERE watch = ? AND place = ?" + for_update(store),
        (watch, _place(path)),
    ).get_one()
    if row is None:
        return None
    identity, size, changed, inode, job, moved, sha256, message = row
    return _Row(identity, Stamp(size, changed, inode), job, bool(moved), sha256, message)


def _recognise(store: Store, taking: Taking, job: int, now: datetime) -> None:
    """Record why there is no new job, and the file's present stamp."""
    film = taking.group.film
    store.execute(
        "UPDATE watched SET size = ?, changed = ?, inode = ?, checked = 0"
        " WHERE watch = ? AND place = ?",
        (*film.stamp, taking.watch, _place(film.path)),
    )
    detail = (
        f"{shown(film)} has the content that job {job} was given; to run it again, clone the job"
    )
    event = events.Event("watch.known", f"watch {taking.watch}", job, detail=detail)
    events.append(store, now, event)


def _renamed(store: Store, taking: Taking, row: _Row | None, now: datetime) -> bool:
    """Whether the film was taken under another name, which is gone; then it is known
    by the new one from now on."""
    film = taking.group.film
    rows = store.execute(
        "SELECT place, href FROM watched WHERE watch = ? AND inode = ? AND changed = ?"
        " AND identity = ? AND moved = 0 AND job_id IS NOT NULL",
        (taking.watch, film.stamp.inode, film.stamp.changed, taking.identity),
    ).get_all()
    gone = [(place, href) for place, href in rows if not os.path.lexists(path_of(href))]
    if not gone:
        return False
    ((place, href), *_) = gone
    if row is not None:  # of a file that was refused here, or moved away
        store.execute(
            "DELETE FROM watched WHERE watch = ? AND place = ?",
            (taking.watch, _place(film.path)),
        )
    store.execute(
        "UPDATE watched SET place = ?, href = ? WHERE watch = ? AND place = ?",
        (_place(film.path), film.path.as_uri(), taking.watch, place),
    )
    detail = f"{_text(path_of(href).name)} is {shown(film)} now"
    event = events.Event("watch.renamed", f"watch {taking.watch}", detail=detail)
    events.append(store, now, event)
    return True


def _refuse(store: Store, taking: Taking, row: _Row | None, now: datetime) -> None:
    """Each reason becomes an event once, however often it recurs."""
    told = row is not None and (row.identity, row.message) == (taking.identity, taking.refusal)
    if told:
        return
    detail = f"{_text(taking.group.film.path)}: {taking.refusal}"
    event = events.Event("watch.refused", f"watch {taking.watch}", detail=detail)
    events.append(store, now, event)
    film = taking.group.film
    _write(store, taking.watch, film, row, now, taking.identity, message=taking.refusal)


def _supersede(store: Store, taking: Taking, former: int, job: int, now: datetime) -> None:
    """The file of a job was replaced: cancel the job if it has not ended, and drop the
    file's digest and facts."""
    film = taking.group.film
    store.execute("UPDATE file SET sha256 = '', facts = '{}' WHERE href = ?", (film.path.as_uri(),))
    state = store.execute("SELECT state FROM job WHERE id = ?", (former,)).get_one()
    if state is None or state[0] not in JOB_ACTIONS["cancel"]:
        return
    detail = f"{shown(film)} has changed since; job {job} has it as it is now"
    events.append(store, now, events.of_job("superseded", former, taking.actor, detail))
    jobs.cancel(store, former, taking.actor)


def _record(store: Store, taking: Taking, row: _Row | None, job: int, now: datetime) -> None:
    _write(store, taking.watch, taking.group.film, row, now, taking.identity, job)
    for _, sidecar in taking.group.sidecars:
        known = _row(store, taking.watch, sidecar.path)
        _write(store, taking.watch, sidecar, known, now, job=job)
    for sidecar in taking.unused:
        detail = f"{shown(sidecar)}: the workflow has no input for it"
        event = events.Event(
            "watch.sidecar-unused", f"watch {taking.watch}", job_id=job, detail=detail
        )
        events.append(store, now, event)


def _write(
    store: Store,
    watch: str,
    file: Arrival,
    row: _Row | None,
    now: datetime,
    identity: str = "",
    job: int | None = None,
    message: str = "",
) -> None:
    """Make the row of a path, or change ``row``. One that another scheduler has made
    since ``row`` was read is not replaced: the insert fails."""
    values = (file.path.as_uri(), identity, *file.stamp, job, False, "", False, message, now)
    if row is None:
        insert_many(store, "watched", _COLUMNS, [(watch, _place(file.path), *values)])
    else:
        changes = ", ".join(f"{name} = ?" for name in _COLUMNS[2:])
        store.execute(
            f"UPDATE watched SET {changes} WHERE watch = ? AND place = ?",
            (*values, watch, _place(file.path)),
        )
