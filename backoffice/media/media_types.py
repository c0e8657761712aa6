"""Media types: by file name, by probing, and of responses.

Owns the list of types that leave this service as what they are. Any other file
leaves as bytes to be saved, so that no name makes a page or a script of it; the
site of Apache has the same list for what is published.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

BYTES = "application/octet-stream"
BY_SUFFIX = {
    "m3u8": "application/vnd.apple.mpegurl",
    "mpd": "application/dash+xml",
    "m4s": "video/iso.segment",
    "mp4": "video/mp4",
    "m4v": "video/mp4",
    "m4a": "audio/mp4",
    "mov": "video/quicktime",
    "mkv": "video/x-matroska",
    "webm": "video/webm",
    "ts": "video/mp2t",
    "mpg": "video/mpeg",
    "mpeg": "video/mpeg",
    "avi": "video/x-msvideo",
    "ogv": "video/ogg",
    "mxf": "application/mxf",
    "mp3": "audio/mpeg",
    "wav": "audio/x-wav",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "ogg": "audio/ogg",
    "vtt": "text/vtt",
    "srt": "application/x-subrip",
    "txt": "text/plain",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "png": "image/png",
    "gif": "image/gif",
    "webp": "image/webp",
}
KNOWN = frozenset(BY_SUFFIX.values())
# To be saved all the same: a browser would open this one as a document in XML.
SAVED = frozenset({BYTES, "application/dash+xml"})

# By the first name that ffprobe has for a format: what a file of it may be, first
# what it is taken for. Without a picture, the second line counts, if there is one.
_BY_FORMAT = {
    "mov": (("video/mp4", "video/quicktime"), ("audio/mp4", "video/mp4", "video/quicktime")),
    "matroska": (("video/x-matroska", "video/webm"),),
    "mpegts": (("video/mp2t",),),
    "mpeg": (("video/mpeg",),),
    "avi": (("video/x-msvideo",),),
    "mxf": (("application/mxf",),),
    "ogg": (("video/ogg",), ("audio/ogg",)),
    "mp3": (("audio/mpeg",),),
    "wav": (("audio/x-wav",),),
    "aac": (("audio/aac",),),
    "flac": (("audio/flac",),),
}


def of_name(name: str) -> str:
    """What a file is taken for until it has been probed."""
    return BY_SUFFIX.get(PurePosixPath(name).suffix.lower().removeprefix("."), BYTES)


def of_facts(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """What a file can be, as ``media.probe`` has found it: first what it is unless
    its name says another one of these. Empty if that cannot be told."""
    lines = _BY_FORMAT.get(str(facts.get("format", "")).partition(",")[0], ((),))
    return lines[0] if facts.get("video") else lines[-1]


def handed_out(media_type: str) -> str:
    """The type that a file leaves with."""
    return media_type if media_type in KNOWN else BYTES
