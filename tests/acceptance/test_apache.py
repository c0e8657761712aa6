"""Behind and inside a real Apache, with each configuration as it is shipped."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from typing import Any

import pytest

from backoffice.data import tokens
from backoffice.media import media_types
from backoffice.web.server.connections import Limits
from tests.acceptance import proc
from tests.acceptance.apache import (
    MODULES,
    SHIPPED,
    Apache,
    apache,
    configtest,
    needed,
    place,
    shipped,
    user,
)
from tests.acceptance.proc import wait_for
from tests.acceptance.servers import PATIENCE, Address, Client, basic, client, connect, serving
from tests.acceptance.site import ROOT, Site
from tests.acceptance.test_attacks import FRAMING
from tests.acceptance.test_servers import filled, serves_it_all

SECRET = "secret"
# One of each role, and one who may log in and has none.
ROLES = {"admins": "anna", "operators": "oskar", "viewers": "vera"}
USERS = dict.fromkeys([*ROLES.values(), "nobody"], SECRET)
# What an admin may have set for the whole server, and must not count here.
LOOSE = f"""
LoadModule brotli_module {MODULES}/mod_brotli.so
AddOutputFilterByType BROTLI_COMPRESS text/plain application/json application/xml
<FilesMatch "[.]php$">
    SetHandler server-status
</FilesMatch>
<Directory "/">
    Options All
    AllowOverride All
</Directory>
"""


@dataclass(frozen=True)
class Front:
    """An Apache and the site that it serves."""

    server: Apache
    site: Site
    inside: bool  # by mod_wsgi

    @contextmanager
    def visitor(self, name: str = "", **always: str) -> Iterator[Client]:
        given = {"Authorization": basic(name, SECRET)} if name else {}
        with client(self.server.address, **given, **always) as made:
            yield made

    def set_viewers(self, names: str) -> None:
        """And have the settings read anew."""
        self.site.set("auth", viewers=names)
        _ = self.site.settings  # the file is written
        if self.inside:
            (self.site.home / "backoffice.wsgi").touch()
        else:
            self.site.processes[-1].send_signal(signal.SIGHUP)

    def jobs(self) -> list[tuple[int, str]]:
        return [tuple(row) for row in self.site.rows("SELECT id, state FROM job ORDER BY id")]

    def paused_by(self, job: int) -> list[str]:
        rows = self.site.rows(
            "SELECT actor FROM event WHERE action = 'job.paused' AND job_id = ?", job
        )
        return [actor for (actor,) in rows]


@pytest.fixture(scope="module")
def open_folder() -> Iterator[Path]:
    """Which others than we can come to: pytest's are private."""
    folder = Path(tempfile.mkdtemp(prefix="backoffice-site-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def behind(open_folder: Path) -> Iterator[Front]:
    """backoffice.conf before ``backoffice web``."""
    for site in filled(_site(open_folder / "behind")):
        address = site.home / "socket"
        with (
            serving(site, "backoffice", "web", address=address),
            apache(
                "backoffice.conf", USERS, before=LOOSE, SOCKET=address, PUBLISHED=site.publish
            ) as server,
        ):
            yield Front(server, site, inside=False)


@pytest.fixture(scope="module")
def inside(open_folder: Path) -> Iterator[Front]:
    """backoffice-wsgi.conf."""
    _require_mod_wsgi()
    for site in filled(_site(open_folder / "inside")):
        site.work.mkdir()
        shutil.copy(SHIPPED / "backoffice.wsgi", site.home)
        for path in (site.home, *site.home.rglob("*")):
            shutil.chown(path, user())
        # Nothing of Apache's user is to be left in our folders.
        environ = {"BACKOFFICE_CONFIG": str(site.ini), "PYTHONDONTWRITEBYTECODE": "1"}
        more = f"{LOOSE}WSGISocketPrefix {open_folder}/wsgi\n"
        with apache(
            "backoffice-wsgi.conf",
            USERS,
            before=more,
            environ=environ,
            WSGI=site.home / "backoffice.wsgi",
            VENV=_venv(open_folder / "venv"),
            USER=user(),
            HOME=site.home,
            SITE=SHIPPED / "backoffice.conf",
            PUBLISHED=site.publish,
        ) as server:
            yield Front(server, site, inside=True)
            assert server.stop() == 0
        assert not proc.beneath(site.home)
        assert "Traceback" not in server.log()


@pytest.fixture(params=["behind", "inside"])
def front(request: pytest.FixtureRequest) -> Front:
    """Each in turn."""
    found: Front = request.getfixturevalue(request.param)
    return found


def _site(home: Path) -> Site:
    site = Site(home, f"sqlite:{home}/database.sqlite")
    site.set("web", listen=f"unix:{home}/socket", proxies="unix", url="https://localhost", rate="0")
    site.set("auth", required="yes", **ROLES)
    return site


def _require_mod_wsgi() -> None:
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    if not (MODULES / "mod_wsgi.so").exists():
        pytest.fail("mod_wsgi is missing; apt-get install libapache2-mod-wsgi-py3", pytrace=False)
    if not (MODULES / f"mod_wsgi.so-{ours}").exists():
        pytest.skip(f"mod_wsgi is made for another Python here than {ours}, which runs the tests")


def _venv(folder: Path) -> Path:
    """Of Debian's Python; libraries and program are lent to it."""
    python = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    subprocess.run([python, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "lent.pth").write_text(f"{ROOT}\n{sysconfig.get_path('purelib')}\n")
    return folder


def exchange(address: Address, data: bytes) -> bytes:
    """All that is answered until the connection is closed."""
    with connect(address) as sock:
        # It may be refused before all of it was sent.
        with suppress(BrokenPipeError, ConnectionResetError):
            sock.sendall(data)
            # Nothing more comes; TLS itself goes on, so that the answer can be read.
            socket.socket.shutdown(sock, socket.SHUT_WR)
        return received(sock)


def received(sock: socket.socket) -> bytes:
    pieces = []
    with suppress(ConnectionResetError):
        while piece := sock.recv(65536):
            pieces.append(piece)
    return b"".join(pieces)


def statuses(answer: bytes) -> list[int]:
    return [int(found) for found in re.findall(rb"(?:\A|\n)HTTP/1\.[01] (\d+) ", answer)]


# What it serves -------------------------------------------------------------


def test_all_is_served_over_tls(front: Front) -> None:
    with front.visitor("anna") as anna:
        serves_it_all(anna, front.site)


def test_who_comes_without_tls_is_sent_there(front: Front) -> None:
    with client(front.server.plain, Authorization=basic("anna", SECRET)) as visitor:
        sent = visitor.get("/jobs?limit=1")
    assert (sent.status, sent.headers["Location"]) == (301, "https://localhost/jobs?limit=1")


def test_strict_transport_security_is_said_once_by_whoever_answers(front: Front) -> None:
    with front.visitor("vera") as vera, front.visitor() as nobody:
        answers = [vera.get("/jobs"), vera.get("/nothing"), nobody.get("/jobs")]
        answers += [vera.get("/static/app.css"), nobody.get("/published/nothing")]
    for answer in answers:
        assert answer.headers.get_all("Strict-Transport-Security") == ["max-age=31536000"]


def test_static_files_are_apaches_and_kept_for_ever_under_the_names_in_pages(front: Front) -> None:
    with front.visitor("vera") as vera, front.visitor() as nobody:
        page = vera.get("/", Accept="text/html").body.decode()
        names = set(re.findall(r'"(/static/[^"]+)"', page))
        assert len(names) >= 3
        for name in names:
            answer = nobody.get(name)
            plain = re.sub(r"\.[0-9a-f]{10}\.", ".", name)
            assert answer.body == (ROOT / plain.lstrip("/")).read_bytes()
            assert answer.headers["Server"] == "Apache"
            assert answer.headers["Cache-Control"] == "max-age=315360000, public, immutable"
        css = nobody.get("/static/app.css")
        assert css.headers["Content-Type"] == "text/css; charset=utf-8"
        assert css.headers["Cache-Control"] == "no-cache"
        assert css.headers["X-Content-Type-Options"] == "nosniff"
        assert nobody.get("/static/app.css", If_None_Match=css.headers["ETag"]).status == 304
        assert nobody.get("/static/").status == 404
        assert nobody.get("/static/nothing.0123456789.css").status == 404


def test_what_can_be_compressed_is_compressed_once(front: Front) -> None:
    with front.visitor("vera", Accept_Encoding="gzip") as vera:
        packed = [vera.get(path) for path in ("/openapi.json", "/jobs?limit=500", "/static/app.js")]
        small = vera.get("/health/live", Accept_Encoding="br, gzip")
    for answer in packed:
        assert answer.headers.get_all("Content-Encoding") == ["gzip"]
        assert gzip.decompress(answer.body)[:1] in (b"{", b"<", b"/", b'"')
    assert small.headers["Content-Encoding"] is None


def test_the_request_id_is_in_apaches_log_too(front: Front) -> None:
    with front.visitor("vera") as vera:
        request = vera.get("/jobs?limit=3").headers["X-Request-ID"]

    def logged() -> list[str]:
        return [line for line in front.server.accesses() if line.endswith(request)]

    wait_for(logged, "the request is logged")
    assert " vera [" in logged()[0]


def test_settings_are_read_anew_and_no_request_meets_it(front: Front) -> None:
    met: list[int] = []
    done = threading.Event()

    def asked_by(name: str) -> int:
        with front.visitor(name) as visitor:
            return visitor.get("/jobs?limit=1").status

    def ask() -> None:
        while not done.is_set():
            met.append(asked_by("vera"))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for names, status in (("vera nobody", 200), (ROLES["viewers"], 403)):
            front.set_viewers(names)

            def counts(wanted: int = status) -> bool:
                return asked_by("nobody") == wanted

            wait_for(counts, f"nobody gets {status}")
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert set(met) == {200}


# Published media ------------------------------------------------------------

MEDIA = {
    "master.m3u8": "application/vnd.apple.mpegurl",
    "manifest.mpd": "application/dash+xml",
    "0-00001.m4s": "video/iso.segment",
    "clip.mp4": "video/mp4",
    "sound.m4a": "audio/mp4",
    "old.ts": "video/mp2t",
    "sprite.vtt": "text/vtt; charset=utf-8",
    "still.jpg": "image/jpeg",
}
EVIL = "<script>alert(1)</script>"


@pytest.fixture
def published(front: Front) -> Path:
    folder = front.site.publish / "show"
    folder.mkdir(exist_ok=True)
    for name in MEDIA:
        (folder / name).write_bytes(b"0123456789" * 100)
    return folder


@pytest.mark.usefixtures("published")
def test_published_media_come_in_ranges_and_with_their_types(front: Front) -> None:
    with front.visitor("vera") as vera:
        for name, kind in MEDIA.items():
            part = vera.get(f"/published/show/{name}", Range="bytes=95-104")
            assert (part.status, part.body) == (206, b"5678901234"), name
            assert part.headers["Content-Type"] == kind
            assert part.headers["Content-Range"] == "bytes 95-104/1000"
            assert part.headers["Server"] == "Apache"
        whole = vera.get("/published/show/clip.mp4", Accept_Encoding="gzip")
        assert whole.body == b"0123456789" * 100
        assert whole.headers["Cache-Control"] == "private, no-cache"
        again = vera.get("/published/show/clip.mp4", If_None_Match=whole.headers["ETag"])
        assert again.status == 304


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer nothing"},
        {"Authorization": basic("vera", "wrong")},
        {"X_Remote_User": "vera"},
    ],
    ids=["nobody", "a token", "a wrong password", "a claim"],
)
def test_published_media_are_for_who_has_logged_in(front: Front, headers: dict[str, str]) -> None:
    paths = ("/published/show/clip.mp4", "//published/show/clip.mp4", "/published//show/clip.mp4")
    with front.visitor() as stranger:
        for path in (*paths, "/%70ublished/show/clip.mp4", "/x/../published/show/clip.mp4"):
            answer = stranger.get(path, **headers)
            assert answer.status in (401, 404), path
            assert b"0123456789" not in answer.body


# Of which a browser would make pages, scripts, styles, or programs of others.
RUN = tuple(
    (
        "a.html a.HTM a.xhtml a.shtml a.svg a.svgz a.js a.mjs a.css a.xml a.xsl a.rss"
        " a.pdf a.swf a.json a.wasm a.mht a.jar a.ico a.mp4.html a.jpg.js a.mp4.xyz a"
        " a. a.mp4.gz a.var mp4 a.ts.tsx"
    ).split()
)


def test_no_name_makes_a_page_or_a_script_of_what_is_published(
    front: Front, published: Path
) -> None:
    for name in RUN:
        (published / name).write_text(EVIL)
    with front.visitor("vera") as vera:
        for name in RUN:
            answer = vera.get(f"/published/show/{name}")
            assert (answer.status, answer.body) == (200, EVIL.encode()), name
            assert answer.headers["Content-Type"] == "application/octet-stream", name
            assert answer.headers["Content-Disposition"] == "attachment", name
            assert answer.headers["X-Content-Type-Options"] == "nosniff", name
            assert "; sandbox" in answer.headers["Content-Security-Policy"], name


def test_media_are_shown_in_place_by_their_last_name_alone(front: Front, published: Path) -> None:
    named = {
        **{f"b.{suffix}": kind for suffix, kind in media_types.BY_SUFFIX.items()},
        "b.html.mp4": "video/mp4",
        "b.js.JPG": "image/jpeg",
        "b.php.ts": "video/mp2t",
    }
    for name in named:
        (published / name).write_text(EVIL)
    with front.visitor("vera") as vera:
        for name, kind in named.items():
            answer = vera.get(f"/published/show/{name}")
            assert answer.headers["Content-Type"].removesuffix("; charset=utf-8") == kind, name
            saved = "attachment" if kind in media_types.SAVED else None
            assert answer.headers["Content-Disposition"] == saved, name
            assert answer.headers["X-Content-Type-Options"] == "nosniff", name
            assert "; sandbox" in answer.headers["Content-Security-Policy"], name


def test_nothing_published_is_run_listed_or_followed_out_of_its_folder(
    front: Front, published: Path
) -> None:
    (published / "page.html").write_text(EVIL)
    (published / "page.php").write_text("a script")
    (published / ".htaccess").write_text("Header set X-Loose yes\n")
    staged = published.parent / ".backoffice-1-1"
    staged.mkdir(exist_ok=True)
    (staged / "half.mp4").write_text("half")
    if not (published / "out").exists():
        (published / "out").symlink_to("/etc")
    with front.visitor("vera") as vera:
        page = vera.get("/published/show/page.html")
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        assert page.headers["X-Content-Type-Options"] == "nosniff"
        assert page.headers["X-Loose"] is None
        script = vera.get("/published/show/page.php")
        assert (script.status, script.body) == (200, b"a script")
        for path, refused in (
            ("/published/show/.htaccess", {404}),
            ("/published/.backoffice-1-1/half.mp4", {404}),
            ("/published/show/out/passwd", {403}),
            ("/published/show/", {403, 404}),
            ("/published/show/..%2f..%2fbackoffice.ini", {404}),
            ("/published/../backoffice.ini", {400, 404}),
        ):
            assert vera.get(path).status in refused, path


# Identity -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "headers", "status"),
    [
        ("oskar", {}, 200),
        ("oskar", {"X-Remote-User": "anna"}, 200),
        ("oskar", {"x-remote-user": "anna", "X-REMOTE-USER": "anna"}, 200),
        ("oskar", {"X_Remote_User": "anna", "X-Remote_User": "anna", "Remote-User": "anna"}, 200),
        ("oskar", {"X-Remote-User": "anna", "Connection": "X-Remote-User"}, 401),
        ("oskar", {"Connection": "close, x-remote-user"}, 401),
        ("oskar", {"Connection": "close, authorization"}, 200),
        ("vera", {}, 403),
        ("vera", {"X-Remote-User": "anna"}, 403),
        ("nobody", {"X-Remote-User": "anna"}, 403),
        ("", {"X-Remote-User": "anna"}, 401),
        ("", {"X_Remote_User": "anna"}, 401),
        ("", {"X-Remote-User": "anna", "Connection": "X-Remote-User"}, 401),
        ("", {"X-Remote-User": "anna", "Authorization": "Bearer anna"}, 401),
        ("", {"Authorization": basic("anna", "wrong")}, 401),
        ("", {"Authorization": basic("", "")}, 401),
        ("", {"Authorization": basic("(null)", SECRET)}, 401),
        ("", {"Authorization": basic("a" * 300, SECRET)}, 401),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict) else None,
)
def test_a_client_is_who_it_logged_in_as_or_nobody(
    front: Front, name: str, headers: dict[str, str], status: int
) -> None:
    if front.inside and status == 401 and name:
        status = 200  # there is no header that could be stripped
    job = front.site.submit("nothing")
    given = headers | ({"Authorization": basic(name, SECRET)} if name else {})
    lines = "".join(f"{key}: {value}\r\n" for key, value in given.items())
    answer = exchange(
        front.server.address,
        f"POST /jobs/{job}/pause HTTP/1.0\r\nHost: localhost\r\n{lines}"
        "Content-Length: 0\r\n\r\n".encode(),
    )
    assert statuses(answer) == [status]
    assert front.paused_by(job) == ([name] if status == 200 else [])


def test_a_script_comes_with_a_token_and_no_password(front: Front) -> None:
    token = front.site.do(tokens.create, "ci", "operator", "tester")[1]
    job = front.site.submit("nothing")
    with front.visitor(Authorization=f"Bearer {token}", X_Remote_User="anna") as script:
        assert script.post(f"/jobs/{job}/pause").status == 200
        assert script.post("/queues/default/pause").status == 403
    assert front.paused_by(job) == ["token:ci"]


@pytest.mark.parametrize("value", ["Bearer nothing", "bearer bo_x", "Bearer ", "Bearer a, Basic b"])
def test_a_token_that_is_none_gets_no_further(front: Front, value: str) -> None:
    with front.visitor(Authorization=value) as script:
        refused = script.get("/jobs", X_Remote_User="anna")
    assert refused.status == 401
    assert refused.headers["WWW-Authenticate"]


def test_health_is_told_to_this_host_without_a_login(front: Front) -> None:
    with front.visitor() as probe:
        assert probe.get("/health/live").status == 200
        assert probe.get("/health/ready").status == 200
        assert probe.get("/health/../jobs").status == 401
        assert probe.get("/metrics").status == 401


# Framing --------------------------------------------------------------------

# Apache mends these itself, in a way that leaves nothing to be read otherwise:
# of length and chunks it takes the chunks, a folded line becomes one line.
MENDED = {"length and chunks", "a folded line"}


@pytest.mark.parametrize("name", FRAMING)
def test_a_request_framed_loosely_is_refused_and_what_follows_it_never_read(
    front: Front, name: str
) -> None:
    log_in = f" HTTP/1.1\r\nAuthorization: {basic('anna', SECRET)}\r\n".encode()
    attack = FRAMING[name][0].replace(b" HTTP/1.1\r\n", log_in)
    before = front.jobs()
    (status,) = statuses(exchange(front.server.address, attack))
    assert 400 <= status < 500 or name in MENDED
    assert front.jobs() == before


@pytest.mark.parametrize(
    ("framing", "body"),
    [
        ("Content-Length: 3000000", b" " * 3_000_000),
        (
            "Transfer-Encoding: chunked",
            b"%x\r\n%s\r\n" % (100_000, b" " * 100_000) * 30 + b"0\r\n\r\n",
        ),
    ],
    ids=["told", "in chunks"],
)
def test_a_document_that_is_too_large_is_refused(front: Front, framing: str, body: bytes) -> None:
    head = f"POST /jobs HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n"
    more = f"Authorization: {basic('anna', SECRET)}\r\nContent-Type: application/xml\r\n\r\n"
    answer = exchange(front.server.address, (head + more).encode() + body)
    assert statuses(answer) == [413]
    assert (b"application/problem+xml" in answer) == (not front.inside)


def test_a_host_that_is_not_ours_is_refused(front: Front) -> None:
    with front.visitor("vera", Host="evil.example") as vera:
        assert vera.get("/jobs", X_Forwarded_Host="localhost").status == 400


# Before a service of the test's own -----------------------------------------


class Stub(ThreadingUnixStreamServer):
    """Tells what it was asked, and streams when it is told to."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self.go = threading.Semaphore(0)
        self._connections: list[socket.socket] = []
        path.unlink(missing_ok=True)
        super().__init__(str(path), _Handler)
        path.chmod(0o666)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.append(request)
        super().process_request(request, client_address)

    def stop(self) -> None:
        """All connections end with it, those that are kept too."""
        self.shutdown()
        self._thread.join()
        for sock in self._connections:
            with suppress(OSError):  # gone already
                sock.shutdown(socket.SHUT_RDWR)
        self.server_close()
        self.path.unlink(missing_ok=True)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Stub

    def handle(self) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # the client was too slow
            super().handle()

    def do_GET(self) -> None:
        if self.path == "/stream":
            self._stream()
        else:
            self._tell()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._tell()

    def _tell(self) -> None:
        body = json.dumps(self.headers.items()).encode()
        self.send_response(503 if self.path == "/busy" else 200)
        self.send_header("Content-Length", str(len(body)))
        if self.path == "/busy":
            self.send_header("Retry-After", "77")
        self.end_headers()
        self.wfile.write(body)

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number in range(3):
            self.server.go.acquire(timeout=PATIENCE)
            self.wfile.write(b"e\r\ndata: piece %d\n\r\n" % number)
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: object) -> None:
        pass


class Before:
    """An Apache before a stub, which can go away and come again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stub = Stub(path)
        self.server: Apache

    def told(self, *lines: str, name: str = "vera") -> list[tuple[str, str]]:
        """The headers that the service sees when a client sends ``lines``."""
        asked = [
            "GET /tell HTTP/1.1",
            "Host: localhost:8443",
            "Connection: close",
            *([f"Authorization: {basic(name, SECRET)}"] if name else []),
            *lines,
        ]
        answer = exchange(self.server.address, "\r\n".join([*asked, "", ""]).encode())
        assert statuses(answer) == [200], answer
        return [(key, value) for key, value in json.loads(answer.partition(b"\r\n\r\n")[2])]


@pytest.fixture(scope="module")
def before(open_folder: Path) -> Iterator[Before]:
    made = Before(open_folder / "stub")
    module = MODULES / "mod_remoteip.so"
    try:
        with apache(
            "backoffice.conf",
            USERS,
            before=f"LoadModule remoteip_module {module}\nRemoteIPHeader X-Test-Client\n",
            SOCKET=made.path,
            PATIENCE="handshake=2 header=2 body=2",
        ) as made.server:
            yield made
    finally:
        made.stub.stop()


CLAIMS = (
    "X-Remote-User: anna",
    "X_Remote_User: anna",
    "X-Remote_User: anna",
    "X_Remote-User: anna",
    "x-remote-user: anna",
    "Forwarded: for=192.0.2.1",
    "X-Forwarded-For: 192.0.2.1",
    "X-Forwarded-Host: evil.example",
    "X-Forwarded-Proto: http",
    "X-Forwarded-Port: 1",
    "X-Forwarded-Prefix: /evil",
    "X-Forwarded-Server: evil.example",
    "X-Real-IP: 192.0.2.1",
)


def test_the_service_hears_from_apache_alone_who_asks_and_from_where(before: Before) -> None:
    heard = before.told(*CLAIMS)
    wanted = {
        "X-Remote-User": "vera",
        "X-Forwarded-For": "127.0.0.1",
        "X-Forwarded-Host": "localhost:8443",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Server": "localhost",
        "Host": "localhost:8443",
    }
    names = re.compile("(?i)x.remote.user|x.forwarded|forwarded|x.real|host|authorization").match
    assert sorted(pair for pair in heard if names(pair[0])) == sorted(wanted.items())


def test_the_service_hears_a_token_and_then_no_user(before: Before) -> None:
    heard = before.told(*CLAIMS, "Authorization: Bearer some.token", name="")
    assert ("Authorization", "Bearer some.token") in heard
    assert not [name for name, _ in heard if re.match("(?i)x.remote.user", name)]


def test_a_stream_arrives_piece_by_piece(before: Before) -> None:
    with connect(before.server.address) as sock:
        sock.sendall(
            b"GET /stream HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            b"Accept-Encoding: gzip\r\nAuthorization: %s\r\n\r\n" % basic("vera", SECRET).encode()
        )
        seen = b""
        for number in range(3):
            before.stub.go.release()  # no earlier is the next one sent
            while b"data: piece %d" % number not in seen:
                piece = sock.recv(65536)
                assert piece, seen
                seen += piece


def test_health_is_not_told_to_other_hosts_without_a_login(before: Before) -> None:
    with client(before.server.address, X_Test_Client="192.0.2.7") as stranger:
        assert stranger.get("/health/ready").status == 401
        for value in (basic("vera", SECRET), "Bearer some.token"):
            assert stranger.get("/health/ready", Authorization=value).status == 200


@pytest.mark.parametrize(
    ("request_line", "more", "status"),
    [
        ("GET /tell HTTP/1.1", "", 200),
        ("GET /tell HTTP/1.1", "X-A: b\r\n" * 61, 400),
        ("BREW /tell HTTP/1.1", "", 501),
    ],
    ids=["nothing odd", "many headers", "an unknown method"],
)
def test_what_is_odd_does_not_reach_the_service(
    before: Before, request_line: str, more: str, status: int
) -> None:
    head = f"{request_line}\r\nHost: localhost\r\nAuthorization: {basic('vera', SECRET)}\r\n"
    answer = exchange(before.server.address, f"{head}{more}\r\n".encode())
    assert statuses(answer) == [status]
    assert (b"\r\nServer: Apache\r\n" in answer) == (status != 200)


def test_while_the_service_is_away_apache_says_when_to_come_again(before: Before) -> None:
    before.stub.stop()
    try:
        with client(before.server.address, Authorization=basic("vera", SECRET)) as vera:
            away = vera.get("/jobs")
            assert (away.status, away.headers["Retry-After"]) == (503, "5")
            assert b"Backoffice is being started" in away.body
            assert vera.get("/static/app.css").status == 200
    finally:
        before.stub = Stub(before.path)
    with client(before.server.address, Authorization=basic("vera", SECRET)) as vera:
        assert vera.get("/jobs").status == 200  # at once, and not by a connection that is gone
        busy = vera.get("/busy")
    assert (busy.status, busy.headers.get_all("Retry-After")) == (503, ["77"])


def test_apache_keeps_connections_for_less_long_than_the_service_does() -> None:
    kept = re.search(r"(?m)^ *ProxyPass .* ttl=(\d+)", (SHIPPED / "backoffice.conf").read_text())
    assert kept is not None
    assert int(kept[1]) < Limits().idle_timeout


def test_slow_clients_are_cut_off_and_the_others_are_served_at_once(before: Before) -> None:
    log_in = f"Authorization: {basic('vera', SECRET)}\r\n"
    head = f"POST /jobs HTTP/1.1\r\nHost: localhost\r\n{log_in}"
    starts = {
        "GET /jobs HT": set[int](),
        f"{head}X: ": {408},
        f"{head}Content-Length: 99\r\n\r\n<job": {408},
        f"{head}Content-Length: 200000\r\n\r\n<job{' ' * 30_000}": {408},
        f"{head}Transfer-Encoding: chunked\r\n\r\n5\r\n<j": {408},
    }
    with ExitStack() as stack:
        half = stack.enter_context(connect(("127.0.0.1", before.server.address.port)))
        half.sendall(b"\x16\x03\x01")  # of a handshake
        slow = []
        for start, status in starts.items():
            for _ in range(8):
                sock = stack.enter_context(connect(before.server.address))
                sock.sendall(start.encode())
                slow.append((sock, start, status))
        with client(before.server.address, Authorization=basic("vera", SECRET)) as vera:
            begun = time.monotonic()
            assert vera.get("/jobs").status == 200
            assert time.monotonic() - begun < 1
        for sock, start, status in slow:
            assert set(statuses(received(sock))) == status, start
        assert received(half) == b""


# Configurations -------------------------------------------------------------


@pytest.fixture
def spot() -> Iterator[Path]:
    with place({}) as folder:
        yield folder


def test_ldap_is_ready_to_be_defined(spot: Path) -> None:
    defines = {"SOCKET": spot / "socket", "LDAP": "ldaps://ldap.example.org/dc=example?uid"}
    text = shipped("backoffice.conf", spot, **defines)
    modules = [*needed("backoffice.conf"), "ldap", "authnz_ldap"]
    assert "Syntax OK" in configtest(spot, text, modules)
    missing = configtest(spot, text, needed("backoffice.conf"))
    assert missing.startswith("1 ")
    assert "Unknown Authn provider: ldap" in missing


def test_openid_connect_is_ready_to_be_defined(spot: Path) -> None:
    if not (MODULES / "mod_auth_openidc.so").exists():
        pytest.fail("missing; apt-get install libapache2-mod-auth-openidc", pytrace=False)
    (spot / "oidc").write_text("OIDCClientSecret secret\nOIDCCryptoPassphrase secret\n")
    text = shipped("backoffice.conf", spot, OIDC=spot / "oidc")
    modules = [*needed("backoffice.conf"), "auth_openidc"]
    assert "Syntax OK" in configtest(spot, text, modules)


def test_openid_connect_knows_a_user_by_what_no_other_can_become() -> None:
    text = (SHIPPED / "backoffice.conf").read_text()
    assert re.findall(r"(?m)^ *OIDCRemoteUserClaim (.+)$", text) == ["sub@"]
    assert re.findall(r"(?m)^ *OIDCPassClaimsAs (.+)$", text) == ["none"]


def test_a_second_site_in_the_same_apache_has_names_of_its_own(spot: Path) -> None:
    text = "".join(shipped("backoffice.conf", spot, HOST=f"{name}.example") for name in ("a", "b"))
    told = configtest(spot, text, needed("backoffice.conf"), "-D", "DUMP_VHOSTS")
    assert {"a.example", "b.example"} <= set(told.split())
