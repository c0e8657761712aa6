"""Workflows and profiles as a browser gets them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lxml import html

from backoffice.config.loading import load
from backoffice.config.resources import share
from backoffice.config.settings import Settings
from backoffice.web.app import make_app
from tests.board import Board
from tests.web.visitor import Visitor

BROWSER = {"HTTP_ACCEPT": "text/html"}


def page(visitor: Visitor, path: str) -> Any:
    answer = visitor.get(path, **BROWSER)
    assert answer.status == 200, answer.text
    return html.document_fromstring(answer.body, parser=html.HTMLParser(encoding="utf-8"))


def main(visitor: Visitor, path: str) -> str:
    return " ".join(page(visitor, path).get_element_by_id("main").text_content().split())


@pytest.mark.parametrize("kind", ["workflows", "profiles"])
def test_every_recipe_has_a_page_with_its_source(visitor: Visitor, kind: str) -> None:
    written = sorted((share("etc") / kind).glob("*.xml"))
    links = {one.get("href") for one in page(visitor, f"/{kind}").iter("a")}
    for path in written:
        assert f"/{kind}/{path.stem}" in links
        whole = page(visitor, f"/{kind}/{path.stem}")
        (source,) = whole.xpath("//main//pre")
        assert source.text_content().strip() == path.read_text().strip()


def test_a_workflow_is_drawn_and_told(visitor: Visitor) -> None:
    whole = page(visitor, "/workflows/web-video")
    (picture,) = whole.xpath("//main//svg")
    assert "dag" in picture.get("class")
    told = main(visitor, "/workflows/web-video")
    for expected in ("Where to publish", "source.lines is at least 432", "mp4-720", "1 file"):
        assert expected in told
    links = {one.get("href") for one in whole.iter("a")}
    assert {"/profiles/mp4-360", "/submit?workflow=web-video", "/jobs?workflow=web-video"} <= links


def test_a_profile_tells_its_rungs_and_who_uses_it(visitor: Visitor) -> None:
    rows = page(visitor, "/profiles/hls-ladder").xpath("//tbody/tr/th")
    assert [one.text for one in rows] == "2160p 1440p 1080p 720p 540p 360p 234p".split()
    assert "3,100 kb/s" in main(visitor, "/profiles/hls-ladder")
    assert "web-video" in main(visitor, "/profiles/mp4-360")
    assert "copied" in main(visitor, "/profiles/remux-copy")


def test_texts_in_recipes_are_texts(board: Board, settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "odd.xml").write_text(
        '<workflow xmlns="urn:backoffice:1" name="odd" version="1">'
        "<title>&lt;script>alert(1)&lt;/script></title>"
        f"<description>שלום 🎬 {'w' * 5000}</description>"
        '<task name="a" type="noop"><title>&lt;b>a</title></task></workflow>'
    )
    environ = {
        "BACKOFFICE_DATABASE_URI": settings.database.uri,
        "BACKOFFICE_PATHS_HOME": str(tmp_path),
        "BACKOFFICE_PATHS_WORKFLOWS": str(folder),
    }
    visitor = Visitor(make_app(load(None, environ)))
    for path in ("/workflows", "/workflows/odd"):
        answer = visitor.get(path, **BROWSER)
        assert answer.status == 200
        assert "<script>alert" not in answer.text
        assert "<b>a" not in answer.text
        assert "<script>alert(1)</script>" in main(visitor, path)


@pytest.mark.parametrize("path", ["/workflows/none", "/profiles/none"])
def test_a_recipe_that_is_not_there_is_explained(visitor: Visitor, path: str) -> None:
    answer = visitor.get(path, **BROWSER)
    assert (answer.status, "there is no" in answer.text) == (404, True)
