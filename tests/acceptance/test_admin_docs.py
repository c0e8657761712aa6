"""The admin's pages in docs/ are true: what they tell root to type is typed, in order, on a
machine with the package of this checkout, a MariaDB and an Apache.

Their blocks are ``sh``, run by bash, where no command may fail; ``sql``, for the server;
``ini``, lines of the file that is named in the first; and ``text``, which is only shown,
because it needs a network, systemd or a container engine.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from backoffice.config import loading
from tests.acceptance.apache import main_configuration
from tests.acceptance.conftest import MachineFactory
from tests.acceptance.package import fresh, newer
from tests.acceptance.proc import wait_for
from tests.machine import CHECKOUT, Machine

pytestmark = pytest.mark.timeout(400)  # the package may have to be built

DOCS = CHECKOUT / "docs"
FIRST = "install"  # what it sets up the other pages work on
OTHERS = ("tune", "secure", "troubleshoot")
LONG = ("operate", "upgrade")
KINDS = ("sh", "sql", "ini", "text")
SOURCE = "/usr/src/backoffice"
CLIP = "/srv/media/in/ep1.mp4"
PLACE = "/tmp/place"  # says which block is being run


@dataclass(frozen=True)
class Block:
    kind: str
    place: str
    text: str


def blocks(page: str) -> list[Block]:
    text = (DOCS / f"{page}.md").read_text()
    found = re.finditer(r"(?ms)^```(\w*)\n(.*?)^```$", text)
    return [
        Block(one[1], f"docs/{page}.md:{text.count(chr(10), 0, one.start(2)) + 1}", one[2])
        for one in found
    ]


BLOCKS = {page: blocks(page) for page in (FIRST, *OTHERS, *LONG)}
ALL = [block for page in BLOCKS.values() for block in page]


# Anywhere ---------------------------------------------------------------------


def test_blocks_are_of_kinds_that_are_looked_at() -> None:
    assert {block.kind for block in ALL} <= set(KINDS)
    shown = [block for block in ALL if block.kind == "text"]
    assert len(shown) * 4 < len(ALL)


def test_what_is_only_shown_is_shell_too() -> None:
    for block in ALL:
        if block.kind in ("sh", "text"):
            script = ["bash", "-n", "-c", block.text]
            done = subprocess.run(script, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{block.place}: {done.stderr}"


@pytest.mark.parametrize("block", [b for b in ALL if b.kind == "ini"], ids=lambda b: b.place)
def test_settings_are_accepted_as_they_stand(block: Block, tmp_path: Path) -> None:
    assert re.match(r"# /etc/backoffice/\S+\.ini\n", block.text), f"{block.place} names no file"
    path = tmp_path / "backoffice.ini"
    path.write_text(block.text)
    path.chmod(0o600)
    loading.load(str(path), {})


@pytest.mark.parametrize("page", [CHECKOUT / "README.md", *sorted(DOCS.glob("*.md"))], ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", page.read_text()):
        assert (page.parent / link).exists(), link


def test_every_page_is_in_the_index() -> None:
    index = (DOCS / "README.md").read_text()
    for page in DOCS.glob("*.md"):
        assert page.name == "README.md" or f"]({page.name})" in index


# On a machine -----------------------------------------------------------------

_SET = r"""
import configparser, os, sys

os.umask(0o027)
lines = sys.stdin.read()
path = lines.split()[1]
known = configparser.ConfigParser(interpolation=None)
known.read(path)
known.read_string(lines)
with open(path, "w") as stream:
    known.write(stream)
"""
_MAIL = """
from tests.receivers import Post
Post(port=25).serve_forever()
"""
# As new, whatever this host's own one holds.
_MARIADB = """
rm -rf /var/lib/mysql && install -d -o mysql -g mysql /var/lib/mysql &&
mariadb-install-db --user=mysql --skip-test-db --auth-root-authentication-method=socket &&
service mariadb start
"""
_PRELUDE = """
set -e
cd /root
make() { test "$*" = deb; } # as the fixture did it: with a network
"""
_APACHE = """User www-data
Group www-data
IncludeOptional /etc/apache2/mods-enabled/*.load
IncludeOptional /etc/apache2/sites-enabled/*.conf
"""
# What Debian's package does around the server; that of the tests is the server alone.
_DEBIAN = {
    "/usr/sbin/a2enmod": r"""#!/bin/sh
set -e
for name in "$@"; do
    echo "LoadModule ${name}_module /usr/lib/apache2/modules/mod_$name.so" \
        >"/etc/apache2/mods-enabled/$name.load"
done
""",
    "/usr/sbin/a2ensite": r"""#!/bin/sh
exec ln -s "../sites-available/$1.conf" "/etc/apache2/sites-enabled/$1.conf"
""",
    "/usr/sbin/apachectl": r"""#!/bin/sh
export APACHE_LOG_DIR=/var/log/apache2
case "$1" in
    configtest) exec apache2 -t ;;
    *) exec apache2 -k "$1" ;;
esac
""",
    "/etc/init.d/apache2": r"""#!/bin/sh
case "$1" in
    reload) exec apachectl graceful ;;
    *) exec apachectl "$1" ;;
esac
""",
}


def prepare(machine: Machine, package: Path, folder: Path) -> None:
    """What the pages count on: source, media, other versions, servers."""
    machine.write("/etc/apt/apt.conf.d/99network", 'APT::Install-Recommends "false";\n')
    machine.run("sh", "-c", f"({_MARIADB}) </dev/null >/dev/null 2>&1 &")
    source = ("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25:duration=1")
    machine.run("mkdir", "-p", f"{SOURCE}/dist", Path(CLIP).parent)
    machine.run("ffmpeg", "-loglevel", "error", *source, "-pix_fmt", "yuv420p", CLIP)
    shutil.copy(package, machine.root / SOURCE[1:] / "dist")
    shutil.copy(package, machine.root / "root/old.deb")
    shutil.copy(newer(package, folder), machine.root / "root/new.deb")
    machine.write("/tmp/set.py", _SET)
    add_apache(machine)
    add_mail(machine)
    wait_for(lambda: machine.run("mariadb-admin", "ping", check=False).returncode == 0, "MariaDB")


def add_apache(machine: Machine) -> None:
    for path, script in _DEBIAN.items():
        machine.write(path, script, 0o755)
    enabled = ("/etc/apache2/mods-enabled", "/etc/apache2/sites-enabled")
    machine.run("mkdir", "-p", "/run/apache2", "/var/log/apache2", *enabled)
    text = main_configuration(Path("/run/apache2"), 80, 443, _APACHE, [])
    machine.write("/etc/apache2/apache2.conf", text)


def add_mail(machine: Machine) -> None:
    machine.write("/tmp/mail.py", _MAIL)
    command = f"PYTHONPATH={CHECKOUT} {sys.executable} -P /tmp/mail.py"
    machine.run("sh", "-c", f"{command} </dev/null >/dev/null 2>&1 &")


def script_of(page: str) -> str:
    """All that is to be typed, by one shell."""
    parts = [_PRELUDE]
    for block in BLOCKS[page]:
        match block.kind:
            case "sh":
                todo = block.text
            case "sql":
                todo = f"mariadb <<'END OF BLOCK'\n{block.text}END OF BLOCK\n"
            case "ini":
                todo = f"python3 /tmp/set.py <<'END OF BLOCK'\n{block.text}END OF BLOCK\n"
            case _:
                continue
        parts.append(f"echo {block.place} >{PLACE}\n{todo}")
    return "".join(parts)


def follow(machine: Machine, page: str) -> None:
    machine.write("/tmp/page", script_of(page))
    environ = {"HOME": "/root", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    typed = ("bash", "-x", "/tmp/page")
    done = machine.run(*typed, env=environ, check=False, timeout=200)
    told = f"{done.stdout}\n{done.stderr}"[-4000:]
    assert done.returncode == 0, f"in the block at {machine.read(PLACE).strip()}:\n{told}"
    assert "Traceback" not in done.stdout + done.stderr
    for path in (machine.root / "etc/backoffice").glob("*.ini"):
        loading.load(str(path), {})


@pytest.fixture(scope="module")
def installed(
    package: Path, machine_factory: MachineFactory, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    """As the first page leaves it."""
    machine = fresh(machine_factory())
    prepare(machine, package, tmp_path_factory.mktemp("docs"))
    follow(machine, FIRST)
    yield machine
    machine.end()


def test_the_pages_come_with_the_package(installed: Machine) -> None:
    there = installed.run("ls", "/usr/share/doc/backoffice/docs").stdout.split()
    assert set(there) == {page.name for page in DOCS.glob("*.md")}


@pytest.mark.parametrize(
    "page", [*OTHERS, *(pytest.param(page, marks=pytest.mark.slow) for page in LONG)]
)
def test_every_command_of_the_page_works(installed: Machine, page: str) -> None:
    follow(installed, page)
    assert installed.run("/etc/init.d/backoffice", "status", check=False).returncode == 0
