"""Do nothing: a point where tasks meet, and a task for benchmarks."""

from __future__ import annotations

from collections.abc import Mapping

from backoffice.tasks import Context, Plan, Result, Trait

PARAMETERS: Mapping[str, str] = {}
REQUIRED: frozenset[str] = frozenset()
TRAITS = frozenset({Trait.TRIVIAL})


def plan(context: Context) -> Plan:
    return Plan(notes=("does nothing",))


def run(context: Context) -> Result:
    return Result()
