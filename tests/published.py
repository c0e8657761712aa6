"""What workflows publish, made by their tasks without an engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backoffice.tasks import Output, Source, package, subtitles, transcode
from tests.clips import AAC, H264, each, ffmpeg, tagged, tones
from tests.tasks.context import make_context

CUES = ["AT&T <3 you", "a < b && c > d --> e"]  # as people must see them
TONES = {"de": 400, "en": 1000}


def at_once(folder: Path, clip: Path, profile: str) -> Path:
    """One transcode task; the file, or that where a player starts."""
    folder.mkdir(exist_ok=True)
    return transcode.run(make_context(folder, clip, profile=profile)).outputs[0].path


def chain(
    folder: Path, clip: Path, profile: str, rungs: Sequence[str] = ("mp4-360",)
) -> tuple[Path, list[str]]:
    """As web-video makes it: pictures, sound and subtitles by themselves, then packaged
    with a profile. Where a player starts, and what was told."""
    made: list[Output] = []
    told: list[str] = []
    steps: list[tuple[str, Any, dict[str, Any]]] = [
        *((rung, transcode, {"profile": rung, "only": "picture"}) for rung in rungs),
        ("sound", transcode, {"profile": "sound-languages"}),
        ("text", subtitles, {}),
    ]
    for name, task, parameters in steps:
        (folder / name).mkdir(parents=True)
        result = task.run(make_context(folder / name, clip, **parameters))
        made += result.outputs
        told += result.warnings
    (folder / "package").mkdir()
    context = make_context(folder / "package", profile=profile)
    context.sources = [given(output) for output in made]
    return package.run(context).outputs[0].path, told


def both_ways(folder: Path, profile: str) -> dict[str, Path]:
    """A package of the same clip: encoded at once, and packaged from parts."""
    clip = programme(folder / "clip.mkv", "512x288", 8)
    return {
        "at once": at_once(folder / "once", clip, profile),
        "from parts": chain(folder / "parts", clip, profile)[0],
    }


def given(output: Output) -> Source:
    return Source(
        output.role,
        output.path,
        name=output.path.name,
        media_type=output.media_type,
        facts=output.facts,
    )


def programme(path: Path, size: str, seconds: int = 13) -> Path:
    """A clip whose square moves, with two languages and English subtitles, whose second
    cue is there until the end."""
    text = path.with_suffix(".srt")
    end = f"00:00:{seconds:02},000"
    text.write_text(
        f"1\n00:00:00,000 --> 00:00:06,000\n{CUES[0]}\n\n2\n00:00:06,000 --> {end}\n{CUES[1]}\n"
    )
    square = "drawbox=x=t*20:y=t*10:w=80:h=80:color=white:t=fill"
    ffmpeg(
        "-f",
        "lavfi",
        "-i",
        f"color=0x336699:s={size}:r=25:d={seconds},{square}",
        *(word for tone in TONES.values() for word in tones(tone, seconds=seconds)),
        "-i",
        str(text),
        *each(0, 1, 2, 3),
        *H264,
        *AAC,
        *tagged("deu", "eng"),
        *"-c:s copy -metadata:s:s:0 language=eng".split(),
        str(path),
    )
    return path
