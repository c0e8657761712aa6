"""What each command of the command line does; ``cli`` has their arguments.

Every function takes the parsed arguments and the settings and returns the exit
status. Loaded only once it is known that there is something to do.
"""

from __future__ import annotations

import os
import pwd
import shlex
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from storm.locals import Store

from backoffice import states
from backoffice.cli import console, progress, terminal
from backoffice.cli.console import DONE, FAILED, complain, say, show
from backoffice.config.loading import Settings
from backoffice.data import migrations, search, tokens
from backoffice.data.database import Database
from backoffice.data.search import Filter
from backoffice.engine import catalogue, jobs, queue_control, submission, worker_registry
from backoffice.engine import dry_run as dry
from backoffice.engine.catalogue import Catalogue
from backoffice.errors import BackofficeError, Conflict, DatabaseUnavailable, NotFound
from backoffice.operations import backup as backups
from backoffice.operations import check as checks
from backoffice.operations import reconcile as reconciliation
from backoffice.operations import restore as restoring
from backoffice.operations.disk_contents import Difference
from backoffice.reports import queue_depths, records, why
from backoffice.scheduler import retention
from backoffice.system import units
from backoffice.web import documents

_PAGE = 1000  # jobs selected at a time
_MANY = 100_000  # rows that take some seconds to restore


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
    say(f"{f'{steps} applied' if count else 'nothing to do'}: the schema is at version {version}")
    return DONE


def _check_schema(database: Database) -> int:
    todo = migrations.pending(database)
    if not todo:
        say("the schema is current")
        return DONE
    missing = "1 step is" if len(todo) == 1 else f"{len(todo)} steps are"
    say(f"{missing} missing, from version {todo[0].version}: run 'backoffice migrate'")
    return FAILED


def check(args: Namespace, settings: Settings) -> int:
    if args.settings:
        catalogue.load(settings)
        say(f"ok   {settings.source}, workflows and profiles")
        return DONE
    found = checks.run(settings)
    room = max(len(line.what) for line in found)
    for line in found:
        mark = "ok  " if line.ok else "FAIL"
        say(f"{mark} {line.what:<{room}}  {terminal.clean(line.text)}")
    return DONE if all(line.ok for line in found) else FAILED


def test_alert(args: Namespace, settings: Settings) -> int:
    from backoffice.scheduler import alert_channels, notices  # for this alone

    if args.name not in settings.alerts:
        there = ", ".join(settings.alerts) or "none"
        raise NotFound(f"there is no alert {args.name}; there are {there}")
    alert = settings.alerts[args.name]
    notice = notices.trial_notice(alert, settings.web.url, datetime.now(UTC))
    sent = alert_channels.send(alert, notice, settings.notify)
    said = f" ({terminal.clean(sent.said)})" if sent.said else ""
    told = f"sent to {alert_channels.receiver(alert)}: {terminal.clean(sent.text)}{said}"
    if not sent.ok:
        complain(f"not {told}")
        return FAILED
    say(told)
    return DONE


def prune(args: Namespace, settings: Settings) -> int:
    older = settings.retention.jobs if args.older_than is None else args.older_than
    with _opened(settings) as database:
        counts = retention.prune(database, settings, older, dry_run=args.dry_run)
    if args.dry_run:
        say(f"jobs that would be removed: {counts['jobs']}")
    else:
        parts = [f"{kind} {count}" for kind, count in sorted(counts.items())]
        say(f"removed: {', '.join(parts) or 'nothing'}")
    return DONE


# Backups --------------------------------------------------------------------


def backup(args: Namespace, settings: Settings) -> int:
    path = Path(args.file)
    with restoring.patient(settings) as database:
        manifest = backups.write(database, settings, path)
    say(f"{path}: {_counted(manifest.rows)}; {units.size(path.stat().st_size)}")
    complain("the settings, the logs and the media themselves are not in it")
    return DONE


def restore(args: Namespace, settings: Settings) -> int:
    with (
        restoring.alone(settings),
        backups.opened(Path(args.file)) as archive,
        restoring.patient(settings) as database,
    ):
        there = restoring.contents(database, archive)
        if there and not _may_replace(args, there):
            return FAILED
        restoring.load(database, archive, _patience)
        held = restoring.finish(database, settings, archive, hold=args.hold, actor=_actor())
        say(f"restored, as of {archive.manifest.made}: {_counted(archive.manifest.rows)}")
        say(*(terminal.clean(line) for line in restoring.recipes(archive, settings)))
        if held:
            say(
                f"paused, so that you can look first: {len(held)} unfinished jobs; they go on with"
                " 'backoffice resume --state paused'"
            )
        _show_differences(args, reconciliation.differences(database, settings))
    return DONE


def _patience(table: str, rows: int) -> None:
    if rows >= _MANY:
        complain(f"table {table}: {rows} rows; this takes a while")


def _counted(rows: Mapping[str, int]) -> str:
    return ", ".join(f"{name}s {rows.get(name, 0)}" for name in ("job", "file", "publication"))


def _may_replace(args: Namespace, there: Mapping[str, int]) -> bool:
    if not args.replace:
        raise Conflict(
            f"the database is not empty ({_counted(there)}): make a backup of it, then say"
            " --replace; or name another one in [database] uri"
        )
    if args.yes:
        return True
    say(f"this drops what the database holds now: {_counted(there)}")
    return console.confirmed()


def reconcile(args: Namespace, settings: Settings) -> int:
    with _opened(settings) as database:
        found = reconciliation.differences(database, settings, deep=args.deep)
        return _show_differences(args, found)


def _show_differences(args: Namespace, found: Iterable[Difference]) -> int:
    """As they come: there may be a million."""
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()

    def counted() -> Iterator[Difference]:
        for one in found:
            counts[one.kind] += 1
            sizes[one.kind] += one.size or 0
            yield one

    if form := _streamed(args):
        for piece in form("differences", reconciliation.pages(counted())):
            sys.stdout.write(piece.decode())
        say("")
        return FAILED if counts else DONE
    for one in counted():
        say(_difference(one))
    rows = [{"kind": kind, "count": counts[kind], "size": sizes[kind]} for kind in counts]
    say(*terminal.table(_KINDS, rows, None) or ["the database and the disks agree"])
    return FAILED if counts else DONE


def _streamed(args: Namespace) -> Callable[..., Iterator[bytes]] | None:
    if getattr(args, "xml", False):
        return documents.stream_xml
    return documents.stream_json if getattr(args, "json", False) else None


_KINDS: Sequence[terminal.Column] = [
    ("KIND", lambda r: r["kind"]),
    ("COUNT", lambda r: r["count"]),
    ("SIZE", lambda r: units.size(r["size"])),
]


def _difference(one: Difference) -> str:
    known = ", ".join(filter(None, (one.subject, units.size(one.size))))
    about = f" ({known})" if known else ""
    return terminal.clean(f"{one.kind} {one.path}{about}{f': {one.message}' * bool(one.message)}")


# Jobs -----------------------------------------------------------------------


def submit(args: Namespace, settings: Settings) -> int:
    known = catalogue.load(settings)
    request = submission.JobRequest(
        workflow=args.workflow,
        inputs=_inputs(args, known),
        title=args.title,
        key=args.key,
        priority=args.priority,
        parameters=dict(args.param),
        metadata=dict(args.meta),
        delay=args.delay.total_seconds(),
    )
    prepared = known.prepare(request, settings)
    if args.dry_run:
        return _show_plan(dry.plan(prepared, settings))
    with _opened(settings) as database:
        job, new = database.transact(submission.submit, prepared, _actor())
        console.show_submitted(job, new)
        return _wait(database, job) if args.wait else DONE


def clone(args: Namespace, settings: Settings) -> int:
    known = catalogue.load(settings)
    with _opened(settings) as database:
        request = database.read(submission.request_of, args.id)
        prepared = known.prepare(request, settings)
        job, _ = database.transact(submission.submit, prepared, _actor())
        say(str(job))
        return _wait(database, job) if args.wait else DONE


def retract(args: Namespace, settings: Settings) -> int:
    """A job like any other: workers may be the only ones to reach a target."""
    known = catalogue.load(settings)
    request = submission.JobRequest(
        workflow="retract",
        title=f"Retract publication {' '.join(map(str, args.ids))}",
        parameters={"publication": " ".join(map(str, args.ids))},
    )
    prepared = known.prepare(request, settings)
    with _opened(settings) as database:
        job, _ = database.transact(submission.submit, prepared, _actor())
        say(str(job))
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
    return console.wait(job, lambda: progress.job(database, job, sys.stderr))


def _show_plan(tasks: Sequence[dry.DryTask]) -> int:
    for task in tasks:
        say(f"{task.name} ({task.type})" + _remark(task))
        for argv in task.commands:
            say(f"  $ {terminal.clean(shlex.join(argv))}")
        for output in task.outputs:
            say(f"  makes {terminal.clean(str(output))}")
        for note in task.notes:
            say(f"  {terminal.clean(note)}")
    return FAILED if any(task.fails for task in tasks) else DONE


def _remark(task: dry.DryTask) -> str:
    if task.skipped_because is not None:
        return f": skipped, because {terminal.clean(task.skipped_because)}"
    return f": would fail: {terminal.clean(task.fails)}" if task.fails else ""


# Looking --------------------------------------------------------------------


def _look(
    kind: str, ask: Callable[[Store, Namespace], Any]
) -> Callable[[Namespace, Settings], int]:
    """A command that shows what ``ask`` finds."""

    def command(args: Namespace, settings: Settings) -> int:
        with _opened(settings) as database:
            found = database.read(ask, args)
        return show(args, kind, found)

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
queues = _look("queues", lambda store, args: queue_depths.queues(store))
events = _look(
    "events",
    lambda store, args: records.events(store, after=args.after, limit=args.limit, job=args.job),
)
schedules = _look("schedules", lambda store, args: records.schedules(store))
list_tokens = _look("tokens", lambda store, args: records.tokens(store))


def reasons(args: Namespace, settings: Settings) -> int:
    noun, ask = ("task", why.task) if args.task else ("job", why.job)
    with _opened(settings) as database:
        found = {"subject": f"{noun} {args.id}", "reasons": database.read(ask, args.id)}
    return show(args, "why", found)


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
            return console.show_log(lines)
    except OSError as error:
        host = wanted[-1]["host"]
        raise NotFound(
            f"{path} cannot be read ({error.strerror}); it was written on {host}"
        ) from None


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
    filtered = wanted != search.EVERYTHING
    console.require_ids_or_filter(args, filtered)
    with _opened(settings) as database:
        if not filtered:
            return _each(database, args.command, actions[args.command], args.ids, args.dry_run)
        ids = _selected(database, args.command, wanted)
        if not console.agreed(args, str(len(ids)), ids):
            return FAILED
        return _each(database, args.command, actions[args.command], ids, args.dry_run)


def _selected(database: Database, action: str, wanted: Filter) -> list[int]:
    """The jobs that match, of those that the action is possible for."""
    wanted = replace(wanted, states=console.possible_states(action, wanted.states))
    found: list[int] = []
    before: int | None = None
    while page := database.read(search.ids, wanted, limit=_PAGE, before=before):
        found += page
        before = page[-1]
    return found


def _each(database: Database, name: str, action: Action, ids: Sequence[int], dry_run: bool) -> int:
    """A transaction a job; one that cannot be changed does not keep the others."""
    failed = 0
    for job in ids:
        if dry_run:
            say(f"would {name} job {job}")
            continue
        try:
            database.transact(action, job)
            say(f"{name}: job {job}")
        except DatabaseUnavailable:
            raise
        except BackofficeError as error:
            failed += 1
            complain(str(error))
    return FAILED if failed else DONE


def queue(args: Namespace, settings: Settings) -> int:
    actor = _actor()
    with _opened(settings) as database:
        if args.action == "pause":
            database.transact(queue_control.pause, args.name, actor)
        elif args.action == "resume":
            database.transact(queue_control.resume, args.name, actor)
        else:
            database.transact(queue_control.limit, args.name, args.to, actor)
    return DONE


def drain(args: Namespace, settings: Settings) -> int:
    with _opened(settings) as database:
        database.transact(worker_registry.drain, args.id, _actor())
    return DONE


def create_token(args: Namespace, settings: Settings) -> int:
    with _opened(settings) as database:
        token, secret = database.transact(
            tokens.create, args.name, args.role, _actor(), args.lifetime
        )
        (made,) = [one for one in database.read(records.tokens) if one["id"] == token]
    if args.json or args.xml:
        return show(args, "token", made | {"secret": secret})
    say(secret)
    complain(f"this is token {token}; keep its secret now, it is not shown again")
    return DONE


def revoke_token(args: Namespace, settings: Settings) -> int:
    with _opened(settings) as database:
        database.transact(tokens.revoke, args.id, _actor())
    return DONE
