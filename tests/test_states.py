from __future__ import annotations

from lxml import etree

from backoffice import states
from backoffice.errors import reason_of
from backoffice.states import Reason
from tools.import_graph import ROOT

XS = "{http://www.w3.org/2001/XMLSchema}"


def enumeration(schema: str, name: str) -> list[str]:
    """The values of a simple type of ``schema/``."""
    root = etree.parse(str(ROOT / "schema" / schema)).getroot()
    (found,) = root.iterfind(f"{XS}simpleType[@name='{name}']")
    return [str(value.get("value")) for value in found.iter(f"{XS}enumeration")]


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


def test_schemas_list_every_reason_and_state() -> None:
    assert enumeration("common.xsd", "reason") == [reason for reason in Reason if reason]
    assert enumeration("job.xsd", "jobState") == list(states.JOB_STATES)
    assert enumeration("task.xsd", "taskState") == list(states.TASK_STATES)
    assert enumeration("attempt.xsd", "attemptState") == list(states.ATTEMPT_STATES)
    assert enumeration("worker.xsd", "workerState") == list(states.WORKER_STATES)
    assert enumeration("publication.xsd", "publicationState") == list(states.PUBLICATION_STATES)
    assert enumeration("token.xsd", "tokenState") == list(states.TOKEN_STATES)


def test_a_reason_fits_into_its_column() -> None:
    assert max(map(len, Reason)) <= 32


def test_a_full_disk_and_a_quota_are_the_same_reason() -> None:
    assert reason_of(OSError(28, "No space left on device")) is Reason.DISK_FULL
    assert reason_of(OSError(122, "Disk quota exceeded")) is Reason.DISK_FULL
    assert reason_of(OSError(5, "Input/output error")) is Reason.FILE_ERROR
