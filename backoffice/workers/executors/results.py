"""What a task returns, turned into the outcome that the database records."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from backoffice import tasks
from backoffice.engine.outcomes import DeliveryMade, MadeFile, Outcome, PublishedFile
from backoffice.errors import Invalid, TaskFailed
from backoffice.states import SUCCEEDED
from backoffice.system import files, job_folders
from backoffice.workers.executors.task_context import AttemptContext, attempt_folder


def succeeded(context: AttemptContext, result: tasks.Result) -> Outcome:
    """Outputs are checksummed and synced to the disk first. Raises TaskFailed for
    an output outside the attempt's folder."""
    outputs = [_made_file(context, output) for output in result.outputs]
    if outputs:
        files.sync(context.folder)
    else:
        job_folders.discard(attempt_folder(context.settings, context.assignment))
    return Outcome(
        SUCCEEDED,
        "; ".join(result.warnings),
        outputs=outputs,
        facts=dict(result.facts),
        checksums=dict(result.checksums),
        report=dict(result.report),
        published=[_published_file(published) for published in result.published],
        retracted=list(result.retracted),
        deliveries=deliveries(result.deliveries),
    )


def deliveries(made: Iterable[tasks.Delivery]) -> list[DeliveryMade]:
    return [DeliveryMade(one.url, one.status, one.message, one.seconds) for one in made]


def _published_file(published: tasks.Published) -> PublishedFile:
    return PublishedFile(
        published.source.file_id,
        published.target,
        published.path,
        published.href,
        published.source.tree,
        published.sha256,
        published.size,
    )


def _made_file(context: AttemptContext, output: tasks.Output) -> MadeFile:
    descriptor, real = _open_output(context, output)
    try:
        place = Path(f"/proc/self/fd/{descriptor}")
        digest = files.tree_sha256(place) if output.tree else files.sha256(place)
        size = files.size_of(place / real.name if output.tree else place, output.tree)
    finally:
        os.close(descriptor)
    return MadeFile(
        href=files.href(real),
        name=real.name,
        role=output.role,
        media_type=output.media_type,
        tree=output.tree,
        size=size,
        sha256=digest,
        facts=dict(output.facts),
    )


def _open_output(context: AttemptContext, output: tasks.Output) -> tuple[int, Path]:
    name = str(output.path.absolute())
    try:
        return files.open_beneath(name, [context.folder], parent=output.tree)
    except Invalid as error:
        message = f"{output.path.name} is no file in its attempt's folder: {error}"
        raise TaskFailed(message, retry=False) from error
