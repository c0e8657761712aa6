"""Assignments: all that the process of an attempt is given, so that it needs no database."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from storm.locals import Store

from backoffice import tasks
from backoffice.data import model
from backoffice.data.sql import marks
from backoffice.engine.claims import Claim, ClaimedTask
from backoffice.states import PRESENT, PUBLISHED
from backoffice.tasks import Job, Publication, Trait


@dataclass(frozen=True)
class Reference:
    """A source whose path has not been resolved and checked yet."""

    role: str
    href: str
    task: str
    name: str
    media_type: str
    size: int
    sha256: str
    tree: bool
    facts: Mapping[str, Any]
    file_id: int


@dataclass(frozen=True)
class Assignment:
    claim: Claim
    name: str
    type: str
    job: Job
    parameters: Mapping[str, str]
    references: Sequence[Reference]
    publications: Sequence[Publication]
    timeout: float  # seconds, as stall
    stall: float
    variants: Sequence[Mapping[str, str]] = ()  # the parameters of each
    suspect: bool = False  # it lost its worker several times; see claims.SUSPECT
    request: str = ""  # the HTTP request that submitted the job

    @property
    def ids(self) -> dict[str, object]:
        """For lines of the log."""
        claim = self.claim
        ids = {"task": claim.task_id, "job": claim.job_id, "attempt": claim.attempt}
        request = {"request": self.request} if self.request else {}
        return {**ids, "worker": claim.worker_id, **request}


def build(store: Store, claimed: Sequence[ClaimedTask]) -> list[Assignment]:
    """The assignments of tasks that have just been claimed."""
    jobs = _jobs(store, sorted({task.claim.job_id for task in claimed}))
    return [_assignment(store, task, jobs[task.claim.job_id]) for task in claimed]


def _assignment(store: Store, claimed: ClaimedTask, job_and_request: tuple[Job, str]) -> Assignment:
    spec, (job, request) = claimed.spec, job_and_request
    if tasks.has(claimed.type, Trait.REPORT):
        job = _with_tasks(store, job)
    return Assignment(
        claim=claimed.claim,
        name=claimed.name,
        type=claimed.type,
        job=job,
        parameters=spec["parameters"],
        references=[
            reference
            for wanted in spec["inputs"]
            for reference in _references(store, job.id, wanted)
        ],
        publications=_publications(store, claimed),
        timeout=spec["timeout"],
        stall=spec["stall"],
        variants=[one["parameters"] for one in spec["variants"]],
        suspect=claimed.suspect,
        request=request,
    )


def _jobs(store: Store, ids: Sequence[int]) -> dict[int, tuple[Job, str]]:
    """Each with the request that submitted it."""
    metadata: dict[int, dict[str, str]] = {}
    for job, name, value in store.execute(
        f"SELECT job_id, name, value FROM job_metadata WHERE job_id IN ({marks(ids)})", ids
    ).get_all():
        metadata.setdefault(job, {})[name] = value
    rows = store.execute(
        "SELECT id, workflow, title, token, submitter, request FROM job"
        f" WHERE id IN ({marks(ids)})",
        ids,
    ).get_all()
    return {
        job: (Job(job, workflow, title, _key(token), submitter, metadata.get(job, {})), request)
        for job, workflow, title, token, submitter, request in rows
    }


def _key(token: str) -> str:
    return token.removeprefix(model.KEY) if token.startswith(model.KEY) else ""


def _with_tasks(store: Store, job: Job) -> Job:
    rows = store.execute(
        "SELECT name, type, state, message FROM task WHERE job_id = ? ORDER BY id", (job.id,)
    ).get_all()
    names = ("name", "type", "state", "message")
    tasks = [dict(zip(names, row, strict=True)) for row in rows]
    return Job(job.id, job.workflow, job.title, job.key, job.submitter, job.metadata, tasks)


def _references(store: Store, job_id: int, wanted: Mapping[str, Any]) -> list[Reference]:
    if wanted["task"]:
        query = (
            "SELECT f.role, f.href, t.name, f.name, f.media_type, f.size, f.sha256, f.tree,"
            " f.facts, f.id FROM task t JOIN file f ON f.job_id = t.job_id AND f.task_id = t.id"
            f" WHERE t.job_id = ? AND t.name = ? AND f.state = '{PRESENT}'"
        )
        values: list[Any] = [job_id, wanted["task"]]
        if wanted["role"]:
            query += " AND f.role = ?"
            values.append(wanted["role"])
        rows = store.execute(query + " ORDER BY f.id", values).get_all()
    else:
        rows = store.execute(
            "SELECT i.role, f.href, '', f.name, f.media_type, f.size, f.sha256, f.tree, f.facts,"
            " f.id FROM job_input i JOIN file f ON f.id = i.file_id"
            " WHERE i.job_id = ? AND i.role = ? ORDER BY i.position",
            (job_id, wanted["role"]),
        ).get_all()
    return [Reference(**_row(row)) for row in rows]


def _row(row: tuple[Any, ...]) -> dict[str, Any]:
    names = tuple("role href task name media_type size sha256 tree facts file_id".split())
    values = dict(zip(names, row, strict=True))
    return values | {"tree": bool(values["tree"]), "facts": json.loads(values["facts"])}


def _publications(store: Store, claimed: ClaimedTask) -> list[Publication]:
    """For a retraction those that its parameter names, for a report those of its job."""
    query = (
        f"SELECT id, target, path, sha256, tree FROM publication WHERE state = '{PUBLISHED}' AND "
    )
    if tasks.has(claimed.type, Trait.RETRACT):
        named = claimed.spec["parameters"].get("publication", "").split()
        values = [int(number) for number in named if number.isdigit()]
        query += f"id IN ({marks(values)})"
    elif tasks.has(claimed.type, Trait.REPORT):
        values = [claimed.claim.job_id]
        query += "job_id = ?"
    else:
        return []
    rows = store.execute(query + " ORDER BY id", values).get_all() if values else []
    return [
        Publication(id=number, target=target, path=path, sha256=sha256, tree=bool(tree))
        for number, target, path, sha256, tree in rows
    ]
