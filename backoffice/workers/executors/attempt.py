"""The inside of an attempt's process: run one task module, tell how it went.

Runs in a child of the worker that has no database. It talks with its worker
over a pipe, in tuples whose first word says what they are, and it ends itself
when its lease has ended, whatever it may be doing: a worker that is stopped,
cut off or gone renews nothing.
"""

from __future__ import annotations

import logging
import os
import resource
import shutil
import signal
import socket
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any

from backoffice import tasks
from backoffice.config.loading import Settings
from backoffice.config.redaction import Redaction, masked
from backoffice.engine.assignments import Assignment, Reference
from backoffice.engine.claims import Held
from backoffice.engine.outcomes import Outcome
from backoffice.errors import (
    BackofficeError,
    Invalid,
    LeaseLost,
    ProcessKilled,
    TaskFailed,
    reason_of,
)
from backoffice.media import ffmpeg
from backoffice.states import FAILED, LOST, SUCCEEDED, Reason
from backoffice.system import files, logs
from backoffice.system.confinement import Confinement, of_tools
from backoffice.system.logs import line
from backoffice.tasks import Output, Result, Source
from backoffice.workers.executors import bounded_log
from backoffice.workers.executors.bounded_log import BoundedLog
from backoffice.workers.executors.lease import Lease

TALK_EVERY = 0.2  # seconds between two messages about progress
SPARE_DESCRIPTORS = 128  # that an attempt may need besides its sources

_log = logging.getLogger("backoffice.attempt")


def serve(pipe: Connection, lease: Lease, settings: Settings) -> None:
    """Run what comes through the pipe until it is closed."""
    lease.guard()
    while True:
        try:
            assignment = pipe.recv()
        except EOFError:
            return
        lease.guard()
        outcome = _attempt(assignment, pipe, settings)
        lease.release()
        pipe.send(("done", outcome))


def run_here(assignment: Assignment, settings: Settings) -> Outcome:
    """Run a trivial task (``Trait.TRIVIAL``) in this process, with no
    sources: it uses none."""
    log = AttemptLog(settings, assignment)
    context = RealContext(assignment, None, settings, log)
    try:
        tasks.load(assignment.type).run(context)
    except Exception as error:  # a fault in a task module must not take the worker along
        return _faulty(context, error)
    finally:
        log.close()
    return Outcome(SUCCEEDED)


def folder_of(work: Path, held: Held, name: str) -> Path:
    """Where an attempt at the task ``name`` writes, below the folder of its job."""
    return work / "jobs" / str(held.job_id) / f"{name}-{held.attempt}"


def attempt_folder(settings: Settings, assignment: Assignment) -> Path:
    """What an attempt writes to; its outputs stay there once it is accepted."""
    return folder_of(settings.paths.work, assignment.held, assignment.name)


def log_path(settings: Settings, assignment: Assignment) -> Path:
    return _log_of(settings, assignment, assignment.held.attempt)


def _log_of(settings: Settings, assignment: Assignment, attempt: int) -> Path:
    held = assignment.held
    name = f"{assignment.name}-{held.task_id}-{attempt}.log"
    return settings.paths.logs / "attempts" / str(held.job_id) / name


def discard(folder: Path) -> None:
    """Remove an attempt's folder, and its job's if that is empty then."""
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # other attempts may have something there
        folder.parent.rmdir()


class AttemptLog:
    """A file of bounded size, made when there is something to say; its first line
    says of what. A disk that takes no more of it must not fail the work."""

    def __init__(self, settings: Settings, assignment: Assignment) -> None:
        self._path = log_path(settings, assignment)
        self._assignment = assignment
        self._redact = Redaction(assignment.parameters.values())
        self._limit = settings.limits.log
        self._file: BoundedLog | None = None
        self._failed = False

    def __call__(self, text: str) -> None:
        file = self._open()
        if file is not None:
            _write(file, self._redact(text))

    def close(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.close()

    def _open(self) -> BoundedLog | None:
        if self._file is None and not self._failed:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = BoundedLog(self._path, self._limit)
                _write(self._file, self._head())
            except OSError as error:
                self._failed = True
                ids = self._assignment.ids
                _log.warning(line("log.unwritable", **ids, path=self._path, reason=error))
        return self._file

    def _head(self) -> str:
        one = self._assignment
        ids = {"name": one.name, **one.ids, "host": socket.gethostname()}
        return line("attempt", date=datetime.now(UTC).date(), **ids)


def _write(file: BoundedLog, text: str) -> None:
    with suppress(OSError):
        file.write(f"{datetime.now(UTC).time().isoformat('microseconds')} {masked(text)}")


@dataclass
class RealContext:
    """Implements :class:`backoffice.tasks.Context`."""

    assignment: Assignment
    pipe: Connection | None
    settings: Settings
    log: AttemptLog
    sources: Sequence[Source] = ()
    names: Mapping[str, str] = field(default_factory=dict)  # see media.run
    commands: list[list[str]] = field(default_factory=list)
    exit_status: int | None = None
    peak_memory: int = 0
    _talked: float = 0.0
    _fraction: float = 0.0
    _folder: Path | None = None

    def __post_init__(self) -> None:
        self.redact = Redaction(self.parameters.values())

    @property
    def id(self) -> int:
        return self.assignment.held.task_id

    @property
    def name(self) -> str:
        return self.assignment.name

    @property
    def attempt(self) -> int:
        return self.assignment.held.attempt

    @property
    def job(self) -> tasks.Job:
        return self.assignment.job

    @property
    def parameters(self) -> Mapping[str, str]:
        return self.assignment.parameters

    @property
    def folder(self) -> Path:
        """Made when first asked for: many tasks write no file."""
        if self._folder is None:
            folder = attempt_folder(self.settings, self.assignment)
            shutil.rmtree(folder, ignore_errors=True)
            _make(folder)
            self._folder = folder
        return self._folder

    @property
    def publications(self) -> Sequence[tasks.Publication]:
        return self.assignment.publications

    @property
    def confinement(self) -> Confinement:
        """Of commands: they read the sources and write to the folder."""
        read = [one.path.parent if one.tree else one.path for one in self.sources]
        return of_tools(self.settings, read=read, write=[self.folder])

    def execute(
        self,
        argv: Sequence[str],
        *,
        duration: float | None = None,
        start: float = 0.0,
        share: float = 1.0,
        confined: Confinement | None = None,
    ) -> str:
        shown = [self.redact(argument) for argument in ffmpeg.named(argv, self.names)]
        self.commands.append(shown)
        self._tell(("command", shown))
        self.log("$ " + " ".join(shown))
        seen = ffmpeg.Progress()

        def follow(said: str) -> None:
            before = seen.seconds, seen.frame
            if not seen.feed(said):
                if "-progress" not in argv:
                    self.log(said)
                    self._alive()
            elif duration:
                self.progress(start + share * min(1.0, seen.seconds / duration), seen.speed)
            elif (seen.seconds, seen.frame) != before:
                self._alive()

        done = ffmpeg.run(
            argv,
            folder=self.folder,
            log=self._log_said,
            on_stdout_line=follow,
            confined=confined or self.confinement,
            names=self.names,
        )
        self.exit_status = done.status if not done.signal else -done.signal
        self.peak_memory = max(self.peak_memory, done.peak_memory)
        if done.status != 0:
            raise ffmpeg.failure(done)
        return done.stderr_tail

    def _log_said(self, said: str) -> None:
        """Without what ffmpeg says for the sake of its counts (``decoding.LEVEL``)."""
        if "[verbose] " not in said:
            self.log(said)

    def progress(self, fraction: float, speed: str = "") -> None:
        # Only what moves on counts as a sign of life.
        if fraction <= self._fraction:
            return
        self._fraction = min(1.0, fraction)
        self._say(("progress", self._fraction, speed))

    def _alive(self) -> None:
        self._say(("alive",))

    def _say(self, message: tuple[Any, ...]) -> None:
        now = time.monotonic()
        if now - self._talked >= TALK_EVERY:
            self._talked = now
            self._tell(message)

    def _tell(self, message: tuple[Any, ...]) -> Connection:
        if self.pipe is None:
            raise RuntimeError("a trivial task has nobody to talk to; see Trait.TRIVIAL")
        self.pipe.send(message)
        return self.pipe

    def fence(self) -> None:
        if not self._tell(("fence",)).recv():
            raise LeaseLost("this attempt has been given to another worker, or was cancelled")


def _attempt(assignment: Assignment, pipe: Connection, settings: Settings) -> Outcome:
    """Run the attempt; never raises."""
    began, cpu = time.monotonic(), _cpu_seconds()
    os.environ["BO_ATTEMPT"] = f"{assignment.held.task_id}-{assignment.held.attempt}"
    log = AttemptLog(settings, assignment)
    context = RealContext(assignment, pipe, settings, log)
    try:
        with ExitStack() as opened:
            outcome = _outcome(context, opened)
        outcome = replace(outcome, message=context.redact(outcome.message))
    finally:
        log.close()
    if outcome.state != SUCCEEDED:
        discard(attempt_folder(settings, assignment))
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return replace(
        outcome,
        exit_status=context.exit_status,
        cpu_seconds=_cpu_seconds() - cpu,
        peak_memory=max(context.peak_memory, own),
        wall_seconds=time.monotonic() - began,
    )


def _outcome(context: RealContext, opened: ExitStack) -> Outcome:
    try:
        _forget_former(context)
        _open_sources(context, opened)
        result = tasks.load(context.assignment.type).run(context)
        return _accepted(context, result)
    except TaskFailed as error:
        context.log(f"failed: {error}")
        result = Result(deliveries=getattr(error, "deliveries", ()))
        return Outcome(FAILED, str(error), error.reason, retry=error.retry, result=result)
    except ProcessKilled as error:
        context.log(f"killed: {error}")
        return Outcome(LOST, str(error), Reason.KILLED)
    except LeaseLost as error:
        context.log(f"given up: {error}")
        return Outcome(LOST, str(error), Reason.LEASE_LOST)
    except OSError as error:
        context.log(traceback.format_exc())
        return Outcome(FAILED, _explain(error), reason_of(error))
    except BackofficeError as error:
        context.log(f"failed: {error}")
        return Outcome(FAILED, str(error), Reason.OTHER, retry=False)
    except Exception as error:  # a fault in a task module must not take the worker along
        outcome = _faulty(context, error)
        logs.flush()  # this process may have no other end than KILL
        return outcome


def _faulty(context: RealContext, error: Exception) -> Outcome:
    context.log(traceback.format_exc())
    _log.exception(line("task.crashed", **context.assignment.ids))
    kind = context.redact(f"{type(error).__name__}: {error}")
    message = f"fault in task type {context.assignment.type}: {kind}"
    return Outcome(FAILED, message, Reason.FAULT)


def _forget_former(context: RealContext) -> None:
    """Remove what former attempts left, for it was not accepted; their logs become
    whole if their host has died."""
    parent = attempt_folder(context.settings, context.assignment).parent
    for number in range(1, context.attempt):
        shutil.rmtree(parent / f"{context.name}-{number}", ignore_errors=True)
        with suppress(OSError):
            bounded_log.join(_log_of(context.settings, context.assignment, number))


def _make(folder: Path) -> None:
    """Make the folder and its job's. Another attempt of the job that ends at
    this moment may take the job's away again: then once more."""
    for _ in range(100):
        with suppress(FileNotFoundError):
            folder.mkdir(parents=True)
            return
    folder.mkdir(parents=True)


def _open_sources(context: RealContext, opened: ExitStack) -> None:
    """Each is opened once; what the attempt then reads is that descriptor, whatever
    is put in the place of the file meanwhile."""
    references = context.assignment.references
    _allow_descriptors(len(references))
    names: dict[str, str] = {}
    context.sources = [_source(one, context.settings, opened, names) for one in references]
    context.names = names


def _allow_descriptors(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + SPARE_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _source(
    reference: Reference, settings: Settings, opened: ExitStack, names: dict[str, str]
) -> Source:
    roots = [settings.paths.work] if reference.task else settings.paths.roots
    try:
        descriptor, real = files.open_beneath(reference.href, roots, parent=reference.tree)
    except Invalid as error:
        raise TaskFailed(str(error), retry=False, reason=Reason.MISSING_SOURCE) from error
    opened.callback(os.close, descriptor)
    place = Path(f"/proc/self/fd/{descriptor}")
    names[str(place)] = str(real.parent if reference.tree else real)
    path = place / real.name if reference.tree else place
    size = files.size_of(path, reference.tree)
    if size != reference.size:
        raise TaskFailed(
            f"{reference.name} has changed since it was given: {reference.size} bytes then,"
            f" {size} now; submit it again when it is complete",
            retry=False,
            reason=Reason.CHANGED_SOURCE,
        )
    return Source(
        role=reference.role,
        path=path,
        task=reference.task,
        name=reference.name,
        media_type=reference.media_type,
        size=size,
        sha256=reference.sha256,
        tree=reference.tree,
        facts=reference.facts,
        file_id=reference.file_id,
        location=real,
    )


def _accepted(context: RealContext, result: Result) -> Outcome:
    outputs = [_made(context, output) for output in result.outputs]
    if outputs:
        files.sync(context.folder)
    else:
        discard(attempt_folder(context.settings, context.assignment))
    message = "; ".join(result.warnings)
    return Outcome(SUCCEEDED, message, result=replace(result, outputs=outputs))


def _made(context: RealContext, output: Output) -> Output:
    """The output as it is stored: its real path, size and digest. Raises TaskFailed for
    what is no regular file in the attempt's folder."""
    try:
        descriptor, real = files.open_beneath(
            str(output.path.absolute()), [context.folder], parent=output.tree
        )
    except Invalid as error:
        message = f"{output.path.name} is no file in its attempt's folder: {error}"
        raise TaskFailed(message, retry=False, reason=Reason.OUTPUT_TOO_SMALL) from error
    try:
        place = Path(f"/proc/self/fd/{descriptor}")
        digest = files.tree_sha256(place) if output.tree else files.sha256(place)
        size = files.size_of(place / real.name if output.tree else place, output.tree)
    finally:
        os.close(descriptor)
    return replace(output, path=real, size=size, sha256=digest)


def _explain(error: OSError) -> str:
    where = f" ({error.filename})" if error.filename else ""
    return f"{error.strerror or error}{where}"


def _cpu_seconds() -> float:
    """Of this process and the children it has waited for."""
    total = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        total += usage.ru_utime + usage.ru_stime
    return total


def replace_the_workers_handlers() -> None:
    """TERM unwinds the attempt, so that what it staged somewhere is removed;
    other signals do what they do by default."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, _unwind)


def _unwind(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
