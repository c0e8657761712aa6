"""The context a task module gets: commands, progress, log, private folder, fence."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from backoffice import tasks
from backoffice.config.settings import Settings
from backoffice.engine import job_folders
from backoffice.engine.assignments import Assignment
from backoffice.errors import LeaseLost
from backoffice.media import ffmpeg
from backoffice.system.confinement import Confinement, of_tools
from backoffice.tasks import Source
from backoffice.workers.executors.attempt_log import AttemptLog, redaction

MESSAGE_INTERVAL = 0.2  # seconds between two messages about progress

Message = tuple[Any, ...]  # its kind, then its values; see ``workers.running``


def attempt_folder(settings: Settings, assignment: Assignment) -> Path:
    """Where the attempt writes. Its outputs stay there once it is accepted."""
    claim = assignment.claim
    return job_folders.of_attempt(settings.paths, claim.job_id, assignment.name, claim.attempt)


@dataclass
class AttemptContext:
    """Implements :class:`backoffice.tasks.Context` in an attempt's process. ``pipe``
    leads to the worker; None for a trivial task, which runs in the worker itself."""

    assignment: Assignment
    pipe: Connection | None
    settings: Settings
    log: AttemptLog
    sources: Sequence[Source] = ()
    names: Mapping[str, str] = field(default_factory=dict)  # see ffmpeg.run
    commands: list[list[str]] = field(default_factory=list)
    exit_status: int | None = None  # of the last command; negative: the signal's number
    peak_memory: int = 0  # bytes
    _last_message: float = 0.0
    _fraction: float = 0.0
    _folder: Path | None = None

    def __post_init__(self) -> None:
        self.redact = redaction(self.assignment)

    @property
    def id(self) -> int:
        return self.assignment.claim.task_id

    @property
    def name(self) -> str:
        return self.assignment.name

    @property
    def attempt(self) -> int:
        return self.assignment.claim.attempt

    @property
    def job(self) -> tasks.Job:
        return self.assignment.job

    @property
    def parameters(self) -> Mapping[str, str]:
        return self.assignment.parameters

    @property
    def variants(self) -> Sequence[Mapping[str, str]]:
        return self.assignment.variants

    @property
    def publications(self) -> Sequence[tasks.Publication]:
        return self.assignment.publications

    @property
    def folder(self) -> Path:
        """Created on first use: many tasks write no file."""
        if self._folder is None:
            folder = attempt_folder(self.settings, self.assignment)
            shutil.rmtree(folder, ignore_errors=True)
            job_folders.make(folder)
            self._folder = folder
        return self._folder

    @property
    def confinement(self) -> Confinement:
        """Commands read the sources and write to the folder."""
        read = [source.path.parent if source.tree else source.path for source in self.sources]
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
        self._record_command(argv)
        progress = ffmpeg.Progress()

        def on_line(text: str) -> None:
            before = progress.seconds, progress.frame
            if not progress.feed(text):
                if "-progress" not in argv:
                    self.log(text)
                    self._send_alive()
            elif duration:
                fraction = min(1.0, progress.seconds / duration)
                self.progress(start + share * fraction, progress.speed)
            elif (progress.seconds, progress.frame) != before:
                self._send_alive()

        done = ffmpeg.run(
            argv,
            folder=self.folder,
            log=self._log_stderr,
            on_stdout_line=on_line,
            confined=confined or self.confinement,
            names=self.names,
        )
        self.exit_status = done.status if not done.signal else -done.signal
        self.peak_memory = max(self.peak_memory, done.peak_memory)
        if done.status != 0:
            raise ffmpeg.failure(done)
        return done.stderr_tail

    def _record_command(self, argv: Sequence[str]) -> None:
        shown = [self.redact(argument) for argument in ffmpeg.named(argv, self.names)]
        self.commands.append(shown)
        self._send(("command", shown))
        self.log("$ " + " ".join(shown))

    def _log_stderr(self, text: str) -> None:
        """Drops the lines that ffmpeg prints only for its counts (``decoding.LEVEL``)."""
        if "[verbose] " not in text:
            self.log(text)

    def progress(self, fraction: float, speed: str = "") -> None:
        # Only an increase counts as a sign of life.
        if fraction <= self._fraction:
            return
        self._fraction = min(1.0, fraction)
        self._send_rarely(("progress", self._fraction, speed))

    def _send_alive(self) -> None:
        self._send_rarely(("alive",))

    def _send_rarely(self, message: Message) -> None:
        now = time.monotonic()
        if now - self._last_message >= MESSAGE_INTERVAL:
            self._last_message = now
            self._send(message)

    def _send(self, message: Message) -> Connection:
        if self.pipe is None:
            raise RuntimeError("a trivial task has no worker to send to; see Trait.TRIVIAL")
        self.pipe.send(message)
        return self.pipe

    def fence(self) -> None:
        if not self._send(("fence",)).recv():
            raise LeaseLost("this attempt has been given to another worker, or was cancelled")
