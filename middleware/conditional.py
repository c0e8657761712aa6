"""Conditional requests: ETag, If-None-Match, If-Modified-Since, 304 Not Modified.

``application = Conditional(application)``

For responses of 200 to GET and HEAD whose app gave an ETag or Last-Modified;
WebOb compares them. Without an ETag, a small response gets one made of its
bytes: a list, or a body whose Content-Length is at most ``limit``. Only those
are read into memory; all others stream. The app runs for a 304 too; only
reading its body is saved. Compression belongs outside of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from hashlib import blake2b
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from webob import Response

from middleware import paste
from middleware.buffering import BufferedStart, Headers, close, prefetch, read_ahead

_METHODS = ("GET", "HEAD")
_CONDITIONS = {"HTTP_IF_NONE_MATCH", "HTTP_IF_MODIFIED_SINCE"}


class Conditional:
    """``limit`` is in bytes."""

    def __init__(self, app: WSGIApplication, *, limit: int = 1 << 20) -> None:
        self.app = app
        self.limit = limit

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] not in _METHODS:
            return self.app(environ, start_response)
        start = BufferedStart(start_response)
        body = self.app(environ, start)
        if not start.status:
            body = prefetch(body)
        if start.sent:
            return body
        try:
            return self._respond(environ, start, body)
        except BaseException:
            with suppress(Exception):  # report the first failure
                close(body)
            raise

    def _respond(
        self, environ: WSGIEnvironment, start: BufferedStart, body: Iterable[bytes]
    ) -> Iterable[bytes]:
        if start.status.startswith("200"):
            body = self._with_etag(environ, start, body)
        if not start.sent and start.status.startswith("200") and _CONDITIONS & environ.keys():
            return _compared(environ, start, body)
        start.send()
        return body

    def _with_etag(
        self, environ: WSGIEnvironment, start: BufferedStart, body: Iterable[bytes]
    ) -> Iterable[bytes]:
        """Add an ETag to the head of a small response that has none."""
        headers = start.headers
        size = self._size(environ, headers, body)
        if size is None:
            return body
        pieces, body = read_ahead(body, size)
        # While it was read, the app may have sent its head or started another response.
        if not start.sent and start.headers is headers and sum(map(len, pieces)) == size:
            start.headers = [*headers, ("ETag", _etag(pieces))]
        return body

    def _size(
        self, environ: WSGIEnvironment, headers: Headers, body: Iterable[bytes]
    ) -> int | None:
        """Bytes of a body that shall get an ETag; None for other responses."""
        fields = {name.lower(): value for name, value in headers}
        if "etag" in fields or "no-store" in fields.get("cache-control", ""):
            return None
        length = fields.get("content-length", "")
        if length.isascii() and length.isdigit():
            size = int(length)
        elif environ["REQUEST_METHOD"] == "HEAD" or not isinstance(body, list | tuple):
            return None
        else:
            size = sum(map(len, body))
        return size if size <= self.limit else None


def _compared(
    environ: WSGIEnvironment, start: BufferedStart, body: Iterable[bytes]
) -> Iterable[bytes]:
    """The response, or 304 if the client's copy is current."""

    def send(status: str, headers: Headers, exc_info: Any = None, /) -> Any:
        start.status, start.headers = status, headers
        return start.send()

    response = Response(
        status=start.status, headerlist=start.headers, app_iter=body, conditional_response=True
    )
    # Byte ranges are the app's own business.
    without_range = {key: value for key, value in environ.items() if key != "HTTP_RANGE"}
    answer: Iterable[bytes] = response(without_range, send)
    return answer


def _etag(pieces: list[bytes]) -> str:
    return f'"{blake2b(b"".join(pieces), digest_size=12).hexdigest()}"'


filter_factory = paste.factory(Conditional, limit=paste.whole)
