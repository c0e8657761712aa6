"""The rest of the interface: history, queues, workers, definitions, figures."""

from __future__ import annotations

import json
from typing import Any

import pytest
from lxml import etree

from backoffice.config.resources import share
from tests.board import Board, chain
from tests.web.visitor import FORM, Visitor

ATOM = "{http://www.w3.org/2005/Atom}"


def test_the_root_leads_to_everything(board: Board, visitor: Visitor) -> None:
    links = visitor.json("/")["links"]
    assert len(links) > 10
    for link in links:
        assert visitor.get(link["href"]).status == 200, link


# The history ----------------------------------------------------------------


def test_the_history_is_followed_event_by_event(board: Board, visitor: Visitor) -> None:
    board.submit()
    board.submit()
    first = visitor.json("/events?after=0&limit=1")["events"]
    rest = visitor.json(f"/events?after={first[0]['id']}")["events"]
    assert [one["job"] for one in first + rest] == [1, 2]


def test_polling_costs_a_304_until_something_happens(board: Board, visitor: Visitor) -> None:
    board.submit()
    last = visitor.json("/events?after=0")["events"][-1]["id"]
    path = f"/events?after={last}"
    tag = visitor.get(path).headers["ETag"]
    assert visitor.get(path, HTTP_IF_NONE_MATCH=tag).status == 304
    board.submit()
    answer = visitor.get(path, HTTP_IF_NONE_MATCH=tag)
    assert answer.status == 200
    assert len(etree.fromstring(answer.body)) == 1


def test_tags_differ_between_representations(board: Board, visitor: Visitor) -> None:
    board.submit()
    tag = visitor.get("/events?after=0").headers["ETag"]
    assert visitor.get("/events.json?after=0", HTTP_IF_NONE_MATCH=tag).status == 200


@pytest.mark.parametrize(
    ("query", "jobs"),
    [
        ("job=1", [1]),
        ("actor=bob", [2]),
        ("action=job.submitted", [1, 2]),
        ("subject=job+2&action=job.submitted", [2]),
        ("action=nothing", []),
    ],
)
def test_the_history_is_filtered(
    board: Board, visitor: Visitor, query: str, jobs: list[int]
) -> None:
    board.submit()
    board.submit(submitter="bob")
    found = visitor.json(f"/events?after=0&{query}")["events"]
    assert [one["job"] for one in found] == jobs


def test_a_feed_reader_sees_the_newest_first(board: Board, visitor: Visitor) -> None:
    board.submit(title="<script>")
    board.submit()
    answer = visitor.get("/events.atom")
    assert answer.headers["Content-Type"] == "application/atom+xml"
    feed = etree.fromstring(answer.body)
    titles = [one.findtext(f"{ATOM}title") for one in feed.iter(f"{ATOM}entry")]
    assert titles == ["job 2: job.submitted", "job 1: job.submitted"]
    ids = [one.text for one in feed.iter(f"{ATOM}id")]
    assert len(ids) == len(set(ids)) == 3
    accepted = visitor.get("/events", HTTP_ACCEPT="application/atom+xml")
    assert accepted.headers["Content-Type"] == "application/atom+xml"


# Queues and workers ---------------------------------------------------------


def test_a_queue_is_paused_resumed_and_limited(board: Board, visitor: Visitor) -> None:
    board.submit()
    assert etree.fromstring(visitor.post("/queues/default/pause").body).get("paused") == "true"
    assert "queue default is paused" in visitor.json("/jobs/1/why")["reasons"][0]
    assert etree.fromstring(visitor.post("/queues/default/resume").body).get("paused") == "false"
    limited = visitor.post("/queues/default/limit", "value=3", FORM)
    assert etree.fromstring(limited.body).get("limit") == "3"
    freed = visitor.post("/queues/default/limit", '{"value": "none"}', "application/json")
    assert etree.fromstring(freed.body).get("limit") is None
    assert visitor.post("/queues/default/limit", "value=many", FORM).status == 400


def test_a_queue_that_nobody_knows_is_not_made(visitor: Visitor) -> None:
    assert visitor.post("/queues/misspelt/pause").status == 404
    assert visitor.json("/queues")["queues"] == []


def test_a_worker_is_drained_once(board: Board, visitor: Visitor) -> None:
    worker = board.worker(tags=["gpu"])
    assert visitor.json(f"/workers/{worker}")["tags"] == ["gpu"]
    drained = visitor.post(f"/workers/{worker}/drain")
    assert etree.fromstring(drained.body).get("state") == "draining"
    assert len(visitor.xml("/workers?state=draining")) == 1
    assert len(visitor.xml("/workers?state=lost")) == 0


# Definitions ----------------------------------------------------------------


def test_workflows_and_profiles_are_shown_as_they_are_written(visitor: Visitor) -> None:
    for kind in ("workflows", "profiles"):
        names = [one["name"] for one in visitor.json(f"/{kind}")[kind]]
        assert names == sorted(names)
        assert names
        for name in names:
            written = (share("etc") / kind / f"{name}.xml").read_bytes()
            assert visitor.get(f"/{kind}/{name}").body == written
            assert visitor.json(f"/{kind}/{name}")["name"] == name


def test_every_schema_and_example_is_served(visitor: Visitor) -> None:
    paths = visitor.get("/schema/").text.split()
    assert "/schema/job.xsd" in paths
    assert "/schema/examples/submission.xml" in paths
    for path in paths:
        answer = visitor.get(path)
        assert answer.status == 200
        etree.fromstring(answer.body)


def test_examples_follow_their_schemas() -> None:
    for path in sorted((share("schema") / "examples").glob("*.xml")):
        schema = etree.XMLSchema(etree.parse(str(share("schema") / f"{path.stem}.xsd")))
        assert schema.validate(etree.parse(str(path))), schema.error_log


def test_schedules_are_listed(visitor: Visitor) -> None:
    assert visitor.json("/schedules") == {"schedules": []}


# Figures and the interface --------------------------------------------------


def test_the_openapi_document_names_every_route(visitor: Visitor) -> None:
    whole: dict[str, Any] = json.loads(visitor.get("/openapi.json").body)
    assert whole["openapi"] == "3.1.0"
    assert set(whole["paths"]["/jobs"]) == {"get", "post"}
    names = [one["operationId"] for path in whole["paths"].values() for one in path.values()]
    assert len(names) == len(set(names))


def test_the_next_events_are_linked_with_the_same_filter(board: Board, visitor: Visitor) -> None:
    for _ in range(3):
        board.submit()
    answer = visitor.get("/events?after=0&limit=2&action=job.submitted")
    link = answer.headers["Link"]
    assert link == '</events?limit=2&action=job.submitted&after=2>; rel="next"'
    assert len(visitor.xml(link[1 : link.index(">")])) == 1


@pytest.mark.parametrize(
    "name", ["add", "child", "exposed", "GET", "index", "default", "_cp_config"]
)
def test_a_queue_may_have_any_name(board: Board, visitor: Visitor, name: str) -> None:
    board.submit(chain("one", queue=name))
    assert visitor.json(f"/queues/{name}")["name"] == name
    assert visitor.json(f"/queues/{name}.json")["ready"] == 1


@pytest.mark.parametrize("path", ["GET", "exposed", "add", "__class__", "1/GET", "1/_cp_dispatch"])
def test_nothing_is_reached_by_the_names_of_the_program(visitor: Visitor, path: str) -> None:
    assert visitor.get(f"/jobs/{path}").status == 404
