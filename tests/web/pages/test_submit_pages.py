"""Submitting through the form, and the plan that is shown before."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from backoffice.config.settings import Settings
from backoffice.engine import file_registry
from tests.board import Board
from tests.clips import Clips
from tests.web.reader import EVIL, LONG, Page, Reader
from tests.web.visitor import NS, Visitor

Media = Callable[..., Path]
SOURCE = "input.source"


@pytest.fixture
def reader(visitor: Visitor) -> Reader:
    return Reader(visitor)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Clips:
    return Clips(tmp_path_factory.mktemp("clips"))


def form(reader: Reader) -> Page:
    return reader.open("/submit?workflow=transcode")


def faults(page: Page) -> dict[str, str]:
    """What is wrong by the name of the field that it stands beside."""
    found = {}
    for one in page.root.xpath("//*[@class='fault']"):
        field = one.getparent().xpath(".//input | .//select | .//textarea")[0]
        found[field.get("name")] = one.text
        assert field.get("aria-invalid") == "true"
    return found


# The form -------------------------------------------------------------------


def test_a_workflow_is_chosen_first(reader: Reader) -> None:
    page = reader.open("/submit")
    assert "/submit?workflow=web-video" in page.root.xpath("//main//a/@href")
    assert "Checks a video" in page.text()


def test_a_file_is_taken_along(board: Board, reader: Reader, media: Media) -> None:
    path = media()
    board.do(file_registry.register, path, 10, "tester", {})
    page = reader.open("/submit?file=1")
    assert "/submit?workflow=web-video&file=1" in page.root.xpath("//main//a/@href")
    page = reader.open("/submit?workflow=web-video&file=1")
    assert page.root.xpath("//input[@name='input.source']/@value") == [str(path)]
    assert reader.open("/submit?workflow=web-video&file=9", 404)


def test_the_form_is_made_from_the_workflow(reader: Reader) -> None:
    page = reader.open("/submit?workflow=web-video")
    assert page.all("//select[@name='parameter.target']/option") == ["site (usual)"]
    assert "A URL that gets a signed message" in page.text()
    assert page.root.xpath("//input[@name='priority']/@value") == ["50"]


def test_a_workflow_that_is_none_is_refused_in_words(reader: Reader) -> None:
    page = reader.open("/submit?workflow=nothing", 422)
    assert "there is no workflow 'nothing'; there are:" in page.text()


def test_files_beneath_the_roots_can_be_picked_newest_first(
    reader: Reader, media: Media, settings: Settings
) -> None:
    root = settings.paths.roots[0]
    (root / "sub").mkdir()
    old, new = media("old.mp4"), media("sub/<new> é.mp4")
    os.utime(old, (1e9, 1e9))
    media(".hidden.mp4")
    media("line\nend.mp4")
    (root / "link.mp4").symlink_to(old)
    page = form(reader)
    assert str(root) in page.text()
    assert page.all("//ul[@class='picks']//button") == [str(new), str(old)]
    picked = reader.press(page, str(new), ("title", "Kept"))
    assert picked.root.xpath("//input[@name='input.source']/@value") == [str(new)]
    assert picked.root.xpath("//input[@name='title']/@value") == ["Kept"]


def test_a_root_that_cannot_be_read_offers_nothing(reader: Reader, settings: Settings) -> None:
    settings.paths.roots[0].rmdir()
    assert "No file lies there yet" in form(reader).text()


# Submit ---------------------------------------------------------------------


def test_what_is_typed_becomes_the_job(reader: Reader, visitor: Visitor, media: Media) -> None:
    page = reader.press(
        form(reader),
        "Submit",
        (SOURCE, f" {media()} "),
        ("title", EVIL),
        ("key", "ep-1"),
        ("priority", "7"),
        ("delay", "2h"),
        ("parameter.profile", "mp4-360"),
        ("metadata", "dc:creator = Studio = x\r\n\r\ndc:title=Ü"),
    )
    assert page.path == "/jobs/1"
    job = visitor.json("/jobs/1")
    assert (job["title"], job["key"], job["priority"]) == (EVIL, "ep-1", 7)
    assert job["parameters"]["profile"] == "mp4-360"
    assert job["metadata"] == {"dc:creator": "Studio = x", "dc:title": "Ü"}
    assert job["state"] == "queued"
    assert {task["state"] for task in job["tasks"]} <= {"scheduled", "blocked"}


def test_every_wrong_field_is_told_and_what_was_typed_is_kept(
    reader: Reader, visitor: Visitor
) -> None:
    typed = [
        (SOURCE, "/etc/passwd"),
        ("title", LONG),
        ("key", "k" * 201),
        ("priority", "101"),
        ("delay", "soon"),
        ("metadata", "a = 1\na = 2"),
        ("parameter.profile", EVIL),
    ]
    page = reader.press(form(reader), "Submit", *typed)
    assert page.status == 422
    assert "7 fields need another look" in page.text()
    wrong = faults(page)
    assert set(wrong) == {name for name, _ in typed}
    assert "lies outside the folders" in wrong[SOURCE]
    assert "at most 500 characters" in wrong["title"]
    assert "from 0 (first) to 100 (last)" in wrong["priority"]
    assert "is given twice" in wrong["metadata"]
    kept = dict(page.root.xpath("//main//form")[0].form_values())
    for name, value in typed:
        if name != "parameter.profile":  # a list cannot show what it does not hold
            assert kept[name].replace("\r\n", "\n") == value
    assert visitor.json("/jobs")["jobs"] == []


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        (SOURCE, "", "takes 1 file"),
        (SOURCE, "relative.mp4", "give an absolute one"),
        (SOURCE, "/no/such\x7f", "control characters are not allowed"),
        ("metadata", "no equals sign", "line 1 is not a name"),
        ("metadata", "= value", "line 1 is not a name"),
        ("metadata", f"{'n' * 200} = x", "a name has at most"),
        ("delay", "99999999d", "ten years"),
        ("priority", "-1", "not a whole number"),
        ("priority", "٣", "not a whole number"),
    ],
)
def test_a_wrong_value_is_refused_in_words(
    reader: Reader, visitor: Visitor, media: Media, field: str, value: str, told: str
) -> None:
    fields = {SOURCE: str(media()), field: value}
    page = reader.press(form(reader), "Submit", *fields.items())
    assert page.status == 422
    assert told in page.text()
    assert visitor.json("/jobs")["jobs"] == []


def test_a_key_that_another_job_has_is_told_beside_it(reader: Reader, media: Media) -> None:
    typed = [(SOURCE, str(media())), ("key", "ep-1")]
    assert reader.press(form(reader), "Submit", *typed).path == "/jobs/1"
    assert reader.press(form(reader), "Submit", *typed).path == "/jobs/1"
    page = reader.press(form(reader), "Submit", *typed, ("title", "Other"))
    assert page.status == 409
    assert "belongs to job 1" in faults(page)["key"]


# The plan -------------------------------------------------------------------


def test_a_dry_run_shows_commands_and_stores_nothing(
    reader: Reader, visitor: Visitor, media: Media, clips: Clips
) -> None:
    path = media("it's.mp4", clips["plain.mp4"].read_bytes())
    plan = reader.press(form(reader), "Dry run", (SOURCE, str(path)), ("title", EVIL))
    assert plan.status == 200
    assert "Nothing was stored" in plan.text()
    (command,) = plan.all("//pre")
    assert command.startswith("ffmpeg ")
    assert "it'\"'\"'s.mp4" in command
    assert "makes" in plan.text("//section[h2[starts-with(normalize-space(), 'transcode')]]")
    assert visitor.json("/jobs")["jobs"] == []
    changed = reader.press(plan, "Change something")
    assert changed.root.xpath("//input[@name='title']/@value") == [EVIL]
    assert reader.press(plan, "Submit").path == "/jobs/1"


def test_a_plan_that_would_fail_says_why(reader: Reader, media: Media) -> None:
    plan = reader.press(form(reader), "Dry run", (SOURCE, str(media())))
    assert "The job would fail" in plan.text()
    assert plan.all("//section/p[@class='error']")
    assert plan.all("//main//form//button") == ["Change something", "Submit it all the same"]


def submission(path: Path) -> str:
    return (
        '<job xmlns="urn:backoffice:1" workflow="web-video">'
        f'<input role="source" href="{path.as_uri()}"/></job>'
    )


def test_a_dry_run_is_a_document_too(visitor: Visitor, media: Media, clips: Clips) -> None:
    path = media("plain.mp4", clips["plain.mp4"].read_bytes())
    answer = visitor.post("/jobs/dry-run", submission(path))
    assert answer.status == 200, answer.text
    tasks = etree.fromstring(answer.body).findall(f"{NS}task")
    found = {one.get("name"): one for one in tasks}
    assert found["rung"].findtext(f"{NS}command/{NS}argument") == "ffmpeg"
    notes = [note.text for note in found["rung"].findall(f"{NS}note")]
    assert "leaves out 1080: not source.lines is at least 864" in notes
    answer = visitor.post("/jobs/dry-run", submission(path), HTTP_ACCEPT="application/json")
    plan: dict[str, Any] = json.loads(answer.body)
    assert (plan["workflow"], plan["version"]) == ("web-video", 1)
    assert plan["tasks"][0] | {"notes": []} == {
        "name": "probe",
        "type": "probe",
        "skipped": "",
        "fails": "",
        "outputs": [],
        "notes": [],
        "argv": [],
    }
    assert visitor.json("/jobs")["jobs"] == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ('<job xmlns="urn:backoffice:1" workflow="nothing"/>', 422),
        ('<job xmlns="urn:backoffice:1" workflow="transcode"/>', 400),
        ("<job", 400),
    ],
)
def test_a_bad_submission_is_refused_by_a_dry_run_too(
    visitor: Visitor, body: str, status: int
) -> None:
    assert visitor.post("/jobs/dry-run", body).status == status
