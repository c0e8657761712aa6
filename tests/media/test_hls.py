"""HLS packages, as players read them."""

from __future__ import annotations

import html
import shutil
from pathlib import Path

import pytest

from backoffice.media import hls, languages, mp4
from backoffice.tasks import package, transcode
from tests import playlists
from tests.clips import Clips, ffmpeg
from tests.published import CUES, both_ways
from tests.tasks.context import make_context


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Clips:
    return Clips(tmp_path_factory.mktemp("hls-clips"))


def ladder(folder: Path, source: Path) -> playlists.Master:
    """What hls-ladder makes of a source, checked."""
    context = make_context(folder, source, profile="hls-ladder")
    (output,) = transcode.run(context).outputs
    return playlists.master(output.path)


def clip(path: Path, picture: str, *sounds: str) -> Path:
    """A clip of lavfi sources; its sounds may be of other lengths."""
    inputs = [word for one in (picture, *sounds) for word in ("-f", "lavfi", "-i", one)]
    maps = [word for n in range(len(sounds) + 1) for word in ("-map", str(n))]
    encode = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
    ffmpeg(*inputs, *maps, *encode, str(path))
    return path


SMALL = "testsrc2=s=320x180:r=25"


@pytest.mark.parametrize(
    ("picture", "sound"),
    [(4.0, 6.0), (4.0, 3.3), (4.0, 1.0), (2.0, 8.0), (6.0, 5.3)],
)
def test_each_stream_keeps_its_own_length(tmp_path: Path, picture: float, sound: float) -> None:
    source = clip(tmp_path / "a.mp4", f"{SMALL}:d={picture}", f"sine=d={sound}")
    found = ladder(tmp_path, source)
    (shown,) = [one for _, one in found.variants]
    (heard,) = [one for _, one in found.sounds]
    assert shown.seconds == pytest.approx(picture, abs=0.05)
    assert heard.seconds == pytest.approx(sound, abs=0.1)


def test_a_lone_truncated_stream_is_still_found_out(tmp_path: Path) -> None:
    source = clip(tmp_path / "a.mp4", f"{SMALL}:d=4", "sine=d=4")
    context = make_context(tmp_path, source, profile="hls-ladder")
    facts = {**context.sources[0].facts, "duration": 9.0}
    facts["audio"] = [{**facts["audio"][0], "duration": 9.0}]
    span = package.ladder(transcode._prepare(context)[0].profile, facts).sound_spans[0]
    with pytest.raises(Exception, match=r"only 4.0 s of 9.0 s"):
        package.check_length("sound", 4.0, span)


def test_the_bandwidth_is_the_measured_peak(tmp_path: Path) -> None:
    """Eight seconds of stillness, then four of noise."""
    noise = "nullsrc=s=320x180:r=25:d=4,geq=random(1)*255:128:128"
    still = "color=gray:s=320x180:r=25:d=8"
    source = tmp_path / "a.mp4"
    ffmpeg(
        "-f",
        "lavfi",
        "-i",
        still,
        "-f",
        "lavfi",
        "-i",
        noise,
        *"-f lavfi -i sine=d=12".split(),
        *"-filter_complex [0][1]concat=n=2:v=1[v] -map [v] -map 2".split(),
        *"-preset ultrafast -pix_fmt yuv420p".split(),
        str(source),
    )
    found = ladder(tmp_path, source)  # compares them
    for given, _ in found.variants:
        assert int(given["BANDWIDTH"]) > 1.5 * int(given["AVERAGE-BANDWIDTH"])


def test_languages_become_renditions_with_names(tmp_path: Path) -> None:
    source = tmp_path / "a.mp4"
    ffmpeg(
        "-f",
        "lavfi",
        "-i",
        f"{SMALL}:d=2",
        *"-f lavfi -i sine=400:d=2 -f lavfi -i sine=900:d=2".split(),
        *"-map 0 -map 1 -map 2 -map 2 -pix_fmt yuv420p".split(),
        *"-metadata:s:a:0 language=deu -metadata:s:a:1 language=eng".split(),
        str(source),
    )
    context = make_context(tmp_path, source, profile="hls-ladder")
    found = playlists.master(package.run(context).outputs[0].path)
    told = [(given.get("LANGUAGE"), given["NAME"], given["DEFAULT"]) for given, _ in found.sounds]
    assert told == [("de", "Deutsch", "YES"), ("en", "English", "NO"), ("und", "Sound", "NO")]


@pytest.mark.parametrize(
    ("codec", "said"),
    [
        (("libx264", "-profile:v", "baseline", "-level", "3.0"), "avc1.42c01e"),
        (("libx264", "-profile:v", "high", "-level", "4.0"), "avc1.640028"),
        (("libx265", "-tag:v", "hvc1", "-x265-params", "log-level=error"), "hvc1.1.6.L60.90"),
    ],
)
def test_codecs_of_pictures_are_named(tmp_path: Path, codec: tuple[str, ...], said: str) -> None:
    path = tmp_path / "a.mp4"
    ffmpeg("-f", "lavfi", "-i", f"{SMALL}:d=1", "-pix_fmt", "yuv420p", "-c:v", *codec, str(path))
    assert mp4.codec(path.read_bytes()) == said


@pytest.mark.parametrize(
    ("codec", "said"),
    [("aac", "mp4a.40.2"), ("ac3", "ac-3"), ("eac3", "ec-3"), ("libmp3lame", "mp4a.6b")],
)
def test_codecs_of_sound_are_named(tmp_path: Path, codec: str, said: str) -> None:
    path = tmp_path / "a.mp4"
    ffmpeg("-f", "lavfi", "-i", "sine=d=1:r=48000", "-c:a", codec, str(path))
    assert mp4.codec(path.read_bytes()) == said


@pytest.mark.parametrize("data", [b"", b"\0\0\0\1moov", b"\0\0\0\x08moov", b"\0\0\0\x20moov1234"])
def test_what_is_no_init_segment_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"box|holds"):
        mp4.codec(data)


@pytest.mark.parametrize(
    ("text", "tag", "name"),
    [
        ("ger", "de", "Deutsch"),
        ("deu", "de", "Deutsch"),
        ("de", "de", "Deutsch"),
        ("fre", "fr", "français"),
        ("pt-BR", "pt-BR", "português (Brasil)"),
        ("und", "", ""),
        ("", "", ""),
        ("xx", "", ""),
        ("no language", "", ""),
    ],
)
def test_languages_have_tags_and_names(text: str, tag: str, name: str) -> None:
    assert (languages.tag(text), languages.name(text)) == (tag, name)


def test_a_title_cannot_break_a_playlist(tmp_path: Path, clips: Clips) -> None:
    context = make_context(tmp_path, clips["plain.mp4"], profile="hls-ladder")
    (output,) = package.run(context).outputs
    sound = hls.Sound("sound", 'A "title"\n#EXT-X-ENDLIST', "de", 1, True)
    picture = hls.Picture("180p", 320, 180, 25.0, "SDR")
    hls.write_master(output.path, [picture], [sound])
    assert len(playlists.master(output.path).sounds) == 1


# All rules of the validator, and the validator itself


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return both_ways(tmp_path_factory.mktemp("hls"), "hls-ladder")


@pytest.mark.parametrize("way", ["at once", "from parts"])
def test_a_master_keeps_the_rules(made: dict[str, Path], way: str) -> None:
    found = playlists.master(made[way])
    heights = sorted(given["RESOLUTION"] for given, _ in found.variants)
    assert heights == (["416x234", "512x288"] if way == "at once" else ["512x288"])
    assert [given["LANGUAGE"] for given, _ in found.sounds] == ["de", "en"]
    ((_, text),) = found.subtitles
    cues = playlists.webvtt(text.with_suffix(".vtt").read_text(), mapped=True)
    assert [html.unescape(cue) for cue in cues] == CUES


def test_playlists_of_streams_of_different_length_have_one_target(tmp_path: Path) -> None:
    source = clip(tmp_path / "a.mp4", f"{SMALL}:d=2", "sine=d=5")
    found = ladder(tmp_path, source)
    assert {one.target for _, one in (*found.variants, *found.sounds)} == {5}


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("master.m3u8", ",CLOSED-CAPTIONS=NONE", ""),
        ("master.m3u8", 'LANGUAGE="de",', ""),
        ("master.m3u8", "DEFAULT=YES,AUTOSELECT=YES", "DEFAULT=YES,AUTOSELECT=NO"),
        ("master.m3u8", "AVERAGE-BANDWIDTH=", "AVERAGE-BANDWIDTH=9"),
        ("master.m3u8", "FRAME-RATE=25.000,", ""),
        ("master.m3u8", 'SUBTITLES="subtitles"', 'SUBTITLES="others"'),
        ("master.m3u8", 'CHANNELS="2"', 'CHANNELS="6"'),
        ("288p.m3u8", "TARGETDURATION:6", "TARGETDURATION:7"),
        ("288p.m3u8", "TARGETDURATION:6", "TARGETDURATION:5"),
        ("288p.m3u8", "#EXTINF:6.000000", "#EXTINF:5.900000"),
        ("288p.m3u8", "288p-init.mp4", "234p-init.mp4"),
        ("288p.m3u8", "#EXT-X-ENDLIST\n", ""),
        ("288p-frames.m3u8", "#EXT-X-I-FRAMES-ONLY\n", ""),
        ("subtitles-1-en.vtt", "AT&amp;T", "AT&T"),
        ("subtitles-1-en.vtt", "X-TIMESTAMP-MAP", "X-MAP"),
    ],
)
def test_the_validator_finds_faults(
    tmp_path: Path, made: dict[str, Path], name: str, old: str, new: str
) -> None:
    folder = shutil.copytree(made["at once"].parent, tmp_path / "broken")
    text = (folder / name).read_text()
    assert old in text, text
    (folder / name).write_text(text.replace(old, new, 1))
    with pytest.raises((AssertionError, KeyError)):
        playlists.master(folder / "master.m3u8")


def test_a_segment_that_does_not_follow_the_one_before_is_found(
    tmp_path: Path, made: dict[str, Path]
) -> None:
    folder = shutil.copytree(made["at once"].parent, tmp_path / "broken")
    shutil.copyfile(folder / "288p-00000.m4s", folder / "288p-00001.m4s")
    with pytest.raises(AssertionError):
        playlists.master(folder / "master.m3u8")
