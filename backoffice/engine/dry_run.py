"""Dry run: the tasks, exact commands and outputs of a job, with nothing done.

Walks through the plan as the engine would, without a database and without
writing. Input files are read, because conditions and commands depend on them. Outputs
have the paths that they would have, with ``JOB`` for the number of the job.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from backoffice import tasks as task_types
from backoffice.config.redaction import Redaction
from backoffice.config.settings import Settings
from backoffice.engine import variants, workflows
from backoffice.engine.submission import PreparedJob
from backoffice.engine.workflows import InputRef, TaskSpec, Variant
from backoffice.errors import BackofficeError
from backoffice.system.confinement import NOTHING, Confinement
from backoffice.tasks import Job, Plan, Publication, Source, Trait

JOB = "JOB"


class _Unknown(int):
    """The number of a job that does not exist yet."""

    def __str__(self) -> str:
        return JOB

    def __format__(self, spec: str) -> str:
        return JOB


@dataclass(frozen=True)
class DryTask:
    """``fails`` tells why it would fail or never begin; empty if it would not."""

    name: str
    type: str
    skipped_because: str | None = None
    commands: Sequence[Sequence[str]] = ()
    outputs: Sequence[Path] = ()
    notes: Sequence[str] = ()
    fails: str = ""


@dataclass
class _DryRunContext:
    """Implements :class:`backoffice.tasks.Context` as far as planning needs it."""

    name: str
    job: Job
    parameters: Mapping[str, str]
    variants: Sequence[Mapping[str, str]]
    sources: Sequence[Source]
    folder: Path
    settings: Settings
    id: int = 0
    attempt: int = 1
    publications: Sequence[Publication] = ()
    confinement: Confinement = NOTHING

    def execute(
        self,
        argv: Sequence[str],
        *,
        duration: float | None = None,
        start: float = 0.0,
        share: float = 1.0,
        confined: Confinement | None = None,
    ) -> str:
        raise AssertionError(f"planning task {self.name} must not run {argv[0]}")

    def progress(self, fraction: float, speed: str = "") -> None:
        pass

    def log(self, line: str) -> None:
        pass

    def fence(self) -> None:
        raise AssertionError(f"planning task {self.name} must not make anything visible")


@dataclass
class _Walk:
    """How far the job has come. ``made`` has an entry for each task that is
    done or skipped."""

    prepared: PreparedJob
    settings: Settings
    inputs: list[Source]
    facts: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    made: dict[str, list[Source]] = field(default_factory=dict)
    done: list[DryTask] = field(default_factory=list)

    def step(self, spec: TaskSpec) -> None:
        self.done.append(self._step(spec))

    def _step(self, spec: TaskSpec) -> DryTask:
        missing = [name for name in spec.needs if name not in self.made]
        if missing:
            return DryTask(spec.name, spec.type, fails=f"is not reached: it needs {missing[0]}")
        if reason := self._left_out(spec):
            self.made[spec.name] = []
            return DryTask(spec.name, spec.type, skipped_because=reason)
        context = self._context(spec)
        redact = Redaction([value for one in spec.parameter_sets for value in one.values()])
        try:
            plan = self._plan(spec, context)
        except BackofficeError as error:
            return DryTask(spec.name, spec.type, fails=redact(str(error)))
        self.made[spec.name] = [
            Source(
                role=output.role,
                path=output.path,
                task=spec.name,
                name=output.path.name,
                media_type=output.media_type,
                tree=output.tree,
                facts=output.facts,
            )
            for output in plan.outputs
        ]
        paths = [output.path for output in plan.outputs]
        commands = [[redact(argument) for argument in argv] for argv in plan.commands]
        notes = [redact(note) for note in (*plan.notes, *self._variant_notes(spec))]
        return DryTask(spec.name, spec.type, None, commands, paths, notes)

    def _left_out(self, spec: TaskSpec) -> str:
        return variants.left_out(spec.when, spec.variants, self._job_facts())

    def _chosen(self, spec: TaskSpec) -> list[Variant]:
        return variants.chosen(spec.variants, self._job_facts())

    def _variant_notes(self, spec: TaskSpec) -> list[str]:
        if not spec.variants:
            return []
        chosen = self._chosen(spec)
        told = [
            f"leaves out {one.name}: {variants.reason(one.when)}"
            for one in spec.variants
            if one not in chosen
        ]
        return [*told, "where several hosts share the work, each variant is a task of its own"]

    def _plan(self, spec: TaskSpec, context: _DryRunContext) -> Plan:
        module = task_types.load(spec.type)
        plan: Plan = module.plan(context)
        if task_types.has(spec.type, Trait.PROBE):  # all that follows depends on its facts
            self.facts.update(module.run(context).facts)
        return plan

    def _context(self, spec: TaskSpec) -> _DryRunContext:
        request = self.prepared.request
        number = _Unknown()
        return _DryRunContext(
            name=spec.name,
            job=Job(number, request.workflow, request.title, request.key, "", request.metadata),
            parameters=spec.parameters,
            variants=[one.parameters for one in self._chosen(spec)],
            sources=[source for wanted in spec.inputs for source in self._sources(wanted)],
            folder=self.settings.paths.work / "jobs" / JOB / f"{spec.name}-1",
            settings=self.settings,
        )

    def _sources(self, wanted: InputRef) -> list[Source]:
        if wanted.task:
            made = self.made[wanted.task]
            return [source for source in made if wanted.role in (None, source.role)]
        return [
            replace(source, facts=self.facts.get(source.file_id, {}))
            for source in self.inputs
            if source.role == wanted.role
        ]

    def _job_facts(self) -> dict[str, object]:
        """Of several inputs of a role the first one counts, as in a real job."""
        inputs = {
            source.role: self.facts.get(source.file_id, {}) for source in reversed(self.inputs)
        }
        return workflows.facts(self.prepared.parameters, inputs)


def record(prepared: PreparedJob, settings: Settings) -> dict[str, Any]:
    """What the job would do, as the document ``plan`` has it."""
    return {
        "workflow": prepared.workflow.name,
        "version": prepared.workflow.version,
        "tasks": [
            {
                "name": task.name,
                "type": task.type,
                "fails": task.fails,
                "skipped": task.skipped_because or "",
                "notes": list(task.notes),
                "argv": [list(argv) for argv in task.commands],
                "outputs": [str(path) for path in task.outputs],
            }
            for task in plan(prepared, settings)
        ],
    }


def plan(prepared: PreparedJob, settings: Settings) -> list[DryTask]:
    """What each task would do, in the order of the workflow."""
    inputs = [
        Source(role=role, path=path, name=path.name, size=size, file_id=number)
        for number, (role, path, size) in enumerate(prepared.inputs, 1)
    ]
    walk = _Walk(prepared, settings, inputs)
    for spec in prepared.plan:
        walk.step(spec)
    return walk.done
