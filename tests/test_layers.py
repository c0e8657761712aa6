"""Imports run down the packages only; ``tools/import_graph.py`` draws them."""

from __future__ import annotations

import sys

import pytest

from tools.import_graph import ROOT, graph, heights, imports, inner_imports, modules, room

# Bottom to top. A package imports from itself and from those above its row.
LAYERS = (
    "states",
    "errors",
    "units",
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


def test_errors_states_and_units_need_nothing_but_the_standard_library() -> None:
    for module in ("errors", "states", "units"):
        names = imports(MODULES[module], MODULES)
        outside = {n.split(".")[0] for n in names if not n.startswith("backoffice.")}
        assert outside <= sys.stdlib_module_names


def test_middleware_imports_nothing_of_backoffice() -> None:
    for path in (ROOT / "middleware").rglob("*.py"):
        names = imports(path, MODULES)
        assert not [name for name in names if name.split(".")[0] == "backoffice"]


# Within the web, from the bottom up; modules not named here stand below all of them.
WEB = ("web.pages", "web.tools", "web.handlers", "web.api", "web.addresses", "web.application")


def _web_floor(module: str) -> int:
    floors = [n for n, name in enumerate(WEB, 1) if f"{module}.".startswith(f"{name}.")]
    return max(floors, default=0)


def test_the_packages_of_the_web_import_downwards_only() -> None:
    for module in (m for m in LAYERED if m.startswith("web.")):
        if module.startswith("web.server") or module.endswith((".app", ".wsgi")):
            continue
        others = inner_imports(MODULES[module], MODULES)
        upwards = {other for other in others if _web_floor(other) > _web_floor(module)}
        assert not upwards, f"{module} must not import {', '.join(sorted(upwards))}"


def test_the_server_knows_no_handlers() -> None:
    """It runs any WSGI application; only the process around it composes ours."""
    for module in (m for m in LAYERED if m.startswith("web.server.")):
        known = {n for n in inner_imports(MODULES[module], MODULES) if n.startswith("web.")}
        allowed = {"web.app"} if module == "web.server.process" else set()
        assert {n for n in known if not n.startswith("web.server.")} <= allowed


def test_settings_are_read_in_one_place() -> None:
    readers = {room(m) for m in LAYERED if '"BACKOFFICE_' in MODULES[m].read_text()}
    assert readers <= {"config", "operations"}
