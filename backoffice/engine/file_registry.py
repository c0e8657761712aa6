"""File registry: files that users register, with metadata, and inputs of jobs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from storm.locals import Store

from backoffice.data import events, model
from backoffice.data.sql import clock, insert_many, marks
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
    href = files.href(path)
    file = store.find(model.File, href=href).one()
    if file is None:
        file = model.File()
        file.href, file.name, file.role, file.tree = href, path.name[:255], "", False
        file.media_type = media_types.of_name(path.name)
        file.created = now
        file.size = -1
        store.add(file)
    if file.size != size:
        file.size, file.sha256, file.facts_json, file.state = size, "", "{}", PRESENT
    store.flush()
    file_id: int = file.id
    return file_id
