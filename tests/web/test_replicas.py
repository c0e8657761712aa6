"""The web application on a primary and two replicas: who reads what, and what
users notice when servers fail."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import pytest
from lxml import etree
from prometheus_client.parser import text_string_to_metric_families
from storm.locals import Store

from backoffice.client import Client
from backoffice.config import loading
from backoffice.config.settings import Settings
from backoffice.data import migrations, replication, tokens
from backoffice.data.cluster import Status
from backoffice.data.database import Database
from backoffice.errors import NotFound
from backoffice.operations import check
from backoffice.reports import queue_depths
from backoffice.web.app import TOKEN, Application, make_app
from tests.board import Board
from tests.conftest import Replicated
from tests.line import Line
from tests.middleware import wsgi
from tests.replicas import Member, Replication, wait_for
from tests.replicas import replication as servers
from tests.web.visitor import Visitor

HTML: dict[str, Any] = {"HTTP_ACCEPT": "text/html"}
THREADS = 8


@dataclass
class Place:
    """The application, with its own eyes on the servers."""

    servers: Replication
    settings: Settings
    base: Database
    app: Application

    def status(self, member: Member) -> Status:
        return next(one for one in self.base.nodes() if one.name == str(member.socket))

    def wait_until_up(self) -> None:
        self.servers.settle()
        wait_for(lambda: all(one.state == "up" for one in self.base.nodes()))


@contextmanager
def place_on(cluster: Replication, name: str, home: Path, **options: object) -> Iterator[Place]:
    cluster.primary.run(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
    cluster.settle()
    (home / "media").mkdir()
    (home / "media" / "a.mp4").write_bytes(b"0123456789")
    (home / "var" / "work").mkdir(parents=True)
    environ = {
        "BACKOFFICE_DATABASE_URI": cluster.uri(name, probe=0.1, retry=0.5, **options),
        "BACKOFFICE_PATHS_HOME": str(home),
        "BACKOFFICE_PATHS_ROOTS": "media",
        "BACKOFFICE_WEB_RATE": "0",
        "BACKOFFICE_WEB_ACCESS_LOG": "none",
        "BACKOFFICE_AUTH_SECRET": "of all web servers",
    }
    settings = loading.load(None, environ)
    primary = Database(settings.database)
    migrations.migrate(primary)
    primary.close()
    cluster.settle()
    base = Database(settings.database, replicas=True)
    place = Place(cluster, settings, base, make_app(settings, base=base))
    place.wait_until_up()
    # The first one asks the primary what all must have.
    assert Script(place.app)("GET", "/jobs").status == 200
    yield place
    base.close()
    cluster.primary.run(f"DROP DATABASE {name}")


@pytest.fixture(scope="module")
def place(replicated: Replicated, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    home = tmp_path_factory.mktemp("replicas")
    with place_on(replicated.cluster, "test_web", home, wait=0.1) as place:
        yield place


@pytest.fixture
def late(place: Place) -> Iterator[None]:
    """Replicas that get nothing new for now."""
    with _late(place):
        yield
    place.wait_until_up()


@contextmanager
def _late(place: Place) -> Iterator[None]:
    for replica in place.servers.replicas:
        replica.delay(3600)
    try:
        yield
    finally:
        for replica in place.servers.replicas:
            replica.delay(0)


@dataclass
class Script:
    """Keeps the token that it was given last, unless it is ``forgetful``."""

    app: Application
    forgetful: bool = False
    token: str = ""
    answers: list[tuple[float, int]] = field(default_factory=list)  # seconds, status

    def __call__(self, method: str, path: str, body: str = "", **more: Any) -> wsgi.Answer:
        if self.token and not self.forgetful:
            more["HTTP_X_BACKOFFICE_TOKEN"] = self.token
        if body:
            more["CONTENT_TYPE"] = "application/xml"
        began = time.monotonic()
        answer = wsgi.call(self.app, method, path, body.encode(), HTTP_HOST="localhost", **more)
        self.answers.append((time.monotonic() - began, answer.status))
        self.token = answer.headers[TOKEN] or self.token
        return answer

    def submit(self, place: Place, key: str = "") -> wsgi.Answer:
        return self("POST", "/jobs", submission(place, key))


def submission(place: Place, key: str = "") -> str:
    href = (place.settings.paths.roots[0] / "a.mp4").as_uri()
    keyed = f' key="{key}"' if key else ""
    return (
        f'<job xmlns="urn:backoffice:1" workflow="transcode"{keyed}><title>T</title>'
        f'<input role="source" href="{href}"/></job>'
    )


def pairs(place: Place, count: int, forgetful: bool = False) -> int:
    """Submit a job and look at it, ``count`` times in each of 8 threads; how often
    it was not there."""

    def go(_: int) -> int:
        script = Script(place.app, forgetful)
        missing = 0
        for _turn in range(count):
            answer = script.submit(place)
            assert answer.status == 201, answer.text
            missing += script("GET", str(answer.headers["Location"])).status == 404
        assert {status for _, status in script.answers} <= {200, 201, 404}
        return missing

    with ThreadPoolExecutor(THREADS) as pool:
        return sum(pool.map(go, range(THREADS)))


@contextmanager
def unsteady(place: Place) -> Iterator[None]:
    """Replicas are 0 to 2 seconds late, now so and now so."""
    done = threading.Event()

    def change() -> None:
        while not done.wait(0.2):
            random.choice(place.servers.replicas).delay(random.choice((0, 1, 2)))

    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        for replica in place.servers.replicas:
            replica.delay(0)
        place.wait_until_up()


# Who reads what -------------------------------------------------------------


def test_what_only_reads_goes_to_replicas_and_the_rest_to_the_primary(place: Place) -> None:
    script = Script(place.app)
    before = {one.name: (one.reads, one.writes) for one in place.base.nodes()}
    for _ in range(10):
        script.submit(place)
        place.servers.settle()
        script("GET", "/jobs")
    after = {one.name: (one.reads, one.writes) for one in place.base.nodes()}
    primary = str(place.servers.primary.socket)
    assert after[primary][1] - before[primary][1] >= 10
    assert after[primary][0] == before[primary][0]
    replicas = [str(one.socket) for one in place.servers.replicas]
    assert sum(after[one][0] - before[one][0] for one in replicas) >= 10
    assert all(after[one][1] == before[one][1] for one in replicas)


def test_what_one_has_written_one_sees_however_late_replicas_are(place: Place) -> None:
    with unsteady(place):
        assert pairs(place, 8) == 0


def test_who_forgets_the_token_may_see_older_data(place: Place) -> None:
    """What the test before it would see if nobody waited."""
    with _late(place):
        assert pairs(place, 2, forgetful=True) > 0
    place.wait_until_up()


def test_a_browser_sees_what_it_has_written(place: Place, late: None) -> None:
    answer = wsgi.call(
        place.app,
        "POST",
        "/jobs",
        submission(place).encode(),
        **{"HTTP_HOST": "localhost", "CONTENT_TYPE": "application/xml"} | HTML,
    )
    assert answer.status == 303
    where = str(answer.headers["Location"])
    kept: SimpleCookie = SimpleCookie(answer.headers["Set-Cookie"])
    (cookie,) = kept.values()
    assert cookie["httponly"]
    sent = f"{cookie.key}={cookie.value}"
    assert Visitor(place.app).get(where, **HTML).status == 404
    assert Visitor(place.app).get(where, HTTP_COOKIE=sent, **HTML).status == 200


def test_what_a_submission_has_found_is_found_again(place: Place, late: None) -> None:
    """It wrote nothing, and its job is somebody else's."""
    key = f"found {time.monotonic()}"
    with ThreadPoolExecutor(1) as elsewhere:  # by another connection
        first = elsewhere.submit(Script(place.app).submit, place, key).result()
    script = Script(place.app)
    again = script.submit(place, key)
    assert (first.status, again.status) == (201, 200)
    assert script("GET", str(again.headers["Location"])).status == 200


def test_the_client_sees_what_it_has_written(place: Place, late: None) -> None:
    source = ("source", (place.settings.paths.roots[0] / "a.mp4").as_uri())
    with Client("http://localhost", transport=Line(place.app)) as client:
        job = client.submit("transcode", [source])
        assert client.job(job.id).state == "queued"
    with Client("http://localhost", transport=Line(place.app)) as other, pytest.raises(NotFound):
        other.job(job.id)


def test_a_token_that_is_none_is_refused(place: Place) -> None:
    for wrong in ("'; DROP TABLE job", "0-1-", "99999999999-1-1"):
        answer = Visitor(place.app).get("/jobs", HTTP_X_BACKOFFICE_TOKEN=wrong)
        assert answer.status == 400
        assert TOKEN in answer.text


@pytest.mark.parametrize(
    "token", ["0-1-4000000000", "7-1-1", "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5"]
)
def test_a_token_that_no_replica_reaches_is_served_by_the_primary(place: Place, token: str) -> None:
    reads = reads_of(place, place.servers.primary)
    assert Visitor(place.app).get("/jobs", HTTP_X_BACKOFFICE_TOKEN=token).status == 200
    assert reads_of(place, place.servers.primary) == reads + 1


def test_what_workers_do_is_seen_in_replicas(place: Place) -> None:
    board = Board(place.settings)
    job = board.submit()
    board.run(board.worker())
    place.servers.settle()
    found = etree.fromstring(Script(place.app)("GET", f"/jobs/{job}").body)
    assert (found.get("state"), found.get("progress")) == ("succeeded", "100")
    board.close()


def test_replicas_that_lag_behind_a_migration_are_not_read(
    replicated: Replicated, tmp_path: Path
) -> None:
    cluster = replicated.cluster
    cluster.primary.run("CREATE DATABASE test_migrated CHARACTER SET utf8mb4")
    cluster.settle()
    environ = {
        "BACKOFFICE_DATABASE_URI": cluster.uri("test_migrated", probe=0.1, retry=0.2, wait=0.1),
        "BACKOFFICE_PATHS_HOME": str(tmp_path),
        "BACKOFFICE_WEB_RATE": "0",
    }
    settings = loading.load(None, environ)
    base = Database(settings.database, replicas=True)
    wait_for(lambda: all(one.state == "up" for one in base.nodes()))
    for replica in cluster.replicas:
        replica.run("STOP SLAVE SQL_THREAD")
    try:
        migrations.migrate(Database(settings.database))
        script = Script(make_app(settings, base=base), forgetful=True)
        assert {script("GET", "/jobs").status for _ in range(10)} == {200}
    finally:
        for replica in cluster.replicas:
            replica.run("START SLAVE SQL_THREAD")
    cluster.settle()
    wait_for(lambda: all(one.state == "up" for one in base.nodes()))
    before = sum(one.reads for one in base.nodes() if one.role == "replica")
    assert {script("GET", "/jobs").status for _ in range(10)} == {200}
    assert sum(one.reads for one in base.nodes() if one.role == "replica") == before + 10
    cluster.primary.run("DROP DATABASE test_migrated")


# How they are ---------------------------------------------------------------


def test_a_long_list_is_streamed_from_replicas(place: Place) -> None:
    script = Script(place.app)
    script.submit(place)
    place.servers.settle()
    reads = reads_of(place, place.servers.primary)
    answer = script("GET", "/jobs.xml?limit=5000")
    assert answer.status == 200
    assert len(etree.fromstring(answer.body)) >= 1
    assert reads_of(place, place.servers.primary) == reads


def test_a_thread_may_begin_a_request_while_a_body_is_still_being_read(place: Place) -> None:
    where = "SELECT @@server_id"
    primary = (place.servers.primary.number,)
    assert place.base.request_store(True).execute(where).get_one() != primary
    assert place.base.request_store(True).execute(where).get_one() != primary
    assert place.base.request_store(False).execute(where).get_one() == primary
    place.base.release()


def test_every_server_is_shown(place: Place) -> None:
    visitor = Visitor(place.app)
    place.wait_until_up()
    found = visitor.json("/nodes")["nodes"]
    assert [one["role"] for one in found] == ["primary", "replica", "replica"]
    assert {one["state"] for one in found} == {"up"}
    assert sum(one["share"] for one in found) == pytest.approx(1)
    assert [one.get("role") for one in visitor.xml("/nodes.xml")] == [one["role"] for one in found]
    page = visitor.get("/nodes", **HTML).text
    assert all(one["name"] in page for one in found)
    assert "Changes are not possible now" not in page


def test_prometheus_is_told_of_every_server(place: Place) -> None:
    text = Visitor(place.app).get("/metrics").text
    samples = [one for family in text_string_to_metric_families(text) for one in family.samples]
    for name in ("up", "lag_seconds", "reads_total", "writes_total"):
        named = [one for one in samples if one.name == f"backoffice_database_node_{name}"]
        roles = sorted(one.labels["role"] for one in named)
        assert roles == ["primary", "replica", "replica"], name


def test_the_check_tells_of_every_server(place: Place) -> None:
    found = {line.what: line for line in check.run(place.settings)}
    lines = [found[f"database {one.socket}"] for one in place.servers.members]
    assert [line.text.partition(",")[0] for line in lines] == ["primary", "replica", "replica"]
    assert all(line.ok for line in lines)


def test_the_check_tells_what_is_wrong_with_them(
    place: Place, late: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "LAG_WITHIN", 0.3)
    Script(place.app).submit(place)
    auth = replace(place.settings.auth, secret="")
    faults = {x.what: x.text for x in check.run(replace(place.settings, auth=auth)) if not x.ok}
    for replica in place.servers.replicas:
        assert "not read from until it has caught up" in faults[f"database {replica.socket}"]
    assert "forget what users wrote" in faults["[auth] secret"]


# Servers that fail ----------------------------------------------------------


def load(place: Place, until: threading.Event, *, reads: bool = False) -> list[Script]:
    """Eight users at once, who look and submit, or only look."""

    def go(number: int) -> Script:
        script = Script(place.app)
        while not until.is_set():
            if number % 4 == 0 and not reads:
                script.submit(place)
            script("GET", random.choice(("/jobs", "/tasks", "/queues", "/events?after=0")))
        return script

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(go, range(THREADS)))


@contextmanager
def under_load(place: Place) -> Iterator[list[Script]]:
    """The scripts are there when it has ended."""
    until = threading.Event()
    scripts: list[Script] = []
    thread = threading.Thread(target=lambda: scripts.extend(load(place, until)))
    thread.start()
    try:
        yield scripts
    finally:
        until.set()
        thread.join()


def reads_of(place: Place, member: Member) -> int:
    return place.status(member).reads


@pytest.mark.parametrize("fault", ["kill", "stop"])
def test_nobody_notices_a_replica_that_fails(place: Place, fault: str) -> None:
    place.wait_until_up()
    victim = place.servers.replicas[0]
    served = reads_of(place, victim)
    with under_load(place) as scripts:
        wait_for(lambda: reads_of(place, victim) > served + 20)
        getattr(victim, fault)()
        wait_for(lambda: place.status(victim).state == "down", within=2)
        served = reads_of(place, victim)
        total = sum(one.reads for one in place.base.nodes())
        wait_for(lambda: sum(one.reads for one in place.base.nodes()) > total + 50)
        assert reads_of(place, victim) == served
        if fault == "kill":
            victim.start()
            victim.follow(place.servers.primary)
        else:
            victim.go_on()
        wait_for(lambda: reads_of(place, victim) > served + 20)
    assert {status for one in scripts for _, status in one.answers} == {200, 201}
    assert max(seconds for one in scripts for seconds, _ in one.answers) < 4


def test_a_connection_that_breaks_in_the_midst_does_not_show(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole request is run again, also at another server."""
    place.wait_until_up()
    broken: list[int] = []
    queues: Callable[[Store], Any] = queue_depths.queues

    def breaking(store: Store) -> Any:
        if not broken:
            number, connection = store.execute("SELECT @@server_id, CONNECTION_ID()").get_one()
            broken.append(number)
            place.servers.members[number - 1].run(f"KILL CONNECTION {connection}")
        return queues(store)

    monkeypatch.setattr(queue_depths, "queues", breaking)
    assert Script(place.app)("GET", "/queues").status == 200
    assert broken[0] in {one.number for one in place.servers.replicas}


@pytest.fixture
def doomed(tmp_path: Path) -> Iterator[Place]:
    """Servers of its own, for a primary that does not come back."""
    with servers() as cluster, place_on(cluster, "test_doomed", tmp_path) as place:
        yield place


def test_without_a_primary_pages_show_and_when_there_is_one_all_goes_on(doomed: Place) -> None:
    place = doomed
    visitor = Visitor(place.app)
    board = Board(place.settings)
    _, secret = board.do(tokens.create, "ci", "operator", "anna")
    bearer = {"HTTP_AUTHORIZATION": f"Bearer {secret}"}
    place.servers.settle()
    with under_load(place) as scripts:
        submitter = Script(place.app)
        jobs = [submitter.submit(place).headers["Location"] for _ in range(20)]
        place.servers.primary.kill()
        while (answer := submitter.submit(place)).status == 201:
            jobs.append(answer.headers["Location"])
        wait_for(lambda: not place.base.takes_writes)

        refused = visitor.post("/jobs", submission(place))
        assert (refused.status, refused.headers["Retry-After"]) == (503, "5")
        page = visitor.get("/jobs", **HTML)
        assert page.status == 200
        assert "Changes are not possible now" in page.text
        assert "Changes are not possible now" in visitor.get("/nodes", **HTML).text
        assert visitor.get("/jobs", **bearer).status == 200
        assert visitor.get("/health/ready").status == 200

        began = time.monotonic()
        heir = place.servers.replace()
        wait_for(lambda: submitter.submit(place).status == 201, within=10)
        assert time.monotonic() - began < 10
    assert place.status(heir).role == "primary"
    assert "Changes are not possible now" not in visitor.get("/jobs", **HTML).text
    looked = [status for one in scripts for _, status in one.answers]
    assert set(looked) <= {200, 201, 503}
    lost = [one for one in jobs if submitter("GET", str(one)).status != 200]
    assert lost == []
    for script in scripts:
        assert script("GET", "/jobs").status == 200
    board.close()


def test_the_position_of_a_write_whose_server_went_away_is_that_of_its_heir(place: Place) -> None:
    place.wait_until_up()
    base = place.base
    store = base.request_store(False)
    (connection,) = store.execute("SELECT CONNECTION_ID()").get_one()
    store.commit()
    place.servers.primary.run(f"KILL CONNECTION {connection}")
    position = base.position()
    base.release()
    assert replication.merged(position, "") == position != ""
