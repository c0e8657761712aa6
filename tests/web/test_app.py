"""The whole stack: who may do what, what the browser is told, what leaks."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from backoffice.config import loading
from backoffice.config.settings import Settings
from backoffice.data import tokens
from backoffice.reports import records
from backoffice.web.addresses import ROUTES
from backoffice.web.app import make_app
from tests.board import Board
from tests.web.visitor import FORM, Visitor

ROLES = ("viewer", "operator", "admin")
USERS = {"viewer": "vera", "operator": "otto", "admin": "anna"}


@pytest.fixture
def guarded(board: Board, settings: Settings) -> Visitor:
    """Everybody must log in, through a proxy or with a token."""
    environ = {
        "BACKOFFICE_DATABASE_URI": settings.database.uri,
        "BACKOFFICE_PATHS_HOME": str(settings.paths.home),
        "BACKOFFICE_PATHS_ROOTS": "media",
        "BACKOFFICE_WEB_RATE": "0",
        "BACKOFFICE_AUTH_REQUIRED": "yes",
        "BACKOFFICE_AUTH_VIEWERS": "vera",
        "BACKOFFICE_AUTH_OPERATORS": "otto",
        "BACKOFFICE_AUTH_ADMINS": "anna",
    }
    return Visitor(make_app(loading.load(None, environ)))


# Who may do what ------------------------------------------------------------


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_each_role_may_do_just_what_is_its_own(guarded: Visitor, route: Any) -> None:
    path = re.sub(r"\{id\}", "1", route.path)
    path = re.sub(r"\{\w+\}", "x", path)
    assert guarded(route.method, path).status == 401
    assert guarded(route.method, path, HTTP_X_REMOTE_USER="stranger").status == 403
    for role in ROLES:
        answer = guarded(route.method, path, HTTP_X_REMOTE_USER=USERS[role])
        allowed = ROLES.index(role) >= ROLES.index(route.role)
        assert (answer.status != 403) == allowed, answer.text
        assert answer.status != 401


def test_who_may_look_finds_out_nothing_by_a_wrong_address(guarded: Visitor) -> None:
    assert guarded.get("/nothing").status == 401
    assert guarded.get("/nothing", HTTP_X_REMOTE_USER="vera").status == 404


def test_a_token_is_as_good_as_its_role(board: Board, guarded: Visitor) -> None:
    number, secret = board.do(tokens.create, "ci", "operator", "anna")
    bearer = {"HTTP_AUTHORIZATION": f"Bearer {secret}"}
    job = board.submit()
    assert guarded.post(f"/jobs/{job}/pause", **bearer).status == 200
    assert guarded.post("/queues/default/pause", **bearer).status == 403
    events = board.read(records.events, after=0, limit=10)
    assert events[-1]["actor"] == "token:ci"
    board.do(tokens.revoke, number, "anna")
    refused = guarded.get("/jobs", **bearer)
    assert (refused.status, refused.headers["WWW-Authenticate"][:6]) == (401, "Bearer")


def test_a_token_that_is_named_like_a_user_is_another_one(
    board: Board, guarded: Visitor, media: Callable[..., Path]
) -> None:
    job = (
        '<job xmlns="urn:backoffice:1" workflow="transcode">'
        f'<input role="source" href="{media().as_uri()}"/></job>'
    )
    secret = board.do(tokens.create, "otto", "operator", "anna")[1]
    bearer = {"HTTP_AUTHORIZATION": f"Bearer {secret}"}
    who = {"otto": {"HTTP_X_REMOTE_USER": "otto"}, "token:otto": bearer}
    jobs = {}
    for name, headers in who.items():
        jobs[name] = etree.fromstring(guarded.post("/jobs", job, **headers).body)
        assert jobs[name].get("submitter") == name
    for name, made in jobs.items():
        found = guarded.xml(f"/jobs?submitter={name}", HTTP_X_REMOTE_USER="vera")
        assert [one.get("id") for one in found] == [made.get("id")]
    actors = {one["actor"] for one in board.read(records.events, after=0, limit=50)}
    assert actors >= set(who)


@pytest.mark.parametrize("name", ["token:ci", "Token:ci", "token:", "backoffice", "anonymous"])
def test_no_user_has_the_name_of_a_token_or_of_the_program(
    board: Board, settings: Settings, name: str
) -> None:
    board.do(tokens.create, "ci", "admin", "anna")
    environ = {
        "BACKOFFICE_DATABASE_URI": settings.database.uri,
        "BACKOFFICE_AUTH_REQUIRED": "yes",
        "BACKOFFICE_AUTH_ADMINS": "*",
    }
    visitor = Visitor(make_app(loading.load(None, environ)))
    assert visitor.get("/jobs", HTTP_X_REMOTE_USER=name).status == 403


@pytest.mark.parametrize(
    "name", ["", "(null)", "a" * 300, "vera, anna", "anna\r\nX: y", "Anna", "*"]
)
def test_an_identity_that_is_none_is_refused(guarded: Visitor, name: str) -> None:
    assert guarded.get("/jobs", HTTP_X_REMOTE_USER=name).status in (400, 401, 403)


def test_only_a_trusted_proxy_says_who_it_is(guarded: Visitor) -> None:
    given = {"HTTP_X_REMOTE_USER": "anna", "REMOTE_ADDR": "203.0.113.9"}
    assert guarded.get("/jobs", **given).status == 401
    assert guarded.get("/jobs", **given | {"REMOTE_ADDR": "127.0.0.1"}).status == 401


# What a page of another site cannot do --------------------------------------


@pytest.mark.parametrize(
    "marks",
    [
        {"HTTP_ORIGIN": "https://evil.example"},
        {"HTTP_ORIGIN": "null"},
        {"HTTP_SEC_FETCH_SITE": "cross-site"},
        {"HTTP_SEC_FETCH_SITE": "same-site"},
        {"HTTP_ORIGIN": "http://localhost", "CONTENT_TYPE": FORM},
        {"HTTP_ACCEPT": "text/html", "CONTENT_TYPE": FORM},
        {"HTTP_COOKIE": "a=b", "CONTENT_TYPE": FORM},
    ],
)
def test_a_change_from_elsewhere_or_without_a_token_is_refused(
    board: Board, visitor: Visitor, marks: dict[str, str]
) -> None:
    job = board.submit()
    assert visitor.post(f"/jobs/{job}/cancel", **marks).status == 403
    assert visitor.json(f"/jobs/{job}")["state"] == "queued"


def test_a_script_needs_no_token(board: Board, visitor: Visitor) -> None:
    board.submit()
    assert visitor.post("/jobs/1/priority", "value=1", FORM).status == 200


# What clients are told ------------------------------------------------------


def test_answers_carry_what_keeps_browsers_safe(visitor: Visitor) -> None:
    for path in ("/jobs", "/nothing", "/health/live"):
        headers = visitor.get(path).headers
        assert "unsafe-inline" not in headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Robots-Tag"] == "noindex, nofollow"
        assert headers["X-Request-ID"]


def test_a_fault_of_ours_leaks_nothing_but_the_requests_id(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: Any, **rest: Any) -> None:
        raise RuntimeError("the secret is 42")

    monkeypatch.setattr(records, "timed_job", fail)
    with caplog.at_level(logging.ERROR):
        answer = visitor.get("/jobs/1", HTTP_ACCEPT="text/html")
    assert answer.status == 500
    assert answer.headers["X-Request-ID"] in answer.text
    assert "secret" not in answer.text + str(answer.headers)
    assert "the secret is 42" in caplog.text
    assert answer.headers["X-Request-ID"] in caplog.text


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "application/problem+xml"),
        ("application/json", "application/problem+json"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/html; charset=utf-8"),
    ],
)
def test_a_problem_comes_in_the_clients_format(visitor: Visitor, accept: str, kind: str) -> None:
    more = {"HTTP_ACCEPT": accept} if accept else {}
    answer = visitor.get("/jobs/<script>", **more)
    assert answer.headers["Content-Type"] == kind
    assert "<script>" not in answer.text


@pytest.mark.parametrize("cookie", ["a@b=1", "a:b=1; c=2", "=;;x", 'a="'])
def test_cookies_of_another_application_hinder_nothing(visitor: Visitor, cookie: str) -> None:
    assert visitor.get("/jobs", HTTP_COOKIE=cookie).status == 200


@pytest.mark.parametrize("port", ["None", "unix", "", "8080"])
def test_a_server_on_a_unix_socket_may_tell_any_port(visitor: Visitor, port: str) -> None:
    assert visitor.get("/jobs", SERVER_PORT=port, REMOTE_PORT=port).status == 200


def test_a_header_in_an_unknown_charset_is_refused(visitor: Visitor) -> None:
    answer = visitor.get("/jobs", HTTP_X_NAME="=?nosuch?q?x?=", HTTP_ACCEPT="application/json")
    assert (answer.status, json.loads(answer.body)["status"]) == (400, 400)
    assert "CherryPy" not in f"{answer.headers}{answer.text}"


def test_a_query_that_is_not_utf_8_is_refused(visitor: Visitor) -> None:
    assert visitor.get("/jobs?q=%ff").status == 400
    assert visitor("DELETE", "/jobs?q=%ff").status == 405


def test_what_was_sent_before_is_not_sent_again(board: Board, visitor: Visitor) -> None:
    board.submit()
    tag = visitor.get("/jobs").headers["ETag"]
    assert visitor.get("/jobs", HTTP_IF_NONE_MATCH=tag).status == 304
    board.submit()
    assert visitor.get("/jobs", HTTP_IF_NONE_MATCH=tag).status == 200


def test_long_answers_are_compressed(board: Board, visitor: Visitor) -> None:
    for _ in range(10):
        board.submit()
    plain = visitor.get("/jobs")
    packed = visitor.get("/openapi.json", HTTP_ACCEPT_ENCODING="gzip, br")
    assert packed.headers["Content-Encoding"] == "br"
    assert plain.headers["Content-Encoding"] is None


def test_a_name_with_line_ends_cannot_forge_a_header_or_a_log_line(
    visitor: Visitor, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        visitor.get("/nothing/a\r\nb", HTTP_USER_AGENT='x"\r\n10.0.0.1 - forged')
    lines = [one.getMessage() for one in caplog.records if one.name == "backoffice.access"]
    assert lines
    assert all("\n" not in line and "\r" not in line for line in lines)


def test_script_in_names_and_metadata_comes_back_as_text(
    visitor: Visitor, settings: Settings
) -> None:
    path = settings.paths.roots[0] / "<script>alert(1)<.mp4"
    path.write_bytes(b"x")
    evil = "</title><script>alert(1)</script>&amp;"
    body = json.dumps(
        {
            "workflow": "transcode",
            "title": evil,
            "inputs": [{"role": "source", "href": path.as_uri()}],
            "metadata": {evil: evil},
        }
    )
    assert visitor.post("/jobs", body, "application/json").status == 201
    for suffix in (".xml", ".json"):
        assert visitor.get(f"/jobs/1{suffix}").status == 200
    job = visitor.xml("/jobs/1")
    assert job.findtext("{urn:backoffice:1}title") == evil
    assert not list(job.iter("{urn:backoffice:1}script", "script"))


# Maintenance and the database -----------------------------------------------


def test_read_only_still_shows_and_changes_nothing(
    board: Board, visitor: Visitor, settings: Settings
) -> None:
    job = board.submit()
    settings.web.maintenance.parent.mkdir(parents=True, exist_ok=True)
    settings.web.maintenance.write_text("read-only")
    assert visitor.get("/jobs").status == 200
    answer = visitor.post(f"/jobs/{job}/cancel")
    assert answer.status == 503
    assert answer.headers["Retry-After"]


def test_a_database_that_is_away_is_503_and_comes_back(tmp_path: Path) -> None:
    environ = {
        "BACKOFFICE_DATABASE_URI": "mysql://nobody@127.0.0.1:1/none",
        "BACKOFFICE_PATHS_HOME": str(tmp_path),
        "BACKOFFICE_DATABASE_TIMEOUT": "1s",
    }
    visitor = Visitor(make_app(loading.load(None, environ)))
    answer = visitor.get("/jobs")
    assert (answer.status, bool(answer.headers["Retry-After"])) == (503, True)
    assert "127.0.0.1" not in answer.text
    assert visitor.get("/health/live").status == 200
    assert visitor.get("/health/ready").status == 503


def test_a_schema_that_is_not_ours_is_not_ready(settings: Settings) -> None:
    visitor = Visitor(make_app(settings))
    assert visitor.get("/jobs").status == 503
    ready = visitor.get("/health/ready")
    assert ready.status == 503
    assert "backoffice migrate" in ready.text


def test_a_submit_is_whole_or_not_at_all(
    visitor: Visitor,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    media: Callable[..., Path],
) -> None:
    def fail(*args: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr(records, "submitted", fail)  # what the answer is made of
    body = json.dumps(
        {"workflow": "transcode", "inputs": [{"role": "source", "href": media().as_uri()}]}
    )
    assert visitor.post("/jobs", body, "application/json").status == 500
    monkeypatch.undo()
    assert len(etree.fromstring(visitor.get("/jobs").body)) == 0


def test_a_refusal_of_the_proxys_words_is_as_safe_as_any_answer(visitor: Visitor) -> None:
    answer = visitor.get("/jobs", HTTP_X_REMOTE_USER="(null)", HTTP_X_FORWARDED_PROTO="https")
    assert answer.status == 400
    assert answer.headers["Content-Security-Policy"]


def test_browsers_that_come_by_https_are_told_to_stay_there(visitor: Visitor) -> None:
    assert visitor.get("/jobs").headers["Strict-Transport-Security"] is None
    secure = visitor.get("/jobs", HTTP_X_FORWARDED_PROTO="https")
    assert secure.headers["Strict-Transport-Security"]
