"""Positions, as both servers write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backoffice.data import gtid
from backoffice.data.gtid import Position

UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"

maria = st.dictionaries(st.integers(0, 5), st.tuples(st.integers(1, 9), st.integers(1, 99))).map(
    lambda found: ",".join(f"{d}-{s}-{n}" for d, (s, n) in found.items())
)
ranges = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 9)), min_size=1, max_size=5)
mysql = st.dictionaries(st.integers(0, 2), ranges).map(
    lambda found: ",\n".join(
        f"{UUID[:-1]}{source}:" + ":".join(f"{a}-{a + more}" for a, more in parts)
        for source, parts in found.items()
    )
)
positions = st.one_of(st.tuples(maria, maria), st.tuples(mysql, mysql))


@pytest.mark.parametrize(
    "text",
    ["", "0-1-270", "0-1-270,1-3-12", f"{UUID}:1-270", f"{UUID}:1-3:5:7-9", f"{UUID}:tag:4"],
)
def test_what_a_server_writes_is_written_again_as_it_was(text: str) -> None:
    assert str(gtid.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "0-1",
        "x",
        "0-1-2;DROP TABLE job",
        f"{UUID}",
        f"{UUID}:5-3",
        "0-1-2," * 1000,
        "4294967296-1-1",
        "0-4294967296-1",
        f"0-1-{1 << 64}",
        f"{UUID}:1-{1 << 63}",
    ],
)
def test_what_no_server_writes_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="the position"):
        gtid.parse(text)


def test_neighbouring_ranges_are_one() -> None:
    assert str(gtid.parse(f"{UUID}:1-3:4-5,\n{UUID}:9:6-8")) == f"{UUID}:1-9"


def test_a_later_transaction_of_a_domain_covers_the_earlier_ones() -> None:
    assert gtid.parse("0-2-7").covers(gtid.parse("0-1-6"))
    assert not gtid.parse("0-2-7").covers(gtid.parse("0-1-8"))
    assert not gtid.parse("0-2-7").covers(gtid.parse("1-1-1"))


def test_a_hole_is_not_covered() -> None:
    assert not gtid.parse(f"{UUID}:1-3:5-9").covers(gtid.parse(f"{UUID}:4"))


def test_a_merged_position_names_the_server_that_came_further() -> None:
    assert str(gtid.parse("0-1-8").merged(gtid.parse("0-2-9,1-1-1"))) == "0-2-9,1-1-1"
    assert str(gtid.parse("0-2-9").merged(gtid.parse("0-1-8"))) == "0-2-9"


@given(positions)
def test_a_merged_position_covers_both_and_is_read_back(texts: tuple[str, str]) -> None:
    one, other = map(gtid.parse, texts)
    both = one.merged(other)
    assert both.covers(one)
    assert both.covers(other)
    assert both == other.merged(one) == gtid.parse(str(both))
    assert one.covers(Position())
    assert one.covers(other) == (both == one)
