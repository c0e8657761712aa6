"""Compressed for who takes it, untouched for all else, and well with Conditional."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterable, Iterator
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import brotli
import pytest

from middleware.compression import MAX_WHOLE, Compression, preferred_encoding
from middleware.conditional import Conditional
from tests.middleware.test_conditional import Body
from tests.middleware.wsgi import Answer, call, environ

TEXT = b"The quick brown fox jumps over the lazy dog. " * 40
PLAIN = ("Content-Type", "text/plain; charset=utf-8")
LENGTH = ("Content-Length", str(len(TEXT)))


def app(
    *headers: tuple[str, str], body: Iterable[bytes] = (TEXT,), status: str = "200 OK"
) -> WSGIApplication:
    def inner(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response(status, [*headers] or [PLAIN])
        return body

    return inner


def ask(app: WSGIApplication, accept: str | None = "gzip", method: str = "GET", **more: Any) -> Any:
    return call(app, method, HTTP_ACCEPT_ENCODING=accept, **more)


def quiet(status: str, headers: Any, exc_info: Any = None) -> Any:
    """A start_response that nobody listens to."""


def gunzip(data: bytes) -> bytes:
    return zlib.decompress(data, 31)


def plain(answer: Answer) -> bytes:
    coding = answer.headers["Content-Encoding"]
    reader = {"gzip": gunzip, "br": brotli.decompress, None: bytes}
    return bytes(reader[coding](answer.body))


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        ("", None),
        ("gzip", "gzip"),
        ("br", "br"),
        ("gzip, deflate, br", "br"),
        ("GZIP", "gzip"),
        ("gzip;q=1.0, br;q=0.5", "gzip"),
        ("gzip; q=0.5 , br; q=0.5", "br"),
        ("*", "br"),
        ("*;q=0", None),
        ("br;q=0, *", "gzip"),
        ("br;q=0, gzip;q=0, *", None),
        ("identity", None),
        ("identity, gzip;q=0.5", None),
        ("identity;q=0.5, gzip", "gzip"),
        ("identity;q=0, gzip;q=0.001", "gzip"),
        ("gzip;q=0", None),
        ("gzip;q=2", None),
        ("gzip;q=nan", None),
        ("gzip;q=", None),
        ("deflate, compress, zstd", None),
        (",;,gzip;q=1", None),
    ],
)
def test_the_coding_is_the_one_that_the_client_prefers(accept: str, coding: str | None) -> None:
    assert preferred_encoding(accept) == coding


@pytest.mark.parametrize("accept", ["gzip", "br", None, "gzip;q=0"])
@pytest.mark.parametrize("length", [[], [LENGTH]])
@pytest.mark.parametrize(
    "body", [[TEXT], (TEXT[:50], b"", TEXT[50:]), Body(TEXT[:50], TEXT[50:])], ids=type
)
def test_every_client_gets_the_same_text(accept: Any, length: Any, body: Any) -> None:
    answer = ask(Compression(app(PLAIN, *length, body=body)), accept)
    assert answer.headers["Content-Encoding"] == (accept if accept in ("gzip", "br") else None)
    assert answer.headers["Vary"] == "Accept-Encoding"
    assert plain(answer) == TEXT
    if "Content-Length" in answer.headers:
        assert int(answer.headers["Content-Length"]) == len(answer.body)


def test_a_body_in_memory_or_small_keeps_a_length_and_a_stream_loses_it() -> None:
    large = TEXT * (MAX_WHOLE // len(TEXT) + 1)
    for headers, body, length in [
        ([PLAIN], [TEXT], True),
        ([PLAIN, LENGTH], Body(TEXT), True),
        ([PLAIN], Body(TEXT), False),
        ([PLAIN, ("Content-Length", str(len(large)))], Body(large), False),
    ]:
        answer = ask(Compression(app(*headers, body=body)))
        assert ("Content-Length" in answer.headers) == length
        assert gunzip(answer.body) in (TEXT, large)


@pytest.mark.parametrize(
    ("media_type", "compressed"),
    [
        ("text/html", True),
        ("TEXT/CSS", True),
        ("application/json", True),
        ("application/problem+json", True),
        ("application/atom+xml; charset=utf-8", True),
        ("image/svg+xml", True),
        ("application/xml", True),
        ("image/png", False),
        ("video/mp4", False),
        ("application/octet-stream", False),
        ("application/zip; name=a+xml", False),
    ],
)
def test_only_text_is_compressed(media_type: str, compressed: bool) -> None:
    answer = ask(Compression(app(("Content-Type", media_type))))
    assert ("Content-Encoding" in answer.headers) == compressed
    assert ("Vary" in answer.headers) == compressed


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        ("206 Partial Content", [("Content-Range", "bytes 0-1799/9999")]),
        ("416 Range Not Satisfiable", [("Content-Range", "bytes */1800")]),
        ("200 OK", [("Content-Encoding", "br")]),
        ("200 OK", [("Cache-Control", "private, no-transform")]),
    ],
)
def test_what_must_not_be_changed_is_not(status: str, headers: Any) -> None:
    body = Body(TEXT)
    answer = ask(Compression(app(PLAIN, LENGTH, *headers, body=body, status=status)))
    assert (answer.body, answer.headers.items()) == (TEXT, [PLAIN, LENGTH, *headers])


def test_without_a_type_nothing_is_compressed() -> None:
    assert ask(Compression(app(LENGTH))).body == TEXT


@pytest.mark.parametrize(("minimum", "compressed"), [(len(TEXT), True), (len(TEXT) + 1, False)])
@pytest.mark.parametrize("body", [[TEXT], Body(TEXT)], ids=type)
def test_what_is_short_stays_as_it_is(minimum: int, compressed: bool, body: Any) -> None:
    answer = ask(Compression(app(PLAIN, LENGTH, body=body), minimum=minimum))
    assert ("Content-Encoding" in answer.headers) == compressed
    assert plain(answer) == TEXT


def test_another_vary_stays() -> None:
    answer = ask(Compression(app(PLAIN, ("Vary", "Accept"))))
    assert answer.headers.get_all("Vary") == ["Accept", "Accept-Encoding"]
    answer = ask(Compression(app(PLAIN, ("vary", "Accept, accept-encoding"))))
    assert answer.headers.get_all("Vary") == ["Accept, accept-encoding"]


def test_ranges_are_not_offered_of_what_was_compressed() -> None:
    assert "Accept-Ranges" not in ask(Compression(app(PLAIN, ("Accept-Ranges", "bytes")))).headers


@pytest.mark.parametrize("accept", ["gzip", "br", ""])
@pytest.mark.parametrize("length", [[], [LENGTH]])
def test_head_has_the_headers_of_get_but_for_a_length_it_cannot_know(
    accept: str, length: Any
) -> None:
    def polite(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [PLAIN, *length, ("ETag", '"a"')])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else Body(TEXT)

    head, get = (ask(Compression(polite), accept, method) for method in ("HEAD", "GET"))
    assert head.body == b""
    for name in ("Content-Encoding", "ETag", "Vary", "Content-Type"):
        assert head.headers[name] == get.headers[name]
    assert head.headers["Content-Length"] == (LENGTH[1] if length and not accept else None)


@pytest.mark.parametrize("coding", ["gzip", "br"])
def test_a_slow_stream_moves(coding: str) -> None:
    """Each piece can be read when it has been sent, before the next is made."""
    reader: Any = zlib.decompressobj(31) if coding == "gzip" else brotli.Decompressor()
    read = reader.decompress if coding == "gzip" else reader.process
    body = Body(b"one", b"two", b"three")
    given = environ(HTTP_ACCEPT_ENCODING=coding)
    pieces = iter(Compression(app(PLAIN, body=body))(given, quiet))
    assert [(read(next(pieces)), body.read) for _ in range(3)] == [
        (b"one", 1),
        (b"two", 2),
        (b"three", 3),
    ]


@pytest.mark.parametrize("coding", ["gzip", "br"])
def test_a_long_stream_takes_bounded_memory(coding: str) -> None:
    piece = random.Random(1).randbytes(10_000)
    body = Body(*[piece] * 400)
    given = environ(HTTP_ACCEPT_ENCODING=coding)
    size, largest = 0, 0
    result = Compression(app(PLAIN, body=body))(given, quiet)
    for number, data in enumerate(result):
        assert body.read <= number + 1
        size, largest = size + len(data), max(largest, len(data))
    assert largest < 20_000


def test_what_is_written_is_compressed_too() -> None:
    def writing(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        write = start_response("200 OK", [PLAIN])
        write(TEXT[:100])
        return Body(TEXT[100:])

    assert plain(ask(Compression(writing))) == TEXT


def test_an_app_that_turns_to_an_error_late_is_compressed_as_that() -> None:
    def wavering(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "image/png")])
        error = ZeroDivisionError()
        start_response("500 No", [PLAIN], (type(error), error, None))
        yield TEXT

    answer = ask(Compression(wavering))
    assert (answer.status, plain(answer)) == (500, TEXT)
    assert answer.headers["Content-Encoding"] == "gzip"


def test_an_app_may_turn_to_something_else_while_nothing_was_sent() -> None:
    def wavering(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [PLAIN])(b"")
        error = ZeroDivisionError()
        start_response("500 No", [("Content-Type", "image/png")], (type(error), error, None))
        return [b"a picture"]

    answer = ask(Compression(wavering))
    assert "Content-Encoding" not in answer.headers
    assert answer.body == b"a picture"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("headers", [[PLAIN], [PLAIN, LENGTH], [("Content-Type", "image/png")]])
@pytest.mark.parametrize("accept", ["gzip", ""])
def test_the_body_is_closed_once(method: str, headers: Any, accept: str) -> None:
    body = Body(TEXT)
    ask(Compression(app(*headers, body=body)), accept, method)
    assert body.closed == 1


def test_a_body_that_fails_in_the_midst_is_closed_and_never_looks_whole() -> None:
    class Failing(Body):
        def __iter__(self) -> Iterator[bytes]:
            yield TEXT
            raise ZeroDivisionError

    body = Failing()
    sent: list[bytes] = []
    given = environ(HTTP_ACCEPT_ENCODING="gzip")
    result = Compression(app(PLAIN, body=body))(given, quiet)
    with pytest.raises(ZeroDivisionError):
        sent.extend(result)
    result.close()  # type: ignore[attr-defined]
    assert body.closed == 1
    reader = zlib.decompressobj(31)
    reader.decompress(b"".join(sent))
    assert not reader.eof


@pytest.mark.parametrize("setting", [{"gzip_level": 10}, {"brotli_quality": 12}])
def test_settings_out_of_range_are_refused(setting: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(setting))):
        Compression(app(), **setting)


# Around Conditional


def both(*headers: tuple[str, str]) -> WSGIApplication:
    return Compression(Conditional(app(PLAIN, LENGTH, *headers)))


@pytest.mark.parametrize("headers", [[], [("ETag", '"a"')], [("ETag", 'W/"a"')]])
@pytest.mark.parametrize("accept", ["gzip", "br", ""])
def test_each_client_gets_304_for_the_tag_it_was_given(headers: Any, accept: str) -> None:
    first = ask(both(*headers), accept)
    tag = first.headers["ETag"]
    assert tag.startswith("W/") == (bool(accept) or tag == 'W/"a"')
    again = ask(both(*headers), accept, HTTP_IF_NONE_MATCH=tag)
    assert (again.status, again.body) == (304, b"")
    assert again.headers["ETag"] == tag
    assert again.headers["Vary"] == "Accept-Encoding"
    assert "Content-Encoding" not in again.headers


def test_a_cache_that_knows_both_is_told_the_weaker_one() -> None:
    strong = ask(both(), "").headers["ETag"]
    again = ask(both(), "gzip", HTTP_IF_NONE_MATCH=f"{strong}, W/{strong}")
    assert (again.status, again.headers["ETag"]) == (304, f"W/{strong}")


def test_another_tag_gets_the_whole_text() -> None:
    answer = ask(both(), "br", HTTP_IF_NONE_MATCH='W/"old"')
    assert (answer.status, plain(answer)) == (200, TEXT)


def test_the_tag_is_that_of_the_text_whatever_its_coding() -> None:
    assert len({ask(both(), coding).headers["ETag"] for coding in ("gzip", "br")}) == 1
