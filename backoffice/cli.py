"""The command line: its arguments, and what becomes of errors.

Kept light, so that ``--help`` is quick: what the commands do is in
``commands``, which is loaded once there is something to do.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import traceback
from argparse import ArgumentParser, ArgumentTypeError, BooleanOptionalAction, Namespace
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from backoffice import __version__, config, states
from backoffice.config import Settings
from backoffice.errors import (
    BackofficeError,
    ConfigError,
    DatabaseUnavailable,
    DefinitionError,
    Invalid,
    SchemaMismatch,
    ServiceUnreachable,
)
from backoffice.privacy import masked
from backoffice.protection import protect_process

FAILED, WRONG, AWAY, INTERRUPTED = 1, 2, 4, 130
PROCESSES = {
    "serve": "service",
    "worker": "worker",
    "scheduler": "scheduler",
    "web": "web.server.process",
}

EPILOG = """exit status: 0 done, 1 it failed, 2 wrong use or settings, 3 cancelled,
4 the service or the database could not be reached"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    protect_process()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # names may hold what the terminal cannot
            stream.reconfigure(errors="backslashreplace")
    args = _parser().parse_args(argv)
    try:
        address = config.service(args.url, args.token_file, os.environ)
        if address is not None:
            status = _run_remote(args, address)
        else:
            status = _run(args, config.load(args.config, os.environ))
        sys.stdout.flush()
        return status
    except BackofficeError as error:
        return _explain(error)
    except BrokenPipeError:
        # Whoever read the output has seen enough; nor may the exit complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        return _report(error)


def _run(args: Namespace, settings: Settings) -> int:
    if args.function in PROCESSES:
        return _run_process(args.function, settings)
    commands = importlib.import_module("backoffice.commands")
    status: int = getattr(commands, args.function)(args, settings)
    return status


def _run_remote(args: Namespace, address: config.Address) -> int:
    """Over HTTP; the settings are those of the service, and none are read here."""
    from backoffice import remote
    from backoffice.client import Client

    function = getattr(remote, args.function, None)
    if function is None:
        words = " ".join(filter(None, (args.command, getattr(args, "action", ""))))
        raise Invalid(f"'{words}' is not for a service elsewhere; run it there, without --url")
    with Client(address.url, address.token) as service:
        status: int = function(args, service)
        return status


def _run_process(name: str, settings: Settings) -> int:
    """Without what other commands need: a worker should be small."""
    import logging

    from backoffice import logs
    from backoffice.sdnotify import Notifier

    parent = Notifier(os.environ.get("NOTIFY_SOCKET", ""))
    logs.setup(settings.log)
    log = logging.getLogger("backoffice.process")
    module = importlib.import_module(f"backoffice.{PROCESSES[name]}")
    try:
        status: int = module.main(settings)
        return status
    except BackofficeError as error:
        parent(STATUS=error)
        if settings.log.to != "stderr":  # nobody may be reading that
            log.error(logs.line("process.failed", process=name, reason=error))
        raise
    except Exception:
        log.exception(logs.line("process.crashed", process=name))
        raise


def _explain(error: BackofficeError) -> int:
    text = masked(str(error))
    if not text.isprintable():
        text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    print(f"backoffice: {text}", file=sys.stderr)
    if isinstance(error, ConfigError | Invalid | DefinitionError):
        return WRONG
    away = isinstance(error, DatabaseUnavailable | SchemaMismatch | ServiceUnreachable)
    return AWAY if away else FAILED


def _report(error: Exception) -> int:
    """A fault of the program's own: a sentence, with the place for who mends it."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{os.path.basename(frame.filename)}:{frame.lineno}"
    text = ascii(masked(f"{type(error).__name__} at {place}: {error}"))
    print(f"backoffice: a fault of the program, please report it: {text}", file=sys.stderr)
    return FAILED


# Values ---------------------------------------------------------------------

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def _duration(text: str) -> timedelta:
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]+)?)([smhd]?)", text)
    if not match:
        raise ArgumentTypeError(f"{text!r} is no length of time such as 30s, 10m, 2h or 30d")
    return timedelta(seconds=float(match[1]) * _SECONDS[match[2]])


def _moment(text: str) -> datetime:
    """A moment in UTC, or a length of time before now."""
    if re.fullmatch(r"[0-9.]+[smhd]", text):
        return datetime.now(UTC).replace(tzinfo=None) - _duration(text)
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        message = f"{text!r} is neither a time such as 2026-11-21T10:00Z nor an age such as 2h"
        raise ArgumentTypeError(message) from error
    return found.astimezone(UTC).replace(tzinfo=None) if found.tzinfo else found


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise ArgumentTypeError(f"{text!r} is no whole number")
    return int(text)


def _limit(text: str) -> int | None:
    return None if text == "none" else _number(text)


# Arguments ------------------------------------------------------------------


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="backoffice", description="Transcode and publish video.", epilog=EPILOG
    )
    parser.add_argument("--config", metavar="FILE", help="settings; see etc/backoffice.ini")
    parser.add_argument(
        "--url", help="work over HTTP on the service there (default: $BACKOFFICE_URL)"
    )
    parser.add_argument(
        "--token-file", metavar="FILE", help="holds the token for it (default: $BACKOFFICE_TOKEN)"
    )
    parser.add_argument("--version", action="version", version=f"backoffice {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_installation(commands)
    _add_jobs(commands)
    _add_looking(commands)
    _add_control(commands)
    return parser


def _add(commands: Any, name: str, function: str, help: str, **more: Any) -> ArgumentParser:
    """A command; ``function`` is its name in ``commands``, or a process."""
    parser: ArgumentParser = commands.add_parser(
        name, help=help, description=f"{help[0].upper()}{help[1:]}.", **more
    )
    parser.set_defaults(function=function)
    return parser


def _add_installation(commands: Any) -> None:
    _add(commands, "serve", "serve", "run the whole service in the foreground")
    _add(commands, "web", "web", "run the web server in the foreground")
    worker = _add(commands, "worker", "worker", "run a worker in the foreground, or drain one")
    parts = worker.add_subparsers(dest="action", metavar="drain")
    drain = _add(parts, "drain", "drain", "let a worker finish what it runs, and stop")
    drain.add_argument("id", type=_number, metavar="ID", help="as 'backoffice workers' shows it")
    _add(commands, "scheduler", "scheduler", "run the scheduler in the foreground")
    migrate = _add(commands, "migrate", "migrate", "bring the database's schema up to date")
    migrate.add_argument("--check", action="store_true", help="only tell; exit 1 if it is not")
    check = _add(
        commands, "check", "check", "see whether everything is there that the settings count on"
    )
    check.add_argument(
        "--settings",
        action="store_true",
        help="look at settings, workflows and profiles alone; exit 2 if they are wrong",
    )
    _add_alert(commands)
    prune = _add(commands, "prune", "prune", "remove jobs that ended long ago")
    prune.add_argument(
        "--older-than", type=_duration, metavar="AGE", help="such as 30d; see [retention] jobs"
    )
    prune.add_argument("--dry-run", action="store_true", help="only count")
    _add_safety(commands)


def _add_safety(commands: Any) -> None:
    backup = _add(commands, "backup", "backup", "write all that the database holds into one file")
    backup.add_argument("file", metavar="FILE", help="a new one; see 'restore'")
    restore = _add(commands, "restore", "restore", "make a backup the database again")
    restore.add_argument("file", metavar="FILE", help="as 'backup' wrote it, on any database")
    restore.add_argument("--replace", action="store_true", help="drop what the database holds now")
    restore.add_argument("--yes", action="store_true", help="do not ask")
    restore.add_argument(
        "--hold",
        action=BooleanOptionalAction,
        default=True,
        help="pause unfinished jobs, so that somebody can look first (default: --hold)",
    )
    reconcile = _look(
        commands, "reconcile", "reconcile", "tell where the database and the disks differ"
    )
    reconcile.add_argument("--deep", action="store_true", help="compare checksums too")


def _add_alert(commands: Any) -> None:
    alert = _add(commands, "alert", "test_alert", "try whether alerts reach people")
    actions = alert.add_subparsers(dest="action", metavar="ACTION", required=True)
    test = _add(actions, "test", "test_alert", "send a test message, and say what happened")
    test.add_argument("name", metavar="NAME", help="of an [alert NAME] in the settings")


def _add_jobs(commands: Any) -> None:
    submit = _add(commands, "submit", "submit", "submit a job and print its id")
    submit.add_argument("workflow", metavar="WORKFLOW")
    submit.add_argument("files", nargs="*", metavar="FILE", help="input; after -- if it begins so")
    _add_pair(submit, "--param", "a parameter of the workflow")
    _add_pair(submit, "--meta", "metadata")
    _add_pair(submit, "--input", "a file of another role than the first", "ROLE=FILE")
    submit.add_argument(
        "--priority", type=_number, default=50, metavar="N", help="0 is first, 100 last"
    )
    submit.add_argument(
        "--key", default="", help="submitting the same key again gives the same job"
    )
    submit.add_argument("--title", default="")
    submit.add_argument(
        "--delay", type=_duration, default=timedelta(), metavar="TIME", help="such as 10m"
    )
    _add_wait(submit)
    submit.add_argument("--dry-run", action="store_true", help="show what it would do, do nothing")
    clone = _add(commands, "clone", "clone", "submit a job's request once more")
    clone.add_argument("id", type=_number, metavar="ID")
    _add_wait(clone)
    retract = _add(commands, "retract", "retract", "submit a job that takes publications back")
    retract.add_argument("ids", type=_number, nargs="+", metavar="PUBLICATION")
    _add_wait(retract)


def _add_pair(parser: ArgumentParser, name: str, help: str, metavar: str = "NAME=VALUE") -> None:
    parser.add_argument(name, type=_pair, action="append", default=[], metavar=metavar, help=help)


def _add_wait(parser: ArgumentParser) -> None:
    help = "show progress; exit 0 if it succeeded, 1 failed, 3 cancelled"
    parser.add_argument("--wait", action="store_true", help=help)


def _add_looking(commands: Any) -> None:
    jobs = _look(commands, "jobs", "list_jobs", "list jobs, the newest first")
    _add_filter(jobs)
    _add_page(jobs)
    _add_id(_look(commands, "job", "job", "show a job with its tasks and outputs"))
    tasks = _look(commands, "tasks", "tasks", "list tasks")
    tasks.add_argument("--job", type=_number, metavar="ID")
    tasks.add_argument("--state", choices=states.TASK_STATES)
    _add_page(tasks)
    _add_id(_look(commands, "task", "task", "show a task"))
    _add_id(_look(commands, "attempts", "attempts", "show a task's attempts and their commands"))
    log = _add(commands, "log", "log", "print the log of a task's last attempt")
    _add_id(log)
    log.add_argument("--attempt", type=_number, metavar="N", help="of another one")
    files = _look(commands, "files", "list_files", "list files, the newest first")
    files.add_argument("--job", type=_number, metavar="ID", help="only what this job made")
    _add_page(files)
    _add_id(_look(commands, "file", "file", "show a file and what is known of it"))
    publications = _look(commands, "publications", "publications", "list what was published")
    publications.add_argument("--job", type=_number, metavar="ID")
    publications.add_argument("--state", choices=states.PUBLICATION_STATES)
    _add_page(publications)
    workers = _look(commands, "workers", "workers", "list workers")
    workers.add_argument("--all", action="store_true", help="also those stopped and lost")
    _look(commands, "queues", "queues", "list queues")
    _look(commands, "schedules", "schedules", "list schedules")
    events = _look(commands, "events", "events", "show the history, the newest last")
    events.add_argument("--after", type=_number, metavar="EVENT", help="what came after this one")
    events.add_argument("--job", type=_number, metavar="ID")
    events.add_argument("--limit", type=_number, default=50, metavar="N")
    why = _look(commands, "why", "reasons", "say why a job is not running, or not yet done")
    _add_id(why)
    why.add_argument("--task", action="store_true", help="ID is a task's")


def _look(commands: Any, name: str, function: str, help: str) -> ArgumentParser:
    parser = _add(commands, name, function, help)
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument("--json", action="store_true", help="for scripts")
    forms.add_argument("--xml", action="store_true", help="for scripts")
    return parser


def _add_id(parser: ArgumentParser) -> None:
    parser.add_argument("id", type=_number, metavar="ID")


def _add_page(parser: ArgumentParser) -> None:
    parser.add_argument("--limit", type=_number, default=50, metavar="N", help="(default: 50)")
    parser.add_argument("--before", type=_number, metavar="ID", help="go on with ids below this")


def _add_filter(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--state", action="append", choices=states.JOB_STATES, help="may stand more than once"
    )
    parser.add_argument("--workflow", metavar="NAME")
    parser.add_argument("--submitter", metavar="NAME")
    parser.add_argument("--text", help="words of titles, file names and metadata, or the key")
    parser.add_argument(
        "--since", type=_moment, metavar="TIME", help="submitted after it, or 2h ago"
    )
    parser.add_argument("--until", type=_moment, metavar="TIME", help="submitted until")


def _add_control(commands: Any) -> None:
    for name, help in (
        ("cancel", "cancel jobs; what runs is stopped"),
        ("pause", "pause jobs; what runs is finished"),
        ("resume", "let paused jobs go on"),
        ("retry", "run failed or cancelled jobs on from where they broke"),
        ("priority", "change the priority of jobs"),
    ):
        parser = _add(commands, name, "control", help)
        parser.add_argument("ids", type=_number, nargs="*", metavar="ID")
        if name == "priority":
            parser.add_argument(
                "--to", type=_number, required=True, metavar="N", help="0 is first, 100 last"
            )
        _add_filter(parser)
        parser.add_argument("--yes", action="store_true", help="do not ask")
        parser.add_argument("--dry-run", action="store_true", help="only say which")
    queue = _add(commands, "queue", "queue", "pause, resume or limit a queue")
    actions = queue.add_subparsers(dest="action", metavar="ACTION", required=True)
    pause = _add(actions, "pause", "queue", "take no more tasks from a queue")
    resume = _add(actions, "resume", "queue", "take tasks from a queue again")
    limit = _add(actions, "limit", "queue", "let only so many of a queue's tasks run at once")
    for parser in (pause, resume, limit):
        parser.add_argument("name", metavar="NAME")
    limit.add_argument("to", type=_limit, metavar="N", help="a number, or none")
    _add_tokens(commands)


def _add_tokens(commands: Any) -> None:
    token = _add(commands, "token", "tokens", "make, list and revoke API tokens")
    actions = token.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = _look(actions, "create", "create_token", "make a token; its secret is shown this once")
    create.add_argument("name", metavar="NAME", help="what it is for")
    create.add_argument("--role", choices=config.ROLES, required=True)
    create.add_argument(
        "--lifetime", type=_duration, metavar="TIME", help="such as 90d; else no end"
    )
    _look(actions, "list", "list_tokens", "list tokens, the newest first")
    _add_id(_add(actions, "revoke", "revoke_token", "make a token worthless"))
