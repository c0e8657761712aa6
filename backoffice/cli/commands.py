"""Commands on jobs, files, queues and workers, over a :class:`Backend`.

Every function takes the parsed arguments and the backend and returns the exit
status. What a command prints does not depend on the backend.
"""

from __future__ import annotations

import shlex
import sys
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from backoffice import states
from backoffice.cli import console, progress, terminal
from backoffice.cli.backend import EVERY_JOB, Backend, JobFilter, Page, Record, Submission
from backoffice.cli.console import DONE, FAILED, complain, say, show
from backoffice.errors import (
    BackofficeError,
    DatabaseUnavailable,
    ServiceFault,
    ServiceUnreachable,
)

Command = Callable[[Namespace, Backend], int]

# Submitting -----------------------------------------------------------------


def submit(args: Namespace, backend: Backend) -> int:
    submission = Submission(
        workflow=args.workflow,
        inputs=[*((None, name) for name in args.files), *args.input],
        title=args.title,
        key=args.key,
        priority=args.priority,
        parameters=dict(args.param),
        metadata=dict(args.meta),
        delay=args.delay.total_seconds(),
    )
    if args.dry_run:
        return _show_plan(backend.plan(submission))
    job, new = backend.submit(submission)
    console.show_submitted(job, new)
    return _wait(args, backend, job)


def clone(args: Namespace, backend: Backend) -> int:
    job = backend.clone(args.id)
    say(str(job))
    return _wait(args, backend, job)


def retract(args: Namespace, backend: Backend) -> int:
    """A job like any other: workers may be the only hosts that reach a target."""
    ids = " ".join(map(str, args.ids))
    title = f"Retract publication {ids}"
    job, _ = backend.submit(Submission("retract", title=title, parameters={"publication": ids}))
    say(str(job))
    return _wait(args, backend, job)


def _wait(args: Namespace, backend: Backend, job: int) -> int:
    if not args.wait:
        return DONE
    return console.wait(job, lambda: progress.watch(backend.follow(job), sys.stderr))


def _show_plan(plan: Record) -> int:
    for task in plan["tasks"]:
        say(f"{task['name']} ({task['type']})" + _remark(task))
        for argv in task["argv"]:
            say(f"  $ {terminal.clean(shlex.join(argv))}")
        for output in task["outputs"]:
            say(f"  makes {terminal.clean(output)}")
        for note in task["notes"]:
            say(f"  {terminal.clean(note)}")
    return FAILED if any(task["fails"] for task in plan["tasks"]) else DONE


def _remark(task: Record) -> str:
    if task["skipped"]:
        return f": skipped, because {terminal.clean(task['skipped'])}"
    return f": would fail: {terminal.clean(task['fails'])}" if task["fails"] else ""


# Looking --------------------------------------------------------------------


def _look(kind: str, read: Callable[[Namespace, Backend], Any]) -> Command:
    """A command that shows what ``read`` gives."""

    def command(args: Namespace, backend: Backend) -> int:
        return show(args, kind, read(args, backend))

    return command


def _page(args: Namespace) -> Page:
    return Page(args.limit, args.before)


list_jobs = _look("jobs", lambda args, backend: backend.jobs(_filter(args), _page(args)))
job = _look("job", lambda args, backend: backend.job(args.id))
tasks = _look("tasks", lambda args, backend: backend.tasks(args.job, args.state, _page(args)))
task = _look("task", lambda args, backend: backend.task(args.id))
attempts = _look("attempts", lambda args, backend: backend.attempts(args.id))
list_files = _look("files", lambda args, backend: backend.files(args.job, _page(args)))
file = _look("file", lambda args, backend: backend.file(args.id))
publications = _look(
    "publications", lambda args, backend: backend.publications(args.job, args.state, _page(args))
)
workers = _look(
    "workers",
    lambda args, backend: backend.workers(() if args.all else (states.ACTIVE, states.DRAINING)),
)
queues = _look("queues", lambda args, backend: backend.queues())
schedules = _look("schedules", lambda args, backend: backend.schedules())
events = _look("events", lambda args, backend: backend.events(args.after, args.job, args.limit))


def reasons(args: Namespace, backend: Backend) -> int:
    noun, read = ("task", backend.task_reasons) if args.task else ("job", backend.job_reasons)
    return show(args, "why", {"subject": f"{noun} {args.id}", "reasons": list(read(args.id))})


def log(args: Namespace, backend: Backend) -> int:
    with backend.log(args.id, args.attempt) as lines:
        return console.show_log(lines)


def _filter(args: Namespace) -> JobFilter:
    return JobFilter(
        states=args.state or (),
        workflow=args.workflow or "",
        submitter=args.submitter or "",
        text=args.text or "",
        submitted_after=args.since,
        submitted_before=args.until,
    )


# Control --------------------------------------------------------------------


def control(args: Namespace, backend: Backend) -> int:
    """cancel, pause, resume, retry and priority, of some jobs or of all that match."""
    wanted = _filter(args)
    filtered = wanted != EVERY_JOB
    console.require_ids_or_filter(args, filtered)
    return _act_on_all(args, backend, wanted) if filtered else _act_on_each(args, backend)


def _value(args: Namespace) -> int | None:
    return args.to if args.command == "priority" else None


def _act_on_each(args: Namespace, backend: Backend) -> int:
    """A job that cannot be changed does not stop the others."""
    failed = False
    for job in args.ids:
        if args.dry_run:
            say(f"would {args.command} job {job}")
            continue
        try:
            backend.act(args.command, job, _value(args))
            say(f"{args.command}: job {job}")
        except (DatabaseUnavailable, ServiceUnreachable, ServiceFault):
            raise
        except BackofficeError as error:
            failed = True
            complain(str(error))
    return FAILED if failed else DONE


def _act_on_all(args: Namespace, backend: Backend, wanted: JobFilter) -> int:
    wanted = replace(wanted, states=console.possible_states(args.command, wanted.states))
    preview = backend.preview(args.command, wanted, _value(args))
    possible = preview["possible"]
    count = f"more than {possible - 1}" if preview["more"] else str(possible)
    first = list(backend.matching(wanted, limit=console.NAMED + 1))
    if not console.agreed(args, count, first):
        return FAILED
    if args.dry_run:
        for job in backend.matching(wanted):
            say(f"would {args.command} job {job}")
        return DONE
    return _show_result(backend.act_on_all(args.command, wanted, _value(args))) if first else DONE


def _show_result(result: Record) -> int:
    say(f"{result['action']}: jobs done: {result['done']}")
    for refusal in result["refusals"]:
        complain(refusal["message"])
    return FAILED if result["refusals"] else DONE


def queue(args: Namespace, backend: Backend) -> int:
    if args.action == "pause":
        backend.pause_queue(args.name)
    elif args.action == "resume":
        backend.resume_queue(args.name)
    else:
        backend.limit_queue(args.name, args.to)
    return DONE


def drain(args: Namespace, backend: Backend) -> int:
    backend.drain(args.id)
    return DONE
