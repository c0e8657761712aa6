"""Whatever reads what strangers write takes time in proportion to its length."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any

import pytest

from backoffice.config import redaction
from backoffice.data import gtid, search
from backoffice.documents import paging
from backoffice.errors import Invalid
from backoffice.media import ffmpeg
from backoffice.reports import failure_groups
from backoffice.system import files, logs
from backoffice.tasks import publish
from backoffice.web import queries
from backoffice.web.context import preferred
from backoffice.web.pages import filters
from backoffice.web.pages import tasks as task_pages
from middleware.problem import Problem
from middleware.read_your_writes import ReadYourWrites
from tests.middleware import wsgi

SHORT, LONG = 8 << 10, 64 << 10  # characters
MOST = 30  # times as long, for eight times as much: by the square it would be 64
NOISE = 0.03  # seconds of CPU within which nothing is compared

PIECES = [
    "a",
    " ",
    "/",
    "'",
    '"',
    ".",
    ":",
    "-",
    "0",
    "[",
    "(",
    "{",
    "}",
    "\\",
    "\n",
    "\r",
    "\t",
    "=",
    "@",
    "_",
    "%",
    "<",
    "\0",
    "é",
    "日",
    "\u0301\u0316",
    "…",
    "… ",
    "a.",
    "a/",
    "'/",
    '"/',
    "a:",
    "0.",
    "0,",
    "a ",
    "a,",
    "1:",
    "://",
    "a://",
    "http://a",
    "://a:",
    "[a @ 0x1] ",
    "[error] ",
    "{a",
    '"a":',
    'a="',
    "a=b;",
    "failed ",
    "\\a",
    "#EXTM3U\n",
]
STARTS = ["", '"', "'"]
ENDS = ["", "!\n"]


def _differences(text: str) -> str:
    return failure_groups.alike.__wrapped__(text)


def _scrubbed(text: str) -> object:
    return redaction._with_password("", text), redaction._with_key("", text)


def _cookies(text: str) -> object:
    app = ReadYourWrites(wsgi.hello, secret=b"x" * 16, merged=lambda one, other: one or other)
    return wsgi.call(app, HTTP_COOKIE=text)


READERS: dict[str, Callable[[str], Any]] = {
    "causes of failures": _differences,
    "secrets in addresses": _scrubbed,
    "lines of logs": lambda text: logs._unprintable(logs._escaped, text),
    "prefixes of ffmpeg's lines": lambda text: ffmpeg._PREFIX.sub("", text),
    "playlists": lambda text: ffmpeg._PLAYLIST.match(text.encode()),
    "positions of MariaDB": lambda text: gtid._MARIADB.fullmatch(text),
    "positions of MySQL": lambda text: gtid._MYSQL.fullmatch(text),
    "words that are looked for": search.words,
    "names of outputs": lambda text: files.output_name(text[:255], ".mp4"),
    "names of folders": lambda text: publish.slug(text[:500]),
    "filters as typed": filters.parse,
    "filters as written": lambda text: filters.write([("q", text), ("state", text)]),
    "moments": queries.moment,
    "cursors": paging.cursor,
    "many values": lambda text: queries.collect([("state", text)], queries.JOBS),
    "queries": lambda text: queries.read(text, queries.JOBS),
    "hidden characters": task_pages.visible,
    "Accept": preferred.__wrapped__,
    "cookies": _cookies,
}


def _spent(read: Callable[[str], Any], text: str) -> float:
    """Seconds of CPU."""
    begin = time.thread_time()
    with suppress(Invalid, Problem, ValueError):
        read(text)
    return time.thread_time() - begin


def _filled(start: str, piece: str, end: str, size: int) -> str:
    return start + piece * ((size - len(start) - len(end)) // len(piece)) + end


@pytest.mark.parametrize("name", READERS)
def test_a_text_eight_times_as_long_takes_no_more_than_its_share(name: str) -> None:
    read = READERS[name]
    for piece in PIECES:
        for start in STARTS:
            for end in ENDS:
                short = _spent(read, _filled(start, piece, end, SHORT))
                long = _spent(read, _filled(start, piece, end, LONG))
                assert long <= max(NOISE, MOST * short), (start, piece, end, short, long)


def test_words_are_what_they_are_in_unicode_s_own_order() -> None:
    for text in (
        "Ünïcode",
        "ᾳ",
        "α\u0345\u0301",
        "ﬁn",
        "한국어",
        "e\u0316\u0301x",
        "Straße",
        "ΌΣΟΣ",
    ):
        whole = unicodedata.normalize("NFKD", text)
        folded = unicodedata.normalize("NFKD", whole.casefold())
        bare = "".join(c for c in folded if not unicodedata.combining(c))
        assert search.words(text) == search.words(bare)


def test_a_time_is_no_longer_than_times_are() -> None:
    assert isinstance(queries.moment("2026-11-21T10:00:00.123456+01:00"), datetime)
    with pytest.raises(ValueError, match="a time such as"):
        queries.moment("2026-11-21T10:00:00." + "1" * 60)
