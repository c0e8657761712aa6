"""Bulk actions: one action on every job that matches a filter, in small transactions.

One that cannot be changed does not hold up the others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from storm.locals import Store

from backoffice.data import search
from backoffice.data.database import Database
from backoffice.data.search import Filter
from backoffice.data.sql import marks
from backoffice.engine import jobs
from backoffice.engine.field_limits import check_priority
from backoffice.errors import Conflict, Invalid, NotFound
from backoffice.states import JOB_ACTIONS, JOB_STATES

COUNTED_BY_WORDS = 1_000  # the same for a search by words, which takes longer
COUNTED = 10_000  # matching jobs that are counted; beyond that it says "more than"
REFUSALS = 10  # jobs that are named, of those that the action is not possible for
_BATCH = 50  # jobs changed in one transaction
Selection = Filter | Sequence[int]
Result = dict[str, Any]  # what became of it, as ``schema/result.xsd`` has it


def preview(database: Database, action: str, wanted: Selection) -> Result:
    """How many jobs match and how many of them the action is possible for, and
    why not for some of the others; no more than ``COUNTED`` are counted, or
    ``COUNTED_BY_WORDS``."""
    return database.read(_count, action, wanted)


def apply(
    database: Database, action: str, wanted: Selection, actor: str, value: int | None = None
) -> Result:
    """cancel, pause, resume, retry or priority (``value``) on every job that
    matches now, a few in each transaction. A job that cannot be changed does not hold
    up the others. Raises Invalid for another action or value."""
    act = _action(action, value)
    result = preview(database, action, wanted) | {"preview": False}
    for batch in _batches(database, action, wanted):
        done, refusals = database.transact(_act_on, act, batch, actor)
        result["done"] += done
        result["refusals"] += refusals
    for name in ("matched", "possible"):
        result[name] = max(result[name], result["done"])
    return result | {"refusals": result["refusals"][:REFUSALS]}


def _action(action: str, value: int | None) -> Callable[[Store, int, str], None]:
    if action == "priority":
        if value is None:
            raise Invalid("say which priority: a value from 0 (first) to 100 (last)")
        check_priority(value)
        return partial(_prioritise, priority=value)
    known = {
        "cancel": jobs.cancel,
        "pause": jobs.pause,
        "resume": jobs.resume,
        "retry": jobs.retry,
    }
    if action not in known:
        raise Invalid(
            f"{action!r} is no action on many jobs; there are {', '.join(known)}, priority"
        )
    return known[action]


def _prioritise(store: Store, job_id: int, actor: str, priority: int) -> None:
    jobs.prioritise(store, job_id, priority, actor)


def _count(store: Store, action: str, wanted: Selection) -> Result:
    most = COUNTED
    if isinstance(wanted, Filter):
        most = COUNTED_BY_WORDS if wanted.text else COUNTED
        matched = len(search.ids(store, wanted, limit=most + 1))
        able = len(_matching(store, wanted, JOB_ACTIONS[action], most + 1))
        unable = _matching(store, wanted, set(JOB_STATES) - JOB_ACTIONS[action], REFUSALS)
    else:
        matched, possible = len(wanted), set(_able(store, action, wanted))
        able = len(possible)
        unable = [job for job in wanted if job not in possible][:REFUSALS]
    states = _states(store, unable)
    return {
        "action": action,
        "preview": True,
        "done": 0,
        "more": matched > most,
        "matched": min(matched, most),
        "possible": min(able, most),
        "refusals": [_refusal(job, _why_not(action, job, states.get(job))) for job in unable],
    }


def _matching(
    store: Store, wanted: Filter, states: Collection[str], limit: int, before: int | None = None
) -> list[int]:
    """The ids of jobs that match and are in one of these states."""
    asked = set(wanted.states or JOB_STATES) & set(states)
    if not asked:
        return []
    return search.ids(store, replace(wanted, states=tuple(asked)), limit=limit, before=before)


def _able(store: Store, action: str, ids: Sequence[int]) -> list[int]:
    states = _states(store, ids)
    return [job for job in ids if states.get(job) in JOB_ACTIONS[action]]


def _states(store: Store, ids: Sequence[int]) -> dict[int, str]:
    if not ids:
        return {}
    rows = store.execute(f"SELECT id, state FROM job WHERE id IN ({marks(ids)})", ids)
    return dict(rows.get_all())


def _batches(database: Database, action: str, wanted: Selection) -> Iterator[Sequence[int]]:
    if isinstance(wanted, Filter):
        before: int | None = None
        possible = JOB_ACTIONS[action]
        while page := database.read(_matching, wanted, possible, _BATCH, before):
            yield page
            before = page[-1]
    else:
        able = database.read(_able, action, wanted)
        for start in range(0, len(able), _BATCH):
            yield able[start : start + _BATCH]


def _act_on(
    store: Store, act: Callable[[Store, int, str], None], ids: Sequence[int], actor: str
) -> tuple[int, list[Result]]:
    """By id, the order in which every transaction locks jobs. A refused job is unchanged."""
    done, refusals = 0, []
    for job in sorted(ids):
        try:
            act(store, job, actor)
            done += 1
        except (Conflict, NotFound) as error:
            refusals.append(_refusal(job, str(error)))
    return done, refusals


def _refusal(job: int, message: str) -> Result:
    return {"job": job, "message": message}


def _why_not(action: str, job: int, state: str | None) -> str:
    if state is None:
        return f"there is no job {job}"
    try:
        jobs.guard(action, job, state)
    except Conflict as error:
        return str(error)
    return ""
