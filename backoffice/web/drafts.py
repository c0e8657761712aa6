"""Drafts of jobs: the values of the submit form, and their faults.

Owns which fault belongs to which field. What is right is said by ``workflows``,
``files`` and ``jobs``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from backoffice import units
from backoffice.config.settings import Settings
from backoffice.engine import field_limits, submission, workflows
from backoffice.engine.catalogue import Catalogue
from backoffice.engine.workflows import InputSpec, Workflow
from backoffice.errors import Invalid
from backoffice.system import files


@dataclass
class Draft:
    """What was typed, and what is wrong with it: a sentence by the field's name,
    or by "" for what belongs to no field."""

    workflow: Workflow
    values: Mapping[str, str] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)

    def check(self, name: str, right: Callable[[], Any]) -> Any:
        """What ``right()`` gives; its Invalid becomes the fault of the field."""
        try:
            return right()
        except Invalid as error:
            self.faults.setdefault(name, str(error))
            return None

    def value(self, name: str) -> str:
        return self.values.get(name, "").strip()


def with_picked(workflow: Workflow, values: Mapping[str, str], role: str) -> dict[str, str]:
    """The values with the picked file: beside others, where there may be several."""
    spec = next((one for one in workflow.inputs if one.role == role), None)
    name, path = f"input.{role}", values[f"pick.{role}"]
    kept = [line for line in values.get(name, "").splitlines() if line.strip()]
    lines = [*kept, path] if spec and spec.maximum > 1 and path not in kept else [path]
    return {**values, name: "\n".join(lines)}


def prepared(
    draft: Draft, catalogue: Catalogue, settings: Settings
) -> submission.PreparedJob | None:
    """None if something is wrong; the draft then knows what and where."""
    roots = settings.paths.roots
    request = submission.JobRequest(
        workflow=draft.workflow.name,
        inputs=[pair for spec in draft.workflow.inputs for pair in _inputs(draft, spec, roots)],
        title=_bounded(draft, "title"),
        key=_bounded(draft, "key"),
        priority=_priority(draft),
        parameters=_parameters(draft),
        metadata=_metadata(draft),
        delay=_delay(draft),
    )
    if draft.faults:
        return None
    checked: submission.PreparedJob | None = draft.check(
        "", lambda: catalogue.prepare(request, settings)
    )
    return checked


def _inputs(draft: Draft, spec: InputSpec, roots: Sequence[Path]) -> list[tuple[str, str]]:
    name = f"input.{spec.role}"
    paths = [line.strip() for line in draft.values.get(name, "").splitlines() if line.strip()]
    alone = replace(draft.workflow, inputs=(spec,))
    roles = [spec.role] * len(paths)
    draft.check(name, lambda: _check_inputs(alone, roles, paths, roots))
    return [(spec.role, path) for path in paths]


def _check_inputs(
    workflow: Workflow, roles: Sequence[str], paths: Sequence[str], roots: Sequence[Path]
) -> None:
    """Raise Invalid for the first fault; that there are too many is seen before
    any of them is looked for."""
    workflows.check_inputs(workflow, roles)
    for path in paths:
        files.resolve(path, roots)


def _parameters(draft: Draft) -> dict[str, str]:
    found = {}
    for spec in draft.workflow.parameters:
        name = f"parameter.{spec.name}"
        if value := draft.value(name):
            found[spec.name] = value
        given = {spec.name: value} if value else {}
        alone = replace(draft.workflow, parameters=(spec,))
        draft.check(name, lambda a=alone, g=given: workflows.resolve_parameters(a, g))  # type: ignore[misc]
    return found


def _bounded(draft: Draft, name: str) -> str:
    text = draft.value(name)
    if len(text) > field_limits.LONGEST[name]:
        most = field_limits.LONGEST[name]
        draft.faults[name] = f"at most {most} characters are possible; this has {len(text)}"
    return text


def _priority(draft: Draft) -> int:
    text = draft.value("priority") or str(field_limits.DEFAULT_PRIORITY)
    if re.fullmatch("[0-9]{1,3}", text) and int(text) in field_limits.PRIORITIES:
        return int(text)
    draft.faults["priority"] = f"{text[:50]!r} is not a whole number from 0 (first) to 100 (last)"
    return field_limits.DEFAULT_PRIORITY


def _delay(draft: Draft) -> float:
    text = draft.value("delay") or "0s"
    if re.fullmatch("[0-9]{1,9}(ms|s|m|h|d)", text):
        return units.parse_duration(text)
    draft.faults["delay"] = f"{text[:50]!r} is not a number with s, m, h or d, such as 90s or 2h"
    return 0.0


def _metadata(draft: Draft) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, line in enumerate(draft.values.get("metadata", "").splitlines(), 1):
        name, equals, value = (part.strip() for part in line.partition("="))
        if not line.strip():
            continue
        if not equals or not name:
            draft.faults["metadata"] = f"line {number} is not a name, = and a value"
        elif name in found:
            draft.faults["metadata"] = f"line {number}: {name!r} is given twice"
        found[name] = value
    return found
