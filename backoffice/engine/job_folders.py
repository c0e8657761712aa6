"""Where the files and logs of jobs and attempts lie, below [paths] work and logs."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from backoffice.config.settings import PathSettings

_ATTEMPTS = 100  # tries to make a folder whose parent is removed at the same time


def work_root(paths: PathSettings) -> Path:
    """Has one folder per job, named by its id."""
    return paths.work / "jobs"


def log_root(paths: PathSettings) -> Path:
    """Has one folder per job, named by its id."""
    return paths.logs / "attempts"


def of_job(paths: PathSettings, job: int) -> tuple[Path, Path]:
    """The folder of a job's outputs, and that of its logs."""
    return work_root(paths) / str(job), log_root(paths) / str(job)


def of_attempt(paths: PathSettings, job: int, task_name: str, number: int) -> Path:
    """Where an attempt writes. Its outputs stay there once it is accepted."""
    return work_root(paths) / str(job) / f"{task_name}-{number}"


def attempt_log(paths: PathSettings, job: int, task_name: str, task: int, number: int) -> Path:
    return log_root(paths) / str(job) / f"{task_name}-{task}-{number}.log"


def make(folder: Path) -> None:
    """Make an attempt's folder and its job's. Another attempt of the job that ends
    at this moment may remove the job's again; then try once more."""
    for _ in range(_ATTEMPTS):
        with suppress(FileNotFoundError):
            folder.mkdir(parents=True)
            return
    folder.mkdir(parents=True)


def discard(folder: Path) -> None:
    """Remove an attempt's folder, and its job's if that is empty then."""
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # other attempts have files there
        folder.parent.rmdir()
