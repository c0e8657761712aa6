"""A MariaDB primary and its replicas, by GTID, for tests: started on loopback and
private sockets, stopped, killed, delayed and promoted at will."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import MySQLdb
from MySQLdb.cursors import DictCursor

from tests.conftest import _program, _server_user, memory

USER, PASSWORD = "program", "pass@word"  # with what a URI must escape
DATABASES = ("test\\_%", "bo\\_%", "openapi", "mutations")  # of tests that run there
WITHIN = 30.0  # seconds for anything to come true
_lent: set[int] = set()


class Member:
    """One server."""

    def __init__(self, folder: Path, number: int) -> None:
        self.folder = folder
        self.number = number
        self.port = _free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        return self.folder / "socket"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self, *options: str) -> None:
        command = [
            _program("setpriv"),
            "--pdeathsig",
            "KILL",
            _program("mariadbd", "mysqld"),
            "--no-defaults",
            f"--datadir={self.folder / 'data'}",
            f"--socket={self.socket}",
            f"--pid-file={self.folder / 'pid'}",
            f"--tmpdir={self.folder}",
            "--bind-address=127.0.0.1",
            f"--port={self.port}",
            f"--server-id={self.number}",
            f"--log-bin={self.folder / 'data' / 'binlog'}",
            "--log-slave-updates",
            "--gtid-strict-mode",
            "--skip-slave-start",
            "--slave-net-timeout=5",
            "--read-only",  # until it is made the primary
            "--rpl-semi-sync-master-timeout=3000",
            "--character-set-server=utf8mb4",
            "--innodb-flush-log-at-trx-commit=2",
            "--innodb-buffer-pool-size=64M",
            "--innodb-log-file-size=32M",
            "--performance-schema=OFF",
            "--max-connections=300",
            *options,
            *_server_user(),
        ]
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        wait_for(self._answers)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        try:
            self.connect().close()
            return True
        except MySQLdb.OperationalError:
            return False

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-3000:]

    def connect(self, database: str = "") -> MySQLdb.Connection:
        return MySQLdb.connect(
            user="root",
            unix_socket=str(self.socket),
            database=database,
            charset="utf8mb4",
            autocommit=True,
            read_timeout=30,
        )

    def run(self, *statements: str) -> tuple[Any, ...]:
        """The rows of the last one."""
        connection = self.connect()
        try:
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement)
            return tuple(cursor.fetchall())
        finally:
            connection.close()

    def follow(self, primary: Member) -> None:
        self.run(
            "SET GLOBAL rpl_semi_sync_slave_enabled = ON",
            "STOP SLAVE",
            "CHANGE MASTER TO MASTER_HOST = '127.0.0.1',"
            f" MASTER_PORT = {primary.port}, MASTER_USER = 'replica',"
            " MASTER_USE_GTID = slave_pos, MASTER_CONNECT_RETRY = 1",
            "START SLAVE",
        )

    def become_primary(self) -> None:
        self.run(
            "STOP SLAVE",
            "RESET SLAVE ALL",
            "SET GLOBAL rpl_semi_sync_master_enabled = ON",
            "SET GLOBAL read_only = OFF",
        )

    def delay(self, seconds: int) -> None:
        self.run(
            "STOP SLAVE",
            f"CHANGE MASTER TO MASTER_DELAY = {seconds}",
            "START SLAVE",
        )

    def has(self, position: str) -> bool:
        ((outcome,),) = self.run(f"SELECT MASTER_GTID_WAIT('{position}', {WITHIN})")
        return bool(outcome == 0)

    def number_of_last(self) -> int:
        """Of the last transaction that it has applied."""
        ((position,),) = self.run("SELECT @@GLOBAL.gtid_slave_pos")
        return int(position.rpartition("-")[2])

    def apply_all(self) -> None:
        """What it has been sent, before it is made the primary."""
        with self.connect() as connection:
            cursor = connection.cursor(DictCursor)
            cursor.execute("SHOW SLAVE STATUS")
            assert self.has(cursor.fetchone()["Gtid_IO_Pos"])

    def stop(self) -> None:
        """As SIGSTOP does: it takes connections, and never answers."""
        os.kill(self.pid, signal.SIGSTOP)
        tasks = Path(f"/proc/{self.pid}/task")
        wait_for(lambda: all(_is_stopped(task) for task in tasks.iterdir()))

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.kill()
            self.process.wait()
            self.process = None


class Replication:
    def __init__(self, folder: Path, replicas: int) -> None:
        self.members = [Member(folder / str(number), number) for number in range(1, replicas + 2)]
        self.primary = self.members[0]

    @property
    def replicas(self) -> list[Member]:
        return [one for one in self.members if one is not self.primary]

    def start(self) -> None:
        first = self.members[0]
        first.folder.mkdir()
        _install(first.folder / "data")
        for other in self.members[1:]:
            other.folder.mkdir()
            shutil.copytree(first.folder / "data", other.folder / "data")
        for member in self.members:
            member.start()
        first.run("SET GLOBAL read_only = OFF")
        first.run(
            "CREATE USER replica@'127.0.0.1'",
            "GRANT REPLICATION SLAVE ON *.* TO replica@'127.0.0.1'",
            f"CREATE USER {USER}@'%' IDENTIFIED BY '{PASSWORD}'",
            *(f"GRANT ALL ON `{names}`.* TO {USER}@'%'" for names in DATABASES),
            "CREATE DATABASE test_first CHARACTER SET utf8mb4",
        )
        for other in self.members[1:]:
            other.follow(first)
        first.run("SET GLOBAL rpl_semi_sync_master_enabled = ON")
        self.settle()

    def settle(self) -> None:
        """Until all that live have what the primary has."""
        ((position,),) = self.primary.run("SELECT @@GLOBAL.gtid_binlog_pos")
        for replica in self.replicas:
            if replica.process is not None:
                assert replica.has(position), replica.log()

    def promote(self, member: Member) -> None:
        member.become_primary()
        self.primary = member
        for other in self.replicas:
            if other.process is not None:
                other.follow(member)

    def replace(self) -> Member:
        """After the primary's death: the replica that was sent most takes its place."""
        for replica in self.replicas:
            replica.apply_all()
        ahead = max(self.replicas, key=lambda one: one.number_of_last())
        self.promote(ahead)
        return ahead

    def uri(self, database: str, **options: object) -> str:
        """Every server may become the primary."""
        hosts = ",".join(_escaped(one.socket) for one in self.members)
        replicas = ",".join(_escaped(one.socket) for one in self.members[1:])
        given = "".join(f"&{name}={value}" for name, value in options.items())
        password = PASSWORD.replace("@", "%40")
        return f"mysql-replicated://{USER}:{password}@{hosts}/{database}?replicas={replicas}{given}"

    def end(self) -> None:
        for member in self.members:
            member.kill()


@contextmanager
def replication(replicas: int = 2) -> Iterator[Replication]:
    # Not below pytest's folder: the path of a socket has room for 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="backoffice-replicas-", dir=memory()))
    found = Replication(folder, replicas)
    try:
        found.start()
        yield found
    finally:
        found.end()
        shutil.rmtree(folder, ignore_errors=True)


def wait_for(condition: Any, within: float = WITHIN) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"not within {within} s"
        time.sleep(0.02)


def _is_stopped(task: Path) -> bool:
    return (task / "stat").read_text().rpartition(")")[2].split()[0] == "T"


def _escaped(path: Path) -> str:
    return str(path).replace("/", "%2F")


def _install(data: Path) -> None:
    command = [
        _program("mariadb-install-db", "mysql_install_db"),
        "--no-defaults",
        f"--datadir={data}",
        f"--tmpdir={data.parent}",
        "--auth-root-authentication-method=normal",
        "--skip-test-db",
        *_server_user(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _free_port() -> int:
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port not in _lent:
            _lent.add(port)
            return port
