"""Run a command that an administrator has listed in the settings.

There is no shell, and a template's value never becomes more than its part of
one argument. What the command leaves in its folder is what it made.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from backoffice.config.settings import Command
from backoffice.errors import TaskFailed
from backoffice.media import media_types
from backoffice.states import Reason
from backoffice.system.confinement import NONE, Confinement
from backoffice.tasks import Context, Output, Plan, Result, Source

ROLE = "output"
PARAMETERS: Mapping[str, str] = {
    "command": "a [command NAME] of the configuration",
    "output": "name of the file it makes, for {output} (default: output)",
    "*": "any other NAME, for {parameter.NAME} in the command",
}
REQUIRED: frozenset[str] = frozenset({"command"})


def plan(context: Context) -> Plan:
    return Plan(commands=(_argv(context),), notes=("keeps what it leaves in its folder",))


def run(context: Context) -> Result:
    context.execute(_argv(context), confined=_confined(context))
    return Result(outputs=[_output(path) for path in _made(context.folder)])


def _command(context: Context) -> Command:
    name = context.parameters.get("command", "")
    commands: Mapping[str, Command] = context.settings.commands
    if name not in commands:
        there = ", ".join(sorted(commands)) or "none"
        raise TaskFailed(
            f"there is no command {name!r}; there are {there}. An administrator adds one as"
            f" [command NAME]",
            retry=False,
            reason=Reason.BAD_PARAMETER,
        )
    return commands[name]


def _confined(context: Context) -> Confinement:
    command, usual = _command(context), context.confinement
    return replace(
        usual,
        mode=usual.mode if command.confine else NONE,
        programs=(*usual.programs, *command.read),
        network=command.network,
    )


def _argv(context: Context) -> list[str]:
    """The program is never filled in: users choose among commands, no more."""
    program, *arguments = _command(context).argv
    return [program, *(_fill(argument, context) for argument in arguments)]


def _fill(argument: str, context: Context) -> str:
    filled = re.sub(r"\{([\w.-]+)\}", lambda match: _value(match[1], context), argument)
    if filled.startswith("-") and not argument.startswith("-"):
        raise TaskFailed(
            f"{filled!r} would be taken for an option of the command",
            retry=False,
            reason=Reason.BAD_PARAMETER,
        )
    return filled


def _value(name: str, context: Context) -> str:
    if name == "input":
        if len(context.sources) != 1:
            raise TaskFailed(
                f"the command takes one file, but was given {len(context.sources)}",
                retry=False,
                reason=Reason.BAD_PARAMETER,
            )
        return str(_place(context.sources[0], context))
    if name == "output":
        return str(context.folder / _output_name(context.parameters))
    key = name.removeprefix("parameter.")
    if key == name or key not in context.parameters:
        raise TaskFailed(
            f"the command wants {{{name}}}, which was not given",
            retry=False,
            reason=Reason.BAD_PARAMETER,
        )
    return context.parameters[key]


def _place(source: Source, context: Context) -> Path:
    """Commands may close descriptors for their own children, so they get the name
    where Landlock sees to it that it opens the file that was checked."""
    if source.location and _confined(context).guards_files:
        return source.location
    return source.path


def _output_name(parameters: Mapping[str, str]) -> str:
    name = parameters.get("output", "output")
    if not re.fullmatch(r"\w[\w .-]{0,99}", name):
        raise TaskFailed(
            f"{name!r} is no plain file name for an output",
            retry=False,
            reason=Reason.BAD_PARAMETER,
        )
    return name


def _made(folder: Path) -> list[Path]:
    """Regular files only: a link could lead to anything on this host."""
    paths = sorted(folder.rglob("*"))
    for path in paths:
        if not (stat.S_ISREG(mode := path.lstat().st_mode) or stat.S_ISDIR(mode)):
            raise TaskFailed(
                f"the command left a link or device: {path.name}",
                retry=False,
                reason=Reason.WRONG_OUTPUT,
            )
    return [path for path in paths if path.is_file()]


def _output(path: Path) -> Output:
    return Output(ROLE, path, media_types.of_name(path.name))
