"""The sources of an attempt: opened once, checked, and read through descriptors.

A task reads the file that was opened, whatever replaces it on disk meanwhile.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from backoffice.config.settings import Settings
from backoffice.engine.assignments import Reference
from backoffice.errors import Invalid, TaskFailed
from backoffice.states import Reason
from backoffice.system import files
from backoffice.tasks import Source

SPARE_DESCRIPTORS = 128  # that an attempt may need besides its sources


def open_sources(
    references: Sequence[Reference], settings: Settings, opened: ExitStack
) -> tuple[list[Source], dict[str, str]]:
    """The sources, and the real path of each descriptor's path. ``opened`` closes
    the descriptors. Raises TaskFailed."""
    _raise_descriptor_limit(len(references))
    names: dict[str, str] = {}
    sources = [_open(reference, settings, opened, names) for reference in references]
    return sources, names


def _raise_descriptor_limit(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + SPARE_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _open(
    reference: Reference, settings: Settings, opened: ExitStack, names: dict[str, str]
) -> Source:
    roots = [settings.paths.work] if reference.task else settings.paths.roots
    try:
        descriptor, real = files.open_beneath(reference.href, roots, parent=reference.tree)
    except Invalid as error:
        raise TaskFailed(str(error), retry=False, reason=Reason.MISSING_SOURCE) from error
    opened.callback(os.close, descriptor)
    descriptor_path = Path(f"/proc/self/fd/{descriptor}")
    names[str(descriptor_path)] = str(real.parent if reference.tree else real)
    path = descriptor_path / real.name if reference.tree else descriptor_path
    return Source(
        role=reference.role,
        path=path,
        task=reference.task,
        name=reference.name,
        media_type=reference.media_type,
        size=_unchanged_size(reference, path),
        sha256=reference.sha256,
        tree=reference.tree,
        facts=reference.facts,
        file_id=reference.file_id,
        location=real,
    )


def _unchanged_size(reference: Reference, path: Path) -> int:
    size = files.size_of(path, reference.tree)
    if size != reference.size:
        raise TaskFailed(
            f"{reference.name} has changed since it was given: {reference.size} bytes then,"
            f" {size} now; submit it again when it is complete",
            retry=False,
            reason=Reason.CHANGED_SOURCE,
        )
    return size
