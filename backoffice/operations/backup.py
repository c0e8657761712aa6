"""``backoffice backup``: write the whole database into one file, and read that file.

A backup is a tar of

    manifest.json           versions, time, the tables with their columns and numbers
                            of rows, and the SHA-256 of every other member
    tables/NAME.jsonl.gz    a table: one row per line, by primary key
    published.jsonl.gz      what is published where: readable without the program
    files.jsonl.gz          the files that the database knows
    workflows/N/, profiles/N/   the site's own recipes, by their folder's number

All of it is one snapshot, while other processes go on writing. The rows have no SQL
dialect: a backup of SQLite can be restored into MySQL, and the reverse. Left out are
the search index, which is rebuilt, the settings, which have secrets, and the media.
"""

from __future__ import annotations

import errno
import fcntl
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import socket
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from storm.locals import Store

from backoffice import __version__
from backoffice.config.settings import Settings
from backoffice.data import migrations, tables
from backoffice.data.database import Database
from backoffice.data.tables import Table
from backoffice.errors import BackofficeError, Conflict, Invalid, SchemaMismatch
from backoffice.states import PRESENT, PUBLISHED
from backoffice.system import files

FORMAT = 1
MANIFEST = "manifest.json"
_LEVEL = 5  # of compression; higher ones are much slower and little smaller
_RECIPE = re.compile(r"(workflows|profiles)/(\d{1,3})/([\w][\w.-]*\.xml)")
_KINDS = ("workflows", "profiles")
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=str).encode

# Lists for people, by table: member, state of the rows, columns.
_LISTS = {
    "publication": (
        "published.jsonl.gz",
        PUBLISHED,
        ("id", "target", "path", "tree", "size", "sha256", "published", "href"),
    ),
    "file": ("files.jsonl.gz", PRESENT, ("id", "href", "tree", "size", "sha256")),
}


@dataclass(frozen=True)
class Manifest:
    schema: int  # version
    program: str  # version
    made: str  # time, UTC
    host: str
    tables: Mapping[str, tuple[str, ...]]  # name → columns
    rows: Mapping[str, int]  # name → how many
    members: Mapping[str, str]  # name → SHA-256


# Writing ---------------------------------------------------------------------


def write(database: Database, settings: Settings, path: Path) -> Manifest:
    """Make the backup ``path``, complete and readable by this user only, or not at all.
    Raises Conflict if the path exists."""
    path = Path(os.path.abspath(path))
    if os.path.lexists(path):
        raise Conflict(f"{path} is there already: name another file, or move it away")
    with _explained(path), _private(path) as folder:
        _require_sound(database)
        found, rows = database.read(_dump, folder)
        _copy_recipes(settings, folder)
        members = sorted(path for path in folder.rglob("*") if path.is_file())
        manifest = Manifest(
            schema=database.read(migrations.version),
            program=__version__,
            made=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            host=socket.gethostname(),
            tables={table.name: table.columns for table in found},
            rows=rows,
            members={str(path.relative_to(folder)): files.sha256(path) for path in members},
        )
        ready = folder / "ready"
        _pack(ready, folder, manifest)
        _place(ready, path)
    return manifest


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError as error:
        raise Conflict(f"{path} is there already: name another file, or move it away") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = f"the disk of {path.parent} is full; make room, or name a file elsewhere"
        else:
            reason = f"{error.filename or path}: {error.strerror or error}"
        raise BackofficeError(f"no backup was made: {reason}") from error


@contextmanager
def _private(path: Path) -> Iterator[Path]:
    """A folder beside ``path`` for the unfinished backup, removed afterwards with what a
    killed backup left there."""
    folder = path.with_name(f".{path.name}.part")
    folder.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.fchmod(descriptor, 0o700)
        for left in folder.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        raise Conflict(f"another backup is writing {path} at this moment") from None
    finally:
        os.close(descriptor)


def _require_sound(database: Database) -> None:
    """Refuse a damaged database: its backup would be incomplete."""
    todo = migrations.pending(database)
    version = database.read(migrations.version)
    if not version:
        raise SchemaMismatch("the database has no tables yet: there is nothing to back up")
    if any(step.version <= version for step in todo):
        raise SchemaMismatch("a migration has stopped half-way: run 'backoffice migrate' first")
    if not database.mysql:
        found = database.read(lambda s: s.execute("PRAGMA integrity_check(3)").get_all())
        if found[0][0] != "ok":
            raise BackofficeError(
                f"the database file is damaged ({found[0][0]}): keep it, and restore a backup"
            )


def _dump(store: Store, folder: Path) -> tuple[list[Table], dict[str, int]]:
    """Write all tables of one snapshot; returns them, and their numbers of rows."""
    tables.begin_snapshot(store)
    found = tables.known(store)
    (folder / "tables").mkdir(exist_ok=True)
    return found, {table.name: _dump_table(store, table, folder) for table in found}


def _dump_table(store: Store, table: Table, folder: Path) -> int:
    """Write its rows, also into the list for people; returns how many."""
    count = 0
    with ExitStack() as stack:
        out = stack.enter_context(_compressed(folder / _member(table.name)))
        listed = _lister(table, folder, stack)
        for page in tables.pages(store, table):
            for row in page:
                out.write(_line(row))
                listed(row)
            count += len(page)
    return count


def _lister(table: Table, folder: Path, stack: ExitStack) -> Callable[[Sequence[Any]], None]:
    if table.name not in _LISTS:
        return lambda row: None
    name, state, columns = _LISTS[table.name]
    out = stack.enter_context(_compressed(folder / name))
    places = [(column, table.columns.index(column)) for column in columns]
    state_at = table.columns.index("state")

    def write(row: Sequence[Any]) -> None:
        if row[state_at] == state:
            out.write(_line({column: row[place] for column, place in places}))

    return write


def _line(value: object) -> bytes:
    return _encode(value).encode() + b"\n"


def _member(table: str) -> str:
    return f"tables/{table}.jsonl.gz"


@contextmanager
def _compressed(path: Path) -> Iterator[IO[bytes]]:
    with (
        path.open("wb") as raw,
        # Without name and time, so that the same rows make the same bytes.
        gzip.GzipFile("", "wb", _LEVEL, raw, 0) as packed,
        io.BufferedWriter(packed, 1 << 16) as out,
    ):
        yield out


def _copy_recipes(settings: Settings, folder: Path) -> None:
    """Copy the recipes of the site's own folders; shipped ones come with the program."""
    for kind in _KINDS:
        for number, source in enumerate(getattr(settings.paths, kind)[1:], 1):
            for recipe in sorted(source.glob("*.xml")):
                copy = folder / kind / str(number) / recipe.name
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(recipe, copy)


def _pack(ready: Path, folder: Path, manifest: Manifest) -> None:
    """Make the one file, synced to the disk."""
    descriptor = os.open(ready, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
            text = json.dumps({"format": FORMAT, **vars(manifest)}, indent=1).encode()
            _add(tar, MANIFEST, len(text), io.BytesIO(text))
            for name in manifest.members:
                with (folder / name).open("rb") as member:
                    _add(tar, name, os.fstat(member.fileno()).st_size, member)
        stream.flush()
        os.fsync(stream.fileno())


def _add(tar: tarfile.TarFile, name: str, size: int, content: IO[bytes]) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o600
    info.mtime = int(datetime.now(UTC).timestamp())
    tar.addfile(info, content)


def _place(ready: Path, path: Path) -> None:
    """Link, because a rename would replace a file that has appeared meanwhile."""
    try:
        os.link(ready, path)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        if os.path.lexists(path):  # on a file system without links a small race remains
            raise FileExistsError(path) from error
        os.rename(ready, path)
    files.sync(path)


# Reading ---------------------------------------------------------------------


class Archive:
    """A verified backup."""

    def __init__(self, path: Path, tar: tarfile.TarFile, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self._tar = tar

    def rows(self, table: str) -> Iterator[list[Any]]:
        with gzip.open(_content(self._tar, _member(table))) as lines:
            for line in lines:
                yield json.loads(line)

    def recipes(self) -> Iterator[tuple[str, int, str, bytes]]:
        """Kind, number of the folder, file name and content of each."""
        for name in self.manifest.members:
            if match := _RECIPE.fullmatch(name):
                content = _content(self._tar, name).read()
                yield match[1], int(match[2]), match[3], content


@contextmanager
def opened(path: Path) -> Iterator[Archive]:
    """The backup ``path``, verified from end to end. Raises Invalid."""
    with ExitStack() as stack:
        try:
            tar = stack.enter_context(tarfile.open(path, "r:"))
            manifest = _manifest(tar)
            _verify(tar, manifest)
        except OSError as error:
            if isinstance(error, gzip.BadGzipFile) or error.strerror is None:
                raise _damaged(path, error) from error
            raise Invalid(f"{path}: {error.strerror}") from error
        except (tarfile.TarError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
            raise _damaged(path, error) from error
        yield Archive(path, tar, manifest)


def _damaged(path: Path, error: Exception) -> Invalid:
    return Invalid(
        f"{path}: is no backup of Backoffice, or is damaged ({error}): nothing was changed; take"
        " another one"
    )


def _manifest(tar: tarfile.TarFile) -> Manifest:
    raw = json.loads(_content(tar, MANIFEST).read(1 << 24))
    if raw.pop("format") != FORMAT:
        raise ValueError("its format is another program's, or a newer version's")
    raw["tables"] = {name: tuple(columns) for name, columns in raw["tables"].items()}
    return Manifest(**raw)


def _verify(tar: tarfile.TarFile, manifest: Manifest) -> None:
    there = sorted(member.name for member in tar.getmembers())
    if there != sorted([MANIFEST, *manifest.members]):
        raise ValueError("there is more or less in it than its manifest says")
    if not {_member(table) for table in manifest.tables} <= set(there):
        raise ValueError("a table is missing")
    for name, sha256 in manifest.members.items():
        if _sha256(_content(tar, name)) != sha256:
            raise ValueError(f"{name} is not what was written")


def _content(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    found = tar.extractfile(name)
    if found is None:
        raise ValueError(f"{name} is no file")
    return found


def _sha256(stream: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while block := stream.read(files.CHUNK):
        digest.update(block)
    return digest.hexdigest()
