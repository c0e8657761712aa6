"""Obstacles: why ready tasks wait for a worker, in sentences.

The one source of these sentences, for a task, for a queue, for pages and commands.
They come in the order in which claims check: pause, limit, workers, tags, slots.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from storm.locals import Store

from backoffice.engine import claims
from backoffice.states import ACTIVE


@dataclass(frozen=True)
class ActiveWorker:
    """``queues`` are patterns; ``busy`` of its ``slots`` run a task."""

    queues: Sequence[str]
    tags: frozenset[str]
    slots: int
    busy: int


def active_workers(store: Store, running: Sequence[tuple[int, int]]) -> list[ActiveWorker]:
    """``running`` as ``queue_depths.running`` gives it."""
    busy: Mapping[int, int] = Counter(worker for _, worker in running)
    rows = store.execute(
        f"SELECT id, queues, tags, slots FROM worker WHERE state = '{ACTIVE}'"
    ).get_all()
    return [
        ActiveWorker(queues.split(), frozenset(tags.split()), slots, busy.get(worker, 0))
        for worker, queues, tags, slots in rows
    ]


def of_queue(name: str, *, paused: bool, limit: int | None, running: int) -> list[str]:
    """What in the queue itself stops its tasks."""
    if paused:
        return [f"queue {name} is paused: resume it"]
    if limit is not None and running >= limit:
        return [f"the limit is reached: {running} of {limit} tasks of queue {name} run"]
    return []


def of_workers(
    name: str, wanted: Collection[frozenset[str]], workers: Sequence[ActiveWorker]
) -> list[str]:
    """Why none of the active workers takes tasks of the queue; ``wanted`` are the sets
    of tags that these ask for. Empty: one is about to."""
    if not workers:
        return ["no worker is active: start one"]
    serving = [worker for worker in workers if claims.serves(worker.queues, name)]
    if not serving:
        return [f"no active worker serves queue {name}"]
    lacking = [tags for tags in wanted if not any(tags <= worker.tags for worker in serving)]
    if lacking:
        return [f"no worker with {_shown(lacking)} serves queue {name}"]
    able = [worker for worker in serving if any(tags <= worker.tags for tags in wanted)]
    if all(worker.busy >= worker.slots for worker in able):
        slots, busy = sum(w.slots for w in able), sum(w.busy for w in able)
        return [f"all slots of its workers are busy ({busy} of {slots})"]
    return []


def _shown(lacking: Collection[frozenset[str]]) -> str:
    """``tag gpu``, ``tags big and gpu``, or several such sets joined by "or"."""
    sets = sorted(sorted(tags) for tags in lacking)
    noun = "tag" if len(sets) == 1 and len(sets[0]) == 1 else "tags"
    return f"{noun} {' or '.join(' and '.join(tags) for tags in sets)}"
