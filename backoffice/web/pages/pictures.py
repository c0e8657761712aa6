"""SVG pictures: the graph of a plan, and the time line of a job.

Owns where things stand and nothing else. Colours are the style sheet's, by
classes; what is drawn is also said in words, for those who cannot see it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from graphlib import TopologicalSorter

from genshi.core import Markup

from backoffice.web.pages.render import SIGNS, join, row, span

# All in pixels.
_BOX = (168, 46)
_BETWEEN = (40, 14)
_MARGIN = 8
_LETTERS = 20  # of a title that fit into a box
_LABELS, _PLOT, _LINE = 190, 720, 26
_TICKS = 8  # at most on a time line
_STEPS = (
    0.1,
    0.2,
    0.5,
    1,
    2,
    5,
    10,
    15,
    30,
    60,
    120,
    300,
    600,
    900,
    1800,
    3600,
    7200,
    14400,
    28800,
    86400,
    172800,
    604800,
)  # in seconds, between two of them


# Graphs ---------------------------------------------------------------------


@dataclass(frozen=True)
class Node:
    """A task of a plan. ``needs`` are names of others; ``note`` stands below the
    title. Without a state it is only planned."""

    name: str
    title: str = ""
    needs: Sequence[str] = ()
    state: str = ""
    href: str = ""
    note: str = ""


def dag(nodes: Sequence[Node], label: str) -> Markup:
    """What needs what, from left to right; ``label`` says what it is a picture of.
    What is needed by something that is needed too has no edge of its own."""
    needs = _known_needs(nodes)
    layers = _layers(nodes, needs)
    place = _places(layers)
    by_name = {node.name: node for node in nodes}
    width = len(layers) * (_BOX[0] + _BETWEEN[0]) - _BETWEEN[0]
    height = max((len(layer) for layer in layers), default=0) * (_BOX[1] + _BETWEEN[1])
    edges = [
        _edge(place[need], place[name], by_name[need].state)
        for name, direct in _direct(needs).items()
        for need in direct
    ]
    boxes = [_box(node, *place[node.name]) for layer in layers for node in layer]
    told = f"{len(nodes)} tasks in {len(layers)} steps, from left to right."
    return _svg("dag", width + 2 * _MARGIN, height + _MARGIN, label, told, [*edges, *boxes])


Needs = Mapping[str, Sequence[str]]


def _known_needs(nodes: Sequence[Node]) -> Needs:
    """By name, in an order in which each comes after what it needs."""
    known = {node.name for node in nodes}
    needs = {node.name: [name for name in node.needs if name in known] for node in nodes}
    return {name: needs[name] for name in TopologicalSorter(needs).static_order()}


def _direct(needs: Needs) -> dict[str, list[str]]:
    """Without those that another one stands for."""
    before: dict[str, set[str]] = {}
    direct = {}
    for name, needed in needs.items():
        implied = set().union(*(before[one] for one in needed))
        direct[name] = [one for one in needed if one not in implied]
        before[name] = implied | set(needed)
    return direct


def _layers(nodes: Sequence[Node], needs: Needs) -> list[list[Node]]:
    """Each node as far left as what it needs allows: the longest way to it."""
    depth: dict[str, int] = {}
    for name, needed in needs.items():
        depth[name] = max((depth[need] + 1 for need in needed), default=0)
    layers: list[list[Node]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for node in nodes:
        layers[depth[node.name]].append(node)
    return _untangled(layers, needs)


def _untangled(layers: Sequence[list[Node]], needs: Needs) -> list[list[Node]]:
    """Each beside the middle of what it needs, so that few edges cross."""
    height: dict[str, float] = {}
    ordered = []
    for layer in layers:
        middle = {
            node.name: sum(height[one] for one in needs[node.name]) / len(needs[node.name])
            for node in layer
            if needs[node.name]
        }
        ordered.append(sorted(layer, key=lambda node: middle.get(node.name, 0.0)))
        height |= {node.name: n - len(layer) / 2 for n, node in enumerate(ordered[-1])}
    return ordered


def _places(layers: Sequence[Sequence[Node]]) -> dict[str, tuple[int, int]]:
    """The upper left corner of each box; layers stand centred."""
    tallest = max((len(layer) for layer in layers), default=0)
    step = _BOX[1] + _BETWEEN[1]
    return {
        node.name: (
            _MARGIN + column * (_BOX[0] + _BETWEEN[0]),
            _MARGIN + (tallest - len(layer)) * step // 2 + line * step,
        )
        for column, layer in enumerate(layers)
        for line, node in enumerate(layer)
    }


def _edge(start: tuple[int, int], end: tuple[int, int], state: str) -> Markup:
    (x1, y1), (x2, y2) = (start[0] + _BOX[0], start[1] + _BOX[1] // 2), end
    y2 += _BOX[1] // 2
    bend = (x2 - x1) // 2
    return row(
        '<path class="edge %s" fill="none" stroke="currentColor" d="M%s %s C%s %s %s %s %s %s"/>',
        state,
        x1,
        y1,
        x1 + bend,
        y1,
        x2 - bend,
        y2,
        x2,
        y2,
    )


def _box(node: Node, x: int, y: int) -> Markup:
    title = node.title or node.name
    sign = f"{SIGNS.get(node.state, '○')} " if node.state else ""
    told = ", ".join(filter(None, (title, node.state, node.note)))
    drawn = row(
        '<g class="node %s"><title>%s</title>'
        '<rect x="%s" y="%s" width="%s" height="%s" rx="6" fill="Canvas" stroke="currentColor"/>'
        '<text class="name" x="%s" y="%s">%s</text>'
        '<text class="note" x="%s" y="%s" font-size="11">%s</text></g>',
        node.state or "planned",
        told,
        x,
        y,
        *_BOX,
        x + 10,
        y + 20,
        sign + _short(title, _LETTERS - len(sign)),
        x + 10,
        y + 37,
        _short(node.note, _LETTERS + 4),
    )
    return row('<a href="%s">%s</a>', node.href, drawn) if node.href else drawn


def _short(text: str, letters: int) -> str:
    return text if len(text) <= letters else f"{text[: letters - 1]}…"


# Time lines -----------------------------------------------------------------


@dataclass(frozen=True)
class Bar:
    """``kind`` is the state of an attempt, or "waiting"; ``told`` says in words
    what the bar stands for."""

    start: datetime
    end: datetime
    kind: str
    told: str


@dataclass(frozen=True)
class Line:
    label: str
    bars: Sequence[Bar]
    state: str = ""
    href: str = ""


def gantt(lines: Sequence[Line], label: str) -> Markup:
    """A line for each task; empty if nothing has happened yet."""
    bars = [bar for line in lines for bar in line.bars]
    if not bars:
        return Markup("")
    start, end = min(bar.start for bar in bars), max(bar.end for bar in bars)
    whole = max((end - start).total_seconds(), 0.1)
    height = (len(lines) + 1) * _LINE + _MARGIN
    drawn = [*_axis(whole, height)]
    drawn += [_line(line, n, start, whole) for n, line in enumerate(lines)]
    told = f"{len(lines)} tasks over {span(whole)}; thin bars are time spent waiting."
    return _svg("gantt", _LABELS + _PLOT + 6 * _MARGIN, height, label, told, drawn)


def _axis(whole: float, height: int) -> Iterator[Markup]:
    step = next((one for one in _STEPS if whole / one <= _TICKS), whole / _TICKS)
    for n in range(int(whole / step) + 1):
        x = round(_LABELS + n * step / whole * _PLOT, 1)
        yield row(
            '<line class="tick" x1="%s" x2="%s" y1="%s" y2="%s" stroke="currentColor"'
            ' stroke-opacity="0.2"/><text class="tick" x="%s" y="14" font-size="11">%s</text>',
            x,
            x,
            _LINE - 6,
            height - _MARGIN,
            x,
            _since(n * step),
        )


def _since(seconds: float) -> str:
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size and not seconds % size:
            return f"+{seconds / size:g} {unit}"
    return f"+{seconds:g} s" if seconds < 60 else f"+{span(seconds)}"


def _line(line: Line, number: int, start: datetime, whole: float) -> Markup:
    y = (number + 1) * _LINE
    sign = f"{SIGNS.get(line.state, '○')} " if line.state else ""
    label = row(
        '<text class="name" x="%s" y="%s"><title>%s</title>%s</text>',
        _MARGIN,
        y + 15,
        line.label,
        sign + _short(line.label, _LETTERS),
    )
    if line.href:
        label = row('<a href="%s">%s</a>', line.href, label)
    return join([label, *(_bar(bar, y, start, whole) for bar in line.bars)])


def _bar(bar: Bar, y: int, start: datetime, whole: float) -> Markup:
    def across(moment: datetime) -> float:
        return _LABELS + (moment - start).total_seconds() / whole * _PLOT

    left = across(bar.start)
    width = max(across(bar.end) - left, 2.0)
    inset, height = (9, 4) if bar.kind == "waiting" else (3, 16)
    return row(
        '<rect class="bar %s" x="%s" y="%s" width="%s" height="%s"><title>%s</title></rect>',
        bar.kind,
        round(left, 1),
        y + inset,
        round(width, 1),
        height,
        bar.told,
    )


def _svg(
    kind: str, width: int, height: int, label: str, told: str, parts: Sequence[Markup]
) -> Markup:
    return row(
        '<svg class="%s" role="group" aria-label="%s" width="%s" height="%s"'
        ' viewBox="0 0 %s %s" font-size="13" fill="currentColor">'
        "<desc>%s</desc>%s</svg>",
        kind,
        label,
        width,
        height,
        width,
        height,
        told,
        join(parts),
    )
