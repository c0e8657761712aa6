from __future__ import annotations

from pathlib import Path

import pytest

from backoffice.media import truncation
from tests.clips import ffmpeg

PICTURE = ("-f", "lavfi", "-i", "testsrc2=s=160x90:r=25:d=2")
SOUND = ("-f", "lavfi", "-i", "sine=d=2:sample_rate=48000")
CODECS = {
    "mkv": ("-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac"),
    "webm": ("-c:v", "libvpx", "-deadline", "realtime", "-c:a", "libopus"),
    "mxf": ("-c:v", "mpeg2video", "-c:a", "pcm_s16le", "-ac", "1"),
    "mp4": ("-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac"),
    "avi": ("-c:v", "mpeg4", "-c:a", "mp2"),
}


def clip(folder: Path, ending: str) -> Path:
    path = folder / f"clip.{ending}"
    ffmpeg(*PICTURE, *SOUND, *CODECS[ending], str(path))
    return path


@pytest.mark.parametrize("ending", CODECS)
def test_a_whole_file_lacks_nothing_and_half_of_it_says_so(tmp_path: Path, ending: str) -> None:
    path = clip(tmp_path, ending)
    assert truncation.missing(path) == ""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    told = truncation.missing(path)
    assert told.endswith(f"bytes declared, {len(content) // 2} there")


@pytest.mark.parametrize("ending", CODECS)
def test_the_first_bytes_of_a_file_are_no_proof_and_no_fault(tmp_path: Path, ending: str) -> None:
    path = clip(tmp_path, ending)
    content = path.read_bytes()
    for size in (1, 4, 13, 17, 20, 41):
        path.write_bytes(content[:size])
        truncation.missing(path)


def test_a_size_that_was_not_known_is_none(tmp_path: Path) -> None:
    """A browser's recording, or what was written to a pipe."""
    path = tmp_path / "live.mkv"
    ffmpeg(*PICTURE, *CODECS["mkv"][:4], "-live", "1", str(path))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert truncation.missing(path) == ""


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0xFFFFFFBF, 0x7FFFF024, 0x80000000])
def test_a_size_of_all_that_fits_is_none_either(tmp_path: Path, size: int) -> None:
    """WAV that was written to a pipe, with the sizes of some headers added or taken away."""
    path = tmp_path / "piped.wav"
    ffmpeg(*SOUND, str(path))
    content = path.read_bytes()
    path.write_bytes(content[:4] + size.to_bytes(4, "little") + content[8:])
    assert truncation.missing(path) == ""
