"""A line of the table, and the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """``value`` meets its goal when it is at most (``at_most``) or at least so
    much; a line without a goal is there to explain another."""

    row: str
    what: str
    measured: str  # both sides, in words
    value: float
    goal: float | None = None
    at_most: bool = False
    unit: str = "×"

    @property
    def met(self) -> bool:
        if self.goal is None:
            return True
        return self.value <= self.goal if self.at_most else self.value >= self.goal

    def cells(self) -> tuple[str, ...]:
        sign = "≤" if self.at_most else "≥"
        goal = f"{sign} {self.goal:g} {self.unit}" if self.goal is not None else "–"
        verdict = "–" if self.goal is None else "yes" if self.met else "NO"
        return self.row, self.what, self.measured, f"{self.value:.2f} {self.unit}", goal, verdict


HEAD = ("row", "what", "measured", "value", "goal", "met")


def table(lines: Sequence[Line]) -> str:
    """As Markdown, for the terminal and for the README alike."""
    rows = [HEAD, *(line.cells() for line in lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    texts = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([texts[0], rule, *texts[1:]])
