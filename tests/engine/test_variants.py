"""Variants of a task: what jobs get of them, on one host and on several."""

from __future__ import annotations

import json
from typing import Any

import pytest

from backoffice.engine import assignments, variants, workflows
from backoffice.engine.claims import ClaimedTask
from backoffice.engine.workflows import (
    Condition,
    InputRef,
    InputSpec,
    TaskSpec,
    Variant,
    Workflow,
)
from backoffice.states import BLOCKED, READY, SKIPPED, SUCCEEDED
from tests.board import SOURCE, Board, recipe
from tests.engine.test_workflows import one, refusal


def rung(lines: int) -> Variant:
    return Variant(
        str(lines),
        parameters={"profile": f"mp4-{lines}"},
        when=(Condition("source.lines", minimum=lines),),
        timeout=60.0,
        weight=lines,
    )


LADDER = recipe(
    TaskSpec("probe", "noop", inputs=(SOURCE,)),
    TaskSpec(
        "rung",
        "noop",
        needs=("probe",),
        inputs=(SOURCE,),
        variants=(rung(360), rung(720), rung(1080)),
    ),
    TaskSpec("package", "noop", needs=("rung",), inputs=(InputRef("rendition", "rung"),)),
    inputs=(InputSpec("source"),),
)
SHARED = ["rung-360", "rung-720", "rung-1080"]


def submitted(board: Board, source: Any, workflow: Workflow = LADDER) -> int:
    return board.submit(workflow, inputs=[("source", str(source))])


def tasks(board: Board, job: int) -> dict[str, str]:
    rows = board.read(
        lambda s: s.execute("SELECT name, state FROM task WHERE job_id = ? ORDER BY id", (job,))
    )
    return dict(rows)


def spec(board: Board, name: str) -> dict[str, Any]:
    (text,) = board.read(
        lambda s: s.execute("SELECT spec FROM task WHERE name = ?", (name,)).get_one()
    )
    found: dict[str, Any] = json.loads(text)
    return found


def probed(board: Board, worker: int, lines: int) -> None:
    (claimed,) = board.claim(worker)
    facts = {"video": [{"width": 2 * lines, "height": lines}], "audio": []}
    board.finish(claimed.claim, facts={1: facts})


def assigned(board: Board, claimed: ClaimedTask) -> assignments.Assignment:
    (found,) = board.read(assignments.build, [claimed])
    return found


# How many tasks


def test_a_host_alone_makes_all_that_apply_in_one_task(board: Board, source: Any) -> None:
    worker = board.worker()
    job = submitted(board, source)
    assert list(tasks(board, job)) == ["probe", "rung", "package"]
    probed(board, worker, 800)
    (claimed,) = board.claim(worker)
    profiles = [parameters["profile"] for parameters in assigned(board, claimed).variants]
    assert profiles == ["mp4-360", "mp4-720"]
    board.finish(claimed.claim)
    assert tasks(board, job) == {"probe": SUCCEEDED, "rung": SUCCEEDED, "package": READY}


def test_several_hosts_share_them_as_a_task_each(board: Board, source: Any) -> None:
    worker = board.worker()
    board.worker(host="there")
    job = submitted(board, source)
    assert list(tasks(board, job)) == ["probe", *SHARED, "package"]
    assert spec(board, "package")["needs"] == SHARED
    assert [wanted["task"] for wanted in spec(board, "package")["inputs"]] == SHARED
    probed(board, worker, 800)
    states = tasks(board, job)
    assert [states[name] for name in SHARED] == [READY, READY, SKIPPED]
    claimed = board.claim(worker)[0]
    assert assigned(board, claimed).parameters == {"profile": "mp4-360"}
    assert assigned(board, claimed).variants == []


@pytest.mark.parametrize(
    "other",
    [
        {"host": "here", "pid": 8},
        {"host": "there", "queues": ("sound",)},
        {"host": "there", "tags": ("gpu",), "queues": ("gpu-*",)},
    ],
)
def test_only_hosts_count_that_may_take_the_task(
    board: Board, source: Any, other: dict[str, Any]
) -> None:
    board.worker()
    board.worker(**other)
    assert "rung" in tasks(board, submitted(board, source))


def test_a_host_that_is_drained_does_not_count(board: Board, source: Any) -> None:
    board.worker()
    gone = board.worker(host="there")
    board.do(lambda s: s.execute("UPDATE worker SET state = 'draining' WHERE id = ?", (gone,)))
    assert "rung" in tasks(board, submitted(board, source))


def test_without_any_worker_it_is_one_task(board: Board, source: Any) -> None:
    assert "rung" in tasks(board, submitted(board, source))


# Which of them


def test_none_that_applies_skips_the_task_and_says_why(board: Board, source: Any) -> None:
    worker = board.worker()
    job = submitted(board, source)
    probed(board, worker, 90)
    assert tasks(board, job) == {"probe": SUCCEEDED, "rung": SKIPPED, "package": READY}
    (message,) = board.read(
        lambda s: s.execute("SELECT message FROM task WHERE name = 'rung'").get_one()
    )
    assert message.startswith("because none of its variants applies: 360 not source.lines is")


def test_the_task_has_the_weight_and_the_time_of_all_that_it_makes(
    board: Board, source: Any
) -> None:
    worker = board.worker()
    job = submitted(board, source)
    assert spec(board, "rung")["weight"] == 360 + 720 + 1080
    assert tasks(board, job)["rung"] == BLOCKED
    probed(board, worker, 800)
    assert spec(board, "rung")["weight"] == 360 + 720
    assert spec(board, "rung")["timeout"] == 120.0


# In the workflow's document


def body(variants: str, inside: str = "") -> str:
    return f'<task name="rung" type="transcode">{inside}{variants}</task>'


def test_a_variant_has_the_parameters_of_its_task_unless_it_gives_its_own(
    tmp_path: Any,
) -> None:
    given = '<parameter name="profile">mp4-360</parameter>'
    own = '<parameter name="profile">mp4-720</parameter>'
    (task,) = workflows.plan(
        one(
            tmp_path,
            body(f'<variant name="a"/><variant name="b" weight="9">{own}</variant>', given),
        ),
        {},
    )
    assert [dict(sets) for sets in task.parameter_sets] == [
        {"profile": "mp4-360"},
        {"profile": "mp4-720"},
    ]
    assert [variant.weight for variant in task.variants] == [1, 9]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ('<task name="a" type="noop"><variant name="b"/></task>', "a noop task cannot have"),
        (body('<variant name="b"/>'), "a transcode task needs the parameter 'profile'"),
        (
            body(
                '<variant name="b"/><variant name="b"/>',
                '<parameter name="profile">mp4-360</parameter>',
            ),
            "there is a second variant named 'b'",
        ),
        (
            body('<variant name="b"/>', '<parameter name="profile">mp4-360</parameter>')
            + '<task name="rung-b" type="noop"/>',
            "the variant would be a second task named 'rung-b'",
        ),
        (
            body(
                '<variant name="b"><parameter name="profile">mp4-360</parameter>'
                '<when fact="source.lines" min="9"/></variant>'
            ).join(['<input role="source"/>', ""]),
            "source.lines is not known yet",
        ),
    ],
)
def test_variants_that_cannot_be_are_refused(tmp_path: Any, document: str, words: str) -> None:
    assert words in refusal(tmp_path, document)


def test_what_needs_a_task_needs_all_its_variants() -> None:
    made = variants.apart(LADDER.tasks, ["rung"])
    assert [task.name for task in made] == ["probe", *SHARED, "package"]
    assert made[-1].needs == tuple(SHARED)
    assert {ref.role for ref in made[-1].inputs} == {"rendition"}
    assert [task.timeout for task in made[1:4]] == [60.0] * 3
    assert variants.apart(LADDER.tasks, []) == LADDER.tasks
