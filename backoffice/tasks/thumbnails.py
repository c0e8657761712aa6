"""Three stills of a video, and a sprite of small ones with a WebVTT map of it.

The first input is the video. Others are renditions of it: the sprite is made of the
smallest of them, since to decode that costs a fraction of decoding the video once more.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from backoffice.errors import Invalid, TaskFailed, reason_of
from backoffice.media import colour, ffmpeg, profiles, rendering, scan, timeline
from backoffice.media.profiles import Facts
from backoffice.states import Reason
from backoffice.system import files
from backoffice.tasks import Context, Output, Plan, Result, Source, facts_of

PARAMETERS: Mapping[str, str] = {}
REQUIRED: frozenset[str] = frozenset()

STILLS = (25, 50, 75)  # percent of the length
STILL_LINES = 720  # a taller picture is made smaller
TILE = (160, 90)
COLUMNS = 10
TILES = 100  # at most
# Frames of another size than the first come in its size, with pixels of another shape.
_SAME_SIZE = "scale=interl=-1"
LONG = 120.0  # seconds; beyond, keyframes alone make the sprite if they are near each other


@dataclass(frozen=True)
class _Work:
    path: Path
    title: str
    picture: Facts
    seconds: float  # of the picture
    clock: Sequence[str]  # ffmpeg's arguments about its times
    joined: bool = False  # of parts with time stamps of their own

    @property
    def interval(self) -> float:
        """Seconds between two tiles."""
        return max(1.0, math.ceil(self.seconds / TILES))

    @property
    def tiles(self) -> int:
        return max(1, math.ceil(self.seconds / self.interval))

    @property
    def grid(self) -> tuple[int, int]:
        columns = min(COLUMNS, self.tiles)
        return columns, math.ceil(self.tiles / columns)

    @property
    def tile_size(self) -> tuple[int, int]:
        """Of the picture within its tile."""
        width, height = self.picture["width"], self.picture["height"]
        scale = min(TILE[0] / width, TILE[1] / height)
        return _even(width * scale), _even(height * scale)

    def moment(self, percent: int) -> float:
        """Never after the last frame has begun: nothing would be found there."""
        frame = 1 / (self.picture["frame_rate"] or 25.0)
        return max(0.0, min(self.seconds * percent / 100, self.seconds - 1.5 * frame))


def _even(length: float) -> int:
    return max(2, round(length / 2) * 2)


def plan(context: Context) -> Plan:
    work = _prepare(context)
    small = _smallest(context, work)
    commands = [_still_command(context, work, p, work.moment(p)) for p in STILLS]
    notes = [f"writes a map of {small.tiles} tiles"]
    if small.seconds > LONG:
        notes.append("decodes the whole for the sprite if its keyframes are too far apart")
    return Plan(
        commands=[*commands, _sprite_command(context, small, keyframes=small.seconds > LONG)],
        outputs=_outputs(context, work),
        notes=notes,
    )


def run(context: Context) -> Result:
    work = _prepare(context)
    small = _smallest(context, work)
    for number, percent in enumerate(STILLS):
        _still(context, work, percent)
        context.progress(0.1 * (number + 1))
    _sprite(context, small)
    _write_map(context, small)
    outputs = _outputs(context, work)
    _check(work, outputs)
    context.progress(1.0)
    report: dict[str, object] = {"stills": len(STILLS), "tiles": small.tiles}
    if said := colour.rendered(work.picture, colour.JPEG):
        report["colour"] = said
    warnings = [f"{work.title} {said}" for said in rendering.warnings(work.picture)]
    return Result(outputs=outputs, report=report, warnings=warnings)


def _prepare(context: Context) -> _Work:
    if not context.sources:
        raise TaskFailed(
            "thumbnails takes a file, and got none; check the workflow",
            retry=False,
            reason=Reason.BAD_PARAMETER,
        )
    source = context.sources[0]
    title = source.title
    facts = facts_of(context, source)
    facts = scan.looked(facts, source.path, context.settings, context.log, name=title)
    picture = profiles.first_picture(facts)
    if picture is None:
        raise TaskFailed(
            f"{title} has sound but no picture, so there are no stills",
            retry=False,
            reason=Reason.UNUSABLE_SOURCE,
        )
    if reason := colour.unusable(picture):
        raise TaskFailed(f"{title} {reason}", retry=False, reason=Reason.UNUSABLE_SOURCE)
    seconds = float(picture.get("duration", 0.0) or facts["duration"])
    joined = bool(facts.get("joined") or facts.get("clock", {}).get("jumps"))
    return _Work(source.path, title, picture, seconds, timeline.arguments(facts), joined)


def _smallest(context: Context, work: _Work) -> _Work:
    """What the sprite is made of."""
    renditions = [one for one in context.sources[1:] if profiles.first_picture(one.facts)]
    if not renditions:
        return work
    smallest = min(renditions, key=_lines)
    picture = smallest.facts["video"][0]
    seconds = float(picture.get("duration", 0.0) or smallest.facts["duration"])
    return replace(
        work, path=smallest.path, picture=picture, seconds=seconds, clock=(), joined=False
    )


def _lines(rendition: Source) -> int:
    picture = rendition.facts["video"][0]
    return min(int(picture["width"]), int(picture["height"]))


def _still(context: Context, work: _Work, percent: int) -> None:
    context.execute(_still_command(context, work, percent, work.moment(percent)))
    if not _still_path(context, work, percent).exists():
        # The length was wrong, or the frames around there are damaged.
        context.log(f"no picture at {percent} %; taking the first one")
        context.execute(_still_command(context, work, percent, 0.0))


def _still_command(context: Context, work: _Work, percent: int, moment: float) -> list[str]:
    """Seeks before it decodes, which costs the same however long the source is; but not
    where time stamps begin anew, and lead elsewhere."""
    try:
        width, height = profiles.dimensions(work.picture, STILL_LINES)
    except Invalid as error:
        raise TaskFailed(
            f"{work.title}: {error}", retry=False, reason=Reason.UNUSABLE_SOURCE
        ) from error
    seek = ["-ss", f"{moment:.3f}"] if moment else []
    return [
        *ffmpeg.command(context.settings),
        *([] if work.joined else seek),
        *rendering.decoder(work.picture),
        *ffmpeg.input_arguments(work.path, context.settings),
        *(seek if work.joined else []),
        "-map",
        f"0:{work.picture['index']}",
        "-frames:v",
        "1",
        "-vf",
        _filters(work, _rendered(work, (width, height))),
        *"-q:v 3 -f image2 -update 1".split(),
        str(_still_path(context, work, percent)),
    ]


def _sprite(context: Context, work: _Work) -> None:
    """A tile shows a frame of its own time; keyframes that are too far apart for that
    would make rows of equal ones."""
    keyframes = work.seconds > LONG
    command = _sprite_command(context, work, keyframes=keyframes)
    context.execute(command, duration=work.seconds, start=0.3, share=0.2 if keyframes else 0.69)
    if keyframes and not _frequent(context, work):
        context.log("the keyframes are too far apart for the sprite; decoding the whole")
        command = _sprite_command(context, work, keyframes=False)
        context.execute(command, duration=work.seconds, start=0.5, share=0.49)
    _keys_path(context).unlink(missing_ok=True)


def _frequent(context: Context, work: _Work) -> bool:
    """Each tile gets the last frame before the middle of its time, so one must be
    within the half before."""
    path = _keys_path(context)
    text = path.read_text() if path.exists() else ""
    times = [float(at) for at in re.findall(r"pts_time:([-\d.]+)", text)]
    gaps = [after - before for before, after in pairwise([*times, work.seconds])]
    return bool(times) and max(gaps) <= work.interval / 2


def _sprite_command(context: Context, work: _Work, *, keyframes: bool) -> list[str]:
    """One tile an interval. The last frame is held on both sides of ``fps``: before
    it, so that the end has a tile; after it, so that the grid is always filled."""
    width, height = TILE
    columns, rows = work.grid
    filters = [
        *(_telling_keyframes(context) if keyframes else []),
        f"tpad=stop_mode=clone:stop_duration={work.interval:g}",
        f"fps=1/{work.interval:g}:start_time=0",
        _rendered(work, work.tile_size),
        f"pad={width}:{height}:-1:-1",
        f"tpad=stop_mode=clone:stop={columns * rows}",
        f"tile={columns}x{rows}",
    ]
    return [
        *ffmpeg.command(context.settings),
        *(["-skip_frame", "nokey"] if keyframes else []),
        *work.clock,
        # Else a change of size would begin the sprite anew.
        "-reinit_filter",
        "0",
        *rendering.decoder(work.picture),
        *ffmpeg.input_arguments(work.path, context.settings),
        "-map",
        f"0:{work.picture['index']}",
        "-frames:v",
        "1",
        "-vf",
        f"{_SAME_SIZE},{_filters(work, ','.join(filters))}",
        *"-q:v 4 -f image2 -update 1".split(),
        str(_sprite_path(context, work)),
    ]


def _telling_keyframes(context: Context) -> list[str]:
    path = ffmpeg.filter_value(str(_keys_path(context)))
    return [
        "metadata=mode=add:key=sprite:value=keyframe",
        f"metadata=mode=print:key=sprite:file={path}",
    ]


def _keys_path(context: Context) -> Path:
    return context.folder / "keyframes.txt"


def _rendered(work: _Work, size: tuple[int, int]) -> str:
    return ",".join(rendering.filters(work.picture, size, colour.JPEG, "yuvj420p"))


def _filters(work: _Work, filters: str) -> str:
    return ",".join([*profiles.deinterlacing_stills(work.picture), filters])


def _write_map(context: Context, work: _Work) -> None:
    path = _map_path(context, work)
    try:
        path.write_text(_web_vtt(work, _sprite_path(context, work).name))
    except OSError as error:
        raise TaskFailed(
            f"{path.name} cannot be written: {error.strerror}", reason=reason_of(error)
        ) from error


def _web_vtt(work: _Work, sprite: str) -> str:
    """Cues that name their tile by its place in the sprite beside this file."""
    width, height = TILE
    columns, _ = work.grid
    cues = ["WEBVTT"]
    for number in range(work.tiles):
        start = number * work.interval
        end = min(start + work.interval, work.seconds) if work.seconds > start else start + 0.001
        row, column = divmod(number, columns)
        place = f"{sprite}#xywh={column * width},{row * height},{width},{height}"
        cues.append(f"{_clock(start)} --> {_clock(end)}\n{place}")
    return "\n\n".join(cues) + "\n"


def _clock(seconds: float) -> str:
    millis = round(seconds * 1000)
    whole, millis = divmod(millis, 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}.{millis:03}"


def _still_path(context: Context, work: _Work, percent: int) -> Path:
    return context.folder / files.output_name(work.title, f"-{percent}.jpg")


def _sprite_path(context: Context, work: _Work) -> Path:
    return context.folder / files.output_name(work.title, "-sprite.jpg")


def _map_path(context: Context, work: _Work) -> Path:
    return context.folder / files.output_name(work.title, "-sprite.vtt")


def _outputs(context: Context, work: _Work) -> Sequence[Output]:
    stills = [_still_path(context, work, percent) for percent in STILLS]
    return [
        *(Output("thumbnail", path, "image/jpeg") for path in stills),
        Output("sprite", _sprite_path(context, work), "image/jpeg"),
        Output("sprite-map", _map_path(context, work), "text/vtt"),
    ]


def _check(work: _Work, outputs: Sequence[Output]) -> None:
    for output in outputs:
        if not output.path.exists() or output.path.stat().st_size == 0:
            raise TaskFailed(
                f"no {output.role} came out of {work.title}; its picture cannot be decoded",
                retry=False,
                reason=Reason.OUTPUT_TOO_SMALL,
            )
