"""304 instead of what the client has already.

``application = Conditional(application)``

Answers If-None-Match and If-Modified-Since of GET and HEAD, as RFC 9110 (13.2)
has it, for responses whose app gave an ETag or Last-Modified. Without an ETag,
a small response gets one from its bytes: one whose Content-Length is known to
be at most ``limit``, or a list. Those it reads into memory; all others stream
through as they are. The app's work is done all the same, but for reading the
body. Compression belongs outside of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from hashlib import blake2b
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from middleware import paste
from middleware.held import Headers, HeldStart, begin, close, read

_METHODS = ("GET", "HEAD")
_opaque = re.compile(r'(?:W/)?("[^"]*")').findall
# What describes a body has no place where there is none.
_OF_BODY = frozenset(
    {"content-length", "content-type", "content-encoding", "content-language", "content-range"}
) | {"transfer-encoding", "accept-ranges", "last-modified"}


class Conditional:
    """``limit`` is in bytes."""

    def __init__(self, app: WSGIApplication, *, limit: int = 1 << 20) -> None:
        self.app = app
        self.limit = limit

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] not in _METHODS:
            return self.app(environ, start_response)
        held = HeldStart(start_response)
        body = self.app(environ, held)
        if not held.status:
            body = begin(body)
        if held.released:
            return body
        try:
            return self._answer(environ, held, body)
        except BaseException:
            with suppress(Exception):  # the first failure is the one to tell
                close(body)
            raise

    def _answer(
        self, environ: WSGIEnvironment, held: HeldStart, body: Iterable[bytes]
    ) -> Iterable[bytes]:
        if held.status.startswith("200"):
            found = {name.lower(): value for name, value in held.headers}
            if "etag" not in found and "no-store" not in found.get("cache-control", ""):
                body = self._tagged(held, found, body, environ["REQUEST_METHOD"] == "HEAD")
            if found and _unmodified(environ, found):
                close(body)
                held.status, held.headers = "304 Not Modified", _kept(held.headers, found)
                body = []
        held.release()
        return body

    def _tagged(
        self, held: HeldStart, found: dict[str, str], body: Iterable[bytes], head: bool
    ) -> Iterable[bytes]:
        """Give a small response an ETag, in the head and in ``found``, which is
        emptied if the app turned to another response meanwhile."""
        length = _length(found)
        if length is None and (head or not isinstance(body, list | tuple)):
            return body
        if (length or 0) > self.limit:
            return body
        before = held.headers
        pieces, body = read(body, self.limit if length is None else length)
        if held.released or held.headers is not before:
            found.clear()
            return body
        size = sum(map(len, pieces))
        # The length of a HEAD is that of a body which is not there.
        if size <= self.limit if length is None else size == length:
            found["etag"] = _hash(pieces)
            held.headers = [*before, ("ETag", found["etag"])]
        return body


def _length(found: dict[str, str]) -> int | None:
    text = found.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() else None


def _hash(pieces: list[bytes]) -> str:
    return f'"{blake2b(b"".join(pieces), digest_size=12).hexdigest()}"'


def _unmodified(environ: WSGIEnvironment, found: dict[str, str]) -> bool:
    """If-None-Match decides alone when it is there."""
    known = environ.get("HTTP_IF_NONE_MATCH")
    if known is not None:
        return known.strip() == "*" or _matches(known, found.get("etag", ""))
    since = environ.get("HTTP_IF_MODIFIED_SINCE")
    if since is None or "last-modified" not in found:
        return False
    try:
        return _moment(found["last-modified"]) <= _moment(since)
    except (ValueError, TypeError, OverflowError):
        return False  # a date that cannot be read is ignored


def _matches(known: str, etag: str) -> bool:
    """By weak comparison: W/ does not count."""
    return bool(etag) and etag.removeprefix("W/") in _opaque(known)


def _moment(date: str) -> datetime:
    moment = parsedate_to_datetime(date)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _kept(headers: Headers, found: dict[str, str]) -> Headers:
    """The head of a 304. Last-Modified stays where it is the only validator."""
    kept = [pair for pair in headers if pair[0].lower() not in _OF_BODY]
    if "etag" not in found and "last-modified" in found:
        kept.append(("Last-Modified", found["last-modified"]))
    return kept


filter_factory = paste.factory(Conditional, limit=paste.whole)
