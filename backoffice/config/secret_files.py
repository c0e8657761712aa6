"""Files that hold settings or secrets: their text, if their mode is safe."""

from __future__ import annotations

import os
import shlex

from backoffice.config import redaction
from backoffice.errors import ConfigError


def read(path: str, source: str) -> tuple[str, bool]:
    """The text of a file, and whether all users can read it.

    Raises ConfigError for a file that other users can write: they could make the
    service run what they like.
    """
    try:
        with open(path, encoding="utf-8-sig") as stream:
            status, text = os.fstat(stream.fileno()), stream.read()
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", source=source) from error
    except UnicodeDecodeError as error:
        raise ConfigError("is not UTF-8; save it as UTF-8", source=source) from error
    if redaction.writable_by_others(status):
        message = f"can be changed by others than its owner; type: chmod go-w {shlex.quote(path)}"
        raise ConfigError(message, source=source)
    return text, redaction.readable_by_all(status)


def read_secret(path: str, source: str) -> str:
    """The text of a file that is a secret as a whole. Raises ConfigError."""
    text, open_to_all = read(path, source)
    if open_to_all and not os.path.realpath(path).startswith(redaction.MOUNTED):
        raise ConfigError(f"can be read by everybody; type: {closing(path)}", source=source)
    return text


def closing(path: str) -> str:
    """The command that keeps all other users from reading a file."""
    return f"chmod o-r {shlex.quote(path)}"
