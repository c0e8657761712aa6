"""The typed filter: what it means, what is wrong with it, and back again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backoffice.errors import Invalid
from backoffice.states import JOB_STATES
from backoffice.web import queries
from backoffice.web.pages import filters


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("", []),
        ("  ", []),
        ("some words", [("q", "some words")]),
        ("state:failed", [("state", "failed")]),
        ("STATE:failed", [("state", "failed")]),
        ("state:failed,paused", [("state", "failed,paused")]),
        ("state:failed x state:paused y", [("state", "failed,paused"), ("q", "x y")]),
        ("workflow:web-video by:alice", [("workflow", "web-video"), ("submitter", "alice")]),
        ("since:2d", [("submitted-after", "2d")]),
        (
            "until:2026-11-21T10:00:00Z since:1h",
            [("submitted-after", "1h"), ("submitted-before", "2026-11-21T10:00:00Z")],
        ),
        ('by:"Anna B."', [("submitter", "Anna B.")]),
        (r'by:"a\"b\\c"', [("submitter", r'a"b\c')]),
        ('"dc:title" "state:failed"', [("q", "dc:title state:failed")]),
        ("ünïcode 🎬 \u202eabc", [("q", "ünïcode 🎬 \u202eabc")]),
    ],
)
def test_what_is_typed_becomes_parameters(typed: str, meant: list[tuple[str, str]]) -> None:
    assert filters.parse(typed) == meant


@pytest.mark.parametrize(
    ("typed", "named", "possible"),
    [
        ("state:broken", "state:broken", "queued, running"),
        ("x state:", "state:", "without a blank"),
        (":) x", ":)", "in quotes"),
        ("colour:red", "colour:", "state:, workflow:, by:, since:, until:"),
        ("since:yesterday", "since:yesterday", "2h"),
        ("by:a by:b", "by:", "once"),
        ('by:"a', 'by:"a', "quote"),
        ('a"b', 'a"b', "quote"),
        ("x" * 501, "xxx", "500"),
        ("a\0b", "a", "control"),
    ],
)
def test_a_bad_word_is_named_with_what_is_possible(typed: str, named: str, possible: str) -> None:
    with pytest.raises(Invalid) as caught:
        filters.parse(typed)
    assert named in str(caught.value)
    assert possible in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_word_with_a_colon_is_told_how_to_look_for_it() -> None:
    with pytest.raises(Invalid, match='"dc:title"'):
        filters.parse("dc:title")


def test_parameters_of_pages_are_not_shown() -> None:
    assert filters.write([("limit", "5"), ("after", "x"), ("state", "failed"), ("q", "")]) == (
        "state:failed"
    )


TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=50)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "state": st.lists(st.sampled_from(JOB_STATES), min_size=1).map(",".join),
            "workflow": TEXT,
            "submitter": TEXT,
            "submitted-after": st.sampled_from(["2d", "2026-11-21T10:00:00Z"]),
            "q": TEXT.map(lambda text: " ".join(text.split())).filter(bool),
        },
    )
)
def test_what_is_shown_means_the_same_when_it_is_sent(values: dict[str, str]) -> None:
    assert dict(filters.parse(filters.write(values))) == values


@given(st.text(max_size=200))
def test_whatever_is_typed_is_understood_or_refused(typed: str) -> None:
    try:
        pairs = filters.parse(typed)
    except Invalid:
        return
    assert queries.collect(pairs, queries.JOBS) is not None
