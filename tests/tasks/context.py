"""A task's context without an engine: commands really run, nothing is stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from backoffice.config import loading
from backoffice.config.settings import Settings
from backoffice.engine.assignments import Assignment
from backoffice.engine.claims import Claim
from backoffice.errors import LeaseLost, TaskFailed
from backoffice.media import ffmpeg
from backoffice.system.confinement import Confinement
from backoffice.tasks import Job, Publication, Source
from backoffice.workers.executors.attempt_log import AttemptLog
from backoffice.workers.executors.task_context import AttemptContext

JOB = Job(id=1, workflow="test", title="A test", key="", submitter="tester", metadata={}, tasks=())


def settings(folder: Path, **changes: Mapping[str, Any]) -> Settings:
    """Default settings beneath ``folder``; ``limits={"memory": 0}`` changes one."""
    home = {"BACKOFFICE_PATHS_HOME": str(folder), "BACKOFFICE_PATHS_ROOTS": str(folder)}
    given = loading.load(None, home)
    sections = {name: replace(getattr(given, name), **new) for name, new in changes.items()}
    return replace(given, **sections)


@dataclass
class FakeContext:
    """Implements :class:`backoffice.tasks.Context`; what happened is in its lists."""

    folder: Path
    settings: Settings
    sources: Sequence[Source] = ()
    parameters: Mapping[str, str] = field(default_factory=dict)
    variants: Sequence[Mapping[str, str]] = ()
    publications: Sequence[Publication] = ()
    job: Job = JOB
    id: int = 1
    name: str = "test"
    attempt: int = 1
    ours: bool = True  # false: the fence finds that the lease was lost

    commands: list[list[str]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    fractions: list[float] = field(default_factory=list)
    fences: int = 0

    def execute(
        self,
        argv: Sequence[str],
        *,
        duration: float | None = None,
        start: float = 0.0,
        share: float = 1.0,
        confined: Confinement | None = None,
    ) -> str:
        engine = _Engine(self)
        return engine.execute(argv, duration=duration, start=start, share=share, confined=confined)

    @property
    def confinement(self) -> Confinement:
        return _Engine(self).confinement

    def progress(self, fraction: float, speed: str = "") -> None:
        assert 0.0 <= fraction <= 1.0
        self.fractions.append(fraction)

    def log(self, line: str) -> None:
        self.lines.append(line)

    def fence(self) -> None:
        self.fences += 1
        if not self.ours:
            raise LeaseLost("another worker has this task now")


class _Lines(AttemptLog):
    """A log in memory."""

    def __init__(self, settings: Settings, assignment: Assignment, lines: list[str]) -> None:
        super().__init__(settings, assignment)
        self._lines = lines

    def __call__(self, line: str) -> None:
        self._lines.append(line)


class _Engine(AttemptContext):
    """Runs commands as attempts do, and tells the fake what a worker would hear."""

    def __init__(self, fake: FakeContext) -> None:
        held = Claim(fake.id, fake.attempt, 1, fake.job.id)
        assignment = Assignment(held, fake.name, "test", fake.job, {}, (), (), 0, 0)
        log = _Lines(fake.settings, assignment, fake.lines)
        super().__init__(
            assignment, None, fake.settings, log, sources=fake.sources, _folder=fake.folder
        )
        self.fake = fake

    def _send(self, message: tuple[Any, ...]) -> Any:
        match message:
            case ("command", argv):
                self.fake.commands.append(argv)
            case ("progress", fraction, speed):
                self.fake.progress(fraction, speed)


def make_context(
    folder: Path,
    *paths: Path,
    role: str = "source",
    settings: Settings | None = None,
    probed: bool = True,
    **parameters: str,
) -> FakeContext:
    """A context with an empty private folder beneath ``folder`` and one source
    a path, probed as the engine would have them; ``min_duration`` names the
    parameter ``min-duration``."""
    given = settings or _settings(folder)
    private = folder / "private"
    private.mkdir()
    return FakeContext(
        folder=private,
        settings=given,
        sources=[make_source(p, role, n, given, probed) for n, p in enumerate(paths, 1)],
        parameters={k.replace("_", "-"): v for k, v in parameters.items()},
    )


def make_source(path: Path, role: str, number: int, given: Settings, probed: bool = True) -> Source:
    facts: Mapping[str, Any] = {}
    if probed:
        try:
            facts = ffmpeg.probe(path, given)
        except TaskFailed:
            facts = {}
    size = path.stat().st_size if path.exists() else 0
    return Source(role=role, path=path, name=path.name, size=size, facts=facts, file_id=number)


_settings = settings
