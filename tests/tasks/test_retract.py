"""Retracting tasks: what they remove, and what they refuse."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from backoffice.config.settings import Target
from backoffice.errors import TaskFailed
from backoffice.system import files
from backoffice.tasks import Publication, retract
from tests.tasks.context import FakeContext, make_context, settings


def context(tmp_path: Path) -> FakeContext:
    site = tmp_path / "site"
    (site / "ep").mkdir(parents=True)
    (site / "ep" / "a.mp4").write_text("a")
    target = Target("site", "folder", site, "", {})
    given = replace(settings(tmp_path), targets={"site": target})
    found = make_context(tmp_path, settings=given, publication="5")
    digest = files.sha256(site / "ep" / "a.mp4")
    found.publications = [Publication(5, "site", "ep/a.mp4", digest, False)]
    return found


def test_it_is_gone_and_said_so(tmp_path: Path) -> None:
    run = context(tmp_path)
    assert retract.plan(run).notes == ["retracts these publications if they are there: 5"]
    assert retract.run(run).retracted == [5]
    assert list((tmp_path / "site").iterdir()) == []


def test_again_is_fine(tmp_path: Path) -> None:
    run = context(tmp_path)
    retract.run(run)
    assert retract.run(run).retracted == [5]


def test_an_unknown_publication_fails(tmp_path: Path) -> None:
    run = context(tmp_path)
    run.publications = []
    with pytest.raises(TaskFailed, match="no publication '5'"):
        retract.run(run)


def test_a_target_no_longer_configured_stops_it_before_anything_goes(tmp_path: Path) -> None:
    run = context(tmp_path)
    run.publications = [*run.publications, Publication(6, "moon", "x", "", False)]
    with pytest.raises(TaskFailed, match="no longer configured"):
        retract.run(run)
    assert (tmp_path / "site/ep/a.mp4").exists()
