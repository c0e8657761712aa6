"""The packages of Backoffice and who imports whom, read from the imports themselves.

Run from a checkout: ``python3 tools/import_graph.py`` prints every package with
its height, its modules and the packages that it imports, then the totals.
``--dot`` prints a graph for Graphviz. ``tests/test_layers.py`` uses the same reading.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Each module of ``backoffice`` by its name below it; a package as ``name.__init__``."""
    package = root / "backoffice"
    paths = {path.relative_to(package).with_suffix(""): path for path in package.rglob("*.py")}
    return {".".join(name.parts): path for name, path in sorted(paths.items())}


def imports(path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    """Full names of the modules that ``path`` imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the package"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if _key(name, known) else str(node.module)


def inner_imports(path: Path, known: Mapping[str, Path]) -> set[str]:
    """The modules of ``backoffice`` that ``path`` imports, by their keys in ``known``."""
    return {key for name in imports(path, known) if (key := _key(name, known))}


def graph(known: Mapping[str, Path]) -> dict[str, set[str]]:
    """Each module and what it imports, without the package's own ``__init__``."""
    return {name: inner_imports(path, known) for name, path in known.items() if name != "__init__"}


def room(module: str) -> str:
    """The package directly below ``backoffice``, or the module that lies there itself."""
    return module.split(".")[0]


def rooms(edges: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Each package and the other packages that it imports."""
    found: dict[str, set[str]] = {room(module): set() for module in edges}
    for module, needed in edges.items():
        found[room(module)] |= {room(other) for other in needed} - {room(module)}
    return found


def heights(edges: Mapping[str, set[str]]) -> dict[str, int]:
    """How many floors lie below each; raises ValueError for a circle of imports."""
    left, found = dict(edges), dict[str, int]()
    while left:
        free = [name for name, needed in left.items() if not needed & set(left)]
        if not free:
            raise ValueError(f"these import each other in a circle: {', '.join(sorted(left))}")
        for name in free:
            found[name] = 1 + max((found[other] for other in left.pop(name)), default=-1)
    return found


def _key(name: str, known: Mapping[str, Path]) -> str:
    short = name.removeprefix("backoffice.")
    if short == name:
        return ""
    return next((key for key in (short, f"{short}.__init__") if key in known), "")


def _print_rooms(edges: Mapping[str, set[str]], needed: Mapping[str, set[str]]) -> None:
    floors = heights(needed)
    for name in sorted(needed, key=lambda name: (-floors[name], name)):
        size = sum(room(module) == name for module in edges)
        print(f"{floors[name]:>2}  {name:<12} {size:>3}  {' '.join(sorted(needed[name]))}")
    arrows = sum(map(len, needed.values()))
    print(f"{len(edges)} modules, {sum(map(len, edges.values()))} imports between them")
    print(f"{len(needed)} rooms, {max(floors.values()) + 1} floors, {arrows} arrows, no circle")
    print(f"modules: {max(heights(edges).values()) + 1} floors, no circle")


def main() -> None:
    edges = graph(modules())
    needed = rooms(edges)
    if "--dot" in sys.argv:
        print("digraph backoffice { rankdir=BT;")
        for name, others in sorted(needed.items()):
            print("".join(f'  "{name}" -> "{other}";\n' for other in sorted(others)), end="")
        print("}")
    else:
        _print_rooms(edges, needed)


if __name__ == "__main__":
    main()
