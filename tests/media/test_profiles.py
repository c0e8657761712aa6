from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backoffice.config import resources
from backoffice.errors import DefinitionError, Invalid
from backoffice.media import profiles
from backoffice.media.profiles import Profile

SHIPPED = profiles.load([resources.share("etc") / "profiles"])


def facts(
    width: int = 1920, height: int = 1080, sounds: int = 1, pictures: int = 1, **more: Any
) -> dict[str, Any]:
    picture = {
        "codec": "h264",
        "width": width,
        "height": height,
        "frame_rate": 25.0,
        "interlaced": False,
        "pixel_format": "yuv420p",
        "duration": 10.0,
        **more,
    }
    return {
        "duration": 10.0,
        "start": 0.0,
        "video": [{"index": n, **picture} for n in range(pictures)],
        "audio": [
            {"index": pictures + n, "codec": "aac", "channels": 2, "duration": 10.0}
            for n in range(sounds)
        ],
    }


def encode(profile: Profile, facts: dict[str, Any]) -> list[str]:
    (arguments,) = profiles.encode_arguments([profile], facts)
    return arguments


def option(arguments: list[str], name: str) -> str:
    return arguments[arguments.index(name) + 1]


# Shipped profiles


def test_the_shipped_profiles_are_there() -> None:
    assert set(SHIPPED) == set(
        (
            "mp4-2160 mp4-1440 mp4-1080 mp4-720 mp4-540 mp4-360 hls-ladder dash-ladder"
            " hls-hdr hevc-hdr audio-aac sound-languages mezzanine remux-copy preview proxy"
        ).split()
    )


@pytest.mark.parametrize("profile", SHIPPED.values(), ids=lambda p: p.name)
def test_every_shipped_profile_says_what_it_is(profile: Profile) -> None:
    assert profile.title != profile.name
    assert Path(profile.source).stem == profile.name


@pytest.mark.parametrize("profile", SHIPPED.values(), ids=lambda p: p.name)
def test_container_and_streams_are_always_explicit(profile: Profile) -> None:
    arguments = encode(profile, facts())
    assert "-f" in arguments
    assert "-map" in arguments


# Sizes and rungs


@pytest.mark.parametrize(
    ("size", "height", "result"),
    [
        ((1920, 1080), 720, (1280, 720)),
        ((1080, 1920), 720, (720, 1280)),
        ((1280, 720), 1080, (1280, 720)),
        ((854, 480), 360, (640, 360)),
        ((640, 272), 360, (640, 272)),
        ((321, 181), 360, (320, 180)),
        ((1000, 2), 360, (1000, 2)),
    ],
)
def test_dimensions(size: tuple[int, int], height: int, result: tuple[int, int]) -> None:
    assert profiles.dimensions(facts(*size)["video"][0], height) == result


@given(st.integers(2, 9000), st.integers(2, 9000), st.integers(0, 4320))
def test_sizes_are_even_never_larger_and_keep_their_shape(w: int, h: int, height: int) -> None:
    width, tall = profiles.dimensions({"width": w, "height": h}, height)
    assert width % 2 == tall % 2 == 0
    assert 2 <= width <= w
    assert 2 <= tall <= h
    if min(width, tall) >= 100:
        assert width / tall == pytest.approx(w / h, rel=0.03)


def test_a_picture_without_size_is_refused() -> None:
    with pytest.raises(Invalid, match="0×0"):
        profiles.dimensions({"width": 0, "height": 0})


@pytest.mark.parametrize(
    ("size", "names"),
    [
        ((3840, 2160), ["2160p", "1440p", "1080p", "720p", "540p", "360p", "234p"]),
        ((2560, 1440), ["1440p", "1080p", "720p", "540p", "360p", "234p"]),
        ((1920, 1080), ["1080p", "720p", "540p", "360p", "234p"]),
        ((720, 1280), ["720p", "540p", "360p", "234p"]),
        ((1600, 900), ["900p", "720p", "540p", "360p", "234p"]),
        ((1152, 2048), ["1080p", "720p", "540p", "360p", "234p"]),
        ((854, 480), ["480p", "360p", "234p"]),
        ((480, 854), ["480p", "360p", "234p"]),
        ((853, 479), ["478p", "360p", "234p"]),
        ((1024, 432), ["432p", "360p", "234p"]),
        ((1024, 431), ["360p", "234p"]),
        ((768, 576), ["540p", "360p", "234p"]),
        ((160, 90), ["90p"]),
    ],
)
def test_a_ladder_begins_at_the_source_unless_the_next_rung_is_near(
    size: tuple[int, int], names: list[str]
) -> None:
    made = profiles.rungs(SHIPPED["hls-ladder"], facts(*size))
    assert [v.name for v in made] == names
    assert [f"{v.height}p" for v in made] == names


def test_a_name_that_tells_no_height_stays() -> None:
    high = replace(SHIPPED["hls-ladder"].video[0], name="high")
    profile = replace(SHIPPED["hls-ladder"], video=(high,))
    (made,) = profiles.rungs(profile, facts(640, 360))
    assert (made.name, made.height) == ("high", 360)


@given(st.integers(16, 9000), st.integers(16, 9000))
def test_no_rung_is_taller_than_the_source_and_one_is_near(w: int, h: int) -> None:
    heights = [v.height for v in profiles.rungs(SHIPPED["dash-ladder"], facts(w, h))]
    assert heights == sorted(set(heights), reverse=True)
    assert heights[0] <= min(w, h)
    assert min(w, h) < max(profiles.NEAR * heights[0], heights[0] + 2) or heights[0] == 2160


def test_what_is_expected_follows_from_the_source() -> None:
    wanted = profiles.expected(SHIPPED["dash-ladder"], facts(640, 360))
    assert wanted.pictures == ((640, 360), (416, 234))
    assert (wanted.duration, len(wanted.sounds)) == (10.0, 1)
    assert len(profiles.expected(SHIPPED["mezzanine"], facts(sounds=3)).sounds) == 3
    assert len(profiles.expected(SHIPPED["mp4-720"], facts(sounds=0)).sounds) == 0


def test_the_length_expected_is_that_of_the_streams_used() -> None:
    source = facts(sounds=1) | {"duration": 60.0}  # its subtitles are longer, say
    source["audio"][0]["duration"] = 12.0
    assert profiles.expected(SHIPPED["mp4-720"], source).duration == 12.0
    del source["audio"][0]["duration"]
    assert profiles.expected(SHIPPED["mp4-720"], source).duration == 60.0
    assert profiles.expected(SHIPPED["preview"], source).duration == 30.0


@pytest.mark.parametrize(
    ("name", "source", "words"),
    [
        ("mp4-720", facts(pictures=0), "no picture"),
        ("audio-aac", facts(sounds=0), "no sound"),
        ("remux-copy", facts(codec="ffv1"), "ffv1"),
        ("mp4-720", facts(sounds=0), ""),
        ("audio-aac", facts(), ""),
        ("remux-copy", facts(pictures=0), ""),
    ],
)
def test_a_source_that_does_not_fit_is_told(name: str, source: dict[str, Any], words: str) -> None:
    reason = profiles.unfit(SHIPPED[name], source)
    assert words in reason
    assert bool(reason) == bool(words)


# Arguments


def test_one_rung_gets_the_rates_of_its_profile() -> None:
    arguments = encode(SHIPPED["mp4-720"], facts())
    assert option(arguments, "-b:v:0") == "2069k"
    assert option(arguments, "-maxrate:v:0") == "3104k"
    assert option(arguments, "-bufsize:v:0") == "4138k"
    assert option(arguments, "-force_key_frames:v:0") == "expr:gte(t,n_forced*2)"
    assert option(arguments, "-vf").startswith("fps=25,")
    assert "pad=1280:720:" in option(arguments, "-vf")
    assert option(arguments, "-vf").endswith("color_trc=bt709")
    assert option(arguments, "-f") == "mp4"


def test_a_ladder_decodes_and_deinterlaces_once() -> None:
    arguments = encode(SHIPPED["hls-ladder"], facts(interlaced=True))
    graph = option(arguments, "-filter_complex")
    assert graph.startswith("[0:0]bwdif=mode=send_field:parity=tff:deint=all,fps=50,split=5")
    assert option(arguments, "-var_stream_map").split()[-1] == ("a:0,agroup:sound,name:sound")


@pytest.mark.parametrize(
    ("source", "profile", "rate"),
    [
        ({"frame_rate": 25.0}, "mp4-720", "25"),
        ({"frame_rate": 23.976024}, "mp4-720", "24000/1001"),
        ({"frame_rate": 0.2}, "hls-ladder", "1/5"),
        ({"frame_rate": 119.88012}, "hls-ladder", "60000/1001"),
        ({"frame_rate": 100.0}, "mp4-720", "50"),
        ({"frame_rate": 25.0, "scan": "interlaced"}, "mp4-720", "50"),
        ({"frame_rate": 29.97003, "scan": "interlaced"}, "dash-ladder", "60000/1001"),
        ({"frame_rate": 29.97003, "scan": "mixed"}, "dash-ladder", "60000/1001"),
        ({"frame_rate": 29.97003, "scan": "telecine"}, "dash-ladder", "24000/1001"),
        ({"frame_rate": 25.0, "scan": "interlaced"}, "proxy", "25"),
        ({"frame_rate": 50.0, "scan": "interlaced"}, "mp4-720", "50"),
    ],
)
def test_the_frame_rate_is_the_real_one_capped(
    source: dict[str, Any], profile: str, rate: str
) -> None:
    picture = facts(**source)["video"][0]
    made = profiles.frame_rate(SHIPPED[profile].video[0], picture)
    assert made == Fraction(rate)
    assert f"fps={rate}" in " ".join(encode(SHIPPED[profile], facts(**source)))


def test_without_sound_nothing_refers_to_it() -> None:
    hls = encode(SHIPPED["hls-ladder"], facts(sounds=0))
    assert "sound" not in option(hls, "-var_stream_map")
    dash = encode(SHIPPED["dash-ladder"], facts(sounds=0))
    assert option(dash, "-adaptation_sets") == "id=0,streams=v"


def test_cover_art_before_the_picture_is_not_taken_for_it() -> None:
    source = facts()
    source["video"][0]["index"] = 2
    assert option(encode(SHIPPED["mp4-360"], source), "-map") == "0:2"


# Loudness

MEASURED = """[Parsed_loudnorm_1 @ 0x5] [info]
{
    "input_i" : "-21.65", "input_tp" : "%s", "input_lra" : "18.00",
    "input_thresh" : "-35.14", "output_i" : "-24.5", "target_offset" : "-1.03"
}
"""


def test_the_second_pass_gets_what_the_first_has_measured() -> None:
    audio = SHIPPED["audio-aac"].audio
    assert audio is not None
    assert audio.loudness is not None
    measured = profiles.measured_loudness(MEASURED % "-1.34")
    assert measured is not None
    assert profiles.loudness_filter(audio.loudness, measured) == (
        "loudnorm=I=-23:TP=-1:LRA=18:measured_I=-21.65:measured_TP=-1.34:measured_LRA=18"
        ":measured_thresh=-35.14:offset=-1.03:linear=true"
    )
    too_loud = profiles.measured_loudness(MEASURED % "4")
    assert ":LRA=7:" in profiles.loudness_filter(audio.loudness, too_loud)


@pytest.mark.parametrize("stderr", [MEASURED % "-inf", "", '"input_i" : "nan"'])
def test_silence_has_no_loudness(stderr: str) -> None:
    assert profiles.measured_loudness(stderr) is None


# Loading

HEAD = '<?xml version="1.0"?>\n<profile xmlns="urn:backoffice:1" name="x">\n'
MP4 = '<file format="mp4"/>\n'
MOV = '<file format="mov"/>\n'
HLS = '<package format="hls"/>\n'
X265 = '<video codec="libx265" rate="800" pixel-format="{}"/>\n'
X264 = '<video codec="libx264" rate="800"/>\n'
DEEP = 'codec="prores_ks" pixel-format="yuv422p10le"'


def x264(attributes: str) -> str:
    return f'<video codec="libx264" rate="800" {attributes}/>\n'


def rung(name: str, height: int, keyframes: int = 4) -> str:
    return x264(f'name="{name}" height="{height}" keyframes="{keyframes}"')


def write(folder: Path, body: str, name: str = "x") -> Path:
    path = folder / f"{name}.xml"
    path.write_text(f"{HEAD}{body}</profile>")
    return path


@pytest.mark.parametrize(
    ("body", "line", "words"),
    [
        (MP4, 2, "needs video, audio or copy"),
        (MP4 + "<copy/>" + X264, 4, "video"),
        (X264, 3, "video"),
        (MP4 + '<video codec="vp9"/>', 4, "vp9"),
        (MP4 + '<video codec="libx264"/>', 4, "rate or quality"),
        (MP4 + x264('quality="20"'), 4, "rate or quality"),
        (MP4 + x264('buffer="9"'), 4, "together"),
        (MP4 + x264('maximum="700" buffer="9"'), 4, "lower"),
        (MP4 + x264('profile="hq"'), 4, "no profile 'hq'"),
        (MP4 + x264('colour="red"'), 4, "colour"),
        (MP4 + x264('profile="main" pixel-format="yuv422p"'), 4, "yuv422p"),
        (MP4 + f"<video {DEEP}/>", 4, "does not go into mp4"),
        (MOV + f'<video {DEEP} rate="9"/>', 4, "no rate"),
        (MP4 + x264('dynamic-range="keep"'), 4, "libx265 or prores_ks and 10 bits"),
        (MP4 + X265.format('yuv420p" dynamic-range="keep'), 4, "10 bits"),
        (MP4 + X265.format('yuv420p10le" dynamic-range="hdr'), 4, "dynamic-range"),
        (MP4 + '<audio codec="aac"/>', 4, "needs a rate"),
        (MP4 + '<audio codec="pcm_s16le"/>', 4, "does not go into mp4"),
        (MP4 + '<audio codec="aac" rate="9" streams="first"/>', 4, "first"),
        (MP4 + '<audio codec="aac" rate="9" languages="de xx-yyyyyyyyy"/>', 4, "languages"),
        (MP4 + '<audio codec="aac" rate="9" languages="de zz"/>', 4, "'zz' is no language"),
        (MP4 + '<audio codec="aac" rate="9"><loudness integrated="5"/></audio>', 4, "5"),
        (MP4 + X264 + X264, 3, "ladder needs package"),
        (HLS + X264, 4, "needs a name"),
        (HLS + "<copy/>", 3, "needs video"),
        (HLS + rung("a", 360) + rung("b", 360), 5, "tallest"),
        (HLS + rung("a", 720) + rung("a", 360), 3, "different names"),
        (HLS + rung("sound", 720), 3, "different names"),
        (HLS + rung("subtitles-1-en", 720), 3, "different names"),
        (HLS + rung("a", 720, 3), 4, "divide the segment"),
        (
            HLS + rung("a", 720) + x264('name="b" height="360" keyframes="4" frame-rate="30"'),
            3,
            "same frame-rate",
        ),
        (MP4 + x264('frame-rate="500"'), 4, "500"),
        (MP4 + x264('deinterlace="no"'), 4, "no"),
        (MP4 + "<copy>", 4, "copy"),
    ],
)
def test_a_broken_profile_is_refused_with_file_and_line(
    tmp_path: Path, body: str, line: int, words: str
) -> None:
    path = write(tmp_path, body)
    with pytest.raises(DefinitionError, match=words) as caught:
        profiles.load([tmp_path])
    assert caught.value.source == str(path)
    assert caught.value.line == line


def test_a_dtd_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.xml").write_text('<!DOCTYPE profile [<!ENTITY a "b">]><profile/>')
    with pytest.raises(DefinitionError, match="DTD"):
        profiles.load([tmp_path])


def test_a_later_folder_wins_and_two_of_one_name_are_refused(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    for folder in (first, second):
        folder.mkdir()
        write(folder, MP4 + X264)
    assert profiles.load([first, second])["x"].source == str(second / "x.xml")
    write(second, MP4 + X264, "y")
    with pytest.raises(DefinitionError, match="profile x is in"):
        profiles.load([second])


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match="no such folder"):
        profiles.load([tmp_path / "gone"])
