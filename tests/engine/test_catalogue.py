from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from backoffice.config import loading
from backoffice.config.settings import Settings
from backoffice.engine import catalogue
from backoffice.errors import DefinitionError

WORKFLOW = """<workflow xmlns="urn:backoffice:1" name="own" version="1">
  <title>Own</title>
  <input role="source"/>
  <task name="do" type="command">
    <input role="source"/>
    <parameter name="command">stamp</parameter>
  </task>
</workflow>
"""


def settings(folder: Path, environ: Mapping[str, str]) -> Settings:
    return loading.load(None, {"BACKOFFICE_PATHS_HOME": str(folder), **environ})


def test_what_is_shipped_loads(tmp_path: Path) -> None:
    found = catalogue.load(settings(tmp_path, {}))
    assert {"web-video", "transcode", "audio", "proxy", "publish-only"} <= found.workflows.keys()
    assert {"mp4-720", "hls-ladder", "audio-aac"} <= found.profiles.keys()


def test_a_workflow_may_use_a_command_of_the_settings(tmp_path: Path) -> None:
    (tmp_path / "own.xml").write_text(WORKFLOW)
    environ = {
        "BACKOFFICE_PATHS_WORKFLOWS": str(tmp_path),
        "BACKOFFICE_COMMAND_STAMP_ARGV": "/bin/true {input}",
    }
    assert "own" in catalogue.load(settings(tmp_path, environ)).workflows


def test_a_workflow_that_names_what_is_not_there_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "own.xml").write_text(WORKFLOW)
    with pytest.raises(DefinitionError, match=r"own\.xml:6: there is no command 'stamp'"):
        catalogue.load(settings(tmp_path, {"BACKOFFICE_PATHS_WORKFLOWS": str(tmp_path)}))


def test_a_broken_profile_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.xml").write_text("<profile xmlns='urn:backoffice:1' name='bad'>\n</profle>")
    with pytest.raises(DefinitionError, match=r"bad\.xml:2: "):
        catalogue.load(settings(tmp_path, {"BACKOFFICE_PATHS_PROFILES": str(tmp_path)}))
