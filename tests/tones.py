"""What is to be heard in a file, measured on its decoded samples."""

from __future__ import annotations

import array
import math
import subprocess
from pathlib import Path

RATE = 48000


def channels(path: Path, stream: str = "0:a:0", *, count: int = 2) -> list[list[float]]:
    """The samples of each channel, between -1 and 1."""
    command = ["ffmpeg", "-v", "error", "-nostdin", "-i", str(path), "-map", stream]
    command += ["-ar", str(RATE), "-f", "s16le", "-"]
    samples = array.array("h", subprocess.run(command, check=True, capture_output=True).stdout)
    return [[one / 32768 for one in samples[n::count]] for n in range(count)]


def level(samples: list[float], frequency: float) -> float:
    """The amplitude of a tone, by Goertzel's algorithm, over all but the ends."""
    cut = samples[RATE // 10 : -RATE // 10]
    turn = 2 * math.cos(2 * math.pi * frequency / RATE)
    before = last = 0.0
    for sample in cut:
        before, last = last, sample + turn * last - before
    power = last * last + before * before - turn * last * before
    return 2 * math.sqrt(max(power, 0.0)) / len(cut)


def heard(path: Path, *frequencies: float, stream: str = "0:a:0", count: int = 2) -> list[set[int]]:
    """Which of the tones each channel holds: those above a hundredth."""
    found = channels(path, stream, count=count)
    return [{int(f) for f in frequencies if level(one, f) > 0.01} for one in found]


def onsets(path: Path, stream: str = "0:a:0") -> list[float]:
    """When sound begins after at least 0.2 s of silence, in seconds."""
    return _times(path, stream, "-af", "silencedetect=n=-40dB:d=0.2", "silence_end: ")


def flashes(path: Path, stream: str = "0:v:0") -> list[float]:
    """When the picture lights up after at least 0.2 s of black, in seconds."""
    return _times(path, stream, "-vf", "blackdetect=d=0.2:pix_th=0.3", "black_end:")


def _times(path: Path, stream: str, option: str, detector: str, mark: str) -> list[float]:
    command = ["ffmpeg", "-hide_banner", "-nostdin", "-i", str(path), "-map", stream]
    command += [option, detector, "-f", "null", "-"]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    # The last one is the end of the file, before which it is dark and silent.
    return [float(part.split()[0]) for part in told.split(mark)[1:]][:-1]
