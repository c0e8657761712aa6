"""Workflows: XML recipes, and the task plans that jobs get from them.

Owns the documents' meaning and every check that can be made before a job
exists, so that a broken recipe is refused when it is loaded. Pure: it touches
no database, starts nothing, and is told what profiles and targets there are.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn, Protocol

from lxml import etree

from backoffice import units
from backoffice.config import webhook_keys
from backoffice.config.redaction import shown
from backoffice.documents import safe_xml
from backoffice.errors import DefinitionError, Invalid
from backoffice.tasks import Trait

MEDIA_FACTS = ("lines", "width", "height", "duration", "video", "audio", "subtitle", "frame_rate")


class TaskType(Protocol):
    """What a recipe must know of a task type."""

    @property
    def PARAMETERS(self) -> Mapping[str, str]:
        """Name → what it means; ``*`` stands for any other name."""

    @property
    def REQUIRED(self) -> frozenset[str]:
        """Those it cannot do without."""

    # ``VARIANTS = True``, if it has that: one task can make several variants at once.


@dataclass(frozen=True)
class Condition:
    """A task is skipped unless all its conditions hold; see :func:`holds`."""

    fact: str  # "source.lines", "parameter.notify"
    minimum: float | None = None
    maximum: float | None = None
    equals: str | None = None
    present: bool | None = None


@dataclass(frozen=True)
class InputRef:
    """Files of the job (``task`` empty) or what another task made.

    ``role`` narrows what a task made; None takes all of it.
    """

    role: str | None
    task: str = ""


@dataclass(frozen=True)
class Variant:
    """One of several results that a task makes of the same inputs, such as a rung of a
    ladder; see :mod:`backoffice.variants`. ``parameters`` are its own and the task's."""

    name: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    references: Mapping[str, str] = field(default_factory=dict)  # gone after plan()
    when: tuple[Condition, ...] = ()
    timeout: float = 21600.0  # seconds
    weight: int = 1


@dataclass(frozen=True)
class TaskSpec:
    """One task of a workflow. Times are in seconds."""

    name: str
    type: str
    title: str = ""
    queue: str = "default"
    tags: frozenset[str] = frozenset()
    needs: tuple[str, ...] = ()  # with the tasks its inputs come from
    inputs: tuple[InputRef, ...] = ()
    parameters: Mapping[str, str] = field(default_factory=dict)
    references: Mapping[str, str] = field(default_factory=dict)  # gone after plan()
    when: tuple[Condition, ...] = ()
    variants: tuple[Variant, ...] = ()
    timeout: float = 21600.0
    stall: float = 300.0
    attempts: int = 3
    backoff: float = 10.0  # before the second attempt
    delay: float = 0.0
    weight: int = 1

    @property
    def parameter_sets(self) -> Sequence[Mapping[str, str]]:
        """The parameters of each variant, or those of a task without variants."""
        return [variant.parameters for variant in self.variants] or [self.parameters]


@dataclass(frozen=True)
class InputSpec:
    """How many files of a role a job must have."""

    role: str
    minimum: int = 1
    maximum: int = 1


@dataclass(frozen=True)
class ParameterSpec:
    """What a job may choose. No default and not required means: may be left out."""

    name: str
    type: str = "string"
    default: str | None = None
    required: bool = False
    choices: tuple[str, ...] = ()  # for profile and target: those that exist
    title: str = ""
    description: str = ""


@dataclass(frozen=True)
class Workflow:
    """A recipe that was checked whole. ``tasks`` come after those they need."""

    name: str
    version: int
    title: str
    description: str
    inputs: tuple[InputSpec, ...]
    parameters: tuple[ParameterSpec, ...]
    tasks: tuple[TaskSpec, ...]
    source: str  # the file it came from

    @property
    def first_role(self) -> str:
        """The role of inputs that are given without one; without inputs, ``source``."""
        return self.inputs[0].role if self.inputs else "source"


def load(
    folders: Sequence[Path],
    *,
    task_types: Mapping[str, TaskType | ModuleType],
    profiles: Collection[str],
    targets: Collection[str],
    commands: Collection[str],
) -> dict[str, Workflow]:
    """Every workflow in ``folders``, by name; a later folder's wins.

    Raises DefinitionError with file and line for the first fault.
    """
    known = _Known(task_types, frozenset(profiles), frozenset(targets), frozenset(commands))
    loaded: dict[str, Workflow] = {}
    for folder in folders:
        loaded.update(_load_folder(folder, known))
    return loaded


def resolve_parameters(workflow: Workflow, parameters: Mapping[str, str]) -> dict[str, str]:
    """A job's parameters, checked and with defaults; Invalid says what is allowed."""
    specs = {spec.name: spec for spec in workflow.parameters}
    for name in parameters:
        if name not in specs:
            raise Invalid(
                f"workflow {workflow.name} has no parameter {name!r}; it has {_list(specs)}"
            )
    settled: dict[str, str] = {}
    for name, spec in specs.items():
        value = parameters.get(name) or spec.default
        if not value:
            if spec.required:
                raise Invalid(f"workflow {workflow.name} needs the parameter {name!r}; give it")
            continue
        fault = _value_fault(spec, value)
        if fault:
            raise Invalid(f"parameter {name!r}: {fault}")
        settled[name] = value
    return settled


def plan(workflow: Workflow, parameters: Mapping[str, str]) -> tuple[TaskSpec, ...]:
    """The tasks of a job with these parameters, each after those it needs.

    A task parameter taken from a parameter that was left out is left out too.
    """
    settled = resolve_parameters(workflow, parameters)
    return tuple(_resolve(task, settled) for task in workflow.tasks)


def check_inputs(workflow: Workflow, roles: Sequence[str]) -> None:
    """Raise Invalid unless files of these roles are what the workflow takes."""
    specs = {spec.role: spec for spec in workflow.inputs}
    for role in roles:
        if role not in specs:
            raise Invalid(f"workflow {workflow.name} takes no {role!r}; it takes {_list(specs)}")
    for spec in workflow.inputs:
        count = sum(1 for role in roles if role == spec.role)
        if not spec.minimum <= count <= spec.maximum:
            raise Invalid(
                f"workflow {workflow.name} takes {_range(spec)} of role {spec.role!r}, not {count}"
            )


def facts(
    parameters: Mapping[str, str], inputs: Mapping[str, Mapping[str, Any]]
) -> dict[str, object]:
    """What conditions may ask, flat. ``inputs`` maps a role to probed media facts.

    ``lines`` is the shorter side of the picture as displayed, which is what
    people call 720 or 1080 whichever way the camera was held.
    """
    known: dict[str, object] = {f"parameter.{n}": v for n, v in parameters.items() if v != ""}
    for role, media in inputs.items():
        known.update((f"{role}.{name}", value) for name, value in _media_facts(media).items())
    return known


def holds(when: Iterable[Condition], facts: Mapping[str, object]) -> bool:
    """Whether all conditions hold. One about a fact not known does not."""
    return all(_holds(condition, facts.get(condition.fact)) for condition in when)


def describe(condition: Condition) -> str:
    """The condition as part of a sentence: ``source.lines is at least 720``."""
    parts = []
    if condition.present is not None:
        parts.append("is given" if condition.present else "is not given")
    if condition.equals is not None:
        parts.append(f"is {shown(condition.equals)}")
    if condition.minimum is not None:
        parts.append(f"is at least {condition.minimum:g}")
    if condition.maximum is not None:
        parts.append(f"is at most {condition.maximum:g}")
    return f"{condition.fact} {' and '.join(parts)}"


# Facts and conditions


def _media_facts(media: Mapping[str, Any]) -> dict[str, object]:
    video = media.get("video") or []
    kinds = ("video", "audio", "subtitle")
    known: dict[str, object] = {kind: len(media.get(kind) or []) for kind in kinds}
    if media.get("duration") is not None:
        known["duration"] = media["duration"]
    if video:
        first = video[0]
        width, height = first.get("width"), first.get("height")
        if width and height:
            known.update(width=width, height=height, lines=min(width, height))
        if first.get("frame_rate"):
            known["frame_rate"] = first["frame_rate"]
    return known


def _holds(condition: Condition, value: object) -> bool:
    if condition.present is not None and (value is not None) != condition.present:
        return False
    if condition.equals is not None and (value is None or str(value) != condition.equals):
        return False
    if condition.minimum is None and condition.maximum is None:
        return True
    number = _number(value)
    if number is None:
        return False
    low = -math.inf if condition.minimum is None else condition.minimum
    high = math.inf if condition.maximum is None else condition.maximum
    return low <= number <= high


def _number(value: object) -> float | None:
    if not isinstance(value, str | int | float):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


# Parameters and inputs


def _resolve(task: TaskSpec, settled: Mapping[str, str]) -> TaskSpec:
    variants = tuple(
        replace(one, parameters=_given(one, settled), references={}) for one in task.variants
    )
    return replace(task, parameters=_given(task, settled), references={}, variants=variants)


def _given(one: TaskSpec | Variant, settled: Mapping[str, str]) -> dict[str, str]:
    taken = {name: settled[origin] for name, origin in one.references.items() if origin in settled}
    return {**one.parameters, **taken}


def _value_fault(spec: ParameterSpec, value: str) -> str:
    """What is wrong with ``value``, as a sentence; empty if it is right."""
    if any(ord(c) < 32 for c in value):
        return "control characters are not allowed"
    told = shown(value)
    if spec.type in ("choice", "profile", "target"):
        right = value in spec.choices
        return "" if right else f"{told!r} is not one of {_list(spec.choices)}"
    if spec.type == "integer":
        right = value.removeprefix("-").isdecimal() and value.isascii() and len(value) < 19
        return "" if right else f"{told!r} is no whole number"
    if spec.type == "number":
        return "" if _number(value) is not None else f"{told!r} is no number"
    if spec.type == "boolean":
        return "" if value in ("true", "false") else f"{told!r} is neither true nor false"
    if spec.type == "url":
        return _url_fault(value)
    return ""


def _url_fault(value: str) -> str:
    if not webhook_keys.is_url(value):
        return f"{shown(value)!r} is no http or https URL"
    # As documents and pages show it: whatever came after is lost.
    return f"{shown(value)!r} was shortened to be shown; give it whole" if "/…" in value else ""


def _range(spec: InputSpec) -> str:
    if spec.minimum == spec.maximum:
        return "1 file" if spec.minimum == 1 else f"{spec.minimum} files"
    return f"{spec.minimum} to {spec.maximum} files"


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


# Loading


@dataclass(frozen=True)
class _Known:
    """What there is in this installation."""

    types: Mapping[str, TaskType | ModuleType]
    profiles: frozenset[str]
    targets: frozenset[str]
    commands: frozenset[str]

    def probes(self, name: str) -> bool:
        return Trait.PROBE in getattr(self.types[name], "TRAITS", ())

    def named(self, kind: str) -> frozenset[str] | None:
        """The names a parameter of that kind or name must be one of, if any."""
        tables = {"profile": self.profiles, "target": self.targets, "command": self.commands}
        return tables.get(kind)


def _load_folder(folder: Path, known: _Known) -> dict[str, Workflow]:
    if not folder.is_dir():
        raise DefinitionError("no such folder; see [paths] workflows", source=str(folder))
    loaded: dict[str, Workflow] = {}
    for path in sorted(folder.glob("*.xml")):
        workflow = _Reader(path, known).workflow()
        if workflow.name in loaded:
            other = loaded[workflow.name].source
            raise DefinitionError(f"workflow {workflow.name} is in {other} too", source=str(path))
        loaded[workflow.name] = workflow
    return loaded


class _Reader:
    """Turns one document into a Workflow, or refuses it with file and line."""

    def __init__(self, path: Path, known: _Known) -> None:
        self.path = path
        self.known = known
        self.root = safe_xml.definition(self.path, "workflow")
        self.inputs = self._job_inputs()
        self.parameters = self._job_parameters()
        self.elements = self._by_name("task", "name")

    def workflow(self) -> Workflow:
        tasks = [self._task(element) for element in self.elements.values()]
        ordered = self._in_order(tasks)
        self._check_conditions(ordered)
        return Workflow(
            name=self.root.get("name", ""),
            version=int(self.root.get("version", "1")),
            title=_child(self.root, "title") or self.root.get("name", ""),
            description=_child(self.root, "description"),
            inputs=tuple(self.inputs.values()),
            parameters=tuple(self.parameters.values()),
            tasks=ordered,
            source=str(self.path),
        )

    def _refuse(self, element: etree._Element, message: str) -> NoReturn:
        safe_xml.refuse(self.path, element, message)

    def _by_name(
        self, tag: str, key: str, parent: etree._Element | None = None
    ) -> dict[str, etree._Element]:
        """The parent's (the root's) children of that tag, by their ``key``, which must be
        unique."""
        elements: dict[str, etree._Element] = {}
        for element in _children(self.root if parent is None else parent, tag):
            name = element.get(key, "")
            if name in elements:
                self._refuse(element, f"there is a second {tag} named {name!r}")
            elements[name] = element
        return elements

    def _job_inputs(self) -> dict[str, InputSpec]:
        inputs: dict[str, InputSpec] = {}
        for role, element in self._by_name("input", "role").items():
            if role == "parameter":
                self._refuse(
                    element, "an input cannot have the role 'parameter'; name it otherwise"
                )
            low, high = int(element.get("min", "1")), int(element.get("max", "1"))
            if not low <= high or high == 0:
                self._refuse(element, f"input {role!r}: from {low} to {high} files is impossible")
            inputs[role] = InputSpec(role, low, high)
        return inputs

    def _job_parameters(self) -> dict[str, ParameterSpec]:
        elements = self._by_name("parameter", "name")
        return {name: self._job_parameter(name, element) for name, element in elements.items()}

    def _job_parameter(self, name: str, element: etree._Element) -> ParameterSpec:
        kind = element.get("type", "string")
        spec = ParameterSpec(
            name=name,
            type=kind,
            default=element.get("default"),
            required=_true(element.get("required")),
            choices=self._choices(kind, element),
            title=_child(element, "title") or name,
            description=_child(element, "description"),
        )
        fault = _value_fault(spec, spec.default) if spec.default is not None else ""
        if fault:
            self._refuse(element, f"the default of parameter {name!r}: {fault}")
        return spec

    def _choices(self, kind: str, element: etree._Element) -> tuple[str, ...]:
        given = tuple(safe_xml.text(choice) for choice in _children(element, "choice"))
        existing = self.known.named(kind)
        if existing is None:
            if (kind == "choice") != bool(given):
                self._refuse(element, "choices and type='choice' go together")
            return given
        for choice in given:
            if choice not in existing:
                self._refuse(element, f"there is no {kind} {choice!r}; there are {_list(existing)}")
        return given or tuple(sorted(existing))

    def _task(self, element: etree._Element) -> TaskSpec:
        inputs = self._inputs(element)
        kind = self._type(element)
        literal, references = self._parameters(element, kind)
        variants = self._variants(element, kind, literal, references)
        if not variants:
            self._check_required(element, kind, literal, references)
        return TaskSpec(
            name=element.get("name", ""),
            type=kind,
            title=_child(element, "title") or element.get("name", ""),
            queue=element.get("queue", "default"),
            tags=frozenset(element.get("tags", "").split()),
            needs=self._needs(element, inputs),
            inputs=inputs,
            parameters=literal,
            references=references,
            when=self._conditions(element),
            variants=variants,
            timeout=units.parse_duration(element.get("timeout", "6h")),
            stall=units.parse_duration(element.get("stall", "5m")),
            attempts=int(element.get("attempts", "3")),
            backoff=units.parse_duration(element.get("backoff", "10s")),
            delay=units.parse_duration(element.get("delay", "0s")),
            weight=int(element.get("weight", "1")),
        )

    def _variants(
        self,
        element: etree._Element,
        kind: str,
        literal: Mapping[str, str],
        references: Mapping[str, str],
    ) -> tuple[Variant, ...]:
        """Each with what it has of the task's parameters, time and weight."""
        found = []
        for name, child in self._by_name("variant", "name", element).items():
            if not getattr(self.known.types[kind], "VARIANTS", False):
                self._refuse(child, f"a {kind} task cannot have variants")
            if (full := f"{element.get('name')}-{name}") in self.elements:
                self._refuse(child, f"the variant would be a second task named {full!r}")
            own, from_job = self._parameters(child, kind)
            given = {k: v for k, v in literal.items() if k not in from_job} | own
            taken = {k: v for k, v in references.items() if k not in own} | from_job
            self._check_required(child, kind, given, taken)
            found.append(self._variant(name, child, given, taken))
        return tuple(found)

    def _variant(
        self,
        name: str,
        element: etree._Element,
        literal: Mapping[str, str],
        references: Mapping[str, str],
    ) -> Variant:
        task = element.getparent()
        assert task is not None
        return Variant(
            name=name,
            parameters=literal,
            references=references,
            when=self._conditions(element),
            timeout=units.parse_duration(element.get("timeout", task.get("timeout", "6h"))),
            weight=int(element.get("weight", task.get("weight", "1"))),
        )

    def _type(self, element: etree._Element) -> str:
        kind = element.get("type", "")
        if kind not in self.known.types:
            there = _list(self.known.types)
            self._refuse(element, f"there is no task type {kind!r}; there are {there}")
        return kind

    def _inputs(self, element: etree._Element) -> tuple[InputRef, ...]:
        inputs = []
        for child in _children(element, "input"):
            role, task = child.get("role"), child.get("task", "")
            if not task and role is None:
                self._refuse(child, "an input needs a role of the job's inputs, or a task")
            if not task and role not in self.inputs:
                there = _list(self.inputs)
                self._refuse(child, f"the job has no input of role {role!r}; it has {there}")
            inputs.append(InputRef(role, task))
        return tuple(inputs)

    def _needs(self, element: etree._Element, inputs: Iterable[InputRef]) -> tuple[str, ...]:
        wanted = [*element.get("needs", "").split(), *(ref.task for ref in inputs if ref.task)]
        for name in wanted:
            if name not in self.elements:
                there = _list(self.elements)
                self._refuse(element, f"there is no task {name!r} to need; there are {there}")
        return tuple(dict.fromkeys(wanted))

    def _parameters(
        self, element: etree._Element, kind: str
    ) -> tuple[dict[str, str], dict[str, str]]:
        literal: dict[str, str] = {}
        references: dict[str, str] = {}
        for child in _children(element, "parameter"):
            name, origin = child.get("name", ""), child.get("from")
            if name in literal or name in references:
                self._refuse(child, f"parameter {name!r} is given twice")
            self._check_known(child, kind, name)
            if origin is None:
                literal[name] = self._literal(child, name)
            else:
                references[name] = self._origin(child, origin)
        return literal, references

    def _check_known(self, element: etree._Element, kind: str, name: str) -> None:
        allowed = self.known.types[kind].PARAMETERS
        if name not in allowed and "*" not in allowed:
            there = _list(allowed)
            self._refuse(element, f"a {kind} task has no parameter {name!r}; it has {there}")

    def _literal(self, element: etree._Element, name: str) -> str:
        value = safe_xml.text(element)
        existing = self.known.named(name)
        if existing is not None and value not in existing:
            self._refuse(element, f"there is no {name} {value!r}; there are {_list(existing)}")
        return value

    def _origin(self, element: etree._Element, origin: str) -> str:
        if safe_xml.text(element):
            self._refuse(element, "a parameter has either from or a text, not both")
        if origin not in self.parameters:
            there = _list(self.parameters)
            self._refuse(element, f"the job has no parameter {origin!r}; it has {there}")
        return origin

    def _check_required(
        self,
        element: etree._Element,
        kind: str,
        literal: Mapping[str, str],
        references: Mapping[str, str],
    ) -> None:
        within = [element, *element.iterancestors()]  # of a variant, its task
        asked = {
            child.get("fact")
            for one in within
            for child in _children(one, "when")
            if _true(child.get("present"))
        }
        for name in sorted(self.known.types[kind].REQUIRED - literal.keys()):
            if name not in references:
                self._refuse(element, f"a {kind} task needs the parameter {name!r}")
            origin = self.parameters[references[name]]
            certain = origin.required or origin.default or f"parameter.{origin.name}" in asked
            if not certain:
                self._refuse(
                    element,
                    f"{name!r} may be missing, for the parameter {origin.name!r} may be left out;"
                    f' require it, or add <when fact="parameter.{origin.name}" present="true"/>',
                )

    def _conditions(self, element: etree._Element) -> tuple[Condition, ...]:
        return tuple(self._condition(child) for child in _children(element, "when"))

    def _condition(self, element: etree._Element) -> Condition:
        subject, _, fact = element.get("fact", "").partition(".")
        if subject == "parameter":
            if fact not in self.parameters:
                there = _list(self.parameters)
                self._refuse(element, f"the job has no parameter {fact!r}; it has {there}")
        elif subject not in self.inputs:
            there = _list([*self.inputs, "parameter"])
            self._refuse(element, f"facts are known of {there}, not of {subject!r}")
        elif fact not in MEDIA_FACTS:
            self._refuse(element, f"there is no fact {fact!r}; there are {_list(MEDIA_FACTS)}")
        present = element.get("present")
        condition = Condition(
            fact=f"{subject}.{fact}",
            minimum=_optional_number(element.get("min")),
            maximum=_optional_number(element.get("max")),
            equals=element.get("equals"),
            present=None if present is None else _true(present),
        )
        if condition == Condition(condition.fact):
            self._refuse(element, "a condition needs min, max, equals or present")
        return condition

    def _in_order(self, tasks: Sequence[TaskSpec]) -> tuple[TaskSpec, ...]:
        """Topological, and otherwise as written."""
        waiting = {task.name: task for task in tasks}
        ordered: dict[str, TaskSpec] = {}
        while waiting:
            free = next((t for t in waiting.values() if ordered.keys() >= set(t.needs)), None)
            if free is None:
                circle = _circle(waiting)
                self._refuse(
                    self.elements[circle[0]], f"tasks need each other: {' → '.join(circle)}"
                )
            ordered[free.name] = waiting.pop(free.name)
        return tuple(ordered.values())

    def _check_conditions(self, ordered: Sequence[TaskSpec]) -> None:
        """Media facts are known once a probe has run, and not before."""
        probed: set[str] = set()
        for task in ordered:
            after_probe = any(need in probed for need in task.needs)
            for condition in (*task.when, *(c for one in task.variants for c in one.when)):
                if not after_probe and not condition.fact.startswith("parameter."):
                    self._refuse(
                        self.elements[task.name],
                        f"{condition.fact} is not known yet; let the task need a probe task",
                    )
            if after_probe or self.known.probes(task.type):
                probed.add(task.name)


def _circle(waiting: Mapping[str, TaskSpec]) -> list[str]:
    """One circle among tasks that all wait for each other, first name repeated last."""
    path: list[str] = []
    name = next(iter(waiting))
    while name not in path:
        path.append(name)
        name = next(need for need in waiting[name].needs if need in waiting)
    return [*path[path.index(name) :], name]


def _children(element: etree._Element, tag: str) -> list[etree._Element]:
    return element.findall(f"{{{safe_xml.NAMESPACE}}}{tag}")


def _child(element: etree._Element, tag: str) -> str:
    child = element.find(f"{{{safe_xml.NAMESPACE}}}{tag}")
    return "" if child is None else safe_xml.text(child)


def _true(value: str | None) -> bool:
    return value is not None and value.strip() in ("true", "1")


def _optional_number(value: str | None) -> float | None:
    return None if value is None else float(value)
