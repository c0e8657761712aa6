"""Queue control: pause, resume, limit a queue."""

from __future__ import annotations

from storm.locals import Store

from backoffice.data import events, model
from backoffice.data.sql import clock
from backoffice.errors import Invalid, NotFound


def pause(store: Store, name: str, actor: str) -> None:
    """Workers claim no more tasks of the queue; running ones finish."""
    _set(store, name, "paused", True, actor, "paused")


def resume(store: Store, name: str, actor: str) -> None:
    _set(store, name, "paused", False, actor, "resumed")


def limit(store: Store, name: str, capacity: int | None, actor: str) -> None:
    """How many tasks of the queue may run at once, over all workers; None: no limit."""
    if capacity is not None and not 0 <= capacity <= 100_000:
        raise Invalid("a limit is a number from 0 to 100000, or none")
    _set(store, name, "capacity", capacity, actor, "limited")


def _set(store: Store, name: str, column: str, value: object, actor: str, verb: str) -> None:
    if store.find(model.Lane, queue=name).is_empty():
        raise NotFound(f"there is no queue {name!r}; a queue appears with its first task")
    if store.get(model.Queue, name) is None:
        store.execute("INSERT INTO queue (name) VALUES (?)", (name,))
    store.execute(f"UPDATE queue SET {column} = ? WHERE name = ?", (value, name))
    event = events.Event(f"queue.{verb}", f"queue {name}", actor=actor, detail=str(value))
    events.append(store, clock(store), event)
