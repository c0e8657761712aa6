"""README is true: a newcomer types its blocks in order, from a home folder that is empty."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.acceptance.servers import free_port

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
# The libraries are lent to the environment that README makes: what is tested is README.
VENV = """#!/bin/sh
"{python}" "$@" || exit
[ "$1 $2" = "-m venv" ] || exit 0
for site in "$3"/lib/python*/site-packages; do
    rm -rf "$site"/setuptools*
    echo "{libraries}" >"$site/lent.pth"
done
"""


def script(readme: str) -> str:
    """The blocks of a shell and of Python, as one script."""
    parts = []
    for language, text in re.findall(r"(?ms)^```(sh|python)\n(.*?)^```$", readme):
        run = text if language == "sh" else f"python - <<'PYTHON'\n{text}PYTHON\n"
        parts.append(f"echo '=== block {len(parts) + 1}'\n{run}")
    return "\n".join(parts)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of the checkout: pip writes into the tree that it builds."""
    copy = tmp_path / "checkout"
    unwanted = shutil.ignore_patterns(".*", "var", "build", "dist", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, copy, ignore=unwanted)
    return copy


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    folder = tmp_path / "programs"
    folder.mkdir()
    shim = folder / "python3"
    libraries = sysconfig.get_path("purelib")
    shim.write_text(VENV.format(python=sys.executable, libraries=libraries))
    shim.chmod(0o755)
    return folder


@pytest.mark.timeout(600)
def test_every_block_works_in_order(source: Path, programs: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    port = free_port()
    text = script(README.read_text()).replace("127.0.0.1:8080", f"127.0.0.1:{port}")
    stop = "trap 'kill %1; wait' EXIT\n"
    done = subprocess.run(
        ["bash", "-ce", f"set -m; {stop}{text}"],
        cwd=source,
        env={
            "HOME": str(home),
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PIP_NO_INDEX": "1",
            "PIP_NO_BUILD_ISOLATION": "false",  # that is how pip reads it: without isolation
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "BACKOFFICE_WEB_LISTEN": f"127.0.0.1:{port}",
            "no_proxy": "*",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "FAIL" not in done.stdout, done.stdout
    assert (home / "first/var/publish").is_dir()


def test_no_block_is_left_out_by_a_mistake() -> None:
    languages = re.findall(r"(?m)^```([a-z]+)$", README.read_text())
    assert set(languages) <= {"sh", "python", "text", "ini"}
    assert languages.count("sh") >= 6
