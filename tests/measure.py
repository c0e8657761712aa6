"""What is in a media file, found by decoding it: where a bar is, when it flashes and beeps."""

from __future__ import annotations

import array
import re
import subprocess
from pathlib import Path

RATE = 8000  # samples a second of what is listened to


def _decoded(path: Path, *arguments: str) -> bytes:
    argv = ["ffmpeg", "-v", "error", "-nostdin", "-i", str(path), *arguments, "-"]
    return subprocess.run(argv, check=True, capture_output=True).stdout


def bars(path: Path) -> list[tuple[float, float]]:
    """Of each frame: where a white bar on black is, in pixels from the left, on two
    lines one below the other. They differ where the frame is combed."""
    filters = "crop=iw:2:0:trunc(ih/4)*2,format=gray"
    data = _decoded(path, "-an", "-vf", filters, "-fps_mode", "passthrough", "-f", "rawvideo")
    width = _width(path)
    lines = [data[n : n + width] for n in range(0, len(data), width)]
    places = [_centre(line) for line in lines]
    return list(zip(places[::2], places[1::2], strict=True))


def _width(path: Path) -> int:
    argv = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-of", "csv=p=0"]
    done = subprocess.run(
        [*argv, "-show_entries", "stream=width", str(path)], check=True, capture_output=True
    )
    return int(done.stdout.split()[0])


def _centre(line: bytes) -> float:
    weights = [max(0, value - 60) for value in line]
    return sum(n * weight for n, weight in enumerate(weights)) / max(1, sum(weights))


def frames(path: Path) -> list[tuple[float, float]]:
    """Of each frame of the first picture: its time in seconds, and how light it is, 0 to 255."""
    print_light = "signalstats,metadata=mode=print:key=lavfi.signalstats.YAVG:file=-"
    options = ("-an", "-fps_mode", "passthrough", "-f", "null")
    text = _decoded(path, "-vf", print_light, *options).decode()
    found = re.findall(r"pts_time:(\S+)\s+lavfi\.signalstats\.YAVG=(\S+)", text)
    return [(float(moment), float(light)) for moment, light in found]


def flashes(path: Path) -> list[float]:
    """When a dark picture becomes light, in seconds."""
    found, dark = [], True
    for moment, light in frames(path):
        if dark and light > 128:
            found.append(moment)
        dark = light <= 128
    return found


def beeps(path: Path) -> list[float]:
    """When silence ends that has lasted a tenth of a second, in seconds."""
    filters = "aresample=first_pts=0"
    options = ("-vn", "-af", filters, "-ac", "1", "-ar", str(RATE), "-f", "s16le")
    samples = array.array("h", _decoded(path, *options))
    found, quiet = [], RATE
    for n, sample in enumerate(samples):
        if abs(sample) < 1500:
            quiet += 1
            continue
        if quiet > RATE // 10:
            found.append(n / RATE)
        quiet = 0
    return found
