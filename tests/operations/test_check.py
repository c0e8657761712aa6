from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backoffice.config.settings import Schedule, Settings
from backoffice.data import migrations
from backoffice.data.database import Database
from backoffice.media import ffmpeg
from backoffice.operations import check
from backoffice.operations.check import Finding
from backoffice.system import logs


@pytest.fixture
def ready(settings: Settings, tmp_path: Path) -> Settings:
    """Settings with everything there."""
    (tmp_path / "var/publish").mkdir(parents=True)
    database = Database(settings.database)
    migrations.migrate(database)
    database.close()
    return settings


def found(settings: Settings) -> Mapping[str, Finding]:
    return {line.what: line for line in check.run(settings)}


def faults(settings: Settings) -> dict[str, str]:
    return {line.what: line.text for line in check.run(settings) if not line.ok}


def test_all_is_well_when_all_is_there(ready: Settings) -> None:
    assert faults(ready) == {}
    lines = found(ready)
    assert lines["schema"].text == "version 1"
    assert "libx264" in lines["encoders"].text
    assert "free" in lines["[paths] work"].text


def test_it_makes_no_folders(ready: Settings) -> None:
    check.run(ready)
    assert not ready.paths.work.exists()


def test_a_schema_that_is_missing_names_the_command(settings: Settings) -> None:
    assert "run 'backoffice migrate'" in faults(settings)["schema"]


def test_a_database_that_is_away_is_reported_with_the_rest(ready: Settings) -> None:
    uri = "mysql://nobody:secret@localhost/none?unix_socket=/nowhere/socket"
    wrong = replace(ready, database=replace(ready.database, uri=uri, timeout=0.5))
    wrong_lines = faults(wrong)
    assert set(wrong_lines) == {"database"}
    assert "secret" not in wrong_lines["database"]


def test_folders_that_are_missing_or_in_the_way_are_named(ready: Settings, tmp_path: Path) -> None:
    (tmp_path / "media").rmdir()
    ready.paths.work.parent.mkdir(exist_ok=True)
    ready.paths.work.write_text("in the way")
    elsewhere = replace(ready.targets["site"], path=Path("/nowhere/site"))
    wrong = faults(replace(ready, targets={"site": elsewhere}))
    assert set(wrong) == {"[paths] roots", "[paths] work", "target site"}
    assert "make it" in wrong["target site"]
    assert "is no folder" in wrong["[paths] work"]


def test_a_target_beneath_our_home_may_be_missing_for_a_worker_makes_it(
    ready: Settings, tmp_path: Path
) -> None:
    (tmp_path / "var/publish").rmdir()
    assert not faults(ready)


def test_a_disk_that_is_nearly_full_is_named(
    ready: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "LEAST_FREE", 1 << 62)
    assert faults(ready)["[paths] work"].endswith("free: make room")


def test_tools_that_are_missing_are_named(ready: Settings) -> None:
    tools = replace(ready.tools, ffmpeg="/nowhere/ffmpeg", ffprobe="/bin/true")
    wrong = faults(replace(ready, tools=tools))
    assert set(wrong) == {"encoders", "filters", "ffmpeg", "ffprobe"}


def test_a_filter_that_is_not_there_is_named(
    ready: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = ffmpeg.filters(ready.tools.ffmpeg)
    monkeypatch.setattr(ffmpeg, "filters", lambda *_: there - {"zscale"})
    assert "lacks zscale" in faults(ready)["filters"]


def test_an_encoder_that_profiles_want_is_named_with_them(
    ready: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = ffmpeg.encoders(ready.tools.ffmpeg)
    monkeypatch.setattr(ffmpeg, "encoders", lambda *_: there - {"libx264"})
    assert "lacks libx264 (for " in faults(ready)["encoders"]


def test_a_broken_recipe_is_named_with_its_line(ready: Settings, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own/bad.xml").write_text("<workflow/>")
    paths = replace(ready.paths, workflows=(*ready.paths.workflows, tmp_path / "own"))
    assert "bad.xml:1" in faults(replace(ready, paths=paths))["recipes"]


def test_a_schedule_of_an_unknown_workflow_is_named(ready: Settings) -> None:
    schedule = Schedule("nightly", "0 0 * * *", "gone", (), 50, {})
    wrong = faults(replace(ready, schedules={"nightly": schedule}))
    assert "no workflow 'gone'" in wrong["schedule nightly"]


def test_a_log_that_cannot_be_written_is_named(
    ready: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "SYSLOG", str(tmp_path / "no"))
    monkeypatch.setattr(check, "find_spec", lambda name: None)
    log = replace(ready.log, to="syslog", sentry="https://hush@sentry.example.org/1")
    told = faults(replace(ready, log=log))
    assert told["[log] to"].startswith(f"there is no {tmp_path}/no: start a syslog")
    assert "pip install" in told["[log] sentry"]
    (tmp_path / "file").touch()
    log = replace(ready.log, to="files", folder=tmp_path / "file/folder")
    assert "is no folder" in faults(replace(ready, log=log))["[log] folder"]


@pytest.mark.parametrize(
    ("changes", "believed"),
    [
        ({}, "no peer"),
        ({"listen": Path("/run/socket")}, "each process that can open the socket"),
        ({"listen": Path("/run/socket"), "proxies": ("10.0.0.1",)}, "no peer"),
        ({"proxies": ("unix", "10.0.0.1")}, "peers at 10.0.0.1"),
        ({"proxies": ("127.0.0.0/8",)}, "which is every process of this host"),
        ({"proxies": ("::1",)}, "which is every process of this host"),
    ],
)
def test_it_says_which_hosts_are_served_and_which_peers_are_believed(
    ready: Settings, changes: dict[str, Any], believed: str
) -> None:
    web = replace(ready.web, url="https://media.example.org/x", **changes)
    lines = found(replace(ready, web=web))
    names = "localhost, 127.0.0.1, [::1], media.example.org"
    assert lines["[web] hosts"].text == f"requests may ask for {names}"
    assert believed in lines["[web] proxies"].text
