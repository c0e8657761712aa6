from __future__ import annotations

import pytest

from backoffice import states
from backoffice.errors import Conflict


@pytest.mark.parametrize("state", states.JOB_STATES)
@pytest.mark.parametrize("action", states.JOB_ACTIONS)
def test_an_action_is_refused_where_the_table_does_not_have_it(action: str, state: str) -> None:
    if state in states.JOB_ACTIONS[action]:
        states.guard(action, 7, state)
        return
    with pytest.raises(Conflict, match=f"job 7 is {state}; {action} is possible when it is"):
        states.guard(action, 7, state)


def test_a_refusal_names_the_states_in_the_order_of_a_jobs_life() -> None:
    with pytest.raises(Conflict, match=r"when it is queued or running or paused$"):
        states.guard("cancel", 1, states.FAILED)


def test_every_state_that_tables_name_is_a_state() -> None:
    for allowed in states.JOB_ACTIONS.values():
        assert allowed <= set(states.JOB_STATES)
    assert set(states.JOB_ENDED) < set(states.JOB_STATES)
    assert set(states.TASK_ENDED) < set(states.TASK_STATES)


def test_what_has_ended_can_only_be_tried_again_or_cloned() -> None:
    for action, allowed in states.JOB_ACTIONS.items():
        if action not in ("retry", "clone"):
            assert not allowed & set(states.JOB_ENDED), action


def test_what_succeeded_is_not_tried_again() -> None:
    assert states.SUCCEEDED not in states.JOB_ACTIONS["retry"]
