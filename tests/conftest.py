"""What many tests need: databases, settings that stay in a folder, clips."""

from __future__ import annotations

import gc
import itertools
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import MySQLdb
import pytest

from backoffice.config import loading
from backoffice.config.settings import Settings
from backoffice.data import database as database_module
from backoffice.data import migrations
from backoffice.data.database import Database
from tests.board import Board

if TYPE_CHECKING:
    from tests import replicas

ClipFactory = Callable[..., Path]

_numbers = itertools.count(1)
_UMASK = os.umask(0o022)
os.umask(_UMASK)


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    """Commands that run in this process set their own."""
    yield
    os.umask(_UMASK)


@dataclass(frozen=True)
class MariaDB:
    """A server of this test run's own, on a private socket."""

    folder: Path
    pid: int

    @property
    def socket(self) -> Path:
        return self.folder / "socket"

    def connect(self, database: str = "") -> MySQLdb.Connection:
        return MySQLdb.connect(
            user="root", unix_socket=str(self.socket), database=database, charset="utf8mb4"
        )

    def uri(self, database: str) -> str:
        return f"mysql://root@localhost/{database}?unix_socket={self.socket}"

    def execute(self, statement: str) -> None:
        connection = self.connect()
        try:
            connection.cursor().execute(statement)
        finally:
            connection.close()


# Set: what runs on MariaDB runs on a primary with two replicas, and nothing on SQLite.
REPLICATED = bool(os.environ.get("BACKOFFICE_TEST_REPLICATED"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if REPLICATED:
        items[:] = [one for one in items if "sqlite" not in _parameters(one).values()]


def _parameters(item: pytest.Item) -> dict[str, object]:
    return dict(item.callspec.params) if hasattr(item, "callspec") else {}


@dataclass(frozen=True)
class Replicated(MariaDB):
    """The primary, known by the URI of all."""

    cluster: replicas.Replication

    def uri(self, database: str) -> str:
        return self.cluster.uri(database, probe=0.1, retry=0.5)


@pytest.fixture(scope="session")
def replicated() -> Iterator[Replicated]:
    """A primary and two replicas, for the whole run: leave them as they were."""
    from tests.replicas import replication

    with replication() as cluster:
        yield Replicated(cluster.primary.folder, cluster.primary.pid, cluster)


@pytest.fixture(autouse=REPLICATED)
def _everybody_has_seen_all(
    replicated: Replicated, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Tests write beside the application, and bring no token to it."""
    both = database_module._both

    def with_all(one: str, other: str) -> str:
        ((position,),) = replicated.cluster.primary.run("SELECT @@GLOBAL.gtid_binlog_pos")
        return both(both(one, other), position)

    monkeypatch.setattr(database_module, "_both", with_all)
    yield
    gc.collect()  # or hundreds of threads would watch servers for databases nobody uses


@pytest.fixture(scope="session")
def mariadb(request: pytest.FixtureRequest) -> Iterator[MariaDB]:
    if REPLICATED:
        yield request.getfixturevalue("replicated")
        return
    # Not below pytest's folder: the path of a socket has room for 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="backoffice-mariadb-", dir=memory()))
    try:
        _install(folder)
        process = _start(folder)
        try:
            server = MariaDB(folder, process.pid)
            _wait_until_ready(server, process)
            yield server
        finally:
            process.kill()
            process.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def memory() -> str | None:
    """A folder in memory for what is thrown away and written with many syncs, if there is
    one with room enough."""
    place = "/dev/shm"
    room = shutil.disk_usage(place).free if os.access(place, os.W_OK) else 0
    return place if room > 2 << 30 else None


def _program(*names: str) -> str:
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    found = next((p for p in (shutil.which(name, path=path) for name in names) if p), None)
    if found is None:
        pytest.fail(f"{names[0]} is missing; apt-get install mariadb-server", pytrace=False)
    return found


def _server_user() -> list[str]:
    return ["--user=root"] if os.geteuid() == 0 else []


def _install(folder: Path) -> None:
    command = [
        _program("mariadb-install-db", "mysql_install_db"),
        "--no-defaults",
        f"--datadir={folder / 'data'}",
        f"--tmpdir={folder}",  # servers that start at once would remove each other's files
        "--auth-root-authentication-method=normal",
        "--skip-test-db",
        *_server_user(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"mariadb-install-db failed:\n{done.stdout}{done.stderr}", pytrace=False)


def _start(folder: Path) -> subprocess.Popen[bytes]:
    command = [
        # The server must not outlive a test run that was killed.
        _program("setpriv"),
        "--pdeathsig",
        "KILL",
        _program("mariadbd", "mysqld"),
        "--no-defaults",
        f"--datadir={folder / 'data'}",
        f"--socket={folder / 'socket'}",
        f"--pid-file={folder / 'pid'}",
        f"--tmpdir={folder}",
        "--skip-networking",
        "--skip-log-bin",
        "--performance-schema=OFF",
        "--character-set-server=utf8mb4",
        "--innodb-flush-log-at-trx-commit=2",
        "--innodb-buffer-pool-size=64M",
        "--innodb-log-file-size=32M",
        "--lock-wait-timeout=30",  # a test that left a transaction open must not hang the rest
        "--max-connections=200",
        *_server_user(),
    ]
    with open(folder / "log", "wb") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def _wait_until_ready(server: MariaDB, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        try:
            server.connect().close()
            return
        except MySQLdb.OperationalError:
            time.sleep(0.05)
    log = (server.folder / "log").read_text(errors="replace")
    pytest.fail(f"mariadbd did not start:\n{log[-2000:]}", pytrace=False)


@pytest.fixture(params=["sqlite", "mariadb"])
def database_uri(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URI of a database that is empty and this test's own, of each kind; of
    "replicated" too for who asks for it."""
    if request.param == "sqlite":
        yield f"sqlite:{tmp_path}/backoffice.sqlite"
        return
    server: MariaDB = request.getfixturevalue(request.param)
    name = f"bo_{next(_numbers)}"
    server.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
    yield server.uri(name)
    server.execute(f"DROP DATABASE {name}")


@pytest.fixture
def settings(database_uri: str, tmp_path: Path) -> Settings:
    """Settings with everything in ``tmp_path`` and with short waits."""
    (tmp_path / "media").mkdir()
    environ = {
        "BACKOFFICE_DATABASE_URI": database_uri,
        "BACKOFFICE_PATHS_HOME": str(tmp_path),
        "BACKOFFICE_PATHS_ROOTS": "media",
        "BACKOFFICE_WORKER_LEASE": "3s",
        "BACKOFFICE_WORKER_HEARTBEAT": "0.5s",
        "BACKOFFICE_WORKER_POLL": "0.05s",
        "BACKOFFICE_WORKER_GRACE": "5s",
        "BACKOFFICE_SCHEDULER_POLL": "0.1s",
    }
    return loading.load(None, environ)


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """The database of the settings, with its tables."""
    database = Database(settings.database)
    migrations.migrate(database)
    yield database
    database.close()


@pytest.fixture
def board(settings: Settings) -> Iterator[Board]:
    """Jobs in such a database, and workers that move them."""
    board = Board(settings)
    yield board
    board.close()


@pytest.fixture(scope="session")
def clip_factory(tmp_path_factory: pytest.TempPathFactory) -> ClipFactory:
    """Make a clip of a moving picture and a tone; the same one is made once."""
    folder = tmp_path_factory.mktemp("clips")
    made: dict[tuple[object, ...], Path] = {}

    def make(
        seconds: float = 4,
        size: str = "640x360",
        rate: int = 25,
        video: bool = True,
        sound: bool = True,
        suffix: str = ".mp4",
    ) -> Path:
        wanted = (seconds, size, rate, video, sound, suffix)
        if wanted not in made:
            path = folder / f"clip-{len(made) + 1}{suffix}"
            inputs: list[str] = []
            if video:
                inputs += ["-f", "lavfi", "-i", f"testsrc2=s={size}:r={rate}:d={seconds}"]
            if sound:
                inputs += ["-f", "lavfi", "-i", f"sine=f=440:r=48000:d={seconds}"]
            _ffmpeg([*inputs, "-preset", "ultrafast", "-pix_fmt", "yuv420p", str(path)])
            made[wanted] = path
        return made[wanted]

    return make


def _ffmpeg(arguments: list[str]) -> None:
    command = [_program("ffmpeg"), "-nostdin", "-v", "error", "-y", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def clip(clip_factory: ClipFactory) -> Path:
    """Four seconds, 640x360, 25 frames a second, with sound; do not change it."""
    return clip_factory()


@pytest.fixture
def source(settings: Settings, clip: Path) -> Path:
    """A copy of the clip where jobs may read it."""
    return Path(shutil.copy(clip, settings.paths.roots[0] / "clip.mp4"))
