"""Gaps, jumps of the clock and edits: sound and picture stay together after them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from backoffice.errors import TaskFailed
from backoffice.media import mp4, timeline
from backoffice.tasks import probe, quality, subtitles, thumbnails, transcode
from tests.clips import Clips, ffmpeg
from tests.measure import beeps, flashes
from tests.tasks.context import make_context

IN_STEP = 0.04  # seconds
# Of the sources: a flash and a beep at each second, for 4 s.
Maker = Callable[[Clips, Path], object]


def changed(name: str, *filters: str) -> Maker:
    """A copy of a clip whose packets went through ``filters``."""

    def make(clips: Clips, path: Path) -> None:
        ffmpeg("-i", str(clips[name]), "-map", "0", "-c", "copy", *filters, str(path))

    return make


def jump(stream: str, seconds: float) -> tuple[str, str]:
    return f"-bsf:{stream}", f"setts=ts='TS+gte(TS*TB,1.5)*{seconds}/TB'"


def joined(offset: int) -> Maker:
    """Twice the same, the second with a clock that is so many seconds ahead."""

    def make(clips: Clips, path: Path) -> None:
        again = path.with_name("again.ts")
        ffmpeg(
            "-i",
            str(clips["step.ts"]),
            *"-map 0 -c copy".split(),
            "-output_ts_offset",
            str(offset),
            str(again),
        )
        path.write_bytes(clips["step.ts"].read_bytes() + again.read_bytes())

    return make


def edited(handler: bytes, edits: Sequence[tuple[float, float]]) -> Maker:
    """With an edit list for the track: seconds to show, and from which; -1 shows nothing."""

    def make(clips: Clips, path: Path) -> None:
        data = bytearray(clips["step.mp4"].read_bytes())
        index = mp4.find(data, b"moov")
        assert index.end == len(data), "nothing after it must move"
        scale = struct.unpack_from(">I", data, mp4.find(data, b"moov", b"mvhd").start + 12)[0]
        for track in [b for b in mp4.boxes(data, index.start, index.end) if b.type == b"trak"]:
            inside = bytes(data[track.start : track.end])
            place = mp4.find(inside, b"mdia", b"hdlr").start + 8
            if inside[place : place + 4] == handler:
                table = mp4.find(inside, b"edts")
                made = _edit_list(inside, scale, edits)
                data[track.start + table.begin : track.start + table.end] = made
                for box in (track, index):
                    struct.pack_into(
                        ">I", data, box.begin, box.end - box.begin + len(made) - _size(table)
                    )
                break
        path.write_bytes(data)

    return make


def _size(box: mp4.Box) -> int:
    return box.end - box.begin


def _edit_list(track: bytes, scale: int, edits: Sequence[tuple[float, float]]) -> bytes:
    header = mp4.find(track, b"mdia", b"mdhd")
    (units,) = struct.unpack_from(">I", track, header.start + 12)
    (begin,) = struct.unpack_from(">i", track, mp4.find(track, b"edts", b"elst").start + 12)
    rows = b"".join(
        struct.pack(
            ">IiI", round(length * scale), -1 if at < 0 else begin + round(at * units), 1 << 16
        )
        for length, at in edits
    )
    table = struct.pack(">I4sII", 16 + len(rows), b"elst", 0, len(edits)) + rows
    return struct.pack(">I4s", 8 + len(table), b"edts") + table


ALL = [0, 1, 2, 3]
TWICE = [0, 1, 2, 3, 4, 5, 6, 7]
# file → how it is made, when it flashes, when it beeps
SOURCES: dict[str, tuple[Maker, list[float], list[float]]] = {
    "no-sound-for-1.2-s.ts": (
        changed("step.ts", "-bsf:a", "noise=drop='between(pts*tb,0.7,1.9)'"),
        ALL,
        [0, 2, 3],
    ),
    "no-sound-for-1.2-s.mp4": (
        changed("step.mp4", "-bsf:a", "noise=drop='between(pts*tb,0.7,1.9)'"),
        ALL,
        [0, 2, 3],
    ),
    "no-sound-for-80-ms.mp4": (
        changed("step.mp4", "-bsf:a", "noise=drop='between(pts*tb,0.5,0.58)'"),
        ALL,
        ALL,
    ),
    "no-picture-for-2-s.ts": (
        changed("step.ts", "-bsf:v", "noise=drop='between(pts*tb,0.8,2.7)'"),
        [0, 3],
        ALL,
    ),
    "picture-jumps-2-s.mp4": (changed("step.mp4", *jump("v", 2)), [0, 1, 4, 5], ALL),
    "sound-jumps-3-s.mp4": (changed("step.mp4", *jump("a", 3)), ALL, [0, 1, 5, 6]),
    "both-jump-3-s.mp4": (
        changed("step.mp4", *jump("v", 3), *jump("a", 3)),
        [0, 1, 5, 6],
        [0, 1, 5, 6],
    ),
    "picture-jumps-15-s.ts": (changed("step.ts", *jump("v", 15)), [0, 1, 17, 18], ALL),
    "sound-jumps-15-s.ts": (changed("step.ts", *jump("a", 15)), ALL, [0, 1, 17, 18]),
    "joined-0.ts": (joined(0), TWICE, TWICE),
    "joined-100.ts": (joined(100), TWICE, TWICE),
    "sound-edit.mp4": (
        edited(b"soun", [(0.7, 0), (1.2, -1), (2.1, 1.9)]),
        ALL,
        [0, 2, 3],
    ),
    "picture-edit.mp4": (
        edited(b"vide", [(0.8, 0), (2.0, -1), (1.2, 2.8)]),
        [0, 3],
        ALL,
    ),
}


COPIED = [
    "no-sound-for-1.2-s.ts",
    "no-sound-for-1.2-s.mp4",
    "picture-jumps-2-s.mp4",
    "sound-jumps-15-s.ts",
    "joined-100.ts",
    "sound-edit.mp4",
]


@pytest.fixture(scope="module")
def sources(clips: Clips, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("timelines")

    def made(name: str) -> Path:
        path = folder / name
        if not path.exists():
            SOURCES[name][0](clips, path)
        return path

    return made


def check_times(found: Sequence[float], wanted: Sequence[float]) -> None:
    assert [round(one) for one in found] == wanted, found
    assert all(abs(one - moment) < 0.06 for one, moment in zip(found, wanted, strict=True)), found


def check_in_step(lights: Sequence[float], sounds: Sequence[float]) -> None:
    pairs = [(a, b) for a in lights for b in sounds if abs(a - b) < 0.5 < a]
    assert pairs
    assert all(abs(light - sound) < IN_STEP for light, sound in pairs), pairs


@pytest.mark.parametrize(
    ("name", "profile"),
    [
        *((name, "mp4-360") for name in SOURCES),
        *((name, "hls-ladder") for name in ("no-sound-for-1.2-s.ts", "sound-jumps-15-s.ts")),
        *((name, "remux-copy") for name in COPIED),
    ],
)
def test_sound_and_picture_are_together_after_it(
    tmp_path: Path, sources: Callable[[str], Path], name: str, profile: str
) -> None:
    path = transcode.run(make_context(tmp_path, sources(name), profile=profile)).outputs[0].path
    picture, sound = path, path
    if profile == "hls-ladder":
        picture, sound = path.with_name("90p.m3u8"), path.with_name("sound.m3u8")
    lights, sounds = flashes(picture), beeps(sound)
    _, wanted_lights, wanted_sounds = SOURCES[name]
    check_times(lights, wanted_lights)
    check_times(sounds, wanted_sounds)
    check_in_step(lights, sounds)


def test_a_copy_does_not_lose_an_edit_without_picture(
    tmp_path: Path, sources: Callable[[str], Path]
) -> None:
    context = make_context(tmp_path, sources("picture-edit.mp4"), profile="remux-copy")
    with pytest.raises(TaskFailed, match="has an edit that shows no picture, which a copy loses"):
        transcode.run(context)


def test_a_sprite_shows_what_is_after_a_hole_in_its_place(
    tmp_path: Path, sources: Callable[[str], Path]
) -> None:
    """Tiles of a second; the only bright ones are those of the flashes."""
    context = make_context(tmp_path, sources("picture-jumps-15-s.ts"))
    found = thumbnails.run(context)
    assert found.report["tiles"] == 19
    assert "-dts_delta_threshold" in context.commands[-1]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("sound-jumps-15-s.ts", "has nothing in stream 1 from 1.5 to 16.5 s"),
        ("picture-jumps-15-s.ts", "has nothing in stream 0 from 1.5 to 16.5 s"),
        ("joined-0.ts", "has a clock that jumps by -4.0 s at 4.0 s; what follows is joined"),
        ("joined-100.ts", "has a clock that jumps by +96.0 s at 4.0 s; what follows is joined"),
    ],
)
def test_holes_and_jumps_are_told_and_no_damage(
    tmp_path: Path, sources: Callable[[str], Path], name: str, said: str
) -> None:
    # Where recordings are joined, the last packet of the first may be broken.
    context = make_context(tmp_path, sources(name), damage="tolerate")
    (warning, *_) = probe.run(context).warnings
    assert said in warning
    found = quality.run(context)
    length = 19 if "15" in name else 8
    assert found.report["duration"] == pytest.approx(length, abs=0.1)
    assert found.report["decoded"] == pytest.approx(length, abs=0.1)


# Which is which


def times(*runs: tuple[int, float, float]) -> timeline.Times:
    """Packets of 0.1 s of two streams: runs of a stream, from and to."""
    found = timeline.Times(0.0)
    packets = [
        (index, begin + n / 10)
        for index, begin, end in runs
        for n in range(round(10 * (end - begin)))
    ]
    for index, time in packets:
        found.note(index, time)
    return found


def test_streams_that_go_on_steadily_are_not_mentioned() -> None:
    assert times((0, 0, 30), (1, 0, 30)).facts() == {}


def test_a_hole_of_ten_seconds_is_left_to_ffmpeg() -> None:
    assert times((0, 0, 5), (0, 14, 30), (1, 0, 30)).facts() == {}


def test_one_wrong_time_is_no_hole() -> None:
    found = times((0, 0, 5), (0, 60, 60.1), (0, 5, 30), (1, 0, 30)).facts()
    assert found["holes"] == []


def test_a_stream_that_has_ended_does_not_make_a_jump_a_hole() -> None:
    assert times((0, 0, 5), (0, 65, 70), (1, 0, 5)).facts()["holes"] == []


def test_beside_a_hole_only_longer_jumps_are_closed() -> None:
    """What is closed of either is the same, so that lengths can be told."""
    clock = times(
        (0, 0, 10),
        (0, 40, 50),
        (0, 70, 80),
        (0, 170, 180),
        (1, 0, 50),
        (1, 70, 80),
        (1, 170, 180),
    ).facts()
    assert clock["holes"] == [[0, 9.9, 40.0]]
    assert clock["closed"] == {"0": 90.1, "1": 90.1}
    assert timeline.arguments({"clock": clock}) == ["-dts_delta_threshold", "32"]


def test_edits_are_told_by_the_number_of_the_track(sources: Callable[[str], Path]) -> None:
    assert mp4.empty_edits(sources("sound-edit.mp4")) == {2: [(0.7, 1.9)]}
    assert mp4.empty_edits(sources("no-sound-for-1.2-s.mp4")) == {}


# Sources


@pytest.mark.parametrize("task", [quality, subtitles])
def test_a_task_of_one_file_refuses_two(tmp_path: Path, clips: Clips, task: Any) -> None:
    clip = clips["step.mp4"]
    with pytest.raises(TaskFailed, match="test takes one file, and got 2; check the workflow"):
        task.run(make_context(tmp_path, clip, clip, probed=False))
