from __future__ import annotations

import pytest

from backoffice.errors import TaskFailed
from backoffice.publishers import check_name, staging


def test_a_token_names_its_attempt() -> None:
    token = staging.token(7, 2)
    name = staging.name(token)
    assert staging.is_staging(name)
    assert staging.token_of(name) == token
    assert staging.attempt_of(token) == (7, 2)


@pytest.mark.parametrize("token", ["mine", "1-", "-1", "1-1-1", "1" * 30 + "-1"])
def test_a_token_of_another_form_has_no_attempt(token: str) -> None:
    assert staging.attempt_of(token) is None


def test_the_prefix_of_a_task_matches_no_other_task() -> None:
    prefix = staging.task_prefix(staging.token(7, 2))
    assert staging.name(staging.token(7, 1)).startswith(prefix)
    assert not staging.name(staging.token(77, 1)).startswith(prefix)


def test_nothing_is_published_under_a_staging_name() -> None:
    with pytest.raises(TaskFailed):
        check_name(f"film/{staging.name('1-1')}")
