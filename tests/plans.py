"""How the database goes about what it is asked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from storm.tracer import install_tracer, remove_tracer

from tests.board import Board

# A derived table (newest) is as small as its own plan makes it.
_SLOW = re.compile(
    r"filesort|temporary|TEMP B-TREE|SCAN (?!newest)\w+$|(?<!<derived2>) ALL ", re.MULTILINE
)


@dataclass(frozen=True)
class Plan:
    statement: str
    text: str

    @property
    def slow(self) -> bool:
        """Whether it sorts, or reads a table from end to end."""
        return _SLOW.search(self.text) is not None


@contextmanager
def plans(board: Board, part: str) -> Iterator[list[Plan]]:
    """The plans of what is asked meanwhile, of statements with this ``part``."""
    seen: list[tuple[str, Any]] = []

    class Tracer:
        def connection_raw_execute(
            self, connection: Any, cursor: Any, statement: str, values: Any
        ) -> None:
            if part in statement:
                seen.append((statement.replace("%s", "?"), values))

    found: list[Plan] = []
    tracer = Tracer()
    install_tracer(tracer)
    try:
        yield found
    finally:
        remove_tracer(tracer)
    found += [Plan(statement, _explained(board, statement, values)) for statement, values in seen]


def _explained(board: Board, statement: str, values: Any) -> str:
    ends = "" if board.database.mysql else "QUERY PLAN "
    rows = board.read(lambda s: s.execute(f"EXPLAIN {ends}{statement}", values).get_all())
    return "\n".join(" ".join(map(str, row)) for row in rows)
