"""Renditions of sound and subtitles: their names for people and for players.

Owns what a player shows and chooses by: titles unlike each other, languages, roles and
accessibility, as HLS and DASH say them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from backoffice.media import languages, soundtracks
from backoffice.media.hls import Sound, Text

Facts = Mapping[str, Any]

# Apple's names for CHARACTERISTICS.
_DESCRIBES_VIDEO: Final = "public.accessibility.describes-video"
_FOR_THE_DEAF: Final = (
    "public.accessibility.transcribes-spoken-dialog,public.accessibility.describes-music-and-sound"
)
_ROLES: Final[Mapping[str, str]] = {
    soundtracks.COMMENTARY: "Commentary",
    soundtracks.DESCRIPTION: "Audio description",
    soundtracks.KARAOKE: "Karaoke",
}


def sounds(streams: Sequence[Facts], names: Sequence[str]) -> list[Sound]:
    """The first one by default. Two between which a player could not choose by
    language and accessibility are not both offered to its own choice."""
    found: list[Sound] = []
    for name, stream in zip(names, streams, strict=True):
        role, tag = soundtracks.role(stream), languages.tag(str(stream.get("language", "")))
        describes = _DESCRIBES_VIDEO if role == soundtracks.DESCRIPTION else ""
        alike = any((one.language, one.characteristics) == (tag, describes) for one in found)
        found.append(
            Sound(
                name=name,
                title=_unlike([one.title for one in found], _sound_title(stream, role)),
                language=tag,
                channels=int(stream.get("channels", 0)),
                default=not found,
                characteristics=describes,
                autoselect=not alike and role in (soundtracks.MAIN, soundtracks.DESCRIPTION),
            )
        )
    return found


def texts(streams: Sequence[Facts], names: Sequence[str]) -> list[Text]:
    found: list[Text] = []
    for name, stream in zip(names, streams, strict=True):
        tag, marks = languages.tag(str(stream.get("language", ""))), _marks(stream)
        deaf = _FOR_THE_DEAF if marks & {"hearing_impaired", "captions"} else ""
        forced = "forced" in marks
        same = [(one.language, one.forced, one.characteristics) for one in found]
        found.append(
            Text(
                name=name,
                title=_unlike([one.title for one in found], _text_title(stream, marks)),
                language=tag,
                forced=forced,
                characteristics=deaf,
                autoselect=(tag, forced, deaf) not in same and "comment" not in marks,
            )
        )
    return found


def text_names(streams: Sequence[Facts]) -> list[str]:
    """What the files of subtitles are called, without suffix."""
    tags = [languages.tag(str(stream.get("language", ""))) for stream in streams]
    return [f"subtitles-{n}-{tag or languages.UNKNOWN}" for n, tag in enumerate(tags, 1)]


def _marks(stream: Facts) -> set[str]:
    return set(stream.get("dispositions", ()))


def _sound_title(stream: Facts, role: str) -> str:
    known = languages.name(str(stream.get("language", "")))
    return str(stream.get("title", "")) or _with(known, _ROLES.get(role, "")) or "Sound"


def _text_title(stream: Facts, marks: set[str]) -> str:
    kind = "forced" if "forced" in marks else "SDH" if "hearing_impaired" in marks else ""
    known = languages.name(str(stream.get("language", "")))
    return str(stream.get("title", "")) or _with(known or "Subtitles", kind)


def _with(language: str, kind: str) -> str:
    return f"{language} ({kind})" if language and kind else language or kind


def _unlike(others: Sequence[str], title: str) -> str:
    """``title``, or with the first number from 2 on that makes it unlike the others."""
    number, found = 1, title
    while found in others:
        number += 1
        found = f"{title} ({number})"
    return found
