"""Files as responses: whole, in ranges, or not at all.

Owns that nothing is handed out but regular files beneath the folders that the
settings name, whatever symlinks somebody puts in the way meanwhile.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import cherrypy
from webob import Response

from backoffice.config.settings import Settings
from backoffice.errors import Invalid
from backoffice.media import media_types
from backoffice.system import files
from backoffice.web import responses
from middleware.problem import Problem

BLOCK = 1 << 16
# Whatever a file turns out to be, no script in it runs, and it reaches nothing.
POLICY = (
    "default-src 'none'; media-src 'self'; img-src 'self'; form-action 'none'; base-uri 'none';"
    " frame-ancestors 'none'; sandbox"
)


def folders(settings: Settings) -> tuple[Path, ...]:
    """Where files that may be handed out lie: what came in and what was made."""
    targets = (target.path for target in settings.targets.values())
    return (*settings.paths.roots, settings.paths.work, *(path for path in targets if path))


# One range, as RFC 9110 writes it; any other is as good as none. WebOb takes time
# by the square of the blanks in one, and fails at numbers of many digits.
_range = re.compile(r"bytes=(?:[0-9]{1,18}-[0-9]{0,18}|-[0-9]{1,18})").fullmatch


def send(
    path: str | Path, roots: Sequence[Path], media_type: str, *, charset: str | None = None
) -> Iterable[bytes]:
    """The file at an absolute path or file URL, as the response; ranges and conditions
    of the request are met by it. A type that is not among ``media_types`` becomes
    that of bytes to be saved. Raises Problem 404."""
    environ = cherrypy.serving.request.wsgi_environ
    if not _range(environ.get("HTTP_RANGE", "")):
        environ.pop("HTTP_RANGE", None)
    return responses.conditional(_response(path, roots, media_type, charset))


def _response(
    path: str | Path, roots: Sequence[Path], media_type: str, charset: str | None
) -> Response:
    stream = _opened(str(path), roots)
    media_type = media_types.handed_out(media_type)
    found = os.fstat(stream.fileno())
    response = Response(
        content_type=media_type,
        charset=charset,
        conditional_response=True,
        app_iter=_Blocks(stream, found.st_size),
        accept_ranges="bytes",
    )
    response.content_length = found.st_size
    response.last_modified = datetime.fromtimestamp(int(found.st_mtime), UTC)
    response.etag = f"{found.st_mtime_ns:x}-{found.st_size:x}-{found.st_ino:x}"
    response.cache_control = "private, no-cache"
    response.headers["Content-Security-Policy"] = POLICY
    if media_type in media_types.SAVED:
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
        descriptor, _ = files.open_beneath(name, roots)
    except Invalid as error:
        raise _gone() from error
    return open(descriptor, "rb")


def _gone() -> Problem:
    return Problem(404, "the file cannot be read on this host; it may have been removed")
