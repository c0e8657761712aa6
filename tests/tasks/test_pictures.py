"""What becomes of pictures: measured on the frames that come out."""

from __future__ import annotations

import json
import re
import subprocess
from itertools import pairwise
from pathlib import Path
from statistics import mean

import pytest

from backoffice.errors import TaskFailed
from backoffice.media import ffmpeg as media
from backoffice.media import hls, pictures, scan
from backoffice.tasks import package, probe, thumbnails, transcode
from tests import measure
from tests.clips import Clips, ffmpeg
from tests.tasks.context import make_context, settings


def encoded(folder: Path, source: Path, profile: str) -> Path:
    return transcode.run(make_context(folder, source, profile=profile)).outputs[0].path


# Interlaced pictures


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("top-first.mkv", ("interlaced", "top")),
        ("bottom-first.mkv", ("interlaced", "bottom")),
        ("flagged-wrong.ts", ("interlaced", "top")),
        ("dv.avi", ("interlaced", "bottom")),
        ("interlaced.mp4", ("interlaced", "top")),
        ("whole.mkv", ("progressive", "")),
        ("film.mkv", ("telecine", "top")),
        ("mixed.mkv", ("mixed", "top")),
        ("plain.mp4", ("progressive", "")),
        ("anamorphic.mp4", ("progressive", "")),
        ("variable.mkv", ("progressive", "")),
    ],
)
def test_fields_are_found_by_looking(
    tmp_path: Path, clips: Clips, name: str, seen: tuple[str, str]
) -> None:
    context = make_context(tmp_path, clips[name], probed=False)
    (video,) = probe.run(context).facts[1]["video"]
    assert (video["scan"], video["first_field"]) == seen
    assert video["interlaced"] == (seen[0] in ("interlaced", "mixed"))


@pytest.mark.parametrize(
    ("name", "profile", "rate", "step"),
    [
        ("top-first.mkv", "mp4-360", 50.0, 4.0),
        ("bottom-first.mkv", "mp4-360", 50.0, 4.0),
        ("flagged-wrong.ts", "mp4-360", 50.0, 4.0),
        ("dv.avi", "mezzanine", 50.0, 4.0),
        ("top-first.mkv", "proxy", 25.0, 8.0),
        ("bottom-first.mkv", "proxy", 25.0, 8.0),
        ("whole.mkv", "mp4-360", 25.0, 8.0),
        ("film.mkv", "mp4-360", 24000 / 1001, 4.0),
    ],
)
def test_what_moves_neither_combs_nor_jerks(
    tmp_path: Path, clips: Clips, name: str, profile: str, rate: float, step: float
) -> None:
    made = encoded(tmp_path, clips[name], profile)
    (video,) = media.probe(made, settings(tmp_path))["video"]
    assert video["frame_rate"] == pytest.approx(rate, abs=0.001)
    places = measure.bars(made)
    scale = video["width"] / {"dv.avi": 720}.get(name, 320)
    assert len(places) == pytest.approx(rate * video["duration"], abs=1)
    # At the edges of the picture the bar is cut, and so are its first and last fields.
    inner = [(a, b) for a, b in places[2:-2] if 20 * scale < a < video["width"] - 20 * scale]
    assert len(inner) > 15
    assert all(abs(above - below) < 1.5 for above, below in inner), "combed"
    steps = [after[0] - before[0] for before, after in pairwise(inner)]
    assert all(abs(one - step * scale) < 1.5 for one in steps), "motion is not even"


def test_only_what_is_interlaced_of_a_mixed_picture_is_deinterlaced(
    tmp_path: Path, clips: Clips
) -> None:
    context = make_context(tmp_path, clips["mixed.mkv"], profile="mp4-360")
    made = transcode.run(context).outputs[0].path
    assert context.sources[0].facts["video"][0]["frame_rate"] == 25.0
    assert "idet" in " ".join(context.commands[0])
    places = measure.bars(made)
    assert all(abs(above - below) < 1.5 for above, below in places[2:-2]), "combed"
    middle = len(places) // 2
    for first, last, step in ((5, middle - 5, 4.0), (middle + 6, len(places) - 6, 8.0)):
        steps = [after[0] - before[0] for before, after in pairwise(places[first:last])]
        assert all(min(abs(s - step), abs(s) if step == 8.0 else 99) < 1.5 for s in steps)


def test_flags_do_not_make_a_whole_picture_softer(tmp_path: Path, clips: Clips) -> None:
    context = make_context(tmp_path, clips["whole.mkv"], profile="mp4-360")
    transcode.run(context)
    assert "bwdif" not in " ".join(context.commands[0])


@pytest.mark.parametrize("name", ["bottom-first.mkv", "film.mkv", "mixed.mkv"])
def test_a_still_of_fields_does_not_comb(tmp_path: Path, clips: Clips, name: str) -> None:
    context = make_context(tmp_path, clips[name])
    stills = [one.path for one in thumbnails.run(context).outputs if one.role == "thumbnail"]
    places = [measure.bars(path)[0] for path in stills]
    assert all(abs(above - below) < 1.5 for above, below in places)


@pytest.mark.parametrize(
    ("orders", "seen"),
    [
        (["tttttttttt"], ("interlaced", "top")),
        (["bbbbubbbbb"], ("interlaced", "bottom")),
        (["tbtbtbttbb"], ("progressive", "")),  # noise
        (["ppppppppppppt"], ("progressive", "")),
        (["tttttttttttt", "pppppppppppp"], ("mixed", "top")),
        (["uuuuuu"], ("interlaced", "bottom")),  # nothing moves: as the header has it
    ],
)
def test_fields_of_one_order_are_interlaced(orders: list[str], seen: tuple[str, str]) -> None:
    header = {"interlaced": True, "field_order": "bb", "frame_rate": 25.0}
    found = scan.judge([scan.Fields(order, "n" * len(order)) for order in orders], header)
    assert (found.scan, found.first) == seen


def test_telecine_must_show_everywhere() -> None:
    header = {"interlaced": True, "frame_rate": 29.97003}
    film = scan.Fields("ptttt" * 12, "nntnb" * 12)
    still = scan.Fields("u" * 60, "n" * 60)
    video = scan.Fields("t" * 60, "n" * 60)
    assert scan.judge([film, still, film], header).scan == "telecine"
    assert scan.judge([film, video], header).scan == "interlaced"
    assert scan.judge([film], header | {"frame_rate": 25.0}).scan == "interlaced"


def test_a_look_that_takes_too_long_is_ended(
    tmp_path: Path, clips: Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "_LONGEST", -1.0)
    monkeypatch.setattr(media, "run", _ticking(media.run))
    given = settings(tmp_path)
    facts = media.probe(clips["top-first.mkv"], given)
    assert scan.looked(facts, clips["top-first.mkv"], given)["video"][0]["scan"] == "progressive"


def _ticking(run):  # type: ignore[no-untyped-def]
    """Commands that are asked at once whether they may go on."""

    def ticking(argv, *, on_tick=None, **more):  # type: ignore[no-untyped-def]
        if on_tick:
            on_tick()
        return run(argv, on_tick=on_tick, **more)

    return ticking


# Frame rates


@pytest.mark.parametrize(
    ("name", "profile", "rate", "count"),
    [
        ("slow-motion.mp4", "mp4-360", 60, 240),
        ("uneven.mp4", "mp4-360", 15, 60),
        ("uneven.mp4", "hls-ladder", 15, 60),
        ("uneven.mp4", "dash-ladder", 15, 60),
        ("screen.webm", "mp4-360", 15, 60),
        ("slides.mp4", "mp4-360", 2, 8),
    ],
)
def test_any_rate_becomes_a_constant_one_in_step_with_the_sound(
    tmp_path: Path, clips: Clips, name: str, profile: str, rate: int, count: int
) -> None:
    made = encoded(tmp_path, clips[name], profile)
    times = [moment for moment, _ in measure.frames(made)]
    assert len(times) == pytest.approx(count, abs=2)
    steps = [after - before for before, after in pairwise(times)]
    assert mean(steps) == pytest.approx(1 / rate, rel=0.001)
    assert max(steps) - min(steps) < 0.001
    shown, heard = measure.flashes(made), measure.beeps(made)
    was_shown, was_heard = measure.flashes(clips[name]), measure.beeps(clips[name])
    assert len(shown) == len(heard) == len(was_shown) == len(was_heard) == 3
    for n in range(3):
        assert shown[n] - heard[n] == pytest.approx(was_shown[n] - was_heard[n], abs=0.04)


@pytest.mark.parametrize(
    ("name", "rate"), [("uneven.mp4", "15.000"), ("five-seconds-each.mp4", "0.200")]
)
def test_the_rungs_of_a_ladder_have_one_rate_and_the_same_cuts(
    tmp_path: Path, clips: Clips, name: str, rate: str
) -> None:
    master = encoded(tmp_path, clips[name], "hls-ladder")
    streams = re.findall(r"^#EXT-X-STREAM-INF:(.*)\n(.+)$", master.read_text(), re.MULTILINE)
    assert sorted(playlist for _, playlist in streams) == ["234p.m3u8", "300p.m3u8"]
    assert all(f"FRAME-RATE={rate}" in attributes for attributes, _ in streams)
    high, low = (hls.read(master.parent / playlist) for _, playlist in streams)
    assert [s.seconds for s in high.segments] == [s.seconds for s in low.segments]
    times = [[t for t, _ in measure.frames(master.parent / name)] for _, name in streams]
    assert times[0] == times[1]


def test_frames_that_are_left_out_are_told(tmp_path: Path, clips: Clips) -> None:
    result = transcode.run(make_context(tmp_path, clips["slow-motion.mp4"], profile="mp4-360"))
    assert result.warnings == ["240 frames a second became 60"]


@pytest.mark.parametrize("name", ["interlaced.ts", "flagged-wrong.ts"])
def test_the_rate_of_fields_is_that_of_frames(tmp_path: Path, clips: Clips, name: str) -> None:
    (video,) = media.probe(clips[name], settings(tmp_path))["video"]
    assert video["frame_rate"] == 25.0


def test_the_rate_of_a_manifest_is_the_real_one(tmp_path: Path, clips: Clips) -> None:
    manifest = encoded(tmp_path, clips["uneven.mp4"], "dash-ladder").read_text()
    assert re.findall(r'frameRate="([^"]+)"', manifest) == ["15/1"]


def test_renditions_of_an_uneven_source_are_cut_at_the_same_frames(
    tmp_path: Path, clips: Clips
) -> None:
    made = []
    for profile in ("mp4-360", "preview"):
        folder = tmp_path / profile
        folder.mkdir()
        made.append(encoded(folder, clips["uneven.mp4"], profile))
    one, other = ([moment for moment, _ in measure.frames(path)] for path in made)
    assert one == other


# Which picture is used


def test_the_default_picture_is_used_and_the_other_is_told(tmp_path: Path, clips: Clips) -> None:
    context = make_context(tmp_path, clips["preview-first.mp4"], profile="mp4-720")
    result = transcode.run(context)
    (video,) = result.outputs[0].facts["video"]
    assert (video["width"], video["height"], video["frame_rate"]) == (320, 180, 25.0)
    assert result.warnings == [
        "only one picture is used, stream 1 (h264, 320×180); stream 0 (mjpeg, 640×360) was left out"
    ]


def test_of_two_default_pictures_the_larger_is_used(tmp_path: Path, clips: Clips) -> None:
    context = make_context(tmp_path, clips["two-sizes.mkv"], profile="mp4-720")
    (video,) = transcode.run(context).outputs[0].facts["video"]
    assert (video["width"], video["height"]) == (320, 180)


def test_a_copy_has_both_the_used_one_first(tmp_path: Path, clips: Clips) -> None:
    profile = tmp_path / "profiles"
    profile.mkdir()
    (profile / "copy.xml").write_text(
        '<profile xmlns="urn:backoffice:1" name="copy"><file format="mov"/><copy/></profile>'
    )
    given = settings(tmp_path, paths={"profiles": (profile,)})
    context = make_context(tmp_path, clips["preview-first.mp4"], profile="copy", settings=given)
    result = transcode.run(context)
    assert [v["codec"] for v in result.outputs[0].facts["video"]] == ["h264", "mjpeg"]
    assert result.warnings == []


@pytest.mark.parametrize(
    ("name", "words"),
    [("cover-as-video.mp4", "a still picture"), ("cover.mp3", "cover art")],
)
def test_a_cover_is_no_picture_however_it_is_declared(
    tmp_path: Path, clips: Clips, name: str, words: str
) -> None:
    result = probe.run(make_context(tmp_path, clips[name], probed=False))
    assert result.facts[1]["video"] == []
    assert result.warnings == [
        f"{name}: stream 1 ({result.facts[1]['left_out'][0]['codec']}) is {words}; it was left out"
    ]


@pytest.mark.parametrize(
    ("stream", "frames", "words"),
    [
        ({"disposition": {"timed_thumbnails": 1}}, 20, "thumbnails for seeking"),
        ({"disposition": {"still_image": 1}}, None, "a still picture"),
        ({"nb_frames": "0"}, None, "without frames"),
        ({"codec_name": "png"}, 1, "a still picture"),
        ({"codec_name": "h264"}, 1, ""),
        ({"codec_name": "mjpeg", "nb_frames": "250"}, None, ""),
        ({"codec_name": "mjpeg"}, 250, ""),
    ],
)
def test_what_is_a_picture(stream: dict[str, object], frames: int | None, words: str) -> None:
    assert pictures.unfit(stream, frames, alone=False) == words


def test_one_frame_alone_is_the_picture() -> None:
    assert pictures.unfit({"codec_name": "mjpeg"}, 1, alone=True) == ""


def test_a_gif_is_taken_if_it_moves(tmp_path: Path) -> None:
    """A photo has one frame."""
    source = ("-f", "lavfi", "-i", "testsrc2=s=160x90:r=10:d=1")
    ffmpeg(*source, str(tmp_path / "moves.gif"))
    ffmpeg(*source, "-frames:v", "1", str(tmp_path / "photo.gif"))
    context = make_context(tmp_path, tmp_path / "moves.gif", profile="mp4-360")
    (output,) = transcode.run(context).outputs
    assert output.facts["video"][0]["frames"] == 10
    with pytest.raises(TaskFailed, match=r"\(gif\) is a still picture"):
        media.probe(tmp_path / "photo.gif", context.settings)


def test_a_track_without_frames_is_no_picture(tmp_path: Path, clips: Clips) -> None:
    result = probe.run(make_context(tmp_path, clips["never-filled.mkv"], probed=False))
    (video,) = result.facts[1]["video"]
    assert (video["index"], video["frame_rate"]) == (1, 25.0)
    assert [one["reason"] for one in result.facts[1]["left_out"]] == ["without frames"]


def test_limits_judge_the_picture_that_is_used(tmp_path: Path, clips: Clips) -> None:
    given = settings(tmp_path, limits={"pixels": 320 * 180, "frame_rate": 25.0})
    assert media.probe(clips["preview-first.mp4"], given)["video"][0]["width"] == 320
    small = settings(tmp_path, limits={"pixels": 320 * 180 - 1})
    with pytest.raises(TaskFailed, match=r"320×180; \[limits\] pixels"):
        media.probe(clips["preview-first.mp4"], small)


# What of a source must not be published

SECRETS = (
    "+48.8577+002.295",
    "Jane Doe",
    "private remark",
    "Secret chapter",
    "PhoneMaker",
    "Pixel-Device",
    "GoPro Handler",
    "HandBrake",
)


@pytest.mark.parametrize(
    "profile",
    ["mp4-360", "remux-copy", "preview", "audio-aac", "hls-ladder", "dash-ladder", "matroska"],
)
@pytest.mark.parametrize("name", ["told.mov", "told.mkv"])
def test_nothing_private_of_the_source_is_in_what_is_made(
    tmp_path: Path, clips: Clips, profile: str, name: str
) -> None:
    context = make_context(
        tmp_path, clips[name], profile=profile, settings=_with_matroska(tmp_path)
    )
    output = transcode.run(context).outputs[0]
    assert _secrets(output.path.parent) == []


def _with_matroska(folder: Path):  # type: ignore[no-untyped-def]
    given = settings(folder)
    own = folder / "profiles"
    own.mkdir()
    (own / "matroska.xml").write_text(
        '<profile xmlns="urn:backoffice:1" name="matroska"><file format="matroska"/><copy/>'
        "</profile>"
    )
    return settings(folder, paths={"profiles": (*given.paths.profiles, own)})


def _secrets(folder: Path) -> list[tuple[str, str]]:
    """In which files which of them are, in any of their bytes."""
    return [
        (path.name, secret)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        for secret in SECRETS
        if secret.encode() in path.read_bytes()
    ]


def test_the_source_tells_all_of_it(clips: Clips) -> None:
    for name in ("told.mov", "told.mkv"):
        data = clips[name].read_bytes()
        assert [secret for secret in SECRETS if secret.encode() not in data] == []


def test_stills_tell_nothing_either(tmp_path: Path, clips: Clips) -> None:
    context = make_context(tmp_path, clips["told.mov"])
    thumbnails.run(context)
    assert _secrets(context.folder) == []


@pytest.mark.parametrize("profile", ["hls-ladder", "dash-ladder"])
def test_a_package_of_told_renditions_tells_nothing(
    tmp_path: Path, clips: Clips, profile: str
) -> None:
    context = make_context(tmp_path, clips["told.mov"], profile=profile)
    package.run(context)
    assert _secrets(context.folder) == []


@pytest.mark.parametrize("profile", ["mezzanine", "proxy"])
def test_a_profile_can_keep_what_is_told(tmp_path: Path, clips: Clips, profile: str) -> None:
    made = encoded(tmp_path, clips["told.mov"], profile)
    kept = {secret for _, secret in _secrets(made.parent)}
    assert {"+48.8577+002.295", "Jane Doe", "private remark", "Secret chapter"} <= kept


@pytest.mark.parametrize(
    ("profile", "stays"), [("mp4-360", True), ("remux-copy", True), ("preview", False)]
)
def test_languages_stay_and_titles_where_the_profile_says(
    tmp_path: Path, clips: Clips, profile: str, stays: bool
) -> None:
    made = encoded(tmp_path, clips["told.mkv"], profile)
    (sound,) = media.probe(made, settings(tmp_path))["audio"]
    assert sound["language"] == "deu"
    assert (b"Director" in made.read_bytes()) is stays


def test_an_mp4_of_a_ladder_is_whole(tmp_path: Path, clips: Clips) -> None:
    """Tags that are set for streams must fit those that are there."""
    made = encoded(tmp_path, clips["silent.mp4"], "hls-ladder")
    subprocess.run(["ffmpeg", "-v", "error", "-i", made, "-f", "null", "-"], check=True)


# Closed captions in the picture


def captions(path: Path) -> int:
    """How many frames hold some."""
    argv = ["ffprobe", "-v", "error", "-select_streams", "v", "-show_frames", "-of", "json"]
    done = subprocess.run([*argv, str(path)], capture_output=True, text=True, check=True)
    frames = json.loads(done.stdout)["frames"]
    kinds = [[one["side_data_type"] for one in f.get("side_data_list", ())] for f in frames]
    return sum("ATSC A53 Part 4 Closed Captions" in kind for kind in kinds)


LOST = "carries closed captions (CEA-608/708) in its picture; they are left out"


@pytest.mark.parametrize("suffix", ["mp4", "ts", "mkv"])
def test_closed_captions_are_told(tmp_path: Path, clips: Clips, suffix: str) -> None:
    source = tmp_path / f"captioned.{suffix}"
    ffmpeg("-i", str(clips["captioned.mp4"]), "-c", "copy", str(source))
    assert captions(source) == 120
    context = make_context(tmp_path, source, profile="mp4-360")
    assert context.sources[0].facts["video"][0]["captions"] is True
    result = transcode.run(context)
    assert result.warnings == [f"{source.name} {LOST}"]
    assert captions(result.outputs[0].path) == 0
    assert "captions" not in result.outputs[0].facts["video"][0]


def test_a_source_without_closed_captions_has_none(tmp_path: Path, clips: Clips) -> None:
    (picture,) = media.probe(clips["plain.mp4"], settings(tmp_path))["video"]
    assert "captions" not in picture


def test_a_copy_keeps_closed_captions(tmp_path: Path, clips: Clips) -> None:
    (tmp_path / "copy").mkdir()
    result = transcode.run(
        make_context(tmp_path / "copy", clips["captioned.mp4"], profile="remux-copy")
    )
    assert captions(result.outputs[0].path) == 120
    assert result.warnings == []


def test_closed_captions_of_a_packaged_rendition_are_declared(tmp_path: Path, clips: Clips) -> None:
    context = make_context(tmp_path, clips["captioned.mp4"], profile="hls-ladder")
    master = package.run(context).outputs[0].path.read_text()
    assert 'CLOSED-CAPTIONS="captions"' in master
    assert 'INSTREAM-ID="CC1"' in master
