"""The service as whoever starts it sees it: ready, told things, and refused."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from backoffice.system import pidfile
from backoffice.system.sd_notify import Receiver
from tests.acceptance import proc
from tests.acceptance.proc import wait_for
from tests.acceptance.proxy import Proxy
from tests.acceptance.site import Site
from tests.conftest import MariaDB


class Boss:
    """Starts the service, and hears what it says of itself."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.ears = Receiver()
        self.said: list[tuple[int, dict[str, str]]] = []

    def start(self, part: str = "serve") -> subprocess.Popen[bytes]:
        self.process = self.site.start(part, NOTIFY_SOCKET=self.ears.address)
        return self.process

    def heard(self, name: str, words: str = "", seconds: float = 30) -> str:
        """Wait until the service itself has said so; the whole value."""

        def found() -> list[str]:
            self.said += self.ears.receive()
            mine = [fields for pid, fields in self.said if pid == self.process.pid]
            return [one[name] for one in mine if name in one and words in one[name]]

        wait_for(found, f"{name}: {words}", seconds)
        return found()[-1]

    def signal(self, number: int, then: str, times: int = 1) -> None:
        """Send it, and wait until the log has so many more of these words."""
        before = self.site.log().count(then)
        self.process.send_signal(number)
        wait_for(lambda: self.site.log().count(then) >= before + times, then, 20)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def get(site: Site, path: str) -> int:
    """The status of an answer; 0 when nobody answers."""
    listen = site.settings.web.listen
    assert isinstance(listen, tuple)
    connection = http.client.HTTPConnection(*listen, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def parts(service: int, name: str) -> list[int]:
    return [pid for pid in proc.children(service) if proc.command(pid)[-1:] == [name]]


def whole(site: Site) -> Site:
    """With a web server, which the other tests do without."""
    site.set("service", parts="scheduler worker web")
    site.set("web", listen=f"127.0.0.1:{free_port()}", rate="0")
    return site


# One that runs, for many tests. Each leaves its settings as they were.


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Boss]:
    home = tmp_path_factory.mktemp("service") / "site"
    site = whole(Site(home, f"sqlite:{home}/database.sqlite"))
    site.command("asleep", "exec sleep 60")
    site.command("patient", f"until [ -e {home}/enough ]; do sleep 0.05; done")
    boss = Boss(site)
    try:
        boss.start()
        boss.heard("READY")
        yield boss
        boss.said += boss.ears.receive()  # there is room for more
        boss.process.send_signal(signal.SIGTERM)
        assert boss.process.wait(15) == 0
        boss.heard("STOPPING")
        assert not (site.settings.paths.run / pidfile.NAME).exists()
        site.check()
    finally:
        boss.ears.close()
        site.close()
        print(site.log())


@pytest.fixture
def site_there(running: Boss) -> Iterator[Site]:
    """The site of the running service, whose settings are put back."""
    before = {title: dict(section) for title, section in running.site.sections.items()}
    yield running.site
    running.site.sections.clear()
    running.site.sections.update(before)
    rewrite(running.site)
    running.signal(signal.SIGHUP, "reload.done", 4)


def rewrite(site: Site) -> None:
    site._settings = None
    _ = site.settings


def test_it_is_ready_when_every_part_is(running: Boss) -> None:
    assert get(running.site, "/health/ready") == 200
    assert running.site.rows("SELECT state FROM worker") == [("active",)]
    assert running.heard("STATUS") == "scheduler ready; worker ready; web ready"
    pid = pidfile.read(running.site.settings.paths.run / pidfile.NAME)
    assert pid == running.process.pid


def test_only_the_parent_speaks_to_whoever_started_it(running: Boss) -> None:
    running.said += running.ears.receive()
    assert {pid for pid, _ in running.said} == {running.process.pid}


def test_a_second_one_is_refused_and_the_first_goes_on(running: Boss) -> None:
    done = running.site.run("serve")
    assert done.returncode == 1
    assert f"running already (process {running.process.pid})" in done.stderr
    assert "Traceback" not in done.stderr
    assert get(running.site, "/health/live") == 200
    assert running.process.poll() is None


def test_usr2_tells_what_every_thread_and_task_does(running: Boss) -> None:
    site = running.site
    job = site.submit("asleep")
    site.running(job, "run")
    before = len(site.log())
    running.process.send_signal(signal.SIGUSR2)
    task = site.task(job, "run").id
    for words in (
        "part=service part name=worker",
        f"part=worker task task={task} attempt=1 job={job} ",
        "part=scheduler thread name=search",
        "part=web thread name=gate",
    ):
        logged(site, f"told {words}", before)
    site.run("cancel", str(job))
    assert site.ended(job) == "cancelled"


def logged(site: Site, words: str, since: int = 0) -> None:
    wait_for(lambda: words in site.log()[since:], words, 10)


def test_usr1_opens_the_logs_anew_in_every_process(running: Boss, site_there: Site) -> None:
    folder = site_there.home / "service-logs"
    site_there.set("log", to="files", folder=str(folder))
    rewrite(site_there)
    running.process.send_signal(signal.SIGHUP)
    log = folder / "error.log"
    wait_for(lambda: log.exists() and log.read_text().count("reload.done") == 4, "it moves", 20)
    log.rename(folder / "error.log.1")
    running.process.send_signal(signal.SIGUSR1)
    wait_for(log.exists, "there is a new one", 10)


def test_hup_brings_new_settings_and_names_those_that_wait(
    running: Boss, site_there: Site, tmp_path: Path
) -> None:
    (site_there.media / "in").mkdir(exist_ok=True)
    site_there.set("worker", slots="3", tags="gpu")
    site_there.set("auth", required="yes")
    site_there.set("web", threads="3")
    site_there.set("watch in", folder=str(site_there.media / "in"), workflow="none", quiet="0s")
    rewrite(site_there)
    running.signal(signal.SIGHUP, "reload.done", 4)
    assert "[web] threads" in site_there.log().split("reload.done")[-1]
    wait_for(lambda: worker(site_there) == (3, "gpu"), "the worker is known so", 10)
    assert get(site_there, "/jobs") == 401
    (site_there.media / "in" / "a.txt").write_text("no video")
    wait_for(lambda: "watch.refused" in site_there.log(), "the folder is watched", 10)


def worker(site: Site) -> tuple[int, str]:
    (row,) = site.rows("SELECT slots, tags FROM worker WHERE state = 'active'")
    return row[0], row[1]


def test_hup_lets_go_on_what_runs(running: Boss, site_there: Site) -> None:
    job = site_there.submit("patient")
    site_there.running(job, "run")
    site_there.set("worker", slots="4")
    rewrite(site_there)
    running.signal(signal.SIGHUP, "reload.done", 4)
    wait_for(lambda: worker(site_there)[0] == 4, "the worker is known so", 10)
    (site_there.home / "enough").write_text("")
    assert site_there.ended(job) == "succeeded"
    assert [one.state for one in site_there.attempts(job)] == ["succeeded"]


def test_hup_with_wrong_settings_is_refused(running: Boss, site_there: Site) -> None:
    site_there.set("worker", slots="5")
    rewrite(site_there)
    site_there.ini.write_text(site_there.ini.read_text().replace("slots = 5", "slots = x"))
    refuses(running, "[worker] slots: is not a whole number")


def test_hup_with_a_broken_workflow_is_refused(running: Boss, site_there: Site) -> None:
    site_there.set("worker", slots="5")
    rewrite(site_there)
    broken = site_there.home / "recipes" / "broken.xml"
    broken.write_text("<workflow>")
    try:
        refuses(running, "broken.xml:1")
    finally:
        broken.unlink()


def test_hup_with_a_log_that_cannot_be_written_is_refused(running: Boss, site_there: Site) -> None:
    site_there.set("worker", slots="5")
    site_there.set("log", to="files", folder="/proc/nowhere")
    rewrite(site_there)
    refuses(running, "cannot be written")
    assert worker(site_there)[0] != 5


def refuses(boss: Boss, words: str) -> None:
    """One line says why, and the old settings go on in every part."""
    begin = len(boss.site.log())
    boss.signal(signal.SIGHUP, "reload.refused")
    lines = [one for one in boss.site.log()[begin:].splitlines() if "reload." in one]
    assert len(lines) == 1
    assert "part=service" in lines[0]
    assert words in lines[0]
    assert get(boss.site, "/health/ready") == 200
    assert worker(boss.site)[0] == 2


def test_reloads_fail_no_request_on_connections_that_stay_open(
    running: Boss, site_there: Site
) -> None:
    ended, failed, counts = threading.Event(), [], [0, 0]
    listen = site_there.settings.web.listen
    assert isinstance(listen, tuple)

    def ask(number: int) -> None:
        connection = http.client.HTTPConnection(*listen, timeout=20)
        connection.connect()
        connection.auto_open = False  # one connection must do
        while not ended.is_set():
            connection.request("GET", "/jobs.json")
            answer = connection.getresponse()
            answer.read()
            counts[number] += 1
            if answer.status != 200:
                failed.append(answer.status)
        connection.close()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        running.signal(signal.SIGHUP, "reload.done part=web")
    ended.set()
    for thread in threads:
        thread.join(30)
    assert failed == []
    assert min(counts) > 3


def test_a_web_server_that_was_killed_is_back(running: Boss) -> None:
    (victim,) = parts(running.process.pid, "web")
    proc.kill(victim)
    wait_for(lambda: get(running.site, "/health/live") == 200, "it is back", 10)
    assert parts(running.process.pid, "web") not in ([], [victim])


# Ends


@pytest.mark.parametrize(
    "numbers", [(signal.SIGTERM, signal.SIGTERM), (signal.SIGQUIT,)], ids=["twice", "quit"]
)
def test_told_to_end_at_once_it_hands_back_what_runs(site: Site, numbers: tuple[int, ...]) -> None:
    site.set("worker", grace="60s")
    name = site.command("asleep", "exec sleep 60")
    service = site.start("serve")
    job = site.submit(name)
    site.running(job, "run")
    service.send_signal(numbers[0])
    wait_for(lambda: "worker.stopping" in site.log(), "the worker has heard", 10)
    for number in numbers[1:]:
        service.send_signal(number)
    assert service.wait(10) == 0
    assert site.task(job, "run").state == "ready"
    assert proc.beneath(site.home) == []
    site.run("cancel", str(job))


def test_signals_wait_for_parts_that_are_only_starting(site: Site) -> None:
    site.set("service", parts="scheduler")
    service = site.start("serve")
    wait_for(lambda: "part.started" in site.log(), "a part is started")
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        service.send_signal(number)
    logged(site, "told part=scheduler")
    logged(site, "reload.done part=scheduler")
    assert "part.died" not in site.log()


# Parts that hang


def test_a_worker_that_hangs_is_replaced_and_its_job_succeeds(
    site: Site, medium_clip: Path
) -> None:
    site.set("service", watchdog="3s")
    site.set("database", timeout="0.5s")
    service = site.start("serve")
    job = site.submit(
        "transcode",
        site.source(medium_clip),
        parameters={"profile": "mp4-360", "target": "site"},
    )
    site.encoding()
    (victim,) = parts(service.pid, "worker")
    proc.kill(victim, signal.SIGSTOP)
    wait_for(lambda: "part.hangs" in site.log(), "it is found out", 15)
    wait_for(lambda: parts(service.pid, "worker") not in ([], [victim]), "it is replaced", 10)
    assert site.ended(job) == "succeeded"


# A database that comes, and one that refuses


def test_it_waits_for_a_database_that_is_coming(
    maria_site: Site, mariadb: MariaDB, tmp_path: Path
) -> None:
    site = whole(maria_site)
    _ = site.database  # has its tables
    name = site.settings.database.uri.partition("?")[0].rpartition("/")[2]
    proxy = Proxy(tmp_path / "nobody")
    boss = Boss(site)
    try:
        direct = dict(site.sections["database"])
        site.set("database", uri=proxy.uri(name), timeout="1s")
        boss.start()
        boss.heard("STATUS", "worker waits for the database")
        wait_for(lambda: get(site, "/health/ready") == 503, "the web server says so", 10)
        assert get(site, "/health/live") == 200
        assert "READY" not in {key for _, fields in boss.said for key in fields}
        assert boss.process.poll() is None
        proxy.upstream = mariadb.socket
        boss.heard("READY")
        wait_for(lambda: get(site, "/health/ready") == 200, "requests are served", 10)
        site.set("database", **direct)
        site.stop()
    finally:
        boss.ears.close()
        proxy.close()


def test_it_ends_when_told_while_it_waits_for_a_database(maria_site: Site, tmp_path: Path) -> None:
    _ = maria_site.database
    proxy = Proxy(tmp_path / "nobody")
    maria_site.look_at(maria_site.settings.database.uri)
    maria_site.set("database", uri=proxy.uri("any"), timeout="1s")
    boss = Boss(maria_site)
    try:
        boss.start()
        boss.heard("STATUS", "scheduler waits for the database")
        boss.process.send_signal(signal.SIGTERM)
        assert boss.process.wait(10) == 0
    finally:
        boss.ears.close()
        proxy.close()


def refused(done: subprocess.CompletedProcess[str], status: int, words: str) -> None:
    """It ended with one sentence that says so, and nothing else to be frightened of."""
    told = [one for one in done.stderr.splitlines() if one.startswith("backoffice: ")]
    assert (done.returncode, len(told)) == (status, 1), done.stderr
    assert words in told[0]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("part", ["serve", "worker", "scheduler", "web"])
def test_a_wrong_password_is_no_database_to_wait_for(
    whole_maria_site: Site, mariadb: MariaDB, part: str
) -> None:
    socket_ = mariadb.socket
    wrong = f"mysql://nobody:geheim@localhost/none?unix_socket={socket_}"
    done = whole_maria_site.run(part, BACKOFFICE_DATABASE_URI=wrong)
    refused(done, 4, "the database refuses the connection")
    assert "geheim" not in done.stderr


@pytest.fixture
def whole_maria_site(maria_site: Site) -> Site:
    return whole(maria_site)


def test_an_unknown_database_is_told(maria_site: Site, mariadb: MariaDB) -> None:
    done = maria_site.run("serve", BACKOFFICE_DATABASE_URI=mariadb.uri("nowhere"))
    refused(done, 4, "nowhere")


# What there is no use in starting with


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("DELETE FROM schema_step WHERE step > 5", "run 'backoffice migrate'"),
        (
            "INSERT INTO schema_step VALUES (999, 1, 'x', 'then', 'then')",
            "belongs to a newer version",
        ),
    ],
    ids=["old", "new"],
)
def test_another_schema_is_refused(site: Site, statement: str, words: str) -> None:
    site.do(lambda store: store.execute(statement))
    for part in ("serve", "worker"):
        refused(site.run(part), 4, words)
    site._database = None  # it is no database of ours any more


def test_settings_that_are_not_there_are_missed(site: Site, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "backoffice", "--config", str(tmp_path / "none.ini"), "serve"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": site.environment["PYTHONPATH"]},
        check=False,
    )
    refused(done, 2, "none.ini: cannot be read")


def test_without_ffmpeg_no_worker_starts(site: Site) -> None:
    site.set("tools", ffmpeg="/nowhere/ffmpeg")
    for part in ("serve", "worker"):
        refused(site.run(part), 2, "/nowhere/ffmpeg is not there: install ffmpeg")


@pytest.mark.parametrize("name", ["work", "logs", "run"])
def test_a_folder_that_cannot_be_is_told(site: Site, name: str) -> None:
    (site.home / "file").write_text("in the way")
    site.set("paths", **{name: "file/beneath"})
    refused(site.run("serve"), 2, f"{site.home}/file/beneath")


def test_a_port_that_is_taken_ends_it(site: Site) -> None:
    whole(site)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        site.set("web", listen=f"127.0.0.1:{other.getsockname()[1]}")
        refused(site.run("serve"), 2, "[web] listen: cannot listen there")
    assert proc.beneath(site.home) == []


def test_a_socket_that_is_a_file_is_left_alone(site: Site) -> None:
    site.set("service", parts="web")
    place = site.home / "s"
    place.write_text("precious")
    site.set("web", listen="unix:s")
    refused(site.run("serve"), 2, "is no socket; move it away")
    assert place.read_text() == "precious"


def test_a_broken_workflow_is_told_before_anything_starts(site: Site) -> None:
    (site.home / "recipes" / "broken.xml").write_text("<workflow>")
    done = site.run("serve")
    refused(done, 2, "broken.xml:1")
    assert "part.started" not in done.stderr
