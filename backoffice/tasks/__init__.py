"""Task types: each is a module of this package with ``plan`` and ``run``.

``plan(context)`` says, without doing anything, which commands would run and
what they would make; ``run(context)`` does it and returns a :class:`Result`.
Neither touches the database: the engine passes in what they need and
stores what they return.

A module must also have ``PARAMETERS`` (name → what it means) and ``REQUIRED`` (the
names it cannot do without). It may have ``TRAITS``, what the engine does for it
beyond that (:class:`Trait`), and ``check(parameters, settings)``, which raises
Invalid before a job is accepted whose task could only fail, and ``VARIANTS = True``
if it makes several variants in one run. A new task type is a
new module; its file name is the type's name, and stands nowhere else in the code.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from backoffice.errors import Invalid, TaskFailed
from backoffice.media import ffmpeg
from backoffice.states import Reason
from backoffice.system.confinement import Confinement


class Trait(Enum):
    """What the engine does for a task type beyond running it."""

    TRIVIAL = "trivial"
    """It ends at once and uses nothing of its context: the worker runs it itself."""
    PROBE = "probe"
    """It finds the facts that conditions ask for. It only reads: a dry run runs it."""
    PUBLISH = "publish"
    """It publishes at the target that its parameter ``target`` names."""
    RETRACT = "retract"
    """It gets the publications that its parameter ``publication`` numbers, and
    removes them from their targets."""
    REPORT = "report"
    """It reports on its job: it gets the job's tasks and publications."""


@dataclass(frozen=True)
class Source:
    """A file given to a task: an input of the job or another task's output.

    ``path`` may be an open descriptor, ``/proc/self/fd/7``: it opens the file that
    was checked, and has no name to show. ``title`` is for people; ``location`` is
    where the file lay when it was checked, if that is another path.
    """

    role: str
    path: Path
    task: str = ""  # the task that made it; empty for an input of the job
    name: str = ""  # file name for people and for the target
    media_type: str = "application/octet-stream"
    size: int = 0
    sha256: str = ""
    tree: bool = False  # the output is the whole folder that holds ``path``
    facts: Mapping[str, Any] = field(default_factory=dict)  # see media.Probe.facts
    file_id: int = 0
    location: Path | None = None

    @property
    def title(self) -> str:
        return self.name or self.path.name


@dataclass(frozen=True)
class Output:
    """A file that a task made, in ``context.folder``; stored as it is.

    With ``tree`` the output is the whole folder that holds ``path`` (an HLS
    package, say) and ``path`` is where a player starts. Tasks leave ``size`` (bytes)
    and ``sha256`` empty: the executor measures the file, or the folder.
    """

    role: str
    path: Path
    media_type: str
    tree: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)
    size: int = 0
    sha256: str = ""


@dataclass(frozen=True)
class Published:
    """A source that is now complete at its target."""

    file_id: int
    target: str
    path: str  # relative to the target's root
    href: str  # where people find it
    tree: bool
    sha256: str
    size: int
    adopted: bool = False  # it was already there, with the same content


@dataclass(frozen=True)
class Publication:
    """A row of ``publication`` as a retract task gets it."""

    id: int
    target: str
    path: str
    sha256: str
    tree: bool


@dataclass(frozen=True)
class Delivery:
    """One try to deliver a notification."""

    url: str
    status: int  # HTTP status; 0 when there was no answer
    message: str
    seconds: float


@dataclass(frozen=True)
class Job:
    """What a task is told of its job."""

    id: int
    workflow: str
    title: str
    key: str
    submitter: str
    metadata: Mapping[str, str]
    tasks: Sequence[Mapping[str, Any]] = ()  # name, type, state, message


@dataclass(frozen=True)
class Plan:
    """What a task would do: exact argument lists, and outputs as expected."""

    commands: Sequence[Sequence[str]] = ()
    outputs: Sequence[Output] = ()
    notes: Sequence[str] = ()  # sentences for people, such as "copies 4 files to …"


@dataclass(frozen=True)
class Result:
    """What an attempt made and found out; stored as it is."""

    outputs: Sequence[Output] = ()
    facts: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)  # file id → facts
    checksums: Mapping[int, str] = field(default_factory=dict)  # file id → SHA-256
    report: Mapping[str, Any] = field(default_factory=dict)  # shown with the task
    warnings: Sequence[str] = ()
    published: Sequence[Published] = ()
    retracted: Sequence[int] = ()  # publication ids
    deliveries: Sequence[Delivery] = ()


class Context(Protocol):
    """What an attempt is given; ``executors.task_context`` implements it."""

    id: int  # of the task
    name: str
    attempt: int  # number, from 1
    job: Job
    parameters: Mapping[str, str]
    variants: Sequence[Mapping[str, str]]  # the parameters of each; empty without variants
    sources: Sequence[Source]
    publications: Sequence[Publication]  # for retract tasks
    folder: Path  # private to this attempt, empty, removed if it fails
    settings: Any  # config.Settings

    @property
    def confinement(self) -> Confinement:
        """The default of commands: they read the sources and write to the folder."""

    def execute(
        self,
        argv: Sequence[str],
        *,
        duration: float | None = None,
        start: float = 0.0,
        share: float = 1.0,
        confined: Confinement | None = None,
    ) -> str:
        """Run a command under this attempt and return the end of its stderr.

        Records argv, log and resource use. ``duration`` (seconds of media)
        makes ffmpeg's progress a fraction; the command covers ``share`` of
        the attempt's progress beginning at ``start``. It may use what
        ``confinement`` allows, or ``confined``. Raises TaskFailed with the
        reason in words, or ProcessKilled.
        """

    def progress(self, fraction: float, speed: str = "") -> None:
        """Report progress, 0 to 1. Long work that runs no command must call it at least
        every few seconds, or the task counts as stalled."""

    def log(self, line: str) -> None:
        """Write a line into the attempt's log."""

    def fence(self) -> None:
        """Make sure that this attempt still holds its task; call it just before any
        visible change. Raises LeaseLost if another worker has the task."""


REFUSE, TOLERATE = "refuse", "tolerate"
DAMAGE = "what is done with a source that has faults: refuse (the default) or tolerate"


def tolerates(parameters: Mapping[str, str]) -> bool:
    """Whether the parameter ``damage`` says to take a source with faults as it is."""
    value = parameters.get("damage", "").strip() or REFUSE
    if value not in (REFUSE, TOLERATE):
        message = f"damage is {value!r}; it may be {REFUSE} or {TOLERATE}"
        raise TaskFailed(message, retry=False, reason=Reason.BAD_PARAMETER)
    return value == TOLERATE


def only_source(context: Context) -> Source:
    """The one file of a task that takes one; raises TaskFailed if it got another number."""
    if len(context.sources) != 1:
        kind, got = context.name, len(context.sources)
        message = f"{kind} takes one file, and got {got}; check the workflow"
        raise TaskFailed(message, retry=False, reason=Reason.BAD_PARAMETER)
    return context.sources[0]


def facts_of(context: Context, source: Source) -> Mapping[str, Any]:
    """What is known of a source, or is found now where no task has looked at it yet."""
    return source.facts or ffmpeg.probe(
        source.path, context.settings, context.log, name=source.title
    )


@functools.cache
def names() -> frozenset[str]:
    """The task types there are. The package is listed once: every attempt asks."""
    return frozenset(m.name for m in pkgutil.iter_modules(__path__) if not m.ispkg)


def load(name: str) -> ModuleType:
    """The module of a task type; raises Invalid for an unknown one."""
    if name not in names():
        raise Invalid(f"there is no task type {name!r}; there are {', '.join(sorted(names()))}")
    return importlib.import_module(f"{__name__}.{name}")


@functools.cache
def has(name: str, trait: Trait) -> bool:
    """Whether the module of a task type names the trait. One that cannot be loaded has
    none: its attempt then says what is wrong with it."""
    try:
        return trait in getattr(load(name), "TRAITS", ())
    except Exception:
        return False


def having(trait: Trait) -> list[str]:
    """The task types that have the trait, by name; loads them all."""
    return [name for name in sorted(names()) if has(name, trait)]
