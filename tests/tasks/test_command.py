"""Commands: only those listed, and values that stay values."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from backoffice.config.settings import Command
from backoffice.errors import TaskFailed
from backoffice.tasks import command
from tests.tasks.context import FakeContext, make_context, settings


def context(folder: Path, *argv: str, **parameters: str) -> FakeContext:
    given = replace(
        settings(folder), commands={"do": Command("do", argv, confine=True, network=False, read=())}
    )
    source = folder / "in put.txt"
    source.write_text("hello\n")
    return make_context(
        folder, source, settings=given, probed=False, **{"command": "do", **parameters}
    )


def test_what_it_leaves_is_its_output(tmp_path: Path) -> None:
    run = context(tmp_path, "cp", "{input}", "{output}", output="copy of it.txt")
    result = command.run(run)
    assert [(o.role, o.path.name, o.media_type) for o in result.outputs] == [
        ("output", "copy of it.txt", "text/plain")
    ]
    assert result.outputs[0].path.read_text() == "hello\n"


def test_the_plan_is_what_runs(tmp_path: Path) -> None:
    run = context(tmp_path, "cp", "{input}", "{output}")
    planned = command.plan(run).commands
    command.run(run)
    assert [list(argv) for argv in planned] == run.commands


def test_a_value_is_never_seen_by_a_shell(tmp_path: Path) -> None:
    value = "$(touch x); touch y `z` 'q"
    run = context(tmp_path, "touch", "{output}", "a-{parameter.label}.txt", label=value)
    assert command.plan(run).commands[0][2] == f"a-{value}.txt"


@pytest.mark.parametrize(
    ("argv", "parameters", "reason"),
    [
        (("true",), {"command": "rm"}, "no command 'rm'; there are do"),
        (("echo", "{parameter.label}"), {}, "wants {parameter.label}"),
        (("echo", "{parameter.label}"), {"label": "-rf"}, "for an option"),
        (("echo", "{output}"), {"output": "../x"}, "no plain file name"),
        (("echo", "{output}"), {"output": "-x"}, "no plain file name"),
    ],
)
def test_refusals(
    tmp_path: Path, argv: tuple[str, ...], parameters: dict[str, str], reason: str
) -> None:
    run = context(tmp_path, *argv, **parameters)
    with pytest.raises(TaskFailed) as caught:
        command.run(run)
    assert reason in str(caught.value)
    assert not caught.value.retry
    assert run.commands == []


def test_values_are_not_filled_in_twice(tmp_path: Path) -> None:
    run = context(tmp_path, "echo", "x{parameter.label}", label="{input}")
    assert command.plan(run).commands[0] == ["echo", "x{input}"]


def test_a_failing_command_fails_the_task(tmp_path: Path) -> None:
    with pytest.raises(TaskFailed):
        command.run(context(tmp_path, "false"))


def test_a_link_among_what_it_left_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskFailed, match="link"):
        command.run(context(tmp_path, "ln", "-s", "/etc/passwd", "{output}"))
