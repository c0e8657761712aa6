"""One service a run folder, and no stranger taken for it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from backoffice.errors import Conflict, Invalid
from backoffice.system import pidfile, processes

TAKE = (
    "import sys; from pathlib import Path; from backoffice.system import pidfile;"
    " held = pidfile.take(Path(sys.argv[1])); print('taken', flush=True); sys.stdin.read();"
    " held.release()"
)


@contextmanager
def another(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds the folder until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", TAKE, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"taken\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_the_file_names_the_process_and_when_it_started(tmp_path: Path) -> None:
    held = pidfile.take(tmp_path / "run")
    lines = held.path.read_text().splitlines()
    assert lines == [str(os.getpid()), processes.start_time(os.getpid())]
    assert pidfile.read(held.path) == os.getpid()
    held.release()
    assert not held.path.exists()


def test_a_second_one_is_refused_and_leaves_the_first_alone(tmp_path: Path) -> None:
    with another(tmp_path) as first:
        before = (tmp_path / pidfile.NAME).read_text()
        with pytest.raises(Conflict, match=rf"running already \(process {first.pid}\)"):
            pidfile.take(tmp_path)
        assert (tmp_path / pidfile.NAME).read_text() == before


def test_what_a_killed_one_left_is_taken_over(tmp_path: Path) -> None:
    with another(tmp_path) as first:
        first.kill()
        first.wait()
        assert pidfile.read(tmp_path / pidfile.NAME) is None
        held = pidfile.take(tmp_path)
    assert pidfile.read(held.path) == os.getpid()
    held.release()


def test_a_stranger_with_the_same_id_is_none_of_us(tmp_path: Path) -> None:
    path = tmp_path / pidfile.NAME
    path.write_text(f"{os.getpid()}\n1\n")
    assert pidfile.read(path) is None


@pytest.mark.parametrize("text", ["", "\n", "x\ny\n", "OURS\n", "1", "-1\n5\n", "\xff"])
def test_a_broken_file_names_nobody_and_is_no_hindrance(tmp_path: Path, text: str) -> None:
    path = tmp_path / pidfile.NAME
    path.write_text(text.replace("OURS", str(os.getpid())), encoding="latin-1")
    assert pidfile.read(path) is None
    pidfile.take(tmp_path).release()
    assert not path.exists()


def test_a_shorter_file_replaces_a_longer_one(tmp_path: Path) -> None:
    (tmp_path / pidfile.NAME).write_text("9" * 500 + "\n" + "9" * 500 + "\n")
    held = pidfile.take(tmp_path)
    assert held.path.stat().st_size < 100
    held.release()


def test_another_ones_file_is_not_removed_at_the_end(tmp_path: Path) -> None:
    held = pidfile.take(tmp_path)
    held.path.unlink()
    held.path.write_text("somebody else's")
    held.release()
    assert held.path.read_text() == "somebody else's"


def test_a_folder_that_cannot_be_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(Invalid, match=r"see \[paths\] run"):
        pidfile.take(tmp_path / "run")


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("kept")
    (tmp_path / pidfile.NAME).symlink_to(tmp_path / "precious")
    with pytest.raises(Invalid):
        pidfile.take(tmp_path)
    assert (tmp_path / "precious").read_text() == "kept"
