"""A task that does nothing does it well."""

from __future__ import annotations

from pathlib import Path

from backoffice.tasks import Result, noop
from tests.tasks.context import make_context


def test_it_makes_nothing(tmp_path: Path) -> None:
    context = make_context(tmp_path)
    assert noop.run(context) == Result()
    assert not noop.plan(context).commands
