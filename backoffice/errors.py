"""Every exception that Backoffice raises on purpose; imports only ``states``.

Each carries a message an operator can act on: what is wrong, where, and what
to do. Programming errors stay ordinary Python exceptions.
"""

from __future__ import annotations

import errno

from backoffice.states import Reason


class BackofficeError(Exception):
    """Base of all. ``str()`` of it is fit to be shown to a user."""


class ConfigError(BackofficeError):
    """A setting is unknown or has a bad value."""

    def __init__(self, message: str, *, source: str, section: str = "", key: str = "") -> None:
        place = source
        if section:
            place += f": [{section}]"
        if key:
            place += f" {key}"
        super().__init__(f"{place}: {message}")
        self.source = source
        self.section = section
        self.key = key


class DefinitionError(BackofficeError):
    """A workflow or profile document is broken; refused when loaded."""

    def __init__(self, message: str, *, source: str, line: int = 0) -> None:
        place = f"{source}:{line}" if line else source
        super().__init__(f"{place}: {message}")
        self.source = source
        self.line = line


class Invalid(BackofficeError):
    """What the user asked for cannot be accepted as it stands."""


class NotFound(BackofficeError):
    """There is no such job, task, file, queue, worker …"""


class Conflict(BackofficeError):
    """Not possible in the present state, or a key used for other content."""


class DatabaseUnavailable(BackofficeError):
    """The database cannot be reached now; trying later may help.

    ``refused`` is true when the server refused the connection (bad password, unknown
    database): waiting will not help.
    """

    def __init__(self, message: str, *, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused


class ServiceUnreachable(BackofficeError):
    """The service does not answer, or not now; trying later may help.

    ``after`` is for how many seconds it asked not to be called.
    """

    def __init__(self, message: str, *, after: float = 0.0) -> None:
        super().__init__(message)
        self.after = after


class NotAllowed(BackofficeError):
    """The user is not authenticated, or may not do this."""


class ServiceFault(BackofficeError):
    """The service failed at a request, or its answer cannot be understood."""


class SchemaMismatch(BackofficeError):
    """The database's schema is older or newer than this program's."""


class LeaseLost(BackofficeError):
    """Another worker has the task: this attempt's outcome must be thrown away."""


class TaskFailed(BackofficeError):
    """An attempt failed. ``retry`` tells whether another try could help:
    a full disk may be emptied, a file that is no video stays none.
    """

    def __init__(self, message: str, *, retry: bool = True, reason: Reason = Reason.OTHER) -> None:
        super().__init__(message)
        self.retry = retry
        self.reason = reason


class ProcessKilled(BackofficeError):
    """A command was ended by a signal from outside.

    Counts as a loss of the worker, which costs no retry.
    """


_REASONS = {
    errno.ENOSPC: Reason.DISK_FULL,
    errno.EDQUOT: Reason.DISK_FULL,
    errno.EFBIG: Reason.OUTPUT_TOO_LARGE,
    errno.EACCES: Reason.NOT_PERMITTED,
    errno.EPERM: Reason.NOT_PERMITTED,
    errno.EROFS: Reason.NOT_PERMITTED,
    errno.ENOMEM: Reason.OUT_OF_MEMORY,
}


def reason_of(error: OSError) -> Reason:
    """What an error of the operating system is to the reason of an attempt."""
    return _REASONS.get(error.errno or 0, Reason.FILE_ERROR)
