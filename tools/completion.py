"""Print what etc/bash-completion/backoffice must be: made from the parser itself.

PYTHONPATH=. .venv/bin/python tools/completion.py
"""

from __future__ import annotations

from argparse import ArgumentParser, _SubParsersAction

import shtab

from backoffice.cli import arguments

HOW = "# from the command line's own parser; to make it anew, type: make completion"


def main() -> None:
    parser = arguments.parser()
    _mark_files(parser)
    head, _, body = shtab.complete(parser, "bash").partition("\n\n")
    print(head.splitlines()[0], HOW, "", body.rstrip(), sep="\n")


def _mark_files(parser: ArgumentParser) -> None:
    """Where a file is wanted, offer files."""
    for action in parser._actions:
        if isinstance(action, _SubParsersAction):
            for command in set(action.choices.values()):
                _mark_files(command)
        elif action.metavar == "FILE":
            action.complete = shtab.FILE  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
