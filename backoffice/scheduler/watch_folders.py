"""Watch folders: files that arrive in a folder become jobs.

A file is taken once it and its sidecars have been quiet, and nothing shows that
it is incomplete: that a program of this host has it open for writing, or that the
file itself says that there should be more of it. Such a file is waited for for
``patience``, and taken then: its job says what is wrong with it.

The kernel's events only say when to look, so that a folder becomes the same jobs
with and without them. Owns when and what; ``arrivals`` knows files, ``watched_files``
writes what was taken.
"""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from storm.locals import Store

from backoffice.config.settings import Settings, Watch
from backoffice.data.database import Database
from backoffice.engine import submission, watched_files
from backoffice.engine.catalogue import Catalogue
from backoffice.engine.field_limits import LONGEST
from backoffice.engine.submission import JobRequest, PreparedJob
from backoffice.engine.watched_files import Arrival, Group, Stamp, Taking, shown
from backoffice.errors import BackofficeError
from backoffice.media import truncation
from backoffice.scheduler import arrivals
from backoffice.scheduler.arrivals import Listing
from backoffice.scheduler.folder_events import FolderEvents
from backoffice.scheduler.unchanged import Unchanged
from backoffice.system import files, open_files
from backoffice.system.logs import line
from backoffice.system.renames import rename_new

DEPTH = 16  # levels of subfolders that are looked into
LOOK_EVERY = 1.0  # seconds, while something is waited for or the kernel tells nothing
LOOK_ANYWAY = 30.0
CHECK_EVERY = 10.0
REST = 10  # times as long as a look took, before the next one
PRUNE_EVERY = 3600.0
RETRY_FIRST, RETRY_MOST = 5.0, 600.0  # seconds until a refused file is tried again
_LINK = "is a link, and links are not followed; put the file itself here"
_log = logging.getLogger("backoffice.scheduler")


@dataclass
class _Refused:
    stamp: Stamp
    wait: float
    until: float


class WatchFolder:
    def __init__(
        self,
        watch: Watch,
        database: Database,
        settings: Settings,
        recipes: Catalogue,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.watch = watch
        self.database = database
        self.settings = settings
        self.recipes = recipes
        self.monotonic = monotonic
        self.events = FolderEvents()
        self._unchanged = Unchanged()
        self._taken: dict[str, Stamp] = {}
        self._refused: dict[str, _Refused] = {}
        self._untaken: set[str] = set()  # refused or waited for
        self._told: set[tuple[str, str]] = set()
        self._folders: list[Path] = []
        # As last told; not known of the scheduler before.
        self._trouble: str | None = ""
        self._pruned = -PRUNE_EVERY
        self._followed = False
        self._woken = True
        self._rested = self._next = 0.0

    def run(self) -> list[int]:
        """Look if there may be something to see; returns the jobs submitted."""
        self._woken |= self.events.happened()
        now = self.monotonic()
        if now < (self._rested if self._woken else self._next):
            return []
        self._woken = False
        return self.look()

    def look(self) -> list[int]:
        """Look now; returns the jobs submitted."""
        began = self.monotonic()
        listing = self._listing()
        if listing is None:
            self.events.close()
            self._rest(began, idle=False)
            return []
        self._follow(listing)
        groups, alone = arrivals.groups(listing.files, self.watch.pattern, self.watch.sidecars)
        members = [one for group in groups for one in group.members]
        self._learn(members)
        submitted = self._take_all(groups, began)
        for one in alone:
            self._tell_once(one, "watch.sidecar-alone")
        if self.watch.done is not None:
            self._move_finished(members, self.watch.done)
        self._forget_others(listing)
        self._prune(listing, began)
        self._rest(began, idle=all(map(self._is_taken, members)))
        return submitted

    def _take_all(self, groups: Sequence[Group], now: float) -> list[int]:
        found = [self._consider(group, now) for group in groups]
        return [job for job in found if job is not None]

    def check(self) -> None:
        """Read what was taken whole, for its SHA-256. It takes long, and so needs a thread
        of its own. Content that differs only where no sample was taken is found by it."""
        for path, stamp in self.database.read(watched_files.unchecked, self.watch.name):
            sha256 = _sha256(path, stamp)
            if sha256 is None:
                continue
            transact, name = self.database.transact, self.watch.name
            if not transact(watched_files.check, name, path, stamp, sha256):
                self._taken.pop(str(path), None)
                _log.info(line("watch.changed", path=path))

    # When to look -------------------------------------------------------------

    def _listing(self) -> Listing | None:
        watch = self.watch
        depth = DEPTH if watch.recursive else 0
        try:
            found = arrivals.look(watch.folder, watch.exclude, depth, skip=watch.done)
        except OSError as error:
            if self._trouble != (trouble := str(error.strerror)):
                _log.warning(line("watch.unreadable", folder=watch.folder, reason=trouble))
                self.database.transact(watched_files.unreadable, watch.name, watch.folder, trouble)
                self._trouble = trouble
            return None
        if self._trouble is not None:
            self.database.transact(watched_files.readable, watch.name)
        self._trouble = None
        return found

    def _follow(self, listing: Listing) -> None:
        """Be told of these folders. What came into a new one before that is seen by
        another look."""
        self._followed = bool(listing.folders) and self.events.follow(listing.folders)
        self._woken |= self._folders != listing.folders
        self._folders = listing.folders

    def _rest(self, began: float, idle: bool) -> None:
        ended = self.monotonic()
        self._rested = ended + REST * (ended - began)
        every = LOOK_ANYWAY if idle and self._followed else LOOK_EVERY
        self._next = max(began + every, self._rested)

    # What was taken -----------------------------------------------------------

    def _learn(self, members: Sequence[Arrival]) -> None:
        """Read from the database what was taken, by this scheduler or another one."""
        unknown = [one.place for one in members if one.place not in self._taken]
        if unknown:
            self._taken.update(self.database.read(watched_files.stamps, self.watch.name, unknown))

    def _is_taken(self, one: Arrival) -> bool:
        return self._taken.get(one.place) == one.stamp

    def _forget_others(self, listing: Listing) -> None:
        places = {one.place for one in listing.files}
        if vanished := self._untaken - places:
            self.database.transact(watched_files.forget_untaken, self.watch.name, vanished)
            self._untaken -= vanished
        self._unchanged.forget_others(places)
        for known in (self._taken, self._refused):
            for gone in known.keys() - places:
                del known[gone]
        self._told = {(place, action) for place, action in self._told if place in places}

    def _prune(self, listing: Listing, now: float) -> None:
        """Not where there is nothing at all: the disk may not be mounted."""
        if listing.files and now - self._pruned >= PRUNE_EVERY:
            self._pruned = now
            there = {one.place for one in listing.files}
            self.database.transact(watched_files.prune, self.watch.name, there)

    # One file -----------------------------------------------------------------

    def _consider(self, group: Group, now: float) -> int | None:
        if self._is_taken(group.film):
            self._join_late(group, now)
            return None
        quiet = [self._unchanged.seconds(one.place, one.stamp, now) for one in group.members]
        refused = self._refused.get(group.film.place)
        if refused is not None and refused.stamp == group.film.stamp and now < refused.until:
            return None
        if min(quiet) < self.watch.quiet.total_seconds():
            return None
        if min(quiet) < self.watch.patience.total_seconds() and self._is_incomplete(group.film):
            return None
        return self._take(group, now)

    def _is_incomplete(self, film: Arrival) -> bool:
        reason = self._incompleteness(film)
        if reason and (film.place, "watch.incomplete") not in self._told:
            self.database.transact(watched_files.wait, self.watch.name, film, reason)
            self._untaken.add(film.place)
            self._tell_once(film, "watch.incomplete", reason)
        return bool(reason)

    def _incompleteness(self, film: Arrival) -> str:
        if film.path in self.events.written or (
            open_files.is_local(film.path) and open_files.is_written(film.path)
        ):
            return "a program has it open for writing"
        try:
            return truncation.missing(film.path)
        except OSError as error:
            return f"cannot be read: {error.strerror}"

    def _take(self, group: Group, now: float) -> int | None:
        film, taking = group.film, self._taking(group)
        if not all(map(_is_as_it_was, group.members)):
            return None
        taken = self.database.transact(watched_files.take, taking)
        if taken.refused:
            self._untaken.add(film.place)
            self._put_off(film, now)
            _log.warning(line("watch.refused", path=film.path, reason=taking.refusal))
            return None
        self._refused.pop(film.place, None)
        self._untaken.discard(film.place)
        self._taken.update(
            {one.place: one.stamp for one in (group.members if taken.job else [film])}
        )
        action = "watch.taken" if taken.job else "watch.known"
        _log.info(line(action, path=film.path, job=taken.job or ""))
        return taken.job

    def _put_off(self, film: Arrival, now: float) -> None:
        """Try a refused file again later, and each time later."""
        before = self._refused.get(film.place)
        again = before is not None and before.stamp == film.stamp
        wait = min(RETRY_MOST, 2 * before.wait) if before is not None and again else RETRY_FIRST
        self._refused[film.place] = _Refused(film.stamp, wait, now + wait)

    def _join_late(self, group: Group, now: float) -> None:
        for _, one in group.sidecars:
            quiet = self._unchanged.seconds(one.place, one.stamp, now)
            if one.place not in self._taken and quiet >= self.watch.quiet.total_seconds():
                self.database.transact(watched_files.join_late, self.watch.name, group.film, one)
                self._taken[one.place] = one.stamp

    def _tell_once(self, one: Arrival, action: str, reason: str = "") -> None:
        if (one.place, action) not in self._told:
            self._told.add((one.place, action))
            _log.info(line(action, path=one.path, reason=reason))

    # Its job ------------------------------------------------------------------

    def _taking(self, group: Group) -> Taking:
        used, unused = self._joined(group)
        prepared, refusal = None, _LINK
        identity = ""
        if not group.film.link:
            try:
                identity = arrivals.identity(group.film.path)
                prepared, refusal = self._prepare(self._request(group.film, used, unused))
            except OSError as error:
                refusal = f"cannot be read: {error.strerror}"
        return Taking(self.watch.name, group, identity, prepared, refusal, tuple(unused))

    def _joined(self, group: Group) -> tuple[list[tuple[str, Arrival]], list[Arrival]]:
        """The sidecars that the workflow has an input for, with its role, and the others."""
        workflow = self.recipes.workflows.get(self.watch.workflow)
        room = {spec.role: spec.maximum for spec in workflow.inputs} if workflow else {}
        room.pop(self.watch.role, None)
        used, unused = [], []
        for role, one in group.sidecars:
            if room.get(role, 0) > 0:
                room[role] -= 1
                used.append((role, one))
            else:
                unused.append(one)
        return used, unused

    def _request(
        self, film: Arrival, used: list[tuple[str, Arrival]], unused: list[Arrival]
    ) -> JobRequest:
        watch = self.watch
        metadata = {"watch:path": shown(film)}
        if unused:
            metadata["watch:sidecars"] = ", ".join(map(shown, unused))
        inputs = [(watch.role, film), *used]
        return JobRequest(
            workflow=watch.workflow,
            inputs=[(role, str(one.path)) for role, one in inputs],
            title=shown(film)[: LONGEST["title"]].strip(),
            priority=watch.priority,
            parameters=watch.parameters,
            metadata=metadata,
        )

    def _prepare(self, request: JobRequest) -> tuple[PreparedJob | None, str]:
        try:
            return submission.prepare(
                request, self.recipes.workflows, self.settings.paths.roots
            ), ""
        except BackofficeError as error:
            return None, str(error)

    # After its job ------------------------------------------------------------

    def _move_finished(self, members: Sequence[Arrival], done: Path) -> None:
        here = {one.path.as_uri(): one for one in members if self._is_taken(one)}
        if not here:
            return
        for href in self.database.read(watched_files.finished, self.watch.name):
            if href in here:
                self._move(here[href], done)

    def _move(self, one: Arrival, done: Path) -> None:
        try:
            target = self.database.read(_free, done / one.relative)
            target.parent.mkdir(parents=True, exist_ok=True)
            self.database.transact(watched_files.move, self.watch.name, one.path, target, _rename)
        except OSError as error:
            self._tell_once(one, "watch.unmoved", str(error.strerror))
            return
        self._taken.pop(one.place, None)
        _log.info(line("watch.moved", path=one.path, to=target))


def _is_as_it_was(one: Arrival) -> bool:
    try:
        return arrivals.stamp_of(os.stat(one.path)) == one.stamp
    except OSError:
        return False


def _sha256(path: Path, stamp: Stamp) -> str | None:
    """Empty if the file has gone; None if it is not what it was."""
    try:
        before = arrivals.stamp_of(os.stat(path))
        found = files.sha256(path) if before == stamp else None
        return found if arrivals.stamp_of(os.stat(path)) == stamp else None
    except FileNotFoundError:
        return ""
    except OSError:
        return None


def _free(store: Store, wanted: Path) -> Path:
    """The path, or the first ``name (2).mp4`` that neither a file has nor the database."""
    for path in _numbered(wanted):
        if not (os.path.lexists(path) or watched_files.is_registered(store, path)):
            return path
    raise AssertionError("numbers do not end")


def _numbered(path: Path) -> Iterator[Path]:
    yield path
    for number in itertools.count(2):
        yield path.with_name(f"{path.stem} ({number}){path.suffix}")


def _rename(source: Path, target: Path) -> None:
    """Also when the transaction that it belongs to runs again."""
    try:
        rename_new(source, target)
    except FileNotFoundError:
        if not target.exists():
            raise
