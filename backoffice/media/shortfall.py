"""Shortfall of sound: less is decoded than a stream lasts; lost or never there.

Owns the judgement on one sound after a run of ffmpeg at ``decoding.LEVEL``; what follows
from it is the task's.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from backoffice.config.settings import Settings
from backoffice.media import decoding, ffmpeg, profiles, soundtracks
from backoffice.media.profiles import Facts


class Shortfall(NamedTuple):
    verdict: str  # of ``decoding.verdict``
    message: str  # such as "0.8 s of the 4.0 s of sound 1 can be decoded"


def of(
    stream: Facts, length: float, stderr: str, *, source: Path, facts: Facts, settings: Settings
) -> Shortfall | None:
    """None where enough was decoded of the ``length`` seconds of ``stream``, or where
    nothing tells how much there should be."""
    decoded = decoding.seconds(stderr, profiles.input_of(stream), int(stream.get("sample_rate", 0)))
    if decoded is None or not length or not decoding.lacks(decoded, length):
        return None
    held = ffmpeg.packet_seconds(source, stream["index"], settings, length)
    name = f"sound {soundtracks.number(facts, stream)}"
    message = f"{decoded:.1f} s of the {length:.1f} s of {name} can be decoded"
    return Shortfall(decoding.verdict(decoded, held or length, length), message)
