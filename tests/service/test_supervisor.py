"""What becomes of parts that die: back-off, crash loops, statuses that end it all.
Real processes are started in ``acceptance/test_service.py``."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backoffice.config import loading
from backoffice.service import managed_process
from backoffice.service.managed_process import ManagedProcess
from backoffice.service.supervisor import Service
from backoffice.system import thread_dump


@pytest.fixture
def now() -> list[float]:
    return [1000.0]


@pytest.fixture
def parent(tmp_path: Path, now: list[float]) -> Iterator[Service]:
    """A service whose time is ours, and whose signals are not caught."""
    settings = loading.load(
        None, {"BACKOFFICE_PATHS_HOME": str(tmp_path), "BACKOFFICE_SERVICE_PARTS": "worker web"}
    )
    parent = Service(settings, monotonic=lambda: now[0])
    yield parent
    for managed in parent.processes:
        if managed.living and managed.process:
            managed.process.kill()
            managed.process.wait()
    parent.messages.close()


@pytest.fixture
def launch(parent: Service, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Parts are processes that run the given Python from now on."""

    def use(script: str) -> None:
        def process(managed: ManagedProcess) -> subprocess.Popen[bytes]:
            return subprocess.Popen([sys.executable, "-S", "-c", script])

        monkeypatch.setattr(parent, "_start_process", process)

    return use


def die(parent: Service, managed: ManagedProcess, status: int, now: list[float]) -> None:
    """It is started when it is due, and ends at once."""
    now[0] = max(now[0], managed.start_at)
    parent._check_process(managed)
    assert managed.process is not None
    managed.process.wait()
    parent._check_process(managed)
    assert managed.process is None


def test_pauses_grow_while_a_part_dies_at_once(
    parent: Service, launch: Callable[[str], None], now: list[float]
) -> None:
    launch("raise SystemExit(1)")
    managed = parent.processes[0]
    pauses = []
    for _ in range(4):
        die(parent, managed, 1, now)
        pauses.append(managed.start_at - now[0])
    assert pauses == [0.5, 1, 2, 4]


def test_a_part_that_lived_is_started_anew_at_once(
    parent: Service, launch: Callable[[str], None], now: list[float]
) -> None:
    launch("raise SystemExit(1)")
    managed = parent.processes[0]
    die(parent, managed, 1, now)
    now[0] = managed.start_at
    parent._check_process(managed)
    assert managed.process is not None
    managed.process.wait()
    now[0] += managed_process.STEADY
    parent._check_process(managed)
    assert managed.start_at == now[0]


def test_a_crash_loop_is_told_once_and_tried_rarely(
    parent: Service,
    launch: Callable[[str], None],
    now: list[float],
    caplog: pytest.LogCaptureFixture,
) -> None:
    launch("raise SystemExit(1)")
    managed = parent.processes[0]
    with caplog.at_level(logging.INFO):
        for _ in range(8):
            die(parent, managed, 1, now)
    told = [r for r in caplog.records if "part.crash-loop" in r.getMessage()]
    assert [r.levelname for r in told] == ["ERROR"]
    assert managed.start_at - now[0] == managed_process.LOOP_PAUSE
    assert "dies again and again, last: died (status 1)" in managed.about


@pytest.mark.parametrize("status", [2, 4])
def test_a_part_that_is_refused_at_its_start_ends_the_service_with_its_status(
    parent: Service, launch: Callable[[str], None], now: list[float], status: int
) -> None:
    launch(f"raise SystemExit({status})")
    die(parent, parent.processes[0], status, now)
    assert parent.status == status


def test_a_part_that_was_ready_once_is_started_anew_whatever_its_status(
    parent: Service, launch: Callable[[str], None], now: list[float]
) -> None:
    launch("raise SystemExit(4)")
    managed = parent.processes[0]
    managed.was_ready = True
    die(parent, managed, 4, now)
    assert parent.status is None
    assert managed.start_at > now[0]


def test_a_worker_that_ends_of_its_own_will_stays_away_and_a_web_server_does_not(
    parent: Service, launch: Callable[[str], None], now: list[float]
) -> None:
    launch("")
    worker, web = parent.processes
    for managed in (worker, web):
        die(parent, managed, 0, now)
    assert (worker.ended, web.ended) == (True, False)


def silent(parent: Service, launch: Callable[[str], None], now: list[float]) -> ManagedProcess:
    """A part that was heard of once, and then for too long not."""
    launch("import time; time.sleep(60)")
    managed = parent.processes[0]
    parent._check_process(managed)
    managed.hear({"WATCHDOG": "1"}, now[0])
    now[0] += parent.silence + 1
    return managed


def test_a_silent_part_is_killed(
    parent: Service, launch: Callable[[str], None], now: list[float]
) -> None:
    managed = silent(parent, launch, now)
    parent._check_process(managed)
    assert managed.process is not None
    assert managed.process.wait(10) == -signal.SIGKILL


def test_nobody_is_blamed_for_silence_while_the_parent_itself_was_stopped(
    parent: Service, launch: Callable[[str], None], now: list[float]
) -> None:
    managed = silent(parent, launch, now)
    parent._excuse_silence()
    assert not managed.hangs(now[0], parent.silence)


def test_the_watchdog_leaves_time_for_waits_that_are_right(tmp_path: Path) -> None:
    environ = {"BACKOFFICE_PATHS_HOME": str(tmp_path), "BACKOFFICE_DATABASE_TIMEOUT": "30s"}
    parent = Service(loading.load(None, environ))
    assert parent.silence == 180
    parent.messages.close()


def test_a_part_that_cannot_be_started_is_tried_again(
    parent: Service, monkeypatch: pytest.MonkeyPatch, now: list[float]
) -> None:
    def fail(managed: ManagedProcess) -> subprocess.Popen[bytes]:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(parent, "_start_process", fail)
    managed = parent.processes[0]
    parent._check_process(managed)
    assert managed.process is None
    assert managed.start_at > now[0]
    assert "cannot be started" in managed.about


REAP = """
import os
from backoffice.service.supervisor import _reap_orphans

managed, stranger = os.fork() or os._exit(0), os.fork() or os._exit(0)
for pid in (managed, stranger):
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
_reap_orphans({managed})
assert os.waitpid(managed, 0)[0] == managed
_reap_orphans(set())
try:
    os.waitpid(stranger, 0)
except ChildProcessError:
    print("reaped")
"""


def test_orphans_are_reaped_and_parts_are_left_to_their_check() -> None:
    done = subprocess.run([sys.executable, "-c", REAP], capture_output=True, text=True)
    assert done.stdout == "reaped\n", done.stderr


def test_every_thread_is_told_with_its_place() -> None:
    mine = [text for text in thread_dump.threads() if "name=MainThread" in text]
    assert len(mine) == 1
    assert "test_every_thread_is_told_with_its_place" in mine[0]
