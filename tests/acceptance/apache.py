"""An Apache of a test's own, with the configuration that is shipped: its folder,
its ports, its processes, and no others.

When the tests run as root it runs as www-data, since as root it will not; what
lies in folders that only root may enter, it may read all the same.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.acceptance.proc import wait_for
from tests.acceptance.servers import Secure, free_port
from tests.acceptance.site import ROOT

MODULES = Path("/usr/lib/apache2/modules")
SHIPPED = ROOT / "etc" / "apache2"
TRIES = 3  # with other ports each
# What Debian enables when it installs Apache, and how it sets what matters here.
_ENABLED = (
    "access_compat alias auth_basic authn_core authn_file authz_core authz_host authz_user"
    " autoindex deflate dir env filter mime mpm_event negotiation reqtimeout setenvif status"
).split()
_DEBIAN = """
TypesConfig /etc/mime.types
AccessFileName .htaccess
<Directory "/">
    Options FollowSymLinks
    AllowOverride None
    Require all denied
</Directory>
AddOutputFilterByType DEFLATE text/html text/plain text/xml text/css text/javascript
AddOutputFilterByType DEFLATE application/javascript application/xml application/rss+xml
"""


class Apache:
    def __init__(self, folder: Path, port: int, tls: int, process: subprocess.Popen[bytes]) -> None:
        self.folder = folder
        self.process = process
        self.plain = ("127.0.0.1", port)
        self.address = Secure(tls, folder / "certificate")

    def log(self) -> str:
        return _read(self.folder / "log") + _read(self.folder / "backoffice-error.log")

    def accesses(self) -> list[str]:
        return _read(self.folder / "backoffice-access.log").splitlines()

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
    file: str,
    users: Mapping[str, str],
    *,
    before: str = "",
    modules: Iterable[str] = (),
    environ: Mapping[str, str] | None = None,
    **defines: object,
) -> Iterator[Apache]:
    """Serves what the shipped ``file`` says with ``defines`` (SOCKET=…, without
    BACKOFFICE_) for localhost, where ``users`` have these passwords. ``before``
    are lines that come first, for which there may be more ``modules``."""
    with place(users) as folder:
        text = before + shipped(file, folder, **defines)
        tried = (_start(folder, text, [*needed(file), *modules], environ) for _ in range(TRIES))
        server = next((one for one in tried if one.running()), None)
        assert server is not None, f"Apache did not start:\n{_read(folder / 'log')}"
        try:
            yield server
        finally:
            server.end()
            print(server.log())


@contextmanager
def place(users: Mapping[str, str]) -> Iterator[Path]:
    """A folder with passwords and a certificate."""
    # Not below pytest's folder: the path of a socket has room for 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="backoffice-apache-"))
    try:
        (folder / "users").write_text("".join(f"{n}:{_hash(p)}\n" for n, p in users.items()))
        _certify(folder)
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, user())
        yield folder
    finally:
        shutil.rmtree(folder)


def shipped(file: str, folder: Path, **defines: object) -> str:
    """Lines that set what a test sets otherwise than an admin, and take in the file."""
    values: dict[str, object] = {
        "HOST": "localhost",
        "HTTP": "*:{port}",
        "HTTPS": "*:{tls}",
        "CERTIFICATE": folder / "certificate",
        "KEY": folder / "key",
        "USERS": folder / "users",
        "STATIC": ROOT / "static",
        **defines,
    }
    lines = [f'Define BACKOFFICE_{name} "{value}"' for name, value in values.items()]
    return "\n".join([*lines, f"Include {SHIPPED / file}", ""])


def needed(file: str) -> list[str]:
    """The modules besides Debian's own that the file tells admins to enable."""
    named = re.findall(r"(?m)^#   a2enmod ([a-z_ ]+)", (SHIPPED / "backoffice.conf").read_text())
    return [*named[0].split(), *(["wsgi"] if file == "backoffice-wsgi.conf" else [])]


def configtest(folder: Path, text: str, modules: Iterable[str], *options: str) -> str:
    """What ``apache2 -t`` says of it, its status first."""
    configuration = folder / "apache.conf"
    configuration.write_text(main_configuration(folder, 80, 443, text, modules))
    done = subprocess.run(
        [_program(), "-t", "-f", str(configuration), *options],
        env={"PATH": os.environ["PATH"], "APACHE_LOG_DIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return f"{done.returncode} {done.stdout}{done.stderr}"


def main_configuration(folder: Path, port: int, tls: int, text: str, modules: Iterable[str]) -> str:
    """That of a server which listens on these ports and does what ``text`` says."""
    lines = [
        f"ServerRoot {folder}",
        f"PidFile {folder}/pid",
        f"DefaultRuntimeDir {folder}",
        f"ErrorLog {folder}/log",
        "ServerName localhost",
        f"Listen 127.0.0.1:{port}",
        f"Listen 127.0.0.1:{tls}",
        *(f"LoadModule {name}_module {MODULES}/mod_{name}.so" for name in (*_ENABLED, *modules)),
        _DEBIAN,
        text.replace("{port}", str(port)).replace("{tls}", str(tls)),
    ]
    return "\n".join([*lines, ""])


def user() -> str:
    """Who it runs as."""
    return "www-data" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name


def _hash(password: str) -> str:
    return "{SHA}" + base64.b64encode(hashlib.sha1(password.encode()).digest()).decode()


def _certify(folder: Path) -> None:
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -days 2"
    subprocess.run(
        [
            *command.split(),
            *"-subj /CN=localhost -addext subjectAltName=DNS:localhost".split(),
            "-keyout",
            str(folder / "key"),
            "-out",
            str(folder / "certificate"),
        ],
        capture_output=True,
        check=True,
    )


def _read(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def _start(
    folder: Path, text: str, modules: Iterable[str], environ: Mapping[str, str] | None
) -> Apache:
    """Returns when it answers, or has come to its end."""
    port, tls = free_port(), free_port()
    configuration = folder / "apache.conf"
    configuration.write_text(main_configuration(folder, port, tls, text, modules))
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            [*_wrapper(), _program(), "-f", str(configuration), "-DFOREGROUND"],
            env={"PATH": os.environ["PATH"], "APACHE_LOG_DIR": str(folder), **(environ or {})},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    server = Apache(folder, port, tls, process)
    try:
        wait_for(lambda: not server.running() or _answers(port), "Apache answers")
    except BaseException:
        server.end()
        raise
    return server


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
