"""Decoding: which streams this ffmpeg can decode, and how much of them it decoded.

Owns the reasons for which a stream cannot be used, in words, and the counts that
ffmpeg gives at its end. Starts nothing: ``media`` asks and hands in the answers.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple

Facts = Mapping[str, Any]

LEVEL: Final = "verbose"  # ffmpeg's, at which it tells the counts
KINDS: Final = {"video": "picture", "audio": "sound"}


class Decoded(NamedTuple):
    """What ffmpeg read and decoded of one stream."""

    packets: int
    frames: int
    samples: int  # a channel; 0 of pictures


_COUNT = re.compile(
    r"Input stream #(\d+:\d+) \(\w+\): (\d+) packets read \(\d+ bytes\);"
    r"(?: (\d+) frames decoded)?(?: \((\d+) samples\))?"
)


def counts(stderr: str) -> dict[str, Decoded]:
    """Of each input stream (``0:1``) at the end of a run at ``LEVEL``."""
    found = _COUNT.findall(stderr)
    return {name: Decoded(*(int(text or 0) for text in rest)) for name, *rest in found}


def decodable(listing: str) -> frozenset[str]:
    """The codecs that ``ffmpeg -codecs`` says can be decoded."""
    return frozenset(re.findall(r"^ D[E.][VAS][A-Z.]{3} (\w+)", listing, re.MULTILINE))


def why_not(
    stream: Mapping[str, Any], *, codecs: Collection[str], encrypted: Mapping[int, str]
) -> str:
    """Why a stream, as ffprobe describes it, cannot be decoded; or empty.
    ``encrypted`` maps the numbers of tracks to the names of their schemes. Without
    ``codecs``, of a program that tells none, each is taken for one that can be."""
    tags = {key.lower() for key in stream.get("tags", {})}
    number = track(stream)
    if number in encrypted or "enc_key_id" in tags:
        return f"it is encrypted ({encrypted.get(number, 'Matroska')})"
    codec = stream.get("codec_name", "unknown")
    if codec in ("unknown", "none"):
        return f"this ffmpeg does not know its codec{_tag(stream)}"
    return "" if not codecs or codec in codecs else f"this ffmpeg cannot decode {codec}"


def flac_bits(stream: Mapping[str, Any]) -> int:
    """Of FLAC with more than 24 bits a sample, how many; else 0. ffmpeg decodes it from
    its version 6 on, and before finds no frames in it."""
    bits = str(stream.get("bits_per_raw_sample", ""))
    deep = stream.get("codec_name") == "flac" and bits.isdigit() and int(bits) > 24
    return int(bits) if deep else 0


def why_empty(stream: Mapping[str, Any]) -> str:
    """Why nothing came of a stream that is announced."""
    bits = flac_bits(stream)
    return f"this ffmpeg cannot decode flac of {bits} bits" if bits else "it holds nothing"


def track(stream: Mapping[str, Any]) -> int:
    """The number of a track of MP4; -1 if it has none."""
    text = str(stream.get("id", ""))
    return int(text, 16) if re.fullmatch(r"0x[0-9a-f]+", text) else -1


def _tag(stream: Mapping[str, Any]) -> str:
    tag = str(stream.get("codec_tag_string", ""))
    return f" ({tag})" if re.fullmatch(r"[\w.-]{2,8}", tag) else ""


def sentence(facts: Facts, kind: str = "") -> str:
    """What cannot be used of a file, of one ``kind`` (``picture``, ``sound``) or of all,
    as in ``its picture cannot be used: it is encrypted (cenc)``; or empty."""
    streams = [one for one in facts.get("unusable", ()) if kind in ("", one["kind"])]
    reasons: dict[tuple[str, str], None] = {(one["kind"], one["reason"]): None for one in streams}
    return "; ".join(f"its {what} cannot be used: {reason}" for what, reason in reasons)


def seconds(stderr: str, name: str, rate: int) -> float | None:
    """How much was decoded of the input stream ``name`` (``0:1``), of ``rate`` samples a
    second; None if ffmpeg did not tell."""
    told = counts(stderr).get(name)
    return told.samples / rate if told and rate else None


def lacks(decoded: float, length: float) -> bool:
    """Whether so few seconds of so many were decoded that it must be told."""
    return decoded < min(0.9 * length, length - 0.5)


# What became of a sound of which much less was decoded than it lasts.
NOTHING, HOLES, GAPS = "nothing", "holes", "gaps"
_LEAST, _MOST = 0.05, 0.75  # of what its packets hold


def verdict(decoded: float, held: float, length: float) -> str:
    """``NOTHING`` of it could be decoded, or so little that it has ``HOLES``; or its
    packets hold no more, and the ``GAPS`` between them are the source's own. All in
    seconds; ``held`` is what the packets last together."""
    part = decoded / min(held, length)
    return NOTHING if part < _LEAST else HOLES if part < _MOST else GAPS
