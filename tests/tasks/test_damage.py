"""Sources with faults: refused by default, taken as they are where that is asked for."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from backoffice.errors import TaskFailed
from backoffice.tasks import probe, quality, thumbnails, transcode
from tests.clips import Clips, ffmpeg
from tests.tasks.context import make_context
from tests.tones import RATE, channels, level

PACKET = 188  # bytes of a transport stream


@pytest.fixture(scope="module")
def lossy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Off the air, with some packets lost in the middle."""
    whole = tmp_path_factory.mktemp("lossy") / "whole.ts"
    ffmpeg(
        *"-f lavfi -i testsrc2=s=320x180:r=25:d=6 -f lavfi -i sine=d=6".split(),
        *"-c:v mpeg2video -q:v 20 -g 12 -c:a mp2".split(),
        str(whole),
    )
    data = whole.read_bytes()
    cut = len(data) // PACKET * 2 // 5 * PACKET
    path = whole.with_name("lossy.ts")
    path.write_bytes(data[:cut] + data[cut + 12 * PACKET :])
    return path


def test_lost_packets_are_refused_or_told(tmp_path: Path, lossy: Path) -> None:
    with pytest.raises(TaskFailed, match=r"damaged"):
        quality.run(make_context(tmp_path, lossy))
    (tmp_path / "private").rmdir()
    taken = quality.run(make_context(tmp_path, lossy, damage="tolerate"))
    assert any("damaged" in warning for warning in taken.warnings)
    assert taken.report["damage"] > 0


# Recordings behind each other: their counters, and often their time stamps, begin anew.


def _recording(path: Path, colour: str, tone: int, *more: str, codec: str = "libx264") -> bytes:
    ffmpeg(
        "-f",
        "lavfi",
        "-i",
        f"color={colour}:s=320x180:r=25:d=2",
        "-f",
        "lavfi",
        "-i",
        f"aevalsrc=0.25*sin({tone}*2*PI*t):s=48000:d=2",
        "-c:v",
        codec,
        "-pix_fmt",
        "yuv420p",
        *more,
        str(path),
    )
    return path.read_bytes()


def pixel(path: Path, at: float) -> tuple[int, ...]:
    """The colour of the picture at a time, decoded from the start."""
    argv = ["ffmpeg", "-v", "error", "-i", str(path), "-ss", str(at), "-an", "-frames:v", "1"]
    argv += ["-vf", "scale=1:1", "-pix_fmt", "rgb24", "-f", "rawvideo", "-"]
    return tuple(subprocess.run(argv, check=True, capture_output=True).stdout)


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Time stamps run on, and the sound changes from stereo to 5.1."""
    folder = tmp_path_factory.mktemp("joined")
    one = ("-c:a", "ac3", "-ac", "2")
    other = ("-c:a", "ac3", "-af", "pan=5.1|c0=c0|c1=c0", "-output_ts_offset", "2")
    first = _recording(folder / "1.ts", "red", 400, *one, codec="mpeg2video")
    second = _recording(folder / "2.ts", "blue", 1000, *other, codec="mpeg2video")
    path = folder / "joined.ts"
    path.write_bytes(first + second)
    return path


def test_a_joint_of_recordings_is_no_damage(tmp_path: Path, joined: Path) -> None:
    result = quality.run(make_context(tmp_path, joined))
    assert (result.report["damage"], result.warnings) == (0, [])
    (tmp_path / "encode").mkdir()
    (output,) = transcode.run(make_context(tmp_path / "encode", joined, profile="mp4-360")).outputs
    assert pixel(output.path, 1) == pytest.approx((255, 0, 0), abs=30)
    assert pixel(output.path, 3) == pytest.approx((0, 0, 255), abs=30)
    left, right = channels(output.path)
    for side in (left, right):
        assert level(side[: 2 * RATE], 400) > 0.1 > 0.01 > level(side[: 2 * RATE], 1000)
        assert level(side[-2 * RATE :], 1000) > 0.1


def test_a_joint_where_packets_are_missing_is_damage(tmp_path: Path, joined: Path) -> None:
    data = joined.read_bytes()
    joint = joined.with_name("1.ts").stat().st_size
    lossy = joined.with_name("lossy-joint.ts")
    # The second recording begins amid a frame: its first packets are the tables' and its own.
    lossy.write_bytes(data[: joint + 3 * PACKET] + data[joint + 5 * PACKET :])
    with pytest.raises(TaskFailed, match="is damaged"):
        quality.run(make_context(tmp_path, lossy))


def test_a_file_whose_time_stamps_begin_anew_lasts_as_long_as_all_its_parts(
    tmp_path: Path,
) -> None:
    first = _recording(tmp_path / "1.ts", "red", 400)
    path = tmp_path / "anew.ts"
    path.write_bytes(first + _recording(tmp_path / "2.ts", "blue", 1000))
    context = make_context(tmp_path, path)
    assert context.sources[0].facts["duration"] == pytest.approx(4, abs=0.1)
    (tmp_path / "encode").mkdir()
    encode = make_context(tmp_path / "encode", path, profile="hls-ladder")
    (output,) = transcode.run(encode).outputs
    assert output.facts["duration"] == pytest.approx(4, abs=0.1)
    (tmp_path / "stills").mkdir()
    stills = make_context(tmp_path / "stills", path)
    stills.sources = encode.sources
    early, _, late = (one.path for one in thumbnails.run(stills).outputs[:3])
    assert pixel(early, 0) == pytest.approx((255, 0, 0), abs=30)
    assert pixel(late, 0) == pytest.approx((0, 0, 255), abs=30)
    assert pixel(output.path, 3) == pytest.approx((0, 0, 255), abs=30)


def test_frames_that_a_recorder_dropped_are_no_damage(tmp_path: Path) -> None:
    """They have a place in AVI, and no content: two of three here."""
    path = tmp_path / "dropped.avi"
    drop = ("-vf", "select=not(mod(n\\,3))", "-fps_mode", "passthrough", "-enc_time_base", "1/25")
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=4", *drop, "-c:v", "mpeg4", str(path))
    context = make_context(tmp_path, path)
    assert context.sources[0].facts["video"][0]["frames"] > 90
    assert quality.run(context).warnings == []
    (tmp_path / "encode").mkdir()
    (output,) = transcode.run(make_context(tmp_path / "encode", path, profile="mp4-360")).outputs
    assert output.facts["duration"] == pytest.approx(4, abs=0.1)


def test_what_is_tolerated_is_encoded_to_its_end(tmp_path: Path, lossy: Path) -> None:
    context = make_context(tmp_path, lossy, profile="mp4-360", damage="tolerate")
    (output,) = transcode.run(context).outputs
    assert output.facts["duration"] == pytest.approx(6, abs=0.5)


@pytest.mark.parametrize("profile", ["mp4-360", "hls-ladder"])
def test_a_truncated_source_gives_what_there_is_and_a_warning(
    tmp_path: Path, clips: Clips, profile: str
) -> None:
    source = clips["truncated.mp4"]
    with pytest.raises(TaskFailed, match=r"truncated or damaged"):
        transcode.run(make_context(tmp_path, source, profile=profile))
    for path in sorted((tmp_path / "private").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (tmp_path / "private").rmdir()
    result = transcode.run(make_context(tmp_path, source, profile=profile, damage="tolerate"))
    assert any("came out" in warning for warning in result.warnings)
    assert 0 < result.outputs[0].facts["duration"] < 4


def test_probe_sees_what_is_cut_off_without_decoding(tmp_path: Path, lossy: Path) -> None:
    cut = tmp_path / "cut.ts"
    cut.write_bytes(lossy.read_bytes()[: -PACKET - 60])
    with pytest.raises(TaskFailed, match=r"truncated.*damage to tolerate") as caught:
        probe.run(make_context(tmp_path, cut, probed=False))
    assert not caught.value.retry
    (tmp_path / "private").rmdir()
    context = make_context(tmp_path, cut, probed=False, damage="tolerate")
    assert "truncated" in probe.run(context).warnings[0]


@pytest.mark.parametrize("task", [probe, transcode])
def test_what_damage_may_be_is_told(tmp_path: Path, clips: Clips, task: object) -> None:
    context = make_context(tmp_path, clips["plain.mp4"], damage="perhaps", profile="mp4-360")
    with pytest.raises(TaskFailed, match=r"refuse or tolerate"):
        task.run(context)  # type: ignore[attr-defined]
