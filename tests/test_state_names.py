"""States are written down once, in ``states.py``: elsewhere their constants are used."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from backoffice import states
from tools.import_graph import ROOT, modules

STATES = frozenset(
    state
    for known in (
        states.JOB_STATES,
        states.TASK_STATES,
        states.ATTEMPT_STATES,
        states.WORKER_STATES,
        states.FILE_STATES,
        states.PUBLICATION_STATES,
        states.TOKEN_STATES,
    )
    for state in known
)
IN_SQL = re.compile(rf"\bstate\b.*'({'|'.join(STATES)})'", re.DOTALL)
NAMES = {"state", "status"}


def bare_states(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and text of each place where a state stands as text: compared with
    something, given or assigned as ``state``, matched, or in a statement of SQL."""
    for node in ast.walk(tree):
        for value in _compared(node):
            for constant in ast.walk(value):
                if isinstance(constant, ast.Constant) and constant.value in STATES:
                    yield constant.lineno, str(constant.value)
        text = node.value if isinstance(node, ast.Constant) else ""
        if isinstance(text, str) and (found := IN_SQL.search(text)):
            yield node.lineno, found[0]


def _compared(node: ast.AST) -> list[ast.expr]:
    match node:
        case ast.Compare(left=left, comparators=others) if _asks_a_state(node):
            return [left, *others]
        case ast.keyword(arg="state", value=value) | ast.MatchValue(value=value):
            return [value]
        case ast.Assign(targets=[ast.Attribute(attr="state")], value=value):
            return [value]
    return []


def _asks_a_state(node: ast.Compare) -> bool:
    parts = [part for side in (node.left, *node.comparators) for part in ast.walk(side)]
    named = {part.attr for part in parts if isinstance(part, ast.Attribute)}
    named |= {part.id for part in parts if isinstance(part, ast.Name)}
    named |= {str(part.value) for part in parts if isinstance(part, ast.Constant)}
    return bool(named & NAMES)


@pytest.mark.parametrize(
    "text",
    [
        "job.state == 'running'",
        "record['state'] in ('failed', 'lost')",
        "finish(state='succeeded')",
        "file.state = 'present'",
        "query = \"SELECT id FROM task WHERE state = 'ready'\"",
        "match state:\n    case 'queued':\n        pass",
    ],
)
def test_a_bare_state_is_seen(text: str) -> None:
    assert list(bare_states(ast.parse(text)))


@pytest.mark.parametrize(
    "text", ["record['running'] = 3", "f\"WHERE state = '{RUNNING}'\"", "x = 'published'"]
)
def test_other_uses_of_the_words_are_not(text: str) -> None:
    assert not list(bare_states(ast.parse(text)))


def test_no_module_writes_a_state_as_text() -> None:
    paths: list[Path] = [path for name, path in modules().items() if name != "states"]
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text}"
        for path in paths
        for line, text in bare_states(ast.parse(path.read_text()))
    ]
    assert not found, "\n".join(found)
