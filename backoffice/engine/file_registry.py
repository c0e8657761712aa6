"""File registry: files that users register, with metadata, and inputs of jobs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from storm.locals import Store

from backoffice.data import events, model
from backoffice.data.sql import clock, insert_many, insert_numbered, insert_one, marks
from backoffice.engine.field_limits import check_pairs
from backoffice.media import media_types
from backoffice.states import PRESENT
from backoffice.system import files


def register(
    store: Store, path: Path, size: int, actor: str, metadata: Mapping[str, str]
) -> tuple[int, bool]:
    """Register a file that lies under the roots (``files.resolve``); returns its id
    and whether it is new. Metadata is merged; new values win. A second call with the
    same values changes nothing. Raises Invalid."""
    check_pairs(metadata)
    now = clock(store)
    known = store.find(model.File, href=files.href(path)).one()
    before = None if known is None else (known.size, _metadata(store, known.id))
    file = find_or_add(store, path, size, now)
    _add_metadata(store, file, metadata)
    if before != (size, _metadata(store, file)):
        action = "file.registered" if before is None else "file.changed"
        event = events.Event(action, f"file {file}", actor=actor, detail=files.href(path))
        events.append(store, now, event)
    return file, before is None


def _metadata(store: Store, file: int) -> dict[str, str]:
    return model.pairs(store, "file_metadata", "file_id", file)


def _add_metadata(store: Store, file: int, metadata: Mapping[str, str]) -> None:
    if metadata:
        store.execute(
            f"DELETE FROM file_metadata WHERE file_id = ? AND name IN ({marks([*metadata])})",
            (file, *metadata),
        )
    rows = [(file, name, value) for name, value in metadata.items()]
    insert_many(store, "file_metadata", ("file_id", "name", "value"), rows)


def find_or_add(store: Store, path: Path, size: int, now: datetime) -> int:
    """The id of the file at ``path``; it is registered if it is new. If its size has
    changed, its digest and facts are dropped."""
    known = store.execute("SELECT id, size FROM file WHERE href = ?", (files.href(path),)).get_one()
    if known is None:
        columns = _new_file(path, size, now)
        return insert_one(store, "file", list(columns), list(columns.values()))
    _refresh(store, known, size)
    return int(known[0])


def find_or_add_all(
    store: Store,
    sizes: Mapping[Path, int],
    known: Mapping[str, tuple[int, int]],
    now: datetime,
    step: int,
) -> dict[Path, int]:
    """The ids of these files. ``known`` has id and size of registered files by URL; new
    files are inserted together, with ids that follow each other by ``step``."""
    ids, new = {}, []
    for path, size in sizes.items():
        if (file := known.get(files.href(path))) is None:
            new.append(path)
        else:
            ids[path] = file[0]
            _refresh(store, file, size)
    if new:
        rows = [_new_file(path, sizes[path], now) for path in new]
        values = [list(row.values()) for row in rows]
        numbers = insert_numbered(store, "file", list(rows[0]), values, step)
        ids |= dict(zip(new, numbers, strict=True))
    return ids


def _new_file(path: Path, size: int, now: datetime) -> dict[str, object]:
    return {
        "href": files.href(path),
        "name": path.name[:255],
        "role": "",
        "tree": False,
        "media_type": media_types.of_name(path.name),
        "created": now,
        "size": size,
        "sha256": "",
        "facts": "{}",
        "state": PRESENT,
    }


def _refresh(store: Store, known: tuple[int, int], size: int) -> None:
    """Drop digest and facts of a file, given by id and size, that has another size now."""
    file, before = known
    if before != size:
        store.execute(
            "UPDATE file SET size = ?, sha256 = '', facts = '{}', state = ? WHERE id = ?",
            (size, PRESENT, file),
        )
