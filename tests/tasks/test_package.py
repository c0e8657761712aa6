from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from backoffice.errors import TaskFailed
from backoffice.media.profiles import Package
from backoffice.tasks import Result, package
from tests.clips import Clips
from tests.tasks.context import FakeContext, make_context

FORMATS = {
    "hls-ladder": ("hls", "master.m3u8", "application/vnd.apple.mpegurl"),
    "dash-ladder": ("dash", "manifest.mpd", "application/dash+xml"),
}
ladders = pytest.mark.parametrize("profile", FORMATS)


def check(context: FakeContext, result: Result, profile: str) -> None:
    role, name, media_type = FORMATS[profile]
    (output,) = result.outputs
    assert output.path == context.folder / role / name
    assert (output.role, output.media_type, output.tree) == (role, media_type, True)
    assert [path.name for path in context.folder.iterdir()] == [role]
    subprocess.run(["ffmpeg", "-v", "error", "-i", output.path, "-f", "null", "-"], check=True)


@ladders
def test_renditions_and_one_sound_become_a_package(
    tmp_path: Path, clips: Clips, profile: str
) -> None:
    context = make_context(
        tmp_path, clips["small.mp4"], clips["plain.mp4"], role="rendition", profile=profile
    )
    result = package.run(context)
    check(context, result, profile)
    assert result.report["renditions"] == ["180p", "90p"]
    facts = result.outputs[0].facts
    assert sorted(video["height"] for video in facts["video"]) == [90, 180]
    assert len(facts["audio"]) == 1
    assert facts["duration"] == pytest.approx(4, abs=0.1)


@ladders
def test_without_sound(tmp_path: Path, clips: Clips, profile: str) -> None:
    context = make_context(tmp_path, clips["silent.mp4"], role="rendition", profile=profile)
    result = package.run(context)
    check(context, result, profile)
    assert result.outputs[0].facts["audio"] == []
    # A percent sign would break the URL under which a server gives it out.
    assert not [path for path in context.folder.rglob("*") if "%" in path.name]


@ladders
def test_a_sound_of_its_own_goes_before_that_of_a_picture(
    tmp_path: Path, clips: Clips, profile: str
) -> None:
    context = make_context(tmp_path, clips["plain.mp4"], clips["sound.m4a"], profile=profile)
    check(context, package.run(context), profile)
    assert "1:0" in context.commands[0]


@ladders
def test_shapes_that_differ_by_rounding_go_together(
    tmp_path: Path, clips: Clips, profile: str
) -> None:
    context = make_context(tmp_path, clips["plain.mp4"], clips["narrow.mp4"], profile=profile)
    check(context, package.run(context), profile)


def test_two_of_one_height_get_different_names(tmp_path: Path, clips: Clips) -> None:
    context = make_context(tmp_path, clips["plain.mp4"], clips["silent.mp4"], profile="hls-ladder")
    assert package.run(context).report["renditions"] == ["180p", "180p-2"]


@ladders
def test_the_plan_is_what_runs(tmp_path: Path, clips: Clips, profile: str) -> None:
    context = make_context(tmp_path, clips["plain.mp4"], profile=profile)
    plan = package.plan(context)
    result = package.run(context)
    assert [o.path for o in plan.outputs] == [o.path for o in result.outputs]
    folder = str(context.folder / FORMATS[profile][0])
    planned = [word.replace(folder, str(context.folder / "partial")) for word in plan.commands[0]]
    assert context.commands == [planned]


@pytest.mark.parametrize(
    ("names", "profile", "words"),
    [
        (["plain.mp4"], "mp4-720", "can be made by dash-ladder, hls-hdr, hls-ladder"),
        (["plain.mp4"], "", "can be made by"),
        (["sound.m4a"], "hls-ladder", "no rendition with a picture"),
        ([], "hls-ladder", "no rendition with a picture"),
        (["odd.mkv"], "hls-ladder", "odd.mkv holds ffv1"),
        (["sound.wav", "plain.mp4"], "hls-ladder", "sound.wav holds pcm_s16le"),
        (["plain.mp4", "portrait.mp4"], "hls-ladder", "another shape"),
        (["text.mp4"], "hls-ladder", "is not a video"),
    ],
)
def test_what_cannot_be_packaged_is_told(
    tmp_path: Path, clips: Clips, names: list[str], profile: str, words: str
) -> None:
    context = make_context(tmp_path, *(clips[name] for name in names), profile=profile)
    with pytest.raises(TaskFailed, match=words) as caught:
        package.run(context)
    assert not caught.value.retry
    assert list(context.folder.iterdir()) == []


@ladders
def test_a_truncated_rendition_is_found_out(tmp_path: Path, clips: Clips, profile: str) -> None:
    context = make_context(tmp_path, clips["truncated.mp4"], profile=profile)
    with pytest.raises(TaskFailed, match="truncated or damaged"):
        package.run(context)


@pytest.fixture
def hls(tmp_path: Path, clips: Clips) -> tuple[FakeContext, Path]:
    context = make_context(tmp_path, clips["plain.mp4"], profile="hls-ladder")
    return context, package.run(context).outputs[0].path.parent


@pytest.mark.parametrize("name", ["180p-00000.m4s", "180p-init.mp4", "sound.m3u8"])
@pytest.mark.parametrize("harm", ["remove", "empty", "cut"])
def test_a_package_with_a_part_missing_is_refused(
    hls: tuple[FakeContext, Path], name: str, harm: str
) -> None:
    context, folder = hls
    content = (folder / name).read_bytes()
    (folder / name).unlink()
    if harm != "remove":
        (folder / name).write_bytes(content[: len(content) // 2 if harm == "cut" else 0])
    ladder = Package("hls", 4.0)
    what = package._prepare(context).ladder
    with pytest.raises(TaskFailed, match="the package is broken"):
        package.verify(context, ladder, folder, what)
