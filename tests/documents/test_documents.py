"""Documents that go out are valid; those that come in are believed in nothing."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from backoffice.documents import reading, safe_xml, shapes, writing
from backoffice.errors import Invalid
from tests import schemas

NOW = datetime(2026, 11, 21, 10, 0, 0, tzinfo=UTC)
NS = "{urn:backoffice:1}"
TASK: dict[str, Any] = {
    "id": 1,
    "job": 1,
    "name": "probe",
    "type": "probe",
    "state": "succeeded",
    "queue": "default",
    "tags": ["gpu", "fast"],
    "priority": 50,
    "attempt": 1,
    "attempts": 3,
    "progress": 100.0,
    "speed": "10x",
    "eta": None,
    "worker": "w1",
    "host": "h",
    "title": "Look at it",
    "message": "",
    "run_at": None,
    "started": NOW,
    "finished": NOW + timedelta(seconds=1, milliseconds=250),
    "needs": [],
    "report": {"black": [{"start": 0.5, "end": 1}], "ok": True, "none": None},
}
PUBLICATION: dict[str, Any] = {
    "id": 1,
    "job": 1,
    "task": 2,
    "file": 3,
    "target": "site",
    "path": "ep/hls",
    "href": "https://x/ep/hls/master.m3u8",
    "state": "published",
    "sha256": "ab" * 32,
    "size": 7,
    "published": NOW,
    "retracted": None,
}
JOB: dict[str, Any] = {
    "publications": [PUBLICATION],
    "id": 1,
    "key": "ep-001",
    "title": "Episode 1",
    "state": "running",
    "workflow": "web-video",
    "version": 1,
    "priority": 50,
    "progress": 42.0,
    "submitter": "alice",
    "submitted": NOW,
    "started": NOW,
    "finished": None,
    "cancel_requested": None,
    "message": "",
    "inputs": [{"role": "source", "file": 1, "href": "file:///srv/a%20b.mp4"}],
    "outputs": [
        {
            "role": "hls",
            "file": 2,
            "href": "file:///x",
            "task": "package",
            "media_type": "application/vnd.apple.mpegurl",
            "size": 7,
            "sha256": "ab" * 32,
        }
    ],
    "parameters": {"target": "site"},
    "metadata": {"dc:creator": "Studio"},
    "tasks": [TASK],
}
RECORDS: dict[str, dict[str, Any]] = {
    "job": JOB,
    "task": TASK,
    "attempt": {
        "id": 1, "task": 1, "number": 1, "state": "failed", "worker": "w1", "host": "h",
        "started": NOW, "finished": NOW, "message": "no space", "argv": [["ffmpeg", "-i", ""]],
        "ffmpeg": "5.1.9", "exit_status": -9, "cpu_seconds": 1e-7, "peak_memory": 1 << 33,
        "wall_seconds": 123456789.25, "log": "/var/log/1", "log_size": 0,
    },
    "file": {
        "id": 1, "href": "file:///x", "size": 0, "sha256": "", "media_type": "video/mp4",
        "name": "x", "role": "", "job": None, "created": NOW,
        "state": "present", "made_by": None, "facts": {"video": [{"width": 1}]}, "metadata": {},
    },
    "worker": {
        "id": 1, "name": "w1", "host": "h", "pid": 7, "state": "active", "slots": 2,
        "queues": ["*"], "tags": frozenset({"b", "a"}), "started": NOW, "heartbeat": NOW,
        "running": [3, 4], "version": "0.1",
    },
    "node": {"name": "db1:3306", "role": "replica", "state": "late", "lag": float("inf"),
             "reads": 7, "writes": 0, "share": 0.25, "message": "gone away"},
    "queue": {"name": "default", "paused": False, "limit": None, "ready": 0, "running": 2,
              "oldest": 0.25},
    "event": {"id": 1, "at": NOW, "actor": "alice", "action": "submitted", "job": 1, "task": None,
              "subject": "job 1", "detail": {"a": [1, 2]}},
    "publication": PUBLICATION,
    "token": {
        "id": 1, "name": "ci", "role": "operator", "state": "active", "created": NOW,
        "created_by": "alice", "expires": None, "revoked": None, "last_used": NOW,
        "secret": "bo_x",
    },
    "schedule": {"name": "nightly", "cron": "0 2 * * *", "next_run": NOW, "last_run": None,
                 "last_job": 7, "message": "no such file"},
    "workflow": {
        "name": "web-video", "version": 1, "title": "T", "description": "D",
        "inputs": [{"role": "source", "optional": False, "many": True}],
        "parameters": [{"name": "target", "type": "target", "default": None, "required": True,
                        "choices": ("site", "a b"), "title": "", "description": "where"}],
        "tasks": [{"name": "probe", "type": "probe", "queue": "default",
                   "tags": frozenset({"gpu"}), "needs": ("a", "b"), "title": "Look"}],
    },
    "profile": {"name": "mp4-360", "title": "T", "description": "", "format": "mp4"},
    "service": {"version": "0.1", "links": [{"rel": "jobs", "href": "/jobs", "title": "Jobs"}]},
    "result": {"action": "retry", "preview": False, "matched": 3, "possible": 2, "done": 2,
               "more": False, "refusals": [{"job": 1, "message": "job 1 is running"}]},
    "difference": {"kind": "publication-missing", "subject": "publication 7", "size": 5,
                   "path": "/srv/site/a.mp4", "message": "has 3 bytes; it had 5"},
    "why": {"subject": "task 2", "reasons": ["waits for task probe", "queue default is paused"]},
}  # fmt: skip


def tree(kind: str, record: Any) -> etree._Element:
    root = etree.fromstring(writing.to_xml(kind, record))
    safe_xml.validate(root, schemas.schema_of(kind))
    return root


# As XML these stand in lists alone.
LISTED = {"schedule", "workflow", "profile"}


@pytest.mark.parametrize("kind", RECORDS)
def test_what_goes_out_is_valid_and_the_same_in_json(kind: str) -> None:
    if kind not in LISTED:
        tree(kind, RECORDS[kind])
    shown = json.loads(writing.to_json(kind, RECORDS[kind]))
    assert shown.keys() == RECORDS[kind].keys()


@pytest.mark.parametrize("kind", shapes.PLURALS)
def test_lists_are_valid_even_when_empty(kind: str) -> None:
    record = RECORDS[shapes.PLURALS[kind].tag]
    assert len(tree(kind, [record, record])) == 2
    assert len(tree(kind, [])) == 0
    assert len(json.loads(writing.to_json(kind, [record]))[kind]) == 1


def test_the_job_looks_as_promised() -> None:
    root = tree("job", JOB)
    assert root.tag == f"{NS}job"
    assert root.get("progress") == "42"
    assert root.get("submitted") == "2026-11-21T10:00:00Z"
    assert root.get("finished") is None
    assert root.findtext(f"{NS}title") == "Episode 1"
    assert [c.tag.removeprefix(NS) for c in root] == [
        "title", "input", "output", "parameter", "metadata", "task", "publication"
    ]  # fmt: skip
    task = root.find(f"{NS}task")
    assert task is not None
    assert task.get("tags") == "gpu fast"
    assert task.get("finished") == "2026-11-21T10:00:01.250Z"


def test_nothing_else_leaves() -> None:
    record = {**JOB, "secret": "x"}
    assert b"secret" not in writing.to_xml("job", record)
    assert "secret" not in writing.to_json("job", record)


def test_times_of_other_zones_become_utc_and_naive_ones_are() -> None:
    east = NOW.astimezone(timezone(timedelta(hours=5)))
    for moment in (east, NOW.replace(tzinfo=None)):
        assert tree("job", {**JOB, "started": moment}).get("started") == "2026-11-21T10:00:00Z"


@given(st.text(st.characters(), max_size=20))
def test_any_text_can_be_shown(text: str) -> None:
    record = {**JOB, "title": text, "key": text, "metadata": {text: text},
              "tasks": [{**TASK, "message": text, "report": {text: [text]}}]}  # fmt: skip
    tree("job", record)
    writing.to_json("job", record).encode()


def test_what_xml_cannot_hold_is_replaced() -> None:
    assert tree("job", {**JOB, "title": "a\0b\x1b\udcff"}).findtext(f"{NS}title") == "a�b��"


@given(st.floats())
def test_any_number_can_be_shown(number: float) -> None:
    record = {**RECORDS["attempt"], "wall_seconds": number}
    tree("attempt", record)
    json.loads(writing.to_json("attempt", record))


# In

SUBMISSION = b"""<job xmlns="urn:backoffice:1" workflow="web-video" priority="7" key="ep-001">
  <title>Episode 1</title>
  <input role="source" href="file:///srv/media/in/ep1.mp4"/>
  <parameter name="target">site</parameter>
  <metadata name="dc:creator"> Studio  One </metadata>
</job>
"""


def parse(data: bytes) -> dict[str, Any]:
    return reading.parse_job(data, limit=1 << 20)


def test_a_submission_is_read() -> None:
    assert parse(SUBMISSION) == {
        "workflow": "web-video",
        "inputs": [("source", "file:///srv/media/in/ep1.mp4")],
        "title": "Episode 1",
        "key": "ep-001",
        "priority": 7,
        "parameters": {"target": "site"},
        "metadata": {"dc:creator": "Studio  One"},
        "delay": 0.0,
    }


def test_a_submission_is_a_job_too() -> None:
    safe_xml.validate(etree.fromstring(SUBMISSION), "job")


def test_what_is_left_out_has_its_default() -> None:
    found = parse(b'<job xmlns="urn:backoffice:1" workflow="w" delay="2m"/>')
    assert (found["priority"], found["key"], found["inputs"]) == (50, "", [])
    assert found["delay"] == 120.0


def test_a_comment_does_not_cut_a_value() -> None:
    data = SUBMISSION.replace(b">site<", b">si<!-- -->te<")
    assert parse(data)["parameters"] == {"target": "site"}


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", safe_xml.Malformed),
        (b"<job", safe_xml.Malformed),
        (SUBMISSION + b"trailing", safe_xml.Malformed),
        (b"<!DOCTYPE job><job/>", safe_xml.Malformed),
        (b'<?xml version="1.0"?><!-- x --> <!DOCTYPE job SYSTEM "file:///x"><job/>',
         safe_xml.Malformed),
        (b"<job>\x01</job>", safe_xml.Malformed),
        (b"<a>" * 300 + b"</a>" * 300, safe_xml.Malformed),
        (b'<?xml version="1.0" encoding="UTF-7"?><job/>', safe_xml.WrongEncoding),
        (SUBMISSION.decode().encode("utf-16"), safe_xml.WrongEncoding),
        (b"<job>\xff</job>", safe_xml.WrongEncoding),
        (b" " * (1 << 20) + b"<job/>", safe_xml.TooLarge),
        (b"<job/>", safe_xml.SchemaViolation),
        (SUBMISSION.replace(b'"7"', b'"101"'), safe_xml.SchemaViolation),
        (SUBMISSION.replace(b' key=', b' id="1" key='), safe_xml.SchemaViolation),
        (SUBMISSION.replace(b"role=", b"roll="), safe_xml.SchemaViolation),
        (SUBMISSION.replace(b"<title>", b"<title>x</title><title>"), safe_xml.SchemaViolation),
        (SUBMISSION.replace(b"</job>", b'<parameter name="target">b</parameter></job>'),
         safe_xml.SchemaViolation),
        (SUBMISSION.replace(
            b"<title>",
            b'<title xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="evil">'),
         safe_xml.SchemaViolation),
    ],
)  # fmt: skip
def test_what_is_refused(data: bytes, kind: type[Invalid]) -> None:
    with pytest.raises(Invalid) as caught:
        parse(data)
    assert type(caught.value) is kind


def test_a_syntax_error_has_line_and_column() -> None:
    with pytest.raises(safe_xml.Malformed) as caught:
        parse(b"<job>\n  <title></job>")
    assert caught.value.fault.line == 2
    assert caught.value.fault.column > 1
    assert "(<string>" not in str(caught.value)


def test_every_schema_fault_is_told_with_its_line() -> None:
    data = SUBMISSION.replace(b'"7"', b'"x"').replace(b'role="source"', b"")
    with pytest.raises(safe_xml.SchemaViolation) as caught:
        parse(data)
    assert {fault.line for fault in caught.value.faults} == {1, 3}
    assert "urn:backoffice" not in str(caught.value)


def test_a_bomb_is_refused_at_once() -> None:
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    data = f'<!DOCTYPE job [<!ENTITY e0 "x">{entities}]><job a="&e11;">&e11;</job>'.encode()
    begin = time.process_time()
    with pytest.raises(safe_xml.Malformed, match="DTD"):
        parse(data)
    assert time.process_time() - begin < 0.1


def test_a_long_unfinished_prologue_is_refused_at_once() -> None:
    begin = time.process_time()
    with pytest.raises(safe_xml.Malformed):
        parse(b"<!--" * 200_000)
    with pytest.raises(safe_xml.Malformed):
        parse(b"<!-- -->" * 120_000 + b"<!DOCTYP")
    assert time.process_time() - begin < 1


@given(st.binary(max_size=60), st.integers(0, len(SUBMISSION)))
def test_nothing_but_invalid_comes_of_bad_bytes(noise: bytes, place: int) -> None:
    found: dict[str, Any] = {"workflow": "refused"}
    try:
        found = parse(SUBMISSION[:place] + noise + SUBMISSION[place:])
    except Invalid as error:
        found["why"] = str(error)
    assert found["workflow"]
    assert found.get("why") != ""


@pytest.mark.parametrize("pages", [[], [[]], [[JOB]], [[JOB, JOB], [JOB], []]])
def test_a_streamed_list_is_the_list(pages: list[list[dict[str, Any]]]) -> None:
    whole = [one for page in pages for one in page]
    xml = etree.fromstring(b"".join(writing.stream_xml("jobs", pages)))
    safe_xml.validate(xml, "job")
    plain = etree.fromstring(writing.to_xml("jobs", whole))
    assert etree.tostring(xml, method="c14n2") == etree.tostring(plain, method="c14n2")
    shown = json.loads(b"".join(writing.stream_json("jobs", pages)))
    assert shown == json.loads(writing.to_json("jobs", whole))


ASKED = {
    "workflow": "web-video",
    "title": "Episode 1",
    "key": "ep-001",
    "priority": 7,
    "delay": "10m",
    "inputs": [{"role": "source", "href": "file:///srv/a.mp4"}],
    "parameters": {"target": "site"},
    "metadata": {"dc:creator": "Studio"},
}


def read_json(document: Any) -> dict[str, Any]:
    data = json.dumps(document).encode()
    return reading.parse_job(data, limit=1 << 20, media_type=reading.JSON)


def test_a_submission_in_json_is_what_it_is_in_xml() -> None:
    xml = b"""<job xmlns="urn:backoffice:1" workflow="web-video" key="ep-001" priority="7"
        delay="10m"><title>Episode 1</title><input role="source" href="file:///srv/a.mp4"/>
        <parameter name="target">site</parameter>
        <metadata name="dc:creator">Studio</metadata></job>"""
    assert read_json(ASKED) == reading.parse_job(xml, limit=1 << 20)


@pytest.mark.parametrize(
    "change",
    [
        {"workflow": None},
        {"workflow": "no name"},
        {"priority": 101},
        {"priority": 1.5},
        {"inputs": "file:///a"},
        {"inputs": [{"role": "source"}]},
        {"inputs": [["source", "file:///a"]]},
        {"parameters": ["a"]},
        {"parameters": {"a": {"b": 1}}},
        {"unknown": 1},
    ],
)
def test_json_that_breaks_the_schema_is_refused_as_xml_would_be(change: dict[str, Any]) -> None:
    with pytest.raises(safe_xml.SchemaViolation):
        read_json(ASKED | change)


@pytest.mark.parametrize("change", [{"title": "a\0b"}, {"metadata": {"a\u0001": "b"}}])
def test_json_with_what_xml_cannot_hold_is_malformed_as_xml_would_be(
    change: dict[str, Any],
) -> None:
    with pytest.raises(safe_xml.Malformed):
        read_json(ASKED | change)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[", b"nonsense", b'{"a": 1, "a": 2}', b"[" * 100_000, b"1" * 5000]
)
def test_json_that_cannot_be_read_is_malformed(data: bytes) -> None:
    with pytest.raises(Invalid):
        reading.parse_job(data, limit=1 << 20, media_type=reading.JSON)


def test_an_action_is_read_from_both() -> None:
    xml = b"""<action xmlns="urn:backoffice:1" name="retry" preview="true">
        <filter state="failed cancelled" workflow="w"/></action>"""
    plain = {
        "name": "retry",
        "preview": True,
        "filter": {"state": ["failed", "cancelled"], "workflow": "w"},
    }
    parsed = reading.parse_action(xml, limit=9999)
    data = json.dumps(plain).encode()
    assert parsed == reading.parse_action(data, limit=9999, media_type=reading.JSON)
    assert parsed["filter"] == {"state": "failed cancelled", "workflow": "w"}
