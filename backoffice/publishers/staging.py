"""Staging areas at a target: their names, and the attempts they belong to.

A publisher stages an attempt's files under ``.backoffice-TASK-ATTEMPT`` beside
their final places. ``TASK-ATTEMPT`` is the attempt's token.
"""

from __future__ import annotations

import re
from typing import Final

PREFIX: Final = ".backoffice-"

_TOKEN = re.compile(r"(\d{1,18})-(\d{1,9})")


def token(task: int, attempt: int) -> str:
    return f"{task}-{attempt}"


def name(token: str) -> str:
    """Of the staging area, in the target's root."""
    return f"{PREFIX}{token}"


def is_staging(name: str) -> bool:
    return name.startswith(PREFIX)


def token_of(name: str) -> str:
    return name.removeprefix(PREFIX)


def task_prefix(token: str) -> str:
    """What the names of all staging areas of the token's task begin with."""
    return f"{PREFIX}{token.rpartition('-')[0]}-"


def attempt_of(token: str) -> tuple[int, int] | None:
    """The task and the attempt's number; None for a token of another form, which
    another program has made."""
    match = _TOKEN.fullmatch(token)
    return (int(match[1]), int(match[2])) if match else None
