"""Sources with faults: refused by default, taken as they are where that is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from backoffice.errors import TaskFailed
from backoffice.tasks import probe, quality, transcode
from tests.clips import Clips, ffmpeg
from tests.tasks.context import make_context

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
