"""Colours, shapes and moments, measured on what comes out of encoding and of stills."""

from __future__ import annotations

import re
import struct
import subprocess
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from backoffice.errors import TaskFailed
from backoffice.media import ffmpeg as media
from backoffice.tasks import package, thumbnails, transcode
from tests import colours
from tests.clips import Clips, ffmpeg
from tests.colours import COLOURS, TOLD, seen
from tests.tasks.context import FakeContext, make_context

BT709 = {"range": "tv", "matrix": "bt709", "transfer": "bt709", "primaries": "bt709"}
HDR = [name for name in TOLD if name.startswith(("pq", "hlg"))]
WHITE = COLOURS.index((255, 255, 255))


class Told:
    """``told["rgb.mp4"]`` is the path of a clip of the known colours."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __getitem__(self, name: str) -> Path:
        path = self.folder / name
        if not path.exists():
            getattr(self, "_" + re.sub(r"\W", "_", path.stem), self._generate)(path)
        return path

    def _generate(self, path: Path) -> None:
        ffmpeg(*TOLD[path.name], str(path))

    def _hevc_pq(self, path: Path) -> None:
        tags = colours.tags("bt2020nc", "smpte2084", "bt2020")
        x265 = ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error"]
        ffmpeg("-i", str(self["pq.mp4"]), *x265, *tags, "-tag:v", "hvc1", str(path))

    def _hdr10(self, path: Path) -> None:
        mastering = path.with_name("mastering.mp4")
        colours.with_box(self["hevc-pq.mp4"], mastering, b"mdcv", colours.MASTERING)
        colours.with_box(mastering, path, b"clli", colours.LIGHT)

    def _dolby_5(self, path: Path) -> None:
        colours.with_box(self["hdr10.mp4"], path, b"dvcC", colours.dolby_vision(5, 0))

    def _dolby_8(self, path: Path) -> None:
        colours.with_box(self["hdr10.mp4"], path, b"dvvC", colours.dolby_vision(8, 1))


@pytest.fixture(scope="session")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    return Told(tmp_path_factory.mktemp("told"))


def encode(folder: Path, source: Path, profile: str) -> tuple[FakeContext, Path]:
    context = make_context(folder, source, profile=profile)
    (output,) = transcode.run(context).outputs
    return context, output.path


def same(found: list[tuple[int, int, int]], *, hdr: bool = False) -> None:
    """Within 3 of 255; white of HDR within 5 %, below which its highlights roll off."""
    for number, (got, wanted) in enumerate(zip(found, COLOURS, strict=True)):
        near = 0.05 * 255 if hdr and number == WHITE else 3
        # What eight or ten bits of PQ hold of a dark red in a bright green.
        near = 11 if hdr and number == 0 else near
        assert all(abs(a - b) <= near for a, b in zip(got, wanted, strict=True)), found


# BT.709 from every source


@pytest.mark.parametrize("name", [n for n in TOLD if not n.startswith("gray")])
def test_every_source_becomes_the_same_colours_in_bt709(
    tmp_path: Path, told: Told, name: str
) -> None:
    context, made = encode(tmp_path, told[name], "mp4-720")
    (video,) = media.probe(made, context.settings)["video"]
    assert (video["colour"], video["pixel_format"]) == (BT709, "yuv420p")
    same(seen(made), hdr=name in HDR)


@pytest.mark.parametrize("name", [n for n in TOLD if n.startswith("gray")])
def test_grey_stays_neutral_and_white_stays_white(tmp_path: Path, told: Told, name: str) -> None:
    _, made = encode(tmp_path, told[name], "mp4-720")
    for got, wanted in zip(seen(made)[2:], COLOURS[2:], strict=True):
        assert max(abs(a - b) for a, b in zip(got, wanted, strict=True)) <= 2


@pytest.mark.parametrize(
    "name",
    (
        "untagged-hd.mp4 untagged-sd.mp4 709-sd.mp4 170m-hd.mp4 240m.mp4 full-709.mp4"
        " mjpeg-hd.avi rgb.mp4 422-10.mp4 2020.mp4 pq.mp4 hlg.mp4"
    ).split(),
)
def test_stills_show_the_colours_of_the_source(tmp_path: Path, told: Told, name: str) -> None:
    result = thumbnails.run(make_context(tmp_path, told[name]))
    for still in result.outputs[:3]:
        same(seen(still.path), hdr=name in HDR)


@pytest.mark.parametrize("name", ["untagged-hd.mp4", "rgb.mp4", "pq.mp4"])
def test_a_sprite_shows_the_colours_of_the_source(tmp_path: Path, told: Told, name: str) -> None:
    result = thumbnails.run(make_context(tmp_path, told[name]))
    same(seen(result.outputs[3].path), hdr=name in HDR)


@pytest.mark.parametrize("name", ["170m", "pq"])
def test_all_rungs_of_a_ladder_have_the_same_colours(tmp_path: Path, name: str) -> None:
    source = tmp_path / "source.mp4"
    recipe = {
        "170m": (colours.yuv("bt601"), colours.tags("smpte170m")),
        "pq": (colours.light("bt2020nc", "smpte2084", "bt2020"), ()),
    }
    filters, tags = recipe[name]
    ffmpeg(*colours.clip("640x360", filters, *colours.X264, *tags), str(source))
    _, master = encode(tmp_path, source, "hls-ladder")
    rungs = re.findall(r"^(\w+)\.m3u8$", master.read_text(), re.M)
    assert len(rungs) == 2
    assert master.read_text().count("VIDEO-RANGE=SDR") == 4
    for rung in rungs:
        same(seen(master.parent / f"{rung}.m3u8"), hdr=name == "pq")


# HDR


def test_light_rolls_off_and_stays_neutral_up_to_the_brightest(tmp_path: Path) -> None:
    """A ramp over all of PQ, from 0 to 10 000 cd/m²."""
    source = tmp_path / "ramp.mkv"
    ramp = "nullsrc=s=256x32:r=25:d=0.2,format=yuv444p10le,geq=lum=64+876*X/255:cb=512:cr=512"
    tags = colours.tags("bt2020nc", "smpte2084", "bt2020")
    ffmpeg("-f", "lavfi", "-i", ramp, *colours.FFV1, *tags, str(source))
    _, made = encode(tmp_path, source, "mp4-720")
    luma, *chroma = planes(made)
    middle = luma[16 * 256 : 17 * 256]
    assert all(after >= before - 2 for before, after in pairwise(middle))
    assert all(abs(value - 128) <= 2 for plane in chroma for value in plane)
    white, bright = 0.5807, 0.7518  # PQ of 203 and 1000 cd/m²
    assert middle[round(white * 255)] < middle[round(bright * 255)] <= 235
    assert max(middle) <= 236


def planes(path: Path) -> tuple[bytes, bytes, bytes]:
    """Of the first picture, 256 × 32 in 8 bits 4:2:0."""
    argv = ["ffmpeg", "-v", "error", "-i", str(path), "-frames:v", "1", "-f", "rawvideo", "-"]
    data = subprocess.run(argv, check=True, capture_output=True).stdout
    assert len(data) == 256 * 32 * 3 // 2
    return data[:8192], data[8192:10240], data[10240:]


def test_what_was_tone_mapped_says_nothing_of_hdr(tmp_path: Path, told: Told) -> None:
    context, made = encode(tmp_path, told["hdr10.mp4"], "mp4-720")
    argv = ["ffprobe", "-v", "error", "-show_streams", "-show_frames", str(made)]
    answer = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    assert "Mastering" not in answer
    assert "Content light" not in answer
    context.fence()


def test_the_report_tells_that_tones_were_mapped(tmp_path: Path, told: Told) -> None:
    result = transcode.run(make_context(tmp_path, told["hlg.mp4"], profile="mp4-720"))
    assert result.report["colour"] == "HLG was tone-mapped to SDR"


def test_hdr_that_is_kept_has_its_values_tags_and_metadata(tmp_path: Path, told: Told) -> None:
    context, made = encode(tmp_path, told["hdr10.mp4"], "hevc-hdr")
    source = context.sources[0].facts["video"][0]
    (video,) = media.probe(made, context.settings)["video"]
    assert (video["codec"], video["profile"]) == ("hevc", "Main 10")
    assert video["pixel_format"] == "yuv420p10le"
    assert video["colour"] == source["colour"]
    assert video["mastering"] == source["mastering"] != ""
    assert video["content_light"] == source["content_light"] == "1000,400"
    argv = ["ffprobe", "-v", "error", "-show_frames", str(made)]
    frames = subprocess.run(argv, capture_output=True, text=True).stdout
    assert "side_data_type=Mastering display metadata" in frames
    assert "side_data_type=Content light level metadata" in frames
    before, after = ten_bits(told["hdr10.mp4"]), ten_bits(made)
    assert all(abs(a - b) <= 8 for a, b in zip(before, after, strict=True))


def ten_bits(path: Path) -> list[int]:
    """The luma of the four colours."""
    argv = ["ffmpeg", "-v", "error", "-i", str(path), "-frames:v", "1"]
    argv += ["-pix_fmt", "yuv420p10le", "-f", "rawvideo", "-"]
    data = subprocess.run(argv, check=True, capture_output=True).stdout
    places = [90 * 320 + 320 * (2 * n + 1) // 8 for n in range(4)]
    return [struct.unpack_from("<H", data, 2 * place)[0] for place in places]


@pytest.mark.parametrize(("name", "range"), [("pq.mp4", "PQ"), ("hlg.mp4", "HLG")])
def test_a_master_of_hdr_says_so(tmp_path: Path, told: Told, name: str, range: str) -> None:
    _, master = encode(tmp_path, told[name], "hls-hdr")
    check_master(master, range)


def test_a_package_says_the_range_of_its_renditions(tmp_path: Path, told: Told) -> None:
    _, made = encode(tmp_path, told["pq.mp4"], "hevc-hdr")
    folder = tmp_path / "package"
    folder.mkdir()
    result = package.run(make_context(folder, made, profile="hls-ladder"))
    check_master(result.outputs[0].path, "PQ")


def check_master(master: Path, range: str) -> None:
    text = master.read_text()
    assert re.findall(r"VIDEO-RANGE=(\w+)", text) == [range, range]
    # Main 10: profile 2, compatible with it alone. The level is in thirds of a tenth.
    levels = re.findall(r'CODECS="hvc1\.2\.4\.[LH](\d+)\.90"', text)
    assert len(levels) == 2
    argv = ["ffprobe", "-v", "error", "-show_entries", "stream=profile,level"]
    answer = subprocess.run([*argv, str(master)], capture_output=True, text=True).stdout
    assert "profile=Main 10" in answer
    assert f"level={levels[0]}\n" in answer


def test_a_source_that_is_not_hdr_becomes_bt709_where_hdr_is_kept(
    tmp_path: Path, told: Told
) -> None:
    context, made = encode(tmp_path, told["170m-hd.mp4"], "hevc-hdr")
    (video,) = media.probe(made, context.settings)["video"]
    assert (video["colour"], video["pixel_format"]) == (BT709, "yuv420p10le")
    same(seen(made))


def test_dolby_vision_without_a_base_is_refused(tmp_path: Path, told: Told) -> None:
    context = make_context(tmp_path, told["dolby-5.mp4"], profile="mp4-720")
    for task in (transcode, thumbnails):
        with pytest.raises(TaskFailed, match="Dolby Vision of profile 5") as caught:
            task.run(context)
        assert not caught.value.retry


def test_dolby_vision_with_a_base_is_taken_for_it(tmp_path: Path, told: Told) -> None:
    _, made = encode(tmp_path, told["dolby-8.mp4"], "mp4-720")
    same(seen(made), hdr=True)


# Alpha


@pytest.mark.parametrize(
    ("name", "filters", "encoder"),
    [
        ("alpha.mov", "format=yuva444p10le", ("-c:v", "prores_ks", "-profile:v", "4444")),
        ("alpha.mkv", "format=yuva420p", colours.FFV1),
        ("alpha-rgb.mov", "format=rgba", ("-c:v", "qtrle")),
        ("alpha-png.mov", "format=rgba", ("-c:v", "png")),
        ("alpha-9.webm", "format=yuva420p", ("-c:v", "libvpx-vp9", "-deadline", "realtime")),
        ("alpha-8.webm", "format=yuva420p", ("-c:v", "libvpx", "-auto-alt-ref", "0")),
    ],
)
def test_what_is_transparent_is_put_on_black_and_told(
    tmp_path: Path, name: str, filters: str, encoder: tuple[str, ...]
) -> None:
    """White; the right half transparent, its third quarter half so."""
    source = tmp_path / name
    white = "color=white:s=320x180:r=25:d=0.2,format=gbrap,geq=r=255:g=255:b=255"
    alpha = f"{white}:a='if(lt(X,160),255,if(lt(X,240),128,0))',{filters}"
    ffmpeg("-f", "lavfi", "-i", alpha, *encoder, str(source))
    context = make_context(tmp_path, source, profile="mp4-720")
    result = transcode.run(context)
    assert [round(pixel[0] / 64) for pixel in seen(result.outputs[0].path)] == [4, 4, 2, 0]
    stills = thumbnails.run(replace(context, folder=_folder(tmp_path)))
    assert [round(pixel[0] / 64) for pixel in seen(stills.outputs[0].path)] == [4, 4, 2, 0]
    assert stills.warnings == result.warnings
    assert result.warnings == [f"{name} has an alpha channel; what is transparent was put on black"]


def _folder(parent: Path) -> Path:
    folder = parent / "stills"
    folder.mkdir()
    return folder


# Changes of shape


def join(folder: Path, *parts: str) -> Path:
    """A transport stream of parts of a second each; given as size and display shape."""
    whole = b""
    for number, part in enumerate(parts):
        size, shape = part.split(" ")
        path = folder / f"part-{number}.ts"
        white = f"color=white:s={size}:r=25:d=1"
        encoder = ["-c:v", "mpeg2video", "-q:v", "4", "-g", "12", "-aspect", shape]
        ffmpeg("-f", "lavfi", "-i", white, *encoder, "-output_ts_offset", str(number), str(path))
        whole += path.read_bytes()
    path = folder / "source.ts"
    path.write_bytes(whole)
    return path


def white_share(path: Path, at: float) -> tuple[float, float]:
    """How much of the middle row and of the middle column is white."""
    width, height = colours.size(path)
    argv = ["ffmpeg", "-v", "error", "-i", str(path), "-ss", str(at), "-frames:v", "1"]
    argv += ["-pix_fmt", "gray", "-f", "rawvideo", "-"]
    data = subprocess.run(argv, check=True, capture_output=True).stdout
    row = data[height // 2 * width : (height // 2 + 1) * width]
    column = data[width // 2 :: width]
    return sum(v > 128 for v in row) / width, sum(v > 128 for v in column) / height


@pytest.mark.parametrize(
    ("parts", "moments", "row", "column"),
    [
        (("352x288 4:3", "352x288 16:9"), [1.0], 1.0, 0.75),
        (("352x288 16:9", "352x288 4:3"), [1.0], 0.75, 1.0),
        (("320x240 4:3", "480x270 16:9"), [1.0], 1.0, 0.75),
        (("352x288 4:3", "352x288 16:9", "352x288 4:3", "352x288 16:9"), [1.0, 3.0], 1.0, 0.75),
        (("320x240 4:3", "160x120 4:3"), [], 1.0, 1.0),
    ],
)
@pytest.mark.parametrize("profile", ["mp4-720", "hls-ladder"])
def test_a_change_of_shape_gets_bars_and_is_told(
    tmp_path: Path,
    parts: tuple[str, ...],
    moments: list[float],
    row: float,
    column: float,
    profile: str,
) -> None:
    context = make_context(tmp_path, join(tmp_path, *parts), profile=profile)
    result = transcode.run(context)
    made = result.outputs[0].path
    if profile == "hls-ladder":
        made = next(path for path in made.parent.glob("*p.m3u8"))
    assert white_share(made, 0.4) == pytest.approx((1, 1), abs=0.02)
    assert white_share(made, 1.6) == pytest.approx((row, column), abs=0.03)
    found = [re.findall(r"[\d.]+(?=,| s;)", warning) for warning in result.warnings]
    assert [float(at) for times in found for at in times] == pytest.approx(moments, abs=0.08)


@pytest.mark.parametrize(
    "name",
    ["plain.mp4", "portrait.mp4", "rotated.mp4", "anamorphic.mp4", "odd.mkv", "interlaced.mp4"],
)
def test_a_picture_of_one_shape_fills_its_frame(tmp_path: Path, clips: Clips, name: str) -> None:
    """The test pictures are bright at all four edges."""
    context = make_context(tmp_path, clips[name], profile="mp4-720")
    result = transcode.run(context)
    assert result.warnings == []
    assert bars_of(result.outputs[0].path) == 0


def bars_of(path: Path) -> int:
    """Rows and columns at the edges of the first picture that are black."""
    argv = ["ffmpeg", "-v", "info", "-i", str(path), "-vf", "cropdetect=limit=20:round=2:skip=0"]
    argv += ["-frames:v", "5", "-f", "null", "-"]
    found = re.findall(
        r"crop=(\d+):(\d+)", subprocess.run(argv, capture_output=True, text=True).stderr
    )
    width, height = colours.size(path)
    return width - int(found[-1][0]) + height - int(found[-1][1])


def test_a_sprite_and_stills_of_a_source_that_changes_its_shape(tmp_path: Path) -> None:
    source = join(tmp_path, "320x240 4:3", "480x270 16:9", "320x240 4:3", "240x240 1:1")
    result = thumbnails.run(make_context(tmp_path, source))
    assert colours.size(result.outputs[1].path) == (320, 240)
    assert result.report["tiles"] == 4
    tiles = [white_of_tile(result.outputs[3].path, n) for n in range(4)]
    wanted = [(120, 90), (120, 68), (120, 90), (90, 90)]
    for tile, size in zip(tiles, wanted, strict=True):
        assert tile == pytest.approx(size, abs=3)


def white_of_tile(sprite: Path, number: int) -> tuple[int, int]:
    """Pixels of its middle row and of its middle column that are white."""
    data, width = grey(sprite)
    left, top = number % 10 * 160, number // 10 * 90
    row = data[(top + 45) * width + left : (top + 45) * width + left + 160]
    column = [data[(top + y) * width + left + 79] for y in range(90)]
    return sum(v > 128 for v in row), sum(v > 128 for v in column)


def grey(path: Path) -> tuple[bytes, int]:
    """The luma of a JPEG, 0 to 255, and its width."""
    argv = ["ffmpeg", "-v", "error", "-i", str(path), "-vf", "extractplanes=y"]
    argv += ["-f", "rawvideo", "-"]
    data = subprocess.run(argv, check=True, capture_output=True).stdout
    return data, colours.size(path)[0]


@pytest.mark.parametrize(
    ("name", "tile"),
    [
        ("portrait", ("180x320", "1", (50, 90))),
        ("anamorphic", ("360x288", "64/45", (160, 90))),
        ("wide", ("1000x40", "1", (160, 6))),
        ("tall", ("16x640", "1", (2, 90))),
    ],
)
def test_a_tile_holds_the_whole_picture_in_its_shape(
    tmp_path: Path, name: str, tile: tuple[str, str, tuple[int, int]]
) -> None:
    size, pixels, wanted = tile
    source = tmp_path / f"{name}.mp4"
    white = f"color=white:s={size}:r=25:d=1,setsar={pixels}"
    ffmpeg("-f", "lavfi", "-i", white, *colours.X264, "-pix_fmt", "yuv420p", str(source))
    result = thumbnails.run(make_context(tmp_path, source))
    assert white_of_tile(result.outputs[3].path, 0) == pytest.approx(wanted, abs=2)


# Moments of a sprite


@pytest.mark.parametrize(
    ("keyframes", "decodings"), [(99999, 2), (2, 1), (7, 2)], ids=["one", "each second", "rare"]
)
def test_each_tile_of_a_long_source_shows_its_own_moment(
    tmp_path: Path, keyframes: int, decodings: int
) -> None:
    """130 s of two pictures a second; each two seconds they get brighter by 3."""
    source = tmp_path / "long.mp4"
    steps = "nullsrc=s=64x36:r=2:d=130,format=yuv420p,geq=lum=16+3*floor(T/2):cb=128:cr=128"
    encoder = [*colours.X264, "-g", str(keyframes), "-keyint_min", str(min(keyframes, 9))]
    ffmpeg("-f", "lavfi", "-i", steps, *encoder, "-sc_threshold", "0", str(source))
    context = make_context(tmp_path, source)
    result = thumbnails.run(context)
    assert len(context.commands) == 3 + decodings
    data, width = grey(result.outputs[3].path)
    tiles = [data[(n // 10 * 90 + 45) * width + n % 10 * 160 + 80] for n in range(65)]
    wanted = [3 * n * 255 / 219 for n in range(65)]
    assert tiles == pytest.approx(wanted, abs=2)


# Changes within a stream


SDR_THEN = {
    "sdr": ("bt709", "bt709", "bt709"),
    "pq": ("bt2020nc", "smpte2084", "bt2020"),
    "hlg": ("bt2020nc", "arib-std-b67", "bt2020"),
}


def one_after_the_other(folder: Path, *kinds: str, suffix: str = ".ts") -> Path:
    """A second of each kind, in 10 bits, as one stream."""
    joined, path = folder / "joined.ts", folder / f"changes{suffix}"
    with joined.open("wb") as stream:
        for number, kind in enumerate(kinds):
            part = folder / "part.ts"
            ffmpeg(
                *"-f lavfi -i color=gray:size=160x90:rate=25:duration=1".split(),
                "-pix_fmt",
                "yuv420p10le",
                *colours.tags(*SDR_THEN[kind]),
                "-c:v",
                "libx265",
                *"-preset ultrafast -x265-params log-level=error".split(),
                "-output_ts_offset",
                str(number),
                str(part),
            )
            stream.write(part.read_bytes())
    ffmpeg("-i", str(joined), "-c", "copy", str(path))
    return path


@pytest.mark.parametrize("task", [transcode, thumbnails])
@pytest.mark.parametrize(
    ("kinds", "suffix"),
    [(("sdr", "pq"), ".ts"), (("hlg", "sdr"), ".mp4"), (("sdr", "sdr", "pq", "sdr"), ".ts")],
)
def test_a_change_between_sdr_and_hdr_is_refused_with_its_moment(
    tmp_path: Path, task: Any, kinds: tuple[str, ...], suffix: str
) -> None:
    source = one_after_the_other(tmp_path, *kinds, suffix=suffix)
    old, new = (r"HLG \(BT.2020\)", r"\w+ \(BT.709\)")
    if kinds[0] == "sdr":
        old, new = (r"SDR \(BT.709\)", r"PQ \(BT.2020\)")
    reason = rf"changes from {old} to {new} at ([\d.]+) s, which cannot be followed; cut it there"
    with pytest.raises(TaskFailed, match=reason) as failed:
        task.run(make_context(tmp_path, source, profile="mp4-360"))
    moment = float(re.findall(reason, str(failed.value))[0])
    assert moment == pytest.approx(len(kinds) // 2, abs=0.15)


def test_what_stays_the_same_is_no_change(tmp_path: Path) -> None:
    source = one_after_the_other(tmp_path, "pq", "pq")
    assert transcode.run(make_context(tmp_path, source, profile="mp4-360")).warnings == []


def test_a_change_of_matrix_and_size_is_told(tmp_path: Path) -> None:
    """As broadcasts switch between standard and high definition."""
    source = tmp_path / "switched.ts"
    with source.open("wb") as stream:
        for number, (size, matrix) in enumerate((("256x144", "bt470bg"), ("320x180", "bt709"))):
            part = tmp_path / "part.ts"
            ffmpeg(
                "-f",
                "lavfi",
                "-i",
                f"color=gray:size={size}:rate=25:duration=1",
                "-c:v",
                "libx264",
                "-preset",
                "ultrafast",
                *colours.tags(matrix, "bt709", "bt709"),
                "-pix_fmt",
                "yuv420p",
                "-output_ts_offset",
                str(number),
                str(part),
            )
            stream.write(part.read_bytes())
    (warning,) = transcode.run(make_context(tmp_path, source, profile="mp4-360")).warnings
    said = r"from BT\.601 \(limited range\) to BT\.709 \(limited range\) at (1\.0|0\.9) s"
    assert re.search(said, warning)


def test_a_long_file_is_looked_at_in_many_places() -> None:
    _, places = media._windows(10.0, 7200.0)
    assert places.split(",")[::119] == ["10.000%+3", "7150.000%+3"]
    assert media._windows(0.0, 300.0) == []
