"""Retract publications, where the target still holds what was published."""

from __future__ import annotations

from collections.abc import Mapping

from backoffice import publishers
from backoffice.config.settings import Target
from backoffice.errors import TaskFailed
from backoffice.publishers import staging
from backoffice.states import Reason
from backoffice.tasks import Context, Plan, Publication, Result, Trait

PARAMETERS: Mapping[str, str] = {"publication": "numbers of publications, with spaces between"}
REQUIRED: frozenset[str] = frozenset({"publication"})
TRAITS = frozenset({Trait.RETRACT})


def plan(context: Context) -> Plan:
    """Which they are is known to the database alone, which a plan does not read."""
    numbers = context.parameters.get("publication", "")
    return Plan(notes=[f"retracts these publications if they are there: {numbers}"])


def run(context: Context) -> Result:
    if not context.publications:
        asked = context.parameters.get("publication", "")
        raise TaskFailed(
            f"there is no publication {asked!r} to retract",
            retry=False,
            reason=Reason.BAD_PARAMETER,
        )
    # Unknown targets are found before anything is removed.
    openings = [(one, publishers.open(_target(context, one))) for one in context.publications]
    done = []
    for number, (one, publisher) in enumerate(openings, 1):
        there = publisher.retract(
            one.path,
            sha256=one.sha256,
            tree=one.tree,
            token=staging.token(context.id, context.attempt),
            fence=context.fence,
        )
        word = "removed" if there else "was gone already:"
        context.log(f"publication {one.id}: {word} {one.path} from target {one.target}")
        context.progress(number / len(openings))
        done.append(one.id)
    return Result(retracted=done)


def _target(context: Context, publication: Publication) -> Target:
    targets: Mapping[str, Target] = context.settings.targets
    if publication.target not in targets:
        raise TaskFailed(
            f"publication {publication.id} is at target {publication.target!r}, which is no longer"
            f" configured; add [target {publication.target}] again to retract it",
            retry=False,
            reason=Reason.BAD_PARAMETER,
        )
    return targets[publication.target]
