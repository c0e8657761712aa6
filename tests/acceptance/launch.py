"""Starts one part of the program as its own process, as the command line does.

``hold=module:function:before`` (or ``after``) stops the first process that
comes to that point with SIGSTOP, once, after leaving its id in a file: a test
can then kill it, or let it go on, at exactly that moment.
"""

from __future__ import annotations

import functools
import importlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from backoffice.config import loading
from backoffice.scheduler import scheduler
from backoffice.service import supervisor
from backoffice.system import logs
from backoffice.workers import worker

PARTS = {"worker": worker.main, "scheduler": scheduler.main, "serve": supervisor.main}


def main(part: str, *holds: str) -> int:
    settings = loading.load(None, os.environ)
    logs.setup(settings.log)
    for hold in holds:
        _hold(*hold.split(":"), marker=settings.paths.home / "held")
    return PARTS[part](settings)


def _hold(module: str, name: str, when: str, *, marker: Path) -> None:
    owner: Any = importlib.import_module(module)
    *classes, last = name.split(".")
    for one in classes:
        owner = getattr(owner, one)
    setattr(owner, last, _held(getattr(owner, last), when, marker))


def _held(function: Callable[..., Any], when: str, marker: Path) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if when == "before":
            _stop(marker)
            return function(*args, **kwargs)
        result = function(*args, **kwargs)
        if result is not False and result != []:  # it did something
            _stop(marker)
        return result

    return wrapper


def _stop(marker: Path) -> None:
    try:
        with open(marker, "x") as stream:
            stream.write(str(os.getpid()))
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGSTOP)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
