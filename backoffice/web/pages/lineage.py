"""What was made of a file and where it is now, in few indexed queries, for its page."""

from __future__ import annotations

from typing import Any

from storm.locals import Store

from backoffice import records
from backoffice.database import marks

JOBS = 20  # newest of those that took a file
_FILES = 200  # that they made, all together

Record = dict[str, Any]


def jobs_with(store: Store, file: int) -> list[Record]:
    """The newest jobs that took a file, each with the files that it made."""
    rows = store.execute(
        "SELECT job_id FROM job_input WHERE file_id = ? ORDER BY job_id DESC LIMIT ?",
        (file, JOBS),
    ).get_all()
    ids = list({row[0]: None for row in rows})  # one may take it twice
    if not ids:
        return []
    found = store.execute(
        f"SELECT id, state, title, workflow FROM job WHERE id IN ({marks(ids)}) ORDER BY id DESC",
        ids,
    ).get_all()
    made = _made_by(store, ids)
    names = ("id", "state", "title", "workflow")
    return [dict(zip(names, row, strict=True)) | {"made": made.get(row[0], [])} for row in found]


def _made_by(store: Store, jobs: list[int]) -> dict[int, list[Record]]:
    rows = store.execute(
        f"SELECT job_id, id, name, role FROM file WHERE job_id IN ({marks(jobs)})"
        " ORDER BY job_id DESC, id DESC LIMIT ?",
        (*jobs, _FILES),
    ).get_all()
    found: dict[int, list[Record]] = {}
    for job, file, name, role in reversed(rows):
        found.setdefault(job, []).append({"id": file, "name": name, "role": role})
    return found


def publications_of(store: Store, file: int) -> list[Record]:
    """Where a file was published, the newest first."""
    rows = store.execute(
        "SELECT id FROM publication WHERE file_id = ? ORDER BY id DESC LIMIT 50", (file,)
    ).get_all()
    return [records.publication(store, row[0]) for row in rows]


def sources(store: Store, limit: int) -> list[str]:
    """URLs of the newest files that no job made."""
    rows = store.execute(
        "SELECT href FROM file WHERE job_id IS NULL AND state = 'present' ORDER BY id DESC LIMIT ?",
        (limit,),
    ).get_all()
    return [row[0] for row in rows]


def source(store: Store, file: int) -> str:
    """The URL of a file. Raises NotFound."""
    found: str = records.file(store, file)["href"]
    return found
