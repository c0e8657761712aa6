"""Lineage of a file: the jobs that took it, what they made of it, where it is published."""

from __future__ import annotations

from typing import Any

from storm.locals import Store

from backoffice.data.sql import marks
from backoffice.reports import records
from backoffice.states import PRESENT

JOBS = 20  # newest jobs that took a file
_FILES = 200  # made by all of them

Record = dict[str, Any]


def jobs_with(store: Store, file: int) -> list[Record]:
    """The newest jobs that took a file, each with the files that it made."""
    rows = store.execute(
        "SELECT job_id FROM job_input WHERE file_id = ? ORDER BY job_id DESC LIMIT ?",
        (file, JOBS),
    ).get_all()
    ids = list({row[0]: None for row in rows})  # a job may take it twice
    if not ids:
        return []
    jobs = store.execute(
        f"SELECT id, state, title, workflow FROM job WHERE id IN ({marks(ids)}) ORDER BY id DESC",
        ids,
    ).get_all()
    made = _made_by(store, ids)
    names = ("id", "state", "title", "workflow")
    return [dict(zip(names, row, strict=True)) | {"made": made.get(row[0], [])} for row in jobs]


def _made_by(store: Store, jobs: list[int]) -> dict[int, list[Record]]:
    rows = store.execute(
        f"SELECT job_id, id, name, role FROM file WHERE job_id IN ({marks(jobs)})"
        " ORDER BY job_id DESC, id DESC LIMIT ?",
        (*jobs, _FILES),
    ).get_all()
    by_job: dict[int, list[Record]] = {}
    for job, file, name, role in reversed(rows):
        by_job.setdefault(job, []).append({"id": file, "name": name, "role": role})
    return by_job


def publications_of(store: Store, file: int) -> list[Record]:
    """Where a file was published, the newest first."""
    rows = store.execute(
        "SELECT id FROM publication WHERE file_id = ? ORDER BY id DESC LIMIT 50", (file,)
    ).get_all()
    return [records.publication(store, row[0]) for row in rows]


def sources(store: Store, limit: int) -> list[str]:
    """URLs of the newest files that no job made."""
    rows = store.execute(
        f"SELECT href FROM file WHERE job_id IS NULL AND state = '{PRESENT}'"
        " ORDER BY id DESC LIMIT ?",
        (limit,),
    ).get_all()
    return [row[0] for row in rows]


def source(store: Store, file: int) -> str:
    """The URL of a file. Raises NotFound."""
    href: str = records.file(store, file)["href"]
    return href
