"""Files and publications over HTTP."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from lxml import etree

from backoffice.config.settings import Settings
from backoffice.data.model import File
from backoffice.data.sql import insert_one
from backoffice.engine.workflows import InputSpec, TaskSpec
from backoffice.media import media_types
from tests.board import Board, recipe
from tests.middleware import wsgi
from tests.web.visitor import Visitor

Media = Callable[..., Path]


def register(visitor: Visitor, href: str, more: str = "") -> int:
    body = f'<file xmlns="urn:backoffice:1" href="{href}">{more}</file>'
    return visitor.post("/files", body).status


@pytest.fixture
def file(visitor: Visitor, media: Media) -> Path:
    """File 1: ten bytes."""
    path = media()
    assert register(visitor, path.as_uri()) == 201
    return path


def test_a_file_is_registered_once(visitor: Visitor, media: Media) -> None:
    href = media("ä b.mp4").as_uri()
    meta = '<metadata name="dc:title">T</metadata>'
    assert register(visitor, href, meta) == 201
    assert register(visitor, href, meta) == 200
    found = visitor.json("/files")["files"]
    assert [(one["href"], one["size"], one["metadata"]) for one in found] == [
        (href, 10, {"dc:title": "T"})
    ]


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../etc/passwd", "file:///etc/passwd", "file:///a%00b", "http://x/"]
)
def test_a_file_outside_the_roots_is_a_bad_request(visitor: Visitor, name: str) -> None:
    assert register(visitor, name) == 400


def test_a_pipe_a_folder_and_a_link_that_leads_out_are_refused(
    visitor: Visitor, settings: Settings
) -> None:
    root = settings.paths.roots[0]
    os.mkfifo(root / "pipe")
    (root / "link").symlink_to("/etc/passwd")
    for name in ("pipe", "link", "."):
        assert register(visitor, f"file://{root}/{name}") == 400


@pytest.mark.parametrize("name", ["/a" * 5000, "/../a" * 800, "/" + "%41" * 5000, "a" * 20_000])
def test_a_name_longer_than_any_path_is_refused_in_few_words(visitor: Visitor, name: str) -> None:
    answer = visitor.post("/files", f'<file xmlns="urn:backoffice:1" href="{name}"/>')
    assert answer.status == 400
    assert len(answer.body) < 5000


@pytest.mark.parametrize(
    "given",
    [
        "bytes=" + " " * 60_000 + "x",
        "bytes=0-" + "1" * 60_000,
        "bytes=" + "1" * 60_000 + "-",
        "bytes=-" + "0" * 60_000,
        "bytes=" + "0-1," * 15_000,
        "bytes=5-2",
        "bytes = 0-1",
        "x",
    ],
)
def test_a_range_that_is_none_gives_the_whole_at_once(
    visitor: Visitor, file: Path, given: str
) -> None:
    begin = time.thread_time()
    answer = visitor.get("/files/1/content", HTTP_RANGE=given)
    assert (answer.status, answer.body) == (200, b"0123456789")
    assert time.thread_time() - begin < 0.5


def test_content_is_served_whole_and_in_ranges(visitor: Visitor, file: Path) -> None:
    whole = visitor.get("/files/1/content")
    assert (whole.status, whole.body) == (200, b"0123456789")
    assert whole.headers["Accept-Ranges"] == "bytes"
    assert whole.headers["Content-Type"] == "video/mp4"
    part = visitor.get("/files/1/content", HTTP_RANGE="bytes=2-4")
    assert (part.status, part.body) == (206, b"234")
    assert part.headers["Content-Range"] == "bytes 2-4/10"
    assert visitor.get("/files/1/content", HTTP_RANGE="bytes=-3").body == b"789"
    assert visitor.get("/files/1/content", HTTP_RANGE="bytes=10-").status == 416
    assert visitor("HEAD", "/files/1/content").headers["Content-Length"] == "10"


def test_content_that_has_not_changed_is_not_sent_again(visitor: Visitor, file: Path) -> None:
    tag = visitor.get("/files/1/content").headers["ETag"]
    assert visitor.get("/files/1/content", HTTP_IF_NONE_MATCH=tag).status == 304
    file.write_bytes(b"changed")
    assert visitor.get("/files/1/content", HTTP_IF_NONE_MATCH=tag).body == b"changed"


def test_a_link_that_took_a_files_place_is_not_followed_out(visitor: Visitor, file: Path) -> None:
    file.unlink()
    file.symlink_to("/etc/passwd")
    assert visitor.get("/files/1/content").status == 404
    file.unlink()
    assert visitor.get("/files/1/content").status == 404


@pytest.mark.parametrize(
    "name",
    (
        "a.html a.HTM a.xhtml a.svg a.js a.mjs a.css a.xml a.pdf a.swf a.mp4.html a a."
        " a.json a.wasm a.mht"
    ).split(),
)
def test_what_a_browser_could_run_leaves_as_bytes_to_be_saved(
    board: Board, visitor: Visitor, media: Media, name: str
) -> None:
    register(visitor, media(name, b"<script>alert(1)</script>").as_uri())
    assert media_types.BYTES in visitor.get("/files/1").text
    # Also when a task of other makers has said what it is.
    for told in (media_types.BYTES, "text/html", "image/svg+xml", "text/javascript", "text/css"):
        board.do(lambda store, told=told: store.find(File, id=1).set(media_type=told))
        answer = visitor.get("/files/1/content")
        assert answer.headers["Content-Type"] == media_types.BYTES
        assert answer.headers["Content-Disposition"] == "attachment"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert "; sandbox" in answer.headers["Content-Security-Policy"]


def test_media_are_shown_in_place_and_no_script_runs_in_them(
    visitor: Visitor, media: Media
) -> None:
    for number, (name, told) in enumerate(
        {"a.mp4": "video/mp4", "a.JPG": "image/jpeg", "a.vtt": "text/vtt"}.items(), 1
    ):
        register(visitor, media(name, b"<script>alert(1)</script>").as_uri())
        answer = visitor.get(f"/files/{number}/content")
        assert answer.headers["Content-Type"] == told
        assert answer.headers["Content-Disposition"] is None
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "; sandbox" in answer.headers["Content-Security-Policy"]


def test_a_package_is_served_with_its_segments(
    board: Board, visitor: Visitor, settings: Settings
) -> None:
    folder = settings.paths.work / "jobs" / "1" / "package-1"
    folder.mkdir(parents=True)
    (folder / "master.m3u8").write_text("#EXTM3U\n")
    (folder / "v 0").mkdir()
    (folder / "v 0" / "1.m4s").write_bytes(b"segment")
    row = {
        "href": (folder / "master.m3u8").as_uri(),
        "name": "master.m3u8",
        "role": "hls",
        "media_type": "application/vnd.apple.mpegurl",
        "tree": True,
        "size": 15,
        "state": "present",
        "facts": "{}",
        "created": board.clock(),
    }
    board.do(insert_one, "file", list(row), list(row.values()))
    answer = visitor.get("/files/1/content")
    assert (answer.status, answer.headers["Location"]) == (302, "/files/1/content/master.m3u8")
    playlist = visitor.get("/files/1/content/master.m3u8")
    assert playlist.headers["Content-Type"] == "application/vnd.apple.mpegurl"
    assert visitor.get("/files/1/content/v 0/1.m4s").body == b"segment"
    for path in ("../probe-1/x", "..%2f..", "/etc/passwd", "v 0/../../x", "none", "v 0", "\xff"):
        assert visitor.get(f"/files/1/content/{path}").status == 404, path


def test_a_still_of_a_file_is_found_through_its_jobs(
    board: Board, visitor: Visitor, media: Media, settings: Settings
) -> None:
    workflow = recipe(TaskSpec("one", "noop"), inputs=[InputSpec("source")])
    job = board.submit(workflow, inputs=[("source", str(media()))])
    assert visitor.get("/files/1/thumbnail").status == 404
    still = settings.paths.work / "still.jpg"
    still.write_bytes(b"jpeg")
    row = {
        "href": still.as_uri(),
        "name": "still.jpg",
        "role": "thumbnail",
        "media_type": "image/jpeg",
        "tree": False,
        "size": 4,
        "state": "present",
        "facts": "{}",
        "job_id": job,
        "created": board.clock(),
    }
    board.do(insert_one, "file", list(row), list(row.values()))
    assert visitor.get("/files/1/thumbnail").body == b"jpeg"
    assert visitor.get("/files/2/thumbnail").body == b"jpeg"


def test_a_publication_is_retracted_by_a_job(board: Board, visitor: Visitor) -> None:
    row = {
        "active_key": "a" * 64,
        "file_id": 1,
        "job_id": 1,
        "task_id": 1,
        "target": "site",
        "path": "ep/1",
        "href": "https://x/",
        "state": "published",
        "tree": False,
        "sha256": "b" * 64,
        "size": 1,
        "published": board.clock(),
    }
    board.do(insert_one, "publication", list(row), list(row.values()))
    answer = visitor.post("/publications/1/retract", HTTP_ACCEPT="application/json")
    assert answer.status == 201
    job = json.loads(answer.body)
    assert (job["workflow"], job["parameters"]) == ("retract", {"publication": "1"})
    assert answer.headers["Location"] == f"/jobs/{job['id']}"
    assert visitor.json("/publications?state=published")["publications"][0]["target"] == "site"
    assert etree.fromstring(visitor.get("/publications/1").body).get("path") == "ep/1"


def test_large_files_on_their_way_leave_threads_for_others(
    board: Board, visitor: Visitor, settings: Settings, media: Media
) -> None:
    register(visitor, media("big.mp4", b"x" * 1_000_000).as_uri())
    register(visitor, media("small.mp4", b"x" * 1000).as_uri())
    taken = []
    for number in range(settings.web.threads // 2):
        given = wsgi.environ("GET", "/files/1/content", REMOTE_ADDR=f"192.0.2.{number}")
        taken.append(visitor.app(given, lambda *args: None))
    answer = visitor.get("/files/1/content")
    assert (answer.status, bool(answer.headers["Retry-After"])) == (503, True)
    assert visitor.get("/files/2/content").status == 200
    assert visitor.get("/files/1/content", HTTP_RANGE="bytes=0-999").status == 206
    taken.pop().close()
    assert len(visitor.get("/files/1/content").body) == 1_000_000
    for response in taken:
        response.close()
