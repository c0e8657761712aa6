"""What another site's page may not do, and what scripts and our own pages may."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest

from middleware.authentication import Identity
from middleware.csrf import MAX_FORM_PREFIX, CSRFProtection
from tests.middleware.wsgi import Answer, call, echo, environ, run

SECRET = b"a secret that is long enough"
FORM = "application/x-www-form-urlencoded"
OWN = "https://bo.example.org"


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def around(app: Any = echo, **settings: Any) -> CSRFProtection:
    return CSRFProtection(app, secret=SECRET, **{"clock": Clock(), **settings})


def post(
    body: bytes = b"a=1",
    content_type: str | None = FORM,
    method: str = "POST",
    app: CSRFProtection | None = None,
    **more: Any,
) -> Answer:
    """A request to our own https host; ``more`` are headers, named as in HTTP."""
    keys = {"HTTP_" + name.upper(): value for name, value in more.items()}
    given = environ(method, "/jobs/1/cancel", body, CONTENT_TYPE=content_type)
    given |= {"wsgi.url_scheme": "https", "middleware.own_host": "bo.example.org"}
    given["REMOTE_USER"] = "alice"
    if content_type is None:
        given.pop("CONTENT_TYPE", None)
    return run(app or around(), given | keys)


def token(user: str = "alice", **settings: Any) -> str:
    return around(**settings).token(user)


BROWSER = {"origin": OWN, "sec_fetch_site": "same-origin", "cookie": "a=1"}


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "PROPFIND"])
@pytest.mark.parametrize(
    "marks",
    [
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "anything"},
        {"origin": "https://evil.example.org"},
        {"origin": "null"},
        {"origin": ""},
        {"origin": "http://bo.example.org"},
        {"origin": "https://bo.example.org:8443"},
        {"origin": "https://bo.example.org.evil.example"},
        {"origin": "https://bo.example.org, https://evil.example.org"},
    ],
)
def test_a_change_from_another_site_is_refused_even_with_a_token(
    method: str, marks: dict[str, str]
) -> None:
    for content_type in (FORM, "application/xml", None):
        answer = post(b"x", content_type, method, x_csrf_token=token(), **marks)
        assert answer.status == 403


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_looking_is_free(method: str) -> None:
    assert post(b"", None, method, sec_fetch_site="cross-site", origin="null").status == 200


@pytest.mark.parametrize(
    "content_type",
    [
        FORM,
        f"{FORM}; charset=utf-8",
        FORM.upper(),
        f" {FORM}",
        "multipart/form-data; boundary=x",
        "text/plain",
        "text/plain;application/json",
        None,
        "",
    ],
)
@pytest.mark.parametrize(
    "mark",
    [
        {"origin": OWN},
        {"sec_fetch_site": "same-origin"},
        {"sec_fetch_site": "none"},
        {"sec_fetch_mode": "navigate"},
        {"cookie": "a=1"},
        {"referer": f"{OWN}/jobs"},
        {"accept": "text/html,application/xhtml+xml"},
        {"accept": "Text/HTML"},
    ],
)
def test_a_form_from_a_browser_needs_a_token(
    content_type: str | None, mark: dict[str, str]
) -> None:
    assert post(b"a=1", content_type, **mark).status == 403
    assert post(b"a=1", content_type, x_csrf_token="", **mark).status == 403
    assert post(b"a=1", content_type, x_csrf_token=token(), **mark).status == 200


@pytest.mark.parametrize(
    "script",
    [
        {},
        {"accept": "*/*"},
        {"accept": "application/xml"},
        {"authorization": "Bearer abc", "cookie": "a=1"},
        {"authorization": "bearer abc", "accept": "text/html"},
    ],
)
def test_a_script_needs_none(script: dict[str, str]) -> None:
    assert post(**script).status == 200


def test_basic_credentials_which_a_browser_sends_by_itself_are_no_excuse() -> None:
    assert post(authorization="Basic YTpi", cookie="a=1").status == 403


def test_a_document_that_only_a_script_can_send_needs_none() -> None:
    for content_type in ("application/xml", "application/json"):
        assert post(b"<a/>", content_type, **BROWSER).status == 200


@pytest.mark.parametrize(
    ("origin", "host", "scheme"),
    [
        ("https://bo.example.org", "bo.example.org:443", "https"),
        ("https://bo.example.org:443", "bo.example.org", "https"),
        ("http://BO.example.org", "bo.EXAMPLE.org:80", "http"),
        ("http://localhost:8080", "localhost:8080", "http"),
        ("http://[::1]:8080", "[::1]:8080", "http"),
    ],
)
def test_our_own_origin_is_known_in_all_its_spellings(origin: str, host: str, scheme: str) -> None:
    given = environ("POST", "/", b"<a/>", CONTENT_TYPE="application/xml", HTTP_ORIGIN=origin)
    given |= {"middleware.own_host": host, "wsgi.url_scheme": scheme}
    assert run(around(), given).status == 200


def test_an_origin_that_is_the_same_as_a_host_that_is_not_ours_is_foreign() -> None:
    given = environ("POST", "/", b"<a/>", CONTENT_TYPE="application/xml")
    given |= {"HTTP_HOST": "evil.example:8080", "HTTP_ORIGIN": "http://evil.example:8080"}
    assert run(around(), given).status == 403


def test_other_origins_can_be_as_good_as_ours() -> None:
    app = around(origins=("https://Other.example.org/",))
    answer = post(app=app, origin="https://other.example.org", x_csrf_token=app.token("alice"))
    assert answer.status == 200


# Where the token stands


def multipart(*parts: tuple[str, bytes], boundary: bytes = b"bnd") -> bytes:
    """A multipart body; each part is the rest of its disposition, and its value."""
    told = [
        b"--%b\r\nContent-Disposition: form-data; %b\r\n\r\n%b\r\n"
        % (boundary, disposition.encode(), value)
        for disposition, value in parts
    ]
    return b"".join(told) + b"--" + boundary + b"--\r\n"


def _name(value: object) -> str | None:
    """Of a case: a token differs each time that the tests are read."""
    return "body" if isinstance(value, bytes) else None


GOOD = token()
MULTIPART = "multipart/form-data; boundary=bnd"
FIELD = 'name="csrf_token"'


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (FORM, b"csrf_token=%b" % GOOD.encode()),
        (FORM, b"a=1&csrf_token=%b&b=2" % GOOD.encode()),
        (FORM, b"csrf_token=%b&rest=%b" % (GOOD.encode(), b"a" * 3 * MAX_FORM_PREFIX)),
        ("text/plain", b"a=1\r\ncsrf_token=%b\r\n" % GOOD.encode()),
        (MULTIPART, multipart((FIELD, GOOD.encode()))),
        (MULTIPART, multipart(('name="a"', b"1"), (FIELD, GOOD.encode()))),
        (
            MULTIPART,
            multipart((FIELD, GOOD.encode()), ('name="f"; filename="x"', b"a" * MAX_FORM_PREFIX)),
        ),
        (
            'multipart/form-data; charset=utf-8; boundary="b d"',
            multipart((FIELD, GOOD.encode()), boundary=b"b d"),
        ),
    ],
    ids=_name,
)
def test_a_field_of_the_form_carries_the_token_and_the_app_reads_it_all(
    content_type: str, body: bytes
) -> None:
    answer = post(body, content_type, **BROWSER)
    assert (answer.status, answer.body) == (200, body)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (FORM, b""),
        (FORM, b"csrf_token="),
        (FORM, b"csrf_token=%b" % GOOD[:-1].encode()),
        (FORM, b"xcsrf_token=%b" % GOOD.encode()),
        (FORM, b"a=%b&csrf_token=%b" % (b"a" * MAX_FORM_PREFIX, GOOD.encode())),
        (FORM, b"csrf_token=\xff\xfe%e2"),
        (FORM, multipart((FIELD, GOOD.encode()))),
        ("multipart/form-data", multipart((FIELD, GOOD.encode()))),
        (MULTIPART, multipart(('name="x_csrf_token"', GOOD.encode()))),
        (MULTIPART, multipart(('name="a"', FIELD.encode() + b"\r\n\r\n" + GOOD.encode()))),
        (MULTIPART, multipart((FIELD, b""))),
        (MULTIPART, b"\r\n\r\n" + GOOD.encode()),
    ],
    ids=_name,
)
def test_a_form_without_a_good_token_is_refused(content_type: str, body: bytes) -> None:
    assert post(body, content_type, **BROWSER).status == 403


def test_a_chunked_form_is_read_as_well() -> None:
    body = b"csrf_token=%b" % GOOD.encode()
    given = environ("POST", "/", body, CONTENT_TYPE=FORM, HTTP_COOKIE="a=1", REMOTE_USER="alice")
    del given["CONTENT_LENGTH"]
    given["wsgi.input_terminated"] = True
    assert run(around(), given).status == 200


# Tokens


def test_each_token_differs() -> None:
    assert len({token() for _ in range(100)}) == 100


def test_a_token_lives_its_time() -> None:
    clock = Clock()
    app = around(lifetime=100, clock=clock)
    given = app.token("alice")
    for later, valid in ((0, True), (100, True), (101, False), (-59, True), (-61, False)):
        clock.now = Clock.now + later
        assert app.valid(given, "alice") == valid


def test_a_token_is_good_for_its_user_and_its_secret_only() -> None:
    app = around()
    given = app.token("alice")
    assert app.valid(given, "alice")
    assert not app.valid(given, "bob")
    assert not app.valid(given, "")
    assert not CSRFProtection(echo, secret=SECRET + b"!", clock=Clock()).valid(given, "alice")


@pytest.mark.parametrize("position", range(0, len(token()) - 1, 5))
def test_no_part_of_a_token_can_be_changed(position: int) -> None:
    app = around()
    given = app.token("alice")
    other = "B" if given[position] == "A" else "A"
    assert not app.valid(given[:position] + other + given[position + 1 :], "alice")


@pytest.mark.parametrize("bad", ["", "a", "é", "\x00", "A" * 40, "A" * 39, "=" * 40, "\ud800"])
def test_nonsense_is_no_token(bad: str) -> None:
    assert not around().valid(bad, "alice")


def test_pages_find_a_fresh_token_in_the_environ() -> None:
    def page(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        first, second = (f"{environ['middleware.csrf_token']}" for _ in range(2))
        assert first == second
        return [first.encode()]

    app = around(page)
    identity = Identity("carol", "viewer", "proxy")
    assert app.valid(call(app, REMOTE_USER="alice").text, "alice")
    named = call(app, REMOTE_USER="alice", **{"middleware.identity": identity}).text
    assert app.valid(named, "carol")
    assert app.valid(call(app).text, "")


def test_a_secret_that_can_be_guessed_is_refused() -> None:
    with pytest.raises(ValueError, match="secret"):
        CSRFProtection(echo, secret=b"short")
