"""``make media-trial FOLDER=``: submit each file of a folder to the workflow that fits,
and compare what was published with what plain ffmpeg decodes of the file.

Compared are lengths, frames, samples, pictures and the levels of the sound, from the
beginning of the file on. A source with faults is tried again with damage=tolerate.

Prints a verdict for each file: right, refused (with the sentence that was given) or
WRONG (with what differs); then the counts. Exit status 1 if anything is wrong, or was
refused though ffmpeg decodes it without a complaint.
"""

from __future__ import annotations

import argparse
import array
import bisect
import json
import math
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from backoffice.states import JOB_ENDED
from tests.acceptance.site import Site

WIDTH, HEIGHT = 32, 18  # of the pictures that are compared
RATE, WINDOW = 8000, 400  # of the sound that is compared: samples a second, and of one level
SHIFT = 2  # windows by which encoders may move a sound
ALIKE = 0.8  # the least correlation of two pictures; fields of one look less alike
SOUNDS_ALIKE = 0.7  # of the levels of two sounds, one of which was brought to a loudness
SILENT = 0.001  # of full scale
SLACK = 0.5  # seconds by which lengths may differ, or 2 %
FEWER = 0.75  # of the frames: of telecined film 0.8 are made
FASTEST = 60  # frames a second, which profiles allow
BEYOND = 600  # seconds that a job may take
MOMENTS = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Decoded:
    """What ffmpeg makes of a file. Lengths are in seconds; 0 where there is none."""

    streams: frozenset[str] = frozenset()  # video, audio
    picture: float = 0.0
    sound: float = 0.0
    frames: int = 0
    sampled: float = 0.0  # seconds of sound, without the gaps in it
    stills: Sequence[bytes] = ()
    levels: Sequence[float] = ()  # of each window, from the beginning of the file
    complaints: str = ""


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
    """Decode the picture and the sound that ffmpeg chooses; apart, where they do not
    come together."""
    streams = _streams(path)
    whole = _decoded(path, streams)
    if len(streams) == 2 and not (whole.frames and whole.sampled):
        picture, sound = (_decoded(path, frozenset({kind})) for kind in ("video", "audio"))
        whole = replace(sound, picture=picture.picture, frames=picture.frames)
        whole = replace(whole, stills=picture.stills, streams=streams)
        whole = replace(whole, complaints=picture.complaints + sound.complaints)
    return whole


def _streams(path: Path) -> frozenset[str]:
    """The kinds that there are; without covers."""
    argv = ["ffprobe", "-v", "quiet", "-of", "json", "-show_streams", str(path)]
    done = subprocess.run(argv, capture_output=True, check=False)
    try:
        found: list[dict[str, Any]] = json.loads(done.stdout or b"{}").get("streams", [])
    except ValueError:  # it ended amid its answer
        return frozenset({"audio"})
    kinds = {str(s.get("codec_type")) for s in found if not s["disposition"].get("attached_pic")}
    return frozenset(kinds & {"video", "audio"})


# Square pixels, on black where it is transparent or of another shape.
_SHAPE = f"{WIDTH}:{HEIGHT}"
_STILL = (
    "scale=160:-2,split[a][b];[a]drawbox=c=black:replace=1:t=fill[c];[c][b]overlay,"
    "scale=iw*sar:ih,setsar=1,"
    f"scale={_SHAPE}:force_original_aspect_ratio=decrease,pad={_SHAPE}:-1:-1,format=gray"
)
_LEVEL = f"aresample={RATE}:async={RATE},aformat=s16:channel_layouts=mono"


def _decoded(path: Path, streams: frozenset[str]) -> Decoded:
    with tempfile.TemporaryDirectory() as folder:
        pictures, sound = Path(folder) / "pictures", Path(folder) / "sound"
        outputs: list[str] = []
        if "video" in streams:
            outputs += ["-an", "-sn", "-dn", "-fps_mode", "passthrough", "-vf"]
            outputs += [f"showinfo,{_STILL}", "-f", "rawvideo", str(pictures)]
        if "audio" in streams:
            outputs += [
                "-vn",
                "-sn",
                "-dn",
                "-af",
                f"ashowinfo,{_LEVEL}",
                "-f",
                "s16le",
                str(sound),
            ]
        argv = ["ffmpeg", "-nostdin", "-hide_banner", "-v", "level+info", "-i", str(path)]
        done = subprocess.run([*argv, *(outputs or ["-f", "null", "-"])], capture_output=True)
        told = done.stderr.decode("utf-8", "replace")
        read = [p.read_bytes() if p.exists() else b"" for p in (pictures, sound)]
    return _measured(streams, told, *read)


def _measured(streams: frozenset[str], told: str, pictures: bytes, sound: bytes) -> Decoded:
    times, blocks = _shown(told), _heard(told)
    begin = min(0.0, times[0]) if times else blocks[0][0] if blocks else 0.0
    step = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 0.04
    return Decoded(
        streams=streams,
        picture=times[-1] + step - begin if times else 0.0,
        sound=max(at + long for at, long in blocks) - blocks[0][0] if blocks else 0.0,
        frames=len(times),
        sampled=math.fsum(long for _, long in blocks),
        stills=_stills(times, begin, pictures),
        levels=_levels(sound, blocks[0][0] - begin) if blocks else (),
        complaints="\n".join(re.findall(r".*\[(?:error|fatal)\] .*", told)),
    )


# Lines of ffmpeg's filters.
_FRAME = r"_showinfo_.*\bn: *\d+ .*pts_time:(-?[\d.]+)"
_BLOCK = r"_ashowinfo_.*pts_time:(-?[\d.]+) .*\brate:(\d+) nb_samples:(\d+)"


def _shown(told: str) -> list[float]:
    """When each frame is shown, in order."""
    return sorted(float(at) for at in re.findall(_FRAME, told))


def _heard(told: str) -> list[tuple[float, float]]:
    """When each block of samples begins, and how long it lasts."""
    return [(float(at), int(n) / int(rate)) for at, rate, n in re.findall(_BLOCK, told)]


def _stills(times: Sequence[float], begin: float, pictures: bytes) -> list[bytes]:
    """Grey values of the pictures at MOMENTS."""
    if not times:
        return []
    moments = [begin + part * (times[-1] - begin) for part in MOMENTS]
    size = WIDTH * HEIGHT
    numbers = [max(0, bisect.bisect_right(times, at + 0.001) - 1) for at in moments]
    return [pictures[n * size : (n + 1) * size] for n in numbers]


def _levels(sound: bytes, late: float) -> list[float]:
    """Of each window, of sound that begins so many seconds after the picture."""
    samples = array.array("h", sound[: len(sound) // 2 * 2])
    starts = range(0, len(samples) - WINDOW + 1, WINDOW)
    levels = [math.hypot(*samples[n : n + WINDOW]) / math.sqrt(WINDOW) / 32768 for n in starts]
    windows = round(late * RATE / WINDOW)
    return [0.0] * windows + levels if windows > 0 else levels[-windows:]


def alike(one: bytes, other: bytes) -> float:
    """Correlation of two pictures; 1 for two that are even and equally bright."""
    if len(one) != len(other) or not one:
        return 0.0
    a, b = (sum(values) / len(values) for values in (one, other))
    spread = [math.sqrt(sum((x - m) ** 2 for x in v)) for v, m in ((one, a), (other, b))]
    if min(spread) < 40:  # nothing to be seen in it
        return 1.0 if abs(a - b) < 24 else 0.0
    return sum((x - a) * (y - b) for x, y in zip(one, other, strict=True)) / math.prod(spread)


def sounds_alike(one: Sequence[float], other: Sequence[float]) -> float:
    """Correlation of the levels of two sounds, at the shift that fits best; 1 for two
    that are even."""
    return max(
        _correlation(one[max(0, n) :], other[max(0, -n) :]) for n in range(-SHIFT, SHIFT + 1)
    )


def _correlation(one: Sequence[float], other: Sequence[float]) -> float:
    pairs = list(zip(one, other, strict=False))
    if len(pairs) < 3:
        return 1.0
    if max(source for source, _ in pairs) < SILENT:
        return 1.0
    if max(made for _, made in pairs) < SILENT:
        return 0.0
    spreads = [statistics.pstdev(v) / (statistics.fmean(v) or 1) for v in zip(*pairs, strict=True)]
    if min(spreads) < 0.2:  # an even tone
        return 1.0 if max(spreads) < 1 else 0.0
    return statistics.correlation(*zip(*pairs, strict=True))


def compare(source: Decoded, made: Decoded) -> Iterator[str]:
    """What is wrong with what was made."""
    for name in ("picture", "sound"):
        wanted, found = getattr(source, name), getattr(made, name)
        if abs(wanted - found) > max(SLACK, 0.02 * wanted):
            yield f"{name} of {found:.2f} s, not {wanted:.2f} s"
    if made.sampled < source.sampled - max(SLACK, 0.02 * source.sampled):
        yield f"samples for {made.sampled:.2f} s, not {source.sampled:.2f} s"
    if made.frames < FEWER * min(source.frames, FASTEST * source.picture) - 2:
        yield f"{made.frames} frames, not {source.frames}"
    for number, (one, other) in enumerate(zip(source.stills, made.stills, strict=False), 1):
        if one and (found := alike(one, other)) < ALIKE:
            yield f"picture {number} of {len(MOMENTS)} looks different ({found:.2f})"
    if (found := sounds_alike(source.levels, made.levels)) < SOUNDS_ALIKE:
        yield f"it sounds different ({found:.2f})"


def trial(site: Site, path: Path) -> Verdict:
    """A source with faults, which is refused, must come out right where it is tolerated."""
    source = decode(path)
    verdict = _tried(site, path, source)
    if verdict.word == "right" or not re.search(r"truncated|damaged|incomplete", verdict.told):
        return verdict
    again = _tried(site, path, source, damage="tolerate")
    if again.word == "right":
        return Verdict(verdict.name, "refused", f"{verdict.told} (taken with damage=tolerate)")
    if again.word == "WRONG" and again.faults:
        return replace(again, faults=["with damage=tolerate", *again.faults])
    return verdict


def _tried(site: Site, path: Path, source: Decoded, **parameters: str) -> Verdict:
    workflow = "web-video" if source.frames or "audio" not in source.streams else "audio"
    name = str(path)
    linked = site.media / path.name
    linked.unlink(missing_ok=True)
    shutil.copyfile(path, linked)
    try:
        job = site.submit(workflow, linked, parameters=parameters)
    except Exception as error:  # a name that is not taken, say
        return Verdict(name, "refused", str(error))
    state = _ended(site, job)
    told = site.message(job)
    if state != "succeeded":
        moves = source.frames > 1 or source.sampled  # single pictures are not taken
        fine = moves and not source.complaints
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
