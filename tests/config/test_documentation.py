"""The settings file and the manual page follow from the declarations."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from backoffice.config import documentation, loading
from backoffice.config.resources import share
from backoffice.config.setting import Setting, settings_of
from backoffice.config.settings import NAMED, SECTIONS

ROOT = Path(__file__).resolve().parents[2]
CLASSES = [*SECTIONS.values(), *(cls for cls, _ in NAMED.values())]
SETTINGS = [setting for cls in CLASSES for setting in settings_of(cls).values()]


def test_the_shipped_file_is_written_from_the_declarations() -> None:
    assert (share("etc") / "backoffice.ini").read_text() == documentation.ini(), (
        "type: make settings"
    )


def test_the_manual_page_is_written_from_the_declarations() -> None:
    written = (ROOT / "docs" / "backoffice.ini.5").read_text()
    assert written == documentation.manual(), "type: make settings"


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_the_manual_page_has_no_faults() -> None:
    argv = ("groff", "-man", "-Tutf8", "-ww", str(ROOT / "docs" / "backoffice.ini.5"))
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "mysql-replicated://" in done.stdout


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.key)
def test_every_setting_has_help_and_a_default_that_converts(setting: Setting) -> None:
    assert setting.help.strip()
    shown = setting.default if setting.example is None else setting.example
    assert shown is not None
    setting.convert(shown)


def test_no_setting_is_read_but_the_declared_ones() -> None:
    assert loading.load(str(share("etc") / "backoffice.ini"), {}).worker.slots == 2
