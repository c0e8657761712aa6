"""Files, publications and the history as pages."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from backoffice.config import loading
from backoffice.config.settings import Settings
from backoffice.data.sql import insert_many, insert_one
from backoffice.engine import file_registry
from backoffice.reports import lineage
from backoffice.tasks import Output, Published
from backoffice.web.app import make_app
from backoffice.web.pages import files as file_pages
from tests.board import ENCODE, Board, chain, made_file
from tests.plans import plans
from tests.web.reader import EVIL, LONG, Reader
from tests.web.visitor import Visitor

Media = Callable[..., Path]

THEN = datetime(2026, 1, 1)
FACTS: dict[str, Any] = {
    "format": "mov",
    "duration": 62.0,
    "bit_rate": 1_500_000,
    "video": [
        {"index": 0, "codec": "h264", "profile": "High", "width": 1280, "height": 720}
        | {"frame_rate": 25.0, "pixel_format": "yuv420p", "bit_rate": 1_400_000}
    ],
    "audio": [{"index": 1, "codec": "aac", "channels": 2, "sample_rate": 48000, "language": "deu"}],
}


@pytest.fixture
def reader(visitor: Visitor) -> Reader:
    return Reader(visitor)


def made(name: str, role: str = "rendition", kind: str = "video/mp4", **more: Any) -> Output:
    given: Any = {"tree": False, "size": 2_500_000, "sha256": "a" * 64, "facts": FACTS} | more
    return made_file(f"file:///made/{name}", name, role, kind, **given)


def encoded(board: Board, media: Media, *outputs: Output, publish: int = 0) -> int:
    """A job that made this of file 1; ``publish`` is the file that it published."""
    job = board.submit(ENCODE, inputs=[("source", str(media()))])
    (claimed,) = board.claim(board.worker())
    path = "ep/<1>.mp4"
    published = [Published(publish, "site", path, "https://x.example/1", False, "a" * 64, 9)]
    board.finish(claimed.claim, outputs=outputs, published=published if publish else [])
    return job


# Files ----------------------------------------------------------------------


def test_without_files_the_list_says_where_they_come_from(reader: Reader) -> None:
    page = reader.open("/files")
    assert "No file is known yet" in page.text()
    assert "No file is like that" in reader.open("/files?q=nothing").text()


def test_files_are_listed_with_what_is_in_them(board: Board, reader: Reader, media: Media) -> None:
    job = encoded(board, media, made("a.mp4"))
    page = reader.open("/files")
    first, second = page.all("//tbody/tr")
    assert first.startswith(f"a.mp4 rendition 1280×720 h264 1 min 2 s 2.5 MB job {job}")
    assert second.startswith("a.mp4 source – 10 B –")
    assert page.root.xpath("//tbody//a/@href")[:2] == ["/files/2", f"/jobs/{job}"]


def test_files_are_found_by_words_and_job(board: Board, reader: Reader, media: Media) -> None:
    job = encoded(board, media, made("beach.mp4"), made("forest.mp4"))
    assert len(reader.open("/files?q=bea").all("//tbody/tr")) == 1
    page = reader.open(f"/files?job={job}")
    assert len(page.all("//tbody/tr")) == 2
    assert page.root.xpath("//input[@name='job']/@value") == [str(job)]


def test_the_pager_keeps_the_filter(board: Board, reader: Reader, media: Media) -> None:
    job = encoded(board, media, *(made(f"{n}.mp4") for n in range(5)))
    page = reader.open(f"/files?job={job}&limit=2")
    assert page.all("//p[@class='pager']/a") == ["Older"]
    second = reader.open(page.root.xpath("//p[@class='pager']/a/@href")[0])
    assert second.all("//tbody/tr/td[1]") == ["2.mp4", "1.mp4"]
    newest, older = second.root.xpath("//p[@class='pager']/a/@href")
    assert newest == f"/files?job={job}&limit=2"
    assert len(reader.open(older).all("//tbody/tr")) == 1


def test_a_file_tells_what_it_is_and_what_became_of_it(
    board: Board, reader: Reader, media: Media
) -> None:
    job = encoded(board, media, made("b.mp4"), publish=2)
    source = reader.open("/files/1")
    assert source.all("//section[@id='jobs']//tbody/tr") == [
        f"{job} a.mp4 ✓ succeeded encode b.mp4"
    ]
    assert "not computed yet" in source.text()
    assert source.root.xpath("//a[.='Submit a job with it']/@href") == ["/submit?file=1"]
    page = reader.open("/files/2")
    rows = page.all("//section[h2='Streams']//tbody/tr")
    assert rows == [
        "0 video h264 High 1280×720, 25 frames/s, yuv420p 1,400 kbit/s",
        "1 audio aac 2 channels, 48000 Hz, deu –",
    ]
    facts = page.text("//main//dl[@class='facts']")
    assert "2,500,000 bytes" in facts
    assert f"job {job}" in facts
    assert "a" * 64 in facts
    assert "ep/<1>.mp4" in page.text("//section[@id='publications']")
    assert page.root.xpath("//video/@src") == ["/files/2/content"]


def test_a_package_gets_a_player(board: Board, reader: Reader, media: Media) -> None:
    kind = "application/vnd.apple.mpegurl"
    encoded(board, media, made("master.m3u8", "hls", kind, tree=True))
    page = reader.open("/files/2")
    assert page.root.xpath("//video/@data-hls") == ["/files/2/content/master.m3u8"]


def test_a_file_that_was_removed_has_no_player(board: Board, reader: Reader, media: Media) -> None:
    encoded(board, media, made("b.mp4"))
    board.do(lambda store: store.execute("UPDATE file SET state = 'removed' WHERE id = 2"))
    page = reader.open("/files/2")
    assert "was removed" in page.text()
    assert not page.root.xpath("//video")


@pytest.mark.parametrize("name", ["<script>alert(1)<.mp4", "שלום.mp4", "🎬 x.mp4"])
def test_odd_names_are_text(reader: Reader, media: Media, name: str, board: Board) -> None:
    path = media(name)
    board.do(file_registry.register, path, 10, "tester", {EVIL[:100]: LONG[:9000]})
    assert reader.open("/files").all("//tbody//a")[0] == name
    page = reader.open("/files/1")
    assert page.all("//h1") == [name]
    assert page.text("//*[@id='path']") == str(path)
    assert EVIL[:100].strip() in page.text("//section[h2='Metadata']//dt")


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"video": []},
        {"video": ["x"]},
        {"audio": [{}]},
        {"video": [{"width": 0, "codec": None}]},
    ],
)
def test_facts_may_be_anything(facts: dict[str, Any]) -> None:
    file_pages.streams(facts)
    assert isinstance(file_pages.picture(facts), str)


def test_a_file_that_is_not_there_is_a_page_that_says_so(reader: Reader) -> None:
    page = reader.open("/files/9", 404)
    assert "there is no file 9" in page.text()
    assert page.root.xpath("//nav")


def test_nothing_of_a_files_page_reads_all_there_is(board: Board) -> None:
    rows = [(f"file:///{n}", str(n), "video/mp4", 1, "present", "{}", THEN) for n in range(3000)]
    columns = ("href", "name", "media_type", "size", "state", "facts", "created")
    board.do(insert_many, "file", columns, rows)
    taken = [(n, 0, "source", n % 500 + 1) for n in range(1, 3000)]
    board.do(insert_many, "job_input", ("job_id", "position", "role", "file_id"), taken)
    with plans(board, "SELECT") as found:
        board.read(lineage.jobs_with, 7)
        board.read(lineage.publications_of, 7)
        assert len(board.read(lineage.sources, 9)) == 9
    assert len(found) > 3
    # SQLite sorts the jobs that took one file.
    known = () if board.database.mysql else ("FROM job_input",)
    slow = [plan for plan in found if plan.slow]
    assert [plan for plan in slow if not any(one in plan.statement for one in known)] == []


# Publications ---------------------------------------------------------------


def test_without_publications_the_list_says_what_publishes(reader: Reader) -> None:
    assert "Nothing was published yet" in reader.open("/publications").text()
    assert "No publication is like that" in reader.open("/publications?state=retracted").text()


def test_a_publication_is_retracted_after_it_is_said_what_that_does(
    board: Board, reader: Reader, media: Media
) -> None:
    job = encoded(board, media, made("b.mp4"), publish=2)
    page = reader.open("/publications")
    assert "published site ep/<1>.mp4 9 B file 2, job 1" in page.all("//tbody/tr")[0]
    assert page.root.xpath("//tbody//a/@href")[1] == "https://x.example/1"
    page = reader.open("/publications/1")
    said = page.text("//details")
    assert "ep/<1>.mp4" in said
    assert "publishes it again" in said
    after = reader.press(page, "Retract it from site")
    assert after.path == f"/jobs/{job + 1}"


def test_an_address_that_is_none_of_the_web_is_no_link(
    board: Board, reader: Reader, media: Media
) -> None:
    encoded(board, media, made("b.mp4"), publish=2)
    evil = "javascript:alert(1)"
    board.do(lambda store: store.execute("UPDATE publication SET href = ?", (evil,)))
    for path in ("/publications", "/publications/1"):
        assert not reader.open(path).root.xpath("//a[starts-with(@href, 'javascript')]")


def test_a_viewer_sees_no_buttons(
    board: Board, settings: Settings, media: Media, tmp_path: Path
) -> None:
    encoded(board, media, made("b.mp4"), publish=2)
    environ = {
        "BACKOFFICE_DATABASE_URI": settings.database.uri,
        "BACKOFFICE_PATHS_HOME": str(settings.paths.home),
        "BACKOFFICE_AUTH_REQUIRED": "yes",
        "BACKOFFICE_AUTH_VIEWERS": "vera",
        "BACKOFFICE_WEB_RATE": "0",
    }
    reader = Reader(Visitor(make_app(loading.load(None, environ))))
    page = reader.open("/publications/1", HTTP_X_REMOTE_USER="vera")
    assert not page.root.xpath("//main//button")
    assert "vera" in page.text("//header")
    assert not page.root.xpath("//a[@href='/submit'] | //a[@href='/tokens']")
    refused = reader.open("/tokens", 403, HTTP_X_REMOTE_USER="vera")
    assert "this needs the role admin; vera is viewer" in refused.text()


# The history ----------------------------------------------------------------


def told(board: Board, count: int) -> None:
    row = {"actor": "alice", "action": "queue.paused", "subject": "queue default", "detail": ""}
    for number in range(count):
        event = {"at": board.clock(), **row, "detail": f"no {number}"}
        board.do(insert_one, "event", list(event), list(event.values()))


def test_the_history_is_told_newest_first_with_links(board: Board, reader: Reader) -> None:
    job = board.submit(chain("one"), title=EVIL, submitter="ünï")
    page = reader.open("/events")
    (row,) = page.all("//tbody/tr")
    assert f"ünï job.submitted job {job} {' '.join(EVIL.split())}" in row
    assert page.root.xpath("//tbody//a/@href") == [f"/jobs/{job}"]


def test_the_history_can_be_walked_both_ways(board: Board, reader: Reader) -> None:
    told(board, 7)

    def details(path: str) -> list[str]:
        return reader.open(path).all("//tbody/tr/td[5]")

    def way(path: str, name: str) -> str:
        return str(reader.open(path).root.xpath(f"//p[@class='pager']/a[.='{name}']/@href")[0])

    start = "/events?actor=alice&limit=3"
    assert details(start) == ["no 6", "no 5", "no 4"]
    older = way(start, "Older")
    assert details(older) == ["no 3", "no 2", "no 1"]
    oldest = way(older, "Older")
    assert details(oldest) == ["no 0"]
    assert reader.open(oldest).all("//p[@class='pager']/a") == ["Newest", "Newer"]
    assert details(way(oldest, "Newer")) == ["no 3", "no 2", "no 1"]
    assert details(way(oldest, "Newest")) == details(start)


def test_the_history_of_a_filter_that_nothing_matches_says_so(reader: Reader) -> None:
    assert "Nothing has happened yet" in reader.open("/events").text()
    page = reader.open("/events?actor=nobody&job=7")
    assert "Nothing like that has happened" in page.text()
    assert page.root.xpath("//input[@name='actor']/@value") == ["nobody"]


def test_events_before_one_are_a_document_too(board: Board, visitor: Visitor) -> None:
    told(board, 5)
    found = visitor.json("/events?before=4&limit=2")["events"]
    assert [one["id"] for one in found] == [2, 3]
    assert visitor.json("/events?before=1")["events"] == []
