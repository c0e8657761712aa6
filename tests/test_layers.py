"""Imports run down the packages only; ``tools/import_graph.py`` draws them."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.import_graph import ROOT, graph, heights, imports, inner_imports, modules, room

# Bottom to top. A package imports from itself and from those above its row.
LAYERS = (
    "states",
    "errors",
    "config",
    "system",
    "documents",
    "data",
    "media",
    "publishers",
    "tasks",
    "engine",
    "reports",
    "workers",
    "scheduler",
    "service",
    "web",
    "operations",
    "client",
    "cli",
    "__main__",
)
KNOWS_THE_STORE = {"data", "engine", "reports", "workers", "scheduler", "web", "operations"}
HAVE_SQL = {"data", "engine", "reports"}

MODULES = modules()
LAYERED = sorted(set(MODULES) - {"__init__"})


@pytest.mark.parametrize("module", LAYERED)
def test_a_module_imports_only_packages_below_its_own(module: str) -> None:
    others = {room(other) for other in inner_imports(MODULES[module], MODULES)}
    wrong = [other for other in others if LAYERS.index(other) > LAYERS.index(room(module))]
    assert not wrong, f"{module} must not import {', '.join(wrong)}"


def test_modules_do_not_import_each_other_in_circles() -> None:
    heights(graph(MODULES))


@pytest.mark.parametrize("package", [name for name in LAYERS if f"{name}.__init__" in MODULES])
def test_every_package_says_what_it_owns(package: str) -> None:
    assert MODULES[f"{package}.__init__"].read_text().startswith('"""')


@pytest.mark.parametrize("package", ["tasks", "publishers"])
def test_tasks_and_publishers_never_touch_the_store(package: str) -> None:
    for module in (m for m in LAYERED if room(m) == package):
        names = {room(other) for other in inner_imports(MODULES[module], MODULES)}
        assert not names & KNOWS_THE_STORE
        outside = imports(MODULES[module], MODULES)
        assert not {n for n in outside if n.split(".")[0] in ("storm", "MySQLdb")}


def test_publishers_know_nothing_of_tasks() -> None:
    for module in (m for m in LAYERED if room(m) == "publishers"):
        assert "tasks" not in map(room, inner_imports(MODULES[module], MODULES))


def test_states_and_errors_need_nothing_but_the_standard_library() -> None:
    for module in ("errors", "states"):
        names = imports(MODULES[module], MODULES)
        outside = {name.split(".")[0] for name in names} - {"backoffice"}
        assert outside <= sys.stdlib_module_names


def test_middleware_imports_nothing_of_backoffice() -> None:
    for path in (ROOT / "middleware").rglob("*.py"):
        names = imports(path, MODULES)
        assert not [name for name in names if name.split(".")[0] == "backoffice"]


def test_settings_are_read_in_one_place() -> None:
    readers = {room(m) for m in LAYERED if '"BACKOFFICE_' in MODULES[m].read_text()}
    assert readers <= {"config", "operations"}


SQL = re.compile(r"^\W*(SELECT|INSERT INTO|REPLACE INTO|UPDATE \w+ SET|DELETE FROM|DROP TABLE)\b")


def statements(path: Path) -> Iterator[tuple[int, str]]:
    """Where SQL stands in a module, or a store is asked by Storm's own expressions."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Constant(value=str(text)) if SQL.match(text):
                yield node.lineno, text[:60]
            case ast.Call(func=ast.Attribute(value=asked, attr="execute" | "find")):
                if "store" in ast.unparse(asked):
                    yield node.lineno, ast.unparse(node)[:60]


@pytest.mark.parametrize("module", [m for m in LAYERED if room(m) not in HAVE_SQL])
def test_sql_is_in_data_engine_and_reports_alone(module: str) -> None:
    assert not list(statements(MODULES[module]))
