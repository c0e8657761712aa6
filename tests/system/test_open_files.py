from __future__ import annotations

import os
from pathlib import Path

import pytest

from backoffice.system import open_files

MOUNTS = b"""22 1 8:1 / / rw - ext4 /dev/sda1 rw
23 22 0:40 / /srv rw shared:1 - nfs4 nas:/srv rw
24 23 0:41 / /srv/local\\040disk rw - xfs /dev/sdb1 rw
25 22 0:42 / /srvice rw - cifs //nas/x rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/home/x", "ext4"),
        ("/srv", "nfs4"),
        ("/srv/a", "nfs4"),
        ("/srv/local disk", "xfs"),
        ("/srv/local disk/a", "xfs"),
        ("/srvice/a", "cifs"),
        ("/services", "ext4"),
    ],
)
def test_the_file_system_of_a_path_is_the_innermost(path: str, kind: str) -> None:
    assert open_files.kind(MOUNTS, path) == kind


def test_of_two_file_systems_at_one_place_the_later_counts() -> None:
    assert open_files.kind(MOUNTS + b"26 22 0:43 / /srv rw - xfs /dev/sdc1 rw\n", "/srv/a") == "xfs"


def test_what_is_not_there_is_not_local(tmp_path: Path) -> None:
    assert not open_files.is_local(tmp_path / "nowhere")
    assert not open_files.is_written(tmp_path / "nowhere")


def test_a_pipe_does_not_hold_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert not open_files.is_written(tmp_path / "pipe")
