"""The wheel works by itself: installed, and away from the checkout."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = ("etc", "schema", "static", "templates")


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, because building writes into the source tree."""
    folder = tmp_path_factory.mktemp("build")
    copy = folder / "source"
    unwanted = shutil.ignore_patterns(".*", "var", "build", "dist", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, copy, ignore=unwanted)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel")
    run(*pip, "--no-deps", "--no-build-isolation", "-w", folder, copy, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an empty environment in which only the wheel was installed.

    The libraries it needs are lent by a path file: without their own path
    files, so that a checkout installed there for development stays hidden.
    """
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=False, symlinks=True)
    executable = folder / "bin/python"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", executable)
    run(*pip, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return executable


def test_the_wheel_is_imported_and_not_the_checkout(python: Path, tmp_path: Path) -> None:
    place = run(python, "-c", "import backoffice; print(backoffice.__file__)", cwd=tmp_path)
    assert Path(place.strip()).is_relative_to(python.parent.parent)


@pytest.mark.parametrize("name", SHARED)
def test_the_wheel_has_every_shared_file(name: str, python: Path, tmp_path: Path) -> None:
    code = f"from backoffice.config.resources import share; print(share({name!r}))"
    installed = Path(run(python, "-c", code, cwd=tmp_path).strip())
    assert installed.is_relative_to(python.parent.parent)
    assert files(installed) == files(ROOT / name)


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and p.suffix != ".pyc"
    }


def test_the_wheel_has_every_module(python: Path, tmp_path: Path) -> None:
    code = "import backoffice; print(backoffice.__path__[0])"
    installed = Path(run(python, "-c", code, cwd=tmp_path).strip())
    wanted = {str(p.relative_to(ROOT / "backoffice")) for p in ROOT.glob("backoffice/**/*.py")}
    assert wanted <= set(files(installed))


def test_the_installed_program_loads_its_settings_and_recipes(python: Path, tmp_path: Path) -> None:
    code = """
from backoffice import tasks
from backoffice.config.loading import load
from backoffice.engine import workflows
from backoffice.media import profiles
settings = load(None, {})
found = profiles.load(settings.paths.profiles)
print("mp4-720" in found)
print("web-video" in workflows.load(
    settings.paths.workflows,
    task_types={name: tasks.load(name) for name in tasks.names()},
    profiles=found,
    targets=settings.targets,
    commands=settings.commands,
))
"""
    assert run(python, "-c", code, cwd=tmp_path).split() == ["True", "True"]


def test_the_installed_command_and_the_module_answer(python: Path, tmp_path: Path) -> None:
    for command in ([python.parent / "backoffice"], [python, "-m", "backoffice"]):
        assert "usage" in run(*command, "check", "--help", cwd=tmp_path).lower()


# In the place of Python: makes environments that are empty, and does nothing else.
STUB = """#!/bin/sh
for last; do :; done
case "$*" in
    *"-m venv"*)
        mkdir -p "$last/bin"
        cp "$0" "$last/bin/python"
        cp "$0" "$last/bin/python3"
        ;;
esac
"""


@pytest.fixture
def install(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Runs tools/install without its environment; gives the text of all files there are then."""
    (tmp_path / "python").write_text(STUB)
    (tmp_path / "python").chmod(0o755)
    root = tmp_path / "root"

    def call(*options: str) -> dict[str, str]:
        given = {"DESTDIR": root, "prefix": "/opt/b", "PYTHON": tmp_path / "python"}
        environ = {"TMPDIR": str(tmp_path), **{name: str(value) for name, value in given.items()}}
        subprocess.run([ROOT / "tools/install", *options], env=environ, check=True, timeout=60)
        found = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
        return {f"/{path.relative_to(root)}": path.read_text() for path in found}

    return call


def test_what_is_installed_elsewhere_names_that_place(
    install: Callable[..., dict[str, str]],
) -> None:
    files = install()
    named = re.findall(r"/usr/(?:bin|lib|share)/backoffice", "".join(files.values()))
    assert not named
    for path in ("/etc/init.d/backoffice", "/opt/b/lib/systemd/system/backoffice.service"):
        assert "/opt/b/bin/backoffice" in files[path]


def test_installing_again_changes_no_settings_and_uninstalling_removes_none(
    install: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    install()
    folders = ("default", "logrotate.d", "backoffice", "apache2/sites-available", "fail2ban/jail.d")
    for path in (path for name in folders for path in (tmp_path / "root/etc" / name).iterdir()):
        path.write_text("changed")
    changed = {path for path, text in install().items() if text == "changed"}
    assert {str(Path(path).parent) for path in changed} == {f"/etc/{name}" for name in folders}
    assert install("--remove") == dict.fromkeys(changed, "changed")


def test_each_lintian_override_has_a_reason() -> None:
    lines = (ROOT / "package/deb/lintian-overrides").read_text().splitlines()
    reasons, overrides = lines[::2], lines[1::2]
    assert all(line.startswith("# ") for line in reasons)
    assert all(line.startswith("backoffice: ") for line in overrides)


def test_requirements_are_pinned_with_hashes_and_name_no_host() -> None:
    for path in ROOT.glob("requirements/*.txt"):
        text = path.read_text()
        assert "://" not in text
        assert not re.search(r"(?m)^-", text)
        entries = re.split(r"(?m)^(?=[a-z])", re.sub(r"(?m)^\s*#.*\n", "", text))
        for entry in filter(str.strip, entries):
            assert re.match(r"[a-z0-9-]+==\S+ \\\n\s+--hash=sha256:", entry), entry


def test_requirements_pin_all_that_the_package_declares() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [re.split(r"[<>=~]", entry)[0] for entry in project["dependencies"]]
    wanted = (ROOT / "requirements/runtime.in").read_text().splitlines()
    assert sorted(names) == [line for line in wanted if not line.startswith(("#", "-"))]
