"""Several at once: threads that start together, processes that start together."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from backoffice.data.database import Database

T = TypeVar("T")
LONG = 60  # seconds; only what hangs takes so long
ROOT = Path(__file__).resolve().parent.parent


def together(database: Database, *functions: Callable[[], T]) -> list[T]:
    """What each function returns, each run by a thread of its own, all let
    loose at one moment. The first that raised raises here."""
    gate = threading.Barrier(len(functions))

    def run(function: Callable[[], T]) -> T:
        try:
            gate.wait(LONG)
            return function()
        finally:
            database.close()  # this thread's connection

    with ThreadPoolExecutor(len(functions)) as pool:
        futures = [pool.submit(run, function) for function in functions]
        return [future.result(LONG) for future in futures]


_START = "import sys; print('ready', flush=True); sys.stdin.readline()\n"


def processes(script: str, arguments: Sequence[Sequence[str]]) -> list[str]:
    """What each process printed; one for each list of arguments. The imports
    at the top of ``script`` come before the start, a line ``GO`` after them."""
    code = script.replace("GO\n", _START)
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code, *values],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for values in arguments
    ]
    try:
        for child in children:
            assert child.stdout is not None
            child.stdout.readline()
        for child in children:
            assert child.stdin is not None
            child.stdin.write("\n")
            child.stdin.flush()
        said = [child.communicate(timeout=LONG) for child in children]
    finally:
        for child in children:
            child.kill()
            child.wait()
    assert not any(child.returncode for child in children), [err for _, err in said if err]
    return [out.strip() for out, _ in said]
