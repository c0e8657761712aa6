"""Where things are measured: a folder with databases and processes of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import MySQLdb

from backoffice.config import loading
from backoffice.data import migrations
from backoffice.data.database import Database
from backoffice.engine import catalogue, submission
from backoffice.engine.catalogue import Catalogue

ROOT = Path(__file__).resolve().parent.parent
NOOP = """<workflow xmlns="urn:backoffice:1" name="noop" version="1">
  <title>Nothing</title>
  <task name="nothing" type="noop"/>
</workflow>
"""
TEN = f"""<workflow xmlns="urn:backoffice:1" name="ten" version="1">
  <title>Nothing, ten times</title>
  {"".join(f'<task name="nothing-{n}" type="noop"/>' for n in range(10))}
</workflow>
"""
IDLE = """<workflow xmlns="urn:backoffice:1" name="idle" version="1">
  <title>Nothing, in a process</title>
  <task name="nothing" type="checksum"/>
</workflow>
"""
STAMP = """<workflow xmlns="urn:backoffice:1" name="stamp" version="1">
  <title>Write down the time</title>
  <task name="stamp" type="command">
    <parameter name="command">stamp</parameter>
  </task>
</workflow>
"""


class Failed(Exception):
    """The measurement could not be made."""


class Server:
    """A MariaDB with durable commits on a private socket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "socket"
        self._databases = 0

    @contextmanager
    def running(self) -> Iterator[Server]:
        _run(
            _program("mariadb-install-db"),
            "--no-defaults",
            f"--datadir={self.folder / 'data'}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            *_as_root(),
        )
        with open(self.folder / "log", "wb") as log:
            process = subprocess.Popen(
                [
                    _program("setpriv"),
                    "--pdeathsig",
                    "KILL",
                    _program("mariadbd"),
                    "--no-defaults",
                    f"--datadir={self.folder / 'data'}",
                    f"--socket={self.socket}",
                    "--skip-networking",
                    "--skip-log-bin",
                    "--character-set-server=utf8mb4",
                    "--innodb-flush-log-at-trx-commit=1",
                    "--innodb-buffer-pool-size=512M",
                    "--innodb-log-file-size=256M",
                    *_as_root(),
                ],
                stdout=log,
                stderr=log,
            )
        try:
            wait_for(self._answers, 60, "MariaDB did not start")
            yield self
        finally:
            process.kill()
            process.wait()

    def connect(self, database: str = "") -> MySQLdb.Connection:
        return MySQLdb.connect(
            user="root", unix_socket=str(self.socket), database=database, charset="utf8mb4"
        )

    def new_database(self) -> str:
        self._databases += 1
        name = f"bench_{self._databases}"
        connection = self.connect()
        connection.cursor().execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        connection.close()
        return name

    def commits(self) -> int:
        connection = self.connect()
        cursor = connection.cursor()
        cursor.execute("SHOW GLOBAL STATUS LIKE 'Com_commit'")
        number = int(cursor.fetchone()[1])
        connection.close()
        return number

    def _answers(self) -> bool:
        try:
            self.connect().close()
        except MySQLdb.OperationalError:
            return False
        return True


class Place:
    """Settings, a migrated database and recipes, in a folder of its own."""

    def __init__(self, folder: Path, uri: str = "", **settings: str) -> None:
        for name in ("media", "recipes"):
            (folder / name).mkdir(parents=True)
        (folder / "recipes" / "noop.xml").write_text(NOOP)
        (folder / "recipes" / "ten.xml").write_text(TEN)
        (folder / "recipes" / "idle.xml").write_text(IDLE)
        (folder / "recipes" / "stamp.xml").write_text(STAMP)
        self.folder = folder
        self.environ = {
            "BACKOFFICE_DATABASE_URI": uri or f"sqlite:{folder}/backoffice.sqlite",
            "BACKOFFICE_PATHS_HOME": str(folder),
            "BACKOFFICE_PATHS_ROOTS": "media",
            "BACKOFFICE_PATHS_WORKFLOWS": "recipes",
            "BACKOFFICE_LOG_LEVEL": "warning",
            "BACKOFFICE_COMMAND_STAMP_ARGV": "date +%s.%N",
            **settings,
        }
        self.settings = loading.load(None, self.environ)
        self.database = Database(self.settings.database)
        migrations.migrate(self.database)
        self.recipes: Catalogue = catalogue.load(self.settings)

    def submit(self, workflow: str, *inputs: tuple[str, str], **parameters: str) -> int:
        """One job in one transaction, as ``backoffice submit`` does it."""
        request = submission.JobRequest(workflow, inputs, parameters=parameters)
        prepared = submission.prepare(request, self.recipes.workflows, self.settings.paths.roots)
        return self.database.transact(submission.submit, prepared, "bench")[0]

    def value(self, statement: str, *values: object) -> object:
        row = self.database.read(lambda store: store.execute(statement, values).get_one())
        return row[0] if row else None

    def unfinished(self) -> bool:
        return (
            self.value("SELECT 1 FROM job WHERE state IN ('queued', 'running') LIMIT 1") is not None
        )

    def require_success(self) -> None:
        row = self.value("SELECT message FROM job WHERE state <> 'succeeded' LIMIT 1")
        if row is not None:
            raise Failed(f"a job did not succeed: {row}")

    @contextmanager
    def workers(self, number: int = 1, **settings: str) -> Iterator[list[int]]:
        """Real worker processes, registered; gives their process ids."""
        there = self._workers()
        with open(self.folder / "workers.log", "ab") as log:
            processes = [
                subprocess.Popen(
                    [sys.executable, "-m", "backoffice", "worker"],
                    env={**_environ(), **self.environ, **settings},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
                for _ in range(number)
            ]
        try:
            wait_for(lambda: self._workers() >= there + number, 30, "a worker did not start")
            yield [process.pid for process in processes]
        finally:
            _end(processes)

    def _workers(self) -> int:
        return int(str(self.value("SELECT COUNT(*) FROM worker")))


@contextmanager
def process(command: list[str], log: Path, **environ: str) -> Iterator[int]:
    with open(log, "ab") as stream:
        started = subprocess.Popen(
            command,
            env={**_environ(), **environ},
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
        )
    try:
        yield started.pid
    finally:
        _end([started])


def wait_for(condition: Callable[[], bool], seconds: float, otherwise: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Failed(otherwise)
        time.sleep(0.05)


@contextmanager
def folder() -> Iterator[Path]:
    """On a disk: where temporary files are kept in memory, fsync costs nothing."""
    path = Path(tempfile.mkdtemp(prefix="bench-", dir=os.environ.get("BENCH_FOLDER", "/var/tmp")))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _environ() -> Mapping[str, str]:
    """Ours, without any settings; this checkout is what is measured."""
    mine = {k: v for k, v in os.environ.items() if not k.startswith("BACKOFFICE")}
    return {**mine, "PYTHONPATH": str(ROOT)}


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    for one in processes:
        one.terminate()
    for one in processes:
        try:
            one.wait(15)
        except subprocess.TimeoutExpired:
            one.kill()
            one.wait()


def _program(name: str) -> str:
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    found = shutil.which(name, path=path)
    if found is None:
        raise Failed(f"{name} is missing; apt-get install mariadb-server util-linux")
    return found


def _as_root() -> list[str]:
    return ["--user=root"] if os.geteuid() == 0 else []


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"{command[0]} failed: {done.stdout[-1000:]}{done.stderr[-1000:]}")
