"""Eight clips through ``transcode`` on two slots, against the very same ffmpeg
commands under ``xargs -P2``. Ours also probes, checks, hashes and records.

Rounds of both take turns; the middle ratio counts.
"""

from __future__ import annotations

import json
import shlex
import statistics
import subprocess
import time
from datetime import datetime
from pathlib import Path

from backoffice.data.sql import moment
from bench.place import Failed, Place, Server, wait_for
from bench.report import Line

SLOTS = 2
CLIPS = 8


def measure(folder: Path, server: Server, quick: bool) -> list[Line]:
    seconds, rounds = (20, 1) if quick else (30, 3)
    place = Place(folder, BACKOFFICE_WORKER_SLOTS=str(SLOTS))
    clips = [_clip(folder / "media" / f"clip-{n}.mp4", seconds, n) for n in range(CLIPS)]
    pairs = []
    with place.workers():
        for number in range(rounds):
            ours = _transcode(place, clips)
            pairs.append((ours, _bare(place, folder / f"bare-{number}")))
    ratios = [ours / bare for ours, bare in pairs]
    ours, bare = pairs[ratios.index(statistics.median_low(ratios))]
    measured = (
        f"{CLIPS} clips of {seconds} s in {ours:.1f} s; xargs -P{SLOTS}: {bare:.1f} s"
        f" (rounds: {', '.join(f'{ratio:.3f}' for ratio in ratios)})"
    )
    value = statistics.median_low(ratios)
    return [Line("encode", "wall time", measured, value, 1.05, at_most=True)]


def _clip(path: Path, seconds: int, number: int) -> Path:
    """Moving pictures with noise in them, or the encoder had nothing to do."""
    picture = f"testsrc2=s=640x360:r=25:d={seconds},noise=alls=12:allf=t:all_seed={number}"
    sound = f"sine=f={300 + 50 * number}:r=48000:d={seconds}"
    command = ["ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", picture]
    command += ["-f", "lavfi", "-i", sound, "-preset", "ultrafast", "-pix_fmt", "yuv420p"]
    subprocess.run([*command, str(path)], check=True)
    return path


def _transcode(place: Place, clips: list[Path]) -> float:
    """Seconds from the first claim to the last end."""
    last = place.value("SELECT MAX(id) FROM job") or 0
    for clip in clips:
        place.submit("transcode", ("source", str(clip)), profile="mp4-360")
    wait_for(lambda: not place.unfinished(), 1800, "the jobs did not end")
    place.require_success()
    (first, final) = place.database.read(
        lambda store: store.execute(
            "SELECT MIN(started), MAX(finished) FROM job WHERE id > ?", (last,)
        ).get_one()
    )
    begin, end = moment(first), moment(final)
    assert isinstance(begin, datetime)
    assert isinstance(end, datetime)
    return (end - begin).total_seconds()


def _bare(place: Place, folder: Path) -> float:
    """Seconds for the same commands alone, in folders of their own."""
    rows = place.database.read(
        lambda store: store.execute(
            "SELECT t.job_id, t.name, a.number, a.commands FROM attempt a"
            " JOIN task t ON t.id = a.task_id WHERE t.type = 'transcode'"
            " ORDER BY t.job_id DESC LIMIT ?",
            (CLIPS,),
        ).get_all()
    )
    scripts = []
    for job, task, number, commands in rows:
        own = folder / str(job)
        own.mkdir(parents=True)
        attempt = place.settings.paths.work / "jobs" / str(job) / f"{task}-{number}"
        lines = [
            shlex.join(argument.replace(str(attempt), str(own)) for argument in argv)
            for argv in json.loads(commands)
            if Path(argv[0]).name == "ffmpeg"
        ]
        if not lines:
            raise Failed("an attempt recorded no ffmpeg command")
        script = own / "run"
        quiet = [f"{line} >/dev/null 2>&1" for line in lines]
        script.write_text("\n".join(["set -e", f"cd {shlex.quote(str(own))}", *quiet]))
        scripts.append(str(script))
    began = time.perf_counter()
    done = subprocess.run(
        ["xargs", "-n1", f"-P{SLOTS}", "sh"], input="\n".join(scripts), text=True, check=False
    )
    if done.returncode:
        raise Failed("the bare commands failed")
    return time.perf_counter() - began
