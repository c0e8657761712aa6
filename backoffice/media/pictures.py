"""Pictures of a file: which streams are moving pictures, and which is the main picture.

Cameras, phones and taggers put other things into tracks of pictures: covers, previews,
thumbnails for seeking, tracks that were never filled. Pure: reads what ffprobe says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

# How pictures are scanned.
PROGRESSIVE, INTERLACED, MIXED, TELECINE = "progressive", "interlaced", "mixed", "telecine"
# ffmpeg's filter that tells, and marks, frames whose fields differ by so much. At its own
# 1.04 every other test picture is taken for interlaced; at 1.3 a small thing that moves
# before a still picture is not noticed.
IDET: Final = "idet=intl_thres=1.2"

# Codecs of single pictures. One frame of them beside other streams is a cover.
_OF_STILLS: Final = frozenset(
    {"mjpeg", "mjpegb", "png", "bmp", "gif", "tiff", "webp", "jpeg2000", "jpegls", "targa"}
)
_ROLES: Final = {
    "attached_pic": "cover art",
    "timed_thumbnails": "thumbnails for seeking",
    "still_image": "a still picture",
}


def role(stream: Mapping[str, Any]) -> str:
    """What a stream's disposition says it is instead of a picture that moves; or empty."""
    disposition = stream.get("disposition", {})
    return next((words for name, words in _ROLES.items() if disposition.get(name)), "")


def unfit(stream: Mapping[str, Any], frames: int | None, *, alone: bool) -> str:
    """Why a stream of ffprobe's is no picture, in words, or empty if it is one.

    ``frames`` is how many were found, None if they were not looked for; ``alone``
    tells that the file has no other stream.
    """
    if words := role(stream):
        return words
    known = int(stream["nb_frames"]) if "nb_frames" in stream else frames
    if frames == 0 or known == 0:
        return "without frames"
    codec = stream.get("codec_name")
    # A film may be one JPEG long; a GIF of one frame is a photo or a logo.
    if known == 1 and codec in _OF_STILLS and (codec == "gif" or not alone):
        return "a still picture"
    return ""


def order(picture: Mapping[str, Any]) -> tuple[bool, int, int]:
    """Sorts the facts of pictures: the one marked as default first, then the larger."""
    pixels = int(picture["width"]) * int(picture["height"])
    return (not picture["default"], -pixels, int(picture["index"]))


def warnings(left_out: Sequence[Mapping[str, Any]]) -> list[str]:
    """What people are told of streams that are no pictures."""
    return [f"{what_it_is(one)}; it was left out" for one in left_out]


def what_it_is(stream: Mapping[str, Any]) -> str:
    """Of a stream that is no picture, as in ``stream 0 (h264) is without frames``."""
    return f"stream {stream['index']} ({stream['codec']}) is {stream['reason']}"


def unused(pictures: Sequence[Mapping[str, Any]]) -> list[str]:
    """What people are told of pictures beside the first, which is used."""
    return [
        f"only one picture is used, stream {pictures[0]['index']} ({_size(pictures[0])});"
        f" stream {one['index']} ({_size(one)}) was left out"
        for one in pictures[1:]
    ]


def _size(picture: Mapping[str, Any]) -> str:
    return f"{picture['codec']}, {picture['width']}×{picture['height']}"
