"""Convert the text subtitles of a source to WebVTT, one file each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backoffice.media import ffmpeg, renditions, subtitles
from backoffice.media.profiles import Facts
from backoffice.tasks import Context, Output, Plan, Result, Source, facts_of, only_source

PARAMETERS: Mapping[str, str] = {}
REQUIRED: frozenset[str] = frozenset()


@dataclass(frozen=True)
class _Work:
    source: Source
    facts: Facts
    streams: Sequence[Facts]
    paths: Sequence[Path]


def plan(context: Context) -> Plan:
    work = _prepare(context)
    commands = [_command(context, work)] if work.streams else []
    pairs = zip(work.streams, work.paths, strict=True)
    return Plan(commands, [_output(stream, path) for stream, path in pairs])


def run(context: Context) -> Result:
    work = _prepare(context)
    told = subtitles.left_out(work.facts, work.streams, "")
    outputs = []
    if work.streams:
        length = float(work.facts["duration"]) or None
        ffmpeg.require_written(
            context.execute(_command(context, work), duration=length, share=0.98)
        )
        subtitles.convert(work.streams, work.paths)
    for stream, path in zip(work.streams, work.paths, strict=True):
        if subtitles.has_cues(path):
            outputs.append(_output(stream, path))
        else:
            path.unlink()
            told.append(f"left out: {subtitles.name(work.facts, stream)}: there is no text in it")
    context.progress(1.0)
    return Result(outputs, report={"subtitles": len(outputs)}, warnings=told)


def _prepare(context: Context) -> _Work:
    source = only_source(context)
    facts = facts_of(context, source)
    streams = subtitles.textual(facts)
    paths = [context.folder / f"{name}.vtt" for name in renditions.text_names(streams)]
    return _Work(source, facts, streams, paths)


def _command(context: Context, work: _Work) -> list[str]:
    return [
        *ffmpeg.command(context.settings),
        *ffmpeg.input_arguments(work.source.path, context.settings),
        *subtitles.extraction(work.streams, work.paths),
    ]


def _output(stream: Facts, path: Path) -> Output:
    facts: dict[str, Any] = {"format": "webvtt", "video": [], "audio": [], "subtitle": [stream]}
    return Output("subtitles", path, subtitles.MEDIA_TYPE, facts=facts)
