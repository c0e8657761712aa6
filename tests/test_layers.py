"""Imports run down the layers only; this is what keeps it so."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# A module may import from its own line and those above. A name without a dot
# stands for a module or a whole package.
LAYERS = [
    {"errors"},
    {"states", "files", "xmlsafe", "prctl", "completeness", "tally", "privacy"},
    {"landlock", "seccomp", "mp4", "languages", "media_types", "protection", "rates", "pictures"},
    {"colour"},
    {"decoding", "renames", "unchanged", "open_files"},
    {"arrivals"},
    {"addresses", "outbound", "webhooks"},
    {"instance", "sdnotify", "hls", "soundtracks", "subtitles", "rendering"},
    {"dash", "listening", "renditions"},
    {"config"},
    {"confinement"},
    {"logs", "sentry", "disks", "looks", "senders"},
    {"inspection", "daemon", "preflight"},
    {"gtid"},
    {"nodes"},
    {"replication"},
    {"database", "migrations"},
    {"ledger"},
    {"model"},
    {"workflows", "profiles"},
    {"events", "flow", "claims", "leases", "outcomes", "jobs", "tokens", "search"},
    {"records", "figures", "causes", "census", "throughput", "why", "retention", "client"},
    {"media"},
    {"scan"},
    {"amr", "shortfall"},
    {"tasks.__init__", "publishers"},
    {"tasks"},
    {"assignments"},
    {"catalogue", "score"},
    {"dryrun"},
    {"executors"},
    {"alerts", "folder_events", "intake"},
    {"watch_folders"},
    {"worker", "scheduler"},
    {"web"},
    {"service"},
    {"check", "terminal", "backup", "restore", "reconcile"},
    {"follow", "console"},
    {"commands", "remote"},
    {"cli"},
    {"demo", "__main__"},
]
STORE = {
    *("database", "replication", "model", "jobs", "claims", "leases", "outcomes", "events", "flow"),
    *(
        "alerts",
        "records",
        "figures",
        "causes",
        "census",
        "ledger",
        "throughput",
        "why",
        "retention",
        "assignments",
        "tokens",
    ),
    "search",
    "intake",
}


def modules() -> dict[str, Path]:
    """Each module of the package, by its name below it."""
    package = ROOT / "backoffice"
    found = {}
    for path in package.rglob("*.py"):
        parts = path.relative_to(package).with_suffix("").parts
        found[".".join(parts)] = path
    return found


MODULES = modules()


def imports(path: Path) -> Iterator[str]:
    """Full names of the modules that ``path`` imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the layer"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if _is_module(full) else str(node.module)


def _is_module(name: str) -> bool:
    short = name.removeprefix("backoffice.")
    return short in MODULES or f"{short}.__init__" in MODULES


def inner_imports(path: Path) -> set[str]:
    """The modules of backoffice among them, by their keys in MODULES."""
    names = {n.removeprefix("backoffice.") for n in imports(path) if n.startswith("backoffice.")}
    return {n if n in MODULES else f"{n}.__init__" for n in names}


def level(module: str) -> int:
    for wanted in (module, module.split(".")[0]):
        for number, names in enumerate(LAYERS):
            if wanted in names:
                return number
    raise AssertionError(f"{module} belongs to no layer; give it a place in LAYERS")


LAYERED = sorted(set(MODULES) - {"__init__"})


@pytest.mark.parametrize("module", LAYERED)
def test_a_module_imports_nothing_from_the_layers_below_it(module: str) -> None:
    wrong = [other for other in inner_imports(MODULES[module]) if level(other) > level(module)]
    assert not wrong, f"{module} must not import {', '.join(wrong)}"


def test_there_are_no_circles() -> None:
    graph = {module: inner_imports(MODULES[module]) for module in LAYERED}
    while graph:
        free = [module for module, needed in graph.items() if not needed & set(graph)]
        assert free, f"these import each other in a circle: {', '.join(sorted(graph))}"
        for module in free:
            del graph[module]


@pytest.mark.parametrize("package", ["tasks", "publishers"])
def test_tasks_and_publishers_never_touch_the_store(package: str) -> None:
    for module in (m for m in LAYERED if m.startswith(f"{package}.")):
        assert not inner_imports(MODULES[module]) & STORE
        assert not {n for n in imports(MODULES[module]) if n.split(".")[0] in ("storm", "MySQLdb")}


def test_publishers_know_nothing_of_tasks() -> None:
    for module in (m for m in LAYERED if m.startswith("publishers.")):
        assert not {n for n in inner_imports(MODULES[module]) if n.startswith("tasks.")}


def test_states_and_errors_need_nothing_but_the_standard_library() -> None:
    for module in ("errors", "states"):
        outer = {n for n in imports(MODULES[module]) if not n.startswith("backoffice.")}
        assert outer <= {"__future__"}


def test_middleware_imports_nothing_of_backoffice() -> None:
    for path in (ROOT / "middleware").rglob("*.py"):
        assert not [name for name in imports(path) if name.split(".")[0] == "backoffice"]


# Within the web, from the bottom up; what is not here stands below all of them.
WEB = ("web.pages", "web.tools", "web.handlers", "web.api", "web.addresses", "web.application")


def test_the_rooms_of_the_web_import_downwards_only() -> None:
    def floor(module: str) -> int:
        return max(
            (n for n, room in enumerate(WEB, 1) if f"{module}.".startswith(f"{room}.")), default=0
        )

    for module in (
        m for m in LAYERED if m.startswith("web.") and not m.endswith((".app", ".wsgi"))
    ):
        if not module.startswith("web.server"):
            upwards = {
                other for other in inner_imports(MODULES[module]) if floor(other) > floor(module)
            }
            assert not upwards, f"{module} must not import {', '.join(sorted(upwards))}"


def test_the_server_knows_no_handlers() -> None:
    """It runs any WSGI application; only the process around it composes ours."""
    for module in (m for m in LAYERED if m.startswith("web.server.")):
        known = {n for n in inner_imports(MODULES[module]) if n.startswith("web.")}
        allowed = {"web.app"} if module == "web.server.process" else set()
        assert {n for n in known if not n.startswith("web.server.")} <= allowed


def test_settings_are_read_in_one_place() -> None:
    readers = {m for m in LAYERED if '"BACKOFFICE_' in MODULES[m].read_text()}
    assert readers <= {"config", "demo"}
