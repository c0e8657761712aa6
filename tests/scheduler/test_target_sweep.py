from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from backoffice.config.settings import Target
from backoffice.publishers import staging
from backoffice.scheduler.target_sweep import TargetSweep
from tests.board import Board, chain


@pytest.fixture
def target(tmp_path: Path) -> Target:
    (tmp_path / "site").mkdir()
    return Target("site", "folder", tmp_path / "site", "", {})


def staged(target: Target, token: str) -> Path:
    assert target.path is not None
    folder = target.path / staging.name(token)
    folder.mkdir()
    (folder / "0").write_text("half")
    return folder


def test_what_an_ended_attempt_left_at_a_target_is_cleared(board: Board, target: Target) -> None:
    board.submit(chain("one"))
    (one,) = board.claim(board.worker())
    ours, former = one.claim.task_id, one.claim.attempt - 1
    living = staged(target, f"{ours}-{one.claim.attempt}")
    left = [staged(target, f"{ours}-{former}"), staged(target, f"{ours + 1}-1")]
    sweep = TargetSweep(board.database, target)
    sweep.run()
    assert (living.exists(), *(folder.exists() for folder in left)) == (True, False, False)
    board.finish(one.claim)
    sweep.run()
    assert not living.exists()


def test_what_a_process_still_holds_at_a_target_stays(board: Board, target: Target) -> None:
    held = staged(target, "1-1")
    descriptor = os.open(held, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    sweep = TargetSweep(board.database, target)
    sweep.run()
    assert held.exists()
    os.close(descriptor)
    sweep.run()
    assert not held.exists()


@pytest.mark.parametrize("token", ["mine", "1-", "-1", "1-1-1", "1" * 30 + "-1"])
def test_what_is_no_attempts_at_a_target_stays(board: Board, target: Target, token: str) -> None:
    folder = staged(target, token)
    TargetSweep(board.database, target).run()
    assert folder.exists()


def test_a_target_that_cannot_be_read_is_told_once(
    board: Board, caplog: pytest.LogCaptureFixture
) -> None:
    sweep = TargetSweep(board.database, Target("bare", "folder", None, "", {}))
    for _ in range(3):
        sweep.run()
    assert caplog.text.count("target.unswept") == 1
