"""Text goes out as gzip or Brotli, to clients that take it.

``application = Compression(Conditional(application))``

A body that is in memory, or known to be small, is compressed at once and keeps
a Content-Length. Others are compressed piece by piece and lose it; one of
unknown length is flushed after each piece, so that slow ones move.

Conditional belongs inside. A strong ETag becomes weak in a compressed response:
its bytes are no longer those that the tag was made of. Conditional compares
weakly, so the changed tag in If-None-Match still gives 304, and that 304
carries the tag that the client knows.

Secrets in pages must differ each time (CrossSite's tokens do): their lengths,
compressed, would tell them.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Any, Protocol
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from middleware import paste
from middleware.held import Headers, HeldStart, begin, close, read

try:
    import brotli
except ImportError:
    brotli = None

WHOLE = 1 << 16  # bytes: up to here a body of known length is read first

_OFFERS = ("br", "gzip") if brotli else ("gzip",)  # the first is preferred
_compressible = re.compile(
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
    """``minimum`` is in bytes; ``gzip_level`` goes from 0, fast, to 9, and
    ``brotli_quality`` from 0, fast, to 11."""

    def __init__(
        self,
        app: WSGIApplication,
        *,
        minimum: int = 500,
        gzip_level: int = 5,
        brotli_quality: int = 4,
    ) -> None:
        for name, value, most in (
            ("gzip_level", gzip_level, 9),
            ("brotli_quality", brotli_quality, 11),
        ):
            if not 0 <= value <= most:
                raise ValueError(f"{name}: is not from 0 to {most}")
        self.app = app
        self.minimum = minimum
        self._encoders: dict[str, Callable[[], _Encoder]] = {
            "gzip": lambda: _Gzip(gzip_level),
            # A window of 512 kB: the usual 4 MB would cost each stream as much.
            "br": lambda: brotli.Compressor(quality=brotli_quality, lgwin=19),
        }

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        response = _Response(self, environ, start_response)
        held = HeldStart(response.start)
        body = self.app(environ, held)
        if held.status and not held.released and not _worth(held.status, held.headers):
            held.release()
            return body
        body = begin(body)
        try:
            return response.finished(held, body)
        except BaseException:
            with suppress(Exception):  # the first failure is the one to tell
                close(body)
            raise

    def encoder(self, encoding: str) -> _Encoder:
        return self._encoders[encoding]()


class _Response:
    """One response on its way through Compression."""

    def __init__(
        self, component: Compression, environ: WSGIEnvironment, start_response: StartResponse
    ) -> None:
        self._component = component
        self._environ = environ
        self._start = start_response
        self._whole: bytes | None = None
        self._encoder: _Encoder | None = None
        self._flush = True

    def finished(self, held: HeldStart, body: Iterable[bytes]) -> Iterable[bytes]:
        """The body as it goes out, its head released."""
        head = self._environ["REQUEST_METHOD"] == "HEAD"
        if not held.released and not head and _worth(held.status, held.headers):
            body = self._read(held, body)
        held.release()
        if self._encoder is None:
            return body
        if head:
            close(body)
            return []
        if self._whole is not None:
            close(body)
            return [self._whole]
        return _Encoded(body, self._encoder, self._flush)

    def _read(self, held: HeldStart, body: Iterable[bytes]) -> Iterable[bytes]:
        """Take a body that is small, or in memory, as a whole."""
        length = _length(held.headers)
        if not isinstance(body, list | tuple) and (length is None or length > WHOLE):
            return body
        pieces, body = read(body, length or 0)
        if isinstance(body, list | tuple) or sum(map(len, pieces)) == length:
            self._whole = b"".join(pieces)
        return body

    def start(self, status: str, headers: Headers, exc_info: Any = None, /) -> Any:
        """The ``start_response`` that decides; ``_whole`` is known by then."""
        self._encoder = None
        if status.startswith("304"):
            headers = _with_known_tag(headers, self._environ.get("HTTP_IF_NONE_MATCH", ""))
        elif _worth(status, headers):
            headers = self._encode(headers)
        write = self._start(status, headers, exc_info)
        return write if self._encoder is None else self._writer(write)

    def _encode(self, headers: Headers) -> Headers:
        encoding = chosen(self._environ.get("HTTP_ACCEPT_ENCODING", ""))
        size = _length(headers) if self._whole is None else len(self._whole)
        self._flush = size is None
        if encoding is None or (size is not None and size < self._component.minimum):
            return _varying(headers)
        self._encoder = self._component.encoder(encoding)
        kept = [pair for pair in headers if pair[0].lower() not in _DROPPED]
        kept.extend((name, _weak(tag)) for name, tag in headers if name.lower() == "etag")
        kept.append(("Content-Encoding", encoding))
        if self._whole is not None:
            self._whole = self._encoder.process(self._whole) + self._encoder.finish()
            kept.append(("Content-Length", str(len(self._whole))))
        return _varying(kept)

    def _writer(self, write: Callable[[bytes], object]) -> Callable[[bytes], object]:
        encoder = self._encoder
        assert encoder is not None
        # Nothing written is nothing sent: the app may still start anew.
        return lambda data: write(encoder.process(data) + encoder.flush() if data else b"")


class _Encoded:
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
def chosen(accept: str) -> str | None:
    """The coding that an Accept-Encoding prefers; None for the body as it is."""
    weights: dict[str, float] = {}
    for item in accept.lower().split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        weights[name.removeprefix("x-")] = _weight(parameters)
    others = weights.get("*", 0.0)
    best = max(_OFFERS, key=lambda name: weights.get(name, others))  # the first of equals
    weight = weights.get(best, others)
    return best if weight > 0 and weight >= weights.get("identity", 0.0) else None


def _weight(parameters: list[str]) -> float:
    """The q among the parameters of an item; 0, which is never, for nonsense."""
    text = next((p[2:] for p in parameters if p.startswith("q=")), "1")
    return float(text) if re.fullmatch(r"[01](?:\.\d{0,3})?", text, re.ASCII) else 0.0


def _worth(status: str, headers: Headers) -> bool:
    """Whether a response would be compressed for a client that takes it."""
    if status.startswith(_NO_BODY):
        return False
    worth = False
    for name, value in headers:
        match name.lower():
            case "content-type":
                worth = bool(_compressible(value))
            case "content-encoding" | "content-range":
                return False
            case "cache-control" if "no-transform" in value.lower():
                return False
    return worth


def _length(headers: Headers) -> int | None:
    text = next((value for name, value in headers if name.lower() == "content-length"), "")
    return int(text) if text.isascii() and text.isdigit() else None


def _varying(headers: Headers) -> Headers:
    for name, value in headers:
        if name.lower() == "vary" and ("accept-encoding" in value.lower() or value == "*"):
            return headers
    return [*headers, ("Vary", "Accept-Encoding")]


def _weak(tag: str) -> str:
    return tag if tag.startswith("W/") else f"W/{tag}"


def _with_known_tag(headers: Headers, known: str) -> Headers:
    """The head of a 304 as a compressed 200 had it, if that is what is known."""
    kept = [
        (name, _weak(value) if name.lower() == "etag" and _weak(value) in known else value)
        for name, value in headers
    ]
    return _varying(kept)


filter_factory = paste.factory(
    Compression, minimum=paste.whole, gzip_level=paste.whole, brotli_quality=paste.whole
)
