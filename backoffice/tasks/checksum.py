"""Take the SHA-256 of each source."""

from __future__ import annotations

import re
from collections.abc import Mapping

from backoffice.errors import Invalid, TaskFailed, reason_of
from backoffice.states import Reason
from backoffice.system import files
from backoffice.tasks import Context, Plan, Result, Source

PARAMETERS: Mapping[str, str] = {
    "expect": "the SHA-256 that the one source must have, in hex",
}
REQUIRED: frozenset[str] = frozenset()


def plan(context: Context) -> Plan:
    _expected(context)
    return Plan(notes=[f"reads {len(context.sources)} files whole"])


def run(context: Context) -> Result:
    expected = _expected(context)
    sums = {}
    for number, source in enumerate(context.sources):
        found = _sum(context, source, number)
        if expected and found != expected:
            raise TaskFailed(
                f"{source.title} has the SHA-256 {found}, not {expected};"
                " it was changed or damaged: copy it again",
                retry=False,
                reason=Reason.CHANGED_SOURCE,
            )
        sums[source.file_id] = found
    return Result(checksums=sums)


def _expected(context: Context) -> str:
    expected = context.parameters.get("expect", "").strip().lower()
    if expected and not re.fullmatch(r"[0-9a-f]{64}", expected):
        raise TaskFailed(
            "expect is no SHA-256; that has 64 hex digits", retry=False, reason=Reason.BAD_PARAMETER
        )
    if expected and len(context.sources) != 1:
        raise TaskFailed(
            f"expect is for one file, and there are {len(context.sources)}",
            retry=False,
            reason=Reason.BAD_PARAMETER,
        )
    return expected


def _sum(context: Context, source: Source, number: int) -> str:
    def tick(fraction: float) -> None:
        context.progress((number + fraction) / len(context.sources))

    try:
        if source.tree:
            return files.tree_sha256(source.path.parent, tick)
        return files.sha256(source.path, tick)
    except Invalid as error:
        raise TaskFailed(str(error), retry=False, reason=Reason.MISSING_SOURCE) from error
    except OSError as error:
        raise TaskFailed(
            f"{source.path.name} cannot be read: {error.strerror}", reason=reason_of(error)
        ) from error
