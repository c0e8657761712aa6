"""A name that leads to this service is not yet a name of it: DNS rebinding.

The service is as it comes: no login, no ``[web] hosts`` and no ``url``. A page of
evil.example, whose name has come to lead to 127.0.0.1, asks it for all it can.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.acceptance.servers import Address, connect, free_port, serving
from tests.acceptance.site import Site

TITLE = "not for strangers"
JOB = '<job xmlns="urn:backoffice:1" workflow="nothing"/>'
TOKEN = "name=evil&role=admin"
FORM, XML = "application/x-www-form-urlencoded", "application/xml"
SERVERS = ("backoffice at a port", "backoffice at a socket", "gunicorn")


@dataclass(frozen=True)
class Open:
    """A service at which nobody need log in. There is job 1."""

    site: Site
    address: Address

    def ask(self, method: str, target: str, *lines: str, body: str = "") -> tuple[int, str]:
        """The status, and all that was answered. ``lines`` are the headers."""
        head = (f"{method} {target} HTTP/1.1", *lines, f"Content-Length: {len(body)}")
        with connect(self.address) as sock:
            sock.sendall("\r\n".join([*head, "Connection: close", "", body]).encode("latin-1"))
            pieces = []
            while piece := sock.recv(65536):
                pieces.append(piece)
        answer = b"".join(pieces).decode("latin-1")
        return int(answer.split()[1]), answer

    def made(self) -> tuple[int, int, int]:
        """How many jobs, tokens and events there are."""
        counts = [self.site.rows(f"SELECT COUNT(*) FROM {name}")[0][0] for name in _TABLES]
        return (counts[0], counts[1], counts[2])


_TABLES = ("job", "token", "event")


def _place(name: str, home: Path) -> tuple[Address, str, tuple[str, ...]]:
    """Where a server listens: its address, [web] listen, and what starts it."""
    socket, port = home / "socket", free_port()
    if name == "backoffice at a port":
        return ("127.0.0.1", port), f"127.0.0.1:{port}", ("backoffice", "web")
    if name == "backoffice at a socket":
        return socket, f"unix:{socket}", ("backoffice", "web")
    app = "backoffice.web.wsgi:application"
    options = ("--worker-class=gthread", "--workers=1", "--no-control-socket")
    bind = f"--bind=127.0.0.1:{port}"
    return ("127.0.0.1", port), "127.0.0.1:8080", ("gunicorn", *options, bind, app)


@pytest.fixture(scope="module", params=SERVERS)
def service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Open]:
    home = tmp_path_factory.mktemp("hosts") / "site"
    with closing(Site(home, f"sqlite:{home}/database.sqlite")) as site, ExitStack() as stack:
        address, listen, command = _place(request.param, home)
        site.set("web", listen=listen, rate="0")
        site.recipe("nothing", '<task name="rest" type="noop"/>', inputs="")
        site.submit("nothing", title=TITLE)
        stack.enter_context(serving(site, *command, address=address))
        yield Open(site, address)


FOREIGN = (
    *"evil.example:8080 evil.example EVIL.example:8080 evil.example. xn--evl-yma".split(),
    *"localhost. localhost.evil.example localhost.:8080 127.0.0.1.evil.example:80".split(),
    *"127.0.0.2:8080 0.0.0.0:8080 [::2]:8080 [::ffff:127.0.0.1]:8080 2130706433".split(),
    *"[::] 169.254.169.254 evil@localhost localhost@evil.example localhost:80@evil".split(),
    "localhost:8080:80",
    "localhost/",
    "localhost, evil.example",
    "localhost:",
    "*",
)


@pytest.mark.parametrize("host", FOREIGN)
def test_by_a_name_that_is_not_ours_nothing_is_read_and_nothing_made(
    service: Open, host: str
) -> None:
    before = service.made()
    lines = (f"Host: {host}", f"Origin: http://{host}", "Sec-Fetch-Site: same-origin")
    for path in ("/jobs", "/", "/events", "/events.atom", "/static/app.css", "/tokens"):
        status, answer = service.ask("GET", path, *lines)
        assert status == 400, path
        assert TITLE not in answer
        assert "csrf_token" not in answer
    for path, kind, body in (("/jobs", XML, JOB), ("/tokens", FORM, TOKEN)):
        status, answer = service.ask("POST", path, *lines, f"Content-Type: {kind}", body=body)
        assert (status, "bo_" in answer) == (400, False)
    assert service.made() == before


@pytest.mark.parametrize(
    "claims",
    [
        ("Host: evil.example", "X-Forwarded-Host: localhost"),
        ("Host: evil.example", "Forwarded: host=localhost"),
        ("Host: evil.example", "X-Forwarded-Server: localhost", "X-Forwarded-Proto: https"),
    ],
)
def test_who_is_not_a_proxy_does_not_name_another_host(
    service: Open, claims: tuple[str, ...]
) -> None:
    if isinstance(service.address, Path) and "X-Forwarded-Host: localhost" in claims:
        pytest.skip("who opens the Unix socket is a proxy")
    status, answer = service.ask("GET", "/jobs", *claims)
    assert (status, TITLE in answer) == (400, False)


def test_a_proxy_may_name_no_foreign_host_either(service: Open) -> None:
    if not isinstance(service.address, Path):
        pytest.skip("nobody is a proxy at a port")
    lines = ("Host: localhost", "X-Forwarded-Host: evil.example")
    status, answer = service.ask("GET", "/jobs", *lines)
    assert (status, TITLE in answer) == (400, False)


def test_a_process_at_a_port_is_nobody_and_says_nothing_of_others(service: Open) -> None:
    if isinstance(service.address, Path):
        pytest.skip("who opens the Unix socket is a proxy")
    lines = ("Host: localhost", "X-Forwarded-Host: evil.example", "X-Remote-User: mallory")
    status, answer = service.ask("GET", "/events.atom", *lines)
    assert (status, "evil.example" in answer) == (200, False)
    made = service.ask("POST", "/jobs", *lines, f"Content-Type: {XML}", body=JOB)
    assert (made[0], "mallory" in made[1]) == (201, False)


@pytest.mark.parametrize("target", ["http://localhost/jobs", "http://evil.example/jobs"])
def test_a_target_with_a_host_of_its_own_changes_nothing(service: Open, target: str) -> None:
    """It may be refused; by an evil Host, or an evil one in its place, nothing is read."""
    for host in ("localhost", "evil.example"):
        status, answer = service.ask("GET", target, f"Host: {host}")
        if "evil" in host:
            assert (status, TITLE in answer) == (400, False)
        assert "://evil.example" not in re.sub(r"<pre>.*?</pre>", "", answer)


@pytest.mark.parametrize(
    "origin",
    ["null", "http://evil.example", "http://localhost:1", "https://localhost", "http://127.0.0.2"],
)
def test_a_foreign_origin_changes_nothing_even_by_our_name(service: Open, origin: str) -> None:
    before = service.made()
    lines = ("Host: localhost", f"Origin: {origin}")
    for path, kind, body in (("/jobs", XML, JOB), ("/tokens", FORM, TOKEN)):
        assert service.ask("POST", path, *lines, f"Content-Type: {kind}", body=body)[0] == 403
    assert service.made() == before


@pytest.mark.parametrize(
    "host",
    ["localhost", "LocalHost:8080", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:8080"],
)
def test_by_the_names_of_loopback_all_is_served_whatever_the_port(service: Open, host: str) -> None:
    status, answer = service.ask("GET", "/jobs", f"Host: {host}")
    assert (status, TITLE in answer) == (200, True)
    lines = (f"Host: {host}", f"Origin: http://{host}", f"Content-Type: {XML}")
    assert service.ask("POST", "/jobs", *lines, body=JOB)[0] == 201


def test_links_that_are_read_elsewhere_name_the_host_that_was_asked_for(service: Open) -> None:
    _, answer = service.ask("GET", "/events.atom", "Host: localhost:8080")
    assert set(re.findall(r'href="(https?://[^/"]+)', answer)) == {"http://localhost:8080"}
