"""What of a source is not in what was made of it, and why, in words for people."""

from __future__ import annotations

from backoffice.media import pictures, profiles, rendering, soundtracks, subtitles
from backoffice.media.soundtracks import Soundtrack
from backoffice.tasks.transcoding.encoding import Encoding


def of(one: Encoding) -> list[str]:
    told = _pictures(one)
    if one.only:
        return told
    return [*told, *_sounds(one), *_channels(one), *_texts(one)]


def of_shape(one: Encoding, stderr: str) -> list[str]:
    """What the encoding's own messages tell of a picture that changed on the way."""
    if one.picture is None:
        return []
    return [f"{one.title} {said}" for said in rendering.warnings(one.picture, stderr)]


def _pictures(one: Encoding) -> list[str]:
    """Pictures beside the one that is encoded, and frames beyond what the profile allows."""
    if not one.profile.video:
        return []
    capped = profiles.capped(one.profile, one.facts)
    return [*pictures.unused(one.facts["video"]), *([capped] if capped else [])]


def _sounds(one: Encoding) -> list[str]:
    told = [
        f"left out: {soundtracks.name(one.facts, track)}: {_why(one, track)}"
        for track in soundtracks.left_out(one.facts, one.sounds)
    ]
    told += [
        f"left out: {soundtracks.name(one.facts, Soundtrack((stream,)))}: {stream['reason']}"
        for stream in one.facts.get("unusable", ())
        if stream["kind"] == "sound" and stream not in one.source.facts.get("unusable", ())
    ]
    if one.sounds and one.sounds[0].role != soundtracks.MAIN and not one.profile.copy:
        name = soundtracks.name(one.facts, one.sounds[0])
        told.append(f"there is no main sound that can be used: {name} comes first")
    return told


def _why(one: Encoding, track: Soundtrack) -> str:
    audio = one.profile.audio
    if audio is None:
        return f"the profile {one.profile.name} makes no sound"
    if audio.streams == "main":
        return f"the profile {one.profile.name} takes one sound"
    return "another of its language is taken"


def _channels(one: Encoding) -> list[str]:
    audio = one.profile.audio
    return [
        f"left out: channels 3 to {track.channels} of {soundtracks.name(one.facts, track)}:"
        " nothing says what they are"
        for track in one.sounds
        if audio and profiles.programme_pair(audio, track)
    ]


def _texts(one: Encoding) -> list[str]:
    if one.profile.sound_only:
        return []
    used = [*one.texts, *profiles.texts(one.profile, one.facts)]
    reason = f"the profile {one.profile.name} takes no subtitles"
    return subtitles.left_out(one.facts, used, reason)
