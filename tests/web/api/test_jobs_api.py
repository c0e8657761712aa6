"""Jobs over HTTP, as a script meets them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from lxml import etree

from tests.board import Board, chain
from tests.web.visitor import FORM, NS, Visitor

Media = Callable[..., Path]


def submission(path: Path, *, key: str = "", title: str = "Episode 1", more: str = "") -> str:
    keyed = f' key="{key}"' if key else ""
    return (
        f'<job xmlns="urn:backoffice:1" workflow="transcode"{keyed}><title>{title}</title>'
        f'<input role="source" href="{path.as_uri()}"/>{more}</job>'
    )


# Submit ---------------------------------------------------------------------


def test_a_submitted_job_is_created_and_located(visitor: Visitor, media: Media) -> None:
    answer = visitor.post("/jobs", submission(media(), key="ep-1"))
    assert answer.status == 201
    assert answer.headers["Location"] == "/jobs/1"
    job = etree.fromstring(answer.body)
    assert job.tag == f"{NS}job"
    assert (job.get("id"), job.get("state"), job.get("key")) == ("1", "queued", "ep-1")
    assert job.findtext(f"{NS}title") == "Episode 1"
    assert [task.get("name") for task in job.iter(f"{NS}task")] == ["probe", "transcode", "publish"]


def test_the_same_key_with_the_same_content_is_the_same_job(visitor: Visitor, media: Media) -> None:
    body = submission(media(), key="ep-1")
    assert visitor.post("/jobs", body).status == 201
    again = visitor.post("/jobs", body)
    assert again.status == 200
    assert again.headers["Location"] == "/jobs/1"
    assert visitor.post("/jobs", submission(media(), key="ep-1", title="Other")).status == 409
    assert len(visitor.xml("/jobs")) == 1


def test_json_is_taken_and_given(visitor: Visitor, media: Media) -> None:
    body = {
        "workflow": "transcode",
        "priority": 3,
        "inputs": [{"role": "source", "href": media().as_uri()}],
        "parameters": {"profile": "mp4-360"},
        "metadata": {"dc:title": "Ünïcode 🎬"},
    }
    answer = visitor.post(
        "/jobs", json.dumps(body), "application/json", HTTP_ACCEPT="application/json"
    )
    assert answer.status == 201
    job = json.loads(answer.body)
    assert (job["priority"], job["metadata"]) == (3, {"dc:title": "Ünïcode 🎬"})


@pytest.mark.parametrize(
    ("body", "type", "status"),
    [
        ("<job", "application/xml", 400),
        ("", "application/xml", 400),
        ("<!DOCTYPE job><job/>", "application/xml", 400),
        ('<job xmlns="urn:backoffice:1"/>', "application/xml", 422),
        ('<job xmlns="urn:backoffice:1" workflow="nothing"/>', "application/xml", 422),
        ('<job xmlns="urn:backoffice:1" workflow="transcode"/>', "application/xml", 400),
        ("<job/>", "text/plain", 415),
        ("a=b", "multipart/form-data", 415),
        ("<job/>", "application/xml; charset=utf-7", 415),
        ("{", "application/json", 400),
        ("[]", "application/json", 422),
        ("{}", "application/json", 422),
        ("<job>" + " " * (1 << 20) + "</job>", "application/xml", 413),
    ],
)
def test_a_bad_submission_is_refused_and_nothing_is_stored(
    visitor: Visitor, body: str, type: str, status: int
) -> None:
    more = {} if body else {"CONTENT_TYPE": type}
    answer = visitor.post("/jobs", body, type, **more)
    assert answer.status == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+xml"
    assert len(visitor.xml("/jobs")) == 0


@pytest.mark.parametrize("href", ["file:///etc/passwd", "file:///no/such", "http://x/y", "../a"])
def test_a_file_that_may_not_be_read_is_a_bad_request(visitor: Visitor, href: str) -> None:
    body = (
        '<job xmlns="urn:backoffice:1" workflow="transcode">'
        f'<input role="source" href="{href}"/></job>'
    )
    assert visitor.post("/jobs", body).status == 400


def test_each_fault_of_a_document_is_told_with_its_line(visitor: Visitor) -> None:
    body = '<job xmlns="urn:backoffice:1"\n priority="200">\n<what/></job>'
    answer = visitor.post("/jobs", body, HTTP_ACCEPT="application/json")
    problem = json.loads(answer.body)
    assert answer.status == problem["status"] == 422
    assert len(problem["errors"]) >= 2
    assert {error["line"] for error in problem["errors"]} <= {1, 2, 3}


def test_a_document_that_is_not_well_formed_tells_line_and_column(visitor: Visitor) -> None:
    answer = visitor.post("/jobs", "<job>\n  <a></b></job>", HTTP_ACCEPT="application/json")
    error = json.loads(answer.body)["errors"][0]
    assert (error["line"], error["column"] > 1) == (2, True)


# Look -----------------------------------------------------------------------


def test_a_job_has_three_representations_at_one_address(board: Board, visitor: Visitor) -> None:
    job = board.submit(title="T")
    assert visitor.get(f"/jobs/{job}").headers["Content-Type"] == "application/xml"
    assert visitor.json(f"/jobs/{job}")["title"] == "T"
    accepted = visitor.get(f"/jobs/{job}.json", HTTP_ACCEPT="application/xml")
    assert accepted.headers["Content-Type"] == "application/json"
    plain = visitor.get(f"/jobs/{job}.xml", HTTP_ACCEPT="application/json")
    assert plain.headers["Content-Type"] == "application/xml"
    assert visitor.get(f"/jobs/{job}", HTTP_ACCEPT="image/png").status == 200


def test_pages_follow_each_other_and_lose_none(board: Board, visitor: Visitor) -> None:
    ids = [board.submit(title=str(n)) for n in range(7)]
    seen: list[int] = []
    path = "/jobs?limit=3&state=running,queued"
    while path:
        answer = visitor.get(path)
        seen += [int(one.get("id", "")) for one in etree.fromstring(answer.body)]
        link = answer.headers["Link"]
        path = link[1 : link.index(">")] if link else ""
        assert not link or link.endswith('; rel="next"')
    assert seen == ids[::-1]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", [3, 2, 1]),
        ("state=queued", [3, 1]),
        ("state=paused&state=failed", [2]),
        ("workflow=other", [3]),
        ("submitter=bob", [2]),
        ("q=epis", [2, 1]),
        ("q=EPISODE+one", [1]),
        ("submitted-after=2h", [3, 2, 1]),
        ("submitted-before=2020-01-01T00:00:00Z", []),
        ("submitted-after=2020-01-01T00:00:00%2B01:00&state=paused", [2]),
    ],
)
def test_jobs_are_filtered(board: Board, visitor: Visitor, query: str, found: list[int]) -> None:
    board.submit(title="Episode one")
    paused = board.submit(title="Episode two", submitter="bob")
    board.submit(chain("one", name="other"), title="Trailer")
    visitor.post(f"/jobs/{paused}/pause")
    assert [int(one.get("id", "")) for one in visitor.xml(f"/jobs?{query}")] == found


@pytest.mark.parametrize(
    "query",
    [
        "sort=title;DROP TABLE job",
        "limit=0",
        "limit=-1",
        "limit=99999999999999999999",
        "limit=1e3",
        "limit=1;SELECT",
        "after=1",
        "after=-",
        "after=" + quote("' OR 1=1 --"),
        "state=nothing",
        "submitted-after=yesterday",
        "submitted-after=999999d",
        "q=a&q=b",
        "q=%ff",
        "q=" + "a" * 501,
        "q=%00",
    ],
)
def test_a_query_that_is_not_understood_is_refused(visitor: Visitor, query: str) -> None:
    answer = visitor.get(f"/jobs?{query}")
    assert answer.status == 400, answer.text


def test_like_patterns_are_words(board: Board, visitor: Visitor) -> None:
    board.submit(title="100 percent")
    for text in ("%25", "_", "1%250"):
        assert visitor.get(f"/jobs?q={text}").status == 200
    assert len(visitor.xml("/jobs?q=1_0")) == 0


def test_a_long_list_is_streamed_whole(board: Board, visitor: Visitor) -> None:
    ids = [board.submit() for _ in range(5)]
    answer = visitor.get("/jobs?limit=1000")
    assert [int(one.get("id", "")) for one in etree.fromstring(answer.body)] == ids[::-1]
    assert len(visitor.json("/jobs?limit=1000")["jobs"]) == 5


def test_what_is_not_there_is_404(visitor: Visitor) -> None:
    for path in tuple(
        (
            "/jobs/1 /jobs/0 /jobs/1/why /tasks/1 /tasks/1/log /tasks/1/why"
            " /jobs/99999999999999999999 /jobs/x /nothing /jobs//1 /%00 /jobs/1/ /files/1"
            " /files/1/content /queues/none /workers/1 /workflows/none /publications/1"
            " /schema/none.xsd /schema/..%2fsetup.py"
        ).split()
    ):
        assert visitor.get(path).status == 404, path


def test_a_method_that_is_not_possible_names_those_that_are(visitor: Visitor) -> None:
    answer = visitor("DELETE", "/jobs")
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD, POST")
    assert visitor.get("/jobs/1/cancel").headers["Allow"] == "POST"


def test_head_is_get_without_a_body(board: Board, visitor: Visitor) -> None:
    board.submit()
    answer = visitor("HEAD", "/jobs/1")
    assert (answer.status, answer.body) == (200, b"")


# Steer ----------------------------------------------------------------------


def test_a_job_is_steered(board: Board, visitor: Visitor) -> None:
    job = board.submit()

    def state(action: str, **more: str) -> str:
        answer = visitor.post(f"/jobs/{job}/{action}", **more)
        assert answer.status == 200, answer.text
        return etree.fromstring(answer.body).get("state", "")

    assert state("pause") == "paused"
    assert state("resume") == "queued"
    assert state("cancel") == "cancelled"
    assert state("retry") == "queued"
    assert visitor.post(f"/jobs/{job}/resume").status == 409


@pytest.mark.parametrize(
    ("path", "body", "type"),
    [
        ("/jobs/1/priority", "value=7", FORM),
        ("/jobs/1/priority", '{"value": 7}', "application/json"),
        ("/jobs/1/priority?value=7", "", ""),
    ],
)
def test_priority_is_set(board: Board, visitor: Visitor, path: str, body: str, type: str) -> None:
    board.submit()
    answer = visitor.post(path, body, type)
    assert answer.status == 200, answer.text
    assert etree.fromstring(answer.body).get("priority") == "7"


@pytest.mark.parametrize("body", ["", "value=", "value=101", "value=-1", "value=x", "other=1"])
def test_a_bad_priority_is_refused(board: Board, visitor: Visitor, body: str) -> None:
    board.submit()
    assert visitor.post("/jobs/1/priority", body, FORM).status == 400


def test_a_clone_is_a_new_job(visitor: Visitor, media: Media) -> None:
    visitor.post("/jobs", submission(media(), key="k"))
    answer = visitor.post("/jobs/1/clone")
    assert (answer.status, answer.headers["Location"]) == (201, "/jobs/2")
    assert visitor.json("/jobs/2")["key"] == ""


def test_why_tells_a_sentence_a_reason(board: Board, visitor: Visitor) -> None:
    board.submit()
    assert "no worker is active" in visitor.json("/jobs/1/why")["reasons"][0]
    assert visitor.json("/tasks/1/why")["reasons"]


def test_every_change_is_an_event_with_its_actor(board: Board, visitor: Visitor) -> None:
    board.submit()
    visitor.post("/jobs/1/cancel", HTTP_X_REMOTE_USER="alice")
    events = visitor.json("/events?after=0")["events"]
    assert [one["actor"] for one in events if one["action"] == "job.cancel-requested"] == ["alice"]


# Many at once ---------------------------------------------------------------


def action(name: str, inner: str, more: str = "") -> str:
    return f'<action xmlns="urn:backoffice:1" name="{name}"{more}>{inner}</action>'


def test_an_action_on_many_is_counted_before_it_is_done(board: Board, visitor: Visitor) -> None:
    for n in range(4):
        board.submit(title=f"Episode {n}", submitter="bob" if n else "alice")
    visitor.post("/jobs/2/cancel")
    wanted = '<filter submitter="bob"/>'
    preview = etree.fromstring(
        visitor.post("/jobs/actions", action("cancel", wanted, ' preview="true"')).body
    )
    assert (preview.get("matched"), preview.get("possible"), preview.get("done")) == ("3", "2", "0")
    result = etree.fromstring(visitor.post("/jobs/actions", action("cancel", wanted)).body)
    assert (result.get("matched"), result.get("done")) == ("3", "2")
    states = {one["id"]: one["state"] for one in visitor.json("/jobs")["jobs"]}
    assert states == {1: "queued", 2: "cancelled", 3: "cancelled", 4: "cancelled"}


def test_chosen_jobs_are_changed_and_refusals_are_told(board: Board, visitor: Visitor) -> None:
    board.submit()
    board.submit()
    visitor.post("/jobs/2/pause")
    body = action("resume", '<job id="1"/><job id="2"/><job id="9"/>')
    result = json.loads(visitor.post("/jobs/actions", body, HTTP_ACCEPT="application/json").body)
    assert result["done"] == 1
    assert [one["job"] for one in result["refusals"]] == [1, 9]


@pytest.mark.parametrize(
    "body",
    [
        action("cancel", "<filter/>"),
        action("cancel", ""),
        action("explode", '<job id="1"/>'),
        action("priority", '<job id="1"/>'),
        action("cancel", '<filter colour="red"/>'),
    ],
)
def test_an_action_that_could_mean_everything_is_refused(visitor: Visitor, body: str) -> None:
    assert visitor.post("/jobs/actions", body).status == 422
