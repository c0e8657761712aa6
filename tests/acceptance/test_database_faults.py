"""The database killed, cut off, slow or full up, under real work."""

from __future__ import annotations

import contextlib
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import MySQLdb
import pytest

from backoffice.config.settings import DatabaseSettings
from backoffice.data.database import Database
from backoffice.engine import jobs, submission
from backoffice.errors import DatabaseUnavailable
from tests import conftest as servers
from tests.acceptance import proc
from tests.acceptance.proc import wait_for
from tests.acceptance.proxy import Proxy
from tests.acceptance.site import LEASE, Site
from tests.clips import Clips
from tests.conftest import MariaDB


class Server:
    """A MariaDB that can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        servers._install(folder)
        self.start()

    def start(self) -> None:
        self.process = servers._start(self.folder)
        self.mariadb = MariaDB(self.folder, self.process.pid)
        servers._wait_until_ready(self.mariadb, self.process)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="backoffice-mariadb-") as folder:
        server = Server(Path(folder))
        try:
            server.mariadb.execute("CREATE DATABASE bo CHARACTER SET utf8mb4")
            yield server
        finally:
            server.kill()


@pytest.fixture
def proxy(mariadb: MariaDB) -> Iterator[Proxy]:
    proxy = Proxy(mariadb.socket)
    yield proxy
    proxy.close()


def name_of(site: Site) -> str:
    """The name of its database."""
    return site.settings.database.uri.partition("?")[0].rpartition("/")[2]


def by_proxy(site: Site, proxy: Proxy) -> dict[str, str]:
    """What lets a process reach the database through the proxy alone."""
    return {"BACKOFFICE_DATABASE_URI": proxy.uri(name_of(site))}


@contextlib.contextmanager
def variable(mariadb: MariaDB, name: str, value: int) -> Iterator[None]:
    """A global variable of the server, for a while."""
    connection = mariadb.connect()
    cursor = connection.cursor()
    cursor.execute(f"SELECT @@global.{name}")
    before = cursor.fetchone()[0]
    cursor.execute(f"SET GLOBAL {name} = {value}")
    try:
        yield
    finally:
        cursor.execute(f"SET GLOBAL {name} = {before}")
        connection.close()


def encode(site: Site, clip: Path) -> int:
    return site.submit("transcode", site.source(clip), parameters={"profile": "mp4-360"})


# Killed


def test_what_was_acknowledged_outlives_a_killed_server_and_work_goes_on(
    server: Server, site: Site, clips: Clips, long_clip: Path
) -> None:
    site.set("database", uri=server.mariadb.uri("bo"))
    name = site.put()
    source = site.source(clips["plain.mp4"])
    encoded = encode(site, long_clip)
    site.start("scheduler", "worker")
    site.encoding()
    for number in range(20):
        site.submit(name, source, key=f"k{number}")
    server.kill()
    with pytest.raises(DatabaseUnavailable):
        site.submit(name, source)
    wait_for(lambda: "database.away" in site.log(), "the worker has noticed", 5)
    server.start()
    back = time.monotonic()
    job = site.submit(name, source, key="after")
    assert site.ended(job) == "succeeded"
    assert time.monotonic() - back < 5 + LEASE
    assert {site.ended(one) for one in site.accepted} == {"succeeded"}
    assert len(site.accepted) == 22
    assert all(a.state in ("succeeded", "lost") for a in site.attempts(encoded))


def test_parts_that_start_while_the_server_is_away_say_so_and_wait_for_it(
    server: Server, site: Site
) -> None:
    site.set("database", uri=server.mariadb.uri("bo"), timeout="1s")
    name = site.command("well", "echo")
    _ = site.database
    server.kill()
    processes = [site.start(part) for part in ("worker", "scheduler")]
    wait_for(lambda: site.log().count("database.awaited") == 2, "both wait")
    assert "cannot be reached" in site.log()
    assert [one.poll() for one in processes] == [None, None]
    server.start()
    job = site.submit(name, delay=0.1)
    assert site.ended(job) == "succeeded"


def test_killed_connections_lose_no_task_and_no_user_sees_an_error(
    maria_site: Site, mariadb: MariaDB, clips: Clips
) -> None:
    site = maria_site
    name = site.put()
    source = site.source(clips["plain.mp4"])
    site.start("scheduler", "worker", "worker")
    site.started(2)
    killer = mariadb.connect()

    def kill_all() -> int:
        cursor = killer.cursor()
        cursor.execute(
            "SELECT id FROM information_schema.processlist WHERE db = %s", (name_of(site),)
        )
        ids = [row[0] for row in cursor.fetchall()]
        for one in ids:
            with contextlib.suppress(MySQLdb.Error):
                cursor.execute(f"KILL CONNECTION {one}")
        return len(ids)

    killed = 0
    for number in range(8):
        site.submit(name, source, key=f"k{number}")
        killed += kill_all()
        done = site.run("jobs", "--json")
        assert done.returncode == 0, done.stderr
        killed += kill_all()
    assert killed > 16
    assert {site.ended(job) for job in site.accepted} == {"succeeded"}
    killer.close()


def test_connections_that_the_server_closes_for_idleness_are_no_error(
    maria_site: Site, mariadb: MariaDB, clips: Clips
) -> None:
    site = maria_site
    site.set("worker", lease="30s", heartbeat="5s", poll="2s")
    site.set("scheduler", poll="2s")
    name = site.put()
    source = site.source(clips["plain.mp4"])
    with variable(mariadb, "wait_timeout", 1):
        site.start("scheduler", "worker")
        for _ in range(2):
            job = site.submit(name, source)
            assert site.ended(job) == "succeeded"
            since = time.monotonic()
            wait_for(lambda since=since: time.monotonic() - since > 2.5, "all sleep")
    assert "warning" not in site.log()


def test_no_room_for_another_connection_is_said_in_words(
    maria_site: Site, mariadb: MariaDB
) -> None:
    site = maria_site
    _ = site.database
    mariadb.execute("CREATE OR REPLACE USER app@localhost")
    mariadb.execute("GRANT ALL ON *.* TO app@localhost")
    mariadb.execute("REVOKE CONNECTION ADMIN ON *.* FROM app@localhost")
    uri = site.settings.database.uri.replace("root@", "app@")
    taken = []
    with variable(mariadb, "max_connections", 10):
        with contextlib.suppress(MySQLdb.OperationalError):
            while len(taken) < 20:
                taken.append(MySQLdb.connect(user="app", unix_socket=str(mariadb.socket)))
        done = site.run("jobs", BACKOFFICE_DATABASE_URI=uri)
        for connection in taken:
            connection.close()
    assert len(taken) < 20
    assert done.returncode == 4
    assert "too many connections" in done.stderr
    assert done.stderr.count("\n") == 1
    mariadb.execute("DROP USER app@localhost")


# Cut off


def test_a_commit_whose_answer_is_lost_submits_one_job(
    proxy: Proxy, maria_site: Site, clips: Clips
) -> None:
    site = maria_site
    name = site.put()
    source = site.source(clips["plain.mp4"])
    _ = site.database
    database = Database(DatabaseSettings(proxy.uri(name_of(site)), 5))
    for key in ("k", ""):
        prepared = site.prepare(name, source, key=key)
        proxy.cut_commits += 2
        job, new = database.transact(submission.submit, prepared, "tester")
        assert new is False  # it found what the lost answer was about
        site.accepted.append(job)
    database.close()
    assert proxy.cut == 4
    assert site.rows("SELECT COUNT(*) FROM job") == [(2,)]
    site.start("scheduler", "worker")
    assert {site.ended(job) for job in site.accepted} == {"succeeded"}


def test_commits_of_a_worker_whose_answers_are_lost_do_nothing_twice(
    proxy: Proxy, maria_site: Site, clips: Clips
) -> None:
    site = maria_site
    job = site.submit(
        "transcode",
        site.source(clips["plain.mp4"]),
        parameters={"profile": "mp4-360", "target": "site"},
    )
    site.start("scheduler")
    site.start("worker", **by_proxy(site, proxy))
    for _ in range(6):
        proxy.cut_commits += 1
        wait_for(lambda: proxy.cut == proxy.cut_commits, "a commit is cut")
        if site.state(job) == "succeeded":
            break
    assert site.ended(job) == "succeeded"
    assert all(a.state in ("succeeded", "lost") for a in site.attempts(job))
    assert site.rows("SELECT COUNT(*) FROM event WHERE action = 'publication.published'") == [(1,)]


def test_a_worker_cut_off_ends_its_ffmpeg_before_its_lease_does(
    proxy: Proxy, maria_site: Site, long_clip: Path, clips: Clips
) -> None:
    site = maria_site
    put = site.put()
    job = encode(site, long_clip)
    site.start("scheduler")
    worker = site.start("worker", **by_proxy(site, proxy))
    ffmpeg = site.encoding()
    proxy.hole = True
    cut = time.monotonic()
    wait_for(lambda: not proc.alive(ffmpeg), "ffmpeg is gone", LEASE)
    assert time.monotonic() - cut < LEASE
    assert site.task(job, "transcode").attempt == 1
    site.start("worker")
    wait_for(lambda: site.task(job, "transcode").attempt == 2, "another has it")
    proxy.hole = False
    assert site.ended(job) == "succeeded"
    assert [a.state for a in site.attempts(job) if a.task == "transcode"] == ["lost", "succeeded"]
    assert worker.poll() is None
    # It works again, alone.
    site.processes[-1].send_signal(signal.SIGTERM)
    site.processes[-1].wait()
    after = site.submit(put, site.source(clips["plain.mp4"]))
    assert site.ended(after) == "succeeded"
    assert site.attempts(after)[0].worker == 1


def test_a_worker_cut_off_stops_when_told(proxy: Proxy, maria_site: Site) -> None:
    site = maria_site
    site.set("worker", grace="1s")
    job = site.submit(site.command("endless", "while :; do echo; sleep 0.1; done"))
    site.start("scheduler")
    worker = site.start("worker", **by_proxy(site, proxy))
    site.running(job, "run")
    proxy.hole = True
    worker.send_signal(signal.SIGTERM)
    worker.wait(timeout=30)
    site.do(jobs.cancel, job, "tester")
    assert site.ended(job) == "cancelled"


def test_a_worker_stopped_in_a_transaction_holds_its_locks_but_for_a_while(
    maria_site: Site, clips: Clips
) -> None:
    site = maria_site
    job = site.submit(site.put(), site.source(clips["second.mp4"]))
    stopped = site.start("scheduler", "worker", hold="backoffice.engine.claims:claim:after")
    site.held()
    site.start("worker")
    assert site.ended(job, 20) == "succeeded"
    stopped.send_signal(signal.SIGCONT)
    after = site.submit("put", site.source(clips["second.mp4"], "after.mp4"))
    assert site.ended(after) == "succeeded"
    assert stopped.poll() is None


def test_a_command_line_without_an_answer_from_the_database_gives_up(
    proxy: Proxy, maria_site: Site
) -> None:
    site = maria_site
    site.set("database", timeout="1s")
    _ = site.database
    proxy.hole = True
    began = time.monotonic()
    done = site.run("jobs", **by_proxy(site, proxy))
    assert done.returncode == 4
    assert "cannot be reached" in done.stderr
    assert time.monotonic() - began < 15


def test_reset_connections_lose_no_lease(proxy: Proxy, maria_site: Site, long_clip: Path) -> None:
    """Several in a row each time, but the lease's renewal is let through in the
    end: a database that nobody can ever talk to costs the lease, and must."""
    site = maria_site
    job = encode(site, long_clip)
    site.start("scheduler", "worker", **by_proxy(site, proxy))
    ffmpeg = site.encoding()
    resets = 0

    def until() -> list[tuple[str]]:
        return site.rows("SELECT lease_until FROM task WHERE state = 'running'")

    while proc.alive(ffmpeg):
        for _ in range(3):
            resets += proxy.reset_all()
            wait_for(lambda: proxy._pairs or not proc.alive(ffmpeg), "it connects again", 10)
        before = until()
        wait_for(lambda before=before: until() != before, "the lease is renewed", LEASE)
    assert resets > 5
    assert site.ended(job) == "succeeded"
    assert {a.state for a in site.attempts(job)} == {"succeeded"}


@pytest.mark.slow
def test_half_a_second_to_the_database_and_back_loses_no_lease(
    proxy: Proxy, maria_site: Site, clips: Clips
) -> None:
    site = maria_site
    site.set("worker", lease="30s", heartbeat="5s")
    job = site.submit(
        "transcode",
        site.source(clips["plain.mp4"]),
        parameters={"profile": "mp4-360", "target": "site"},
    )
    proxy.delay = 0.25
    site.start("scheduler", "worker", **by_proxy(site, proxy))
    assert site.ended(job, 110) == "succeeded"
    proxy.delay = 0
    assert {a.state for a in site.attempts(job)} == {"succeeded"}
    assert "Traceback" not in site.log()
