from __future__ import annotations

from typing import cast

import pytest

from backoffice.config import loading
from backoffice.workers import process_pool
from backoffice.workers.executors.local import ChildProcess
from backoffice.workers.process_pool import KEEP_IDLE, ProcessPool
from backoffice.workers.state import WorkerState
from tests.workers.fakes import FakeProcess

SETTINGS = loading.load(None, {})


@pytest.fixture
def now() -> list[float]:
    return [1000.0]


@pytest.fixture
def pool(now: list[float], monkeypatch: pytest.MonkeyPatch) -> ProcessPool:
    monkeypatch.setattr(process_pool, "ChildProcess", FakeProcess)
    return ProcessPool(WorkerState(SETTINGS, lambda: now[0]))


def fake(process: ChildProcess) -> FakeProcess:
    return cast(FakeProcess, process)


def test_an_idle_process_is_taken_again(pool: ProcessPool) -> None:
    process = pool.take()
    assert pool.busy == [process]
    pool.give_back(process)
    assert pool.busy == []
    assert pool.take() is process


def test_an_idle_process_that_died_is_reaped_and_another_started(pool: ProcessPool) -> None:
    process = pool.take()
    pool.give_back(process)
    fake(process).dead = True
    assert pool.take() is not process
    assert fake(process).reaped


def test_a_process_that_is_idle_for_long_is_retired(pool: ProcessPool, now: list[float]) -> None:
    process = pool.take()
    pool.give_back(process)
    now[0] += KEEP_IDLE
    pool.retire_unused()
    assert not fake(process).reaped
    now[0] += 1
    pool.retire_unused()
    assert fake(process).reaped
    assert pool.idle == []


def test_strays_of_a_reaped_process_are_killed_and_other_processes_kept(
    pool: ProcessPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[set[int]] = []
    monkeypatch.setattr(process_pool, "kill_strays", kept.append)
    reaped, busy, idle = pool.take(), pool.take(), pool.take()
    pool.give_back(idle)
    pool.reap(reaped)
    assert kept == [{busy.pid, idle.pid}]
    pool.reap(busy)
    pool.close()
    assert kept[-1] == set()
    assert fake(idle).reaped
