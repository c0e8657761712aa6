"""Tables as Storm classes: what is in a row, not what may be done with it.

Transitions are in ``engine``, which writes with plain SQL where it changes many rows
or must count them. JSON columns are parsed by properties. Times are naive UTC.
"""

from __future__ import annotations

import json
from typing import Any, Final

from storm.locals import Bool, DateTime, Float, Int, Store, Unicode

from backoffice.errors import NotFound

# In place of an identity in the table ``watched``: the row tells of the watch folder itself.
WATCH_FOLDER: Final = "folder"


class Queue:
    """``capacity`` is how many of its tasks may run at once; None: no limit."""

    __storm_table__ = "queue"
    name = Unicode(primary=True)
    paused = Bool()
    capacity = Int()


class Lane:
    """A queue and the worker tags a task asks for, joined by blanks."""

    __storm_table__ = "lane"
    id = Int(primary=True)
    queue = Unicode()
    tags = Unicode()


class File:
    """A file the system knows. With ``tree`` it stands for the whole folder
    that holds it, and size and digest are the folder's. ``job_id`` and
    ``task_id`` tell what made it; both None for what came from outside."""

    __storm_table__ = "file"
    id = Int(primary=True)
    href = Unicode()
    name = Unicode()
    role = Unicode()
    media_type = Unicode()
    tree = Bool()
    size = Int()
    sha256 = Unicode()
    state = Unicode()
    facts_json = Unicode("facts")
    job_id = Int()
    task_id = Int()
    created = DateTime()

    @property
    def facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads(self.facts_json)
        return facts


class Job:
    """``request`` is the id of the HTTP request that submitted it, for logs; empty
    for one that came in another way."""

    __storm_table__ = "job"
    id = Int(primary=True)
    token = Unicode()
    fingerprint = Unicode()
    title = Unicode()
    workflow = Unicode()
    version = Int()
    state = Unicode()
    priority = Int()
    progress = Float()
    submitter = Unicode()
    request = Unicode()
    submitted = DateTime()
    started = DateTime()
    finished = DateTime()
    cancel_requested = DateTime()
    message = Unicode()

    @property
    def key(self) -> str:
        """The submitter's key; empty when none was given."""
        token: str = self.token
        return token.removeprefix(KEY) if token.startswith(KEY) else ""


KEY = "key:"  # begins the token of a job submitted with a key
ID = "id:"  # begins the token of one submitted without


class JobInput:
    __storm_table__ = "job_input"
    __storm_primary__ = "job_id", "position"
    job_id = Int()
    position = Int()
    role = Unicode()
    file_id = Int()


class Task:
    """``spec_json`` holds what the plan says and nothing selects by: title,
    needs, inputs, parameters, when, timeout, stall, backoff, weight."""

    __storm_table__ = "task"
    id = Int(primary=True)
    job_id = Int()
    name = Unicode()
    type = Unicode()
    state = Unicode()
    lane_id = Int()
    priority = Int()
    attempt = Int()
    failures = Int()
    losses = Int()
    max_attempts = Int()
    worker_id = Int()
    lease_until = DateTime()
    cancel_requested = DateTime()
    run_at = DateTime()
    ready_at = DateTime()
    started = DateTime()
    finished = DateTime()
    progress = Float()
    speed = Unicode()
    eta = Float()
    message = Unicode()
    reason = Unicode()
    spec_json = Unicode("spec")

    @property
    def spec(self) -> dict[str, Any]:
        spec: dict[str, Any] = json.loads(self.spec_json)
        return spec


class Attempt:
    """One run of a task. Memory in bytes; times in seconds; ``commands_json``
    is a list of argument lists."""

    __storm_table__ = "attempt"
    id = Int(primary=True)
    task_id = Int()
    number = Int()
    worker_id = Int()
    host = Unicode()
    state = Unicode()
    started = DateTime()
    finished = DateTime()
    message = Unicode()
    reason = Unicode()
    commands_json = Unicode("commands")
    ffmpeg = Unicode()
    exit_status = Int()
    cpu_seconds = Float()
    peak_memory = Int()
    wall_seconds = Float()
    log = Unicode()
    log_size = Int()
    report_json = Unicode("report")


class Worker:
    __storm_table__ = "worker"
    id = Int(primary=True)
    host = Unicode()
    pid = Int()
    slots = Int()
    queues = Unicode()
    tags = Unicode()
    state = Unicode()
    started = DateTime()
    heartbeat = DateTime()
    lease = Float()
    version = Unicode()


class Event:
    __storm_table__ = "event"
    id = Int(primary=True)
    at = DateTime()
    actor = Unicode()
    action = Unicode()
    subject = Unicode()
    job_id = Int()
    task_id = Int()
    detail = Unicode()
    reason = Unicode()
    host = Unicode()


class Publication:
    __storm_table__ = "publication"
    id = Int(primary=True)
    active_key = Unicode()
    file_id = Int()
    job_id = Int()
    task_id = Int()
    target = Unicode()
    path = Unicode()
    href = Unicode()
    state = Unicode()
    tree = Bool()
    sha256 = Unicode()
    size = Int()
    published = DateTime()
    retracted = DateTime()


def get(store: Store, table: type, key: int | str, noun: str) -> Any:
    """The row with this primary key; raises NotFound with the noun."""
    row = store.get(table, key)
    if row is None:
        raise NotFound(f"there is no {noun} {key}")
    return row


def pairs(store: Store, table: str, column: str, key: int) -> dict[str, str]:
    """A table of names and values (parameters, metadata) as a dict."""
    rows = store.execute(
        f"SELECT name, value FROM {table} WHERE {column} = ? ORDER BY name", (key,)
    )
    return dict(rows.get_all())


def dump(value: Any) -> str:
    """JSON for a column: short, and readable for people who look."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
