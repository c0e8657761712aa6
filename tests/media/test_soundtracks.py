from __future__ import annotations

from typing import Any

import pytest

from backoffice.media import listening, soundtracks
from backoffice.media.soundtracks import Soundtrack


def sound(index: int, **more: Any) -> dict[str, Any]:
    known = {"codec": "aac", "language": "und", "channels": 2, "layout": "stereo"}
    return {"index": index, "sample_rate": 48000, "dispositions": []} | known | more


def mono(index: int, **more: Any) -> dict[str, Any]:
    return sound(index, **({"channels": 1, "layout": "", "codec": "pcm_s16le"} | more))


def facts(*streams: dict[str, Any], form: str = "matroska,webm") -> dict[str, Any]:
    return {"format": form, "audio": list(streams)}


def chosen(found: list[Soundtrack]) -> list[tuple[list[int], str]]:
    return [([stream["index"] for stream in one.streams], one.layout) for one in found]


@pytest.mark.parametrize(
    ("stream", "role"),
    [
        (sound(1), "main"),
        (sound(1, dispositions=["comment"]), "commentary"),
        (sound(1, dispositions=["visual_impaired"]), "description"),
        (sound(1, dispositions=["karaoke"]), "karaoke"),
        (sound(1, title="Director's Commentary"), "commentary"),
        (sound(1, title="Audiokommentar"), "main"),
        (sound(1, title="Kommentar"), "commentary"),
        (sound(1, title="English (Audio Description)"), "description"),
        (sound(1, title="Surround 5.1"), "main"),
    ],
)
def test_the_role_of_a_sound(stream: dict[str, Any], role: str) -> None:
    assert soundtracks.role(stream) == role


def test_role_goes_before_default_and_default_before_order() -> None:
    source = facts(
        sound(1, dispositions=["comment", "default"]),
        sound(2, language="fra"),
        sound(3, language="deu", dispositions=["default"]),
        sound(4, dispositions=["karaoke"]),
    )
    assert chosen(soundtracks.candidates(source)) == [([n], "") for n in (3, 2, 1, 4)]


@pytest.mark.parametrize(
    ("wanted", "first"),
    [((), 1), (("en",), 2), (("it", "en"), 2), (("pt",), 3), (("pt-BR", "en"), 3), (("xx",), 1)],
)
def test_languages_that_are_wanted_go_first(wanted: tuple[str, ...], first: int) -> None:
    source = facts(
        sound(1, language="deu", dispositions=["default"]),
        sound(2, language="eng"),
        sound(3, language="pt-BR"),
    )
    assert soundtracks.candidates(source, wanted)[0].first["index"] == first


def test_one_sound_a_language_and_role() -> None:
    source = facts(
        sound(1, language="eng", dispositions=["default"]),
        sound(2, language="en"),  # the same
        sound(3, language="eng", dispositions=["comment"]),
        sound(4, language="eng", title="Stadium"),
        sound(5),
        sound(6),  # perhaps another language
    )
    kept = soundtracks.one_a_language(soundtracks.candidates(source))
    assert [one.first["index"] for one in kept] == [1, 5, 6, 3]
    assert [one.first["index"] for one in soundtracks.left_out(source, kept)] == [2, 4]


def test_two_titles_are_two_sounds() -> None:
    source = facts(
        sound(1, language="eng", title="Arena"), sound(2, language="eng", title="Studio")
    )
    assert len(soundtracks.one_a_language(soundtracks.candidates(source))) == 2


@pytest.mark.parametrize("form", ["mxf", "mov,mp4,m4a,3gp,3g2,mj2", "gxf"])
@pytest.mark.parametrize(
    ("streams", "result"),
    [
        ([mono(1), mono(2)], [([1, 2], "stereo")]),
        ([mono(n) for n in range(1, 5)], [([1, 2], "stereo"), ([3, 4], "stereo")]),
        ([mono(n) for n in range(1, 7)], [([n, n + 1], "stereo") for n in (1, 3, 5)]),
        ([mono(1), mono(2), mono(3)], [([1, 2], "stereo"), ([3], "")]),
        ([mono(1, language="deu"), mono(2, language="eng")], [([1], ""), ([2], "")]),
        ([mono(1, title="Boom"), mono(2, title="Lavalier")], [([1], ""), ([2], "")]),
        ([mono(1, title="Track 1"), mono(2, title="Track 2")], [([1, 2], "stereo")]),
        ([mono(1, title="Right"), mono(2, title="Left")], [([2, 1], "stereo")]),
        (
            [mono(1, layout="1 channels (FR)"), mono(2, layout="1 channels (FL)")],
            [([2, 1], "stereo")],
        ),
        ([mono(1, layout="1 channels (FC)"), mono(2)], [([1], ""), ([2], "")]),
        ([mono(1), sound(2), mono(3)], [([1], ""), ([2], ""), ([3], "")]),
        (
            [mono(n, title=t) for n, t in enumerate(("L", "R", "C", "LFE", "Ls", "Rs"), 1)],
            [([1, 2, 3, 4, 5, 6], "5.1")],
        ),
    ],
)
def test_mono_tracks_become_what_they_are_channels_of(
    form: str, streams: list[dict[str, Any]], result: list[tuple[list[int], str]]
) -> None:
    assert chosen(soundtracks.candidates(facts(*streams, form=form))) == result


def test_mono_tracks_of_other_containers_are_sounds_of_their_own() -> None:
    assert chosen(soundtracks.candidates(facts(mono(1), mono(2)))) == [([1], ""), ([2], "")]


@pytest.mark.parametrize(
    ("channels", "layout", "unlabelled"),
    [
        (8, "", True),
        (8, "8 channels", True),
        (6, "5.1(side)", False),
        (2, "", False),
        (1, "", False),
    ],
)
def test_which_channels_have_no_labels(channels: int, layout: str, unlabelled: bool) -> None:
    assert Soundtrack((sound(1, channels=channels, layout=layout),)).unlabelled is unlabelled


def test_sounds_are_counted_as_players_do() -> None:
    source = facts(mono(2), mono(3, language="eng")) | {
        "unusable": [{"index": 1, "kind": "sound"}, {"index": 0, "kind": "picture"}]
    }
    track = Soundtrack((source["audio"][0], source["audio"][1]), "stereo")
    assert soundtracks.name(source, track) == "sounds 2 and 3"
    commentary = Soundtrack((sound(3, language="eng", dispositions=["comment"]),))
    assert soundtracks.name(source, commentary) == "sound 3 (commentary, eng)"


# Silence

PEAKS = """[Parsed_volumedetect_0 @ 0x55] [info] max_volume: -12.0 dB
[Parsed_volumedetect_1 @ 0x56] [info] max_volume: -91.0 dB
[Parsed_volumedetect_2 @ 0x57] [info] max_volume: -80.5 dB
"""


def test_silent_sounds_are_known_by_their_peaks() -> None:
    tracks = [Soundtrack((mono(1), mono(2)), "stereo"), Soundtrack((mono(3),))]
    assert listening.silent(tracks, PEAKS, only=True) == {3}


def test_where_all_is_silence_the_first_one_stays() -> None:
    tracks = [Soundtrack((mono(n),)) for n in (1, 2)]
    quiet = PEAKS.replace("-12.0", "-91.0")
    assert listening.silent(tracks, quiet, only=True) == {2}
    assert listening.silent(tracks, quiet, only=False) == {1, 2}


def test_only_sounds_of_unknown_language_are_listened_to() -> None:
    tracks = soundtracks.candidates(facts(sound(1, language="eng"), sound(2), sound(3)))
    assert [one.first["index"] for one in listening.unsure(tracks)] == [2, 3]
    assert listening.unsure(soundtracks.candidates(facts(sound(1)))) == []
    assert listening.unsure([]) == []
