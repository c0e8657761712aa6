from __future__ import annotations

import logging
import threading

import pytest

from backoffice.errors import DatabaseUnavailable
from backoffice.scheduler.periodic import PeriodicThread, ThreadGroup, run_logging_errors

NEVER = 3600.0  # seconds


class Duty:
    def __init__(self, config: str) -> None:
        self.config = config
        self.called = threading.Semaphore(0)

    def run(self) -> None:
        self.called.release()

    def was_called(self) -> bool:
        return self.called.acquire(timeout=10)


def start(config: str) -> tuple[Duty, PeriodicThread]:
    duty = Duty(config)
    return duty, PeriodicThread(config, duty.run, NEVER)


@pytest.fixture
def group() -> ThreadGroup[str, Duty]:
    return ThreadGroup(start)


def test_an_unchanged_entry_keeps_its_duty_and_a_changed_one_gets_another(
    group: ThreadGroup[str, Duty],
) -> None:
    group.update({"a": "one", "b": "two"})
    a, b = group["a"], group["b"]
    group.update({"a": "one", "b": "three", "c": "four"})
    assert group["a"] is a
    assert group["b"] is not b
    assert {duty.config for duty in group} == {"one", "three", "four"}
    group.update({})
    assert list(group) == []


def test_a_thread_that_is_woken_calls_at_once(group: ThreadGroup[str, Duty]) -> None:
    group.update({"a": "one"})
    assert group["a"].was_called()
    group.wake()
    assert group["a"].was_called()


def test_a_thread_that_is_stopped_calls_no_more() -> None:
    duty = Duty("one")
    thread = PeriodicThread("one", duty.run, 0.01)
    assert duty.was_called()
    thread.stop()
    while duty.called.acquire(timeout=0.3):  # calls that were under way
        pass
    assert not duty.called.acquire(timeout=0.1)


@pytest.mark.parametrize(
    ("error", "logged"),
    [
        (DatabaseUnavailable("away"), "database.away part=duty"),
        (ValueError("no"), "scheduler.fault part=duty"),
    ],
)
def test_a_fault_is_logged_and_the_next_call_made(
    error: Exception, logged: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise error

    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            run_logging_errors("duty", fail)
    assert caplog.text.count(logged) == 2
