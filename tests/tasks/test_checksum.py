from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backoffice.errors import TaskFailed
from backoffice.system import files
from backoffice.tasks import checksum
from tests.tasks.context import make_context

SUM = hashlib.sha256(b"x").hexdigest()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"x")
    return path


@pytest.mark.parametrize("given", [{}, {"expect": SUM.upper()}])
def test_the_sum_of_each_source_comes_back(
    tmp_path: Path, source: Path, given: dict[str, Any]
) -> None:
    context = make_context(tmp_path, source, probed=False, **given)
    assert checksum.run(context).checksums == {1: SUM}
    assert context.fractions[-1] == 1.0


def test_a_tree_has_one_sum(tmp_path: Path) -> None:
    folder = tmp_path / "tree"
    folder.mkdir()
    (folder / "master.m3u8").write_text("x")
    made = make_context(tmp_path, folder / "master.m3u8", probed=False)
    made.sources = [replace(made.sources[0], tree=True)]
    assert checksum.run(made).checksums == {1: files.tree_sha256(folder)}


@pytest.mark.parametrize(
    ("expect", "words"), [("0" * 64, "changed or damaged"), ("abc", "64 hex digits")]
)
def test_another_sum_than_expected_fails(
    tmp_path: Path, source: Path, expect: str, words: str
) -> None:
    with pytest.raises(TaskFailed, match=words) as caught:
        checksum.run(make_context(tmp_path, source, probed=False, expect=expect))
    assert not caught.value.retry


def test_one_sum_cannot_be_expected_of_two_files(tmp_path: Path, source: Path) -> None:
    with pytest.raises(TaskFailed, match="there are 2"):
        checksum.plan(make_context(tmp_path, source, source, probed=False, expect=SUM))


def test_a_vanished_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaskFailed, match=r"gone\.mp4 cannot be read"):
        checksum.run(make_context(tmp_path, tmp_path / "gone.mp4", probed=False))
