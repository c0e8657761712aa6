"""The dashboard and the alerts ask for what Prometheus is told, and for no more."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from backoffice.cli import arguments
from backoffice.data import counters
from backoffice.data.cluster import Status
from backoffice.data.counter_store import CounterWriter
from backoffice.engine import queue_control
from backoffice.web.api import metrics as metrics_api
from tests.board import Board, chain
from tests.web.visitor import Visitor

ROOT = Path(__file__).resolve().parents[2]
ETC = ROOT / "etc"
ALERTS, DASHBOARD = ETC / "prometheus" / "alerts.yml", ETC / "grafana" / "backoffice.json"
NODE = Status("db2", "replica", "up", 0.0, 1, 0, 1.0, "")  # of a database with replicas
OF_PROMETHEUS = {"up", "ALERTS"}
OF_TARGETS = {"job", "instance"}  # labels that Prometheus adds


@pytest.fixture
def database_uri(tmp_path: Path) -> str:
    """The names are the same on each database."""
    return f"sqlite:{tmp_path}/backoffice.sqlite"


@pytest.fixture
def told(board: Board, visitor: Visitor) -> dict[str, set[str]]:
    """Each name that is told, once something has happened, and its labels."""
    board.submit(chain("one"))
    board.do(queue_control.limit, "default", 4, "tester")
    counters.ATTEMPT_SECONDS.observe(1, "probe", "succeeded")
    CounterWriter(board.database).write()
    visitor.get("/jobs")
    found: dict[str, set[str]] = {}
    families = [*text_string_to_metric_families(visitor.get("/metrics").text)]
    for family in (*families, *metrics_api.of_nodes([NODE])):
        for one in family.samples:
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


def test_the_commands_that_people_are_told_to_type_are_commands() -> None:
    text = re.sub(r"\s+", " ", ALERTS.read_text())
    told = re.findall(r'"backoffice ([^"]+)"', text)
    assert len(told) > 8
    for command in told:
        words = re.sub(r"\{\{.*?\}\}|NAME|JOB", "1", command).split()
        assert arguments.parser().parse_args(words), command


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
