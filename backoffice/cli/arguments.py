"""The arguments of the command line.

Loads nothing that a command needs: ``--help`` must be quick.
"""

from __future__ import annotations

import re
from argparse import ArgumentParser, ArgumentTypeError, BooleanOptionalAction
from datetime import UTC, datetime, timedelta
from typing import Any

from backoffice import __version__, states, units
from backoffice.config import names

EPILOG = """exit status: 0 done, 1 it failed, 2 wrong use or settings, 3 cancelled,
4 the service or the database could not be reached"""


class _Command(ArgumentParser):
    """The arguments of one command, options and files in any order."""

    _intermixed = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self._intermixed or self._subparsers is not None:
            return super().parse_known_args(args, namespace)
        self._intermixed = True  # what follows calls this method
        try:
            return super().parse_known_intermixed_args(args, namespace)
        finally:
            self._intermixed = False


# Values ---------------------------------------------------------------------


def _duration(text: str) -> timedelta:
    try:
        return timedelta(seconds=units.parse_duration(text))
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is not {error}") from error


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


def parser() -> ArgumentParser:
    main = ArgumentParser(
        prog="backoffice", description="Transcode and publish video.", epilog=EPILOG
    )
    main.add_argument("--config", metavar="FILE", help="settings; see etc/backoffice.ini")
    main.add_argument(
        "--url", help="work over HTTP on the service there (default: $BACKOFFICE_URL)"
    )
    main.add_argument(
        "--token-file", metavar="FILE", help="holds the token for it (default: $BACKOFFICE_TOKEN)"
    )
    main.add_argument("--version", action="version", version=f"backoffice {__version__}")
    commands = main.add_subparsers(
        parser_class=_Command, dest="command", metavar="COMMAND", required=True
    )
    _add_installation(commands)
    _add_jobs(commands)
    _add_looking(commands)
    _add_control(commands)
    return main


def _add(commands: Any, name: str, function: str, help: str, **more: Any) -> ArgumentParser:
    """A command; ``function`` is a function of ``commands`` or ``installation``, or a process."""
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
    drain = _add(parts, "drain", "commands.drain", "let a worker finish what it runs, and stop")
    drain.add_argument("id", type=_number, metavar="ID", help="as 'backoffice workers' shows it")
    _add(commands, "scheduler", "scheduler", "run the scheduler in the foreground")
    migrate = _add(
        commands, "migrate", "installation.migrate", "bring the database's schema up to date"
    )
    migrate.add_argument("--check", action="store_true", help="only tell; exit 1 if it is not")
    check = _add(
        commands,
        "check",
        "installation.check",
        "see whether everything is there that the settings count on",
    )
    check.add_argument(
        "--settings",
        action="store_true",
        help="look at settings, workflows and profiles alone; exit 2 if they are wrong",
    )
    _add_alert(commands)
    prune = _add(commands, "prune", "installation.prune", "remove jobs that ended long ago")
    prune.add_argument(
        "--older-than", type=_duration, metavar="AGE", help="such as 30d; see [retention] jobs"
    )
    prune.add_argument("--dry-run", action="store_true", help="only count")
    _add_safety(commands)


def _add_safety(commands: Any) -> None:
    backup = _add(
        commands, "backup", "installation.backup", "write all that the database holds into one file"
    )
    backup.add_argument("file", metavar="FILE", help="a new one; see 'restore'")
    restore = _add(commands, "restore", "installation.restore", "make a backup the database again")
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
        commands,
        "reconcile",
        "installation.reconcile",
        "tell where the database and the disks differ",
    )
    reconcile.add_argument("--deep", action="store_true", help="compare checksums too")


def _add_alert(commands: Any) -> None:
    alert = _add(commands, "alert", "installation.test_alert", "try whether alerts reach people")
    actions = alert.add_subparsers(dest="action", metavar="ACTION", required=True)
    test = _add(
        actions, "test", "installation.test_alert", "send a test message, and say what happened"
    )
    test.add_argument("name", metavar="NAME", help="of an [alert NAME] in the settings")


def _add_jobs(commands: Any) -> None:
    submit = _add(commands, "submit", "commands.submit", "submit a job and print its id")
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
    clone = _add(commands, "clone", "commands.clone", "submit a job's request once more")
    clone.add_argument("id", type=_number, metavar="ID")
    _add_wait(clone)
    retract = _add(
        commands, "retract", "commands.retract", "submit a job that takes publications back"
    )
    retract.add_argument("ids", type=_number, nargs="+", metavar="PUBLICATION")
    _add_wait(retract)


def _add_pair(parser: ArgumentParser, name: str, help: str, metavar: str = "NAME=VALUE") -> None:
    parser.add_argument(name, type=_pair, action="append", default=[], metavar=metavar, help=help)


def _add_wait(parser: ArgumentParser) -> None:
    help = "show progress; exit 0 if it succeeded, 1 failed, 3 cancelled"
    parser.add_argument("--wait", action="store_true", help=help)


def _add_looking(commands: Any) -> None:
    jobs = _look(commands, "jobs", "commands.list_jobs", "list jobs, the newest first")
    _add_filter(jobs)
    _add_page(jobs)
    _add_id(_look(commands, "job", "commands.job", "show a job with its tasks and outputs"))
    tasks = _look(commands, "tasks", "commands.tasks", "list tasks")
    tasks.add_argument("--job", type=_number, metavar="ID")
    tasks.add_argument("--state", choices=states.TASK_STATES)
    _add_page(tasks)
    _add_id(_look(commands, "task", "commands.task", "show a task"))
    _add_id(
        _look(
            commands, "attempts", "commands.attempts", "show a task's attempts and their commands"
        )
    )
    log = _add(commands, "log", "commands.log", "print the log of a task's last attempt")
    _add_id(log)
    log.add_argument("--attempt", type=_number, metavar="N", help="of another one")
    files = _look(commands, "files", "commands.list_files", "list files, the newest first")
    files.add_argument("--job", type=_number, metavar="ID", help="only what this job made")
    _add_page(files)
    _add_id(_look(commands, "file", "commands.file", "show a file and what is known of it"))
    publications = _look(
        commands, "publications", "commands.publications", "list what was published"
    )
    publications.add_argument("--job", type=_number, metavar="ID")
    publications.add_argument("--state", choices=states.PUBLICATION_STATES)
    _add_page(publications)
    workers = _look(commands, "workers", "commands.workers", "list workers")
    workers.add_argument("--all", action="store_true", help="also those stopped and lost")
    _look(commands, "queues", "commands.queues", "list queues")
    _look(commands, "schedules", "commands.schedules", "list schedules")
    events = _look(commands, "events", "commands.events", "show the history, the newest last")
    events.add_argument("--after", type=_number, metavar="EVENT", help="what came after this one")
    events.add_argument("--job", type=_number, metavar="ID")
    events.add_argument("--limit", type=_number, default=50, metavar="N")
    why = _look(
        commands, "why", "commands.reasons", "say why a job is not running, or not yet done"
    )
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
        parser = _add(commands, name, "commands.control", help)
        parser.add_argument("ids", type=_number, nargs="*", metavar="ID")
        if name == "priority":
            parser.add_argument(
                "--to", type=_number, required=True, metavar="N", help="0 is first, 100 last"
            )
        _add_filter(parser)
        parser.add_argument("--yes", action="store_true", help="do not ask")
        parser.add_argument("--dry-run", action="store_true", help="only say which")
    queue = _add(commands, "queue", "commands.queue", "pause, resume or limit a queue")
    actions = queue.add_subparsers(dest="action", metavar="ACTION", required=True)
    pause = _add(actions, "pause", "commands.queue", "take no more tasks from a queue")
    resume = _add(actions, "resume", "commands.queue", "take tasks from a queue again")
    limit = _add(
        actions, "limit", "commands.queue", "let only so many of a queue's tasks run at once"
    )
    for parser in (pause, resume, limit):
        parser.add_argument("name", metavar="NAME")
    limit.add_argument("to", type=_limit, metavar="N", help="a number, or none")
    _add_tokens(commands)


def _add_tokens(commands: Any) -> None:
    token = _add(commands, "token", "tokens", "make, list and revoke API tokens")
    actions = token.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = _look(
        actions,
        "create",
        "installation.create_token",
        "make a token; its secret is shown this once",
    )
    create.add_argument("name", metavar="NAME", help="what it is for")
    create.add_argument("--role", choices=names.ROLES, required=True)
    create.add_argument(
        "--lifetime", type=_duration, metavar="TIME", help="such as 90d; else no end"
    )
    _look(actions, "list", "installation.list_tokens", "list tokens, the newest first")
    _add_id(_add(actions, "revoke", "installation.revoke_token", "make a token worthless"))
