"""Variants of a task: one task that makes them all, or a task for each.

A ladder's rungs are variants. Where one host has the work, one task decodes the source
once for all of them; where several share it, each variant is a task of its own. Owns
how the one becomes the other, and which variants a source gets; pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from backoffice.engine import workflows
from backoffice.engine.workflows import Condition, InputRef, TaskSpec, Variant


def apart(plan: Sequence[TaskSpec], names: Collection[str]) -> tuple[TaskSpec, ...]:
    """The plan with a task for each variant of the tasks ``names``: of task ``rung`` and
    variant ``360`` it is ``rung-360``. What needs the task needs all of these."""
    parts = {task.name: list(_parts(task)) for task in plan if task.name in names}
    made = {name: [part.name for part in tasks] for name, tasks in parts.items()}
    return tuple(_needing(part, made) for task in plan for part in parts.get(task.name, [task]))


def _parts(task: TaskSpec) -> Iterator[TaskSpec]:
    for variant in task.variants:
        yield replace(
            task,
            name=f"{task.name}-{variant.name}",
            title=f"{task.title} {variant.name}",
            parameters=variant.parameters,
            when=(*task.when, *variant.when),
            variants=(),
            timeout=variant.timeout,
            weight=variant.weight,
        )


def _needing(task: TaskSpec, made: Mapping[str, Sequence[str]]) -> TaskSpec:
    needs = [name for need in task.needs for name in made.get(need, [need])]
    inputs = [
        InputRef(wanted.role, name)
        for wanted in task.inputs
        for name in made.get(wanted.task, [wanted.task])
    ]
    return replace(task, needs=tuple(needs), inputs=tuple(inputs))


def chosen(variants: Iterable[Variant], facts: Mapping[str, object]) -> list[Variant]:
    """Those whose conditions hold."""
    return [one for one in variants if workflows.holds(one.when, facts)]


def left_out(
    when: Sequence[Condition], variants: Sequence[Variant], facts: Mapping[str, object]
) -> str:
    """Why a task does not run: its own conditions do not hold, or those of none of its
    variants; empty if it does."""
    if not workflows.holds(when, facts):
        return reason(when)
    if variants and not chosen(variants, facts):
        told = "; ".join(f"{one.name} {reason(one.when)}" for one in variants)
        return f"none of its variants applies: {told}"
    return ""


def reason(when: Sequence[Condition]) -> str:
    return "not " + " and ".join(workflows.describe(one) for one in when)


# As a task's ``spec`` keeps them in the database


def stored(variant: Variant) -> dict[str, Any]:
    kept = {"name": variant.name, "timeout": variant.timeout, "weight": variant.weight}
    when = [asdict(one) for one in variant.when]
    return {**kept, "parameters": dict(variant.parameters), "when": when}


def loaded(spec: Mapping[str, Any]) -> list[Variant]:
    return [Variant(**{**one, "when": conditions(one)}) for one in spec["variants"]]


def conditions(stored: Mapping[str, Any]) -> tuple[Condition, ...]:
    """Of a task or of a variant."""
    return tuple(Condition(**one) for one in stored["when"])


def narrowed(spec: Mapping[str, Any], found: Sequence[Variant]) -> dict[str, Any]:
    """The spec of a task that makes those alone. It makes them at the same time, so it
    may take as long as all of them together."""
    return {
        **spec,
        "variants": [stored(one) for one in found],
        "timeout": sum(one.timeout for one in found),
        "weight": sum(one.weight for one in found),
    }
