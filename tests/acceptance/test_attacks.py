"""What strangers try, over real sockets, against the server as it is shipped."""

from __future__ import annotations

import gzip
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from urllib.parse import quote

import pytest
from lxml import etree

from tests.acceptance.proc import wait_for
from tests.acceptance.servers import (
    PATIENCE,
    Address,
    Answer,
    Client,
    client,
    connect,
    serving,
)
from tests.acceptance.site import Site

NS = "{urn:backoffice:1}"
FORM = "application/x-www-form-urlencoded"
JOB = '<job xmlns="urn:backoffice:1" workflow="nothing">%s</job>'
SLOW = 1.0  # seconds that a client has for its headers or body


class Server:
    """``backoffice web`` and the site it serves."""

    def __init__(self, site: Site, visitor: Client) -> None:
        self.site = site
        self.visitor = visitor

    @property
    def address(self) -> Address:
        return self.site.settings.web.listen

    def exchange(self, data: bytes) -> bytes:
        """All that is answered until the connection is closed."""
        with connect(self.address) as sock:
            sock.sendall(data)
            return _received(sock)

    def jobs(self) -> list[tuple[int, str]]:
        return [tuple(row) for row in self.site.rows("SELECT id, state FROM job ORDER BY id")]

    def post(self, body: bytes | str, **headers: str) -> Answer:
        """Submit ``body``, on a connection of its own."""
        with client(self.address) as visitor:
            return visitor.post("/jobs", body, **headers)


def _received(sock: socket.socket) -> bytes:
    pieces = []
    while piece := sock.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


def _site(home: Path) -> Site:
    site = Site(home, f"sqlite:{home}/database.sqlite")
    site.set("web", listen=f"unix:{home}/socket", rate="0")
    site.set("web", hosts="media.example.org", url="http://www.example.org/media")
    site.set("web", head_timeout=f"{SLOW}s", body_timeout=f"{SLOW}s")
    site.recipe("nothing", '<task name="rest" type="noop"/>', inputs="")
    return site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with closing(_site(tmp_path / "site")) as site:
        yield site


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Nobody need log in; there is job 1."""
    with closing(_site(tmp_path_factory.mktemp("attacks") / "site")) as site:
        site.submit("nothing")
        with serving(site, "backoffice", "web", address=site.home / "socket") as visitor:
            yield Server(site, visitor)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Everybody must log in; anna and vera may do so. There is job 1."""
    with closing(_site(tmp_path_factory.mktemp("guarded") / "site")) as site:
        site.set("auth", required="yes", admins="anna vera")
        site.submit("nothing")
        with serving(site, "backoffice", "web", address=site.home / "socket") as visitor:
            yield Server(site, visitor)


# Framing --------------------------------------------------------------------

GET = b"GET /jobs HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/xml\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
BODY = (JOB % "").encode()
SMUGGLED = POST + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
FRAMING = {
    "two lengths that differ": (
        POST + b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED,
        400,
    ),
    "two lengths that agree": (POST + b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n", 400),
    "a length with a minus": (POST + b"Content-Length: -1\r\n\r\n" + SMUGGLED, 400),
    "a length with a plus": (POST + b"Content-Length: +0\r\n\r\n" + SMUGGLED, 400),
    "length and chunks": (
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        400,
    ),
    "a vertical tab": (POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + SMUGGLED, 400),
    "chunks in 0x": (CHUNKED + b"0x0\r\n\r\n" + SMUGGLED, 400),
    "a bare CR": (GET + b"X: a\rY: b\r\n\r\n", 400),
    "a NUL": (GET + b"X: a\0b\r\n\r\n", 400),
    "a folded line": (GET + b"X: a\r\n b\r\n\r\n", 400),
    "a blank before the colon": (GET + b"X : a\r\n\r\n", 400),
    "no host": (b"GET /jobs HTTP/1.1\r\n\r\n", 400),
    "two hosts": (GET + b"Host: localhost\r\n\r\n", 400),
    "100 kB of headers": (GET + b"X: " + b"a" * 100_000 + b"\r\n\r\n", 431),
    "a URI of 200 kB": (b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
    "TRACE": (b"TRACE /jobs HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
}


@pytest.mark.parametrize("name", FRAMING)
def test_a_request_framed_loosely_is_refused_and_what_follows_it_never_read(
    server: Server, name: str
) -> None:
    attack, status = FRAMING[name]
    before = server.jobs()
    answer = server.exchange(attack)
    assert re.findall(rb"HTTP/1.1 (\d+) ", answer) == [b"%d" % status]
    assert b"\r\nConnection: close\r\n" in answer
    assert server.jobs() == before


def test_who_sends_all_of_a_body_that_is_too_large_still_reads_why(server: Server) -> None:
    body = b"x" * (8 << 20)
    answer = server.exchange(POST + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    assert answer.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "start",
    [b"GET /jobs HT", GET + b"X: ", POST + b"Content-Length: 99\r\n\r\n<job", CHUNKED + b"5\r\n<j"],
    ids=["line", "headers", "body", "chunk"],
)
def test_slow_clients_get_408_and_the_others_are_served_at_once(
    server: Server, start: bytes
) -> None:
    with ExitStack() as stack:
        slow = [stack.enter_context(connect(server.address)) for _ in range(30)]
        for sock in slow:
            sock.sendall(start)
        begun = time.monotonic()
        assert server.visitor.get("/jobs").status == 200
        assert time.monotonic() - begun < 1
        for sock in slow:
            assert _received(sock).startswith(b"HTTP/1.1 408 ")


# Identity -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "statuses"),
    [
        ("X-Remote-User:", {400, 401}),
        ("X-Remote-User: (null)", {400, 401}),
        ("X-Remote-User: " + "a" * 300, {400, 401}),
        ("X-Remote-User: anna\r\nX-Remote-User: anna", {400}),
        ("X-Remote-User: anna, vera", {400, 401}),
        ("X_Remote_User: anna", {401}),
        ("X-Remote_User: anna", {401}),
        ("Remote-User: anna", {401}),
        ("Authorization: Bearer anna", {401}),
        ("Authorization: Basic YW5uYTphbm5h", {401}),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_an_identity_that_is_none_is_refused(
    guarded: Server, header: str, statuses: set[int]
) -> None:
    answer = guarded.exchange(GET + header.encode() + b"\r\nConnection: close\r\n\r\n")
    assert int(answer.split()[1]) in statuses
    assert b"WWW-Authenticate" in answer or answer.split()[1] == b"400"


# Web ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "marks",
    [
        {"Cookie": "a=b", "Content_Type": FORM},
        {"Accept": "text/html", "Content_Type": FORM},
        {"Origin": "http://localhost", "Content_Type": FORM},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
    ],
    ids=["cookie", "browser", "own origin", "foreign origin", "no origin", "cross-site"],
)
def test_a_page_of_another_site_changes_nothing(server: Server, marks: dict[str, str]) -> None:
    answer = server.visitor.post("/jobs/1/cancel", "csrf_token=guessed", **marks)
    assert answer.status == 403
    assert server.jobs()[0] == (1, "queued")


@pytest.mark.parametrize(
    ("path", "statuses"),
    [
        ("/jobs?next=//evil.example", {400}),
        ("/?next=https://evil.example", {400}),
        ("/%ff", {400, 404}),
        ("/jobs/%ff", {400, 404}),
        ("/jobs?q=%ff", {400}),
        ("/%00", {400, 404}),
        ("/jobs/1%00", {400, 404}),
        ("/jobs?q=%00", {400}),
        ("/jobs?sort=id;DROP%20TABLE%20job", {400}),
        ("/jobs?state='%20OR%20'1'='1", {400}),
        ("/jobs?limit=1;DROP%20TABLE%20job", {400}),
        ("/jobs?limit=1%20UNION%20SELECT%201", {400}),
        ("/jobs?submitted-after='%20OR%201=1%20--", {400}),
        ("/jobs?after='%20OR%201=1%20--", {400}),
        ("/jobs?limit=-1", {400}),
        ("/jobs?limit=0", {400}),
        ("/jobs?limit=1e9", {400}),
        ("/jobs?limit=99999999999999999999999", {400}),
        ("/jobs?after=-1", {400}),
        ("/events?after=-1", {400}),
        ("/events?after=99999999999999999999999", {400}),
        ("/tasks?job=9223372036854775808", {400}),
        ("/jobs/99999999999999999999999", {404}),
        ("/jobs/-1", {404}),
        ("/schema/..%2f..%2fetc%2fbackoffice.ini", {400, 404}),
        ("/static/../backoffice.ini", {400, 404}),
        ("/static/..%2f..%2fetc/backoffice.ini", {400, 404}),
        ("/schema//etc/passwd", {400, 404}),
    ],
)
def test_an_address_that_is_odd_is_refused(server: Server, path: str, statuses: set[int]) -> None:
    answer = server.exchange(
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    )
    assert int(answer.split()[1]) in statuses
    assert b"root:" not in answer


@pytest.mark.parametrize("words", ["%", "_", "' OR '1'='1", "\\", "*", '"', "rest'; --"])
def test_what_is_searched_for_is_no_pattern_and_no_sql(server: Server, words: str) -> None:
    answer = server.visitor.get(f"/jobs?q={quote(words)}")
    assert answer.status in (200, 400)
    assert answer.status == 400 or len(etree.fromstring(answer.body)) == 0


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "localhost.evil.example"])
def test_a_foreign_host_is_refused(server: Server, host: str) -> None:
    answer = server.exchange(
        f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
    )
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"evil" not in answer


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1:80", "[::1]", "media.example.org", "WWW.example.org:8080"]
)
def test_our_own_hosts_are_served(server: Server, host: str) -> None:
    with client(server.address, Host=host) as visitor:
        assert visitor.get("/").status == 200


def test_line_ends_forge_neither_headers_nor_log_lines(server: Server) -> None:
    agent = "x - - agent-of-its-own"
    for path in ("/jobs/%0d%0aSet-Cookie:%20a=b", "/jobs?q=%0d%0aSet-Cookie:%20a=b"):
        answer = server.visitor.get(path, User_Agent=f'{agent}"\t')
        assert answer.status in (400, 404)
        assert answer.headers["Set-Cookie"] is None

    def logged() -> list[str]:
        return [line for line in server.site.log().splitlines() if agent in line]

    wait_for(lambda: len(logged()) >= 2, "both requests are logged", PATIENCE)
    assert len(logged()) == 2
    assert all(re.match(r"\S+ - \S+ \[[^]]+\] \"", line) for line in logged())
    assert not any(line.startswith("Set-Cookie") for line in server.site.log().splitlines())


def test_script_stays_text_wherever_it_comes_back(server: Server) -> None:
    evil = "</title><script>alert(1)</script>"
    text = evil.replace("<", "&lt;")
    made = server.post(JOB % f'<title>{text}</title><metadata name="{text}">{text}</metadata>')
    assert made.status == 201
    path = made.headers["Location"]
    for accept in ("application/xml", "application/json", "text/html"):
        answer = server.visitor.get(path, Accept=accept)
        kind = answer.headers["Content-Type"]
        assert "json" in kind or b"<script>" not in answer.body
        _is_kept_harmless(answer)
    missing = server.visitor.get("/jobs/<script>alert(1)</script>", Accept="text/html")
    assert missing.headers["Content-Type"].startswith("text/html")
    assert b"<script>" not in missing.body
    _is_kept_harmless(missing)


def test_a_page_among_the_files_is_not_shown_as_one(server: Server) -> None:
    page = server.site.media / "<script>.html"
    page.write_text("<script>alert(1)</script>")
    body = f'<file xmlns="urn:backoffice:1" href="{page.as_uri()}"/>'
    made = server.visitor.post("/files", body)
    assert made.status == 201
    content = server.visitor.get(f"{made.headers['Location']}/content")
    assert content.status == 200
    assert content.headers["Content-Disposition"].startswith("attachment")
    _is_kept_harmless(content)


def _is_kept_harmless(answer: Answer) -> None:
    policy = answer.headers["Content-Security-Policy"]
    assert "unsafe-inline" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_a_fault_of_ours_tells_the_requests_id_and_nothing_else(site: Site) -> None:
    with serving(site, "backoffice", "web", address=site.home / "socket", faults=1) as visitor:
        (site.home / "recipes" / "nothing.xml").unlink()
        answer = visitor.get("/workflows/nothing", Accept="text/html")
    assert answer.status == 500
    assert answer.headers["X-Request-ID"] in answer.body.decode()
    assert not re.search(rb"(?i)nothing\.xml|error:|traceback|python|No such", answer.body)
    assert answer.headers["Server"] == "Backoffice"


def test_a_flood_gets_429_and_health_still_answers(site: Site) -> None:
    site.set("web", rate="1", burst="5")
    with serving(site, "backoffice", "web", address=site.home / "socket") as visitor:
        answers = [visitor.get("/jobs") for _ in range(30)]
        assert visitor.get("/health/live").status == 200
    assert answers[0].status == 200
    refused = [one for one in answers if one.status == 429]
    assert len(refused) >= 15
    assert all(int(one.headers["Retry-After"]) >= 1 for one in refused)


# XML ------------------------------------------------------------------------


def _laughs() -> str:
    entities = "".join(f'<!ENTITY l{n + 1} "{f"&l{n};" * 10}">' for n in range(9))
    return f'<!DOCTYPE job [<!ENTITY l0 "ha">{entities}]>' + JOB % "<title>&l9;</title>"


def _swollen() -> str:
    return (
        f'<!DOCTYPE job [<!ENTITY a "{"a" * 50_000}">]>' + JOB % f"<title>{'&a;' * 50_000}</title>"
    )


def _many() -> str:
    return " ".join(f"a{n}=''" for n in range(200_000))


XSI = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
TYPED = JOB.replace("<job", f'<job {XSI} xsi:type="nothing"')
XML: dict[str, tuple[str | bytes, int]] = {
    "a DOCTYPE": ("<!DOCTYPE job>" + JOB % "", 400),
    "a DOCTYPE after a comment": ("<!-- a --><?b c?>\n<!DOCTYPE job>" + JOB % "", 400),
    "a DOCTYPE after a mark": (b"\xef\xbb\xbf<!DOCTYPE job>" + BODY, 400),
    "a DOCTYPE after a declaration": ('<?xml version="1.0"?><!DOCTYPE job []>' + JOB % "", 400),
    "an entity": ('<!DOCTYPE job [<!ENTITY a "b">]>' + JOB % "<title>&a;</title>", 400),
    "an entity nobody declared": (JOB % "<title>&a;</title>", 400),
    "a billion laughs": (_laughs(), 400),
    "a swollen entity": (_swollen(), 400),
    "depth": (JOB % ("<title>" * 300 + "</title>" * 300), 400),
    "200k attributes": (f"<job {_many()}/>", 413),
    "UTF-7": (b'<?xml version="1.0" encoding="UTF-7"?>' + BODY, 415),
    "UTF-16": ((JOB % "").encode("utf-16"), 415),
    "another encoding": ((JOB % "<title>\xfc</title>").encode("latin-1"), 415),
    "an unknown type": (TYPED % "", 422),
    "a strange namespace": ('<job xmlns="urn:other" workflow="nothing"/>', 422),
    "nothing": (" ", 400),
    "trailing garbage": (JOB % "" + "more", 400),
    "two roots": (JOB % "" * 2, 400),
    "a control character": (JOB % "<title>\x01</title>", 400),
    "a control character by number": (JOB % "<title>&#1;</title>", 400),
    "a NUL": (JOB % "<title>\0</title>", 400),
}


@pytest.mark.parametrize("name", XML)
def test_a_document_that_is_none_is_refused_and_nothing_stored(server: Server, name: str) -> None:
    body, status = XML[name]
    before, begun = server.jobs(), time.monotonic()
    answer = server.post(body)
    assert answer.status == status, answer.body
    assert time.monotonic() - begun < 2  # a bomb takes minutes, or all memory
    assert answer.headers["Content-Type"] == "application/problem+xml"
    assert server.jobs() == before


def test_no_body_at_all_is_refused(server: Server) -> None:
    assert server.post("").status == 400


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (gzip.compress(BODY), {"Content_Encoding": "gzip"}),
        (gzip.compress(BODY), {"Content_Type": "application/gzip"}),
        (BODY, {"Content_Type": "application/xml; charset=utf-7"}),
        (BODY, {"Content_Type": "text/plain"}),
    ],
    ids=["coded", "packed", "charset", "text"],
)
def test_what_is_not_plain_xml_or_json_is_refused(
    server: Server, body: bytes, headers: dict[str, str]
) -> None:
    before = server.jobs()
    assert server.post(body, **headers).status == 415
    assert server.jobs() == before


def test_a_comment_does_not_cut_a_name_off(server: Server) -> None:
    made = server.post(JOB % "<title>admin<!-- -->.evil<?a b?>.example</title>")
    assert made.status == 201
    assert etree.fromstring(made.body).findtext(f"{NS}title") == "admin.evil.example"


INCLUDE = '<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="{url}" parse="text"/>'
ELSEWHERE: dict[str, tuple[Callable[[str], str], set[int]]] = {
    "an external entity": (
        lambda url: f'<!DOCTYPE job [<!ENTITY a SYSTEM "{url}">]>' + JOB % "<title>&a;</title>",
        {400},
    ),
    "a parameter entity": (
        lambda url: f'<!DOCTYPE job [<!ENTITY % a SYSTEM "{url}">%a;]>' + JOB % "",
        {400},
    ),
    "an external DTD": (lambda url: f'<!DOCTYPE job SYSTEM "{url}">' + JOB % "", {400}),
    "XInclude": (lambda url: JOB % INCLUDE.format(url=url), {400}),
    "XInclude in a title": (
        lambda url: JOB % f"<title>{INCLUDE.format(url=url)}</title>",
        {400},
    ),
    "a schema of its own": (
        lambda url: JOB.replace("<job", f'<job {XSI} xsi:schemaLocation="urn:a {url}"') % "",
        {201, 400, 422},
    ),
    "a schema without namespace": (
        lambda url: JOB.replace("<job", f'<job {XSI} xsi:noNamespaceSchemaLocation="{url}"') % "",
        {201, 400, 422},
    ),
    "a style sheet": (
        lambda url: f'<?xml-stylesheet type="text/xsl" href="{url}"?>' + JOB % "",
        {201, 400},
    ),
}


@pytest.fixture
def trap() -> Iterator[socket.socket]:
    """Nobody must come here."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        yield listener


@pytest.mark.parametrize("name", ELSEWHERE)
def test_no_document_makes_the_server_fetch_another(
    server: Server, trap: socket.socket, name: str
) -> None:
    make, statuses = ELSEWHERE[name]
    answer = server.post(make(f"http://127.0.0.1:{trap.getsockname()[1]}/secret"))
    assert answer.status in statuses, answer.body
    with pytest.raises(BlockingIOError):
        trap.accept()


@pytest.mark.parametrize("name", ELSEWHERE)
def test_no_document_makes_the_server_tell_what_a_file_holds(
    server: Server, tmp_path: Path, name: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hidden words")
    make, statuses = ELSEWHERE[name]
    answer = server.post(make(secret.as_uri()))
    assert answer.status in statuses, answer.body
    assert b"hidden" not in answer.body
