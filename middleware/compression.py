"""Compression: gzip and Brotli for text, by Accept-Encoding.

``application = Compression(Conditional(application))``

A body that is in memory or small is compressed as a whole and keeps a
Content-Length. Others are compressed piece by piece and lose it; bodies of
unknown length are flushed after each piece, so that slow streams arrive.

Conditional belongs inside. A strong ETag becomes weak in a compressed response,
whose bytes differ from those of the tag. Conditional compares weakly, so the
weak tag in If-None-Match still gives 304, and that 304 carries the tag that the
client knows.

Secrets in pages must differ in each response, as CSRFProtection's tokens do:
the size of a compressed page would reveal them (BREACH).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Any, Protocol
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from webob.acceptparse import AcceptEncodingValidHeader, create_accept_encoding_header

from middleware import paste
from middleware.buffering import BufferedStart, Headers, close, prefetch, read_ahead

try:
    import brotli
except ImportError:
    brotli = None

MAX_WHOLE = 1 << 16  # bytes of a body of known length that is compressed as a whole

_ENCODINGS = ("br", "gzip") if brotli else ("gzip",)  # in the order of preference
_is_text = re.compile(
    r"text/|application/(?:json|xml|javascript|x-ndjson|openapi|wasm)|image/svg|[^;]*\+(?:json|xml)",
    re.I,
).match
_NO_BODY = ("1", "204", "206", "304")
_DROPPED = frozenset({"content-length", "accept-ranges", "etag"})


class _Encoder(Protocol):
    def process(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...
    def finish(self) -> bytes: ...


class Compression:
    """``minimum`` is in bytes. ``gzip_level`` is 0, fast, to 9, small;
    ``brotli_quality`` 0 to 11."""

    def __init__(
        self,
        app: WSGIApplication,
        *,
        minimum: int = 500,
        gzip_level: int = 5,
        brotli_quality: int = 4,
    ) -> None:
        for name, value, highest in (
            ("gzip_level", gzip_level, 9),
            ("brotli_quality", brotli_quality, 11),
        ):
            if not 0 <= value <= highest:
                raise ValueError(f"{name}: is not from 0 to {highest}")
        self.app = app
        self.minimum = minimum
        self._encoders: dict[str, Callable[[], _Encoder]] = {
            "gzip": lambda: _Gzip(gzip_level),
            # A window of 512 kB; the default of 4 MB is memory for each response.
            "br": lambda: brotli.Compressor(quality=brotli_quality, lgwin=19),
        }

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        response = _Response(self, environ, start_response)
        start = BufferedStart(response.start)
        body = self.app(environ, start)
        if start.status and not start.sent and not _is_compressible(start.status, start.headers):
            start.send()
            return body
        body = prefetch(body)
        try:
            return response.respond(start, body)
        except BaseException:
            with suppress(Exception):  # report the first failure
                close(body)
            raise

    def encoder(self, encoding: str) -> _Encoder:
        return self._encoders[encoding]()


class _Response:
    """One response and its encoder, if it is compressed."""

    def __init__(
        self, component: Compression, environ: WSGIEnvironment, start_response: StartResponse
    ) -> None:
        self._component = component
        self._environ = environ
        self._start = start_response
        self._whole: bytes | None = None
        self._encoder: _Encoder | None = None
        self._flush = True

    def respond(self, start: BufferedStart, body: Iterable[bytes]) -> Iterable[bytes]:
        """Send the head; returns the body to send."""
        head = self._environ["REQUEST_METHOD"] == "HEAD"
        if not start.sent and not head and _is_compressible(start.status, start.headers):
            body = self._read_whole(start.headers, body)
        start.send()
        if self._encoder is None:
            return body
        if head:
            close(body)
            return []
        if self._whole is not None:
            close(body)
            return [self._whole]
        return _EncodedBody(body, self._encoder, self._flush)

    def _read_whole(self, headers: Headers, body: Iterable[bytes]) -> Iterable[bytes]:
        """Read a body that is small or in memory into ``_whole``."""
        length = _content_length(headers)
        if not isinstance(body, list | tuple) and (length is None or length > MAX_WHOLE):
            return body
        pieces, body = read_ahead(body, length or 0)
        if isinstance(body, list | tuple) or sum(map(len, pieces)) == length:
            self._whole = b"".join(pieces)
        return body

    def start(self, status: str, headers: Headers, exc_info: Any = None, /) -> Any:
        """The ``start_response`` that chooses the encoder; ``_whole`` is known by then."""
        self._encoder = None
        if status.startswith("304"):
            headers = _with_known_etag(headers, self._environ.get("HTTP_IF_NONE_MATCH", ""))
        elif _is_compressible(status, headers):
            headers = self._encode(headers)
        write = self._start(status, headers, exc_info)
        return write if self._encoder is None else self._writer(write)

    def _encode(self, headers: Headers) -> Headers:
        encoding = preferred_encoding(self._environ.get("HTTP_ACCEPT_ENCODING", ""))
        size = _content_length(headers) if self._whole is None else len(self._whole)
        self._flush = size is None
        if encoding is None or (size is not None and size < self._component.minimum):
            return _with_vary(headers)
        self._encoder = self._component.encoder(encoding)
        kept = [pair for pair in headers if pair[0].lower() not in _DROPPED]
        kept.extend((name, _weak(tag)) for name, tag in headers if name.lower() == "etag")
        kept.append(("Content-Encoding", encoding))
        if self._whole is not None:
            self._whole = self._encoder.process(self._whole) + self._encoder.finish()
            kept.append(("Content-Length", str(len(self._whole))))
        return _with_vary(kept)

    def _writer(self, write: Callable[[bytes], object]) -> Callable[[bytes], object]:
        encoder = self._encoder
        assert encoder is not None
        # After an empty write the app may still start another response.
        return lambda data: write(encoder.process(data) + encoder.flush() if data else b"")


class _EncodedBody:
    """The pieces of a body, compressed; closing it closes the body, once."""

    def __init__(self, body: Iterable[bytes], encoder: _Encoder, flush: bool) -> None:
        self._body: Iterable[bytes] | None = body
        self._pieces = iter(body)
        self._encoder = encoder
        self._flush = flush
        self._ended = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._ended:
            raise StopIteration
        try:
            piece = next(self._pieces)
        except StopIteration:
            self._ended = True
            return self._encoder.finish()
        data = self._encoder.process(piece)
        return data + self._encoder.flush() if self._flush and piece else data

    def close(self) -> None:
        body, self._body = self._body, None
        close(body)


class _Gzip:
    def __init__(self, level: int) -> None:
        deflate = zlib.compressobj(level, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
        self.process = deflate.compress
        self.finish = deflate.flush
        self.flush = lambda: deflate.flush(zlib.Z_SYNC_FLUSH)


@lru_cache(maxsize=64)
def preferred_encoding(accept: str) -> str | None:
    """The encoding that an Accept-Encoding prefers; None for the body as it is."""
    header = create_accept_encoding_header(accept)
    # WebOb takes a malformed header for none, which allows every encoding.
    if not isinstance(header, AcceptEncodingValidHeader):
        return None
    offers = header.acceptable_offers(_ENCODINGS)
    identity = dict(header.parsed).get("identity", 0.0)
    return str(offers[0][0]) if offers and offers[0][1] >= identity else None


def _is_compressible(status: str, headers: Headers) -> bool:
    """Whether to compress a response for a client that accepts it."""
    if status.startswith(_NO_BODY):
        return False
    text = False
    for name, value in headers:
        match name.lower():
            case "content-type":
                text = bool(_is_text(value))
            case "content-encoding" | "content-range":
                return False
            case "cache-control" if "no-transform" in value.lower():
                return False
    return text


def _content_length(headers: Headers) -> int | None:
    text = next((value for name, value in headers if name.lower() == "content-length"), "")
    return int(text) if text.isascii() and text.isdigit() else None


def _with_vary(headers: Headers) -> Headers:
    for name, value in headers:
        if name.lower() == "vary" and ("accept-encoding" in value.lower() or value == "*"):
            return headers
    return [*headers, ("Vary", "Accept-Encoding")]


def _weak(tag: str) -> str:
    return tag if tag.startswith("W/") else f"W/{tag}"


def _with_known_etag(headers: Headers, if_none_match: str) -> Headers:
    """The head of a 304, with the weak ETag if the client has a compressed copy."""
    kept = [
        (name, _weak(value) if name.lower() == "etag" and _weak(value) in if_none_match else value)
        for name, value in headers
    ]
    return _with_vary(kept)


filter_factory = paste.factory(
    Compression, minimum=paste.whole, gzip_level=paste.whole, brotli_quality=paste.whole
)
