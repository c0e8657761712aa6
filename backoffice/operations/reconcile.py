"""``backoffice reconcile``: the differences between the database and the disks.

Reads both and changes neither. It may run beside the service: what a running task
has just written or removed, and is about to record, is no difference. Differences
are generated one by one, so that a million of them need no memory. A disk that does
not answer is reported once and not read again. ``disk_contents`` reads the disks.
"""

from __future__ import annotations

import itertools
import os
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes

from backoffice.config.settings import Settings, Target
from backoffice.data.database import Database
from backoffice.engine import job_folders, leases
from backoffice.engine.outcomes import place_key
from backoffice.operations import disk_contents
from backoffice.operations.disk_contents import Difference, Entry, Expected, Found
from backoffice.publishers import staging
from backoffice.reports import expected_files
from backoffice.reports.expected_files import StillExpected
from backoffice.system.blocking_io import Beat, BlockingReads, NotAnswering

T = TypeVar("T")

WAIT = 10.0  # seconds without an answer after which a disk counts as hung
DEEP_WAIT = 600.0  # the checksum of one large file takes its time
PAGE = 500  # names in a folder, at a time
_CLOCK_SKEW = 60.0  # seconds by which the clocks of a disk and the database may differ
_FILE_URL = "file://"
_NO_ATTEMPT = (0, 0)  # stands for a staging area that no attempt has made
_FILE_SYSTEMS_OWN = "lost+found"


def differences(
    database: Database, settings: Settings, *, deep: bool = False, wait: float | None = None
) -> Iterator[Difference]:
    """Every difference; with ``deep``, checksums are compared too. ``wait`` is how
    many seconds a disk may take for an answer."""
    reads = BlockingReads(wait or (DEEP_WAIT if deep else WAIT))
    reconciliation = _Reconciliation(database, settings, reads, deep)
    yield from reconciliation.publications()
    yield from reconciliation.lingering()
    for target in settings.targets.values():
        if target.path is not None:
            yield from reconciliation.unknown_files(target, target.path)
    yield from reconciliation.files()
    yield from reconciliation.logs()
    yield from reconciliation.left_work()
    yield from reconciliation.left_logs()
    for place, trouble in reads.failed.items():
        message = f"{trouble}; things not looked at there: {reads.skipped[place]}"
        yield Difference("disk-away", "", str(place), None, message)


def pages(found: Iterable[Difference], size: int = 100) -> Iterator[list[dict[str, Any]]]:
    """The differences as records, ``size`` at a time."""
    records = (vars(difference) for difference in found)
    while page := list(itertools.islice(records, size)):
        yield page


class _Reconciliation:
    def __init__(
        self, database: Database, settings: Settings, reads: BlockingReads, deep: bool
    ) -> None:
        self.database = database
        self.settings = settings
        self.reads = reads
        self.deep = deep
        self.lingers: set[str] = set()
        paths = settings.paths
        places = [(f"{path}/", path) for path in (paths.work, paths.logs, *paths.roots)]
        self.places = sorted(places, key=lambda place: -len(place[0]))  # the innermost first

    # Publications

    def publications(self) -> Iterator[Difference]:
        for rows in expected_files.published(self.database):
            for number, target, *_ in rows:
                if self._root(target) is None:
                    message = f"the settings have no folder of a target {target!r}"
                    subject = f"publication {number}"
                    yield Difference("publication-missing", subject, "", None, message)
            found = self._look_at(self._expected(rows), partial(disk_contents.compare, self.deep))
            yield from self._still(found, expected_files.still_published)

    def lingering(self) -> Iterator[Difference]:
        """What was retracted, but is still at its place."""
        for rows in expected_files.retracted(self.database):
            taken = self._taken([place_key(target, path) for _, target, path, *_ in rows])
            gone = [row for row in rows if place_key(row[1], row[2]) not in taken]
            lingers = partial(disk_contents.lingers, self.deep)
            for found in self._look_at(self._expected(gone), lingers):
                path = str(found.path)
                if path not in self.lingers:
                    self.lingers.add(path)
                    yield Difference("publication-lingering", found.subject, path, found.size)

    def unknown_files(self, target: Target, root: Path) -> Iterator[Difference]:
        """Files at a target that no publication names."""
        folders = [""]
        while folders:
            for entries in self._entries(root, folders.pop()):
                yield from self._staged(root, [e for e in entries if staging.is_staging(e.name)])
                named = {e.name: e for e in entries if not staging.is_staging(e.name)}
                unknown = [named[name] for name in self._unknown(target.name, list(named))]
                folders += [e.name for e in unknown if e.folder and self._is_searched(root, e)]
                yield from self._unknown_entries(
                    target.name, root, [e for e in unknown if not e.folder]
                )

    def _unknown_entries(
        self, target: str, root: Path, unknown: Sequence[Entry]
    ) -> Iterator[Difference]:
        found = [
            Found(Difference("publication-unknown", "", str(root / e.name), e.size), n, e.changed)
            for n, e in enumerate(unknown)
            if str(root / e.name) not in self.lingers
        ]
        settled = self._settled(found)
        names = {found.id: unknown[found.id].name for found in settled}
        still = set(self._unknown(target, list(names.values())))
        yield from (found.difference for found in settled if names[found.id] in still)

    def _is_searched(self, root: Path, folder: Entry) -> bool:
        """Another target's folder is not, nor what a file system keeps for itself."""
        if folder.name == _FILE_SYSTEMS_OWN:
            return False
        targets = self.settings.targets.values()
        return all(target.path != root / folder.name for target in targets)

    def _staged(self, root: Path, staged: Sequence[Entry]) -> Iterator[Difference]:
        # The disk was read before the database: an attempt stages after its claim.
        tokens = {entry.name: staging.token_of(entry.name) for entry in staged}
        attempts = {
            name: staging.attempt_of(token) or _NO_ATTEMPT for name, token in tokens.items()
        }
        living = (
            self.database.read(leases.still_running, list(attempts.values())) if attempts else set()
        )
        for name, attempt in attempts.items():
            if attempt not in living:
                yield from self._left("staging-left", "", root, root / name)

    def _unknown(self, target: str, names: Sequence[str]) -> list[str]:
        keys = {name: _place_key(target, name) for name in names}
        taken = self._taken([key for key in keys.values() if key])
        return [name for name, key in keys.items() if key not in taken]

    def _taken(self, keys: Sequence[str]) -> set[str]:
        taken: set[str] = self.database.read(expected_files.taken_places, keys)
        return taken

    def _root(self, target: str) -> Path | None:
        known = self.settings.targets.get(target)
        return known.path if known else None

    def _expected(self, rows: Iterable[Any]) -> Iterator[Expected]:
        for number, target, path, tree, size, sha256 in rows:
            root = self._root(target)
            if root is not None:
                subject = f"publication {number}"
                yield Expected(
                    "publication", subject, number, root, root / path, bool(tree), size, sha256
                )

    # Files and logs

    def files(self) -> Iterator[Difference]:
        for rows in expected_files.present(self.database):
            expected = [file for row in rows if (file := self._file(*row))]
            found = self._look_at(expected, partial(disk_contents.compare, self.deep))
            yield from self._still(found, expected_files.still_present)

    def _file(
        self, number: int, href: str, tree: bool, size: int, sha256: str, task: int | None
    ) -> Expected | None:
        if not href.startswith(_FILE_URL):
            return None
        path = _path(href)
        noun = "source" if task is None else "file"
        where = path.parent if tree else path
        return Expected(
            noun, f"file {number}", number, self._place(path), where, bool(tree), size, sha256
        )

    def logs(self) -> Iterator[Difference]:
        """Logs of the attempts that ran on this host."""
        for rows in expected_files.logs(self.database, socket.gethostname()):
            expected = [self._log(*row) for row in rows]
            for log in self._look_at(expected, disk_contents.is_missing):
                yield Difference("log-missing", log.subject, str(log.path), log.size)

    def _log(self, number: int, task: int, log: str, size: int | None) -> Expected:
        path = Path(log)
        place = self._place(path)
        return Expected("log", f"task {task}", number, place, path, False, size or 0, "")

    def _place(self, path: Path) -> Path:
        """The disk of a path, as far as the settings tell."""
        text = str(path)
        found = (place for prefix, place in self.places if text.startswith(prefix))
        return next(found, Path(path.anchor))

    # Leftovers of jobs that no longer exist

    def left_work(self) -> Iterator[Difference]:
        """Folders of removed jobs and of attempts that were not accepted."""
        for root, jobs, known in self._job_folders(job_folders.work_root(self.settings.paths)):
            for job in sorted(jobs - known):
                yield from self._left("work-left", f"job {job}", root, root / str(job))
            # The disk is read before the database: a folder is made after the claim.
            for number, name in sorted(self._attempts(root, known) - self._in_use(known)):
                yield from self._left("work-left", f"job {number}", root, root / number / name)

    def left_logs(self) -> Iterator[Difference]:
        for root, jobs, known in self._job_folders(job_folders.log_root(self.settings.paths)):
            for job in sorted(jobs - known):
                yield from self._left("log-left", f"job {job}", root, root / str(job))

    def _job_folders(self, root: Path) -> Iterator[tuple[Path, set[int], set[int]]]:
        """The jobs that have folders below ``root``, and those of them that exist."""
        with suppress(NotAnswering):
            if not self.reads.exists(root):
                return  # the first job makes it
        for entries in self._entries(root, ""):
            jobs = {int(e.name) for e in entries if e.folder and re.fullmatch(r"\d{1,18}", e.name)}
            yield root, jobs, self.database.read(expected_files.known_jobs, sorted(jobs))

    def _attempts(self, root: Path, jobs: Iterable[int]) -> set[tuple[str, str]]:
        """All attempts' folders of the jobs: the job, and the folder's name."""

        def look(beat: Beat) -> set[tuple[str, str]]:
            return {
                (str(job), name)
                for job in jobs
                for name in disk_contents.members(root / str(job), beat)
            }

        with suppress(NotAnswering):
            return self.reads.run(root, look)
        return set()

    def _in_use(self, jobs: Iterable[int]) -> set[tuple[str, str]]:
        """The folders of attempts that run, or made a file that the database knows."""
        running = self.database.read(expected_files.running_attempts, sorted(jobs))
        made = self.database.read(expected_files.made_files, sorted(jobs))
        found = {(str(job), f"{name}-{attempt}") for job, name, attempt in running}
        for job, href in made:
            parts = _path(href).parts
            # Names are compared, not paths: the work folder may be reached by a link.
            found |= {(a, b) for a, b in itertools.pairwise(parts) if a == str(job)}
        return found

    def _left(self, kind: str, subject: str, place: Path, path: Path) -> Iterator[Difference]:
        with suppress(NotAnswering, FileNotFoundError):
            size = self.reads.run(place, lambda beat: disk_contents.weigh(path, beat))
            yield Difference(kind, subject, str(path), size)

    # Reading the database and the disks

    def _look_at(
        self, expected: Iterable[Expected], look: Callable[[Expected, Beat], T | None]
    ) -> Iterator[T]:
        """What ``look`` finds of the expected files, one disk after the other."""
        by_place: dict[Path, list[Expected]] = {}
        for file in expected:
            by_place.setdefault(file.place, []).append(file)
        for place, group in by_place.items():
            with suppress(NotAnswering):
                found = self.reads.run(place, partial(disk_contents.each, group, look), len(group))
                yield from (result for result in found if result is not None)

    def _settled(self, found: Sequence[Found]) -> list[Found]:
        """Without what a running task may have changed itself."""
        began = self.database.read(expected_files.targets_busy_since) if found else None
        if began is None:
            return list(found)
        since = began.replace(tzinfo=UTC).timestamp() - _CLOCK_SKEW
        return [one for one in found if one.changed < since]

    def _still(self, found: Iterable[Found], query: StillExpected) -> Iterator[Difference]:
        """Those for which the database still says the same."""
        settled = self._settled(list(found))
        still = self.database.read(query, [one.id for one in settled])
        yield from (one.difference for one in settled if one.id in still)

    def _entries(self, root: Path, folder: str) -> Iterator[list[Entry]]:
        """The entries of a folder below ``root``, PAGE at a time."""
        with suppress(NotAnswering):
            try:
                listing = self.reads.run(root, lambda beat: os.scandir(root / folder))
                while entries := self.reads.run(
                    root, partial(disk_contents.entries, listing, folder, PAGE)
                ):
                    yield entries
            except FileNotFoundError:
                return  # removed since it was listed
            except OSError as error:
                self.reads.failed[root / folder] = f"cannot be read: {error.strerror}"


def _place_key(target: str, name: str) -> str:
    """Empty for a name that no publication can have."""
    try:
        return place_key(target, name)
    except UnicodeEncodeError:
        return ""


def _path(href: str) -> Path:
    return Path(os.fsdecode(unquote_to_bytes(href.removeprefix(_FILE_URL))))
