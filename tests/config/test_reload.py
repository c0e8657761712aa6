"""Settings read anew: what changes, what waits for a restart, what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from backoffice.config import loading, reloading
from backoffice.config.settings import Settings
from backoffice.errors import ConfigError

FIRST = """
[paths]
home = {home}
roots = media
[worker]
slots = 2
[web]
threads = 4
[target site]
path = site
"""


@pytest.fixture
def ini(tmp_path: Path) -> Path:
    path = tmp_path / "backoffice.ini"
    path.write_text(FIRST.format(home=tmp_path))
    return path


@pytest.fixture
def first(ini: Path) -> Settings:
    return loading.load(str(ini), {})


def change(ini: Path, *pairs: tuple[str, str]) -> None:
    text = ini.read_text()
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    ini.write_text(text)


def test_what_was_not_changed_is_the_same(first: Settings) -> None:
    assert reloading.reload(first, {}) == (first, [])


def test_new_values_are_taken(ini: Path, first: Settings) -> None:
    change(ini, ("slots = 2", "slots = 7"), ("path = site", "path = other"))
    new, waiting = reloading.reload(first, {})
    assert (new.worker.slots, waiting) == (7, [])
    assert new.targets["site"].path == ini.parent / "other"


def test_the_environment_wins_again(ini: Path, first: Settings) -> None:
    change(ini, ("slots = 2", "slots = 7"))
    assert reloading.reload(first, {"BACKOFFICE_WORKER_SLOTS": "9"})[0].worker.slots == 9


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("[database] uri", "[database]\nuri = sqlite:other\n"),
        ("[paths] work", "[paths]\nwork = other\n"),
        ("[service] parts", "[service]\nparts = web\n"),
        ("[web] listen", "[web]\nlisten = 127.0.0.1:1\n"),
        ("[web] threads", "[web]\nthreads = 3\n"),
    ],
)
def test_what_a_restart_changes_stays_and_is_named(tmp_path: Path, name: str, text: str) -> None:
    ini = tmp_path / "backoffice.ini"
    home = f"[paths]\nhome = {tmp_path}\n"
    ini.write_text(home)
    first = loading.load(str(ini), {})
    ini.write_text(home + text if "paths" not in text else text.replace("[paths]\n", home))
    new, waiting = reloading.reload(first, {})
    assert waiting == [name]
    assert new == first


def test_another_home_moves_nothing_before_a_restart(ini: Path, first: Settings) -> None:
    change(ini, (f"home = {ini.parent}", "home = /elsewhere"), ("slots = 2", "slots = 7"))
    new, waiting = reloading.reload(first, {})
    assert "[paths] home" in waiting
    assert new.targets == first.targets
    assert (new.paths, new.worker.slots) == (first.paths, 7)


def test_wrong_settings_are_refused(ini: Path, first: Settings) -> None:
    change(ini, ("slots = 2", "slots = none"))
    with pytest.raises(ConfigError, match=re.escape("[worker] slots")):
        reloading.reload(first, {})


def test_a_file_that_is_gone_is_refused(ini: Path, first: Settings) -> None:
    ini.unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        reloading.reload(first, {})


def test_what_only_fits_after_a_restart_is_refused(ini: Path, first: Settings) -> None:
    change(ini, ("roots = media", "roots = media:more"))
    with open(ini, "a") as stream:
        stream.write("[watch in]\nfolder = more/in\nworkflow = web-video\n")
    with pytest.raises(ConfigError, match=r"needs \[paths\] roots as written now"):
        reloading.reload(first, {})


def test_every_section_that_waits_for_a_restart_is_one(first: Settings) -> None:
    for title, key in reloading._restarted():
        assert hasattr(getattr(first, title), key)
