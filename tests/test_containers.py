"""The files for containers, as far as they can be held to account without an engine."""

from __future__ import annotations

import os
import re
import shutil
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import yaml

from backoffice.config import loading
from tests.conftest import _program

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
CONTAINERFILE = (ROOT / "Containerfile").read_text()
COMPOSE = (ROOT / "compose.yaml").read_text()
SERVICES: dict[str, Any] = yaml.safe_load(COMPOSE)["services"]
OURS = [name for name, one in SERVICES.items() if one["image"] == "backoffice"]


def run(*command: str | Path) -> str:
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_containerfile_passes_its_linter() -> None:
    run(BIN / "hadolint", "Containerfile")


def test_the_compose_file_follows_its_schema() -> None:
    run(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml")


def test_images_of_others_are_named_by_version_and_digest() -> None:
    """A tag can be moved to another image at any time."""
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", CONTAINERFILE, re.MULTILINE))
    bases = set(re.findall(r"^FROM (\S+)", CONTAINERFILE, re.MULTILINE)) - stages
    images = {one["image"] for one in SERVICES.values() if "build" not in one}
    assert (len(bases), len(images)) == (2, 1)
    for image in bases | images:
        assert re.fullmatch(r"[a-z]+:[a-z0-9.-]*[0-9][a-z0-9.-]*@sha256:[0-9a-f]{64}", image), image


# The image


def ignored(path: str) -> bool:
    """By .dockerignore, which here begins by leaving out everything."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines[1] == "*"
    kept = {line[1:] for line in lines if line.startswith("!")}
    out = {line for line in lines if line and line[0] not in "!#*"}
    return path.split("/")[0] not in kept or any(path.startswith(one) for one in out)


def test_what_is_copied_into_the_image_is_there() -> None:
    copied = re.findall(r"^COPY (?!--from)(\S+) \S+$", CONTAINERFILE, re.MULTILINE)
    assert len(copied) >= 4
    for name in copied:
        assert (ROOT / name).exists(), name
        assert name == "." or not ignored(name), name


def test_what_the_build_needs_is_not_left_out() -> None:
    """Every path of the checkout that the installing script names."""
    script = re.sub(r"^ *#.*$", "", (ROOT / "tools/install").read_text(), flags=re.MULTILINE)
    words = set(re.findall(r"\w[\w.-]*(?:/[\w.-]+)*", script))
    needed = {word for word in words if (ROOT / word).exists()} - {"build"}
    assert {"setup.py", "etc/backoffice.ini", "requirements/build.txt"} <= needed
    assert [name for name in needed if ignored(name)] == []
    assert not ignored("docs/api.md")
    assert ignored(".git/config")
    assert ignored("tests/conftest.py")


def test_the_image_runs_as_nobody_special_and_ends_with_the_program() -> None:
    final = CONTAINERFILE[CONTAINERFILE.rindex("\nFROM ") :]
    assert "\nUSER 10001:10001\n" in final
    assert "gcc" not in final
    assert "HEALTHCHECK" in final
    assert final.rstrip().endswith('CMD ["serve"]')


# The compose file


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The settings that the image has."""
    path = tmp_path / "backoffice.ini"
    path.write_text(run("sed", "-f", "package/backoffice.ini.sed", "etc/backoffice.ini"))
    path.chmod(0o640)
    return path


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    folder = tmp_path / "secrets"
    folder.mkdir()
    for name, text in (("uri", "mysql://backoffice:x@database/backoffice\n"), ("forms", "y\n")):
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    return folder


def image_environment() -> dict[str, str]:
    (block,) = re.findall(r"^ENV ((?:.*\\\n)*.*)$", CONTAINERFILE, re.MULTILINE)
    return dict(pair.split("=", 1) for pair in block.replace("\\\n", " ").split())


def environment(service: str, secrets: Path) -> dict[str, str]:
    given = image_environment() | SERVICES[service]["environment"]
    plain = {name: re.sub(r"\$\{\w+:-(.*?)\}", r"\1", text) for name, text in given.items()}
    return {name: text.replace("/run/secrets", str(secrets)) for name, text in plain.items()}


@pytest.mark.parametrize("service", OURS)
def test_every_service_has_settings_that_are_right(
    service: str, installed: Path, secrets: Path
) -> None:
    settings = loading.load(str(installed), environment(service, secrets))
    assert settings.database.uri == "mysql://backoffice:x@database/backoffice"
    assert settings.auth.secret == "y"
    assert settings.auth.required
    assert settings.auth.role_of("admin") == "admin"
    assert settings.paths.roots == (Path("/srv/media"),)
    assert settings.web.listen == Path("/run/backoffice/web.sock")
    assert settings.log.to == "stdout"


def test_what_is_written_is_on_a_volume_or_in_memory(installed: Path, secrets: Path) -> None:
    for service in OURS:
        settings = loading.load(str(installed), environment(service, secrets))
        one = SERVICES[service]
        assert one["read_only"]
        places = [place.split(":")[1] for place in one["volumes"]]
        places += [place.split(":")[0] for place in one["tmpfs"]]
        assert len(places) == len(set(places)), f"{service}: two mounts at one place"
        paths = settings.paths
        target = settings.targets["site"].path
        for path in (paths.work, paths.logs, paths.run, target, Path("/tmp/x")):
            assert any((path or Path()).is_relative_to(place) for place in places), path


def test_the_socket_and_what_is_published_are_where_apache_looks() -> None:
    volumes = [place.split(":") for place in SERVICES["apache"]["volumes"]]
    assert ["run", "/run/backoffice", "ro"] in volumes
    assert ["publish", "/var/lib/backoffice/publish", "ro"] in volumes
    assert "run:/run/backoffice" in SERVICES["web"]["volumes"]


def test_two_workers_and_the_order_in_which_all_begin() -> None:
    assert SERVICES["worker"]["deploy"]["replicas"] == 2
    for name in ("web", "scheduler", "worker"):
        after = SERVICES[name]["depends_on"]
        assert after["migrate"]["condition"] == "service_completed_successfully"
        assert after["database"]["condition"] == "service_healthy"
    assert SERVICES["migrate"]["restart"] == "no"


def test_nothing_is_used_that_is_not_declared() -> None:
    whole = yaml.safe_load(COMPOSE)
    for name, one in SERVICES.items():
        assert set(one.get("secrets", ())) <= set(whole["secrets"]), name
        assert set(one["networks"]) <= set(whole["networks"]), name
        named = {place.split(":")[0] for place in one["volumes"] if place[0] not in "./$"}
        assert named <= set(whole["volumes"]), name
        assert set(one.get("depends_on", ())) <= set(SERVICES), name


def test_the_head_tells_how_each_secret_is_made() -> None:
    head = COMPOSE[: COMPOSE.index("\nname:")]
    for name, one in yaml.safe_load(COMPOSE)["secrets"].items():
        assert one["file"] == f"./secrets/{name}"
        assert re.search(rf"(?:>|-cB |-keyout |-out ){name}\b", head), name


# Apache


def test_apache_takes_its_configuration(tmp_path: Path) -> None:
    """With Debian's modules, where the image has its own."""
    for name in ("conf", "logs", "secrets"):
        (tmp_path / name).mkdir()
    (tmp_path / "modules").symlink_to("/usr/lib/apache2/modules")
    (tmp_path / "conf/mime.types").write_text("video/mp4 mp4\n")
    shutil.copy(ROOT / "etc/apache2/backoffice.conf", tmp_path / "conf")
    conf = (ROOT / "etc/container/httpd.conf").read_text()
    (tmp_path / "httpd.conf").write_text(conf.replace("/run/secrets", str(tmp_path / "secrets")))
    (tmp_path / "secrets/users").write_text("")
    run(
        *"openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost".split(),
        "-keyout",
        tmp_path / "secrets/key",
        "-out",
        tmp_path / "secrets/certificate",
    )
    command = [_program("apache2"), "-t", "-d", str(tmp_path), "-f", str(tmp_path / "httpd.conf")]
    done = subprocess.run(
        command, env={"SITE_HOST": "localhost"}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.strip()) == (0, "Syntax OK")


# The health check


class _Answers(BaseHTTPRequestHandler):
    status, said = 200, b"ok"

    def do_GET(self) -> None:
        ready = self.path == "/health/ready" and self.headers["Host"] == "localhost"
        self.send_response(self.status if ready else 404)
        self.send_header("Content-Length", str(len(self.said)))
        self.end_headers()
        self.wfile.write(self.said)

    def address_string(self) -> str:
        return "a socket"

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def server(path: Path | None, status: int, said: bytes) -> Iterator[str]:
    """A web server that is ready, or says why it is not; its [web] listen."""
    handler = type("Handler", (_Answers,), {"status": status, "said": said})
    kind: Any = socketserver.UnixStreamServer if path else socketserver.TCPServer
    with kind(str(path) if path else ("127.0.0.1", 0), handler) as one:
        thread = threading.Thread(target=one.serve_forever, args=(0.01,))
        thread.start()
        yield f"unix:{path}" if path else f"127.0.0.1:{one.server_address[1]}"
        one.shutdown()
        thread.join()


def healthy(listen: str) -> subprocess.CompletedProcess[str]:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("BACKOFFICE_")}
    return subprocess.run(
        [sys.executable, str(ROOT / "etc/container/health.py")],
        env=environ | {"BACKOFFICE_WEB_LISTEN": listen, "PYTHONPATH": str(ROOT)},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("unix", [True, False])
def test_a_container_is_healthy_when_its_web_server_is_ready(unix: bool, tmp_path: Path) -> None:
    path = tmp_path / "sock" if unix else None
    with server(path, 200, b"ok") as listen:
        assert healthy(listen).returncode == 0


def test_one_that_is_not_ready_says_why(tmp_path: Path) -> None:
    with server(tmp_path / "sock", 503, b"the database is away") as listen:
        done = healthy(listen)
    assert (done.returncode, done.stderr.strip()) == (1, "the database is away")


def test_one_without_a_web_server_says_so(tmp_path: Path) -> None:
    done = healthy(f"unix:{tmp_path}/none")
    assert done.returncode == 1
    assert done.stderr.startswith(f"no answer from {tmp_path}/none")
