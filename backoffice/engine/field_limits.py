"""Limits of what users write into a job or a file: lengths, characters, priorities."""

from __future__ import annotations

from collections.abc import Mapping

from backoffice.errors import Invalid

PRIORITIES = range(101)  # 0 is first
DEFAULT_PRIORITY = 50
LONGEST = {"title": 500, "key": 200, "name": 128, "value": 10_000, "submitter": 255}


def check_pairs(pairs: Mapping[str, str]) -> None:
    for name, value in pairs.items():
        check_length("name", name)
        check_ends("name", name)
        check_length("value", value)


def check_priority(priority: int) -> None:
    if priority not in PRIORITIES:
        raise Invalid(f"priority {priority} is not from 0 (first) to 100 (last)")


def check_length(what: str, text: str) -> None:
    if len(text) > LONGEST[what]:
        raise Invalid(f"a {what} has at most {LONGEST[what]} characters; this has {len(text)}")
    if "\0" in text:
        raise Invalid(f"a {what} cannot hold a NUL character")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise Invalid(f"a {what} is not UTF-8: {text!r}")


def check_ends(what: str, text: str) -> None:
    """MySQL takes names that differ only in blanks at their end for the same."""
    if text != text.strip():
        raise Invalid(f"a {what} cannot begin or end with a blank: {text!r}")
