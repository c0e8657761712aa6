from __future__ import annotations

from pathlib import Path

import pytest

from backoffice.errors import TaskFailed
from backoffice.tasks import probe
from tests.clips import Clips
from tests.tasks.context import make_context


def test_every_source_gets_its_facts(tmp_path: Path, clips: Clips) -> None:
    context = make_context(tmp_path, clips["plain.mp4"], clips["sound.wav"], probed=False)
    result = probe.run(context)
    assert set(result.facts) == {1, 2}
    assert result.facts[1]["video"][0]["height"] == 180
    assert result.facts[2]["format"] == "wav"
    assert context.fractions[-1] == 1.0


def test_planning_looks_at_nothing(tmp_path: Path) -> None:
    plan = probe.plan(make_context(tmp_path, tmp_path / "gone.mp4", probed=False))
    assert plan.commands == ()
    assert "gone.mp4" in plan.notes[0]


@pytest.mark.parametrize(
    ("name", "required", "words"),
    [
        ("sound.m4a", "video", "has sound but no picture; the workflow needs video"),
        ("silent.mp4", "audio", "has a picture but no sound; the workflow needs audio"),
        ("plain.mp4", "smell", "it may be video, audio or any"),
        ("text.mp4", "any", "is not a video or sound file"),
        ("playlist.mp4", "any", "is a playlist"),
        ("empty.mp4", "any", "is empty"),
        ("headless.mp4", "video", "is incomplete"),
        ("segment.mp4", "video", "is a segment without the beginning"),
        (
            "beginning.mp4",
            "video",
            r"neither picture nor sound: stream 0 \(h264\) is without frames",
        ),
        ("encrypted-segment.mp4", "video", r"is encrypted \(cenc\)"),
        (
            "unopened.m4a",
            "audio",
            r"that this ffmpeg cannot decode \(ffprobe: Audio object type 42",
        ),
        ("deep.flac", "audio", "this ffmpeg cannot decode flac of 32 bits"),
        ("deep.mka", "audio", "this ffmpeg cannot decode flac of 32 bits"),
    ],
)
def test_bad_input_is_told_in_words_and_not_tried_again(
    tmp_path: Path, clips: Clips, name: str, required: str, words: str
) -> None:
    context = make_context(tmp_path, clips[name], probed=False, require=required)
    with pytest.raises(TaskFailed, match=words) as caught:
        probe.run(context)
    assert not caught.value.retry
    assert list(context.folder.iterdir()) == []


def test_sound_alone_is_enough_where_any_is(tmp_path: Path, clips: Clips) -> None:
    assert probe.run(make_context(tmp_path, clips["sound.m4a"])).facts[1]["video"] == []


def test_no_source_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(TaskFailed, match="no file"):
        probe.run(make_context(tmp_path))
