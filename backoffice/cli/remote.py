"""What each command does when it is given the ``--url`` of a service.

The same functions as in ``commands``, as far as they make sense from afar, over
HTTP instead of on the database. Every function takes the parsed arguments and
a client and returns the exit status.
"""

from __future__ import annotations

import io
import os
import sys
from argparse import Namespace
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from backoffice import client, states
from backoffice.cli import console, progress
from backoffice.cli.console import DONE, FAILED, complain, say, show
from backoffice.client import Client, Filter, Job, Result, Task
from backoffice.errors import BackofficeError, Invalid, ServiceFault, ServiceUnreachable
from backoffice.web import queries

_OF_ONE = ("outputs", "publications", "tasks")  # not told of the jobs of a list
_PART = 1 << 20  # bytes of a log asked for at a time


# Jobs -----------------------------------------------------------------------


def submit(args: Namespace, service: Client) -> int:
    if args.dry_run:
        raise Invalid("submit --dry-run needs the service's files; run it there, without --url")
    inputs = [*((None, name) for name in args.files), *args.input]
    hrefs = [(role, _href(name)) for role, name in inputs]
    workflow = service.workflow(args.workflow)
    first = workflow.inputs[0].role if workflow.inputs else "source"
    job = service.submit(
        args.workflow,
        [(role or first, href) for role, href in hrefs],
        title=args.title,
        key=args.key,
        priority=args.priority,
        parameters=dict(args.param),
        metadata=dict(args.meta),
        delay=args.delay.total_seconds(),
    )
    console.show_submitted(job.id, job.new)
    return _wait(service, job.id) if args.wait else DONE


def _href(name: str) -> str:
    if name.startswith("file://"):
        return name
    if not name.startswith("/"):
        raise Invalid(
            f"{name}: with --url a file is one of the service's host; give its absolute path there"
        )
    return f"file://{quote(os.fsencode(name))}"


def clone(args: Namespace, service: Client) -> int:
    return _begun(args, service, service.clone(args.id))


def retract(args: Namespace, service: Client) -> int:
    ids = " ".join(map(str, args.ids))
    return _begun(
        args,
        service,
        service.submit(
            "retract", title=f"Retract publication {ids}", parameters={"publication": ids}
        ),
    )


def _begun(args: Namespace, service: Client, job: Job) -> int:
    say(str(job.id))
    return _wait(service, job.id) if args.wait else DONE


def _wait(service: Client, job: int) -> int:
    looks = (_record(one) for one in service.follow(job))
    return console.wait(job, lambda: progress.watch(looks, sys.stderr))


# Looking --------------------------------------------------------------------


def _record(value: Any) -> Any:
    """An answer as the records that ``documents`` and ``terminal`` know."""
    if is_dataclass(value):
        return {one.name: _record(getattr(value, one.name)) for one in fields(value)}
    return [_record(one) for one in value] if isinstance(value, tuple) else value


def _look(kind: str, ask: Callable[[Client, Namespace], Any]) -> Callable[[Namespace, Client], int]:
    """A command that shows what ``ask`` finds."""

    def command(args: Namespace, service: Client) -> int:
        return show(args, kind, _record(ask(service, args)))

    return command


def _page(args: Namespace) -> dict[str, Any]:
    """Where a list begins, and how long it may be."""
    after = "" if args.before is None else queries.cursor_after(args.before)
    return {"limit": args.limit, "after": after}


def list_jobs(args: Namespace, service: Client) -> int:
    found = [_record(one) for one in service.jobs(_filter(args), **_page(args))]
    for one in found:
        for part in _OF_ONE:
            del one[part]
    return show(args, "jobs", found)


job = _look("job", lambda service, args: service.job(args.id))
task = _look("task", lambda service, args: service.task(args.id))
attempts = _look("attempts", lambda service, args: service.attempts(args.id))
list_files = _look("files", lambda service, args: tuple(service.files(job=args.job, **_page(args))))
file = _look("file", lambda service, args: service.file(args.id))
publications = _look(
    "publications",
    lambda service, args: tuple(
        service.publications(job=args.job, state=args.state, **_page(args))
    ),
)
workers = _look(
    "workers",
    lambda service, args: service.workers(() if args.all else (states.ACTIVE, states.DRAINING)),
)
queues = _look("queues", lambda service, args: service.queues())
schedules = _look("schedules", lambda service, args: service.schedules())
events = _look(
    "events",
    lambda service, args: tuple(service.events(args.after, job=args.job, limit=args.limit)),
)


def _tasks(service: Client, args: Namespace) -> tuple[Task, ...]:
    """Those of a job in the order of its plan, others the newest first."""
    if args.job is None:
        return tuple(service.tasks(state=args.state, **_page(args)))
    found = [
        one
        for one in service.job_tasks(args.job)
        if args.state in (None, one.state) and (args.before is None or one.id < args.before)
    ]
    return tuple(found[: args.limit])


tasks = _look("tasks", _tasks)


def reasons(args: Namespace, service: Client) -> int:
    noun, ask = ("task", service.why_task) if args.task else ("job", service.why)
    return show(args, "why", {"subject": f"{noun} {args.id}", "reasons": list(ask(args.id))})


def log(args: Namespace, service: Client) -> int:
    parts = _LogParts(lambda at: service.log(args.id, attempt=args.attempt, offset=at, size=_PART))
    stream = io.BufferedReader(parts, _PART)
    return console.show_log(io.TextIOWrapper(stream, encoding="utf-8", errors="replace"))


class _LogParts(io.RawIOBase):
    """A log that is fetched as it is read; it may be long."""

    def __init__(self, fetch: Callable[[int], bytes]) -> None:
        self._fetch = fetch
        self._at = 0
        self._part = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._part:
            self._part = self._fetch(self._at)
            self._at += len(self._part)
        taken = self._part[: len(buffer)]
        buffer[: len(taken)] = taken
        self._part = self._part[len(taken) :]
        return len(taken)


def _filter(args: Namespace) -> Filter:
    return Filter(
        states=args.state or (),
        workflow=args.workflow or "",
        submitter=args.submitter or "",
        text=args.text or "",
        submitted_after=_aware(args.since),
        submitted_before=_aware(args.until),
    )


def _aware(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=UTC)


# Control --------------------------------------------------------------------


def control(args: Namespace, service: Client) -> int:
    """cancel, pause, resume, retry and priority, of one job or many."""
    wanted = _filter(args)
    filtered = wanted != client.EVERYTHING
    console.require_ids_or_filter(args, filtered)
    return _act_on_all(args, service, wanted) if filtered else _act_on_each(args, service)


def _act_on_each(args: Namespace, service: Client) -> int:
    """One that cannot be changed does not keep the others."""
    failed = 0
    for job in args.ids:
        if args.dry_run:
            say(f"would {args.command} job {job}")
            continue
        try:
            _act(args, service, job)
            say(f"{args.command}: job {job}")
        except (ServiceUnreachable, ServiceFault):
            raise
        except BackofficeError as error:
            failed += 1
            complain(str(error))
    return FAILED if failed else DONE


def _act(args: Namespace, service: Client, job: int) -> None:
    if args.command == "priority":
        service.priority(job, args.to)
    else:
        getattr(service, args.command)(job)


def _act_on_all(args: Namespace, service: Client, wanted: Filter) -> int:
    """In one request: only the service knows them all."""
    wanted = replace(wanted, states=console.possible_states(args.command, wanted.states))
    value = args.to if args.command == "priority" else None
    preview = service.act(args.command, wanted, value=value, preview=True)
    count = f"more than {preview.possible - 1}" if preview.more else str(preview.possible)
    first = [one.id for one in service.jobs(wanted, limit=console.NAMED + 1)]
    if not console.agreed(args, count, first):
        return FAILED
    if args.dry_run:
        for job in service.jobs(wanted):
            say(f"would {args.command} job {job.id}")
        return DONE
    return _told(service.act(args.command, wanted, value=value)) if first else DONE


def _told(result: Result) -> int:
    say(f"{result.action}: jobs done: {result.done}")
    for refusal in result.refusals:
        complain(refusal.message)
    return FAILED if result.refusals else DONE


def queue(args: Namespace, service: Client) -> int:
    if args.action == "pause":
        service.queue_pause(args.name)
    elif args.action == "resume":
        service.queue_resume(args.name)
    else:
        service.queue_limit(args.name, args.to)
    return DONE


def drain(args: Namespace, service: Client) -> int:
    service.drain(args.id)
    return DONE
