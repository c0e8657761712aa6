"""AMR sound with several frames a packet, as phones write it into 3GP.

FFmpeg's decoder (5.1) decodes the first frame of a packet and takes the packet for
used up: of five frames four are lost. Copied into AMR's own format (RFC 4867,
section 5) the same frames come one a packet; that copy is read in the sound's place.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backoffice.config.settings import Settings
from backoffice.media import ffmpeg

Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Unpacked:
    """What to do about such sounds of a source, if it has any."""

    facts: Facts  # of the source; such sounds say where they are read: ``input``
    commands: Sequence[list[str]]  # that make the copies, to be run first
    inputs: Sequence[str]  # ffmpeg's arguments for the copies, after those for the source
    paths: Sequence[Path]

    def remove(self) -> None:
        for path in self.paths:
            path.unlink(missing_ok=True)


def unpacked(
    source: Path, facts: Facts, used: Collection[int], folder: Path, settings: Settings
) -> Unpacked:
    """Of the sounds with the indexes ``used``; copies are made in ``folder``."""
    packed = [s for s in facts["audio"] if s.get("packed") and s["index"] in used]
    paths = [folder / f"sound-{stream['index']}.amr" for stream in packed]
    places = {stream["index"]: f"{number}:0" for number, stream in enumerate(packed, 1)}
    inputs: list[str] = []
    for stream, path in zip(packed, paths, strict=True):
        # A copy begins at zero, the sound at its own time.
        late = float(stream.get("start", 0.0)) - float(facts.get("start", 0.0))
        inputs += ["-itsoffset", f"{late:.6f}"] if late > 0 else []
        inputs += ffmpeg.input_arguments(path, settings)
    audio = [
        {**one, "input": places[one["index"]]} if one["index"] in places else one
        for one in facts["audio"]
    ]
    commands = [
        [
            *ffmpeg.command(settings),
            *ffmpeg.input_arguments(source, settings),
            "-map",
            f"0:{stream['index']}",
            *"-c copy -f amr".split(),
            str(path),
        ]
        for stream, path in zip(packed, paths, strict=True)
    ]
    return Unpacked({**facts, "audio": audio}, commands, inputs, paths)
