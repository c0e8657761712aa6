"""Files as responses: whole, in ranges, or not at all.

Owns that nothing is handed out but regular files beneath the folders that the
settings name, whatever symlinks somebody puts in the way meanwhile.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from webob import Response

from backoffice import files
from backoffice.config import Settings
from backoffice.errors import Invalid
from middleware.problem import Problem

BLOCK = 1 << 16
# What a browser may show in place; anything else it shall save.
_SHOWN = ("video/", "audio/", "image/", "text/plain", "text/vtt")
_NEVER = ("image/svg+xml",)
_STREAMS = {
    ".m3u8": "application/vnd.apple.mpegurl",
    ".mpd": "application/dash+xml",
    ".m4s": "video/iso.segment",
    ".mp4": "video/mp4",
    ".ts": "video/mp2t",
    ".vtt": "text/vtt",
    ".jpg": "image/jpeg",
}


def folders(settings: Settings) -> tuple[Path, ...]:
    """Where files that may be handed out lie: what came in and what was made."""
    targets = (target.path for target in settings.targets.values())
    return (*settings.paths.roots, settings.paths.work, *(path for path in targets if path))


def media_type_of(path: str) -> str:
    """Of a member of a package, by its name."""
    return _STREAMS.get(Path(path).suffix.lower(), "application/octet-stream")


def respond(path: str | Path, roots: Sequence[Path], media_type: str) -> Response:
    """The file at an absolute path or file URL; ranges and conditions of the
    request are met by the response. Raises Problem 404."""
    stream = _opened(str(path), roots)
    found = os.fstat(stream.fileno())
    response = Response(
        content_type=media_type,
        charset=None,
        conditional_response=True,
        app_iter=_Blocks(stream, found.st_size),
        accept_ranges="bytes",
    )
    response.content_length = found.st_size
    response.last_modified = datetime.fromtimestamp(int(found.st_mtime), UTC)
    response.etag = f"{found.st_mtime_ns:x}-{found.st_size:x}-{found.st_ino:x}"
    response.cache_control = "private, no-cache"
    if not media_type.startswith(_SHOWN) or media_type in _NEVER:
        response.content_disposition = "attachment"
    return response


def tail(path: str | Path, roots: Sequence[Path], most: int) -> tuple[bytes, int]:
    """The last bytes of a file, and how many it has in all. Raises Problem 404."""
    with _opened(str(path), roots) as stream:
        size = os.fstat(stream.fileno()).st_size
        stream.seek(max(0, size - most))
        return stream.read(most), size


class _Blocks:
    """The bytes of an open file, or a range of them, a block at a time."""

    def __init__(self, stream: BinaryIO, stop: int) -> None:
        self.stream = stream
        self.stop = stop

    def app_iter_range(self, start: int, stop: int | None) -> _Blocks:
        self.stream.seek(start)
        return _Blocks(self.stream, self.stop if stop is None else stop)

    def __iter__(self) -> Iterator[bytes]:
        left = self.stop - self.stream.tell()
        while left > 0 and (block := self.stream.read(min(BLOCK, left))):
            left -= len(block)
            yield block

    def close(self) -> None:
        self.stream.close()


def _opened(name: str, roots: Sequence[Path]) -> BinaryIO:
    try:
        path = files.resolve(name, roots)
        # Without a wait: somebody may have put a pipe there meanwhile.
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (Invalid, OSError) as error:
        raise _gone() from error
    stream = open(number, "rb")  # noqa: SIM115 - closed with the response
    try:
        regular = stat.S_ISREG(os.fstat(number).st_mode)
        if not regular or os.readlink(f"/proc/self/fd/{number}") != str(path):
            raise _gone()
        return stream
    except BaseException:
        stream.close()
        raise


def _gone() -> Problem:
    return Problem(404, "the file cannot be read on this host; it may have been removed")
