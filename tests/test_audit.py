"""The look for known vulnerabilities tells three things apart: none, some, not looked."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OFFLINE = (
    'echo "Traceback: vulnerability service" >&2; echo "ConnectionError: no route" >&2; exit 1'
)

Audit = Callable[[str, str], "subprocess.CompletedProcess[str]"]


@pytest.fixture
def audit(tmp_path: Path) -> Audit:
    """Runs it with scripts in the place of pip-audit and npm: nothing is asked."""

    def call(pip_audit: str, npm: str) -> subprocess.CompletedProcess[str]:
        for name, script in (("pip-audit", pip_audit), ("npm", npm)):
            path = tmp_path / name
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)
        environ = {
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "PIP_AUDIT": str(tmp_path / "pip-audit"),
        }
        command = [str(ROOT / "tools/audit")]
        return subprocess.run(
            command, env=environ, capture_output=True, text=True, timeout=60, check=False
        )

    return call


def test_all_that_is_passed_on_is_looked_at(audit: Audit, tmp_path: Path) -> None:
    done = audit(f'echo "$@" >>{tmp_path}/asked', f'cp "$2/package.json" {tmp_path}/asked.json')
    assert done.returncode == 0, done.stderr
    asked = (tmp_path / "asked").read_text()
    for name in ("runtime", "mysql", "sentry"):
        assert f"--require-hashes -r requirements/{name}.txt" in asked
    assert json.loads((tmp_path / "asked.json").read_text()) == {
        "dependencies": {"hls.js": "1.7.4", "uplot": "1.6.32"}
    }


def test_what_is_found_is_told(audit: Audit) -> None:
    done = audit('echo "Found 2 known vulnerabilities in 1 package"; exit 1', OFFLINE)
    assert done.returncode == 1
    assert "requirements/runtime.txt: Found 2 known vulnerabilities" in done.stdout


def test_what_npm_finds_is_told(audit: Audit) -> None:
    done = audit("", 'echo "1 high severity vulnerability"; exit 1')
    assert done.returncode == 1
    assert "static/vendor: 1 high severity vulnerability" in done.stdout


def test_without_the_network_nothing_is_taken_for_sound(audit: Audit) -> None:
    done = audit(OFFLINE, OFFLINE)
    assert done.returncode == 2
    assert "none known" not in done.stdout
    assert "not looked at: requirements/runtime.txt: ConnectionError: no route" in done.stderr
