"""The submit form, made from its workflow, and the plan that it previews."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from backoffice.config.redaction import shown
from backoffice.engine import field_limits
from backoffice.engine.workflows import InputSpec, ParameterSpec
from backoffice.reports import lineage
from backoffice.web.context import RequestContext
from backoffice.web.drafts import Draft
from backoffice.web.pages import render
from backoffice.web.pages.files import path_of

OFFERED = 100  # files to pick from
LOOKED_AT = 2_000  # names beneath the roots, at most
LOOKING = 0.05  # seconds, at most
_BUTTONS = ("do", "csrf_token")


# The form -------------------------------------------------------------------


def form(context: RequestContext, draft: Draft, status: int = 200) -> bytes:
    offered = _offered(context) if draft.workflow.inputs else []
    return render.page(
        context,
        "jobs/submit.html",
        title=f"Submit: {draft.workflow.title or draft.workflow.name}",
        status=status,
        workflow=draft.workflow,
        values=draft.values,
        faults=draft.faults,
        inputs=[_input_field(draft, spec) for spec in draft.workflow.inputs],
        parameters=[_parameter_field(draft, spec) for spec in draft.workflow.parameters],
        offered=offered,
        roots=[str(root) for root in context.site.settings.paths.roots],
        longest=field_limits.LONGEST,
    )


def _input_field(draft: Draft, spec: InputSpec) -> dict[str, Any]:
    name = f"input.{spec.role}"
    return {
        "name": name,
        "role": spec.role,
        "value": draft.values.get(name, ""),
        "many": spec.maximum > 1,
        "needed": spec.minimum > 0,
        "fault": draft.faults.get(name),
    }


def _parameter_field(draft: Draft, spec: ParameterSpec) -> dict[str, Any]:
    name = f"parameter.{spec.name}"
    choices = ("true", "false") if spec.type == "boolean" else spec.choices
    default = spec.default or ""
    return {
        "name": name,
        "label": spec.title or spec.name,
        "description": spec.description,
        "choices": choices,
        "default": shown(default),
        "needed": spec.required and not default,
        "value": draft.values.get(name, default if choices else ""),
        "numeric": spec.type in ("integer", "number"),
        "fault": draft.faults.get(name),
    }


def _offered(context: RequestContext) -> list[str]:
    """Paths of files to pick from: those that jobs took lately, and others
    beneath the roots, the newest first."""
    roots = context.site.settings.paths.roots
    known = [path_of(href) for href in lineage.sources(context.store, OFFERED)]
    known = [path for path in known if any(Path(path).is_relative_to(root) for root in roots)]
    there = sorted(_beneath(roots), reverse=True)
    return list(dict.fromkeys([*(path for _, path in there), *known]))[:OFFERED]


def _beneath(roots: Sequence[Path]) -> Iterator[tuple[float, str]]:
    """When files were changed and where they are; not all, where there are many."""
    folders, left = [str(root) for root in roots], LOOKED_AT
    until = time.monotonic() + LOOKING
    while folders and left > 0 and time.monotonic() < until:
        for entry in _entries(folders.pop(0)):
            left -= 1
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            elif entry.is_file(follow_symlinks=False) and _writable(entry.path):
                yield entry.stat(follow_symlinks=False).st_mtime, entry.path


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return [entry for entry in found if not entry.name.startswith(".")]
    except OSError:
        return []  # it cannot be read, or has just gone


def _writable(path: str) -> bool:
    """Whether a form can hold it, and a job may take it."""
    return path.isprintable()


# The plan -------------------------------------------------------------------


def plan(
    context: RequestContext, record: dict[str, Any], values: Mapping[str, str] | None = None
) -> bytes:
    """``values`` are those of the form that it was made for, if there is one."""
    tasks = [
        {**task, "commands": [shlex.join(argv) for argv in task["argv"]]}
        for task in record["tasks"]
    ]
    return render.page(
        context,
        "jobs/plan.html",
        title=f"What {record['workflow']} would do",
        tasks=tasks,
        broken=any(task["fails"] for task in tasks),
        values={k: v for k, v in (values or {}).items() if k not in _BUTTONS},
    )
