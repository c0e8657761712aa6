"""One encoding: a source, a profile, and what of the one comes out with the other.

Owns which streams are used, what the result is called and what is known of it before
it is made. Runs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from backoffice.media import (
    colour,
    ffmpeg,
    listening,
    pictures,
    profiles,
    rendering,
    renditions,
    soundtracks,
    subtitles,
)
from backoffice.media.hls import Text
from backoffice.media.profiles import Expected, Facts, Profile
from backoffice.media.soundtracks import Soundtrack
from backoffice.system import files
from backoffice.tasks import Output, Source

_CODECS = {"libx264": "h264", "libx265": "hevc", "prores_ks": "prores"}


@dataclass(frozen=True)
class Encoding:
    profile: Profile
    source: Source
    facts: Facts
    expected: Expected
    tolerant: bool = False  # of a source with faults, of which less may come out
    only: str = ""
    extra: Sequence[str] = ()  # ffmpeg's arguments for more inputs

    @property
    def title(self) -> str:
        return self.source.title

    @property
    def sounds(self) -> Sequence[Soundtrack]:
        return profiles.sounds(self.profile, self.facts)

    @property
    def texts(self) -> Sequence[Facts]:
        """The subtitles that go into a package."""
        packs = self.profile.package and not self.only
        return subtitles.textual(self.facts) if packs else ()

    @property
    def described_texts(self) -> Sequence[Text]:
        return renditions.texts(self.texts, renditions.text_names(self.texts))

    @property
    def unsure(self) -> Sequence[Soundtrack]:
        """Sounds between which nothing chooses but whether anything is to be heard."""
        audio = self.profile.audio
        if self.profile.copy or not audio or audio.streams == "all":
            return ()
        tracks = soundtracks.candidates(self.facts, audio.languages)
        unsure = listening.unsure(tracks)
        return unsure if audio.streams == "languages" or tracks[:1] == unsure[:1] else ()

    @property
    def picture(self) -> Facts | None:
        """The one that is encoded."""
        return profiles.first_picture(self.facts) if self.profile.video else None

    @property
    def decoder(self) -> list[str]:
        """Arguments before the input."""
        return rendering.decoder(self.picture) if self.picture else []

    def about(self, facts: Facts) -> Encoding:
        """The same encoding of a source of which something else is known."""
        return replace(self, facts=facts, expected=profiles.expected(self.profile, facts))

    # What comes out

    def target(self, folder: Path) -> Path:
        """Where the result lies; for a ladder, where a player starts."""
        if self.profile.package:
            name = files.output_name(self.title, f"-{self.profile.name}")
            return folder / name / self.profile.package.manifest
        assert self.profile.container is not None
        extension = self.profile.container.extension
        return folder / files.output_name(self.title, f"-{self.profile.name}.{extension}")

    def output(self, target: Path, facts: Facts) -> Output:
        if package := self.profile.package:
            return Output("package", target, package.media_type, tree=True, facts=facts)
        assert self.profile.container is not None
        role = "audio" if self.profile.sound_only else "rendition"
        return Output(role, target, self.profile.container.media_type, facts=facts)

    def known_by(self, facts: Facts) -> Facts:
        """With what MP4 cannot say of its sounds, for the tasks that come after it."""
        if self.profile.package:
            return facts
        pairs = zip(facts["audio"], self.sounds, strict=True)
        return {**facts, "audio": [_named(made, track) for made, track in pairs]}

    def planned(self, target: Path) -> Output:
        """With facts that are enough for the tasks that come after it to be planned too."""
        pictures, sounds = _planned_pictures(self), _planned_sounds(self)
        facts = {
            "duration": self.expected.duration,
            "start": 0.0,
            "video": pictures,
            "audio": sounds,
            "subtitle": [],
        }
        for number, stream in enumerate((*pictures, *sounds)):
            stream["index"] = number
        return self.output(target, facts)

    def rendered(self) -> str:
        """What becomes of HDR, for people; empty if nothing."""
        picture = self.picture
        if picture is None:
            return ""
        videos = profiles.rungs(self.profile, self.facts)
        said = (colour.rendered(picture, profiles.made_colour(v, picture)) for v in videos)
        return next(filter(None, said), "")

    def missing(self, facts: Facts) -> list[str]:
        """What did not come out of a source whose faults are tolerated."""
        wanted, made = self.expected.duration, float(facts["duration"])
        if not self.tolerant or made >= wanted - ffmpeg.tolerance(wanted):
            return []
        return [f"{self.title} lasts {wanted:.1f} s, and only {made:.1f} s of it came out"]


def _named(made: Facts, track: Soundtrack) -> dict[str, Any]:
    known = {"language": track.language, "title": track.title}
    if track.role != soundtracks.MAIN:
        known["role"] = track.role
    return {**made, **{key: value for key, value in known.items() if value}}


def _planned_pictures(one: Encoding) -> list[dict[str, Any]]:
    source = one.facts["video"][0] if one.facts["video"] else {}
    whole = {"interlaced": False, "scan": pictures.PROGRESSIVE, "rotation": 0}
    return [
        {**source, "width": width, "height": height, **whole, **made}
        for made, (width, height) in zip(_planned_codecs(one), one.expected.pictures, strict=True)
    ]


def _planned_codecs(one: Encoding) -> list[dict[str, Any]]:
    if one.profile.copy:
        return [{"codec": picture["codec"]} for picture in one.facts["video"]]
    return [
        {
            "codec": _CODECS[video.codec],
            "pixel_format": video.pixel_format,
            "colour": asdict(profiles.made_colour(video, one.facts["video"][0])),
            "captions": False,
        }
        for video in profiles.rungs(one.profile, one.facts)
    ]


def _planned_sounds(one: Encoding) -> list[dict[str, Any]]:
    audio = one.profile.audio
    return [
        {
            **track.first,
            **track.described,
            "codec": audio.codec if audio else str(track.first["codec"]),
        }
        for track in one.sounds
    ]
