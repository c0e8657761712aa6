"""Soundtracks: which sounds of a source are used, in which order, and which are left out.

Owns the choice by role, language and channel labels, and the joining of mono tracks.
Pure: it looks at facts (see ``media.probe``), starts nothing and reads no media.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from backoffice.media import languages

Facts = Mapping[str, Any]

MAIN, COMMENTARY, DESCRIPTION, KARAOKE = "main", "commentary", "description", "karaoke"
_LAST: Final = (MAIN, DESCRIPTION, COMMENTARY, KARAOKE)  # the order of preference

# ffprobe's name of a disposition → the role; then what titles say.
_DISPOSITIONS: Final[Mapping[str, str]] = {
    "comment": COMMENTARY,
    "visual_impaired": DESCRIPTION,
    "descriptions": DESCRIPTION,
    "karaoke": KARAOKE,
}
_TITLES: Final = (
    (re.compile(r"\b(commentar\w*|comentari\w*|kommentar\w*|commentaires?)\b", re.I), COMMENTARY),
    (
        re.compile(
            r"\b(audio[ -]?descri\w+|descriptive|described|descriptions?|audiodeskription)\b", re.I
        ),
        DESCRIPTION,
    ),
    (re.compile(r"\bkaraoke\b", re.I), KARAOKE),
)

# Recorders and editing systems write one track a channel into these.
_CHANNEL_PER_TRACK: Final = frozenset({"mov", "mxf", "mxf_opatom", "gxf"})
_SURROUND: Final = ("FL", "FR", "FC", "LFE", "BL", "BR")  # the order of ffmpeg's "5.1"
# What channel labels and titles of tracks say → ffmpeg's name of the channel.
_LABELS: Final[Mapping[str, str]] = {
    "fl": "FL",
    "l": "FL",
    "left": "FL",
    "lt": "FL",
    "fr": "FR",
    "r": "FR",
    "right": "FR",
    "rt": "FR",
    "fc": "FC",
    "c": "FC",
    "center": "FC",
    "centre": "FC",
    "lfe": "LFE",
    "lf": "LFE",
    "sub": "LFE",
    "bl": "BL",
    "sl": "BL",
    "ls": "BL",
    "left surround": "BL",
    "br": "BR",
    "sr": "BR",
    "rs": "BR",
    "right surround": "BR",
}
_UNLABELLED = re.compile(r"(unknown|\d+ channels)?\Z")


@dataclass(frozen=True)
class Soundtrack:
    """One sound to make. Several ``streams`` are mono tracks, each a channel of
    ``layout``, in its order."""

    streams: tuple[Facts, ...]
    layout: str = ""  # of ffmpeg; empty: that of the one stream

    @property
    def first(self) -> Facts:
        return self.streams[0]

    @property
    def language(self) -> str:
        """As the file says it; ``und`` if it does not."""
        return str(self.first.get("language", languages.UNKNOWN))

    @property
    def title(self) -> str:
        title = str(self.first.get("title", ""))
        return "" if len(self.streams) > 1 and _label(self.first) else title

    @property
    def role(self) -> str:
        return role(self.first)

    @property
    def default(self) -> bool:
        return "default" in self.first.get("dispositions", ())

    @property
    def channels(self) -> int:
        return len(self.streams) if self.layout else int(self.first.get("channels", 0))

    @property
    def unlabelled(self) -> bool:
        """Whether it has more than two channels, and nothing says which is which."""
        named = not _UNLABELLED.match(str(self.first.get("layout", "")))
        return not self.layout and self.channels > 2 and not named

    @property
    def described(self) -> dict[str, Any]:
        """What a rendition of it is known by."""
        facts = {"language": self.language, "title": self.title, "channels": self.channels}
        return {**facts, "role": self.role}


def role(stream: Facts) -> str:
    """``main``, ``commentary``, ``description`` or ``karaoke``."""
    if known := str(stream.get("role", "")):
        return known
    for name in stream.get("dispositions", ()):
        if name in _DISPOSITIONS:
            return _DISPOSITIONS[name]
    title = str(stream.get("title", ""))
    return next((found for words, found in _TITLES if words.search(title)), MAIN)


def every(facts: Facts) -> list[Soundtrack]:
    """Each stream by itself, in the order of the file."""
    return [Soundtrack((stream,)) for stream in facts.get("audio", ())]


def candidates(facts: Facts, wanted: Sequence[str] = ()) -> list[Soundtrack]:
    """The sounds of the source, the best first: by role, by the languages ``wanted``
    (BCP 47), then the default one, then the order of the file."""

    def rank(track: Soundtrack) -> tuple[int, int, bool]:
        return _LAST.index(track.role), _wish(track.language, wanted), not track.default

    return sorted(_joined(facts), key=rank)


def _wish(language: str, wanted: Sequence[str]) -> int:
    tag = languages.tag(language)
    places = (n for n, wish in enumerate(wanted) if tag and _covers(languages.tag(wish), tag))
    return next(places, len(wanted))


def _covers(wish: str, tag: str) -> bool:
    """``pt`` covers ``pt-BR`` (RFC 4647, basic filtering)."""
    return tag == wish or tag.startswith(f"{wish}-")


def one_a_language(tracks: Sequence[Soundtrack]) -> list[Soundtrack]:
    """The first of each language and role. Sounds of unknown language all stay, since
    each may be another, and so do those of one language with titles of their own."""
    found: list[Soundtrack] = []
    for track in tracks:
        if not any(_same(track, other) for other in found):
            found.append(track)
    return found


def _same(one: Soundtrack, other: Soundtrack) -> bool:
    tag = languages.tag(one.language)
    alike = tag == languages.tag(other.language) and one.role == other.role
    titled = bool(one.title and other.title and one.title != other.title)
    return bool(tag) and alike and not titled


# Mono tracks


def _joined(facts: Facts) -> Iterator[Soundtrack]:
    streams: Sequence[Facts] = facts.get("audio", ())
    if not _CHANNEL_PER_TRACK & set(str(facts.get("format", "")).split(",")):
        yield from every(facts)
        return
    for (mono, *_), run in groupby(streams, key=_kind):
        tracks = list(run)
        yield from (_channels(tracks) if mono else (Soundtrack((one,)) for one in tracks))


def _kind(stream: Facts) -> tuple[object, ...]:
    """Tracks side by side of which this is equal may be channels of one sound."""
    title = "" if _label(stream) else re.sub(r"\d+\Z", "", str(stream.get("title", "")))
    mono = stream.get("channels") == 1
    same = (stream.get("language"), stream.get("sample_rate"), stream.get("codec"), role(stream))
    return (mono, title, *same)


def _channels(tracks: Sequence[Facts]) -> Iterator[Soundtrack]:
    rest = list(tracks)
    while rest:
        labels = [_label(one) for one in rest[:6]]
        centred = [label or "FC" for label in labels]  # "mono" is all that its label says
        if sorted(centred) == sorted(_SURROUND):
            order = [centred.index(name) for name in _SURROUND]
            yield Soundtrack(tuple(rest[n] for n in order), "5.1")
            del rest[:6]
        elif len(rest) > 1 and _pair(labels[:2]):
            pair = rest[1::-1] if labels[:2] == ["FR", "FL"] else rest[:2]
            yield Soundtrack(tuple(pair), "stereo")
            del rest[:2]
        else:
            yield Soundtrack((rest.pop(0),))


def _pair(labels: Sequence[str]) -> bool:
    """Without labels two tracks are left and right: so recorders write them."""
    return not any(labels) or sorted(labels) == ["FL", "FR"]


def _label(stream: Facts) -> str:
    """Which channel a mono track is, by its label or else by its title; or empty."""
    layout = re.search(r"\((\w+)\)\Z", str(stream.get("layout", "")))
    if layout and layout[1].lower() in _LABELS:
        return _LABELS[layout[1].lower()]
    return _LABELS.get(str(stream.get("title", "")).strip().lower(), "")


# What is told


def left_out(facts: Facts, used: Iterable[Soundtrack]) -> list[Soundtrack]:
    """Those of the source that are in none of ``used``."""
    taken = {stream["index"] for track in used for stream in track.streams}
    return [one for one in candidates(facts) if one.first["index"] not in taken]


def number(facts: Facts, stream: Facts) -> int:
    """Of a sound, counted from 1 as players do: unusable ones count too."""
    streams = [one["index"] for one in facts.get("audio", ())]
    streams += [one["index"] for one in facts.get("unusable", ()) if one.get("kind") == "sound"]
    return sorted(streams).index(stream["index"]) + 1


def name(facts: Facts, track: Soundtrack) -> str:
    """``sound 3 (commentary, eng)``, for people."""
    numbers = sorted(number(facts, stream) for stream in track.streams)
    words = "sound" if len(numbers) == 1 else "sounds"
    listed = str(numbers[0])
    if len(numbers) > 1:
        listed = f"{', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"
    known = [
        track.role if track.role != MAIN else "",
        track.language if track.language != languages.UNKNOWN else "",
        track.title,
    ]
    about = ", ".join(filter(None, known))
    return f"{words} {listed} ({about})" if about else f"{words} {listed}"


def without(facts: Facts, gone: Collection[int], reason: str) -> dict[str, Any]:
    """``facts`` with the sounds of those indexes among the unusable."""
    audio = facts.get("audio", ())
    moved = [{**one, "kind": "sound", "reason": reason} for one in audio if one["index"] in gone]
    kept = [one for one in audio if one["index"] not in gone]
    return {**facts, "audio": kept, "unusable": [*facts.get("unusable", ()), *moved]}
