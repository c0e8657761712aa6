"""Search: the newest jobs and files that match a filter, however many there are.

Owns :class:`Filter`, the words that jobs and files are found by, and the
indexes of these words. A job's words are those of its title, its key, its
inputs' file names and its metadata's values, a file's are those of its name,
without case and accents. A text matches when each of its words begins a word of
the job, or when it is the job's key; a text without any word matches by key
alone, and no file.

Submitting a job does not touch the index. The scheduler fills it a moment
later (``index``), so the newest jobs are read one by one instead. The index is
the last to be asked, for MySQL's collects every hit before it gives the first:
a word that many jobs have is soon met among the newest of them, and one that
is not met there gives the index little to do.
"""

from __future__ import annotations

import heapq
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Any

from storm.locals import Store

from backoffice.data import model
from backoffice.data.sql import clock, insert_many, is_mysql, marks, moment
from backoffice.errors import Invalid
from backoffice.states import JOB_STATES

UNINDEXED = 5000  # of the newest that are found although the index lacks them
MOST_WORDS = 16  # in a text that is looked for
LATE = timedelta(minutes=1)  # after which a missing id will not come any more
# By how much the clock may have been set back between two jobs in a row.
ASKEW = timedelta(minutes=10)

_AT_ONCE = 500  # keys in one statement
_SAMPLE = 500  # rows that tell how common a word is
_BATCH = 500  # of each kind indexed in one transaction
_CHOSEN = 500  # rows that match all but the words, looked at one by one
_NEARBY = 10_000  # ids whose words are looked at one by one
_COMMON = 0.005  # the part of these that must match for the next ones to be looked at
_WORDS_OF_A_JOB = 5000
# Before each word: so that none is too short or too common for MySQL to index.
_SIGN = "zz"
_LONGEST_WORD = 80  # MySQL leaves out what is longer than 84


@dataclass(frozen=True)
class Filter:
    """Which jobs to find; empty fields do not restrict. ``text`` is searched as said
    above. Times are naive UTC."""

    states: Collection[str] = ()
    workflow: str = ""
    submitter: str = ""
    text: str = ""
    submitted_after: datetime | None = None
    submitted_before: datetime | None = None


EVERYTHING = Filter()


def ids(
    store: Store, wanted: Filter = EVERYTHING, *, limit: int, before: int | None = None
) -> list[int]:
    """Jobs with ids below ``before`` that match. Raises Invalid for a text of
    too many words."""
    query = _query(store, wanted, before)
    if not wanted.text:
        return query.ids(store, limit)
    found = set(query.also("token = ?", model.KEY + wanted.text).ids(store, 1))
    if asked := _fewest(words(wanted.text)):
        found |= set(_by_words(store, query, asked, limit))
    return heapq.nlargest(limit, found)


def file_ids(
    store: Store, text: str, *, limit: int, before: int | None = None, job: int | None = None
) -> list[int]:
    """Files with ids below ``before`` whose names match; with ``job`` those it made."""
    query = _Query(_FILES)
    if before is not None:
        query = query.below(before)
    if job is not None:
        query = query.also("job_id = ?", job)
    asked = _fewest(words(text))
    return heapq.nlargest(limit, _by_words(store, query, asked, limit)) if asked else []


# What needs no words --------------------------------------------------------


@dataclass(frozen=True)
class _Kind:
    """What is found: a table, when its rows were made, and its index of words,
    with the statements that give the texts of some of them."""

    table: str
    made: str
    index: str
    parts: tuple[str, ...]

    def key(self, store: Store) -> str:
        return f"{self.index}.{'id' if is_mysql(store) else 'rowid'}"


_JOBS = _Kind(
    "job",
    "submitted",
    "job_search",
    (
        "SELECT id, title FROM job WHERE id IN ({})",
        f"SELECT id, SUBSTR(token, {len(model.KEY) + 1}) FROM job"
        " WHERE token > 'key:' AND token < 'key;' AND id IN ({})",
        "SELECT i.job_id, f.name FROM job_input i JOIN file f ON f.id = i.file_id"
        " WHERE i.job_id IN ({}) ORDER BY i.job_id, i.position",
        "SELECT job_id, value FROM job_metadata WHERE job_id IN ({}) ORDER BY job_id, name",
    ),
)
_FILES = _Kind("file", "created", "file_search", ("SELECT id, name FROM file WHERE id IN ({})",))


@dataclass(frozen=True)
class _Query:
    """A filter as conditions on a table. For each state there is a query of its
    own, because only then are the ids in order in the index."""

    kind: _Kind
    states: tuple[str, ...] = ()  # none: any
    conditions: tuple[str, ...] = ()
    values: tuple[Any, ...] = ()
    first: int = 0
    last: int = (1 << 63) - 1

    def also(self, condition: str, value: object) -> _Query:
        conditions, values = (*self.conditions, condition), (*self.values, value)
        return replace(self, conditions=conditions, values=values)

    def since(self, first: int) -> _Query:
        return replace(self, first=max(self.first, first))

    def below(self, end: int) -> _Query:
        return replace(self, last=min(self.last, end - 1))

    def where(self) -> tuple[str, tuple[Any, ...]]:
        """Of all states."""
        every = (*self.conditions, f"{self.kind.table}.id BETWEEN ? AND ?")
        return " AND ".join(every), (*self.values, self.first, self.last)

    def ids(self, store: Store, limit: int) -> list[int]:
        found: list[int] = []
        for state in self.states or ("",):
            one = self.also("state = ?", state) if state else self
            where, values = one.where()
            rows = store.execute(
                f"SELECT id FROM {self.kind.table} WHERE {where} ORDER BY id DESC LIMIT ?",
                (*values, limit),
            ).get_all()
            found += [key for (key,) in rows]
        return heapq.nlargest(limit, found)


def _query(store: Store, wanted: Filter, before: int | None) -> _Query:
    every = set(wanted.states) >= set(JOB_STATES)
    query = _Query(_JOBS, () if every else tuple(sorted(wanted.states)))
    if before is not None:
        query = query.below(before)
    if wanted.workflow:
        query = query.also("workflow = ?", wanted.workflow)
    if wanted.submitter:
        query = query.also("submitter = ?", wanted.submitter)
    if (after := wanted.submitted_after) is not None:
        query = query.also("submitted > ?", after).since(_first_since(store, after - ASKEW))
    if (until := wanted.submitted_before) is not None:
        query = query.also("submitted < ?", until).below(_first_since(store, until + ASKEW))
    return query


def _first_since(store: Store, when: datetime) -> int:
    """The id from which on jobs were submitted at that time or later: ids grow
    with time, so that no index on times is needed."""
    (low,) = store.execute("SELECT MIN(id) FROM job").get_one()
    (high,) = store.execute("SELECT MAX(id) + 1 FROM job").get_one()
    if low is None:
        return 0
    while low < high:
        middle = (low + high) // 2
        job, submitted = store.execute(
            "SELECT id, submitted FROM job WHERE id >= ? ORDER BY id LIMIT 1", (middle,)
        ).get_one() or (middle, None)
        if submitted is not None and (moment(submitted) or when) < when:
            low = job + 1
        else:
            high = middle
    return int(low)


# Words ----------------------------------------------------------------------


def words(text: str) -> list[str]:
    """The words of a text as the index has them: in ASCII, which MySQL splits
    in one way only. Of Chinese and Japanese each character is one."""
    bare = "".join(c for c in _plain(_plain(text).casefold()) if not unicodedata.combining(c))
    return [
        _written(word) for run in _RUNS.findall(bare) for word in _IDEOGRAPHS.split(run) if word
    ]


def _plain(text: str) -> str:
    """Decomposed (NFKD) but for the order of combining marks, which are left out
    anyway: to sort a long run of them takes time by the square of its length."""
    return text if text.isascii() else "".join(map(_decomposed, text))


_decomposed = partial(unicodedata.normalize, "NFKD")
_RUNS = re.compile(r"[^\W_]+")
_IDEOGRAPHS = re.compile(
    "([\u3041-\u30ff\u31f0-\u31ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])"
)


def _written(word: str) -> str:
    coded = "".join(c if c.isascii() else f"_{ord(c):x}_" for c in word)
    return (_SIGN + coded)[:_LONGEST_WORD]


def _text(parts: Iterable[str]) -> str:
    """The words of a job, each with a blank before it."""
    found = dict.fromkeys(word for part in parts for word in words(part))
    return "".join(f" {word}" for word in list(found)[:_WORDS_OF_A_JOB])


def _texts(store: Store, kind: _Kind, ids: Sequence[int]) -> dict[int, str]:
    """The words of some, from what they are made of."""
    if not ids:
        return {}
    parts: dict[int, list[str]] = {one: [] for one in ids}
    for statement in kind.parts:
        for one, part in store.execute(statement.format(marks(ids)), ids).get_all():
            parts[one].append(part)
    return {one: _text(found) for one, found in parts.items()}


# Finding by them ------------------------------------------------------------


def _by_words(store: Store, query: _Query, asked: Sequence[str], limit: int) -> list[int]:
    """In parts, each below the one before; it ends as soon as there are enough."""
    mark = _mark(store, query.kind)
    found = _among_unindexed(store, query.since(mark + 1), asked)
    query = query.below(mark + 1)
    if query.conditions or query.states:
        chosen = query.ids(store, _CHOSEN)
        found += _among(store, query.kind, chosen, asked)
        if len(chosen) < _CHOSEN:
            return found
        query = query.below(chosen[-1])
    while len(found) < limit and query.last >= query.first:
        nearby = query.since(query.last - _NEARBY)
        hits = _hits(store, nearby, asked, limit - len(found))
        found, query = found + hits, query.below(nearby.first)
        if len(hits) <= _NEARBY * _COMMON:
            found += _hits(
                store, query, asked, limit - len(found), by=_rarest(store, query.kind, asked)
            )
            break
    return found


def _among_unindexed(store: Store, query: _Query, asked: Sequence[str]) -> list[int]:
    texts = _texts(store, query.kind, query.ids(store, UNINDEXED))
    return [one for one, text in texts.items() if all(word in text for word in _begun(asked))]


def _among(store: Store, kind: _Kind, ids: Sequence[int], asked: Sequence[str]) -> list[int]:
    if not ids:
        return []
    key = kind.key(store)
    rows = store.execute(
        f"SELECT {key} FROM {kind.index} WHERE {key} IN ({marks(ids)})"
        f" AND {_has_all(asked)} ORDER BY {key} DESC",
        (*ids, *_begun(asked)),
    ).get_all()
    return [one for (one,) in rows]


def _has_all(asked: Sequence[str]) -> str:
    return " AND ".join(["INSTR(words, ?) > 0"] * len(asked))


def _begun(asked: Sequence[str]) -> list[str]:
    """As they stand in the text of a job: each begins a word there."""
    return [f" {word}" for word in asked]


def _fewest(asked: Iterable[str]) -> list[str]:
    """Without those that another one begins with."""
    once = sorted(set(asked))
    # In this order whatever begins with a word comes right after it.
    needed = [one for one, after in pairwise([*once, ""]) if not after.startswith(one)]
    if len(needed) > MOST_WORDS:
        raise Invalid(f"a search has at most {MOST_WORDS} words, not {len(needed)}")
    return needed


def _hits(
    store: Store, query: _Query, asked: Sequence[str], limit: int, by: Sequence[str] = ()
) -> list[int]:
    """Read backwards by their ids, or those that the index has ``by`` some words,
    with a look at each hit's row."""
    kind, mysql = query.kind, is_mysql(store)
    key = kind.key(store)
    where, values = query.where()
    where = f"{where} AND {key} BETWEEN ? AND ? AND {_has_all(asked)}"
    values = (*values, query.first, query.last, *_begun(asked))
    if query.states:
        where, values = f"{where} AND state IN ({marks(query.states)})", (*values, *query.states)
    if by:
        match = "MATCH (words) AGAINST (? IN BOOLEAN MODE)" if mysql else f"{kind.index} MATCH ?"
        text = " ".join(f"+{w}*" for w in by) if mysql else " AND ".join(f"{w}*" for w in by)
        where, values = f"{match} AND {where}", (text, *values)
    join = "STRAIGHT_JOIN" if mysql else "CROSS JOIN"  # in this order and no other
    rows = store.execute(
        f"SELECT {key} FROM {kind.index} {join} {kind.table} ON {kind.table}.id = {key}"
        f" WHERE {where}"
        f" ORDER BY {key} DESC LIMIT ?",
        (*values, limit),
    ).get_all()
    return [job for (job,) in rows]


def _rarest(store: Store, kind: _Kind, asked: Sequence[str]) -> list[str]:
    """The words that the index should be asked for: none of the newest rows has
    them, or else the one that fewest have. The others cost more than they save."""
    counts = store.execute(
        f"SELECT {', '.join(['SUM(INSTR(words, ?) > 0)'] * len(asked))} FROM"
        f" (SELECT words FROM {kind.index} ORDER BY {kind.key(store)} DESC LIMIT {_SAMPLE}) newest",
        _begun(asked),
    ).get_one()
    ranked = sorted(zip(counts, asked, strict=True), key=lambda one: (one[0], -len(one[1])))
    unseen = [word for count, word in ranked if not count]
    return unseen or [ranked[0][1]]


# The index ------------------------------------------------------------------


def index(store: Store, limit: int = _BATCH) -> int:
    """Take in the next jobs and files, at most ``limit`` of each; returns how many
    there were.

    Ids are given out before they are committed, so a missing one is waited for
    until what comes after it is old.
    """
    return _index(store, _JOBS, limit) + _index(store, _FILES, limit)


def _index(store: Store, kind: _Kind, limit: int) -> int:
    mark = _mark(store, kind)
    rows = store.execute(
        f"SELECT id, {kind.made} FROM {kind.table} WHERE id > ? ORDER BY id LIMIT ?", (mark, limit)
    ).get_all()
    new = list(_without_gap(rows, mark, clock(store) - LATE))
    column = kind.key(store).split(".")[1]
    insert_many(store, kind.index, (column, "words"), _texts(store, kind, new).items())
    return len(new)


def _mark(store: Store, kind: _Kind) -> int:
    """The newest one in the index."""
    key = kind.key(store)
    newest = store.execute(f"SELECT {key} FROM {kind.index} ORDER BY {key} DESC LIMIT 1").get_one()
    return int(newest[0]) if newest else 0


def _without_gap(rows: Iterable[tuple[int, Any]], mark: int, settled: datetime) -> Iterator[int]:
    for one, made in rows:
        if one != mark + 1 and (moment(made) or settled) > settled:
            return
        yield one
        mark = one


def forget(store: Store, jobs: Sequence[int]) -> None:
    """Drop jobs from the index."""
    _forget(store, _JOBS, jobs)


def forget_files(store: Store, files: Sequence[int]) -> None:
    _forget(store, _FILES, files)


def _forget(store: Store, kind: _Kind, ids: Sequence[int]) -> None:
    if ids:
        store.execute(f"DELETE FROM {kind.index} WHERE {kind.key(store)} IN ({marks(ids)})", ids)


def behind(store: Store) -> int:
    """About how many jobs and files the indexes lack; of these, no search finds
    others than the newest ``UNINDEXED`` of each."""
    return _behind(store, _JOBS) + _behind(store, _FILES)


def _behind(store: Store, kind: _Kind) -> int:
    (newest,) = store.execute(f"SELECT MAX(id) FROM {kind.table}").get_one()
    return max(0, int(newest or 0) - _mark(store, kind))
