"""Sound as it comes out: tones of each channel, samples, languages, and what is told."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from backoffice.errors import TaskFailed
from backoffice.tasks import Result, package, probe, quality, transcode
from tests.clips import SURROUND_TONES, Clips, each, ffmpeg, tagged, tones
from tests.published import chain
from tests.tasks.context import make_context
from tests.tones import channels, flashes, heard, level, onsets


def encoded(folder: Path, clip: Path, profile: str) -> Result:
    folder.mkdir(exist_ok=True)
    return transcode.run(make_context(folder, clip, profile=profile))


def left_out(result: Result) -> list[str]:
    return [line for line in result.warnings if line.startswith("left out")]


# Mono tracks


@pytest.mark.parametrize("profile", ["mp4-360", "audio-aac"])
def test_two_mono_tracks_become_left_and_right(tmp_path: Path, clips: Clips, profile: str) -> None:
    result = encoded(tmp_path, clips["mono-tracks.mxf"], profile)
    assert heard(result.outputs[0].path, 400, 1000) == [{400}, {1000}]
    left, right = channels(result.outputs[0].path)
    if profile == "mp4-360":  # without a change of loudness
        assert level(left, 400) == pytest.approx(0.25, rel=0.05)
        assert level(right, 1000) == pytest.approx(0.25, rel=0.05)
    assert left_out(result) == [
        "left out: sound 3: it is silent",
        "left out: sound 4: it is silent",
    ]


def test_pairs_of_mono_tracks_become_a_rendition_a_language(tmp_path: Path, clips: Clips) -> None:
    (output,) = encoded(tmp_path, clips["mono-languages.mov"], "sound-languages").outputs
    asked = (400, 500, 1000, 1500)
    assert heard(output.path, *asked, stream="0:a:0") == [{400}, {1000}]
    assert heard(output.path, *asked, stream="0:a:1") == [{500}, {1500}]
    assert [one["language"] for one in output.facts["audio"]] == ["ger", "eng"]


def test_labelled_mono_tracks_become_surround_whatever_their_order(
    tmp_path: Path, clips: Clips
) -> None:
    """Mixed to stereo by ITU-R BS.775: the centre and the surrounds at 0.707, no LFE."""
    (output,) = encoded(tmp_path, clips["mono-surround.mov"], "mp4-360").outputs
    check_mix(output.path)


def test_labelled_surround_is_mixed_by_its_weights(tmp_path: Path, clips: Clips) -> None:
    result = encoded(tmp_path, clips["surround-tones.mkv"], "mp4-360")
    check_mix(result.outputs[0].path)
    assert result.warnings == []


def check_mix(path: Path) -> None:
    left, right = channels(path)
    front = level(left, SURROUND_TONES[0])
    weights = [[level(side, f) / front for f in SURROUND_TONES] for side in (left, right)]
    assert weights[0] == pytest.approx([1, 0, 0.707, 0, 0.707, 0], abs=0.03)
    assert weights[1] == pytest.approx([0, 1, 0.707, 0, 0, 0.707], abs=0.03)


def test_of_channels_without_labels_the_first_pair_is_the_programme(
    tmp_path: Path, clips: Clips
) -> None:
    result = encoded(tmp_path, clips["eight-channels.mxf"], "mp4-360")
    assert heard(result.outputs[0].path, 400, 1000, 3000) == [{400}, {1000}]
    assert left_out(result) == ["left out: channels 3 to 8 of sound 1: nothing says what they are"]


def test_channels_without_labels_stay_apart_where_all_are_kept(
    tmp_path: Path, clips: Clips
) -> None:
    result = encoded(tmp_path, clips["eight-channels.mxf"], "proxy")
    found = heard(result.outputs[0].path, 400, 1000, 3000, count=8)
    assert found == [{400}, {1000}, *[{3000}] * 6]
    assert result.outputs[0].facts["audio"][0]["layout"] == ""
    assert left_out(result) == []


# Choice by role and language


def test_the_default_sound_goes_before_the_commentary(tmp_path: Path, clips: Clips) -> None:
    result = encoded(tmp_path, clips["languages.mkv"], "mp4-360")
    assert heard(result.outputs[0].path, 300, 900, 1700, 2500) == [{900}, {900}]
    assert [line.partition(":")[2].rpartition(":")[0] for line in left_out(result)] == [
        " sound 3 (fra)",
        " sound 4 (description, deu)",
        " sound 1 (commentary, eng, Director's commentary)",
        " subtitles 1 (subrip, eng)",
        " subtitles 2 (ass, deu)",
        " subtitles 3 (hdmv_pgs_subtitle, fra)",
    ]


def test_all_sounds_stay_in_order_and_the_default_one_is_marked(
    tmp_path: Path, clips: Clips
) -> None:
    result = encoded(tmp_path, clips["languages.mkv"], "proxy")
    found = result.outputs[0].facts["audio"]
    assert [one["language"] for one in found] == ["eng", "deu", "fra", "deu"]
    marked = [one["index"] for one in found if "default" in one["dispositions"]]
    assert marked == [found[1]["index"]]
    assert all("subtitles" in line for line in left_out(result))


def test_a_profile_names_the_language_it_wants(tmp_path: Path, clips: Clips) -> None:
    folder = tmp_path / "profiles"
    folder.mkdir()
    (folder / "french.xml").write_text(
        '<profile xmlns="urn:backoffice:1" name="french"><file format="mp4"/>'
        '<audio codec="aac" rate="96" channels="2" languages="it fr"/></profile>'
    )
    context = make_context(tmp_path, clips["languages.mkv"], profile="french")
    paths = replace(context.settings.paths, profiles=(folder,))
    context.settings = replace(context.settings, paths=paths)
    (output,) = transcode.run(context).outputs
    assert heard(output.path, 300, 900, 1700) == [{1700}, {1700}]


def test_loudness_is_that_of_the_sound_that_is_made(tmp_path: Path, clips: Clips) -> None:
    (output,) = encoded(tmp_path, clips["languages.mkv"], "audio-aac").outputs
    assert heard(output.path, 300, 900) == [{900}, {900}]
    assert loudness(output.path) == pytest.approx(-23, abs=0.5)


def test_loudness_is_set_for_each_of_several_sounds(tmp_path: Path) -> None:
    folder = tmp_path / "profiles"
    folder.mkdir()
    (folder / "all.xml").write_text(
        '<profile xmlns="urn:backoffice:1" name="all"><file format="mov"/>'
        '<audio codec="pcm_s16le" channels="2" streams="languages"><loudness/></audio></profile>'
    )
    clip = tmp_path / "uneven.mov"
    pairs = (*tones(400, 1000, seconds=4), *tones(500, 1500, seconds=4), *each(0, 1))
    ffmpeg(*pairs, *tagged("ger", "eng"), "-filter:a:1", "volume=0.1", str(clip))
    context = make_context(tmp_path, clip, profile="all")
    paths = replace(context.settings.paths, profiles=(folder,))
    context.settings = replace(context.settings, paths=paths)
    (output,) = transcode.run(context).outputs
    assert len(output.facts["audio"]) == 2
    for number in (0, 1):
        assert loudness(output.path, number) == pytest.approx(-23, abs=0.5)


def loudness(path: Path, number: int = 0) -> float:
    argv = ["ffmpeg", "-hide_banner", "-nostdin", "-i", str(path), "-map", f"0:a:{number}"]
    argv += ["-af", "ebur128", "-f", "null", "-"]
    told = subprocess.run(argv, check=True, capture_output=True, text=True).stderr
    found = re.search(r"I:\s+(\S+) LUFS", told.rpartition("Summary:")[2])
    assert found
    return float(found[1])


# What cannot be decoded


def test_a_sound_of_an_unknown_codec_leaves_the_other(tmp_path: Path, clips: Clips) -> None:
    clip = clips["unknown-sound.mp4"]
    (tmp_path / "probe").mkdir()
    told = probe.run(make_context(tmp_path / "probe", clip)).warnings
    assert told == ["left out: sound 1: this ffmpeg does not know its codec (apac)"]
    (output,) = encoded(tmp_path / "encode", clip, "mp4-360").outputs
    assert heard(output.path, 400, 1000) == [{1000}, {1000}]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("without-packets.mkv", "it holds nothing"),
        ("without-packets.ts", "it holds nothing"),
        ("encrypted-sound.mp4", "it is encrypted (FairPlay)"),
    ],
)
def test_without_a_usable_sound_the_picture_is_encoded(
    tmp_path: Path, clips: Clips, name: str, reason: str
) -> None:
    (tmp_path / "probe").mkdir()
    result = probe.run(make_context(tmp_path / "probe", clips[name], probed=False))
    assert result.warnings == [f"left out: sound 1: {reason}"]
    (output,) = encoded(tmp_path / "encode", clips[name], "mp4-360").outputs
    assert (len(output.facts["video"]), output.facts["audio"]) == (1, [])
    with pytest.raises(TaskFailed, match=re.escape(reason)) as caught:
        encoded(tmp_path / "sound", clips[name], "audio-aac")
    assert not caught.value.retry


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("encrypted-picture.mp4", "its picture cannot be used: it is encrypted (CENC)"),
        (
            "unknown-picture.mp4",
            "its picture cannot be used: this ffmpeg does not know its codec (vvc1)",
        ),
    ],
)
def test_a_picture_that_cannot_be_decoded_is_refused_at_once(
    tmp_path: Path, clips: Clips, name: str, reason: str
) -> None:
    steps: list[tuple[Any, dict[str, Any]]] = [
        (probe, {"require": "video"}),
        (transcode, {"profile": "mp4-360"}),
        (transcode, {"profile": "remux-copy"}),
    ]
    for task, parameters in steps:
        folder = tmp_path / f"{task.__name__}-{'-'.join(parameters.values())}"
        folder.mkdir()
        with pytest.raises(TaskFailed, match=re.escape(reason)) as caught:
            task.run(make_context(folder, clips[name], **parameters))
        assert not caught.value.retry


def test_a_sound_of_which_nothing_can_be_decoded_is_left_out(tmp_path: Path, clips: Clips) -> None:
    result = encoded(tmp_path / "encode", clips["noise.mkv"], "mp4-360")
    assert result.outputs[0].facts["audio"] == []
    assert result.warnings == ["left out: sound 1: nothing of it can be decoded"]
    (tmp_path / "check").mkdir()
    checked = quality.run(make_context(tmp_path / "check", clips["noise.mkv"]))
    assert "left out: sound 1: nothing of it can be decoded" in checked.warnings
    assert checked.facts[1]["audio"] == []  # the tasks after it do without


def test_a_commentary_that_is_all_there_is_is_told(tmp_path: Path, clips: Clips) -> None:
    clip = tmp_path / "commentary.mkv"
    ffmpeg("-i", str(clips["languages.mkv"]), *"-map 0:0 -map 0:1".split(), "-c", "copy", str(clip))
    assert encoded(tmp_path, clip, "mp4-360").warnings == [
        "there is no main sound that can be used:"
        " sound 1 (commentary, eng, Director's commentary) comes first"
    ]


# Samples


@pytest.mark.parametrize("profile", ["audio-aac", "mp4-360"])
def test_amr_of_several_frames_a_packet_comes_out_whole(
    tmp_path: Path, clips: Clips, profile: str
) -> None:
    context = make_context(tmp_path, clips["packed.3gp"], profile=profile)
    result = transcode.run(context)
    assert result.warnings == []
    (samples,) = channels(result.outputs[0].path, count=1)[:1]
    assert len(samples) / 2 == pytest.approx(4 * 48000, rel=0.02)
    assert silences(samples) == 0
    assert not [line for line in context.lines if "[verbose]" in line]
    assert [path.name for path in context.folder.iterdir()] == [result.outputs[0].path.name]


def silences(samples: Sequence[float]) -> int:
    """Blocks of 20 ms of the middle that are all but silent: holes that were filled."""
    blocks = (samples[n : n + 1920] for n in range(9600, len(samples) - 19200, 1920))
    return sum(1 for block in blocks if max(map(abs, block)) < 0.001)


def test_amr_is_checked_whole(tmp_path: Path, clips: Clips) -> None:
    context = make_context(tmp_path, clips["packed.3gp"])
    assert quality.run(context).warnings == []
    assert list(context.folder.iterdir()) == []


def test_a_sound_with_holes_is_not_published(tmp_path: Path, clips: Clips) -> None:
    context = make_context(tmp_path, clips["packed.3gp"], profile="audio-aac")
    for stream in context.sources[0].facts["audio"]:
        stream.pop("packed")  # as if it were not known
    with pytest.raises(TaskFailed, match=r"damaged: only 0\.8 s of the 4\.0 s of sound 1 can"):
        transcode.run(context)


@pytest.mark.parametrize("suffix", ["mp3", "aac"])
def test_raw_streams_whose_length_is_a_guess_pass(
    tmp_path: Path, clips: Clips, suffix: str
) -> None:
    """Of a rate that changes: the length that ffprobe guesses is far off."""
    clip = tmp_path / f"guess.{suffix}"
    codec = ("-c:a", "libmp3lame", "-q:a", "5", "-write_xing", "0") if suffix == "mp3" else ()
    ffmpeg("-f", "lavfi", "-i", "aevalsrc=random(0)*gt(t\\,3)*0.5:d=4:s=48000", *codec, str(clip))
    (tmp_path / "check").mkdir()
    quality.run(make_context(tmp_path / "check", clip))
    (output,) = encoded(tmp_path / "encode", clip, "audio-aac").outputs
    assert float(output.facts["duration"]) == pytest.approx(4, abs=0.15)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("samples.wav", "it lasts 0.4 ms"), ("no-samples.wav", "it holds nothing")],
)
def test_a_sound_of_no_length_is_told(tmp_path: Path, clips: Clips, name: str, reason: str) -> None:
    with pytest.raises(TaskFailed, match=f"cannot be used: its sound .*: {reason}") as caught:
        probe.run(make_context(tmp_path, clips[name], probed=False, require="audio"))
    assert not caught.value.retry


OTHER_CONTAINERS = {  # of sound, each with its encoder
    "wv": "wavpack",
    "tta": "tta",
    "dts": "dca",
    "thd": "truehd",
    "mlp": "mlp",
    "voc": "pcm_s16le",
    "aiff": "pcm_s16be",
    "caf": "pcm_s16be",
    "w64": "pcm_s16le",
    "au": "pcm_s16be",
}


@pytest.mark.parametrize("suffix", OTHER_CONTAINERS)
def test_containers_of_sound_alone_are_taken(tmp_path: Path, suffix: str) -> None:
    clip = tmp_path / f"clip.{suffix}"
    codec = ("-c:a", OTHER_CONTAINERS[suffix], "-strict", "-2")
    ffmpeg(*tones(400, 1000, layout="stereo"), *codec, str(clip))
    (output,) = encoded(tmp_path / "encode", clip, "audio-aac").outputs
    assert heard(output.path, 400, 1000) == [{400}, {1000}]
    assert float(output.facts["duration"]) == pytest.approx(1, abs=0.05)


def test_values_that_are_no_numbers_are_told(tmp_path: Path) -> None:
    clip = tmp_path / "clip.wav"
    values = "aevalsrc=if(between(t\\,0.5\\,0.6)\\,0/0\\,0.1):d=1:s=48000"
    ffmpeg("-f", "lavfi", "-i", values, "-c:a", "pcm_f32le", str(clip))
    with pytest.raises(TaskFailed, match="values that are no numbers") as caught:
        encoded(tmp_path / "encode", clip, "sound-languages")
    assert not caught.value.retry


def test_a_cut_file_of_wavpack_is_refused(tmp_path: Path) -> None:
    clip = tmp_path / "clip.wv"
    ffmpeg(*tones(400, seconds=4), "-c:a", "wavpack", str(clip))
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    with pytest.raises(TaskFailed, match="probably truncated or damaged"):
        encoded(tmp_path / "encode", clip, "audio-aac")
    (tmp_path / "check").mkdir()
    with pytest.raises(TaskFailed, match="is truncated"):
        quality.run(make_context(tmp_path / "check", clip))


# Languages and text in packages


def attributes(master: str, kind: str) -> list[dict[str, str]]:
    lines = [line for line in master.splitlines() if f"TYPE={kind}" in line]
    return [
        {key: value.strip('"') for key, value in re.findall(r'([A-Z-]+)=("[^"]*"|[^,]*)', line)}
        for line in lines
    ]


@pytest.mark.parametrize("way", ["chain", "at once"])
def test_every_language_and_text_becomes_a_rendition_of_hls(
    tmp_path: Path, clips: Clips, way: str
) -> None:
    clip = clips["languages.mkv"]
    if way == "chain":
        path, told = chain(tmp_path, clip, "hls-ladder")
    else:
        result = encoded(tmp_path, clip, "hls-ladder")
        path, told = result.outputs[0].path, list(result.warnings)
    assert told == ["left out: subtitles 3 (hdmv_pgs_subtitle, fra): it is no text"]
    master = path.read_text()
    sounds = attributes(master, "AUDIO")
    assert [(s["NAME"], s["LANGUAGE"], s["DEFAULT"], s["AUTOSELECT"]) for s in sounds] == [
        ("Deutsch", "de", "YES", "YES"),
        ("français", "fr", "NO", "YES"),
        ("Deutsch (Audio description)", "de", "NO", "YES"),
        ("Director's commentary", "en", "NO", "NO"),
    ]
    assert {s["CHANNELS"] for s in sounds} == {"2"}
    assert sounds[2]["CHARACTERISTICS"] == "public.accessibility.describes-video"
    found = [heard(path.parent / s["URI"], 300, 900, 1700, 2500)[0] for s in sounds]
    assert found == [{900}, {1700}, {2500}, {300}]
    texts = attributes(master, "SUBTITLES")
    assert [(t["NAME"], t["LANGUAGE"], t["FORCED"], t["DEFAULT"]) for t in texts] == [
        ("English", "en", "NO", "NO"),
        ("Deutsch (forced)", "de", "YES", "NO"),
    ]
    assert all(
        'SUBTITLES="subtitles"' in one
        for one in master.splitlines()
        if "STREAM-INF:" in one and "I-FRAME" not in one
    )
    for text in texts:
        check_text(path.parent, text["URI"])


def check_text(folder: Path, name: str) -> None:
    playlist = (folder / name).read_text()
    length = re.search(r"#EXTINF:([\d.]+)", playlist)
    assert length
    assert float(length[1]) == pytest.approx(4, abs=0.15)
    assert "#EXT-X-PLAYLIST-TYPE:VOD" in playlist
    webvtt = (folder / playlist.splitlines()[-2]).read_text()
    assert webvtt.startswith("WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:3840,LOCAL:00:00:00.000\n\n")
    check_cue(webvtt)


def check_cue(webvtt: str) -> None:
    """Matroska's clock begins with the sound's priming, 21 ms before the picture."""
    cue = re.search(r"00:00:0(0\.\d+) --> 00:00:0(1\.\d+)\nHello &amp; <i>goodbye</i>\n", webvtt)
    assert cue
    assert float(cue[1]) == pytest.approx(0.5, abs=0.04)
    assert float(cue[2]) == pytest.approx(1.5, abs=0.04)


@pytest.mark.parametrize("way", ["chain", "at once"])
def test_every_language_and_text_becomes_a_set_of_dash(
    tmp_path: Path, clips: Clips, way: str
) -> None:
    clip = clips["languages.mkv"]
    if way == "chain":
        path, _ = chain(tmp_path, clip, "dash-ladder")
    else:
        path = encoded(tmp_path, clip, "dash-ladder").outputs[0].path
    sets = etree.parse(str(path)).getroot().findall(".//{*}AdaptationSet")
    found = [
        (
            one.get("contentType"),
            one.get("lang"),
            one.findtext("{*}Label"),
            [role.get("value") for role in one.findall("{*}Role")],
        )
        for one in sets[1:]
    ]
    assert found == [
        ("audio", "de", "Deutsch", ["main"]),
        ("audio", "fr", "français", ["alternate"]),
        ("audio", "de", "Deutsch (Audio description)", ["alternate"]),
        ("audio", "en", "Director's commentary", ["supplementary"]),
        ("text", "en", "English", ["subtitle"]),
        ("text", "de", "Deutsch (forced)", ["forced-subtitle"]),
    ]
    assert len({one.get("id") for one in sets}) == len(sets)
    for one in sets[5:]:
        assert one.get("mimeType") == "text/vtt"
        text = (path.parent / str(one.findtext(".//{*}BaseURL"))).read_text()
        check_cue(text)
        assert "X-TIMESTAMP-MAP" not in text


def test_a_copy_keeps_text_and_tells_of_pictures_of_text(tmp_path: Path, clips: Clips) -> None:
    result = encoded(tmp_path, clips["languages.mkv"], "remux-copy")
    facts: dict[str, Any] = dict(result.outputs[0].facts)
    assert [one["codec"] for one in facts["subtitle"]] == ["mov_text", "mov_text"]
    assert [one["language"] for one in facts["subtitle"]] == ["eng", "deu"]
    assert [one["language"] for one in facts["audio"]] == ["eng", "deu", "fra", "deu"]
    assert result.warnings == ["left out: subtitles 3 (hdmv_pgs_subtitle, fra): it is no text"]


# In step


@pytest.mark.parametrize("profile", ["hls-ladder", "dash-ladder"])
@pytest.mark.parametrize(
    "name", ["step.mp4", "step.ts", "late-picture.mp4", "late-sound.mkv", "trimmed.mp4"]
)
def test_sound_and_picture_stay_in_step(
    tmp_path: Path, clips: Clips, name: str, profile: str
) -> None:
    """Within 40 ms, whether packaged from parts or encoded at once."""
    once = encoded(tmp_path / "once", clips[name], profile).outputs[0].path
    for path in (chain(tmp_path, clips[name], profile)[0], once):
        beeps, lights = onsets(path), flashes(path)
        pairs = [(b, f) for b in beeps for f in lights if abs(b - f) < 0.5]
        assert len(pairs) >= 2
        assert all(abs(beep - flash) < 0.04 for beep, flash in pairs)


@pytest.mark.parametrize("profile", ["hls-ladder", "dash-ladder"])
def test_renditions_that_begin_late_are_packaged_in_step(
    tmp_path: Path, clips: Clips, profile: str
) -> None:
    picture, sound = tmp_path / "picture.mp4", tmp_path / "sound.m4a"
    source = ("-i", str(clips["late-picture.mp4"]), "-c", "copy", "-copyts")
    ffmpeg(*source, "-map", "0:v", str(picture))
    ffmpeg(*source, "-map", "0:a", str(sound))
    context = make_context(tmp_path, picture, sound, profile=profile)
    assert context.sources[0].facts["start"] == pytest.approx(1.6)
    path = package.run(context).outputs[0].path
    beeps, lights = onsets(path), flashes(path)
    pairs = [(b, f) for b in beeps for f in lights if abs(b - f) < 0.5]
    assert len(pairs) >= 1
    assert all(abs(beep - flash) < 0.04 for beep, flash in pairs)


def test_a_late_sound_is_not_taken_for_one_with_holes(tmp_path: Path, clips: Clips) -> None:
    assert encoded(tmp_path, clips["late-sound.mkv"], "sound-languages").warnings == []
