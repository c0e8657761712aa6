"""Pictures: what stands where, and that they can be read without seeing them."""

from __future__ import annotations

from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from lxml import etree, html

from backoffice.web.pages.pictures import Bar, Line, Node, dag, gantt

EVIL = "<script>alert(1)</script> & \"'\u202eabc🎬"
START = datetime(2026, 11, 21, 10)


def drawn(picture: str) -> etree._Element:
    return html.fragment_fromstring(str(picture))


def boxes(picture: str) -> dict[str, tuple[float, float]]:
    """The upper left corners, by what the titles say."""
    found = {}
    for group in drawn(picture).iter("g"):
        box = next(group.iter("rect"))
        found[next(group.iter("title")).text or ""] = (float(box.get("x")), float(box.get("y")))
    return found


def test_what_needs_another_stands_to_the_right_of_it() -> None:
    places = boxes(dag([Node("c", needs=["b"]), Node("b", needs=["a"]), Node("a")], "Plan"))
    assert places["a"][0] < places["b"][0] < places["c"][0]


def test_the_longest_way_decides_the_column() -> None:
    nodes = [Node("a"), Node("b", needs=["a"]), Node("c", needs=["a", "b"]), Node("d")]
    places = boxes(dag(nodes, "Plan"))
    assert places["a"][0] == places["d"][0] < places["b"][0] < places["c"][0]
    assert places["a"][1] != places["d"][1]


def test_an_edge_that_others_stand_for_is_not_drawn() -> None:
    nodes = [Node("a"), Node("b", needs=["a"]), Node("c", needs=["a", "b"])]
    assert len(list(drawn(dag(nodes, "Plan")).iter("path"))) == 2


def test_a_state_is_told_by_class_sign_and_words() -> None:
    picture = drawn(dag([Node("a", "Encode", state="failed", href="/tasks/1")], "Plan"))
    (group,) = picture.iter("g")
    assert group.get("class") == "node failed"
    assert [one.text for one in group.iter("title")] == ["Encode, failed"]
    assert next(group.iter("text")).text == "✗ Encode"
    assert group.getparent().get("href") == "/tasks/1"
    assert picture.get("aria-label") == "Plan"


def test_texts_are_escaped_and_no_style_is_inline() -> None:
    bar = Bar(START, START + timedelta(seconds=1), "failed", EVIL)
    for picture in (
        dag([Node(EVIL, EVIL, note=EVIL, href=EVIL)], EVIL),
        gantt([Line(EVIL, [bar], href=EVIL)], EVIL),
    ):
        root = drawn(picture)
        assert not list(root.iter("script"))
        assert not [one for one in root.iter() if one.get("style")]
        assert any(EVIL in (one.text or "") for one in root.iter("title"))


def test_a_long_title_is_cut_in_the_box_and_whole_in_words() -> None:
    title = "x" * 10_000
    root = drawn(dag([Node("a", title)], "Plan"))
    assert len(next(root.iter("text")).text or "") < 30
    assert next(root.iter("title")).text == title


def test_nothing_to_draw_is_no_fault() -> None:
    assert not boxes(dag([], "Plan"))
    assert str(gantt([], "Times")) == ""
    assert str(gantt([Line("a", [])], "Times")) == ""


@given(st.integers(1, 12), st.data())
def test_boxes_never_overlap_and_all_lie_within(count: int, data: st.DataObject) -> None:
    names = [str(n) for n in range(count)]
    nodes = [
        Node(name, needs=data.draw(st.lists(st.sampled_from(names[:n]), unique=True)) if n else ())
        for n, name in enumerate(names)
    ]
    picture = dag(nodes, "Plan")
    places = boxes(picture)
    assert len(set(places.values())) == count
    width, height = (float(drawn(picture).get(one) or 0) for one in ("width", "height"))
    assert all(0 <= x <= width - 168 and 0 <= y <= height - 46 for x, y in places.values())
    columns = {node.name: places[node.name][0] for node in nodes}
    assert all(columns[need] < columns[node.name] for node in nodes for need in node.needs)


# Time lines -----------------------------------------------------------------


def bars(picture: str) -> list[tuple[str, float, float]]:
    return [
        (str(one.get("class")), float(one.get("x")), float(one.get("width")))
        for one in drawn(picture).iter("rect")
    ]


def test_bars_are_as_long_as_what_they_stand_for() -> None:
    at = [START + timedelta(seconds=n) for n in (0, 10, 40)]
    line = Line("encode", [Bar(at[0], at[1], "waiting", "w"), Bar(at[1], at[2], "failed", "f")])
    (_, x1, waited), (kind, x2, ran) = bars(gantt([line], "Times"))
    assert (kind, x2) == ("bar failed", x1 + waited)
    assert ran == 3 * waited


def test_what_took_no_time_can_still_be_seen() -> None:
    line = Line("a", [Bar(START, START, "succeeded", "s")])
    long = Line("b", [Bar(START, START + timedelta(days=30), "running", "r")])
    assert min(width for _, _, width in bars(gantt([line, long], "Times"))) >= 2


@given(st.floats(0, 1e8))
def test_a_time_line_has_few_ticks(seconds: float) -> None:
    line = Line("a", [Bar(START, START + timedelta(seconds=seconds), "running", "r")])
    ticks = [one for one in drawn(gantt([line], "T")).iter("line")]
    assert 1 <= len(ticks) <= 10
