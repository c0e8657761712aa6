"""The log of one attempt: a file of bounded size, with secrets masked."""

from __future__ import annotations

import logging
import socket
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from backoffice.config.redaction import Redaction, masked
from backoffice.config.settings import Settings
from backoffice.engine import job_folders
from backoffice.engine.assignments import Assignment
from backoffice.system.logs import line
from backoffice.workers.executors.bounded_log import BoundedLog

_log = logging.getLogger("backoffice.attempt")


def path_of(settings: Settings, assignment: Assignment, number: int | None = None) -> Path:
    """The log of this attempt, or of the task's attempt ``number``."""
    claim = assignment.claim
    attempt = claim.attempt if number is None else number
    return job_folders.attempt_log(
        settings.paths, claim.job_id, assignment.name, claim.task_id, attempt
    )


def redaction(assignment: Assignment) -> Redaction:
    """Masks the values of the task's parameters where they are secret."""
    sets = [assignment.parameters, *assignment.variants]
    return Redaction([value for parameters in sets for value in parameters.values()])


class AttemptLog:
    """The file is created with the first line; a header names the attempt. A disk
    that cannot be written does not fail the attempt."""

    def __init__(self, settings: Settings, assignment: Assignment) -> None:
        self._path = path_of(settings, assignment)
        self._assignment = assignment
        self._redact = redaction(assignment)
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
                _write(self._file, self._header())
            except OSError as error:
                self._failed = True
                ids = self._assignment.ids
                _log.warning(line("log.unwritable", **ids, path=self._path, reason=error))
        return self._file

    def _header(self) -> str:
        ids = {"name": self._assignment.name, **self._assignment.ids}
        return line("attempt", date=datetime.now(UTC).date(), **ids, host=socket.gethostname())


def _write(file: BoundedLog, text: str) -> None:
    with suppress(OSError):
        file.write(f"{datetime.now(UTC).time().isoformat('microseconds')} {masked(text)}")
