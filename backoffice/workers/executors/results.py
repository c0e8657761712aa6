"""What a task returns, turned into the outcome that the database records."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from backoffice.engine import job_folders
from backoffice.engine.outcomes import Outcome
from backoffice.errors import Invalid, TaskFailed
from backoffice.states import SUCCEEDED, Reason
from backoffice.system import files
from backoffice.tasks import Output, Result
from backoffice.workers.executors.task_context import AttemptContext, attempt_folder


def succeeded(context: AttemptContext, result: Result) -> Outcome:
    """Outputs are checksummed and synced to the disk first. Raises TaskFailed for
    an output outside the attempt's folder."""
    outputs = [_measured(context, output) for output in result.outputs]
    if outputs:
        files.sync(context.folder)
    else:
        job_folders.discard(attempt_folder(context.settings, context.assignment))
    message = "; ".join(result.warnings)
    return Outcome(SUCCEEDED, message, result=replace(result, outputs=outputs))


def _measured(context: AttemptContext, output: Output) -> Output:
    """With its real path, size and digest."""
    descriptor, real = _open_output(context, output)
    try:
        place = Path(f"/proc/self/fd/{descriptor}")
        digest = files.tree_sha256(place) if output.tree else files.sha256(place)
        size = files.size_of(place / real.name if output.tree else place, output.tree)
    finally:
        os.close(descriptor)
    return replace(output, path=real, size=size, sha256=digest)


def _open_output(context: AttemptContext, output: Output) -> tuple[int, Path]:
    name = str(output.path.absolute())
    try:
        return files.open_beneath(name, [context.folder], parent=output.tree)
    except Invalid as error:
        message = f"{output.path.name} is no file in its attempt's folder: {error}"
        raise TaskFailed(message, retry=False, reason=Reason.OUTPUT_TOO_SMALL) from error
