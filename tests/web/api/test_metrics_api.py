"""What Prometheus is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from backoffice import __version__
from backoffice.config.settings import Settings
from backoffice.data import counters
from backoffice.data.counter_store import CounterWriter
from backoffice.engine import queue_control
from backoffice.system import disk_space
from backoffice.system.disk_space import Disks, Room
from tests.board import Board, chain
from tests.web.visitor import Visitor


@pytest.fixture(autouse=True)
def _nothing_pending() -> Iterator[None]:
    counters.take()
    yield
    counters.take()


def samples(visitor: Visitor) -> list[Sample]:
    text = visitor.get("/metrics").text
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def value(visitor: Visitor, name: str, **labels: str) -> float:
    (found,) = (one for one in samples(visitor) if (one.name, one.labels) == (name, labels))
    return found.value


# Figures --------------------------------------------------------------------


def test_jobs_queues_and_workers_are_told(board: Board, visitor: Visitor) -> None:
    for _ in range(3):
        board.submit(chain("one"))
    board.submit(chain("one", queue="gpu"))
    board.do(queue_control.limit, "default", 4, "tester")
    board.do(queue_control.pause, "gpu", "tester")
    board.claim(board.worker(slots=5))
    assert value(visitor, "backoffice_jobs", state="queued") == 3
    assert value(visitor, "backoffice_queue_ready_tasks", queue="default") == 2
    assert value(visitor, "backoffice_queue_running_tasks", queue="default") == 1
    assert value(visitor, "backoffice_queue_running_limit", queue="default") == 4
    assert value(visitor, "backoffice_queue_paused", queue="gpu") == 1
    assert value(visitor, "backoffice_queue_oldest_ready_seconds", queue="gpu") < 60
    assert value(visitor, "backoffice_workers", state="active") == 1
    assert value(visitor, "backoffice_worker_slots") == 5


def test_what_runs_is_told(visitor: Visitor) -> None:
    assert value(visitor, "backoffice_schema_version") >= 1
    (build,) = (one for one in samples(visitor) if one.name == "backoffice_build_info")
    assert build.labels["version"] == __version__


def test_a_scheduler_that_was_never_there_is_zero(board: Board, visitor: Visitor) -> None:
    name = "backoffice_scheduler_last_tick_timestamp_seconds"
    assert value(visitor, name) == 0
    CounterWriter(board.database, scheduler=True).write()
    assert value(visitor, name) > 1.7e9


def test_what_processes_have_counted_is_summed_up(board: Board, visitor: Visitor) -> None:
    """One that has counted nothing yet is told as zero: Prometheus sees the first."""
    labels = {"type": "probe", "outcome": "failed"}
    assert value(visitor, "backoffice_attempts_total", **labels) == 0
    assert value(visitor, "backoffice_leases_lost_total") == 0
    for _ in range(2):
        counters.ATTEMPTS.count("probe", "failed")
        counters.ATTEMPTS.count("retired", "failed")
        CounterWriter(board.database).write()
    assert value(visitor, "backoffice_attempts_total", **labels) == 2
    assert value(visitor, "backoffice_attempts_total", type="retired", outcome="failed") == 2


def test_durations_are_a_histogram(board: Board, visitor: Visitor) -> None:
    labels = {"type": "probe", "outcome": "succeeded"}
    for seconds in (0.3, 2, 3, 100_000):
        counters.ATTEMPT_SECONDS.observe(seconds, *labels.values())
    CounterWriter(board.database).write()
    name = "backoffice_attempt_duration_seconds"
    bounds = {"0.1": 0, "0.5": 1, "1.0": 1, "5.0": 3, "43200.0": 3, "+Inf": 4}
    for bound, count in bounds.items():
        assert value(visitor, f"{name}_bucket", le=bound, **labels) == count
    assert value(visitor, f"{name}_count", **labels) == 4
    assert value(visitor, f"{name}_sum", **labels) == 100_005.3


def test_this_processs_own_counts_are_written_as_it_serves(
    board: Board, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CounterWriter, "turn", CounterWriter.write)
    counters.DATABASE_ERRORS.count("away")
    visitor.get("/jobs")
    assert value(visitor, "backoffice_database_errors_total", kind="away") == 1


def test_a_request_whose_counts_cannot_be_written_is_answered(
    board: Board, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CounterWriter, "turn", CounterWriter.write)
    board.do(lambda s: s.execute("DROP TABLE counter"))
    counters.DATABASE_ERRORS.count("away")
    assert visitor.get("/jobs").status == 200


def test_disks_are_told_folder_by_folder(
    visitor: Visitor, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(path: Path) -> Room:
        if path.name == "media":
            raise OSError(5, "Input/output error")
        return Room(1, 30, 100, True)

    monkeypatch.setattr(disk_space, "of", lambda settings: Disks(disk_space.folders(settings), ask))
    assert value(visitor, "backoffice_disk_free_bytes", folder="work") == 30
    assert value(visitor, "backoffice_disk_size_bytes", folder="target site") == 100
    assert value(visitor, "backoffice_disk_answers", folder="work") == 1
    assert value(visitor, "backoffice_disk_answers", folder="root media") == 0


def test_requests_are_told_by_route_and_code(visitor: Visitor) -> None:
    visitor.get("/jobs/1")
    assert value(visitor, "http_requests_total", method="GET", code="404") == 1
    count = "http_request_duration_seconds_count"
    assert value(visitor, count, method="GET", route="/jobs/{id}") == 1
