from __future__ import annotations

from typing import Any

import pytest

from backoffice.media import hls, languages, renditions, subtitles


def described(*streams: dict[str, Any]) -> list[hls.Sound]:
    return renditions.sounds(streams, [str(n) for n in range(len(streams))])


def test_names_of_sounds_are_for_people_and_unlike_each_other() -> None:
    found = described(
        {"language": "ger"},
        {"language": "deu", "role": "commentary"},
        {"language": "de", "role": "description"},
        {"language": "pt-BR"},
        {"language": "de"},
        {"language": "und"},
        {"language": "und"},
        {"title": "Stadium"},
    )
    assert [one.title for one in found] == [
        "Deutsch",
        "Deutsch (Commentary)",
        "Deutsch (Audio description)",
        "português (Brasil)",
        "Deutsch (2)",
        "Sound",
        "Sound (2)",
        "Stadium",
    ]
    assert [one.default for one in found] == [True] + [False] * 7
    # A player chooses by language and accessibility: among those it must be one.
    assert [one.autoselect for one in found] == [True, False, True, True, False, True, False, False]


def test_subtitles_say_what_they_are_for() -> None:
    streams = [
        {"language": "eng", "dispositions": ["default"]},
        {"language": "eng", "dispositions": ["forced"]},
        {"language": "eng", "dispositions": ["hearing_impaired"]},
        {"language": "und", "dispositions": []},
    ]
    names = renditions.text_names(streams)
    assert names == ["subtitles-1-en", "subtitles-2-en", "subtitles-3-en", "subtitles-4-und"]
    found = renditions.texts(streams, names)
    assert [(one.title, one.forced) for one in found] == [
        ("English", False),
        ("English (forced)", True),
        ("English (SDH)", False),
        ("Subtitles", False),
    ]
    assert "transcribes-spoken-dialog" in found[2].characteristics


@pytest.mark.parametrize(
    ("codec", "textual"),
    [
        *((name, True) for name in ("subrip", "ass", "mov_text", "webvtt")),
        *((name, False) for name in ("hdmv_pgs_subtitle", "dvd_subtitle", "dvb_teletext")),
    ],
)
def test_which_subtitles_are_text(codec: str, textual: bool) -> None:
    assert bool(subtitles.textual({"subtitle": [{"index": 2, "codec": codec}]})) is textual


@pytest.mark.parametrize(
    ("text", "code", "quicktime"),
    [
        ("de", "deu", "ger"),
        ("ger", "deu", "ger"),
        ("en-GB", "eng", "eng"),
        ("fre", "fra", "fra"),
        ("sv", "swe", "sve"),
        ("und", "und", "und"),
        ("nonsense", "und", "und"),
    ],
)
def test_codes_of_languages_in_files(text: str, code: str, quicktime: str) -> None:
    assert languages.code(text) == code
    assert languages.quicktime(text) == quicktime
