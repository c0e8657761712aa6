"""Commands on the installation itself: schema, checks, backups, retention, tokens.

Every function takes the parsed arguments and the settings and returns the exit
status. They work where the service is, never over HTTP.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from backoffice import units
from backoffice.cli import console, terminal
from backoffice.cli.console import DONE, FAILED, complain, say, show
from backoffice.cli.database_backend import actor, opened
from backoffice.config.settings import Settings
from backoffice.data import migrations, tokens
from backoffice.data.database import Database
from backoffice.documents import writing
from backoffice.engine import catalogue
from backoffice.errors import Conflict, NotFound
from backoffice.operations import backup as backups
from backoffice.operations import check as checks
from backoffice.operations import reconcile as reconciliation
from backoffice.operations import restore as restoring
from backoffice.operations.disk_contents import Difference
from backoffice.reports import records
from backoffice.scheduler import retention

_PAGE = 1000  # jobs selected at a time
_MANY = 100_000  # rows that take some seconds to restore


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
    with opened(settings) as database:
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
        held = restoring.finish(database, settings, archive, hold=args.hold, actor=actor())
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
    with opened(settings) as database:
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
        return writing.stream_xml
    return writing.stream_json if getattr(args, "json", False) else None


_KINDS: Sequence[terminal.Column] = [
    ("KIND", lambda r: r["kind"]),
    ("COUNT", lambda r: r["count"]),
    ("SIZE", lambda r: _size(r["size"])),
]


def _size(number: int | None) -> str:
    return "" if number is None else units.size(number)


def _difference(one: Difference) -> str:
    known = ", ".join(filter(None, (one.subject, _size(one.size))))
    about = f" ({known})" if known else ""
    return terminal.clean(f"{one.kind} {one.path}{about}{f': {one.message}' * bool(one.message)}")


# Tokens ---------------------------------------------------------------------


def create_token(args: Namespace, settings: Settings) -> int:
    with opened(settings) as database:
        token, secret = database.transact(
            tokens.create, args.name, args.role, actor(), args.lifetime
        )
        (made,) = [one for one in database.read(records.tokens) if one["id"] == token]
    if args.json or args.xml:
        return show(args, "token", made | {"secret": secret})
    say(secret)
    complain(f"this is token {token}; keep its secret now, it is not shown again")
    return DONE


def revoke_token(args: Namespace, settings: Settings) -> int:
    with opened(settings) as database:
        database.transact(tokens.revoke, args.id, actor())
    return DONE


def list_tokens(args: Namespace, settings: Settings) -> int:
    with opened(settings) as database:
        return show(args, "tokens", database.read(records.tokens))
