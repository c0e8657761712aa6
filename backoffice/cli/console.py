"""What commands say, ask and return, whether they work on the database or over HTTP."""

from __future__ import annotations

import shutil
import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from backoffice import states
from backoffice.cli import terminal
from backoffice.documents import writing
from backoffice.errors import Conflict, Invalid

DONE, FAILED, WRONG, CANCELLED, INTERRUPTED = 0, 1, 2, 3, 130
_STATUS = {states.SUCCEEDED: DONE, states.FAILED: FAILED, states.CANCELLED: CANCELLED}
NAMED = 10  # jobs named before an action on many


def say(*lines: str) -> None:
    for line in lines:
        print(line)


def complain(text: str) -> None:
    print(f"backoffice: {terminal.clean(text)}", file=sys.stderr)


def show(args: Namespace, kind: str, record: Any) -> int:
    """A record, or a list of them, in the form that was asked for."""
    if args.xml:
        say(writing.to_xml(kind, record).decode())
    elif args.json:
        say(writing.to_json(kind, record))
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        say(*terminal.show(kind, record, width))
    return DONE


def show_log(lines: Iterable[str]) -> int:
    for line in lines:
        say(terminal.clean(line.rstrip("\n")))
    return DONE


def show_submitted(job: int, new: bool) -> None:
    say(str(job))
    if not new:
        complain(f"job {job} was submitted with this key before; it is the same")


def wait(job: int, follow: Callable[[], str]) -> int:
    """``follow`` shows the job until it has ended, and gives its final state."""
    try:
        return _STATUS[follow()]
    except KeyboardInterrupt:
        complain(f"job {job} goes on; see 'backoffice job {job}', end it with 'backoffice cancel'")
        return INTERRUPTED


def require_ids_or_filter(args: Namespace, filtered: bool) -> None:
    if bool(args.ids) == filtered:
        raise Invalid(f"give either ids or a filter such as --state failed to {args.command}")


def possible_states(action: str, asked: Iterable[str]) -> list[str]:
    """The states of ``asked``, none for all, in which the action is possible."""
    possible = [one for one in states.JOB_STATES if one in states.JOB_ACTIONS[action]]
    wanted = [one for one in possible if one in asked] if asked else possible
    if not wanted:
        raise Conflict(f"{action} is possible for jobs that are {' or '.join(possible)}")
    return wanted


def agreed(args: Namespace, count: str, first: Sequence[int]) -> bool:
    """Whether to act on so many jobs, of which ``first`` are some."""
    if not first:
        say("no job matches")
        return True
    named = ", ".join(map(str, first[:NAMED])) + (" …" if len(first) > NAMED else "")
    say(f"{args.command}: jobs that match: {count} ({named})")
    return args.yes or args.dry_run or confirmed("say --yes to do it, or --dry-run to see only")


def confirmed(otherwise: str = "say --yes to do it") -> bool:
    """Ask; Invalid with ``otherwise`` when there is nobody to ask."""
    if not sys.stdin.isatty():
        raise Invalid(otherwise)
    return input("go on? [y/N] ").strip().lower() in ("y", "yes")
