"""Who asks, by token, by the proxy's word, or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest

from middleware.authentication import Authentication, Identity
from tests.middleware.wsgi import Answer, call

BOT = Identity("bot", "operator", "token")
NOBODY = Identity("anonymous", "viewer", "anonymous")
ROLES = {"alice": "admin", "bob": "viewer"}


def who(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    identity = environ.get("middleware.identity")
    start_response("200 OK", [("Content-Type", "text/plain")])
    if identity is None:
        return [b"unasked"]
    assert environ["REMOTE_USER"] == identity.name
    return [f"{identity.name} {identity.role} {identity.via}".encode()]


def ask(
    user: str | None = None,
    authorization: str | None = None,
    path: str = "/",
    anonymous: Identity | None = None,
) -> Answer:
    app = Authentication(
        who,
        tokens={"good": BOT}.get,
        role_of=ROLES.get,
        anonymous=anonymous,
        exempt=("/health/", "/robots.txt"),
    )
    return call(app, path=path, REMOTE_USER=user, HTTP_AUTHORIZATION=authorization)


@pytest.mark.parametrize(
    ("user", "authorization", "text"),
    [
        ("alice", None, "alice admin proxy"),
        ("bob", None, "bob viewer proxy"),
        (None, "Bearer good", "bot operator token"),
        (None, "bearer  good ", "bot operator token"),
        ("alice", "Bearer good", "bot operator token"),
        ("alice", "Basic YTpi", "alice admin proxy"),
        ("alice", "Negotiate abc==", "alice admin proxy"),
    ],
)
def test_known_ones_are_let_in(user: str | None, authorization: str | None, text: str) -> None:
    assert ask(user, authorization).text == text
    assert ask(user, authorization, anonymous=NOBODY).text == text


@pytest.mark.parametrize("anonymous", [None, NOBODY])
@pytest.mark.parametrize("user", [None, "alice"])
@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer bad",
        "Bearer",
        "Bearer ",
        "Bearer a b",
        "Bearer \xe9",
        "good",
        "",
        " ",
        "Bea\x00rer x",
    ],
)
def test_bad_credentials_never_fall_back_to_another_identity(
    user: str | None, authorization: str, anonymous: Identity | None
) -> None:
    answer = ask(user, authorization, anonymous=anonymous)
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_bad_token_is_told_from_none() -> None:
    assert ask().headers["WWW-Authenticate"] == "Bearer"
    bad = ask(authorization="Bearer bad").headers["WWW-Authenticate"]
    assert bad == 'Bearer error="invalid_token"'


def test_nobody_is_refused_or_anonymous() -> None:
    assert ask().status == ask("").status == 401
    assert ask(anonymous=NOBODY).text == "anonymous viewer anonymous"
    assert ask(authorization="Basic YTpi", anonymous=NOBODY).status == 401


def test_a_user_without_a_role_is_refused_by_name() -> None:
    answer = ask("mallory", anonymous=NOBODY)
    assert answer.status == 403
    assert "mallory has no role" in answer.text


@pytest.mark.parametrize("name", ["token:bot", "Token:bot", "TOKEN:", "t\xf6ken:bot", "engine"])
def test_a_user_of_the_proxy_has_no_name_that_is_reserved(name: str) -> None:
    reserved = ("token:", "engine")
    app = Authentication(who, role_of=lambda user: "admin", reserved=reserved)
    assert call(app, REMOTE_USER=name).status == 403
    for other in ("token", "tokens:bot", "a token:bot", "engineer"):
        assert call(app, REMOTE_USER=other).text == f"{other} admin proxy"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/health/live", 200),
        ("/robots.txt", 200),
        ("/healthy", 401),
        ("/health/../jobs", 401),
        ("/health/..", 401),
        ("//health/live", 401),
        ("/Health/live", 401),
    ],
)
def test_exempt_paths_need_no_identity(path: str, status: int) -> None:
    assert ask(path=path).status == status


def test_an_exempt_path_has_no_identity_and_asks_for_none() -> None:
    assert ask("mallory", "Bearer bad", path="/health/live").text == "unasked"


def test_an_identity_from_outside_is_not_believed() -> None:
    app = Authentication(who, exempt=("/",))
    assert call(app, **{"middleware.identity": BOT}).text == "unasked"


def test_without_those_who_know_nobody_is_known() -> None:
    app = Authentication(who)
    assert call(app, HTTP_AUTHORIZATION="Bearer good").status == 401
    assert call(app, REMOTE_USER="alice").status == 403


def test_what_the_askers_raise_goes_through() -> None:
    def away(text: str) -> None:
        raise ConnectionError

    app = Authentication(who, tokens=away, role_of=away)
    for given in ({"HTTP_AUTHORIZATION": "Bearer good"}, {"REMOTE_USER": "alice"}):
        with pytest.raises(ConnectionError):
            call(app, **given)
