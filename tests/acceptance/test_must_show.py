"""The whole, as an admin has it: the package on a machine that never saw it, the init
script, Apache with TLS and a user, every part killed, and at the end nothing left."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.apache import main_configuration, needed
from tests.acceptance.conftest import MachineFactory
from tests.acceptance.package import fresh, install, leftovers
from tests.acceptance.proc import wait_for
from tests.machine import Machine

pytestmark = pytest.mark.timeout(400)  # the package may have to be built

HOST = "backoffice.example.org"  # as the shipped configuration has it
CERTIFICATE = f"/etc/letsencrypt/live/{HOST}"
DEFAULTS = "/etc/default/backoffice"
CLIP = "/var/lib/backoffice/media/clip.mp4"
SETTINGS = f"""
BACKOFFICE_WEB_URL=https://{HOST}
BACKOFFICE_AUTH_OPERATORS=alice
BACKOFFICE_TARGET_SITE_URL=https://{HOST}/published
BACKOFFICE_WORKER_LEASE=4s
BACKOFFICE_WORKER_HEARTBEAT=1s
"""
JOB = f"""<job xmlns="urn:backoffice:1" workflow="transcode">
  <input role="source" href="file://{CLIP}"/>
  <parameter name="profile">mp4-360</parameter><parameter name="target">site</parameter>
</job>"""


class Admin:
    """Who works on the machine, and the user's browser."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def init(self, action: str) -> int:
        return self.machine.run("/etc/init.d/backoffice", action, check=False).returncode

    def start_apache(self) -> None:
        """Debian's, with the packaged site, enabled and otherwise as it is."""
        run = self.machine.run
        run("mkdir", "-p", CERTIFICATE, "/etc/apache2")
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc")
        name = ("-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}")
        files = ("-keyout", f"{CERTIFICATE}/privkey.pem", "-out", f"{CERTIFICATE}/fullchain.pem")
        run("openssl", "req", "-x509", "-days", "2", *key, *name, *files)
        password = run("openssl", "passwd", "-apr1", "secret").stdout
        self.machine.write("/etc/apache2/backoffice.users", f"alice:{password}")
        site = "Include /etc/apache2/sites-available/backoffice.conf"
        names = "User www-data\nGroup www-data\n"
        text = main_configuration(Path("/tmp"), 80, 443, names + site, needed("backoffice.conf"))
        self.machine.write("/tmp/apache2.conf", text)
        run("apache2", "-f", "/tmp/apache2.conf", env={"APACHE_LOG_DIR": "/tmp"})

    def curl(self, path: str, *options: str, check: bool = True) -> str:
        """What alice gets; with ``check`` it must not be an error."""
        return self.machine.run(
            *"curl --silent --show-error --fail --user alice:secret".split(),
            "--cacert",
            f"{CERTIFICATE}/fullchain.pem",
            "--resolve",
            f"{HOST}:443:127.0.0.1",
            *options,
            f"https://{HOST}{path}",
            check=check,
        ).stdout

    def submit(self) -> str:
        """The path of a new job."""
        self.machine.write("/tmp/job.xml", JOB)
        head = ("--dump-header", "-", "--output", "/dev/null")
        kind = ("-H", "Content-Type: application/xml", "--data-binary", "@/tmp/job.xml")
        said = self.curl("/jobs", *head, *kind)
        found = re.search(rf"(?mi)^Location: (?:https://{HOST})?(/jobs/\d+)", said)
        assert found, said
        return found[1]

    def state(self, job: str) -> str:
        """Empty while the web server is being started anew."""
        found: str = json.loads(self.curl(f"{job}.json", check=False) or '{"state": ""}')["state"]
        return found

    def parts(self) -> dict[str, int]:
        """Its child processes: what each is, and its PID."""
        main = self.machine.read("/run/backoffice/backoffice.pid").split()[0]
        said = self.machine.run("ps", "-o", "pid=,args=", "--ppid", main).stdout
        rows = (line.split() for line in said.splitlines())
        return {row[-1]: int(row[0]) for row in rows}


@pytest.fixture
def admin(machine_factory: MachineFactory) -> Iterator[Admin]:
    machine = fresh(machine_factory())
    yield Admin(machine)
    machine.end()


def test_it_installs_runs_survives_and_leaves_nothing(admin: Admin, package: Path) -> None:
    run = admin.machine.run
    before = admin.machine.written()
    install(admin.machine, package)
    admin.init("stop")
    admin.machine.write(DEFAULTS, SETTINGS)
    assert admin.init("start") == 0
    admin.start_apache()
    assert "<h1" in admin.curl("/", "-H", "Accept: text/html")
    assert admin.curl("/static/app.css")

    source = ("-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25:duration=6")
    run("runuser", "-u", "backoffice", "--", "ffmpeg", "-loglevel", "error", *source, CLIP)
    assert sorted(admin.parts()) == ["scheduler", "web", "worker"]
    for part, pid in admin.parts().items():
        job = admin.submit()
        wait_for(lambda job=job: admin.state(job) == "running", f"{job} runs")
        run("kill", "-KILL", str(pid))
        wait_for(lambda part=part, pid=pid: admin.parts().get(part, pid) != pid, f"a new {part}")
        wait_for(lambda job=job: admin.state(job) == "succeeded", f"{job} without {part}", 60)

    publications = json.loads(admin.curl("/publications.json"))["publications"]
    assert len(publications) == 3
    for publication in publications:
        path = publication["href"].removeprefix(f"https://{HOST}")
        assert "Content-Type: video/mp4" in admin.curl(path, "--head")
    assert admin.init("stop") == 0
    run("pkill", "apache2")
    run("apt-get", "purge", "-y", "backoffice", timeout=120)
    assert run("pgrep", "--list-full", "backoffice|ffmpeg", check=False).stdout == ""
    admins = ("/etc/apache2", "/etc/letsencrypt")
    assert [p for p in leftovers(admin.machine, before) if not p.startswith(admins)] == []
