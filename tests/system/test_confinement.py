"""Confinement of commands, and what is left of it on older kernels."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from backoffice.config.settings import Settings
from backoffice.errors import ConfigError, TaskFailed
from backoffice.media import ffmpeg
from backoffice.operations import check
from backoffice.system import confinement, landlock, preflight, seccomp
from backoffice.system.confinement import Confinement
from tests.tasks.context import settings

needs_landlock = pytest.mark.skipif(not landlock.version(), reason="this kernel has no Landlock")


def run(folder: Path, script: str, **confined: object) -> ffmpeg.Completed:
    wanted = Confinement(**{"write": (folder,), **confined})  # type: ignore[arg-type]
    return ffmpeg.run(["sh", "-c", script], folder=folder, log=lambda line: None, confined=wanted)


@pytest.fixture
def private(tmp_path: Path) -> Path:
    folder = tmp_path / "private"
    folder.mkdir()
    (tmp_path / "beside").write_text("beside")
    return folder


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """As another one, as far as the program can tell."""
    seccomp.filter_for.cache_clear()
    yield monkeypatch
    seccomp.filter_for.cache_clear()


@needs_landlock
def test_only_what_is_named_can_be_read(private: Path, tmp_path: Path) -> None:
    script = f"cat {tmp_path}/beside"
    assert run(private, script).status != 0
    assert run(private, script, read=(tmp_path / "beside",)).stdout == "beside"
    assert run(private, f"echo >{tmp_path}/beside", read=(tmp_path / "beside",)).status != 0


@needs_landlock
def test_its_own_folder_can_be_used_as_any_other(private: Path) -> None:
    script = "mkdir a && echo x >a/b && mv a/b c && ln c d && ln -s c e && touch c && rm -r a c d e"
    assert run(private, script).status == 0
    assert list(private.iterdir()) == []


@needs_landlock
def test_a_descriptor_opens_the_file_that_was_checked_and_no_other(
    private: Path, tmp_path: Path
) -> None:
    with open(tmp_path / "beside", "rb") as stream:
        path = Path(f"/proc/self/fd/{stream.fileno()}")
        (tmp_path / "other").write_text("other")
        (tmp_path / "other").replace(tmp_path / "beside")
        done = run(private, f'read -r word <{path}; echo "$word"', read=(path,))
        assert done.stdout == "beside\n"
        assert run(private, f"cat {tmp_path}/beside", read=(path,)).status != 0


@needs_landlock
def test_no_confinement_means_limits_alone(private: Path, tmp_path: Path) -> None:
    done = run(private, f"cat {tmp_path}/beside; ulimit -v", mode="no", memory=1 << 30)
    assert done.stdout == "beside1048576\n"


@pytest.mark.parametrize("version", [0, 1, 2, 3, 5])
def test_older_kernels_confine_what_they_can(
    private: Path, kernel: pytest.MonkeyPatch, version: int
) -> None:
    if landlock.version() < version:
        pytest.skip("this kernel's Landlock is older")
    kernel.setattr(landlock, "version", lambda: version)
    done = run(private, "echo well >made; kill -0 $PPID 2>&1; truncate -s 0 made; cat made")
    assert "not permitted" in done.stdout
    assert (private / "made").read_text() == ""


@pytest.mark.parametrize("version", [1, 2])
def test_where_landlock_cannot_tell_reading_from_shortening_seccomp_does(
    private: Path, tmp_path: Path, kernel: pytest.MonkeyPatch, version: int
) -> None:
    if not landlock.version():
        pytest.skip("this kernel has no Landlock")
    kernel.setattr(landlock, "version", lambda: version)
    attacks = "os.truncate(f, 0)", "os.open(f, os.O_RDONLY | os.O_TRUNC)"
    for attack in attacks:
        script = f"import os; f = '{tmp_path}/beside'; {attack}"
        argv = ["/usr/bin/python3", "-I", "-c", script]
        wanted = Confinement(read=(tmp_path / "beside",))
        done = ffmpeg.run(argv, folder=private, log=lambda line: None, confined=wanted)
        assert done.status != 0
        assert (tmp_path / "beside").read_text() == "beside"


def test_without_landlock_the_network_is_still_shut(
    private: Path, kernel: pytest.MonkeyPatch
) -> None:
    kernel.setattr(landlock, "version", lambda: 0)
    argv = ["/usr/bin/python3", "-I", "-c", "import socket; socket.socket()"]
    done = ffmpeg.run(argv, folder=private, log=lambda line: None)
    assert "PermissionError" in done.stderr_tail


@pytest.fixture
def without(kernel: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    """Settings that require what the kernel does not have."""
    kernel.setattr(landlock, "version", lambda: 0)
    kernel.setattr(seccomp, "available", lambda: False)
    return settings(tmp_path, limits={"confine": "require"})


def test_what_is_required_and_missing_keeps_workers_and_commands_from_running(
    without: Settings, private: Path
) -> None:
    with pytest.raises(ConfigError, match=r"\[limits\] confine: needs Landlock and seccomp"):
        preflight.require_tools(without)
    with pytest.raises(TaskFailed, match="no Landlock and no seccomp"):
        run(private, "true", mode="require")


def test_check_says_what_is_missing_and_fails_where_it_is_required(without: Settings) -> None:
    def line(mode: str) -> check.Finding:
        limits = replace(without.limits, confine=mode)
        found = check.run(replace(without, limits=limits))
        return next(one for one in found if one.what == "confinement")

    assert not line("require").ok
    assert line("auto").ok
    for word in ("Landlock", "seccomp", "signals"):
        assert word in line("auto").text
    assert line("no").text.startswith("none")


def test_a_whole_confinement_is_reported_as_such(tmp_path: Path) -> None:
    if confinement.missing():
        pytest.skip("this kernel lacks something")
    found = check.run(settings(tmp_path))
    (line,) = [one for one in found if one.what == "confinement"]
    assert line.text == "auto; files, network, system calls, resources"


def test_programs_that_settings_name_can_be_run(private: Path) -> None:
    """This Python lies outside the system's folders as a rule."""
    argv = [sys.executable, "-c", "print('runs')"]
    wanted = Confinement(programs=(Path(sys.prefix), Path(sys.base_prefix)))
    done = ffmpeg.run(argv, folder=private, log=lambda line: None, confined=wanted)
    assert done.stdout == "runs\n"
