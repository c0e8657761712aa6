"""Failure groups: failed jobs with the same cause, as one line.

Owns what makes two messages alike. Reads the history, which has each failure even if
the job was retried since.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache

from storm.locals import Store

from backoffice.data.sql import marks, moment, use_index
from backoffice.states import FAILED

LOOKED_AT = 1000  # newest failures, at most
_READ = 1000  # characters of a message
_LONGEST = 200  # characters of a cause


@dataclass
class Cause:
    """Jobs that failed alike; each counts once. ``failed`` are the ids of jobs that
    are still failed, the newest failure first."""

    text: str
    message: str  # of the newest
    newest: datetime
    example: int  # the id of the job that failed last
    jobs: int = 0
    failed: list[int] = field(default_factory=list)
    workflows: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Causes:
    """The causes with most failed jobs first. With ``more`` there were failures beyond
    the newest LOOKED_AT."""

    found: Sequence[Cause]
    jobs: int
    more: bool


def since(store: Store, when: datetime) -> Causes:
    """What made jobs fail after a time (naive UTC)."""
    failures = _failures(store, when)
    jobs = _jobs(store, [job for job, _, _ in failures[:LOOKED_AT]])
    causes: dict[str, Cause] = {}
    seen: set[int] = set()
    for job, at, message in failures[:LOOKED_AT]:
        if job in seen or job not in jobs:
            continue  # an earlier failure of it, or it is gone
        seen.add(job)
        text = alike(message)
        cause = causes.setdefault(text, Cause(text, message, at, job))
        _add(cause, job, *jobs[job])
    order = sorted(causes.values(), key=lambda cause: (-len(cause.failed), -cause.jobs))
    return Causes(order, len(seen), len(failures) > LOOKED_AT)


def _add(cause: Cause, job: int, state: str, workflow: str) -> None:
    cause.jobs += 1
    if state == FAILED:
        cause.failed.append(job)
    if workflow not in cause.workflows:
        cause.workflows.append(workflow)


def _failures(store: Store, when: datetime) -> list[tuple[int, datetime, str]]:
    """The newest first; one more than are looked at, if there are so many."""
    rows = store.execute(
        f"SELECT job_id, at, SUBSTR(detail, 1, {_READ})"
        f" FROM event{use_index(store, 'event_action')}"
        " WHERE action = 'job.failed' ORDER BY id DESC LIMIT ?",
        (LOOKED_AT + 1,),
    ).get_all()
    timed = [(job, moment(at) or when, message) for job, at, message in rows]
    return [failure for failure in timed if failure[1] > when]


def _jobs(store: Store, jobs: Sequence[int]) -> dict[int, tuple[str, str]]:
    if not jobs:
        return {}
    rows = store.execute(
        f"SELECT id, state, workflow FROM job WHERE id IN ({marks(jobs)})", jobs
    ).get_all()
    return {job: (state, workflow) for job, state, workflow in rows}


# What is alike --------------------------------------------------------------

# In this order. What differs from one failure to the next of the same cause. Each
# starts where a word does, or reads no further than it must: what is in messages
# comes from files.
_DIFFERENT = (
    (re.compile(r"[a-z][a-z0-9+.-]{0,30}://[^\s'\"]+", re.I), "…"),  # addresses
    (re.compile(r"'[^'/\n]*/[^'\n]*'|\"[^\"/\n]*/[^\"\n]*\""), "…"),  # paths with blanks
    (re.compile(r"(?<![\w…])/[^\s:;,'\"]+"), "…"),  # paths
    # names of files
    (re.compile(r"(?<![^\s'\":/])[^\s'\":/]+\.[a-z][a-z0-9]{1,4}(?![\w.])", re.I), "…"),
    (re.compile(r"\b0x[0-9a-f]+\b|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", re.I), "…"),
    (re.compile(r"\b(?=\d*[a-f])(?=[a-f]*\d)[0-9a-f]{8,}\b", re.I), "…"),  # ids
    (re.compile(r"\d+(?:[.,:]\d+)*"), "N"),
    (re.compile(r"\s+"), " "),
    (re.compile(r"…(?: …)+"), "…"),
)


@lru_cache(maxsize=4096)
def alike(message: str) -> str:
    """The first line of a message without its numbers, paths, names of files and
    ids: what messages of the same cause have in common."""
    text = next((line for line in message.splitlines() if line.strip()), "")
    for pattern, instead in _DIFFERENT:
        text = pattern.sub(instead, text)
    text = text.strip()
    if not text:
        return "no message"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
