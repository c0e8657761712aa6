"""Recipes: what loads, what is refused and how, and what jobs get from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backoffice import tasks
from backoffice.config.resources import share
from backoffice.engine import variants, workflows
from backoffice.engine.workflows import Condition, Workflow
from backoffice.errors import DefinitionError, Invalid
from backoffice.media import profiles
from backoffice.tasks import Trait

PROFILES = ("mp4-720", "mp4-360")
HEAD = '<workflow xmlns="urn:backoffice:1" name="w" version="1">'


@dataclass(frozen=True)
class Type:
    PARAMETERS: Mapping[str, str] = field(default_factory=dict)
    REQUIRED: frozenset[str] = frozenset()
    VARIANTS: bool = False
    TRAITS: frozenset[Trait] = frozenset()


TYPES: dict[str, workflows.TaskType | ModuleType] = {
    "probe": Type({"require": ""}, TRAITS=frozenset({Trait.PROBE})),
    "noop": Type(),
    "transcode": Type({"profile": ""}, frozenset({"profile"}), VARIANTS=True),
    "publish": Type({"target": "", "folder": ""}, frozenset({"target"})),
    "command": Type({"command": ""}, frozenset({"command"})),
}


def load(folder: Path, *documents: str) -> dict[str, Workflow]:
    folder.mkdir(exist_ok=True)
    for number, document in enumerate(documents):
        (folder / f"{number}.xml").write_text(document)
    return workflows.load(
        [folder], task_types=TYPES, profiles=PROFILES, targets=["site"], commands=["tidy"]
    )


def one(folder: Path, body: str) -> Workflow:
    return load(folder, f"{HEAD}{body}</workflow>")["w"]


def refusal(folder: Path, body: str) -> str:
    with pytest.raises(DefinitionError) as caught:
        one(folder, body)
    return str(caught.value)


def test_tasks_come_in_order_of_need_and_otherwise_as_written(tmp_path: Path) -> None:
    workflow = one(
        tmp_path,
        '<task name="z" type="noop" needs="b"/><task name="b" type="noop"/>'
        '<task name="a" type="noop"/>',
    )
    assert [task.name for task in workflow.tasks] == ["b", "z", "a"]


def test_an_input_from_a_task_is_a_need(tmp_path: Path) -> None:
    workflow = one(
        tmp_path,
        '<input role="source"/><task name="a" type="noop"><input role="source"/></task>'
        '<task name="b" type="noop" needs="a"><input task="a" role="x"/></task>',
    )
    assert workflow.tasks[1].needs == ("a",)
    assert workflow.tasks[1].inputs == (workflows.InputRef("x", "a"),)


def test_times_are_seconds(tmp_path: Path) -> None:
    task = one(
        tmp_path,
        '<task name="a" type="noop" timeout="10m" stall="30s" backoff="500ms" delay="1h"/>',
    ).tasks[0]
    assert (task.timeout, task.stall, task.backoff, task.delay) == (600, 30, 0.5, 3600)


def test_the_later_folder_wins(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    for folder, version in ((first, 1), (second, 2)):
        folder.mkdir()
        (folder / "w.xml").write_text(
            f'<workflow xmlns="urn:backoffice:1" name="w" version="{version}">'
            '<task name="a" type="noop"/></workflow>'
        )
    found = workflows.load([first, second], task_types=TYPES, profiles=(), targets=(), commands=())
    assert found["w"].version == 2


REFUSED = {
    "circle": (
        '<task name="a" type="noop" needs="b"/>\n<task name="b" type="noop" needs="c"/>\n'
        '<task name="c" type="noop" needs="b"/>',
        "tasks need each other: b → c → b",
    ),
    "itself": ('<task name="a" type="noop" needs="a"/>', "a → a"),
    "unknown need": ('<task name="a" type="noop" needs="b"/>', "no task 'b'"),
    "unknown type": ('<task name="a" type="magic"/>', "no task type 'magic'"),
    "unknown input task": (
        '<task name="a" type="noop"><input task="b"/></task>',
        "no task 'b'",
    ),
    "unknown role": (
        '<task name="a" type="noop"><input role="b"/></task>',
        "no input of role 'b'",
    ),
    "input of nothing": ('<task name="a" type="noop"><input/></task>', "needs a role"),
    "unknown profile": (
        '<task name="a" type="transcode"><parameter name="profile">vhs</parameter></task>',
        "no profile 'vhs'; there are mp4-360, mp4-720",
    ),
    "unknown target": (
        '<task name="a" type="publish"><parameter name="target">moon</parameter></task>',
        "no target 'moon'",
    ),
    "unknown command": (
        '<task name="a" type="command"><parameter name="command">rm</parameter></task>',
        "no command 'rm'",
    ),
    "unknown task parameter": (
        '<task name="a" type="noop"><parameter name="x">1</parameter></task>',
        "no parameter 'x'",
    ),
    "missing task parameter": (
        '<task name="a" type="transcode"/>',
        "needs the parameter 'profile'",
    ),
    "parameter that may be missing": (
        '<parameter name="p" type="profile"/><task name="a" type="transcode">'
        '<parameter name="profile" from="p"/></task>',
        "may be left out",
    ),
    "unknown job parameter": (
        '<task name="a" type="transcode"><parameter name="profile" from="p"/></task>',
        "the job has no parameter 'p'",
    ),
    "bad default": (
        '<parameter name="n" type="integer" default="many"/><task name="a" type="noop"/>',
        "the default of parameter 'n': 'many' is no whole number",
    ),
    "second task of a name": (
        '<task name="a" type="noop"/><task name="a" type="noop"/>',
        "second task named 'a'",
    ),
    "fact before a probe": (
        '<input role="source"/><task name="a" type="noop">'
        '<when fact="source.lines" min="1"/></task>',
        "not known yet",
    ),
    "unknown fact": (
        '<input role="source"/><task name="p" type="probe"/><task name="a" type="noop" needs="p">'
        '<when fact="source.smell" min="1"/></task>',
        "no fact 'smell'",
    ),
    "empty condition": (
        '<parameter name="p"/><task name="a" type="noop"><when fact="parameter.p"/></task>',
        "needs min, max, equals or present",
    ),
    "choices without choice": (
        '<parameter name="p"><choice>a</choice></parameter><task name="a" type="noop"/>',
        "go together",
    ),
    "impossible count": ('<input role="s" min="2"/><task name="a" type="noop"/>', "impossible"),
    "no task": ('<input role="s"/>', "Missing child element"),
    "bad time": ('<task name="a" type="noop" timeout="soon"/>', "timeout"),
    "spaces about a name": ('<task name=" a " type="noop"/>', "name"),
    "DTD": ("<!DOCTYPE x>", "not well formed|DOCTYPE|DTD|StartTag"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_broken_recipe_is_refused_with_file_and_reason(tmp_path: Path, name: str) -> None:
    body, reason = REFUSED[name]
    message = refusal(tmp_path, body)
    assert message.startswith(f"{tmp_path / '0.xml'}:")
    assert any(part in message for part in reason.split("|"))


def test_the_line_of_a_fault_is_named(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError) as caught:
        one(tmp_path, '\n<task name="a" type="noop"/>\n<task name="b" type="nope"/>')
    assert caught.value.line == 3


def test_two_of_a_name_in_one_folder_are_refused(tmp_path: Path) -> None:
    document = f'{HEAD}<task name="a" type="noop"/></workflow>'
    with pytest.raises(DefinitionError, match="too"):
        load(tmp_path, document, document)


CHOICES = (
    '<input role="source" max="2"/>'
    '<parameter name="profile" type="profile" default="mp4-720"/>'
    '<parameter name="target" type="target"/>'
    '<parameter name="count" type="integer"/>'
    '<parameter name="fast" type="boolean"/>'
    '<parameter name="url" type="url"/>'
    '<parameter name="mood" type="choice"><choice>calm</choice><choice>wild</choice></parameter>'
    '<task name="t" type="transcode"><parameter name="profile" from="profile"/></task>'
    '<task name="p" type="publish"><parameter name="target" from="target"/>'
    '<when fact="parameter.target" present="true"/></task>'
)


def test_parameters_reach_the_tasks_and_defaults_fill_in(tmp_path: Path) -> None:
    workflow = one(tmp_path, CHOICES)
    plain, chosen = workflows.plan(workflow, {}), workflows.plan(workflow, {"profile": "mp4-360"})
    assert plain[0].parameters == {"profile": "mp4-720"}
    assert plain[1].parameters == {}
    assert chosen[0].parameters == {"profile": "mp4-360"}
    assert chosen[0].references == {}


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("nope", "1", "has no parameter 'nope'; it has count, fast"),
        ("profile", "vhs", "not one of mp4-360, mp4-720"),
        ("target", "moon", "not one of site"),
        ("count", "1.5", "no whole number"),
        ("count", "٣", "no whole number"),
        ("fast", "maybe", "neither true nor false"),
        ("mood", "sad", "not one of calm, wild"),
        ("url", "file:///etc/passwd", "no http or https URL"),
        ("url", "http://", "no http or https URL"),
        ("url", "http://host:port/", "no http or https URL"),
        ("url", "http://a/\nX: y", "control characters"),
    ],
)
def test_a_bad_parameter_is_named(tmp_path: Path, name: str, value: str, reason: str) -> None:
    with pytest.raises(Invalid, match=name) as caught:
        workflows.plan(one(tmp_path, CHOICES), {name: value})
    assert reason in str(caught.value)


def test_a_required_parameter_must_be_given(tmp_path: Path) -> None:
    workflow = one(tmp_path, '<parameter name="p" required="true"/><task name="a" type="noop"/>')
    for given_parameters in ({}, {"p": ""}):
        with pytest.raises(Invalid, match="needs the parameter 'p'"):
            workflows.plan(workflow, given_parameters)


def test_inputs_are_counted_by_role(tmp_path: Path) -> None:
    workflow = one(tmp_path, CHOICES)
    workflows.check_inputs(workflow, ["source", "source"])
    for roles in ([], ["source"] * 3, ["source", "poster"]):
        with pytest.raises(Invalid):
            workflows.check_inputs(workflow, roles)


PORTRAIT = {
    "duration": 10.0,
    "video": [{"width": 720, "height": 1280, "frame_rate": 25.0}],
    "audio": [],
}


def test_lines_are_the_shorter_side() -> None:
    known = workflows.facts({"target": "site"}, {"source": PORTRAIT})
    assert known["source.lines"] == 720
    assert known["source.audio"] == 0
    assert known["parameter.target"] == "site"


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (Condition("source.lines", minimum=720), True),
        (Condition("source.lines", minimum=721), False),
        (Condition("source.lines", maximum=719), False),
        (Condition("source.audio", minimum=1), False),
        (Condition("source.audio", equals="0"), True),
        (Condition("source.smell", minimum=0), False),
        (Condition("source.smell", equals="None"), False),
        (Condition("parameter.target", present=True), True),
        (Condition("parameter.notify", present=True), False),
        (Condition("parameter.notify", present=False), True),
        (Condition("parameter.target", minimum=1), False),
    ],
)
def test_conditions(condition: Condition, expected: bool) -> None:
    known = workflows.facts({"target": "site", "notify": ""}, {"source": PORTRAIT})
    assert workflows.holds([condition], known) is expected


def test_a_condition_reads_as_a_sentence() -> None:
    condition = Condition("source.lines", minimum=1080)
    assert workflows.describe(condition) == "source.lines is at least 1080"


@given(st.lists(st.lists(st.integers(0, 7), max_size=3), min_size=1, max_size=8))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_graph_loads_in_order_or_is_refused_for_its_circle(
    tmp_path: Path, graph: list[list[int]]
) -> None:
    body = "".join(
        f'<task name="t{n}" type="noop" needs="{" ".join(f"t{i % len(graph)}" for i in needs)}"/>'
        for n, needs in enumerate(graph)
    )
    message = ""
    try:
        workflow = one(tmp_path, body)
    except DefinitionError as error:
        message = str(error)
    if message:
        assert "need each other" in message
        names = message.rsplit(": ", 1)[1].split(" → ")
        assert names[0] == names[-1]
        return
    seen: set[str] = set()
    for task in workflow.tasks:
        assert seen >= set(task.needs)
        seen.add(task.name)
    assert len(seen) == len(graph)


@given(data=st.data())
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_a_mutated_document_loads_or_is_refused_in_words(
    tmp_path: Path, data: st.DataObject
) -> None:
    document = bytearray(f"{HEAD}{CHOICES}</workflow>".encode())
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(document) - 1))
        end = start + data.draw(st.integers(0, 12))
        document[start:end] = data.draw(st.binary(max_size=4) | st.sampled_from([b'"', b"<", b"&"]))
    (tmp_path / "0.xml").write_bytes(bytes(document))
    message = str(tmp_path)
    try:
        load(tmp_path)
    except DefinitionError as error:
        message = str(error)
    assert message.startswith(str(tmp_path))


@pytest.fixture(scope="module")
def shipped() -> dict[str, Workflow]:
    return workflows.load(
        [share("etc") / "workflows"],
        task_types={name: tasks.load(name) for name in tasks.names()},
        profiles=profiles.load([share("etc") / "profiles"]),
        targets=["site"],
        commands=[],
    )


def test_the_shipped_recipes_suit_the_shipped_tasks_and_profiles(
    shipped: dict[str, Workflow],
) -> None:
    names = {"web-video", "transcode", "audio", "proxy", "publish-only", "retract"}
    assert shipped.keys() >= names


@pytest.mark.parametrize(
    ("lines", "made"),
    [
        (90, [360]),
        (431, [360]),
        (480, [360, 540]),
        (720, [360, 540, 720]),
        (900, [360, 540, 720, 1080]),
        (1080, [360, 540, 720, 1080]),
        (1440, [360, 540, 720, 1080, 1440]),
        (2160, [360, 540, 720, 1080, 1440, 2160]),
    ],
)
def test_only_rungs_the_source_can_fill_are_made(
    shipped: dict[str, Workflow], lines: int, made: list[int]
) -> None:
    """The last may be made at the source's own height."""
    known = workflows.facts(
        {}, {"source": PORTRAIT | {"video": [{"width": lines, "height": 4000}]}}
    )
    steps = variants.apart(workflows.plan(shipped["web-video"], {}), ["rung"])
    names = [step.name for step in steps if workflows.holds(step.when, known)]
    assert [n for n in names if n.startswith("rung")] == [f"rung-{height}" for height in made]
    assert "notify" not in names


def test_the_workflow_has_the_rungs_of_the_ladder(shipped: dict[str, Workflow]) -> None:
    """With the conditions that the ladder profiles have by themselves."""
    known = profiles.load([share("etc") / "profiles"])
    steps = workflows.plan(shipped["web-video"], {})
    (rung,) = [step for step in steps if step.variants]
    for lines in range(360, 4400, 8):
        source = {"video": [{"width": 2 * lines, "height": lines}]}
        facts = workflows.facts({}, {"source": PORTRAIT | source})
        rungs = profiles.rungs(known["hls-ladder"], source)
        assert len(variants.chosen(rung.variants, facts)) == len(rungs) - 1  # but 234
