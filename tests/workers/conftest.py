from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _no_strays(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test process has children that are not a worker's: none is killed."""
    monkeypatch.setattr("backoffice.workers.process_pool.kill_strays", lambda keep: None)
