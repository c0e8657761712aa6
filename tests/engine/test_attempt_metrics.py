"""How attempts end is counted, under names from a bounded choice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import pytest

from backoffice.data import counters
from backoffice.data.counters import Key
from backoffice.engine import attempt_metrics
from backoffice.engine.assignments import Assignment
from backoffice.engine.claims import Claim
from backoffice.engine.leases import LeaseRecord
from backoffice.engine.outcomes import Outcome
from backoffice.states import FAILED, LOST, RELEASED, SUCCEEDED
from backoffice.tasks import Delivery, Job, Publication, Result

HELD = Claim(1, 1, 1, 1)
TARGETS = ("site", "archive")


@pytest.fixture(autouse=True)
def _nothing_pending() -> Iterator[None]:
    counters.take()
    yield
    counters.take()


def ended(
    type: str,
    outcome: Outcome,
    parameters: Mapping[str, str] = {},
    publications: Sequence[Publication] = (),
) -> dict[Key, float]:
    job = Job(1, "w", "t", "", "tester", {})
    one = Assignment(HELD, "one", type, job, parameters, (), publications, 0, 0)
    attempt_metrics.ended(one, outcome, TARGETS)
    return {key: number for key, number in counters.take().items() if "seconds" not in key[0]}


@pytest.mark.parametrize("state", [SUCCEEDED, FAILED, LOST, RELEASED])
def test_an_attempt_is_counted_by_type_and_outcome(state: str) -> None:
    assert ended("probe", Outcome(state)) == {("attempts", ("probe", state)): 1}


def test_how_long_it_took_is_observed_if_it_is_known() -> None:
    job = Job(1, "w", "t", "", "tester", {})
    one = Assignment(HELD, "one", "probe", job, {}, (), (), 0, 0)
    attempt_metrics.ended(one, Outcome(FAILED, wall_seconds=42.5), TARGETS)
    attempt_metrics.ended(one, Outcome(FAILED), TARGETS)
    taken = counters.take()
    assert taken[counters.ATTEMPT_SECONDS.bucket(60, "probe", FAILED)] == 1
    assert taken[counters.ATTEMPT_SECONDS.sum("probe", FAILED)] == 42.5


@pytest.mark.parametrize(
    ("target", "told"), [("site", "site"), ("<b>", "unknown"), ("", "unknown")]
)
def test_a_publish_is_counted_by_its_target(target: str, told: str) -> None:
    counts = ended("publish", Outcome(FAILED), {"target": target})
    assert counts["publishes", (told, FAILED)] == 1


def test_a_retraction_is_counted_once_a_target() -> None:
    places = ("site", "site", "archive", "gone")
    publications = [Publication(n, target, "x", "", False) for n, target in enumerate(places)]
    counts: Any = ended("retract", Outcome(SUCCEEDED), publications=publications)
    assert {key[1][0]: n for key, n in counts.items() if key[0] == "retractions"} == {
        "site": 1,
        "archive": 1,
        "unknown": 1,
    }


@pytest.mark.parametrize(("status", "told"), [(204, "sent"), (500, "failed"), (0, "failed")])
def test_a_message_is_counted_by_whether_it_arrived(status: int, told: str) -> None:
    delivery = Delivery("http://example.org", status, "", 0.1)
    counts = ended("notify", Outcome(SUCCEEDED, result=Result(deliveries=[delivery])))
    assert counts["notifications", ("job", told)] == 1


def test_a_rescue_is_a_lost_lease_and_a_lost_attempt() -> None:
    attempt_metrics.rescued(LeaseRecord(HELD, datetime.min, 60, "encode", "transcode"))
    assert counters.take() == {("leases_lost", ()): 1, ("attempts", ("transcode", LOST)): 1}


def test_what_comes_too_late_is_counted_as_that_alone() -> None:
    attempt_metrics.refused()
    assert counters.take() == {("outcomes_refused", ()): 1}
