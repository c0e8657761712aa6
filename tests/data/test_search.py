from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from storm.locals import Store

from backoffice.data import search
from backoffice.data.search import Filter
from backoffice.data.sql import insert_many
from backoffice.engine import file_registry
from backoffice.errors import Invalid
from backoffice.reports import records
from backoffice.scheduler import retention, scheduler
from tests.board import Board, chain
from tests.crowd import together
from tests.plans import plans

BEGAN = datetime(2026, 1, 1)
MINUTE = timedelta(minutes=1)


def fill(
    store: Store, first: int, last: int, title: str = "Episode {} of many", **row: Any
) -> None:
    """Jobs submitted a minute apart."""
    rows = [
        {
            "id": n,
            "token": f"id:{n}",
            "fingerprint": "",
            "title": title.format(n),
            "workflow": "chain",
            "version": 1,
            "state": "succeeded",
            "priority": 50,
            "submitter": "tester",
            "submitted": BEGAN + n * MINUTE,
            "message": "",
        }
        | row
        for n in range(first, last + 1)
    ]
    insert_many(store, "job", list(rows[0]), [list(one.values()) for one in rows])


def found(board: Board, text: str = "", *, limit: int = 50, **wanted: Any) -> list[int]:
    before = wanted.pop("before", None)
    query = Filter(text=text, **wanted)
    ids: list[int] = board.read(search.ids, query, limit=limit, before=before)
    return ids


# Words ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Episode 1", "zzepisode zz1"),
        ("ÉCOLE Straße", "zzecole zzstrasse"),
        ("e\u0301cole", "zzecole"),
        ("a_b-c.mp4", "zza zzb zzc zzmp4"),
        ("Дом", "zz_434__43e__43c_"),
        ("影片2", "zz_5f71_ zz_7247_ zz2"),
        ("ｆｉｌｍ ①", "zzfilm zz1"),
        ("!? -- ´", ""),
        ("x" * 99, "zz" + "x" * 78),
    ],
)
def test_words_are_plain_and_the_same_everywhere(text: str, words: str) -> None:
    assert search.words(text) == words.split()


# What a text finds ----------------------------------------------------------


@pytest.fixture(params=["not yet indexed", "nearby", "indexed"])
def library(request: pytest.FixtureRequest, board: Board, monkeypatch: pytest.MonkeyPatch) -> Board:
    """Jobs 1 to 6 with words in all places, found in each of the ways there are."""
    (board.settings.paths.roots[0] / "Ünter_Wasser-4K.mov").write_bytes(b"x")
    media = str(board.settings.paths.roots[0] / "Ünter_Wasser-4K.mov")
    flow = chain("one")
    board.submit(flow, title="Épisode 12: The Sea", key="Ep_012")
    board.submit(flow, title="the sea at night", metadata={"dc:creator": "Studio Ghïbli"})
    board.submit(flow, title="Тихий Дон", submitter="alice")
    board.submit(flow, title="東京物語 50% off", metadata={"note": "was who www com"})
    board.submit(with_input(), title="tape", inputs=[("source", media)])
    board.submit(flow, title="!!!", key="!?")
    if request.param == "nearby":
        assert board.do(search.index) == 7  # with the file
    if request.param == "indexed":
        board.do(search.index)
        monkeypatch.setattr(search, "_NEARBY", 0)
    return board


def with_input() -> Any:
    from backoffice.engine.workflows import InputSpec, TaskSpec
    from tests.board import SOURCE, recipe

    task = TaskSpec(name="one", type="noop", inputs=(SOURCE,))
    return recipe(task, inputs=(InputSpec("source"),))


# One database for all of them: making one costs much more than a search.
FOUND: list[tuple[str, list[int]]] = [
    ("sea", [2, 1]),
    ("SEA the", [2, 1]),
    ("se", [2, 1]),
    ("ea", []),
    ("sea night", [2]),
    ("sea day", []),
    ("episode", [1]),
    ("ÉPISODE", [1]),
    ("12", [1]),
    ("1", [1]),
    ("ghibli", [2]),
    ("creator", []),
    ("дон тих", [3]),
    ("京", [4]),
    ("東京", [4]),
    ("50%", [4]),
    ("5_%", [4]),
    ("was who www com w", [4]),
    ("unter wasser 4k mov", [5]),
    ("t", [5, 2, 1]),
    ("Ep_012", [1]),
    ("012", [1]),
    ("!?", [6]),
    ("!!!", []),
    ("+sea* -night", [2]),
    ('"sea" OR (night) words:the', []),
    ("'; DROP TABLE job", []),
    ("\x00", []),
]


def test_a_text_finds_the_jobs_whose_words_begin_so(library: Board) -> None:
    assert [(text, found(library, text)) for text, _ in FOUND] == FOUND


def test_other_conditions_hold_too(library: Board) -> None:
    assert found(library, "дон", submitter="alice") == [3]
    assert found(library, "дон", submitter="tester") == []
    assert found(library, "sea", states=["queued"]) == [2, 1]
    assert found(library, "sea", states=["failed", "cancelled"]) == []
    assert found(library, "sea", before=2) == [1]
    assert found(library, "sea", limit=1) == [2]
    assert found(library, "!?", states=["failed"]) == []
    assert found(library, "sea", submitted_before=library.clock() - MINUTE * 60) == []


def test_a_search_of_too_many_words_is_refused(board: Board) -> None:
    many = " ".join(f"{n}x" for n in range(search.MOST_WORDS + 1))
    with pytest.raises(Invalid, match="at most 16 words, not 17"):
        found(board, many)
    assert found(board, "again " * 99) == []


def test_pages_go_on_through_the_parts_of_a_search(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "_NEARBY", 20)
    monkeypatch.setattr(search, "_CHOSEN", 10)
    board.do(fill, 1, 100)
    scheduler.index(board.database)
    board.do(fill, 101, 110)
    filters: tuple[dict[str, Any], ...] = (
        {},
        {"states": ["succeeded", "failed"]},
        {"submitter": "tester"},
    )
    for wanted in filters:
        every: list[int] = []
        while page := found(
            board, "episode", limit=7, before=every[-1] if every else None, **wanted
        ):
            every += page
        assert every == list(range(110, 0, -1))


# The index ------------------------------------------------------------------


def indexed(board: Board) -> int:
    (count,) = board.read(lambda s: s.execute("SELECT COUNT(*) FROM job_search").get_one())
    return int(count)


def test_the_index_is_filled_in_batches(board: Board) -> None:
    board.do(fill, 1, 25)
    assert board.read(search.behind) == 25
    assert [board.do(search.index, 10) for _ in range(4)] == [10, 10, 5, 0]
    assert (indexed(board), board.read(search.behind)) == (25, 0)


def test_a_missing_id_is_waited_for_until_what_follows_is_old(board: Board) -> None:
    now = board.clock()
    board.do(fill, 1, 2)
    board.do(fill, 4, 4, submitted=now)
    assert board.do(search.index) == 2
    board.do(fill, 3, 3, submitted=now)
    assert board.do(search.index) == 2
    board.do(fill, 9, 9, submitted=now - search.LATE)
    assert board.do(search.index) == 1


def test_two_schedulers_fill_the_index_once(board: Board) -> None:
    board.do(fill, 1, 300)
    together(board.database, *[partial(scheduler.index, board.database)] * 3)
    assert indexed(board) == 300


def test_a_job_that_is_pruned_leaves_the_index(board: Board) -> None:
    board.do(fill, 1, 3, finished=BEGAN)
    board.do(search.index)
    retention.prune(board.database, board.settings, timedelta(days=1))
    assert (indexed(board), found(board, "episode")) == (0, [])


# How it is found ------------------------------------------------------------

FILTERS: dict[str, dict[str, Any]] = {
    "none": {},
    "state": {"states": ["failed"]},
    "states": {"states": ["failed", "queued"]},
    "workflow": {"workflow": "rare"},
    "submitter": {"submitter": "seldom"},
    "submitted": {
        "submitted_after": BEGAN + 500 * MINUTE,
        "submitted_before": BEGAN + 700 * MINUTE,
    },
    "common text": {"text": "episode"},
    "rare text": {"text": "777"},
}


@pytest.fixture
def big(board: Board) -> Board:
    board.do(fill, 1, 20_000)
    board.do(fill, 20_001, 20_100, workflow="rare", submitter="seldom", state="failed")
    scheduler.index(board.database)
    if board.database.mysql:
        board.do(lambda s: s.execute("ANALYZE TABLE job, job_search").get_all())
    return board


@pytest.mark.parametrize("name", FILTERS)
def test_no_filter_sorts_or_reads_all_jobs(big: Board, name: str) -> None:
    with plans(big, "FROM job") as found_plans:
        assert found(big, **FILTERS[name])
    # The index of words alone gives MySQL its hits in another order.
    ours = [plan for plan in found_plans if "MATCH" not in plan.statement]
    assert 0 < len(ours) <= 50
    assert not [plan for plan in ours if plan.slow]


# Files ----------------------------------------------------------------------


@pytest.mark.parametrize("ways", ["not yet indexed", "nearby", "indexed"])
def test_files_are_found_by_words_of_their_names(
    board: Board, monkeypatch: pytest.MonkeyPatch, ways: str
) -> None:
    names = ["Night_Sea.mov", "night-sky.MOV", "été.mp4"]
    for number, name in enumerate(names, 1):
        path = board.settings.paths.roots[0] / name
        path.write_bytes(b"x")
        assert board.do(file_registry.register, path, 1, "ann", {}) == (number, True)
    if ways != "not yet indexed":
        scheduler.index(board.database)
        assert board.read(search.behind) == 0
    if ways == "indexed":
        monkeypatch.setattr(search, "_NEARBY", 0)

    def names_of(text: str, **wanted: Any) -> list[str]:
        shown = board.read(records.files, text=text, limit=9, **wanted)
        return [one["name"] for one in shown]

    assert names_of("NIGHT") == names[1::-1]
    assert names_of("sea mov") == names[:1]
    assert names_of("ete") == names[2:]
    assert names_of("ight") == names_of("!") == []
    assert names_of("night", before=2) == names[:1]
    assert names_of("night", job=7) == []


def test_a_file_that_is_pruned_leaves_the_index(board: Board, source: Path) -> None:
    size = source.stat().st_size
    board.do(file_registry.register, source, size, "ann", {})
    board.do(fill, 1, 1, finished=BEGAN)
    board.do(lambda s: s.execute("UPDATE file SET job_id = 1"))
    scheduler.index(board.database)
    retention.prune(board.database, board.settings, timedelta(days=1))
    assert not board.read(lambda s: s.execute("SELECT words FROM file_search").get_all())
    assert board.read(records.files, limit=9) == []
