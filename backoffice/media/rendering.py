"""Rendering: filters for the size, shape and colour of a picture.

Owns how a picture is laid into a frame, and what is told when its shape changes
on the way. Which size and colour a result has is said by profiles and tasks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from backoffice.media import colour
from backoffice.media.colour import Colour, Facts

# What ffmpeg may lack, depending on how it was built.
FILTERS: Final = frozenset({"scale", "pad", "metadata", "premultiply", "tonemap", "zscale"})

_SAME: Final = 0.02  # shapes that differ by less are one, rounded
_TOLD: Final = 5  # changes that are told one by one


def filters(
    picture: Facts, size: tuple[int, int], made: Colour, pixel_format: str, *, told: bool = False
) -> list[str]:
    """From decoded frames, as displayed, to tagged ones of a result. With ``told``,
    stderr says where the shape changes; see :func:`changes`."""
    source = colour.meant(picture)
    return [
        *colour.on_black(picture),
        *_framed(picture, size, colour.scale_options(source, made), told),
        "setsar=1",
        *colour.converting(source, made, pixel_format),
    ]


# ffmpeg's own decoders of these leave out the alpha that lies beside the picture.
_ALPHA_DECODERS: Final = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


def decoder(picture: Facts) -> list[str]:
    """Arguments before the input that choose the decoder, where it must be another."""
    name = _ALPHA_DECODERS.get(str(picture.get("codec")))
    return [f"-c:{picture['index']}", name] if name and colour.has_alpha(picture) else []


def _framed(picture: Facts, size: tuple[int, int], options: Sequence[str], told: bool) -> list[str]:
    """Frames of the source's shape fill the frame; those of another get bars: a
    broadcast may signal 4:3 and then 16:9 within one stream."""
    width, height = size
    shape = picture["width"] / picture["height"]
    tolerance = max(_SAME, 1 / min(picture["width"], picture["height"]))
    same = f"lt(abs(dar/{shape:.6f}-1),{tolerance:.4f})"
    sides = [
        f"w='if({same},{width},{_side(f'min({width},{height}*dar)')})'",
        f"h='if({same},{height},{_side(f'min({height},{width}/dar)')})'",
    ]
    scale = ":".join([*sides, "eval=frame", *options])
    pad = f"pad={width}:{height}:-1:-1:eval=frame"
    return [f"scale={scale}", *(_telling(width, height) if told else []), pad]


def _side(expression: str) -> str:
    return f"max(2,2*round({expression}/2))"


def _telling(width: int, height: int) -> list[str]:
    """Write a line to stderr for the first of a row of frames with another size. What
    ``enable`` says is asked for twice a frame: the register 0 holds the time of the
    one told, the register 1 whether the row goes on."""
    other = f"not(eq(w,{width})*eq(h,{height}))"
    first = f"if({other},if(not(ld(1))+eq(t,ld(0)),st(1,1)+0*st(0,t),0),0*st(1,0))"
    return [
        f"metadata=mode=add:key=shape:value=changed:enable='{first}'",
        r"metadata=mode=print:key=shape:file='pipe\:2':direct=1",
    ]


def changes(stderr: str) -> list[float]:
    """When the shape became another than the first, in seconds."""
    return [float(at) for at in re.findall(r"^frame:\d+ +pts:\S+ +pts_time:(\S+)", stderr, re.M)]


def warnings(picture: Facts, stderr: str = "") -> list[str]:
    """What was done to the picture that people may not expect, as ends of sentences
    about the source."""
    found = []
    if colour.has_alpha(picture):
        found.append("has an alpha channel; what is transparent was put on black")
    found += colour.changed(picture)
    if picture.get("captions"):
        found.append("carries closed captions (CEA-608/708) in its picture; they are left out")
    if moments := changes(stderr):
        times = ", ".join(f"{at:.1f}" for at in moments[:_TOLD])
        more = f" and {len(moments) - _TOLD} times more" if len(moments) > _TOLD else ""
        found.append(
            f"changes its shape at {times} s{more};"
            " the result keeps the first shape, with bars beside the others"
        )
    return found
