"""A task type's name stands in its module alone; what the engine must know, it says."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from backoffice import tasks
from backoffice.tasks import Trait
from tools.import_graph import ROOT, modules

TYPES = sorted(tasks.names())
# The same words with another meaning: sections of the configuration, elements of
# documents, names of commands and of the shipped workflow ``retract``.
OTHER_MEANINGS = {
    "config.settings": {"notify", "command"},
    "config.documentation": {"command"},
    "cli.arguments": {"command", "retract"},
    "cli.commands": {"retract"},
    "data.replication": {"probe"},
    "documents.writing": {"command"},
    "engine.submission": {"retract"},
    "engine.workflows": {"command"},
    "media.hls": {"subtitles"},
    "media.profiles": {"package", "quality", "subtitles"},
    "operations.check": {"notify"},
    "states": {"quality"},
    "workers.running": {"command"},
    "workers.executors.task_context": {"command"},
}


@pytest.mark.parametrize("name", TYPES)
def test_a_module_says_what_its_type_takes(name: str) -> None:
    module = tasks.load(name)
    assert module.PARAMETERS.keys() >= module.REQUIRED
    assert {*getattr(module, "TRAITS", ())} <= set(Trait)
    assert callable(module.plan)
    assert callable(module.run)


def test_each_trait_is_somebodys() -> None:
    assert all(tasks.having(trait) for trait in Trait)


def test_a_type_that_cannot_be_loaded_has_no_trait() -> None:
    assert not tasks.has("no-such-type", Trait.TRIVIAL)


def texts(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    constants = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    return {text for text in constants if isinstance(text, str)}


def test_no_other_module_names_a_type() -> None:
    for name, path in modules(ROOT).items():
        if not name.startswith("tasks."):
            named = texts(path) & set(TYPES) - OTHER_MEANINGS.get(name, set())
            assert not named, f"{name} names the task types {named}"
