"""What Prometheus is told, and that the dashboard and the alerts ask for no more."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from backoffice import __version__, disks, jobs, tally
from backoffice.config import Settings
from backoffice.disks import Disks, Room
from backoffice.ledger import Book
from tests.board import Board, chain
from tests.web.visitor import Visitor

ROOT = Path(__file__).resolve().parents[2]
ETC = ROOT / "etc"
ALERTS, DASHBOARD = ETC / "prometheus" / "alerts.yml", ETC / "grafana" / "backoffice.json"
OF_PROMETHEUS = {"up", "ALERTS"}
OF_TARGETS = {"job", "instance"}  # labels that Prometheus adds


@pytest.fixture(autouse=True)
def _nothing_pending() -> Iterator[None]:
    tally.take()
    yield
    tally.take()


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
    board.do(jobs.limit_queue, "default", 4, "tester")
    board.do(jobs.pause_queue, "gpu", "tester")
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
    Book(board.database, scheduler=True).write()
    assert value(visitor, name) > 1.7e9


def test_what_processes_have_counted_is_summed_up(board: Board, visitor: Visitor) -> None:
    """One that has counted nothing yet is told as zero: Prometheus sees the first."""
    labels = {"type": "probe", "outcome": "failed"}
    assert value(visitor, "backoffice_attempts_total", **labels) == 0
    assert value(visitor, "backoffice_leases_lost_total") == 0
    for _ in range(2):
        tally.ATTEMPTS.count("probe", "failed")
        tally.ATTEMPTS.count("retired", "failed")
        Book(board.database).write()
    assert value(visitor, "backoffice_attempts_total", **labels) == 2
    assert value(visitor, "backoffice_attempts_total", type="retired", outcome="failed") == 2


def test_durations_are_a_histogram(board: Board, visitor: Visitor) -> None:
    labels = {"type": "probe", "outcome": "succeeded"}
    for seconds in (0.3, 2, 3, 100_000):
        tally.ATTEMPT_SECONDS.observe(seconds, *labels.values())
    Book(board.database).write()
    name = "backoffice_attempt_duration_seconds"
    bounds = {"0.1": 0, "0.5": 1, "1.0": 1, "5.0": 3, "43200.0": 3, "+Inf": 4}
    for bound, count in bounds.items():
        assert value(visitor, f"{name}_bucket", le=bound, **labels) == count
    assert value(visitor, f"{name}_count", **labels) == 4
    assert value(visitor, f"{name}_sum", **labels) == 100_005.3


def test_this_processs_own_counts_are_written_as_it_serves(
    board: Board, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Book, "turn", Book.write)
    tally.DATABASE_ERRORS.count("away")
    visitor.get("/jobs")
    assert value(visitor, "backoffice_database_errors_total", kind="away") == 1


def test_a_request_whose_counts_cannot_be_written_is_answered(
    board: Board, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Book, "turn", Book.write)
    board.do(lambda s: s.execute("DROP TABLE tally"))
    tally.DATABASE_ERRORS.count("away")
    assert visitor.get("/jobs").status == 200


def test_disks_are_told_folder_by_folder(
    visitor: Visitor, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(path: Path) -> Room:
        if path.name == "media":
            raise OSError(5, "Input/output error")
        return Room(1, 30, 100, True)

    monkeypatch.setattr(disks, "of", lambda settings: Disks(disks.folders(settings), ask))
    assert value(visitor, "backoffice_disk_free_bytes", folder="work") == 30
    assert value(visitor, "backoffice_disk_size_bytes", folder="target site") == 100
    assert value(visitor, "backoffice_disk_answers", folder="work") == 1
    assert value(visitor, "backoffice_disk_answers", folder="root media") == 0


def test_requests_are_told_by_route_and_code(visitor: Visitor) -> None:
    visitor.get("/jobs/1")
    assert value(visitor, "http_requests_total", method="GET", code="404") == 1
    count = "http_request_duration_seconds_count"
    assert value(visitor, count, method="GET", route="/jobs/{id}") == 1


# What asks for them ---------------------------------------------------------


@pytest.fixture
def told(board: Board, visitor: Visitor) -> dict[str, set[str]]:
    """Each name that is told, once something has happened, and its labels."""
    board.submit(chain("one"))
    board.do(jobs.limit_queue, "default", 4, "tester")
    tally.ATTEMPT_SECONDS.observe(1, "probe", "succeeded")
    Book(board.database).write()
    visitor.get("/jobs")
    found: dict[str, set[str]] = {}
    for one in samples(visitor):
        found.setdefault(one.name, set()).update(one.labels)
    return found


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def asked() -> list[str]:
    """Every expression of the dashboard and the alerts."""
    shown = [one["expr"] for panel in panels() for one in panel.get("targets", ())]
    text = ALERTS.read_text()
    return shown + re.findall(r"expr: (?:>-\n)?(.*?)\n {8}(?:for|labels):", text, re.DOTALL)


def selectors(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Each name in it, with the labels that are asked for."""
    for name, labels in re.findall(r"\b([a-z]\w*_\w+|up)\b(?:\{(.*?)\})?(?!\s*\()", expression):
        if name not in ("histogram_quantile", "clamp_min", "group_left"):
            yield name, set(re.findall(r"(\w+)(?:=~|!~|!=|=)", labels))


def test_what_is_asked_for_is_told(told: dict[str, set[str]]) -> None:
    found = [one for expression in asked() for one in selectors(expression)]
    assert len(found) > 60
    for name, labels in found:
        assert name in {*told, *OF_PROMETHEUS}, name
        assert labels <= {*told.get(name, ()), *OF_TARGETS}, name


def test_what_is_told_is_looked_at(told: dict[str, set[str]]) -> None:
    wanted = {name for expression in asked() for name, _ in selectors(expression)}
    ours = {name for name in told if name.startswith("backoffice_")}
    assert {name for name in ours if not re.search("_(sum|count|created)$", name)} <= wanted


def test_the_dashboard_can_be_put_anywhere() -> None:
    board = json.loads(DASHBOARD.read_text())
    assert [one["name"] for one in board["templating"]["list"]] == ["datasource", "job"]
    assert len({panel["id"] for panel in panels()}) == len(panels())
    for panel in panels():
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}"
            assert panel["targets"]
    places = [
        (x, y)
        for box in (panel["gridPos"] for panel in panels())
        for x in range(box["x"], box["x"] + box["w"])
        for y in range(box["y"], box["y"] + box["h"])
    ]
    assert len(places) == len(set(places))
    assert max(x for x, _ in places) == 23


# As promtool sees it --------------------------------------------------------


def promtool(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [ROOT / "tools" / "promtool", *arguments],
        cwd=ETC / "prometheus",
        input=text,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    if done.returncode == 69:
        pytest.skip(done.stderr.splitlines()[-1])
    return done


def test_the_alerts_fire_when_they_should() -> None:
    assert promtool("check", "rules", "alerts.yml").returncode == 0
    done = promtool("test", "rules", "alerts_test.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    tests = (ETC / "prometheus" / "alerts_test.yml").read_text()
    for name in re.findall("alert: (.*)", ALERTS.read_text()):
        assert name in tests


def test_the_scrape_settings_are_prometheuss() -> None:
    done = promtool("check", "config", "--syntax-only", "scrape.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboard_asks_in_promql(tmp_path: Path) -> None:
    variables = {"$__rate_interval": "5m", "$job": "backoffice"}
    rules = []
    for number, expression in enumerate(asked()):
        for name, text in variables.items():
            expression = expression.replace(name, text)
        rules.append({"record": f"asked:{number}", "expr": expression})
    path = tmp_path / "rules.json"  # which is YAML too
    path.write_text(json.dumps({"groups": [{"name": "asked", "rules": rules}]}))
    done = promtool("check", "rules", str(path))
    assert done.returncode == 0, done.stdout + done.stderr


def test_names_are_as_prometheus_asks(told: dict[str, set[str]], visitor: Visitor) -> None:
    done = promtool("check", "metrics", text=visitor.get("/metrics").text)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_both_formats_hold_the_same(visitor: Visitor) -> None:
    plain = visitor.get("/metrics")
    open_metrics = visitor.get("/metrics", HTTP_ACCEPT="application/openmetrics-text;version=1.0.0")
    assert plain.headers["Content-Type"].startswith("text/plain; version=")
    assert open_metrics.headers["Content-Type"].startswith("application/openmetrics-text")
    for answer in (plain, open_metrics):
        assert b"backoffice_leases_lost_total 0.0" in answer.body
    assert open_metrics.body.endswith(b"# EOF\n")
