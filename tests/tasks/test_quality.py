from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backoffice.errors import TaskFailed
from backoffice.tasks import quality
from tests.clips import REAL, Clips
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
        TaskFailed, match=r"is truncated: 4\.0 s declared, .* s decodable"
    ) as caught:
        quality.run(make_context(tmp_path, clips["truncated.mp4"]))
    assert not caught.value.retry


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
