"""The manual and the completion know the whole command line."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from argparse import ArgumentParser, _SubParsersAction
from collections.abc import Iterator
from pathlib import Path

import pytest

from backoffice.cli.arguments import parser

ROOT = Path(__file__).resolve().parent.parent
MANUAL = ROOT / "docs" / "backoffice.1"
COMPLETION = ROOT / "etc" / "bash-completion" / "backoffice"


def commands(parser: ArgumentParser, words: str = "") -> Iterator[tuple[str, ArgumentParser]]:
    """Each command with the options it has itself, by its words."""
    children = [action for action in parser._actions if isinstance(action, _SubParsersAction)]
    for name, child in (pair for action in children for pair in action.choices.items()):
        yield from commands(child, f"{words} {name}".strip())
    if words and not any(action.required for action in children):
        yield words, parser


COMMANDS = dict(commands(parser()))


def options(parser: ArgumentParser) -> set[str]:
    return {name for action in parser._actions for name in action.option_strings} - {"-h", "--help"}


def flags(text: str) -> set[str]:
    return {f"-{name}" for name in re.findall(r"\bFl (\S+)", text)}


def sections() -> dict[str, str]:
    """What the manual says of each command, and of "Filters"."""
    found = {}
    for part in re.split(r"(?m)^(?=\.It |\.S[hs] )", MANUAL.read_text()):
        if match := re.match(r"\.It (?:Xo )?Cm ([a-z]+(?: [a-z]+)*)", part):
            found[match[1]] = part
    found["filter"] = MANUAL.read_text().partition(".Ss Filters")[2].partition(".Sh")[0]
    return found


SECTIONS = sections()


@pytest.mark.parametrize("command", COMMANDS)
def test_the_manual_tells_every_option_of_a_command_and_no_other(command: str) -> None:
    assert command in SECTIONS, f"docs/backoffice.1 does not tell of 'backoffice {command}'"
    told = flags(SECTIONS[command])
    if "Ar filter" in SECTIONS[command]:
        told |= flags(SECTIONS["filter"])
    assert told == options(COMMANDS[command])


def test_the_manual_tells_of_no_command_that_there_is_not() -> None:
    assert set(SECTIONS) - {"filter"} == set(COMMANDS)


def test_the_manual_tells_the_options_before_the_command() -> None:
    head = MANUAL.read_text().partition(".Sh COMMANDS")[0]
    assert options(parser()) <= flags(head)


def test_the_manual_has_no_faults_of_form() -> None:
    """As mandoc and groff see it, where they are."""
    if not (tools := [name for name in ("mandoc", "groff") if shutil.which(name)]):
        pytest.skip("neither mandoc nor groff is here")
    orders = {"mandoc": ["-T", "lint", "-W", "warning"], "groff": ["-ww", "-mdoc", "-Tutf8", "-z"]}
    for tool in tools:
        command = [tool, *orders[tool], str(MANUAL)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        complaints = done.stderr + (done.stdout if tool == "mandoc" else "")
        assert (done.returncode, complaints) == (0, "")


def test_the_completion_is_what_the_parser_makes_it() -> None:
    command = [sys.executable, str(ROOT / "tools" / "completion.py")]
    environ = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    made = subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout
    assert made == COMPLETION.read_text(), "type: make completion"


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("ret", {"retract", "retry"}),
        ("queue ", {"pause", "resume", "limit"}),
        ("jobs --st", {"--state"}),
        ("jobs --state c", {"cancelled"}),
        ("token create x --role o", {"operator"}),
        ("submit web-video ./LIC", {"./LICENSE"}),
        ("--config ./LIC", {"./LICENSE"}),
    ],
)
def test_bash_offers_what_can_come_next(typed: str, offered: set[str]) -> None:
    words = f"backoffice {typed}".split(" ")
    script = f"""
        shopt -s progcomp; compopt() {{ :; }}
        . {COMPLETION}
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _shtab_backoffice && printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    command = ["bash", "-c", script, "bash", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == offered, done.stderr
