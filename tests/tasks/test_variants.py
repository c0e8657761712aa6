"""Several profiles out of one decoding: the same as each by itself."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from backoffice.errors import TaskFailed
from backoffice.media import ffmpeg
from backoffice.tasks import Output, Source, package, transcode
from tests import measure, playlists
from tests.clips import Clips
from tests.tasks.context import FakeContext, make_context, settings
from tests.tones import heard

RUNGS = ("mp4-360", "mp4-540")
PICTURE = {"only": "picture"}


def together(folder: Path, path: Path, *profiles: str, **parameters: str) -> FakeContext:
    context = make_context(folder, path)
    context.variants = [{"profile": name, **parameters} for name in profiles]
    return context


def packaged(folder: Path, outputs: Sequence[Output]) -> Path:
    """The master playlist of an HLS package of these renditions."""
    folder.mkdir()
    context = make_context(folder, profile="hls-ladder")
    context.sources = [
        Source(role=one.role, path=one.path, name=one.path.name, facts=one.facts) for one in outputs
    ]
    return package.run(context).outputs[0].path


def structure(master: Path) -> list[Any]:
    """Of each rung: its name, size, and how long each of its segments is."""
    return [
        (rung.path.name, attributes["RESOLUTION"], [one.seconds for one in rung.segments])
        for attributes, rung in playlists.master(master).variants
    ]


def frames(path: Path) -> list[dict[str, Any]]:
    command = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-of", "json"]
    command += ["-show_entries", "frame=pts_time,key_frame,width,height", str(path)]
    done = subprocess.run(command, check=True, capture_output=True)
    return list(json.loads(done.stdout)["frames"])


def test_rungs_are_the_same_as_if_each_were_encoded_by_itself(tmp_path: Path, clips: Clips) -> None:
    source = clips["ladder.mp4"]
    apart = []
    for name in RUNGS:
        folder = tmp_path / name
        folder.mkdir()
        apart += transcode.run(make_context(folder, source, profile=name, **PICTURE)).outputs
    context = together(tmp_path, source, *RUNGS, **PICTURE)
    result = transcode.run(context)
    assert [one.path.name for one in result.outputs] == [one.path.name for one in apart]
    assert [frames(one.path) for one in result.outputs] == [frames(one.path) for one in apart]
    one, other = packaged(tmp_path / "one", result.outputs), packaged(tmp_path / "other", apart)
    assert structure(one) == structure(other)
    assert [size for _, size, _ in structure(one)] == ["768x432", "640x360"]


def test_the_source_is_decoded_once(tmp_path: Path, clips: Clips) -> None:
    context = together(tmp_path, clips["plain.mp4"], *RUNGS)
    result = transcode.run(context)
    (command,) = context.commands
    assert command.count("-i") == 1
    assert len(result.outputs) == 2
    assert sorted(context.folder.iterdir()) == sorted(one.path for one in result.outputs)
    profiles = [one["profile"] for one in result.report["variants"]]
    assert profiles == list(RUNGS)
    assert context.fractions[-1] == 1.0


def test_fields_are_made_whole_once_for_those_of_the_same_frames(
    tmp_path: Path, clips: Clips
) -> None:
    """The proxy has a frame of each two fields, the others one of each."""
    context = together(tmp_path, clips["top-first.mkv"], *RUNGS, "proxy", **PICTURE)
    outputs = transcode.run(context).outputs
    assert " ".join(context.commands[0]).count("bwdif") == 2
    for made, rate in zip(outputs, (50.0, 50.0, 25.0), strict=True):
        (video,) = ffmpeg.probe(made.path, settings(tmp_path))["video"]
        assert video["frame_rate"] == rate
        places = measure.bars(made.path)[2:-2]
        assert all(abs(above - below) < 1.5 for above, below in places), "combed"


def test_each_has_its_sound(tmp_path: Path, clips: Clips) -> None:
    """Joined of mono tracks, once a variant."""
    context = together(tmp_path, clips["mono-tracks.mxf"], *RUNGS)
    for made in transcode.run(context).outputs:
        assert heard(made.path, 400, 1000) == [{400}, {1000}]


def test_a_picture_and_sound_alone(tmp_path: Path, clips: Clips) -> None:
    """Of which one measures the loudness first."""
    context = together(tmp_path, clips["surround.mp4"], "mp4-360", "audio-aac", "hls-ladder")
    result = transcode.run(context)
    assert [one.role for one in result.outputs] == ["rendition", "audio", "package"]
    assert len(context.commands) == 2
    kinds = [(len(o.facts["video"]), len(o.facts["audio"])) for o in result.outputs]
    assert kinds[:2] == [(1, 1), (0, 1)]
    assert [one.get("loudness") is None for one in result.report["variants"]] == [
        True,
        False,
        True,
    ]


def test_a_fault_that_is_tolerated_is_told_once(tmp_path: Path, clips: Clips) -> None:
    context = together(tmp_path, clips["truncated.mp4"], *RUNGS, **PICTURE, damage="tolerate")
    result = transcode.run(context)
    (warning,) = [said for said in result.warnings if "came out" in said]
    assert warning.startswith("truncated.mp4 lasts 4.0 s, and only ")
    lengths = {one.facts["duration"] for one in result.outputs}
    assert len(lengths) == 1
    assert lengths.pop() < 3.5


def test_a_fault_that_is_not_leaves_nothing(tmp_path: Path, clips: Clips) -> None:
    with pytest.raises(TaskFailed, match="truncated"):
        transcode.run(together(tmp_path, clips["truncated.mp4"], *RUNGS, **PICTURE))


def test_one_profile_cannot_be_made_twice(tmp_path: Path, clips: Clips) -> None:
    with pytest.raises(TaskFailed, match="the same profile"):
        transcode.run(together(tmp_path, clips["plain.mp4"], "mp4-360", "mp4-360"))


def test_the_plan_is_what_runs(tmp_path: Path, clips: Clips) -> None:
    context = together(tmp_path, clips["plain.mp4"], *RUNGS)
    planned = transcode.plan(context)
    result = transcode.run(context)
    assert [one.path for one in planned.outputs] == [one.path for one in result.outputs]
    names = {f"partial-{name}": f"plain-{name}" for name in RUNGS}
    ran = " ".join(context.commands[0])
    for partial, name in names.items():
        ran = ran.replace(partial, name)
    assert ran == " ".join(planned.commands[0])
