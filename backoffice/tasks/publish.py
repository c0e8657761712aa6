"""Publish every source at a target: all of them, whole, or none.

Owns where they go: a folder of the target, files in it by their names,
packages in a folder by their role. How they get there is the publisher's.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from backoffice import publishers
from backoffice.config.settings import Target
from backoffice.errors import TaskFailed
from backoffice.publishers import Item, staging
from backoffice.states import Reason
from backoffice.tasks import Context, Job, Plan, Published, Result, Source, Trait

PARAMETERS: Mapping[str, str] = {
    "target": "where to publish: a [target NAME] of the configuration",
    "folder": "folder at the target; {key}, {id}, {title}, {workflow} and {submitter} are the"
    " job's. Without it: the key, or job-ID",
    "overwrite": "true: replace other content that is already there (default false)",
}
REQUIRED: frozenset[str] = frozenset({"target"})
TRAITS = frozenset({Trait.PUBLISH})

_LONGEST = 100  # bytes of one folder name


def plan(context: Context) -> Plan:
    target = _target(context)
    publisher = publishers.open(target)
    placed = _place(context.sources, _folder(context))
    notes = [f"publishes {publisher.href(_shown(s, item))}" for s, item in placed]
    return Plan(notes=notes or ["publishes nothing: there are no files to publish"])


def run(context: Context) -> Result:
    target = _target(context)
    overwrite = _overwrite(context.parameters)
    placed = _place(context.sources, _folder(context))
    if not placed:
        raise TaskFailed(
            "there is nothing to publish; no task has made a file",
            retry=False,
            reason=Reason.MISSING_SOURCE,
        )
    publisher = publishers.open(target)
    outcomes = publisher.publish(
        [item for _, item in placed],
        token=staging.token(context.id, context.attempt),
        overwrite=overwrite,
        fence=context.fence,
        tick=context.progress,
    )
    published = []
    for (source, item), outcome in zip(placed, outcomes, strict=True):
        href = publisher.href(_shown(source, item))
        context.log(f"{'adopted' if outcome.adopted else 'published'} {href}")
        published.append(
            Published(
                file_id=source.file_id,
                target=target.name,
                path=outcome.name,
                href=href,
                tree=source.tree,
                sha256=outcome.sha256,
                size=outcome.size,
                adopted=outcome.adopted,
            )
        )
    return Result(published=published)


def slug(text: str) -> str:
    """``text`` as one folder name that is safe anywhere; may be empty."""
    plain = unicodedata.normalize("NFKC", text)
    joined = re.sub(r"[^\w.-]+", "-", plain).strip("-.")
    return joined.encode()[:_LONGEST].decode("utf-8", "ignore").rstrip("-.")


def _target(context: Context) -> Target:
    name = context.parameters.get("target", "")
    targets: Mapping[str, Target] = context.settings.targets
    if name not in targets:
        there = ", ".join(sorted(targets)) or "none"
        raise TaskFailed(
            f"there is no target {name!r}; there are {there}",
            retry=False,
            reason=Reason.BAD_PARAMETER,
        )
    return targets[name]


def _overwrite(parameters: Mapping[str, str]) -> bool:
    value = parameters.get("overwrite", "false")
    if value not in ("true", "false"):
        raise TaskFailed(
            f"overwrite is true or false, not {value!r}", retry=False, reason=Reason.BAD_PARAMETER
        )
    return value == "true"


def _folder(context: Context) -> str:
    job = context.job
    template = context.parameters.get("folder") or "{key}"
    values = _values(job)
    unknown = set(re.findall(r"\{([^{}]*)\}", template)) - values.keys()
    if unknown:
        raise TaskFailed(
            f"the folder has {{{unknown.pop()}}} in it; known are {', '.join(sorted(values))}",
            retry=False,
            reason=Reason.BAD_PARAMETER,
        )
    filled = re.sub(r"\{(\w+)\}", lambda match: values[match[1]], template)
    return filled.strip("/")


def _values(job: Job) -> dict[str, str]:
    """Without slashes and dots, so that none of them can lead elsewhere."""
    named = f"job-{job.id}"
    return {
        "key": slug(job.key) or named,
        "id": str(job.id),
        "title": slug(job.title) or named,
        "workflow": slug(job.workflow),
        "submitter": slug(job.submitter) or "nobody",
    }


def _place(sources: Sequence[Source], folder: str) -> list[tuple[Source, Item]]:
    placed: list[tuple[Source, Item]] = []
    taken: set[str] = set()
    for source in sources:
        name = source.role if source.tree else source.title
        if not source.task:
            name = _free(name, folder, taken)
        full = f"{folder}/{name}"
        taken.add(full)
        path = source.path.parent if source.tree else source.path
        placed.append((source, Item(path, full, source.sha256, source.tree)))
    return placed


def _free(name: str, folder: str, taken: set[str]) -> str:
    """Users' files may have the same name in different folders: number them.

    What tasks made is never renamed, for a package refers to its parts by name.
    """
    path, number, free = PurePosixPath(name), 1, name
    while f"{folder}/{free}" in taken:
        number += 1
        free = f"{path.stem}-{number}{path.suffix}"
    return free


def _shown(source: Source, item: Item) -> str:
    """What people open: in a package, the file where a player starts."""
    return f"{item.name}/{source.path.name}" if source.tree else item.name
