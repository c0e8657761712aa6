"""Probe each source: container, streams, length, size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backoffice.errors import TaskFailed
from backoffice.media import decoding, ffmpeg, pictures, scan, soundtracks, timeline, truncation
from backoffice.states import Reason
from backoffice.tasks import DAMAGE, Context, Plan, Result, Source, Trait, tolerates

PARAMETERS: Mapping[str, str] = {
    "require": "what each source must have: video, audio or any (the default)",
    "damage": DAMAGE,
}
REQUIRED: frozenset[str] = frozenset()
TRAITS = frozenset({Trait.PROBE})

_NEEDS = ("video", "audio", "any")


def plan(context: Context) -> Plan:
    _required(context)
    tolerates(context.parameters)
    names = ", ".join(source.title for source in context.sources)
    return Plan(notes=[f"looks at {names or 'nothing'}"])


def run(context: Context) -> Result:
    required, tolerant = _required(context), tolerates(context.parameters)
    if not context.sources:
        raise TaskFailed(
            "there is no file to look at; check the workflow",
            retry=False,
            reason=Reason.MISSING_SOURCE,
        )
    facts: dict[int, dict[str, Any]] = {}
    warnings: list[str] = []
    for number, source in enumerate(context.sources, 1):
        facts[source.file_id] = _probe(context, source, required)
        warnings += _lacks(source, tolerant)
        context.progress(number / len(context.sources))
    told = [line for found in facts.values() for line in _unusable(found)]
    return Result(
        facts=facts,
        report={"files": len(facts)},
        warnings=[*warnings, *told, *_left_out(context, facts), *_uneven(context, facts)],
    )


def _lacks(source: Source, tolerant: bool) -> list[str]:
    """What is seen to be missing without decoding; raises TaskFailed unless that is
    tolerated."""
    missing = truncation.missing(source.path)
    lack = f"{source.title} is truncated: {missing}" if missing else ""
    if lack and not tolerant:
        raise TaskFailed(
            f"{lack}; copy it again, or set damage to tolerate",
            retry=False,
            reason=Reason.DAMAGED_SOURCE,
        )
    return [lack] if lack else []


def _left_out(context: Context, facts: Mapping[int, Mapping[str, Any]]) -> list[str]:
    return [
        f"{source.title}: {warning}"
        for source in context.sources
        for warning in pictures.warnings(facts[source.file_id]["left_out"])
    ]


def _uneven(context: Context, facts: Mapping[int, Mapping[str, Any]]) -> list[str]:
    return [
        f"{source.title} {said}"
        for source in context.sources
        for said in timeline.told(facts[source.file_id])
    ]


def _unusable(facts: Mapping[str, Any]) -> list[str]:
    return [
        f"left out: {_stream_name(facts, stream)}: {stream['reason']}"
        for stream in facts["unusable"]
    ]


def _stream_name(facts: Mapping[str, Any], stream: Mapping[str, Any]) -> str:
    if stream["kind"] == "sound":
        return soundtracks.name(facts, soundtracks.Soundtrack((stream,)))
    return f"picture in {stream['codec']}"


def _required(context: Context) -> str:
    required = context.parameters.get("require", "any")
    if required not in _NEEDS:
        raise TaskFailed(
            f"require is {required!r}; it may be video, audio or any",
            retry=False,
            reason=Reason.BAD_PARAMETER,
        )
    return required


def _probe(context: Context, source: Source, required: str) -> dict[str, Any]:
    facts = ffmpeg.probe(source.path, context.settings, context.log, name=source.title)
    if required != "any" and not facts[required]:
        if why := decoding.sentence(facts, decoding.KINDS[required]):
            raise TaskFailed(
                f"{source.title} cannot be used: {why}", retry=False, reason=Reason.UNUSABLE_SOURCE
            )
        lacks = {"video": "sound but no picture", "audio": "a picture but no sound"}[required]
        raise TaskFailed(
            f"{source.title} has {lacks}; the workflow needs {required}",
            retry=False,
            reason=Reason.UNUSABLE_SOURCE,
        )
    return scan.looked(facts, source.path, context.settings, context.log, name=source.title)
