"""The form that submits a job, made from its workflow, and the plan before it.

Owns what stands in the form's fields and where their faults are shown. What is
right is said by ``workflows``, ``files`` and ``jobs``.
"""

from __future__ import annotations

import os
import re
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from webob import Response

from backoffice.config.redaction import shown
from backoffice.config.settings import Settings
from backoffice.engine import dry_run, field_limits, submission, workflows
from backoffice.engine.workflows import InputSpec, ParameterSpec, Workflow
from backoffice.errors import Conflict, Invalid
from backoffice.reports import lineage
from backoffice.system import files
from backoffice.web import documents, render
from backoffice.web.call import Call
from backoffice.web.file_pages import path_of
from middleware.problem import Problem

OFFERED = 100  # files to pick from
LOOKED_AT = 2_000  # names beneath the roots, at most
LOOKING = 0.05  # seconds, at most
_BUTTONS = ("do", "csrf_token")

Headers = list[tuple[str, str]]


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


# Routes ---------------------------------------------------------------------


def ask(call: Call) -> Response:
    """The form of a workflow, or which workflows there are."""
    name, file = call.query.get("workflow"), call.query.get("file")
    if name is None:
        found = call.site.catalogue.workflows
        recipes = [found[one] for one in sorted(found) if found[one].inputs or not file]
        return render.page(call, "choose.html", title="Submit", recipes=recipes, file=file)
    workflow = _workflow(call, name)
    values = {"priority": str(field_limits.DEFAULT_PRIORITY)}
    if file is not None and workflow.inputs:
        known = lineage.source(call.store, file)
        values[f"input.{workflow.inputs[0].role}"] = path_of(known)
    return _form(call, Draft(workflow, values))


def take(call: Call) -> Response:
    """What the form's buttons do: pick a file, show the plan, go back, submit."""
    values = call.fields
    draft = Draft(_workflow(call, values.get("workflow", "")), values)
    picked = next((name for name in values if name.startswith("pick.")), "")
    if picked:
        draft.values = _picked(draft.workflow, values, picked.removeprefix("pick."))
        return _form(call, draft)
    if values.get("do") == "change":
        return _form(call, draft)
    prepared = _prepared(call, draft)
    if prepared is None:
        return _form(call, draft, status=422)
    if values.get("do") == "submit":
        return _submit(call, draft, prepared)
    return plan(call, plan_record(prepared, call.site.settings), [], draft.values)


def _workflow(call: Call, name: str) -> Workflow:
    found = call.site.catalogue.workflows
    if name not in found:
        names = ", ".join(sorted(found)) or "none"
        raise Problem(422, f"there is no workflow {name[:100]!r}; there are: {names}")
    return found[name]


def _submit(call: Call, draft: Draft, prepared: submission.PreparedJob) -> Response:
    try:
        job, _ = submission.submit(call.store, prepared, call.user, call.request_id)
    except Conflict as error:
        draft.faults["key"] = str(error)
        return _form(call, draft, status=409)
    response = Response(status=303, location=call.url(f"/jobs/{job}"), content_type=None)
    response.headers["Cache-Control"] = "no-store"
    return response


def _picked(workflow: Workflow, values: Mapping[str, str], role: str) -> dict[str, str]:
    """The values with the picked file: beside others, where there may be several."""
    spec = next((one for one in workflow.inputs if one.role == role), None)
    name, path = f"input.{role}", values[f"pick.{role}"]
    kept = [line for line in values.get(name, "").splitlines() if line.strip()]
    lines = [*kept, path] if spec and spec.maximum > 1 and path not in kept else [path]
    return {**values, name: "\n".join(lines)}


# What was typed -------------------------------------------------------------


def _prepared(call: Call, draft: Draft) -> submission.PreparedJob | None:
    """None if something is wrong; the draft then knows what and where."""
    roots = call.site.settings.paths.roots
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
    catalogue, settings = call.site.catalogue, call.site.settings
    prepared: submission.PreparedJob | None = draft.check(
        "", lambda: catalogue.prepare(request, settings)
    )
    return prepared


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
        return documents.seconds(text)
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


# The form -------------------------------------------------------------------


def _form(call: Call, draft: Draft, *, status: int = 200) -> Response:
    offered = _offered(call) if draft.workflow.inputs else []
    return render.page(
        *(call, "submit.html"),
        title=f"Submit: {draft.workflow.title or draft.workflow.name}",
        status=status,
        workflow=draft.workflow,
        values=draft.values,
        faults=draft.faults,
        inputs=[_input_field(draft, spec) for spec in draft.workflow.inputs],
        parameters=[_parameter_field(draft, spec) for spec in draft.workflow.parameters],
        offered=offered,
        roots=[str(root) for root in call.site.settings.paths.roots],
        longest=field_limits.LONGEST,
    )


def _input_field(draft: Draft, spec: InputSpec) -> dict[str, Any]:
    name = f"input.{spec.role}"
    return {
        **{"name": name, "role": spec.role, "value": draft.values.get(name, "")},
        **{"many": spec.maximum > 1, "needed": spec.minimum > 0, "fault": draft.faults.get(name)},
    }


def _parameter_field(draft: Draft, spec: ParameterSpec) -> dict[str, Any]:
    name = f"parameter.{spec.name}"
    choices = ("true", "false") if spec.type == "boolean" else spec.choices
    default = spec.default or ""
    return {
        **{"name": name, "label": spec.title or spec.name, "description": spec.description},
        **{"choices": choices, "default": shown(default), "needed": spec.required and not default},
        "value": draft.values.get(name, default if choices else ""),
        "numeric": spec.type in ("integer", "number"),
        "fault": draft.faults.get(name),
    }


def _offered(call: Call) -> list[str]:
    """Paths of files to pick from: those that jobs took lately, and others
    beneath the roots, the newest first."""
    roots = call.site.settings.paths.roots
    known = [path_of(href) for href in lineage.sources(call.store, OFFERED)]
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


def plan_record(prepared: submission.PreparedJob, settings: Settings) -> dict[str, Any]:
    """What the job would do, as the document ``plan`` has it."""
    return {
        "workflow": prepared.workflow.name,
        "version": prepared.workflow.version,
        "tasks": [
            {
                **{"name": one.name, "type": one.type, "fails": one.fails},
                **{"skipped": one.skipped_because or "", "notes": list(one.notes)},
                "argv": [list(argv) for argv in one.commands],
                "outputs": [str(path) for path in one.outputs],
            }
            for one in dry_run.plan(prepared, settings)
        ],
    }


def plan(
    call: Call, record: dict[str, Any], headers: Headers, values: Mapping[str, str] | None = None
) -> Response:
    """``values`` are those of the form that it was made for, if there is one."""
    tasks = [
        {**task, "commands": [shlex.join(argv) for argv in task["argv"]]}
        for task in record["tasks"]
    ]
    return render.page(
        *(call, "plan.html"),
        title=f"What {record['workflow']} would do",
        headers=headers,
        tasks=tasks,
        broken=any(task["fails"] for task in tasks),
        values={k: v for k, v in (values or {}).items() if k not in _BUTTONS},
    )
