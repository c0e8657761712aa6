"""The filter of jobs as typed: ``state:failed by:alice two words``.

Owns that syntax, both ways, and nothing of what a filter finds: the parameters
of ``GET /jobs`` are what it means. A word in double quotes is text, blanks,
colons and all; a backslash keeps the character after it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from backoffice.errors import Invalid
from backoffice.web import queries

# as typed → the parameter it stands for
KEYS = {
    "state": "state",
    "workflow": "workflow",
    "by": "submitter",
    "since": "submitted-after",
    "until": "submitted-before",
}
EXAMPLE = "state:failed workflow:web-video since:2d by:alice some words"

_PARAMETERS = {parameter.name: parameter for parameter in queries.JOBS}
_TYPED = {name: key for key, name in KEYS.items()}
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_PIECE = re.compile(
    rf'(?:(?P<key>[^\s":]+):(?P<value>{_QUOTED}|[^\s"]+)|(?P<word>{_QUOTED}|[^\s":]+))(?P<blanks>\s+|$)',
    re.S,
)
_BARE = re.compile(r'[^\s":\\]+')

Pairs = list[tuple[str, str]]


def parse(text: str) -> Pairs:
    """The parameters of ``GET /jobs``, in an order of their own; raises Invalid
    with the word that is wrong and what is possible instead."""
    found: dict[str, list[str]] = {}
    for key, value in _pieces(text):
        found.setdefault(_parameter(key, value), []).append(value)
    for name, values in found.items():
        if len(values) > 1 and name not in ("q", "state"):
            raise Invalid(f"{_TYPED[name]}: is given twice; give it once")
    pairs = [(name, _joined(name, found[name])) for name in _PARAMETERS if name in found]
    for name, value in pairs:
        _check(name, value)
    return pairs


def write(values: Mapping[str, str] | Iterable[tuple[str, str]]) -> str:
    """What to type for these parameters; what is none of ``GET /jobs``'s filters
    is left out."""
    pairs = values.items() if isinstance(values, Mapping) else values
    keyed, plain = [], []
    for name, value in pairs:
        if name in _TYPED and value:
            keyed.append(f"{_TYPED[name]}:{_written(value)}")
        elif name == "q":
            plain += [_written(word) for word in value.split()]
    return " ".join([*keyed, *plain])


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    """Key, or nothing, and value of each word."""
    text, place = text.strip(), 0
    while place < len(text):
        piece = _PIECE.match(text, place)
        if piece is None:
            raise Invalid(_unreadable(text[place:]))
        yield piece["key"] or "", _unquoted(piece["value"] or piece["word"])
        place = piece.end("blanks")


def _unreadable(rest: str) -> str:
    word = rest.split(maxsplit=1)[0][:60]
    if word.endswith(":"):
        return f"{word} has no value; write it without a blank, such as {EXAMPLE.split()[0]}"
    if word.startswith(":"):
        return f"{word!r} has nothing before its colon; put it in quotes to look for it"
    return f"{word!r}: a quote is not closed, or stands inside a word"


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1], flags=re.S) if value.startswith('"') else value


def _parameter(key: str, value: str) -> str:
    if not key:
        return "q"
    if key.lower() not in KEYS:
        names = ", ".join(f"{one}:" for one in KEYS)
        raise Invalid(
            f"there is no {key[:60]}: to filter by; there are {names}."
            f' To look for these words, put them in quotes: "{key[:60]}:{value[:60]}"'
        )
    return KEYS[key.lower()]


def _joined(name: str, values: list[str]) -> str:
    return (" " if name == "q" else ",").join(values)


def _check(name: str, value: str) -> None:
    parameter = _PARAMETERS[name]
    for word in re.split("[, ]+", value) if parameter.many else [value]:
        try:
            parameter.convert(word)
        except ValueError as error:
            typed = f"{_TYPED[name]}:{word}" if name in _TYPED else word
            raise Invalid(f"{typed[:100]!r} is not {error}") from None


def _written(value: str) -> str:
    if _BARE.fullmatch(value):
        return value
    return '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'
