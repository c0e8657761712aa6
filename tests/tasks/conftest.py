"""Clips for the tests of tasks, made once a run."""

from __future__ import annotations

import pytest

from tests.clips import Clips


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Clips:
    return Clips(tmp_path_factory.mktemp("task-clips"))
