"""What confinement costs: starts of a command that does nothing, and an encode.

Confined and unconfined ones take turns, so that both meet the same noise; the
middle of the differences counts.
"""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from backoffice.media import ffmpeg
from backoffice.system import confinement
from backoffice.system.confinement import NONE, Confinement
from bench.place import Failed, Server
from bench.report import Line


def measure(folder: Path, server: Server, quick: bool) -> list[Line]:
    folder.mkdir()
    if confinement.lacks():
        raise Failed(f"this kernel confines nothing: no {', '.join(confinement.lacks())}")
    confinement.prepare()
    starts, encodes = (50, 2) if quick else (400, 7)
    none, true = _pairs(folder, ["/bin/true"], starts)
    unconfined, confined = _pairs(folder, _encode(folder), encodes)
    cost = statistics.median(b - a for a, b in zip(none, true, strict=True)) * 1000
    ratio = statistics.median(b / a for a, b in zip(unconfined, confined, strict=True))
    told = f"{_middle(none) * 1000:.2f} ms unconfined, {_middle(true) * 1000:.2f} ms confined"
    long = f"{_middle(unconfined):.2f} s unconfined, {_middle(confined):.2f} s confined"
    return [
        Line("confinement", "start of a command", told, cost, 5, at_most=True, unit="ms"),
        Line("confinement", "an encode of 10 s", long, ratio, 1.02, at_most=True),
    ]


def _pairs(
    folder: Path, argv: Sequence[str], count: int
) -> tuple[Sequence[float], Sequence[float]]:
    """Seconds, unconfined and confined."""
    wanted = Confinement(read=(folder,), write=(folder,))
    both = [_timed(folder, argv, one) for one in (Confinement(mode=NONE), wanted)]
    rounds = [[run() for run in both] for _ in range(count + 1)][1:]  # the first one warms up
    return [one for one, _ in rounds], [other for _, other in rounds]


def _timed(folder: Path, argv: Sequence[str], confined: Confinement) -> Callable[[], float]:
    def run() -> float:
        began = time.perf_counter()
        done = ffmpeg.run(argv, folder=folder, log=lambda line: None, confined=confined)
        if done.status != 0:
            raise Failed(f"{argv[0]} failed: {done.stderr_tail}")
        return time.perf_counter() - began

    return run


def _encode(folder: Path) -> list[str]:
    source = folder / "source.mp4"
    picture = "testsrc2=s=640x360:r=25:d=10"
    make = ["ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", picture]
    subprocess.run([*make, "-preset", "ultrafast", "-pix_fmt", "yuv420p", str(source)], check=True)
    out = folder / "out.mp4"
    return [
        "ffmpeg",
        "-nostdin",
        "-v",
        "error",
        "-y",
        "-i",
        str(source),
        "-c:v",
        "libx264",
        str(out),
    ]


def _middle(values: Sequence[float]) -> float:
    return statistics.median(values)
