"""An Apache of a test's own: its folder, its port, its processes, and no others.

When the tests run as root it runs as www-data, since as root it will not; what
lies in folders that only root may enter, it may read all the same.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.acceptance.proc import wait_for
from tests.acceptance.servers import free_port

MODULES = Path("/usr/lib/apache2/modules")
TRIES = 3  # with another port each
_ALWAYS = (
    *("mpm_event", "authz_core", "authz_host", "authn_core", "authn_file", "authz_user"),
    *("auth_basic", "headers", "reqtimeout"),
)


class Apache:
    def __init__(self, folder: Path, port: int, process: subprocess.Popen[bytes]) -> None:
        self.folder = folder
        self.port = port
        self.process = process

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def running(self) -> bool:
        return self.process.poll() is None

    def stop(self) -> int:
        """In good order; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)

    def end(self) -> None:
        """Whatever happened."""
        if self.running():
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()


@contextmanager
def apache(
    text: str, modules: Iterable[str], environ: Mapping[str, str], **users: str
) -> Iterator[Apache]:
    """Serves what the configuration ``text`` says, in which {port} and {folder}
    stand for its own; the file {folder}/users has ``users`` and passwords."""
    # Not below pytest's folder: the path of a socket has room for 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="backoffice-apache-"))
    try:
        (folder / "users").write_text("".join(f"{n}:{_hash(p)}\n" for n, p in users.items()))
        shutil.chown(folder, user())
        tried = (_start(folder, text, modules, environ) for _ in range(TRIES))
        server = next((one for one in tried if one.running()), None)
        assert server is not None, f"Apache did not start:\n{(folder / 'log').read_text()}"
        try:
            yield server
        finally:
            server.end()
            print(server.log())
    finally:
        shutil.rmtree(folder)


def user() -> str:
    """Who it runs as."""
    return "www-data" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name


def _hash(password: str) -> str:
    return "{SHA}" + base64.b64encode(hashlib.sha1(password.encode()).digest()).decode()


def _start(folder: Path, text: str, modules: Iterable[str], environ: Mapping[str, str]) -> Apache:
    """Returns when it answers, or has come to its end."""
    port = free_port()
    configuration = folder / "apache.conf"
    configuration.write_text(_configuration(folder, port, text, modules))
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            [*_wrapper(), _program(), "-f", str(configuration), "-DFOREGROUND"],
            env={"PATH": os.environ["PATH"], **environ},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    server = Apache(folder, port, process)
    try:
        wait_for(lambda: not server.running() or _answers(port), "Apache answers")
    except BaseException:
        server.end()
        raise
    return server


def _configuration(folder: Path, port: int, text: str, modules: Iterable[str]) -> str:
    lines = [
        f"ServerRoot {folder}",
        f"PidFile {folder}/pid",
        f"DefaultRuntimeDir {folder}",
        f"ErrorLog {folder}/log",
        "ServerName localhost",
        f"Listen 127.0.0.1:{port}",
        *(f"LoadModule {name}_module {MODULES}/mod_{name}.so" for name in (*_ALWAYS, *modules)),
        text.replace("{port}", str(port)).replace("{folder}", str(folder)),
    ]
    return "\n".join([*lines, ""])


def _program() -> str:
    found = shutil.which("apache2", path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        pytest.fail("apache2 is missing; apt-get install apache2-bin", pytrace=False)
    return found


def _wrapper() -> list[str]:
    """It must not outlive a test run that was killed."""
    wrapped = ["setpriv", "--pdeathsig", "TERM"]
    if os.geteuid() == 0:
        found = pwd.getpwnam(user())
        wrapped += [f"--reuid={found.pw_uid}", f"--regid={found.pw_gid}", "--clear-groups"]
        wrapped += [f"--{kind}-caps=-all,+dac_override" for kind in ("inh", "ambient")]
    return wrapped


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("HEAD", "/")
        connection.getresponse()
        return True
    except OSError:
        return False
    finally:
        connection.close()
