"""The CherryPy tools in an application of somebody who knows CherryPy and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cherrypy
import pytest
from lxml import etree

from backoffice.config import loading
from backoffice.config.settings import Settings
from backoffice.documents.shapes import Shape
from backoffice.errors import Conflict, NotFound
from backoffice.reports import records
from backoffice.web import tools
from backoffice.web.app import make_app
from tests.board import Board
from tests.middleware import wsgi

BROWSER = "text/html,application/xhtml+xml,*/*;q=0.8"
REVIEW = Shape("review", "id verdict", texts="comment")
TEMPLATE = """<html xmlns:py="http://genshi.edgewall.org/"
  xmlns:xi="http://www.w3.org/2001/XInclude" lang="en">
<head><xi:include href="frame/head.html"/></head>
<body><xi:include href="frame/header.html"/><main id="main"><p>${words}</p></main></body></html>
"""


class Reviews:
    """Plain CherryPy: exposed methods, tools as decorators."""

    @cherrypy.expose
    def index(self) -> bytes:
        return b"reviews"

    @cherrypy.expose
    @cherrypy.tools.role(name="operator")
    def judge(self) -> bytes:
        return b"judged"

    @cherrypy.expose
    @cherrypy.tools.store()
    @cherrypy.tools.document(kind="job")
    def job(self, id: str) -> dict[str, Any]:
        return records.job(cherrypy.request.store, int(id))

    @cherrypy.expose
    @cherrypy.tools.store()
    @cherrypy.tools.role(name="operator")
    @cherrypy.tools.document(kind="job")
    def rename(self, id: str, refuse: str = "") -> dict[str, Any]:
        cherrypy.request.store.execute("UPDATE job SET title = 'new' WHERE id = ?", (int(id),))
        if refuse:
            raise Conflict("it has been renamed already")
        return records.job(cherrypy.request.store, int(id))

    @cherrypy.expose
    @cherrypy.tools.document(kind=REVIEW)
    def review(self) -> dict[str, Any]:
        return {"id": 7, "verdict": "good", "comment": "<sharp>"}

    @cherrypy.expose
    @cherrypy.tools.document(kind=REVIEW)
    def reviews(self) -> list[dict[str, Any]]:
        return [{"id": 7, "verdict": "good"}, {"id": 8, "verdict": "bad"}]

    @cherrypy.expose
    def page(self) -> dict[str, Any]:
        return {"title": "Reviews", "words": "<sharp>"}

    @cherrypy.expose
    def missing(self) -> bytes:
        raise NotFound("there is no review 9")

    @cherrypy.expose
    def taken(self) -> bytes:
        raise cherrypy.HTTPError(409, "somebody was faster")

    @cherrypy.expose
    def broken(self) -> bytes:
        raise RuntimeError("the secret is 42")


@pytest.fixture
def app(board: Board, settings: Settings, tmp_path: Path) -> Any:
    """The stack with the application beneath /review."""
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "words.html").write_text(TEMPLATE)
    configuration = {
        "/": {
            "tools.problems.on": True,
            "wsgi.ExceptionTrapper.throws": (BaseException,),
        },
        "/page": {
            "tools.genshi.on": True,
            "tools.genshi.template": "words.html",
            "tools.genshi.folder": str(tmp_path / "templates"),
        },
    }
    environ = {
        "BACKOFFICE_DATABASE_URI": settings.database.uri,
        "BACKOFFICE_PATHS_HOME": str(settings.paths.home),
        "BACKOFFICE_PATHS_ROOTS": "media",
        "BACKOFFICE_WEB_RATE": "0",
        "BACKOFFICE_AUTH_REQUIRED": "yes",
        "BACKOFFICE_AUTH_VIEWERS": "vera",
        "BACKOFFICE_AUTH_OPERATORS": "otto",
    }
    review = cherrypy.Application(Reviews(), None, configuration)
    return make_app(loading.load(None, environ), mounted={"/review": review})


def get(app: Any, path: str, user: str = "vera", accept: str = "", **more: Any) -> wsgi.Answer:
    environ = {"HTTP_HOST": "localhost", "REMOTE_ADDR": "", "HTTP_X_REMOTE_USER": user or None}
    return wsgi.call(app, "GET", path, **environ | {"HTTP_ACCEPT": accept or None} | more)


def test_it_answers_beneath_its_prefix_alone(app: Any) -> None:
    assert get(app, "/review/").body == b"reviews"
    assert get(app, "/reviews").status == 404
    assert get(app, "/jobs").status == 200


def test_nobody_gets_in_without_an_identity(app: Any) -> None:
    assert get(app, "/review/", user="").status == 401


def test_role_refuses_a_viewer(app: Any) -> None:
    refused = get(app, "/review/judge")
    assert (refused.status, refused.headers["Content-Type"]) == (403, "application/problem+xml")
    assert "this needs the role operator; vera is viewer" in refused.text
    assert get(app, "/review/judge", user="otto").body == b"judged"


def test_store_is_the_one_of_the_request(app: Any, board: Board) -> None:
    job = board.submit(title="old")
    asked = {"REQUEST_METHOD": "POST", "CONTENT_LENGTH": "0"}
    refused = get(app, f"/review/rename?id={job}&refuse=1", user="otto", **asked)
    assert refused.status == 409
    assert board.read(records.job, job)["title"] == "old", "a refusal is rolled back"
    renamed = get(app, f"/review/rename?id={job}", user="otto", **asked)
    assert etree.fromstring(renamed.body).findtext("{*}title") == "new"
    assert board.read(records.job, job)["title"] == "new", "an answer is committed"


@pytest.mark.parametrize("accept", ["", "application/xml"])
def test_a_document_is_xml_by_default(app: Any, board: Board, accept: str) -> None:
    board.submit(title="Ü")
    answer = get(app, "/review/job?id=1", accept=accept)
    assert answer.headers["Content-Type"] == "application/xml"
    assert etree.fromstring(answer.body).findtext("{*}title") == "Ü"


def test_a_document_of_its_own_kind_is_xml_and_json(app: Any) -> None:
    root = etree.fromstring(get(app, "/review/review").body)
    assert (root.tag, root.get("verdict")) == ("{urn:backoffice:1}review", "good")
    assert root.findtext("{*}comment") == "<sharp>"
    found = get(app, "/review/review", accept="application/json")
    assert json.loads(found.body) == {"id": 7, "verdict": "good", "comment": "<sharp>"}
    many = json.loads(get(app, "/review/reviews", accept="application/json").body)
    assert [one["id"] for one in many["reviews"]] == [7, 8]
    assert len(etree.fromstring(get(app, "/review/reviews").body)) == 2


def test_a_document_without_a_page_is_xml_for_a_browser_too(app: Any) -> None:
    assert get(app, "/review/review", accept=BROWSER).headers["Content-Type"] == "application/xml"


def test_a_genshi_page_stands_in_the_frame(app: Any) -> None:
    answer = get(app, "/review/page", accept=BROWSER)
    assert (answer.headers["Content-Type"] or "").startswith("text/html")
    assert "<p>&lt;sharp&gt;</p>" in answer.text
    assert "<title>Reviews · Backoffice</title>" in answer.text
    assert '<a href="/jobs"' in answer.text, "the navigation leads to the site, not beneath it"


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("missing", 404, "there is no review 9"),
        ("taken", 409, "somebody was faster"),
        ("nothing", 404, "was not found"),
        ("job?id=99", 404, "there is no job 99"),
    ],
)
def test_errors_are_problems_in_the_clients_format(
    app: Any, path: str, status: int, words: str
) -> None:
    found = get(app, f"/review/{path}", accept="application/json")
    problem = json.loads(found.body)
    assert (found.status, problem["status"]) == (status, status)
    assert words in problem["detail"]
    page = get(app, f"/review/{path}", accept=BROWSER)
    assert (page.status, '<main id="main"' in page.text) == (status, True)
    assert get(app, f"/review/{path}").headers["Content-Type"] == "application/problem+xml"


def test_an_unexpected_error_reaches_the_component_that_reports_it(
    app: Any, caplog: pytest.LogCaptureFixture
) -> None:
    answer = get(app, "/review/broken")
    assert (answer.status, "secret" in answer.text) == (500, False)
    failures = [one for one in caplog.records if one.name == "backoffice.web"]
    assert failures[-1].exc_info is not None
    assert str(failures[-1].exc_info[1]) == "the secret is 42"


def test_the_tools_are_cherrypys_own_kind() -> None:
    for name in ("role", "query", "store", "document", "genshi", "problems"):
        assert isinstance(getattr(cherrypy.tools, name), cherrypy.Tool)
    assert tools.__doc__
