"""A trusted proxy is believed, anybody else is not."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest

from middleware.trusted_proxy import KEY, TrustedProxy
from tests.middleware.wsgi import call

STRANGER = "203.0.113.9"
ALL = {
    "HTTP_X_REMOTE_USER": "alice",
    "HTTP_X_FORWARDED_PROTO": "https",
    "HTTP_X_FORWARDED_HOST": "evil.example, site.example",
    "HTTP_X_FORWARDED_FOR": "198.51.100.1, 203.0.113.5, 10.0.0.2",
    "HTTP_FORWARDED": "for=1.2.3.4",
    "HTTP_X_REAL_IP": "1.2.3.4",
}
SHOWN = ("REMOTE_USER", "REMOTE_ADDR", "HTTP_HOST", "wsgi.url_scheme")


def tell(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "application/json")])
    left = [key for key in environ if key.startswith(("HTTP_X_", "HTTP_FORW"))]
    return [json.dumps([*(environ.get(key) for key in SHOWN), left]).encode()]


def told(peer: str, more: dict[str, Any], **settings: Any) -> Any:
    settings.setdefault("trusted", ("127.0.0.1", "10.0.0.0/8", "::1", "unix"))
    answer = call(TrustedProxy(tell, **settings), REMOTE_ADDR=peer, **more)
    return json.loads(answer.body) if answer.status == 200 else answer.status


@pytest.mark.parametrize("peer", ["127.0.0.1", "10.1.2.3", "::1", "", "::ffff:10.0.0.1"])
def test_a_trusted_peer_is_believed(peer: str) -> None:
    assert told(peer, ALL) == ["alice", "203.0.113.5", "site.example", "https", []]


@pytest.mark.parametrize("peer", [STRANGER, "11.0.0.1", "::2", "nonsense", "::ffff:11.0.0.1"])
def test_anybody_else_is_not(peer: str) -> None:
    given = ALL | {"REMOTE_USER": "root", "HTTP_HOST": "site.example"}
    assert told(peer, given) == [None, peer, "site.example", "http", []]


def test_a_unix_socket_is_trusted_only_if_named() -> None:
    assert told("", ALL, trusted=["127.0.0.1"])[0] is None


def test_a_trusted_peer_that_names_no_user_has_none() -> None:
    assert told("127.0.0.1", {"REMOTE_USER": "root"})[0] is None


@pytest.mark.parametrize(
    ("hops", "client"),
    [
        ("198.51.100.1", "198.51.100.1"),
        ("1.1.1.1, 198.51.100.1:4711 , 10.0.0.1", "198.51.100.1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("10.0.0.9, 10.0.0.1", "10.0.0.9"),
        ("rubbish, 198.51.100.1", "198.51.100.1"),
        ("rubbish", 400),
        ("198.51.100.1, ", 400),
    ],
)
def test_the_client_is_the_last_hop_that_is_none_of_ours(hops: str, client: str | int) -> None:
    found = told("127.0.0.1", {"HTTP_X_FORWARDED_FOR": hops})
    assert (found if isinstance(found, int) else found[1]) == client


@pytest.mark.parametrize(
    ("user", "complaint"),
    [
        ("", "names no user"),
        ("  ", "names no user"),
        ("(null)", "names no user"),
        ("alice, alice", "is given twice"),
        ("alice,bob", "is given twice"),
        ("a" * 256, "has more than 255 characters"),
        ("ali\x00ce", "has control characters"),
        ("ali\tce", "has control characters"),
    ],
)
def test_an_identity_that_is_none_is_refused(user: str, complaint: str) -> None:
    answer = call(TrustedProxy(tell), HTTP_X_REMOTE_USER=user, REMOTE_ADDR="")
    assert (answer.status, complaint in answer.text) == (400, True)


def test_the_users_header_has_the_name_that_was_set() -> None:
    more = {"HTTP_X_USER": "alice", "HTTP_X_REMOTE_USER": "bob"}
    assert told("127.0.0.1", more, user_header="X-User")[0] == "alice"


@pytest.mark.parametrize("scheme", ["javascript", "", "https, ftp"])
def test_a_scheme_that_is_none_is_refused(scheme: str) -> None:
    assert told("127.0.0.1", {"HTTP_X_FORWARDED_PROTO": scheme}) == 400


@pytest.mark.parametrize("host", ["a b", "a/b", "", "good, a@b"])
def test_a_host_that_is_none_is_refused(host: str) -> None:
    assert told("127.0.0.1", {"HTTP_X_FORWARDED_HOST": host}) == 400


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("site.example", 200),
        ("SITE.example:8080", 200),
        ("[::1]:80", 200),
        ("[::1]", 200),
        ("other.example:81", 200),
        ("other.example", 400),
        ("other.example:82", 400),
        ("evil.example", 400),
        ("site.example.evil.example", 400),
        ("site.example.", 400),
        ("evil@site.example", 400),
        ("site.example@evil.example", 400),
        ("[::2]", 400),
        ("", 400),
    ],
)
def test_a_foreign_host_is_refused(host: str, status: int) -> None:
    app = TrustedProxy(tell, hosts=["site.example", "[::1]", "other.example:81"])
    assert call(app, HTTP_HOST=host).status == status
    assert call(app, HTTP_X_FORWARDED_HOST=host, REMOTE_ADDR="").status == status


def test_a_host_is_ours_only_when_it_is_among_those_that_are_named() -> None:
    def own(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(environ.get(KEY)).encode()]

    named = TrustedProxy(own, hosts=["site.example"])
    assert call(named, HTTP_HOST="Site.example:81").text == "Site.example:81"
    assert call(named, HTTP_HOST=None, **{KEY: "evil.example"}).text == "None"
    assert call(TrustedProxy(own), HTTP_HOST="evil.example", **{KEY: "evil.example"}).text == "None"


def test_no_process_at_a_port_of_this_host_is_trusted_by_default() -> None:
    for peer in ("127.0.0.1", "::1"):
        given = ALL | {"HTTP_HOST": "site.example"}
        answer = call(TrustedProxy(tell), REMOTE_ADDR=peer, **given)
        assert json.loads(answer.body) == [None, peer, "site.example", "http", []]


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(ValueError, match="'everybody' is neither a network nor unix"):
        TrustedProxy(tell, trusted=["everybody"])
