"""One line for each request, which no client can forge."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Iterator
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import pytest

from middleware.access_log import AccessLog
from middleware.request_id import RequestID
from tests.middleware.wsgi import call, environ, hello

LOGGER = logging.getLogger("tests.access")
AT = 1795268096.25  # 2026-11-21T13:34:56.250Z
NASTY = 'a"b\\c\r\n127.0.0.1 - - é\x1b[31m\x85'


class Lines(logging.Handler):
    """What was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(record.getMessage())


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    caplog.set_level(logging.INFO, "tests.access")
    handler = Lines()
    LOGGER.addHandler(handler)
    yield handler.seen
    LOGGER.removeHandler(handler)


def logged(app: WSGIApplication, format: str = "combined") -> WSGIApplication:
    clock = iter([10.0, 10.5])
    return AccessLog(app, LOGGER, format, clock=lambda: next(clock), now=lambda: AT)


def test_the_combined_format_is_apaches(lines: list[str]) -> None:
    app = RequestID(logged(hello), trust=True)
    more = {"HTTP_REFERER": "http://a/", "HTTP_USER_AGENT": "curl", "REMOTE_USER": "alice"}
    call(app, "GET", "/a b?q=1", HTTP_X_REQUEST_ID="id-1", **more)
    assert lines == [
        '127.0.0.1 - alice [21/Nov/2026:13:34:56 +0000] "GET /a%20b?q=1 HTTP/1.1" 200 6'
        ' "http://a/" "curl" 0.500000 id-1'
    ]


def test_json_has_the_same_facts(lines: list[str]) -> None:
    call(RequestID(logged(hello, "json"), trust=True), HTTP_X_REQUEST_ID="id-1")
    shown = json.loads(lines[0])
    assert shown["time"] == "2026-11-21T13:34:56.250Z"
    assert (shown["status"], shown["bytes"], shown["seconds"]) == (200, 6, 0.5)
    assert (shown["method"], shown["path"], shown["request_id"]) == ("GET", "/", "id-1")


@pytest.mark.parametrize("format", ["combined", "json"])
def test_what_a_client_sent_forges_neither_line_nor_field(lines: list[str], format: str) -> None:
    more = {"HTTP_REFERER": NASTY, "HTTP_USER_AGENT": NASTY, "REMOTE_USER": f"{NASTY} x"}
    call(logged(hello, format), "GET", "/" + NASTY, QUERY_STRING=NASTY, **more)
    (line,) = lines
    assert re.fullmatch(r"[\x20-\x7e]+", line)
    if format == "combined":
        assert re.fullmatch(r'\S+ - \S+ \[[^]]+\] "[^"]*" 200 6 "[^"]*" "[^"]*" \S+ -', line)
    else:
        assert json.loads(line)["agent"] == NASTY


def test_the_user_may_be_an_identity(lines: list[str]) -> None:
    class Identity:
        name = "bob"

    call(logged(hello), **{"middleware.identity": Identity()})
    assert " - bob [" in lines[0]


def test_only_bytes_that_the_server_took_are_counted(lines: list[str]) -> None:
    def two(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"first"
        yield b"second"

    result: Any = logged(two)(environ(), lambda *_: lambda data: None)
    chunks = iter(result)
    next(chunks)
    next(chunks)
    result.close()
    assert " 200 5 " in lines[0]


def test_what_was_written_counts_too(lines: list[str]) -> None:
    def writing(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        write: Any = start_response("201 Created", [("Content-Type", "text/plain")])
        write(b"123")
        return [b"45"]

    call(logged(writing))
    assert " 201 5 " in lines[0]


def raising(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    raise LookupError


def raising_first(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    raise LookupError
    yield b""


@pytest.mark.parametrize("app", [raising, raising_first])
def test_an_app_that_raises_is_a_500(lines: list[str], app: WSGIApplication) -> None:
    with pytest.raises(LookupError):
        call(logged(app))
    assert " 500 0 " in lines[0]


def test_a_logger_that_is_off_gets_nothing(
    lines: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "tests.access")
    assert call(logged(hello)).status == 200
    assert lines == []


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(ValueError, match="combined, json"):
        AccessLog(hello, LOGGER, format="common")
