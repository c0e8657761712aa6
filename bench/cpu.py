"""CPU of a whole ``web-video`` job over one hand-written ffmpeg.

The hand-written command decodes once, and makes the same rungs with the same
encoders, the same HLS package, the stills and the sprite. Ours also probes, looks
at fields, decodes the source to check it, hashes, records and publishes. Counted is
what every process took, user and system. Jobs and commands take turns.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path

from backoffice.media import ffmpeg, profiles
from backoffice.media.profiles import Profile, Video
from bench.place import ROOT, Failed, Place, Server, wait_for
from bench.report import Line

RUNGS = ("mp4-360", "mp4-540", "mp4-720", "mp4-1080")  # of web-video, up to 1080 lines
SOURCES = (("480p", "854x480", 60), ("1080p", "1920x1080", 20))  # name, size, seconds
TICK = os.sysconf("SC_CLK_TCK")


def measure(folder: Path, server: Server, quick: bool) -> list[Line]:
    place = Place(folder, BACKOFFICE_WORKER_SLOTS=str(os.cpu_count()))
    known = profiles.load([ROOT / "etc" / "profiles"])
    lines = []
    with place.workers() as (worker,):
        for name, size, seconds in SOURCES:
            clip = _clip(folder / "media" / f"{name}.mp4", size, 10 if quick else seconds)
            argv = _by_hand(place, clip, [known[rung] for rung in RUNGS])
            pairs = [
                (_job(place, worker, clip), _command(folder / f"{name}-{number}", argv))
                for number in range(1 if quick else 3)
            ]
            lines += _lines(name, pairs, _shares(place))
    return lines


def _lines(name: str, pairs: Sequence[tuple[float, float]], shares: str) -> list[Line]:
    ratios = [ours / bare for ours, bare in pairs]
    value = statistics.median_low(ratios)
    ours, bare = pairs[ratios.index(value)]
    rounds = ", ".join(f"{ratio:.3f}" for ratio in ratios)
    measured = f"{ours:.1f} s; by hand: {bare:.1f} s (rounds: {rounds})"
    return [
        Line("cpu", f"web-video of {name}", measured, value, 1.10, at_most=True),
        Line("cpu", "of it, commands by task", shares, value),
    ]


def _clip(path: Path, size: str, seconds: int) -> Path:
    """Moving pictures with noise in them and a tone, as a camera's file would be coded."""
    picture = f"testsrc2=s={size}:r=25:d={seconds},noise=alls=8:allf=t"
    command = ["ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", picture]
    command += ["-f", "lavfi", "-i", f"sine=r=48000:d={seconds}", "-c:v", "libx264", "-crf", "23"]
    command += ["-preset", "veryfast", "-pix_fmt", "yuv420p", "-g", "50", "-c:a", "aac"]
    command += ["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"]
    subprocess.run([*command, str(path)], check=True)
    return path


# Ours


def _job(place: Place, worker: int, clip: Path) -> float:
    before = _seconds_of_tree(worker)
    place.submit("web-video", ("source", str(clip)))
    wait_for(lambda: not place.unfinished(), 1800, "the job did not end")
    place.require_success()
    return _seconds_of_tree(worker) - before


def _seconds_of_tree(pid: int) -> float:
    """What a process, its children and all that they waited for have taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own = sum(int(ticks) for ticks in fields[11:15]) / TICK
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return own + sum(_seconds_of_tree(int(child)) for child in children)


def _shares(place: Place) -> str:
    """What the commands of the last job's tasks took, as recorded with the attempts."""
    rows = place.database.read(
        lambda store: store.execute(
            "SELECT t.name, a.cpu_seconds FROM attempt a JOIN task t ON t.id = a.task_id"
            " WHERE t.job_id = (SELECT MAX(id) FROM job) ORDER BY t.id"
        ).get_all()
    )
    return ", ".join(f"{name} {seconds:.1f} s" for name, seconds in rows if seconds)


# By hand


def _command(folder: Path, argv: Sequence[str]) -> float:
    folder.mkdir()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"the hand-written command failed: {done.stderr[-1000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def _by_hand(place: Place, clip: Path, rungs: Sequence[Profile]) -> list[str]:
    """Everything out of one decoding, written into the folder where it is started."""
    facts = ffmpeg.probe(clip, place.settings)
    picture, seconds = facts["video"][0], facts["duration"]
    videos = _videos(rungs, facts)
    ends = [
        f"[r{n}]scale={width}:{height}[v{n}]"
        for n, (width, height) in enumerate(
            profiles.dimensions(picture, video.height) for video in videos
        )
    ]
    frames = "+".join(f"eq(n,{round(seconds * 25 * part)})" for part in (0.25, 0.5, 0.75))
    splits = "".join(f"[r{n}]" for n in range(len(videos)))
    graph = [
        f"[0:v]split={len(videos) + 2}{splits}[a][b]",
        *ends,
        f"[a]select='{frames}',scale=-2:'min(720,ih)'[stills]",
        f"[b]fps=1,scale=160:90,tile=10x{-(-round(seconds) // 10)}[sprite]",
    ]
    return [
        *("ffmpeg", "-nostdin", "-v", "error", "-y", "-i", str(clip)),
        *("-filter_complex", ";".join(graph)),
        *[word for n in range(len(videos)) for word in ("-map", f"[v{n}]")],
        *[word for n, video in enumerate(videos) for word in _encoder(n, video)],
        *("-map", "0:a", "-c:a", "aac", "-b:a", "128k", "-ac", "2"),
        *("-f", "hls", "-hls_time", "4", "-hls_playlist_type", "vod"),
        *("-hls_segment_type", "fmp4", "-master_pl_name", "master.m3u8", "-var_stream_map"),
        " ".join([*(f"v:{n},agroup:a" for n in range(len(videos))), "a:0,agroup:a"]),
        *("-hls_segment_filename", "%v-%05d.m4s", "%v.m3u8"),
        *("-map", "[stills]", "-fps_mode", "vfr", "-q:v", "3", "still-%d.jpg"),
        *("-map", "[sprite]", "-frames:v", "1", "-q:v", "4", "sprite.jpg"),
    ]


def _videos(rungs: Sequence[Profile], facts: profiles.Facts) -> list[Video]:
    """Those that ``web-video`` makes: each has 1.2 times the lines of the one below."""
    lines = min(facts["video"][0]["width"], facts["video"][0]["height"])
    heights = [rung.video[0].height for rung in rungs]
    used = [
        rung
        for rung, below in zip(rungs, [0, *heights], strict=False)
        if lines >= profiles.NEAR * below
    ]
    return [profiles.rungs(rung, facts)[0] for rung in used]


def _encoder(number: int, video: Video) -> list[str]:
    at = f":v:{number}"
    return [
        *(f"-c{at}", video.codec, f"-profile{at}", video.profile, f"-preset{at}", video.preset),
        *(f"-b{at}", f"{video.rate}k", f"-maxrate{at}", f"{video.maximum}k"),
        *(f"-bufsize{at}", f"{video.buffer}k", f"-g{at}", "100", f"-sc_threshold{at}", "0"),
    ]
