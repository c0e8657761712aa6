"""What each command of the command line does; ``cli`` has their arguments.

Every function takes the parsed arguments and the settings and returns the exit
status. Loaded only once it is known that there is something to do.
"""

from __future__ import annotations

import json
import os
import pwd
import shlex
import shutil
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from storm.locals import Store

from backoffice import (
    catalogue,
    follow,
    jobs,
    migrations,
    records,
    retention,
    states,
    terminal,
    tokens,
    why,
)
from backoffice import check as checks
from backoffice import dryrun as dry
from backoffice.catalogue import Catalogue
from backoffice.config import Settings
from backoffice.database import Database
from backoffice.errors import BackofficeError, Conflict, DatabaseUnavailable, Invalid, NotFound
from backoffice.records import Filter
from backoffice.web import documents

DONE, FAILED, WRONG, CANCELLED = 0, 1, 2, 3
_STATUS = {states.SUCCEEDED: DONE, states.FAILED: FAILED, states.CANCELLED: CANCELLED}
_PAGE = 1000  # jobs selected at a time
_SHOWN = 10  # jobs named before an action on many


@contextmanager
def _opened(settings: Settings) -> Iterator[Database]:
    """The database, if its schema is this program's."""
    database = Database(settings.database)
    try:
        migrations.require_current(database)
        yield database
    finally:
        database.close()


def _actor() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _say(*lines: str) -> None:
    for line in lines:
        print(line)


def _complain(text: str) -> None:
    print(f"backoffice: {terminal.clean(text)}", file=sys.stderr)


# The installation -----------------------------------------------------------


def migrate(args: Namespace, settings: Settings) -> int:
    database = Database(settings.database)
    try:
        if args.check:
            return _check_schema(database)
        count = migrations.migrate(database)
    finally:
        database.close()
    version = migrations.steps(database.dialect)[-1].version
    steps = "1 step" if count == 1 else f"{count} steps"
    _say(f"{f'{steps} applied' if count else 'nothing to do'}: the schema is at version {version}")
    return DONE


def _check_schema(database: Database) -> int:
    todo = migrations.pending(database)
    if not todo:
        _say("the schema is current")
        return DONE
    _say(f"{len(todo)} steps are missing, from version {todo[0].version}: run 'backoffice migrate'")
    return FAILED


def check(args: Namespace, settings: Settings) -> int:
    found = checks.run(settings)
    room = max(len(line.what) for line in found)
    for line in found:
        mark = "ok  " if line.ok else "FAIL"
        _say(f"{mark} {line.what:<{room}}  {terminal.clean(line.text)}")
    return DONE if all(line.ok for line in found) else FAILED


def prune(args: Namespace, settings: Settings) -> int:
    older = settings.retention.jobs if args.older_than is None else args.older_than
    with _opened(settings) as database:
        counts = retention.prune(database, settings, older, dry_run=args.dry_run)
    if args.dry_run:
        _say(f"jobs that would be removed: {counts['jobs']}")
    else:
        parts = [f"{kind} {count}" for kind, count in sorted(counts.items())]
        _say(f"removed: {', '.join(parts) or 'nothing'}")
    return DONE


# Jobs -----------------------------------------------------------------------


def submit(args: Namespace, settings: Settings) -> int:
    known = catalogue.load(settings)
    request = jobs.Request(
        workflow=args.workflow,
        inputs=_inputs(args, known),
        title=args.title,
        key=args.key,
        priority=args.priority,
        parameters=dict(args.param),
        metadata=dict(args.meta),
        delay=args.delay.total_seconds(),
    )
    prepared = jobs.prepare(request, known.workflows, settings.paths.roots)
    if args.dry_run:
        return _show_plan(dry.plan(prepared, settings))
    with _opened(settings) as database:
        job, new = database.transact(jobs.submit, prepared, _actor())
        _say(str(job))
        if not new:
            _complain(f"job {job} was submitted with this key before; it is the same")
        return _wait(database, job) if args.wait else DONE


def clone(args: Namespace, settings: Settings) -> int:
    known = catalogue.load(settings)
    with _opened(settings) as database:
        request = database.read(jobs.request_of, args.id)
        prepared = jobs.prepare(request, known.workflows, settings.paths.roots)
        job, _ = database.transact(jobs.submit, prepared, _actor())
        _say(str(job))
        return _wait(database, job) if args.wait else DONE


def retract(args: Namespace, settings: Settings) -> int:
    """A job like any other: workers may be the only ones to reach a target."""
    known = catalogue.load(settings)
    request = jobs.Request(
        workflow="retract",
        title=f"Retract publication {' '.join(map(str, args.ids))}",
        parameters={"publication": " ".join(map(str, args.ids))},
    )
    prepared = jobs.prepare(request, known.workflows, settings.paths.roots)
    with _opened(settings) as database:
        job, _ = database.transact(jobs.submit, prepared, _actor())
        _say(str(job))
        return _wait(database, job) if args.wait else DONE


def _inputs(args: Namespace, known: Catalogue) -> list[tuple[str, str]]:
    workflow = known.workflows.get(args.workflow)
    role = workflow.inputs[0].role if workflow and workflow.inputs else "source"
    return [
        *((role, _absolute(name)) for name in args.files),
        *((role, _absolute(name)) for role, name in args.input),
    ]


def _absolute(name: str) -> str:
    """Only ``file:///…`` is a URL here: a file may be called ``http:x.mp4``."""
    return name if name.startswith("file://") else str(Path.cwd() / name)


def _wait(database: Database, job: int) -> int:
    try:
        return _STATUS[follow.job(database, job, sys.stderr)]
    except KeyboardInterrupt:
        _complain(f"job {job} goes on; see 'backoffice job {job}', end it with 'backoffice cancel'")
        return 130


def _show_plan(tasks: Sequence[dry.DryTask]) -> int:
    for task in tasks:
        _say(f"{task.name} ({task.type})" + _remark(task))
        for argv in task.commands:
            _say(f"  $ {terminal.clean(shlex.join(argv))}")
        for output in task.outputs:
            _say(f"  makes {terminal.clean(str(output))}")
        for note in task.notes:
            _say(f"  {terminal.clean(note)}")
    return FAILED if any(task.fails for task in tasks) else DONE


def _remark(task: dry.DryTask) -> str:
    if task.skipped_because is not None:
        return f": skipped, because {terminal.clean(task.skipped_because)}"
    return f": would fail: {terminal.clean(task.fails)}" if task.fails else ""


# Looking --------------------------------------------------------------------


def _show(args: Namespace, kind: str, record: Any) -> int:
    if args.xml:
        _say(documents.to_xml(kind, record).decode())
    elif args.json:
        _say(documents.to_json(kind, record))
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        _say(*terminal.show(kind, record, width))
    return DONE


def _look(
    kind: str, ask: Callable[[Store, Namespace], Any]
) -> Callable[[Namespace, Settings], int]:
    """A command that shows what ``ask`` finds."""

    def command(args: Namespace, settings: Settings) -> int:
        with _opened(settings) as database:
            found = database.read(ask, args)
        return _show(args, kind, found)

    return command


list_jobs = _look(
    "jobs",
    lambda store, args: records.jobs(store, _filter(args), limit=args.limit, before=args.before),
)
job = _look("job", lambda store, args: records.job(store, args.id))
tasks = _look(
    "tasks",
    lambda store, args: records.tasks(
        store, job=args.job, state=args.state, limit=args.limit, before=args.before
    ),
)
task = _look("task", lambda store, args: records.task(store, args.id))
attempts = _look("attempts", lambda store, args: records.attempts(store, args.id))
list_files = _look(
    "files",
    lambda store, args: records.files(store, job=args.job, limit=args.limit, before=args.before),
)
file = _look("file", lambda store, args: records.file(store, args.id))
publications = _look(
    "publications",
    lambda store, args: records.publications(
        store, job=args.job, state=args.state, limit=args.limit, before=args.before
    ),
)
workers = _look(
    "workers",
    lambda store, args: records.workers(
        store, states=() if args.all else (states.ACTIVE, states.DRAINING)
    ),
)
queues = _look("queues", lambda store, args: records.queues(store))
events = _look(
    "events",
    lambda store, args: records.events(store, after=args.after, limit=args.limit, job=args.job),
)
list_tokens = _look("tokens", lambda store, args: records.tokens(store))


def reasons(args: Namespace, settings: Settings) -> int:
    noun, ask = ("task", why.task) if args.task else ("job", why.job)
    with _opened(settings) as database:
        found = {"subject": f"{noun} {args.id}", "reasons": database.read(ask, args.id)}
    return _show(args, "why", found)


def schedules(args: Namespace, settings: Settings) -> int:
    with _opened(settings) as database:
        found = database.read(records.schedules)
    if args.json:
        _say(json.dumps({"schedules": found}, default=_moment, ensure_ascii=False))
        return DONE
    return _show(args, "schedules", found)


def _moment(value: datetime) -> str:
    return f"{value.isoformat(timespec='seconds')}Z"


def log(args: Namespace, settings: Settings) -> int:
    """The log of an attempt, as far as it is on this host."""
    with _opened(settings) as database:
        found = database.read(records.attempts, args.id)
    wanted = [one for one in found if args.attempt in (None, one["number"])]
    if not wanted:
        which = f"no attempt {args.attempt}" if args.attempt else "no attempt yet"
        raise NotFound(f"task {args.id} has had {which}")
    path = wanted[-1]["log"]
    if not path:
        raise NotFound(f"attempt {wanted[-1]['number']} of task {args.id} wrote no log")
    try:
        with open(path, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                _say(terminal.clean(line.rstrip("\n")))
    except OSError as error:
        host = wanted[-1]["host"]
        raise NotFound(
            f"{path} cannot be read ({error.strerror}); it was written on {host}"
        ) from None
    return DONE


def _filter(args: Namespace) -> Filter:
    return Filter(
        states=args.state or (),
        workflow=args.workflow or "",
        submitter=args.submitter or "",
        text=args.text or "",
        submitted_after=args.since,
        submitted_before=args.until,
    )


# Control --------------------------------------------------------------------

Action = Callable[[Store, int], None]


def control(args: Namespace, settings: Settings) -> int:
    """cancel, pause, resume, retry and priority, of one job or many."""
    actor = _actor()
    actions: dict[str, Action] = {
        "cancel": lambda store, job: jobs.cancel(store, job, actor),
        "pause": lambda store, job: jobs.pause(store, job, actor),
        "resume": lambda store, job: jobs.resume(store, job, actor),
        "retry": lambda store, job: jobs.retry(store, job, actor),
        "priority": lambda store, job: jobs.prioritise(store, job, args.to, actor),
    }
    wanted = _filter(args)
    filtered = wanted != records.EVERYTHING
    if bool(args.ids) == filtered:
        raise Invalid(f"give either ids or a filter such as --state failed to {args.command}")
    with _opened(settings) as database:
        if not filtered:
            return _each(database, args.command, actions[args.command], args.ids, args.dry_run)
        ids = _selected(database, args.command, wanted)
        if not _agreed(args, ids):
            return FAILED
        return _each(database, args.command, actions[args.command], ids, args.dry_run)


def _selected(database: Database, action: str, wanted: Filter) -> list[int]:
    """The jobs that match, of those that the action is possible for."""
    possible = states.JOB_ACTIONS[action]
    asked = set(wanted.states) & possible if wanted.states else possible
    if not asked:
        allowed = " or ".join(one for one in states.JOB_STATES if one in possible)
        raise Conflict(f"{action} is possible for jobs that are {allowed}")
    wanted = Filter(**{**wanted.__dict__, "states": asked})
    found: list[int] = []
    before: int | None = None
    while page := database.read(records.job_ids, wanted, limit=_PAGE, before=before):
        found += page
        before = page[-1]
    return found


def _agreed(args: Namespace, ids: Sequence[int]) -> bool:
    if not ids:
        _say("no job matches")
        return True
    named = ", ".join(map(str, ids[:_SHOWN])) + (" …" if len(ids) > _SHOWN else "")
    _say(f"{args.command}: jobs that match: {len(ids)} ({named})")
    if args.yes or args.dry_run:
        return True
    if not sys.stdin.isatty():
        raise Invalid("say --yes to do it, or --dry-run to see only")
    return input("go on? [y/N] ").strip().lower() in ("y", "yes")


def _each(database: Database, name: str, action: Action, ids: Sequence[int], dry_run: bool) -> int:
    """A transaction a job; one that cannot be changed does not keep the others."""
    failed = 0
    for job in ids:
        if dry_run:
            _say(f"would {name} job {job}")
            continue
        try:
            database.transact(action, job)
            _say(f"{name}: job {job}")
        except DatabaseUnavailable:
            raise
        except BackofficeError as error:
            failed += 1
            _complain(str(error))
    return FAILED if failed else DONE


def queue(args: Namespace, settings: Settings) -> int:
    actor = _actor()
    with _opened(settings) as database:
        if args.action == "pause":
            database.transact(jobs.pause_queue, args.name, actor)
        elif args.action == "resume":
            database.transact(jobs.resume_queue, args.name, actor)
        else:
            database.transact(jobs.limit_queue, args.name, args.to, actor)
    return DONE


def drain(args: Namespace, settings: Settings) -> int:
    with _opened(settings) as database:
        database.transact(jobs.drain, args.id, _actor())
    return DONE


def create_token(args: Namespace, settings: Settings) -> int:
    with _opened(settings) as database:
        token, secret = database.transact(
            tokens.create, args.name, args.role, _actor(), args.lifetime
        )
        (made,) = [one for one in database.read(records.tokens) if one["id"] == token]
    if args.json or args.xml:
        return _show(args, "token", made | {"secret": secret})
    _say(secret)
    _complain(f"this is token {token}; keep its secret now, it is not shown again")
    return DONE


def revoke_token(args: Namespace, settings: Settings) -> int:
    with _opened(settings) as database:
        database.transact(tokens.revoke, args.id, _actor())
    return DONE
