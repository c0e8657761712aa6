"""Files under two names: one to keep for ever, one to ask for again."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest

from middleware.conditional import Conditional
from middleware.static import StaticFiles
from tests.middleware.wsgi import call, hello


def page(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Says where its style sheet is."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["middleware.static"]("app.css").encode()]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "js").mkdir()
    (tmp_path / "app.css").write_text("a { color: red }")
    (tmp_path / "js" / "app.min.js").write_text("1")
    (tmp_path / "LICENSE").write_text("MIT")
    (tmp_path / ".hidden").write_text("x")
    return tmp_path


def test_a_page_links_to_the_name_that_is_kept_for_ever(root: Path) -> None:
    app = StaticFiles(page, root=root)
    url = call(app).text
    assert url.startswith("/static/app.")
    answer = call(app, path=url)
    assert answer.text == "a { color: red }"
    assert (answer.headers["Content-Type"] or "").startswith("text/css; charset=")
    assert "immutable" in (answer.headers["Cache-Control"] or "")


def test_another_content_has_another_name(root: Path) -> None:
    before = StaticFiles(page, root=root).url("app.css")
    (root / "app.css").write_text("a { color: tan }")
    assert StaticFiles(page, root=root).url("app.css") != before


def test_the_plain_name_is_asked_for_again_each_time(root: Path) -> None:
    app = StaticFiles(page, root=root)
    answer = call(app, path="/static/app.css")
    assert (answer.text, answer.headers["Cache-Control"]) == ("a { color: red }", "no-cache")
    again = call(app, path="/static/app.css", HTTP_IF_NONE_MATCH=answer.headers["ETag"])
    assert (again.status, again.body) == (304, b"")
    several = f'"x", {answer.headers["ETag"]}'
    assert call(Conditional(app), path="/static/app.css", HTTP_IF_NONE_MATCH=several).status == 304


def test_names_with_folders_many_dots_and_none(root: Path) -> None:
    app = StaticFiles(page, root=root, prefix="/s")
    assert app.url("js/app.min.js").startswith("/s/js/app.min.")
    for name in ("js/app.min.js", "LICENSE"):
        assert call(app, path=app.url(name)).body == (root / name).read_bytes()


def test_what_is_not_there_is_the_business_of_the_app(root: Path) -> None:
    app = StaticFiles(hello, root=root)
    names = ["nothing.css", ".hidden", "../app.css", "js", "js/", "", "app.000.css"]
    assert {call(app, path=f"/static/{name}").text for name in names} == {"Hello\n"}
    assert app.url("nothing.css") == "/static/nothing.css"


def test_an_app_below_a_path_links_below_it(root: Path) -> None:
    app = StaticFiles(page, root=root)
    assert call(app, SCRIPT_NAME="/bo").text == f"/bo{app.url('app.css')}"


def test_an_empty_or_missing_folder_is_fine(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "none"):
        assert call(StaticFiles(page, root=root)).text == "/static/app.css"


def test_compressed_twins_are_sent_and_have_no_names(root: Path) -> None:
    (root / "app.css.br").write_bytes(b"br")
    (root / "alone.gz").write_bytes(b"gz")
    app = StaticFiles(hello, root=root)
    answer = call(app, path=app.url("app.css"), HTTP_ACCEPT_ENCODING="br")
    assert (answer.body, answer.headers["Content-Encoding"]) == (b"br", "br")
    assert answer.headers["Vary"] == "Accept-Encoding"
    assert call(app, path="/static/app.css.br").text == "Hello\n"
    assert call(app, path=app.url("alone.gz")).body == b"gz"


def test_files_are_only_read(root: Path) -> None:
    app = StaticFiles(hello, root=root)
    assert call(app, "POST", "/static/app.css", b"x").status == 405
    assert call(app, "HEAD", "/static/app.css").body == b""


def test_no_other_site_is_invited(root: Path) -> None:
    app = StaticFiles(hello, root=root)
    assert "Access-Control-Allow-Origin" not in call(app, path="/static/app.css").headers
