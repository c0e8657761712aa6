"""What costs more than its size is refused: soon, in few words, and never by failing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as bounds
from hypothesis import strategies as st
from lxml import etree

from backoffice.config import loading
from backoffice.documents import safe_xml
from backoffice.web.app import make_app
from tests.board import Board
from tests.middleware import wsgi
from tests.web import worst
from tests.web.visitor import FORM, Visitor

SIZE = 1 << 20  # the most bytes that a document may have
TRIES = 4  # a loaded machine takes longer for the same: the shortest counts
CPU = 0.5  # seconds of this thread for a document; the slowest takes a fifth of it
LARGEST = 64 << 10  # bytes of an answer
REQUESTS = worst.requests()
JSON = "application/json"


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    home = tmp_path_factory.mktemp("worst")
    (home / "media").mkdir()
    environ = {
        "BACKOFFICE_DATABASE_URI": f"sqlite:{home}/backoffice.sqlite",
        "BACKOFFICE_PATHS_HOME": str(home),
        "BACKOFFICE_PATHS_ROOTS": "media",
        "BACKOFFICE_WEB_RATE": "0",
    }
    board = Board(loading.load(None, environ))
    for _ in range(3):
        board.submit()
    yield board
    board.close()


@pytest.fixture(scope="module")
def visitor(board: Board) -> Visitor:
    """Whose first request has been answered: schemas and templates are loaded."""
    visitor = Visitor(make_app(board.settings))
    for path in worst.XML:
        visitor.post(path, "<x/>")
    visitor.post("/submit", "workflow=transcode", FORM)
    return visitor


# Each endpoint and each shape ------------------------------------------------


@pytest.mark.parametrize(
    ("path", "media_type", "shape"),
    [(path, media_type, shape) for path, media_type, _, shape in REQUESTS],
    ids=[f"{path} {media_type[12:16]} {name}" for path, media_type, name, _ in REQUESTS],
)
def test_a_megabyte_of_the_worst_is_refused_soon(
    visitor: Visitor, path: str, media_type: str, shape: worst.Shape
) -> None:
    data = shape(SIZE)
    assert len(data) <= SIZE
    spent = []
    for _ in range(TRIES):
        begin = time.thread_time()
        answer = wsgi.call(
            visitor.app, "POST", path, data, CONTENT_TYPE=media_type, HTTP_HOST="localhost"
        )
        spent.append(time.thread_time() - begin)
        assert 400 <= answer.status < 500, answer.text[:500]
        assert len(answer.body) <= LARGEST
        if spent[-1] <= CPU:
            return
    raise AssertionError(f"took {spent} s of processor time")


@pytest.mark.parametrize("path", worst.XML)
def test_any_json_is_taken_or_refused_in_words(visitor: Visitor, path: str) -> None:
    names = st.sampled_from(
        (
            "workflow title key priority delay inputs parameters metadata href name value"
            " preview filter jobs id role state q"
        ).split()
    )
    single = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters())
    values = st.recursive(
        single, lambda inner: st.lists(inner) | st.dictionaries(names, inner), max_leaves=20
    )

    @bounds(
        max_examples=200,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(value=st.dictionaries(names, values) | values)
    def run(value: object) -> None:
        answer = visitor.post(path, json.dumps(value), JSON)
        assert answer.status in (200, 201, 400, 413, 415, 422), answer.text

    run()


# What is refused, and what is said -------------------------------------------


def refused(visitor: Visitor, path: str, body: str, media_type: str = JSON) -> dict[str, Any]:
    answer = visitor.post(path, body, media_type, HTTP_ACCEPT=JSON)
    problem: dict[str, Any] = json.loads(answer.body)
    assert answer.status == problem["status"]
    return problem


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ('{"workflow": "w", "key": "a", "key": "b"}', 400, "'key' is given twice"),
        ('{"metadata": {"a": "1", "b": "", "a": "1"}}', 400, "'a' is given twice"),
        ('{"workflow": "w", "priority": NaN}', 400, "NaN is not a number"),
        ('{"workflow": "w", "priority": -Infinity}', 400, "-Infinity is not a number"),
        ('{"workflow": "w", "priority": 1e999}', 400, "1e999 is not a number"),
        ('{"workflow": "w", "priority": 1.5}', 422, ""),
        (f'{{"workflow": "w", "priority": {"9" * 5000}}}', 400, "too many digits"),
        ('{"workflow": "w", "title": "a\\ud800"}', 400, "U+D800"),
        ('{"workflow": "w", "title": "a\\u0000"}', 400, "U+0000"),
        ('{"workflow": "w", "metadata": {"\\u0000": ""}}', 400, "U+0000"),
        (f'{{"workflow": "w", "title": {"[" * 450}{"]" * 450}}}', 400, "32 deep"),
        (f'{{"workflow": "w", "title": {"[" * 9000}{"]" * 9000}}}', 400, "32 deep"),
        ('{"workflow": "w", "title": [["a"]]}', 422, ""),
        ('{"workflow": "w", "inputs": [' + "{}," * 3000 + "{}]}", 413, "more than 2500 elements"),
    ],
)
def test_json_that_is_not_read_is_refused_with_the_reason(
    visitor: Visitor, body: str, status: int, said: str
) -> None:
    problem = refused(visitor, "/jobs", body)
    assert problem["status"] == status
    assert said in problem["detail"]


def test_of_many_faults_the_first_are_told_and_how_many_more(visitor: Visitor) -> None:
    inputs = "<input/>\n" * 300
    body = f'<job xmlns="{worst.NAMESPACE}" workflow="transcode">{inputs}</job>'
    problem = refused(visitor, "/jobs", body, "application/xml")
    assert len(problem["errors"]) == safe_xml.FAULTS == 100
    assert problem["more"] == 2 * 300 - 100
    assert [error["line"] for error in problem["errors"][:4]] == [1, 1, 2, 2]
    told = etree.fromstring(visitor.post("/jobs", body).body)
    assert told.findtext("{*}more") == "500"
    page = visitor.post("/jobs", body, HTTP_ACCEPT="application/xhtml+xml")
    assert "and 500 more" in page.text


def test_few_faults_are_told_without_a_number(visitor: Visitor) -> None:
    body = f'<job xmlns="{worst.NAMESPACE}" workflow="transcode"><input/></job>'
    problem = refused(visitor, "/jobs", body, "application/xml")
    assert len(problem["errors"]) == 2
    assert "more" not in problem


def test_a_long_value_is_told_by_its_ends(visitor: Visitor) -> None:
    body = f'<job xmlns="{worst.NAMESPACE}" workflow="{"*" * 10_000}"/>'
    (message, *_) = (
        error["message"] for error in refused(visitor, "/jobs", body, "text/xml")["errors"]
    )
    assert message.startswith("Element 'job', attribute 'workflow'")
    assert "…" in message
    assert len(message) < 250


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ("<x>" * 40 + "</x>" * 40, 400, "32 deep"),
        (f"<x>{'<y/>' * 3000}</x>", 413, "2500 elements"),
        ("<x>" + '<y a="" b="" c="" d="" e=""/>' * 2400 + "</x>", 413, "10000 attributes"),
        ("<!-- --><?x?><!DOCTYPE x><x/>", 400, "has a DTD"),
        ("<?xml version='1.0' encoding='utf-7'?><x/>", 415, "is in utf-7"),
    ],
)
def test_xml_that_holds_too_much_is_refused_where_it_does(
    visitor: Visitor, body: str, status: int, said: str
) -> None:
    problem = refused(visitor, "/files", body, "application/xml")
    assert problem["status"] == status
    assert said in problem["detail"]
    assert problem["errors"][0]["line"] == 1


def test_as_many_jobs_as_an_action_may_name_are_read(visitor: Visitor) -> None:
    jobs = "".join(f'<job id="{n}"/>' for n in range(1, 2001))
    body = f'<action xmlns="{worst.NAMESPACE}" name="cancel" preview="1">{jobs}</action>'
    answer = visitor.post("/jobs/actions", body)
    assert answer.status == 200
    assert etree.fromstring(answer.body).get("matched") == "2000"


@pytest.mark.parametrize("name", ["state=,", "state=+", "state=", "q="])
def test_a_filter_of_separators_alone_means_no_job(visitor: Visitor, name: str) -> None:
    key, _, text = name.partition("=")
    body = f'<action xmlns="{worst.NAMESPACE}" name="cancel"><filter {key}="{text}"/></action>'
    if text == "+":
        body = body.replace("+", " ")
    assert refused(visitor, "/jobs/actions", body, "text/xml")["status"] == 422
    form = f"name=cancel&all=1&{name}"
    assert refused(visitor, "/jobs/actions", form, FORM)["status"] == 422


@pytest.mark.parametrize("preview", [" true", "1 ", "\ttrue\n"])
def test_blanks_around_preview_do_not_make_it_an_action(
    board: Board, visitor: Visitor, preview: str
) -> None:
    body = (
        f'<action xmlns="{worst.NAMESPACE}" name="cancel" preview="{preview}">'
        '<filter state="queued"/></action>'
    )
    answer = visitor.post("/jobs/actions", body)
    assert answer.status == 200
    result = etree.fromstring(answer.body)
    assert (result.get("preview"), result.get("done")) == ("true", "0")
    assert result.get("possible") == "3"


@pytest.mark.parametrize("noughts", [2, 5000])
def test_a_number_of_many_noughts_is_refused(visitor: Visitor, noughts: int) -> None:
    number = "0" * noughts + "50"
    body = f'<job xmlns="{worst.NAMESPACE}" workflow="transcode" priority="{number}"/>'
    assert refused(visitor, "/jobs", body, "text/xml")["status"] == 422
    body = f'<action xmlns="{worst.NAMESPACE}" name="cancel"><job id="{"0" * 20}1"/></action>'
    assert refused(visitor, "/jobs/actions", body, "text/xml")["status"] == 422


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/jobs/actions", "name=cancel&all=1&q=a%00", "U+0000"),
        ("/tokens", "name=%00&role=viewer", "U+0000"),
        ("/submit", "workflow=transcode" + "&x=" * 3000, "more than 2500 fields"),
        ("/submit", "workflow=transcode&title=" + "x" * 200_000, "at most 131072"),
        ("/submit", "workflow=transcode&title=%ff", "not UTF-8"),
    ],
)
def test_a_form_that_is_not_read_is_refused_with_the_reason(
    visitor: Visitor, path: str, body: str, said: str
) -> None:
    assert said in refused(visitor, path, body, FORM)["detail"]


def test_a_form_of_too_many_inputs_looks_for_none_of_them(visitor: Visitor) -> None:
    paths = "%0A".join(f"/none/{'a/' * 20}{n}" for n in range(1500))
    begin = time.thread_time()
    answer = wsgi.call(
        visitor.app,
        "POST",
        "/submit",
        f"workflow=transcode&input.source={paths}".encode(),
        CONTENT_TYPE=FORM,
        HTTP_HOST="localhost",
    )
    assert answer.status == 422
    assert b"takes 1 file of role" in answer.body
    assert time.thread_time() - begin <= CPU
