from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from backoffice.errors import TaskFailed
from backoffice.media import ffmpeg
from backoffice.tasks import Result, thumbnails
from tests import measure
from tests.clips import REAL, Clips
from tests.tasks.context import FakeContext, make_context

CLIPS = ("plain.mp4", "frame.mp4", "second.mp4", "portrait.mp4", "anamorphic.mp4", "odd.mkv")


def size(path: Path) -> tuple[int, int]:
    """Width and height of a JPEG, from its frame header."""
    found = re.search(rb"\xff[\xc0\xc2]\x00\x11\x08(..)(..)", path.read_bytes(), re.DOTALL)
    assert found
    return int.from_bytes(found[2], "big"), int.from_bytes(found[1], "big")


def declare(context: FakeContext, seconds: float) -> None:
    """Let the source claim another length than it has."""
    source = context.sources[0]
    video = {**source.facts["video"][0], "duration": seconds}
    context.sources = [replace(source, facts={**source.facts, "video": [video]})]


def check(context: FakeContext, result: Result) -> None:
    roles = [output.role for output in result.outputs]
    assert roles == ["thumbnail"] * 3 + ["sprite", "sprite-map"]
    sprite, cues = result.outputs[3].path, result.outputs[4].path.read_text()
    assert cues.startswith("WEBVTT\n\n")
    width, height = size(sprite)
    places = re.findall(r"^(.*)#xywh=(\d+),(\d+),(\d+),(\d+)$", cues, re.M)
    assert len(places) == result.report["tiles"]
    for name, *place in places:
        x, y, w, h = map(int, place)
        assert name == sprite.name
        assert (w, h) == (160, 90)
        assert x + w <= width
        assert y + h <= height
    assert sorted(context.folder.iterdir()) == sorted(o.path for o in result.outputs)


@pytest.mark.parametrize("name", CLIPS)
def test_three_stills_and_a_sprite_whatever_the_clip(
    tmp_path: Path, clips: Clips, name: str
) -> None:
    context = make_context(tmp_path, clips[name])
    check(context, thumbnails.run(context))


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_real_clips(tmp_path: Path, path: Path) -> None:
    context = make_context(tmp_path, path)
    result = thumbnails.run(context)
    check(context, result)
    assert len({output.path.read_bytes() for output in result.outputs[:3]}) == 3


def test_the_sprite_is_made_of_the_smallest_rendition(tmp_path: Path, clips: Clips) -> None:
    """The stills are not: here it alone is black."""
    names = ("portrait.mp4", "plain.mp4", "black-small.mp4")
    context = make_context(tmp_path, *(clips[name] for name in names))
    result = thumbnails.run(context)
    check(context, result)
    assert measure.frames(result.outputs[3].path)[0][1] == pytest.approx(0, abs=2)
    assert measure.frames(result.outputs[0].path)[0][1] > 30
    assert [output.path.name for output in result.outputs[:1]] == ["portrait-25.jpg"]
    assert result.report["tiles"] == 4


def test_stills_have_the_shape_that_people_see(tmp_path: Path, clips: Clips) -> None:
    result = thumbnails.run(make_context(tmp_path, clips["rotated.mp4"]))
    assert size(result.outputs[0].path) == (180, 320)


def test_the_plan_is_what_runs(tmp_path: Path, clips: Clips) -> None:
    context = make_context(tmp_path, clips["plain.mp4"])
    plan = thumbnails.plan(context)
    result = thumbnails.run(context)
    assert context.commands == plan.commands
    assert result.outputs == plan.outputs


def test_a_long_video_is_sought_and_not_decoded_whole(tmp_path: Path, clips: Clips) -> None:
    context = make_context(tmp_path, clips["plain.mp4"])
    declare(context, 7200.0)
    *stills, sprite = thumbnails.plan(context).commands
    for command in stills:
        assert command.index("-ss") < command.index("-i")
    assert sprite[sprite.index("-skip_frame") + 1] == "nokey"


def test_stills_of_a_shorter_file_than_declared_are_taken_anyway(
    tmp_path: Path, clips: Clips
) -> None:
    context = make_context(tmp_path, clips["second.mp4"])
    declare(context, 3.0)
    assert len(thumbnails.run(context).outputs) == 5


def test_sound_alone_has_no_stills(tmp_path: Path, clips: Clips) -> None:
    with pytest.raises(TaskFailed, match="no picture") as caught:
        thumbnails.run(make_context(tmp_path, clips["sound.m4a"]))
    assert not caught.value.retry


def test_a_file_that_is_no_video_is_told(tmp_path: Path, clips: Clips) -> None:
    with pytest.raises(TaskFailed, match="not a video"):
        thumbnails.run(make_context(tmp_path, clips["text.mp4"]))


def test_stills_can_be_opened_as_pictures(tmp_path: Path, clips: Clips) -> None:
    context = make_context(tmp_path, clips["plain.mp4"])
    still = thumbnails.run(context).outputs[0].path
    argv = [*ffmpeg.command(context.settings), "-i", str(still), "-f", "null", "-"]
    assert (
        ffmpeg.run(argv, folder=tmp_path, log=context.log, confined=context.confinement).status == 0
    )
