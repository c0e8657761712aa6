from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backoffice.errors import TaskFailed
from backoffice.tasks import Result, quality
from tests.clips import REAL, Clips, ffmpeg
from tests.tasks.context import make_context

GOOD = ("plain.mp4", "silent.mp4", "sound.wav", "variable.mkv", "interlaced.mp4", "frame.mp4")


@pytest.mark.parametrize("name", GOOD)
def test_good_files_pass_without_a_warning(tmp_path: Path, clips: Clips, name: str) -> None:
    result = quality.run(make_context(tmp_path, clips[name]))
    assert result.warnings == []
    assert result.report["decoded"] == pytest.approx(result.report["duration"], abs=0.1)


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_real_clips_pass(tmp_path: Path, path: Path) -> None:
    context = make_context(tmp_path, path, black="2", freeze="2", min_duration="5")
    assert quality.run(context).warnings == []
    assert list(context.folder.iterdir()) == []


def test_a_truncated_file_is_told_with_both_lengths(tmp_path: Path, clips: Clips) -> None:
    with pytest.raises(
        TaskFailed, match=r"is truncated: \d+ bytes declared, \d+ there; copy it again"
    ) as caught:
        quality.run(make_context(tmp_path, clips["truncated.mp4"]))
    assert not caught.value.retry


PACKET = 188


@pytest.fixture(scope="module")
def stream(clips: Clips) -> bytes:
    """A transport stream that does not say how long it should be."""
    path = clips.folder / "stream.ts"
    ffmpeg("-i", str(clips["plain.mp4"]), "-c:v", "mpeg2video", "-c:a", "mp2", str(path))
    return path.read_bytes()


def checked(folder: Path, name: str, data: bytes, **parameters: Any) -> Result:
    path = folder / name
    path.write_bytes(data)
    return quality.run(make_context(folder, path, **parameters))


def hole(data: bytes, place: float, packets: int = 3) -> bytes:
    """Without some packets: the counters of the others tell."""
    start = round(len(data) // PACKET * place) * PACKET
    return data[:start] + data[start + packets * PACKET :]


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.99])
@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        ("cut.ts", ()),
        ("cut.m2ts", ("-mpegts_m2ts_mode", "1")),
        ("cut.mpg", ("-c:v", "mpeg2video", "-c:a", "mp2")),
        ("cut.mkv", ()),
        ("cut.webm", ("-c:v", "libvpx", "-deadline", "realtime", "-c:a", "libvorbis")),
        ("cut.avi", ("-c:v", "mpeg4", "-c:a", "mp3")),
        ("cut.mov", ("-movflags", "+faststart")),
        ("cut.mp4", ("-movflags", "+frag_keyframe+empty_moov")),
        ("cut.wav", ("-vn",)),
        ("cut.ogg", ("-vn", "-c:a", "libopus", "-b:a", "128k")),
    ],
)
def test_a_file_that_was_cut_anywhere_fails(
    tmp_path: Path, clips: Clips, name: str, encoding: tuple[str, ...], share: float
) -> None:
    whole = clips.folder / f"whole-{name}"
    if not whole.exists():
        ffmpeg("-i", str(clips["plain.mp4"]), *encoding, str(whole))
        (tmp_path / "whole").mkdir()
        assert quality.run(make_context(tmp_path / "whole", whole)).warnings == []
    data = whole.read_bytes()
    with pytest.raises(TaskFailed, match=r"is (truncated|damaged)") as caught:
        checked(tmp_path, name, data[: round(len(data) * share) // PACKET * PACKET + 77])
    assert "copy it again" in str(caught.value)
    assert not caught.value.retry


def test_a_stream_cut_between_two_packets_fails_by_its_last_picture(
    tmp_path: Path, stream: bytes
) -> None:
    with pytest.raises(TaskFailed, match="damaged"):
        checked(tmp_path, "cut.ts", stream[: len(stream) // PACKET * 2 // 3 * PACKET])


def test_a_stream_with_a_hole_fails_and_tells_where(tmp_path: Path, stream: bytes) -> None:
    with pytest.raises(TaskFailed, match=r"broken packets: 1, the first at [12]\.\d s;"):
        checked(tmp_path, "hole.ts", hole(stream, 0.5))


@pytest.mark.parametrize("parameters", [{"damage": "1"}, {"mode": "decode=warn"}])
def test_damage_may_be_allowed(tmp_path: Path, stream: bytes, parameters: dict[str, Any]) -> None:
    result = checked(tmp_path, "hole.ts", hole(stream, 0.5), **parameters)
    assert result.report["damage"] == 1
    assert any("broken packets: 1" in warning for warning in result.warnings)


def test_a_stream_with_many_holes_fails_though_some_may_be(tmp_path: Path, stream: bytes) -> None:
    for place in (0.4, 0.6, 0.8):
        stream = hole(stream, place)
    with pytest.raises(TaskFailed, match="broken packets: 3"):
        checked(tmp_path, "holes.ts", stream, damage="2")


def test_a_recording_that_is_broken_where_it_begins_passes_with_a_warning(
    tmp_path: Path, stream: bytes
) -> None:
    result = checked(tmp_path, "air.ts", hole(stream, 0.1))
    assert result.report["damage"] == 0
    assert any("broken packets: 1, the first at 0." in warning for warning in result.warnings)


@pytest.mark.parametrize("extra", [0, 100])
def test_a_recording_that_begins_amid_a_group_or_a_packet_passes(
    tmp_path: Path, stream: bytes, extra: int
) -> None:
    start = len(stream) // PACKET // 3 * PACKET
    assert checked(tmp_path, "air.ts", stream[start - extra :]).report["damage"] == 0


def test_a_picture_that_is_broken_in_a_container_without_packets_fails(
    tmp_path: Path, clips: Clips
) -> None:
    data = bytearray(clips["silent.mp4"].read_bytes())
    middle = len(data) // 2
    data[middle : middle + 2000] = bytes(2000)
    with pytest.raises(TaskFailed, match="damaged: pictures that cannot be decoded whole"):
        checked(tmp_path, "hole.mp4", bytes(data))


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("plain.mp4", {"min_duration": "5"}, "must last 5 s at least"),
        ("plain.mp4", {"max_duration": "3"}, "may last 3 s at most"),
        ("black.mp4", {"black": "1"}, r"is black for 4\.0 s from 0\.0 s on"),
        ("black.mp4", {"freeze": "1"}, "stands still for"),
        ("quiet.mp4", {"silence": "1"}, r"is silent for 4\.0 s"),
        ("quiet.mp4", {"loudness_min": "-30"}, "quieter than -30 LUFS"),
        ("plain.mp4", {"loudness_max": "-30"}, "louder than -30 LUFS"),
    ],
)
def test_a_limit_exceeded_fails_or_warns(
    tmp_path: Path, clips: Clips, name: str, parameters: dict[str, Any], words: str
) -> None:
    (tmp_path / "fail").mkdir()
    with pytest.raises(TaskFailed, match=words):
        quality.run(make_context(tmp_path / "fail", clips[name], **parameters))
    result = quality.run(make_context(tmp_path, clips[name], mode="warn", **parameters))
    assert len(result.warnings) == 1


def test_the_mode_can_differ_between_checks(tmp_path: Path, clips: Clips) -> None:
    context = make_context(
        tmp_path, clips["black.mp4"], black="1", freeze="1", mode="black=warn, freeze=fail"
    )
    with pytest.raises(TaskFailed) as caught:
        quality.run(context)
    assert "still" in str(caught.value)
    assert "black for" not in str(caught.value)


def test_limits_that_are_kept_are_reported_with_what_was_measured(
    tmp_path: Path, clips: Clips
) -> None:
    context = make_context(tmp_path, clips["plain.mp4"], black="1", silence="1", loudness_min="-40")
    report = quality.run(context).report
    assert report["black"] == {"longest": 0.0, "stretches": 0}
    assert -40 < report["loudness"]["integrated"] < -10
    assert len(context.commands) == 1


def test_a_check_without_its_stream_is_mentioned(tmp_path: Path, clips: Clips) -> None:
    result = quality.run(make_context(tmp_path, clips["silent.mp4"], silence="1"))
    assert result.warnings == ["silent.mp4 has no sound; silence was not checked"]


def test_without_decoding_no_command_runs(tmp_path: Path, clips: Clips) -> None:
    context = make_context(tmp_path, clips["truncated.mp4"], decode="false")
    quality.run(context)
    assert context.commands == []
    assert quality.plan(context).commands == []


def test_the_plan_is_what_runs(tmp_path: Path, clips: Clips) -> None:
    context = make_context(tmp_path, clips["plain.mp4"], black="1", silence="1")
    planned = quality.plan(context).commands
    quality.run(context)
    assert context.commands == planned


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("decode", "maybe"),
        ("black", "long"),
        ("silence", "-1"),
        ("damage", "some"),
        ("loudness-min", "nan"),
        ("mode", "panic"),
        ("mode", "smell=warn"),
    ],
)
def test_a_bad_parameter_is_refused(tmp_path: Path, clips: Clips, name: str, value: str) -> None:
    context = make_context(tmp_path, clips["plain.mp4"])
    context.parameters = {name: value}
    with pytest.raises(TaskFailed, match=f"{name} is") as caught:
        quality.plan(context)
    assert not caught.value.retry
