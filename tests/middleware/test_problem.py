"""Problems say what is wrong, in the client's format, and nothing harmful."""

from __future__ import annotations

import json

import pytest
from lxml import etree

from backoffice.config.resources import share
from middleware.problem import Problem
from tests.middleware.wsgi import call

VISIBLE = "<script>&\"'\ufffd\ufffd\r\n]]>\ufffdé"  # NASTY, as XML can hold it
NASTY = "<script>&\"'\x00\x1b\r\n]]>\ud800é"


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (None, "application/problem+xml"),
        ("*/*", "application/problem+xml"),
        ("no such thing", "application/problem+xml"),
        ("image/png", "application/problem+xml"),
        ("application/xml", "application/problem+xml"),
        ("application/*", "application/problem+xml"),
        ("application/json", "application/problem+json"),
        ("application/xml;q=0.5, application/json", "application/problem+json"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "text/html"),
    ],
)
def test_the_format_is_the_one_that_the_client_prefers(accept: str | None, media_type: str) -> None:
    answer = call(Problem(404), HTTP_ACCEPT=accept)
    assert answer.headers["Content-Type"].split(";")[0] == media_type


def test_a_format_chosen_by_the_path_wins_over_accept() -> None:
    answer = call(Problem(404), HTTP_ACCEPT="text/html", **{"middleware.format": "json"})
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_xml_is_valid_and_tells_all() -> None:
    faults = [{"line": 3, "column": 0, "message": "<a> & b"}, {"message": NASTY}]
    problem = Problem(422, f"it is wrong {NASTY}", errors=faults)
    body = call(problem, path="/jobs/\xc3\xa9 <").body
    root = etree.fromstring(body)
    etree.XMLSchema(etree.parse(str(share("schema") / "problem.xsd"))).assertValid(root)
    shown = {name: root.findtext(f"{{*}}{name}") for name in ("type", "title", "status", "detail")}
    assert shown == {
        "type": "about:blank",
        "title": "Unprocessable Content",
        "status": "422",
        "detail": f"it is wrong {VISIBLE}",
    }
    assert root.findtext("{*}instance") == "/jobs/%C3%A9%20%3C"
    (first, second) = root.iterfind("{*}errors/{*}i")
    assert [first.findtext(f"{{*}}{name}") for name in ("line", "column", "message")] == [
        "3",
        "0",
        "<a> & b",
    ]
    assert second.findtext("{*}message") == VISIBLE


def test_json_has_the_same_members() -> None:
    problem = Problem(400, NASTY, errors=[{"line": 1, "message": "no"}], type="urn:x")
    shown = json.loads(call(problem, HTTP_ACCEPT="application/json", path="/a").body)
    assert shown == {
        "type": "urn:x",
        "title": "Bad Request",
        "status": 400,
        "detail": NASTY.translate({0: 0xFFFD, 0x1B: 0xFFFD, 0xD800: 0xFFFD}),
        "instance": "/a",
        "errors": [{"line": 1, "message": "no"}],
    }


def test_html_escapes_everything() -> None:
    problem = Problem(400, NASTY, title="<b>", errors=[{"message": "<script>"}])
    page = call(problem, HTTP_ACCEPT="text/html").text
    assert "<script" not in page
    assert "<b>" not in page
    assert "style" not in page


def test_head_has_the_headers_and_no_body() -> None:
    head, get = call(Problem(404), "HEAD"), call(Problem(404))
    assert head.body == b""
    assert head.headers.items() == get.headers.items()


def test_it_is_never_stored_and_carries_its_headers() -> None:
    answer = call(Problem(405, headers=[("Allow", "GET, HEAD")]))
    assert answer.headers["Allow"] == "GET, HEAD"
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_long_path_is_not_sent_back_whole() -> None:
    assert len(call(Problem(414), path="/" + "a" * 100_000).body) < 2000


def test_as_text_it_says_what_is_wrong() -> None:
    assert str(Problem(409, "it has ended")) == "409 Conflict: it has ended"
