"""A client's position travels from its responses to its next requests."""

from __future__ import annotations

import re
from collections.abc import Iterable
from http.cookies import SimpleCookie
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest

from middleware.conditional import Conditional
from middleware.read_your_writes import POSITION, READ_AFTER, ReadYourWrites
from middleware.transaction import TransactionPerRequest
from tests.middleware.wsgi import Answer, call, hello

SECRET = b"sixteen bytes or more"
HTML: dict[str, Any] = {"HTTP_ACCEPT": "text/html"}
HEADER = "X-Read-Your-Writes"


def merged(one: str, other: str) -> str:
    """Positions are numbers here."""
    for text in (one, other):
        if text and not text.isdigit():
            raise ValueError(f"{text!r} is no position")
    return str(max(int(one or 0), int(other or 0)) or "")


class App:
    """Notes what it must see, and stands at ``position``."""

    def __init__(self, position: str = "") -> None:
        self.position = position
        self.after: list[str] = []

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        self.after.append(environ[READ_AFTER])
        environ[POSITION] = lambda: self.position
        return hello(environ, start_response)


def around(app: Any, **more: Any) -> ReadYourWrites:
    return ReadYourWrites(app, secret=SECRET, merged=merged, **more)


def cookies(answer: Answer) -> dict[str, str]:
    found: SimpleCookie = SimpleCookie()
    for text in answer.headers.get_all("Set-Cookie"):
        found.load(text)
    return {name: one.value for name, one in found.items()}


def sent(*given: dict[str, str]) -> str:
    pairs = [f"{name}={value}" for one in given for name, value in one.items()]
    return "; ".join(pairs)


# Scripts --------------------------------------------------------------------


def test_a_script_is_told_and_may_ask_for_it() -> None:
    app = App("7")
    told = call(around(app), "POST").headers[HEADER]
    assert told == "7"
    app.position = "5"  # a replica that is behind
    assert call(around(app), HTTP_X_READ_YOUR_WRITES=told).headers[HEADER] == "7"
    assert app.after == ["", "7"]


def test_the_header_may_have_another_name() -> None:
    app = App("7")
    answer = call(around(app, header="X-Token"), HTTP_X_TOKEN="3")
    assert (answer.headers["X-Token"], app.after) == ("7", ["3"])


def test_what_is_no_position_is_refused() -> None:
    app = App("7")
    answer = call(around(app), HTTP_X_READ_YOUR_WRITES="0; DROP TABLE job")
    assert (answer.status, app.after) == (400, [])
    assert "X-Read-Your-Writes: " in answer.text
    assert "leave it out" in answer.text


@pytest.mark.parametrize(
    "script",
    [
        {},
        {**HTML, "HTTP_X_READ_YOUR_WRITES": "3"},
        {**HTML, "HTTP_AUTHORIZATION": "Bearer bo_1"},
    ],
)
def test_a_script_gets_no_cookie(script: dict[str, Any]) -> None:
    answer = call(around(App("7")), "POST", **script)
    assert (answer.headers[HEADER], cookies(answer)) == ("7", {})


# Browsers -------------------------------------------------------------------


def test_a_browser_brings_back_what_it_has_written() -> None:
    app = App("7")
    kept = cookies(call(around(app), "POST", **HTML))
    call(around(app), HTTP_COOKIE=sent({"other": "1"}, kept))
    assert app.after == ["", "7"]


def test_a_late_answer_to_a_question_takes_no_write_away() -> None:
    app = App("5")
    late = cookies(call(around(app), **HTML))
    app.position = "7"
    kept = cookies(call(around(app), "POST", **HTML))
    call(around(app), HTTP_COOKIE=sent({**kept, **late}))
    assert app.after[-1] == "7"


def test_a_cookie_is_kept_from_scripts_and_other_sites_and_ends() -> None:
    text = call(around(App("7")), "POST", SCRIPT_NAME="/app", **HTML).headers["Set-Cookie"] or ""
    assert {"HttpOnly", "SameSite=Lax", "Max-Age=3600", "Path=/app"} <= set(text.split("; "))
    assert "secure" not in text.lower()
    text = str(call(around(App("7")), **HTML | {"wsgi.url_scheme": "https"}).headers["Set-Cookie"])
    assert "secure" in text.lower()


@pytest.mark.parametrize(
    "wrong", ["position_seen=7", 'position_seen="', "position_written=", "position_seen=%ff"]
)
def test_a_forged_cookie_counts_for_nothing(wrong: str) -> None:
    app = App("7")
    assert call(around(app), HTTP_COOKIE=wrong).status == 200
    other = ReadYourWrites(App("9"), secret=b"of somebody else, as long", merged=merged)
    call(around(app), HTTP_COOKIE=sent(cookies(call(other, **HTML))))
    assert app.after == ["", ""]


def test_a_cookie_that_is_too_old_counts_for_nothing() -> None:
    now = [1_800_000_000.0]
    app = App("7")
    site = around(app, lifetime=60, clock=lambda: now[0])
    kept = sent(cookies(call(site, **HTML)))
    now[0] += 61
    call(site, HTTP_COOKIE=kept)
    assert app.after == ["", ""]


def test_a_cookie_of_one_kind_does_not_pass_for_the_other() -> None:
    app = App("7")
    (value,) = cookies(call(around(app), **HTML)).values()
    call(around(app), HTTP_COOKIE=sent({"position_written": value}))
    assert app.after[-1] == ""


def test_a_position_of_another_kind_of_server_counts_for_nothing() -> None:
    other = ReadYourWrites(App("abc"), secret=SECRET, merged=lambda one, other: other or one)
    app = App("7")
    answer = call(around(app), HTTP_COOKIE=sent(cookies(call(other, **HTML))), **HTML)
    assert (app.after, answer.headers[HEADER]) == ([""], "7")


def test_a_cookie_is_set_only_when_there_is_something_new() -> None:
    app = App("7")
    kept = cookies(call(around(app), **HTML))
    assert kept
    assert not cookies(call(around(app), HTTP_COOKIE=sent(kept), **HTML))
    app.position = "8"
    assert cookies(call(around(app), HTTP_COOKIE=sent(kept)))


# Around others --------------------------------------------------------------


def test_where_there_are_no_replicas_nothing_is_sent() -> None:
    for app in (App(""), hello):
        answer = call(around(app), "POST", **HTML)
        assert (answer.headers[HEADER], cookies(answer)) == (None, {})


def test_what_is_unchanged_is_still_answered_304() -> None:
    app = App("7")
    site = Conditional(around(app))
    first = call(site, **HTML)
    again = call(
        site, HTTP_IF_NONE_MATCH=first.headers["ETag"], HTTP_COOKIE=sent(cookies(first)), **HTML
    )
    assert (again.status, again.headers["Set-Cookie"]) == (304, None)


def test_it_asks_after_the_commit() -> None:
    happened: list[str] = []

    class Store:
        def commit(self) -> None:
            happened.append("commit")

        def rollback(self) -> None: ...

        def close(self) -> None:
            happened.append("close")

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ["middleware.store"]()
        return hello(environ, start_response)

    def open(environ: WSGIEnvironment) -> Store:
        environ[POSITION] = position
        return Store()

    def position() -> str:
        happened.append("position")
        return "7"

    answer = call(around(TransactionPerRequest(app, open=open)), "POST")
    assert answer.headers[HEADER] == "7"
    assert happened == ["commit", "position", "close"]


def test_a_secret_that_can_be_guessed_is_refused() -> None:
    with pytest.raises(ValueError, match=re.escape("secret: is shorter")):
        ReadYourWrites(hello, secret=b"short", merged=merged)
