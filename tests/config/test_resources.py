"""Installed folders are found."""

from __future__ import annotations

import pytest

from backoffice.config import resources
from backoffice.errors import NotFound


def test_shared_folders_are_found_and_unknown_ones_named() -> None:
    assert resources.share("etc").is_dir()
    with pytest.raises(NotFound, match="no-such"):
        resources.share("no-such")
