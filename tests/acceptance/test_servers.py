"""The same application under five servers, each as a process of its own."""

from __future__ import annotations

import gzip
import itertools
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lxml import etree
from storm.locals import Store

from backoffice.engine import catalogue, submission
from tests.acceptance.servers import Client, free_port, serving
from tests.acceptance.site import Site

APP = "backoffice.web.wsgi:application"
NS = "{urn:backoffice:1}"
MANY = 600  # jobs: more than one page of a list that is streamed
CONTENT = b"0123456789" * 30_000

_keys = itertools.count(1)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """On SQLite, with many jobs; each test adds its own."""
    home = tmp_path_factory.mktemp("servers") / "site"
    yield from filled(Site(home, f"sqlite:{home}/database.sqlite"))


def filled(site: Site) -> Iterator[Site]:
    """What ``serves_it_all`` asks for is there."""
    site.set("web", listen=f"unix:{site.home}/socket", rate="0")
    site.recipe("nothing", '<task name="rest" type="noop"/>', inputs="")
    (site.media / "clip.mp4").write_bytes(CONTENT)
    try:
        site.do(submit_many, site)
        yield site
    finally:
        print(site.log()[-5000:])
        site.close()


def submit_many(store: Store, site: Site) -> None:
    recipes = catalogue.load(site.settings).workflows
    for _ in range(MANY):
        prepared = submission.prepare(submission.JobRequest("nothing"), recipes, ())
        submission.submit(store, prepared, "tester")


# What each of them must do --------------------------------------------------


def serves_it_all(visitor: Client, site: Site) -> None:
    assert visitor.get("/health/ready").status == 200
    takes_a_job(visitor)
    lists_jobs(visitor)
    gives_a_part_of_a_file(visitor, site)
    says_when_nothing_is_new(visitor)
    refuses_with_a_problem(visitor)
    gives_only_headers_to_head(visitor)
    streams_what_is_long(visitor)
    compresses(visitor)


def takes_a_job(visitor: Client) -> None:
    key = f"servers-{next(_keys)}"
    body = f'<job xmlns="urn:backoffice:1" workflow="nothing" key="{key}"><title>Ünï</title></job>'
    made = visitor.post("/jobs", body)
    assert made.status == 201, made.body
    job = etree.fromstring(made.body)
    assert job.findtext(f"{NS}title") == "Ünï"
    assert made.headers["Location"] == f"/jobs/{job.get('id')}"
    assert visitor.post("/jobs", body).status == 200
    paused = visitor.post(f"{made.headers['Location']}/pause")
    assert (paused.status, etree.fromstring(paused.body).get("state")) == (200, "paused")


def lists_jobs(visitor: Client) -> None:
    page = visitor.get("/jobs?limit=5", Accept="application/json")
    assert page.headers["Content-Type"] == "application/json"
    found = [job["id"] for job in json.loads(page.body)["jobs"]]
    assert found == sorted(found, reverse=True)
    following = page.headers["Link"].partition(">")[0].removeprefix("<")
    after = json.loads(visitor.get(following, Accept="application/json").body)["jobs"]
    assert [job["id"] for job in after] == list(range(found[-1] - 1, found[-1] - 6, -1))


def gives_a_part_of_a_file(visitor: Client, site: Site) -> None:
    href = (site.media / "clip.mp4").as_uri()
    made = visitor.post("/files", f'<file xmlns="urn:backoffice:1" href="{href}"/>')
    assert made.status in (200, 201), made
    content = f"{made.headers['Location']}/content"
    part = visitor.get(content, Range="bytes=100005-100014")
    assert (part.status, part.body) == (206, b"5678901234")
    assert part.headers["Content-Range"] == f"bytes 100005-100014/{len(CONTENT)}"
    assert visitor.get(content).body == CONTENT
    tag = part.headers["ETag"]
    assert visitor.get(content, If_None_Match=tag).status == 304


def says_when_nothing_is_new(visitor: Client) -> None:
    first = visitor.get("/events?after=0&limit=1000")
    last = etree.fromstring(first.body)[-1].get("id")
    news = visitor.get(f"/events?after={last}&limit=1000")
    again = visitor.get(f"/events?after={last}&limit=1000", If_None_Match=news.headers["ETag"])
    assert (again.status, again.body) == (304, b"")


def refuses_with_a_problem(visitor: Client) -> None:
    for path, status in (("/jobs/999999", 404), ("/jobs?colour=red", 400)):
        answer = visitor.get(path)
        assert (answer.status, answer.headers["Content-Type"]) == (
            status,
            "application/problem+xml",
        )
        assert answer.headers["X-Request-ID"]
    broken = visitor.post("/jobs", "<job", Accept="application/json")
    assert (broken.status, json.loads(broken.body)["errors"][0]["line"]) == (400, 1)
    large = visitor.post("/jobs", b"<job>" + b" " * (1 << 20) + b"</job>")
    assert large.status == 413
    visitor.close()  # a server may do so after a body that it did not read


def gives_only_headers_to_head(visitor: Client) -> None:
    for path in ("/jobs", "/files/1/content", "/jobs?limit=2000", "/nothing", "/health/live"):
        full, head = visitor.get(path), visitor("HEAD", path)
        assert (head.status, head.body) == (full.status, b"")
        assert head.headers["Content-Type"] == full.headers["Content-Type"]
        assert head.headers["Content-Length"] in (full.headers["Content-Length"], None)


def streams_what_is_long(visitor: Client) -> None:
    answer = visitor.get("/jobs?limit=1000000")
    assert answer.status == 200
    assert len(etree.fromstring(answer.body)) >= MANY


def compresses(visitor: Client) -> None:
    packed = visitor.get("/openapi.json", Accept_Encoding="gzip")
    assert packed.headers["Content-Encoding"] == "gzip"
    assert json.loads(gzip.decompress(packed.body))["openapi"]


# The servers ----------------------------------------------------------------


def test_our_own_server_on_cheroot(shared: Site) -> None:
    address = shared.home / "socket"
    with serving(shared, "backoffice", "web", address=address) as visitor:
        serves_it_all(visitor, shared)
    assert not address.exists()


def test_waitress(shared: Site) -> None:
    address = shared.home / "waitress"
    command = ("waitress", f"--unix-socket={address}", "--threads=4", APP)
    with serving(shared, *command, address=address, stop=signal.SIGINT) as visitor:
        serves_it_all(visitor, shared)


def _gunicorn(address: Path, *options: str) -> tuple[str, ...]:
    common = ("--worker-class=gthread", "--workers=2", "--threads=4", "--no-control-socket")
    return ("gunicorn", *common, f"--bind=unix:{address}", *options, APP)


def test_gunicorn(shared: Site) -> None:
    address = shared.home / "gunicorn"
    with serving(shared, *_gunicorn(address), address=address) as visitor:
        serves_it_all(visitor, shared)


def test_gunicorn_that_forks_after_the_import_on_mariadb(maria_site: Site) -> None:
    for site in filled(maria_site):
        address = site.home / "gunicorn"
        with serving(site, *_gunicorn(address, "--preload"), address=address) as visitor:
            for _ in range(3):  # each worker gets to serve
                serves_it_all(visitor, site)
                visitor.close()


def test_a_wrong_setting_is_told_in_a_line_and_gunicorn_gives_up(shared: Site) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", *_gunicorn(shared.home / "gunicorn")],
        cwd=shared.home,
        env=shared.environment | {"BACKOFFICE_WEB_RATE": "fast"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode
    assert "backoffice: BACKOFFICE_WEB_RATE: [web] rate: is not a number" in done.stderr
    assert "ConfigError" not in done.stderr  # though gunicorn may trace its own halt


def test_twisted(shared: Site) -> None:
    address = ("127.0.0.1", free_port())  # it knows no clients of Unix sockets
    listen, module = f"--listen=tcp:{address[1]}:interface=127.0.0.1", APP.replace(":", ".")
    command = ("twisted", "--log-format=text", "web", listen, f"--wsgi={module}")
    # It ends itself by the signal that has ended its loop.
    with serving(shared, *command, address=address, status=-signal.SIGTERM) as visitor:
        serves_it_all(visitor, shared)
