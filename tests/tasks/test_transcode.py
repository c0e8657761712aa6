from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from backoffice.errors import TaskFailed
from backoffice.media import ffmpeg
from backoffice.tasks import Result, transcode
from tests.clips import REAL, Clips
from tests.tasks.context import FakeContext, make_context, settings


def made(context: FakeContext, result: Result) -> list[str]:
    """Names in the private folder; there must be nothing but the output."""
    (output,) = result.outputs
    assert output.path.exists()
    return [path.name for path in context.folder.iterdir()]


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("plain.mp4", (320, 180)),
        ("silent.mp4", (320, 180)),
        ("portrait.mp4", (180, 320)),
        ("rotated.mp4", (180, 320)),
        ("odd.mkv", (320, 180)),
        ("anamorphic.mp4", (512, 288)),
        ("ten-bit.mkv", (320, 180)),
        ("interlaced.mp4", (320, 192)),
        ("surround.mp4", (320, 180)),
        ("variable.mkv", (320, 180)),
        ("frame.mp4", (320, 180)),
    ],
)
def test_any_picture_becomes_a_plain_mp4_and_is_never_enlarged(
    tmp_path: Path, clips: Clips, name: str, size: tuple[int, int]
) -> None:
    context = make_context(tmp_path, clips[name], profile="mp4-720")
    result = transcode.run(context)
    (output,) = result.outputs
    assert made(context, result) == [f"{Path(name).stem}-mp4-720.mp4"]
    assert (output.role, output.media_type, output.tree) == ("rendition", "video/mp4", False)
    facts = ffmpeg.probe(output.path, context.settings)
    assert facts == output.facts
    (video,) = facts["video"]
    assert (video["codec"], video["pixel_format"]) == ("h264", "yuv420p")
    assert (video["width"], video["height"], video["rotation"]) == (*size, 0)
    sounds = [(sound["codec"], sound["channels"]) for sound in facts["audio"]]
    assert sounds == [("aac", 2)] * len(context.sources[0].facts["audio"])
    assert facts["duration"] == pytest.approx(context.sources[0].facts["duration"], abs=0.1)
    assert context.fractions[-1] == 1.0


@pytest.mark.parametrize(
    ("profile", "name", "codecs"),
    [
        ("mezzanine", "plain-mezzanine.mov", ["prores", "pcm_s24le"]),
        ("remux-copy", "plain-remux-copy.mp4", ["h264", "aac"]),
        ("preview", "plain-preview.mp4", ["h264", "aac"]),
        ("proxy", "plain-proxy.mov", ["h264", "pcm_s16le"]),
        ("audio-aac", "plain-audio-aac.m4a", ["aac"]),
    ],
)
def test_every_kind_of_profile(
    tmp_path: Path, clips: Clips, profile: str, name: str, codecs: list[str]
) -> None:
    context = make_context(tmp_path, clips["plain.mp4"], profile=profile)
    result = transcode.run(context)
    assert made(context, result) == [name]
    facts = result.outputs[0].facts
    assert [stream["codec"] for stream in (*facts["video"], *facts["audio"])] == codecs


@pytest.mark.parametrize(
    ("profile", "start"), [("hls-ladder", "master.m3u8"), ("dash-ladder", "manifest.mpd")]
)
@pytest.mark.parametrize("name", ["anamorphic.mp4", "plain.mp4"])
def test_a_ladder_is_a_tree_that_plays_through(
    tmp_path: Path, clips: Clips, profile: str, start: str, name: str
) -> None:
    context = make_context(tmp_path, clips[name], profile=profile)
    result = transcode.run(context)
    (output,) = result.outputs
    assert made(context, result) == [f"{Path(name).stem}-{profile}"]
    assert (output.role, output.tree, output.path.name) == ("package", True, start)
    subprocess.run(["ffmpeg", "-v", "error", "-i", output.path, "-f", "null", "-"], check=True)


def test_sound_comes_out_at_its_loudness(tmp_path: Path, clips: Clips) -> None:
    context = make_context(tmp_path, clips["surround.mp4"], profile="audio-aac")
    (output,) = transcode.run(context).outputs
    assert output.role == "audio"
    argv = [*ffmpeg.command(context.settings, level="info"), "-i", str(output.path)]
    done = ffmpeg.run(
        [*argv, "-af", "ebur128", "-f", "null", "-"],
        folder=tmp_path,
        log=context.log,
        confined=context.confinement,
    )
    summary = done.stderr_tail.rpartition("Summary:")[2]
    loudness = re.search(r"I:\s+(\S+) LUFS", summary)
    assert loudness
    assert float(loudness[1]) == pytest.approx(-23, abs=0.5)


def test_silence_is_left_as_it_is(tmp_path: Path, clips: Clips) -> None:
    context = make_context(tmp_path, clips["quiet.mp4"], profile="audio-aac")
    result = transcode.run(context)
    assert result.warnings == ["sound 1 is silent or too short: its loudness was left as it is"]
    assert "loudnorm" not in " ".join(context.commands[-1])


@pytest.mark.parametrize("profile", ["mp4-360", "hls-ladder", "remux-copy", "mezzanine"])
def test_the_plan_tells_what_runs(tmp_path: Path, clips: Clips, profile: str) -> None:
    context = make_context(tmp_path, clips["plain.mp4"], profile=profile)
    plan = transcode.plan(context)
    assert list(context.folder.iterdir()) == []
    result = transcode.run(context)
    assert [o.path for o in plan.outputs] == [o.path for o in result.outputs]
    assert len(plan.commands) == len(context.commands)
    for planned, ran in zip(plan.commands, context.commands, strict=True):
        same = [a == b for a, b in zip(planned, ran, strict=True)]
        # The name under which it is written until it has been checked.
        assert all(s or "partial" in b for s, b in zip(same, ran, strict=True))
    (expected,), (found,) = plan.outputs, result.outputs
    for kind in ("video", "audio"):
        assert [s["codec"] for s in expected.facts[kind]] == [s["codec"] for s in found.facts[kind]]


def test_a_plan_shows_both_passes_of_loudness(tmp_path: Path, clips: Clips) -> None:
    plan = transcode.plan(make_context(tmp_path, clips["plain.mp4"], profile="audio-aac"))
    first, second = (" ".join(command) for command in plan.commands)
    assert "print_format=json" in first
    assert "measured_I=…" in second


@pytest.mark.parametrize(
    ("name", "profile", "words"),
    [
        ("truncated.mp4", "mp4-360", "probably truncated"),
        ("truncated.mp4", "hls-ladder", "probably truncated"),
        ("sound.m4a", "mp4-360", "has sound but no picture"),
        ("silent.mp4", "audio-aac", "has no sound"),
        ("odd.mkv", "remux-copy", "ffv1"),
        ("playlist.mp4", "mp4-360", "is a playlist"),
        ("concat.mp4", "remux-copy", "is a playlist"),
        ("text.mp4", "mp4-360", "is not a video"),
        ("empty.mp4", "mp4-360", "is empty"),
        ("plain.mp4", "no-such", "there is no profile 'no-such'; there are audio-aac"),
    ],
)
def test_bad_input_is_told_in_words_and_gets_no_final_name(
    tmp_path: Path, clips: Clips, name: str, profile: str, words: str
) -> None:
    context = make_context(tmp_path, clips[name], profile=profile)
    with pytest.raises(TaskFailed, match=words) as caught:
        transcode.run(context)
    assert not caught.value.retry
    assert not [p for p in context.folder.iterdir() if not p.name.startswith("partial")]


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("-y.mp4", "y-mp4-360.mp4"),
        ("http:x.mp4", "http_x-mp4-360.mp4"),
        ("Ärger %d $(x) 日本.mp4", "Ärger_d_x_日本-mp4-360.mp4"),
        ("ü" * 120 + ".mp4", "ü" * 69 + "-mp4-360.mp4"),
        ("---.mp4", "media-mp4-360.mp4"),
    ],
)
def test_awkward_names_are_read_and_made_harmless(
    tmp_path: Path, clips: Clips, name: str, result: str
) -> None:
    source = tmp_path / name
    source.symlink_to(clips["frame.mp4"])
    context = make_context(tmp_path, source, profile="mp4-360")
    assert made(context, transcode.run(context)) == [result]


def test_exactly_one_source_is_taken(tmp_path: Path, clips: Clips) -> None:
    with pytest.raises(TaskFailed, match="got 2"):
        transcode.run(
            make_context(tmp_path, clips["plain.mp4"], clips["plain.mp4"], profile="mp4-360")
        )


def test_threads_are_limited_as_configured(tmp_path: Path, clips: Clips) -> None:
    given = settings(tmp_path, tools={"threads": 1})
    context = make_context(tmp_path, clips["plain.mp4"], profile="mp4-360", settings=given)
    (command,) = transcode.plan(context).commands
    assert command.count("-threads") == 2


def test_a_file_beyond_the_limit_of_output_is_explained(tmp_path: Path, clips: Clips) -> None:
    given = settings(tmp_path, limits={"output": 20_000})
    context = make_context(tmp_path, clips["plain.mp4"], profile="mezzanine", settings=given)
    with pytest.raises(TaskFailed, match=r"\[limits\] output"):
        transcode.run(context)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "tiny"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root and the right to mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("profile", ["mezzanine", "mp4-360", "hls-ladder"])
def test_a_full_disk_is_told_and_worth_another_try(
    tmp_path: Path, clips: Clips, tiny_disk: Path, profile: str
) -> None:
    context = make_context(tmp_path, clips["plain.mp4"], profile=profile)
    context.folder = tiny_disk
    with pytest.raises(TaskFailed, match="disk is full") as caught:
        transcode.run(context)
    assert caught.value.retry


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_real_clips_become_what_was_asked(tmp_path: Path, path: Path) -> None:
    context = make_context(tmp_path, path, profile="preview")
    (output,) = transcode.run(context).outputs
    (video,) = output.facts["video"]
    (source,) = context.sources[0].facts["video"]
    assert video["height"] == min(360, source["height"])
    assert len(output.facts["audio"]) == len(context.sources[0].facts["audio"])
