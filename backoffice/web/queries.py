"""Query parameters: filters, pages, cursors, and how their texts are read.

Everything that stands after the ``?`` is read here and nowhere else. What is
not understood is refused: a misspelt filter would act on everything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

from backoffice import units
from backoffice.data.search import Filter
from backoffice.documents import paging
from backoffice.documents.paging import LARGEST_ID
from backoffice.states import JOB_STATES, PUBLICATION_STATES, TASK_STATES, WORKER_STATES
from backoffice.web.routes import Parameter
from middleware.problem import Problem

DEFAULT_LIMIT = 50
LARGEST_PAGE = 1000
LARGEST_LIMIT = 1_000_000  # for lists that are streamed, not held
MOST_VALUES = 2000  # of a parameter that may have several
_LONGEST_TIME = 40  # characters
_STRING: dict[str, object] = {"type": "string"}

Values = Mapping[str, Any]


def read(query_string: str, parameters: Sequence[Parameter]) -> dict[str, Any]:
    """The values by name, lists for parameters that may be repeated; raises
    Problem 400 for what is unknown, repeated or wrong."""
    return collect(_pairs(query_string), parameters) if query_string else {}


def collect(pairs: Iterable[tuple[str, str]], parameters: Sequence[Parameter]) -> dict[str, Any]:
    """The same from names and texts, as they stand in documents."""
    known = {parameter.name: parameter for parameter in parameters}
    values: dict[str, Any] = {}
    many: dict[str, dict[Any, None]] = {}  # each value once
    for name, text in pairs:
        parameter = known.get(name)
        if parameter is None:
            names = ", ".join(sorted(known)) or "none"
            detail = f"there is no query parameter {name[:100]!r} here; there are: {names}"
            raise Problem(400, detail)
        if parameter.many:
            if words := _words(parameter, text):
                many.setdefault(name, {}).update(dict.fromkeys(words))
        elif name in values:
            raise Problem(400, f"query parameter {name!r} is given twice; give it once")
        elif text != "":
            values[name] = _converted(parameter, text)
    return values | {name: list(found) for name, found in many.items()}


def _words(parameter: Parameter, text: str) -> list[Any]:
    words = [word for word in re.split("[, ]+", text, maxsplit=MOST_VALUES) if word]
    if len(words) > MOST_VALUES:
        raise Problem(400, f"query parameter {parameter.name!r} has over {MOST_VALUES} values")
    return [_converted(parameter, word) for word in words]


def _pairs(query_string: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(query_string, keep_blank_values=True, errors="strict", max_num_fields=1000)
    except UnicodeDecodeError:
        raise Problem(400, "the query is not UTF-8") from None
    except ValueError:
        raise Problem(400, "the query has too many parameters") from None


def _converted(parameter: Parameter, text: str) -> Any:
    try:
        return parameter.convert(text)
    except ValueError as error:
        detail = f"query parameter {parameter.name!r}: {text[:100]!r} is not {error}"
        raise Problem(400, detail) from None


# Converters -----------------------------------------------------------------


def _text(text: str) -> str:
    if len(text) > 500:
        raise ValueError("at most 500 characters long")
    if any(ord(c) < 32 or ord(c) == 127 for c in text):
        raise ValueError("free of control characters")
    return text


def _name_of_action(text: str) -> str:
    # MariaDB compares a column of ASCII with nothing else.
    if not re.fullmatch(r"[a-z._-]{1,64}", text):
        raise ValueError("a kind of event such as job.cancelled")
    return text


def number(low: int, high: int) -> Callable[[str], int]:
    """From ``low`` to ``high``, both included."""

    def convert(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,19}", text) or not low <= int(text) <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return int(text)

    return convert


def _one_of(values: Sequence[str]) -> Callable[[str], str]:
    def convert(text: str) -> str:
        if text not in values:
            raise ValueError(f"one of {', '.join(values)}")
        return text

    return convert


def flag(text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError("true or false")


def moment(text: str) -> datetime:
    """Naive UTC, from ISO 8601 (UTC without a zone) or an age such as 2h."""
    try:
        if len(text) > _LONGEST_TIME:
            raise ValueError("longer than any time")
        if re.fullmatch(r"[0-9]{1,6}[smhd]", text):
            age = timedelta(seconds=units.parse_duration(text))
            return datetime.now(UTC).replace(tzinfo=None) - age
        # A plus sign that was not percent-encoded has become a space.
        found = datetime.fromisoformat(re.sub(r" (?=\d\d:?\d\d$)", "+", text))
        return found.astimezone(UTC).replace(tzinfo=None) if found.tzinfo else found
    except (ValueError, OverflowError):
        raise ValueError("a time such as 2026-11-21T10:00:00Z, nor an age such as 2h") from None


# Parameters -----------------------------------------------------------------


def _integer(low: int, high: int, default: int | None = None) -> dict[str, object]:
    schema: dict[str, object] = {"type": "integer", "minimum": low, "maximum": high}
    return schema if default is None else schema | {"default": default}


def _states(values: Sequence[str]) -> Parameter:
    schema = {"type": "array", "items": {"type": "string", "enum": list(values)}}
    return Parameter("state", _one_of(values), "any of these states", schema, many=True)


def _state(values: Sequence[str]) -> Parameter:
    schema = {"type": "string", "enum": list(values)}
    return Parameter("state", _one_of(values), "in this state", schema)


def _word(name: str, description: str) -> Parameter:
    return Parameter(name, _text, description, _STRING | {"maxLength": 500})


def _ident(name: str, description: str) -> Parameter:
    return Parameter(name, number(1, LARGEST_ID), description, _integer(1, LARGEST_ID))


def _moment(name: str, description: str) -> Parameter:
    schema = {"type": "string", "examples": ["2026-11-21T10:00:00Z", "2h"]}
    return Parameter(name, moment, f"{description}: ISO 8601, or an age such as 2h", schema)


LIMIT = Parameter(
    "limit",
    number(1, LARGEST_PAGE),
    "how many at most",
    _integer(1, LARGEST_PAGE, DEFAULT_LIMIT),
)
AFTER = Parameter("after", paging.cursor, "the cursor out of the Link of the page before", _STRING)
AFTER_EVENT = Parameter(
    "after",
    number(0, LARGEST_ID),
    "only what came after this event",
    _integer(0, LARGEST_ID),
)
BEFORE_EVENT = Parameter(
    "before",
    number(1, LARGEST_ID),
    "only what came before this event",
    _integer(1, LARGEST_ID),
)
PREVIEW = Parameter("preview", flag, "only count what would be done", {"type": "boolean"})
VALUE = Parameter("value", number(0, 100), "0 is first, 100 is last", _integer(0, 100))
ATTEMPT = Parameter("attempt", number(1, 10**9), "of this attempt", _integer(1, 10**9))
COMPARED = (
    ATTEMPT,
    Parameter("with", number(1, 10**9), "and of this one", _integer(1, 10**9)),
)
JOB = _ident("job", "of this job")
TEXT = _word("q", "words in titles, file names and metadata; each may be the beginning of one")
PAGE = (LIMIT, AFTER)
JOBS = (
    _states(JOB_STATES),
    _word("workflow", "of this workflow"),
    _word("submitter", "submitted by this user"),
    TEXT,
    _moment("submitted-after", "submitted after this time"),
    _moment("submitted-before", "submitted before this time"),
)
MANY_ACTIONS = ("cancel", "pause", "resume", "retry", "priority")
NAME = Parameter(
    "name",
    _one_of(MANY_ACTIONS),
    "which action",
    {"type": "string", "enum": list(MANY_ACTIONS)},
)
_IDS: dict[str, object] = {"type": "array", "items": _integer(1, LARGEST_ID)}
# As a form has it; ``all`` stands for all jobs that match, instead of those named.
ACTION_FORM = (
    NAME,
    VALUE,
    PREVIEW,
    *JOBS,
    Parameter("job", number(1, LARGEST_ID), "these jobs", _IDS, many=True),
    Parameter("all", flag, "all jobs that match", {"type": "boolean"}),
    _word("csrf_token", "of the page that the form is on"),
)
# What became of it.
OUTCOME = (
    NAME,
    *JOBS,
    Parameter("done", number(0, LARGEST_ID), "how many", _integer(0, LARGEST_ID)),
    Parameter("refused", number(1, LARGEST_ID), "these were not", _IDS, many=True),
)
TYPED = _word("filter", "what somebody typed, such as state:failed by:alice")
TASKS = (_state(TASK_STATES), JOB)
FILES = (JOB,)
PUBLICATIONS = (_state(PUBLICATION_STATES), JOB)
WORKERS = (_states(WORKER_STATES),)
RECIPE = _word("workflow", "the form of this workflow")
FILE = _ident("file", "with this file in it")
LONG_LIMIT = Parameter(
    "limit",
    number(1, LARGEST_LIMIT),
    "how many at most; long lists are streamed",
    _integer(1, LARGEST_LIMIT, DEFAULT_LIMIT),
)
ACTOR = _word("actor", "done by this user")
ACTION = Parameter(
    "action",
    _name_of_action,
    "of this kind, such as job.cancelled",
    _STRING | {"pattern": "^[a-z._-]+$", "maxLength": 64},
)
SUBJECT = _word("subject", "on this, such as job 1")


def filter_of(values: Values) -> Filter:
    """What the parameters ``JOBS`` say."""
    return Filter(
        states=values.get("state", ()),
        workflow=values.get("workflow", ""),
        submitter=values.get("submitter", ""),
        text=values.get("q", ""),
        submitted_after=values.get("submitted-after"),
        submitted_before=values.get("submitted-before"),
    )
