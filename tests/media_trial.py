"""``make media-trial FOLDER=``: submit each file of a folder to the workflow that fits,
and compare what was published with what plain ffmpeg decodes of the file.

Prints a verdict for each file: right, refused (with the sentence that was given) or
WRONG (with what differs); then the counts. Exit status 1 if anything is wrong, or was
refused though ffmpeg decodes it without a complaint.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from backoffice.states import JOB_ENDED
from tests.acceptance.site import Site

WIDTH, HEIGHT = 32, 18  # of the pictures that are compared
ALIKE = 0.8  # the least correlation of two pictures; fields of one look less alike
SLACK = 0.5  # seconds by which lengths may differ, or 2 %
BEYOND = 600  # seconds that a job may take
MOMENTS = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Decoded:
    """What ffmpeg makes of a file. Lengths are in seconds; 0 where there is none."""

    picture: float
    sound: float
    frames: int
    samples: int
    stills: Sequence[bytes]
    complaints: str


@dataclass
class Verdict:
    name: str
    word: str  # right, refused, WRONG
    told: str = ""
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        more = "; ".join([*self.faults, *([self.told] if self.told else [])])
        return f"{self.word:8} {self.name}{f': {more}' if more else ''}"


def decode(path: Path) -> Decoded:
    """Decode the picture and the sound that ffmpeg chooses."""
    streams = _streams(path)
    complaints = _run("-v", "error", "-i", str(path), "-sn", "-dn")[1]
    picture, frames = _counted(path, "v") if "video" in streams else (0.0, 0)
    sound, samples = _counted(path, "a") if "audio" in streams else (0.0, 0)
    stills = [_still(path, picture * part) for part in MOMENTS] if frames else []
    return Decoded(picture, sound, frames, samples, stills, complaints.strip())


def _streams(path: Path) -> set[str]:
    argv = ["ffprobe", "-v", "quiet", "-of", "json", "-show_streams", str(path)]
    done = subprocess.run(argv, capture_output=True, check=False)
    found: list[dict[str, Any]] = json.loads(done.stdout or b"{}").get("streams", [])
    return {
        str(one.get("codec_type"))
        for one in found
        if not one.get("disposition", {}).get("attached_pic")
    }


def _counted(path: Path, kind: str) -> tuple[float, int]:
    """Seconds and frames, or samples, that come out of the decoder."""
    show, others = ("showinfo", "-an") if kind == "v" else ("ashowinfo", "-vn")
    text = _run("-v", "info", "-i", str(path), others, "-sn", "-dn", f"-{kind}f", show)[1]
    times = [float(one) for one in re.findall(r"\bpts_time:(-?[\d.]+)", text)]
    if not times:
        return 0.0, 0
    if kind == "v":
        step = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 0.04
        return max(times) - min(times) + step, len(times)
    blocks = [int(one) for one in re.findall(r"\bnb_samples:(\d+)", text)]
    rates = re.findall(r"\brate:(\d+)", text)
    last = blocks[-1] / int(rates[-1]) if rates else 0.0
    return max(times) - min(times) + last, sum(blocks)


def _run(*arguments: str, binary: str = "null") -> tuple[bytes, str]:
    argv = ["ffmpeg", "-nostdin", "-hide_banner", *arguments, "-f", binary, "-"]
    done = subprocess.run(argv, capture_output=True, check=False)
    return done.stdout, done.stderr.decode("utf-8", "replace")


def _still(path: Path, moment: float) -> bytes:
    """Grey values of square pixels, on black where it is transparent or of another shape."""
    shape = f"{WIDTH}:{HEIGHT}"
    fit = f"scale={shape}:force_original_aspect_ratio=decrease,pad={shape}:-1:-1,format=gray"
    ground = "split[a][b];[a]drawbox=c=black:replace=1:t=fill[c];[c][b]overlay"
    # Decoded from the start: seeking in playlists is not exact.
    seek = ("-i", str(path), "-ss", f"{moment:.3f}", "-an", "-sn", "-dn", "-frames:v", "1")
    filters = f"{ground},scale=iw*sar:ih,setsar=1,{fit}"
    return _run("-v", "quiet", *seek, "-vf", filters, binary="rawvideo")[0]


def alike(one: bytes, other: bytes) -> float:
    """Correlation of two pictures; 1 for two that are even and equally bright."""
    if len(one) != len(other) or not one:
        return 0.0
    a, b = (sum(values) / len(values) for values in (one, other))
    spread = [math.sqrt(sum((x - m) ** 2 for x in v)) for v, m in ((one, a), (other, b))]
    if min(spread) < 40:  # nothing to be seen in it
        return 1.0 if abs(a - b) < 24 else 0.0
    return sum((x - a) * (y - b) for x, y in zip(one, other, strict=True)) / math.prod(spread)


def compare(source: Decoded, made: Decoded) -> Iterator[str]:
    """What is wrong with what was made."""
    for name in ("picture", "sound"):
        wanted, found = getattr(source, name), getattr(made, name)
        if abs(wanted - found) > max(SLACK, 0.02 * wanted):
            yield f"{name} of {found:.2f} s, not {wanted:.2f} s"
    for number, (one, other) in enumerate(zip(source.stills, made.stills, strict=False), 1):
        if one and (found := alike(one, other)) < ALIKE:
            yield f"picture {number} of {len(MOMENTS)} looks different ({found:.2f})"


def trial(site: Site, path: Path) -> Verdict:
    source = decode(path)
    workflow = "web-video" if source.frames or not source.samples else "audio"
    name = str(path)
    linked = site.media / path.name
    linked.unlink(missing_ok=True)
    shutil.copyfile(path, linked)
    try:
        job = site.submit(workflow, linked)
    except Exception as error:  # a name that is not taken, say
        return Verdict(name, "refused", str(error))
    state = _ended(site, job)
    told = site.message(job)
    if state != "succeeded":
        still = "of a kind that is not taken" in told  # a picture, a GIF
        fine = (source.frames or source.samples) and not source.complaints and not still
        return Verdict(name, "WRONG" if fine else "refused", told)
    playable = list(_playable(_made(site, job)))
    if not playable:
        return Verdict(name, "WRONG", "succeeded, and nothing that plays came out")
    faults = list(compare(source, decode(playable[0])))
    return Verdict(name, "WRONG" if faults else "right", told, faults)


def _ended(site: Site, job: int) -> str:
    until = time.monotonic() + BEYOND
    while (state := site.state(job)) not in JOB_ENDED:
        if time.monotonic() > until:
            return "running"
        time.sleep(0.1)
    return state


def _made(site: Site, job: int) -> list[Path]:
    """What was published; of workflows that do not publish, what was made."""
    published = [one for one in site.published(job) if one.exists()]
    rows = site.rows("SELECT href FROM file WHERE job_id = ? ORDER BY id DESC", job)
    return [*published, *(Path(unquote(urlsplit(href).path)) for (href,) in rows)]


def _playable(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        master = path / "master.m3u8"
        if master.exists():
            yield master
        elif path.suffix in (".mp4", ".m4a", ".mov", ".mkv"):
            yield path


def main() -> int:
    parser = argparse.ArgumentParser(prog="media-trial", description=__doc__)
    parser.add_argument("folder", type=Path, help="files of any kind, also in folders beneath")
    folder: Path = parser.parse_args().folder
    if not folder.is_dir():
        parser.error(f"{folder} is no folder")
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="media-trial-") as place:
        home = Path(place) / "site"
        site = Site(home, f"sqlite:{home}/database.sqlite")
        try:
            site.start("scheduler", "worker")
            for path in sorted(one for one in folder.rglob("*") if one.is_file()):
                verdict = trial(site, path)
                counts[verdict.word] += 1
                print(verdict, flush=True)
        finally:
            site.close()
    print(", ".join(f"{count} {word}" for word, count in sorted(counts.items())))
    return 1 if counts["WRONG"] else 0


if __name__ == "__main__":
    sys.exit(main())
