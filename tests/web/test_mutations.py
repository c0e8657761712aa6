"""Documents that were right until something was done to them.

Whatever comes of it is answered as a document should be, and one that is
refused leaves no trace.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as bounds
from hypothesis import strategies as st
from lxml import etree
from storm.locals import Store

from backoffice.web.app import make_app
from tests.board import Board
from tests.web.lasting import DATABASES, lasting_board
from tests.web.visitor import Visitor

EXAMPLES = 200  # of each document, on each database
STATUSES = {200, 201, 400, 409, 413, 415, 422}
COUNTED = ("job", "task", "file", "event", "job_input", "job_parameter", "job_metadata")

DOCUMENTS = {
    "/jobs": (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<job xmlns="urn:backoffice:1" workflow="transcode" priority="50" delay="10m">\n'
        " <title>Episode 1 – Ünï</title>\n"
        ' <input role="source" href="{href}"/>\n'
        ' <parameter name="profile">mp4-360</parameter>\n'
        ' <metadata name="dc:creator">Studio</metadata>\n'
        "</job>"
    ),
    "/files": (
        '<file xmlns="urn:backoffice:1" href="{href}">\n'
        ' <metadata name="dc:title">Episode 1</metadata>\n'
        ' <metadata name="dc:date">2026</metadata>\n'
        "</file>"
    ),
    "/jobs/actions": (
        '<action xmlns="urn:backoffice:1" name="priority" value="10" preview="false">\n'
        ' <filter state="queued,paused" workflow="chain" q="job" submitted-after="2d"/>\n'
        "</action>"
    ),
}


ODD = [
    "",
    " ",
    "0",
    "-1",
    "1",
    "100",
    "101",
    "1e3",
    "9" * 30,
    "0x10",
    "NaN",
    "true",
    "yes",
    "²",
    "a b",
    "a,b",
    "*",
    "%",
    "_",
    "'",
    '"',
    "<",
    "&amp;",
    "]]>",
    "\\",
    "{x}",
    "%s",
    "\t",
    "\n",
    "é",
    "😀",
    "e\u0301",
    "\u202e",
    "\ufffd",
    "\ufeff",
    "a" * 300,
    "Ä" * 4000,
    "/etc/passwd",
    "../x",
    "file:///",
    "file:///etc/passwd",
    "file://host/x",
    "http://[",
    "%00",
    "0s",
    "999999999d",
    "999999999ms",
    "1w",
    "2026-11-21T10:00:00Z",
    "0001-01-01T00:00:00+14:00",
    "cancel",
    "pause",
    "resume",
    "retry",
    "priority",
    "failed",
    "queued",
    "transcode",
    "chain",
    "urn:backoffice:1",
    "job",
    "xml:id",
    "source",
    "target",
    "profile",
    "mp4-360",
]
NAMES = [
    "job",
    "file",
    "action",
    "filter",
    "title",
    "input",
    "parameter",
    "metadata",
    "task",
    "id",
    "name",
    "role",
    "href",
    "key",
    "priority",
    "delay",
    "value",
    "preview",
    "state",
    "x",
    "workflow",
    "submitted-before",
    "Ü",
    "{urn:other}x",
    "{urn:backoffice:1}title",
    "{http://www.w3.org/2001/XMLSchema-instance}type",
    "{http://www.w3.org/2001/XInclude}include",
]
_words = st.sampled_from(ODD) | st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn"]), max_size=40
)
_names = st.sampled_from(NAMES)


# What is done to a tree ------------------------------------------------------


def _drop(draw: Any, element: etree._Element) -> None:
    if (parent := element.getparent()) is not None:
        parent.remove(element)


def _double(draw: Any, element: etree._Element) -> None:
    parent = element.getparent()
    place = element if parent is None else parent
    copies = [deepcopy(element) for _ in range(draw(st.sampled_from([1, 2, 300])))]
    place.extend(copies)


def _rename(draw: Any, element: etree._Element) -> None:
    element.tag = draw(_names)


def _write(draw: Any, element: etree._Element) -> None:
    element.text = draw(_words)


def _set(draw: Any, element: etree._Element) -> None:
    name = draw(st.sampled_from([*element.attrib, draw(_names)]))
    element.set(name, draw(_words))


def _unset(draw: Any, element: etree._Element) -> None:
    if element.attrib:
        del element.attrib[draw(st.sampled_from(list(element.attrib)))]


def _rename_attribute(draw: Any, element: etree._Element) -> None:
    if element.attrib:
        value = element.attrib.pop(draw(st.sampled_from(list(element.attrib))))
        element.set(draw(_names), value)


def _move(draw: Any, element: etree._Element) -> None:
    others = [
        one for one in element.getroottree().iter() if element not in (one, *one.iterancestors())
    ]
    if others:
        draw(st.sampled_from(others)).append(element)


TREE = [_drop, _double, _rename, _write, _set, _set, _unset, _rename_attribute, _move]


# What is done to bytes -------------------------------------------------------


def _flip(draw: Any, data: bytes) -> bytes:
    place = draw(st.integers(0, len(data) - 1))
    return data[:place] + bytes([draw(st.integers(0, 255))]) + data[place + 1 :]


def _cut(draw: Any, data: bytes) -> bytes:
    stop: int = draw(st.integers(0, len(data)))
    return data[:stop]


def _excise(draw: Any, data: bytes) -> bytes:
    start: int = draw(st.integers(0, len(data)))
    size: int = draw(st.integers(0, 30))
    return data[:start] + data[start + size :]


def _insert(draw: Any, data: bytes) -> bytes:
    odd = [b"<!DOCTYPE a>", b"&#0;", b"&a;", b"<![CDATA[<a/>]]>", b"<!-- -->", b"<?a b?>", b"<a>"]
    odd += [b"\0", b"\xff", b"\xef\xbb\xbf", b"\r", b"]]>", b'"', b">", b"</job>", b"xmlns='u' "]
    place = draw(st.integers(0, len(data)))
    piece: bytes = draw(st.sampled_from(odd))
    return data[:place] + piece + data[place:]


def _repeat(draw: Any, data: bytes) -> bytes:
    start = draw(st.integers(0, len(data)))
    piece: bytes = data[start : start + draw(st.integers(1, 60))]
    times: int = draw(st.sampled_from([2, 3, 1000]))
    return data[:start] + piece * times + data[start:]


def _encode(draw: Any, data: bytes) -> bytes:
    coding = draw(st.sampled_from(["utf-16", "latin-1", "utf-7", "utf-8-sig", "utf-32-be"]))
    return data.decode("utf-8", "replace").encode(coding, "replace")


BYTES = [_flip, _cut, _excise, _insert, _repeat, _encode]


@st.composite
def _mutated(draw: Any, document: str) -> bytes:
    root = etree.fromstring(document.encode())
    for _ in range(draw(st.integers(0, 3))):
        element = draw(st.sampled_from(list(root.iter())))
        draw(st.sampled_from(TREE))(draw, element)
    data = etree.tostring(root, xml_declaration=draw(st.booleans()), encoding="UTF-8")
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        if data:
            data = draw(st.sampled_from(BYTES))(draw, data)
    return data


# Sent ------------------------------------------------------------------------


@pytest.fixture(scope="module", params=DATABASES)
def board(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Board]:
    """With some jobs, for actions to act on."""
    with lasting_board(request, tmp_path_factory.mktemp("mutations"), "mutations") as board:
        for _ in range(3):
            board.submit()
        yield board


@pytest.mark.parametrize("path", DOCUMENTS)
def test_a_document_that_was_tampered_with_is_taken_or_refused_whole(
    board: Board, path: str
) -> None:
    visitor = Visitor(make_app(board.settings))
    clip = board.settings.paths.roots[0] / "clip.mp4"
    document = DOCUMENTS[path].replace("{href}", clip.as_uri())
    assert visitor.post(path, document).status in (200, 201)

    @bounds(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(data=_mutated(document), accept=st.sampled_from(["application/xml", "application/json"]))
    def run(data: bytes, accept: str) -> None:
        before = board.read(_held)
        answer = visitor.post(path, data, HTTP_ACCEPT=accept, CONTENT_TYPE="application/xml")
        assert answer.status in STATUSES, answer.text
        assert answer.status < 400 or board.read(_held) == before

    run()


def _held(store: Store) -> list[Any]:
    """What the database holds, as far as documents change it."""
    counts = [store.execute(f"SELECT COUNT(*) FROM {table}").get_one() for table in COUNTED]
    jobs = store.execute("SELECT state, SUM(priority), COUNT(*) FROM job GROUP BY state").get_all()
    return [*counts, sorted(jobs)]
