from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest

from backoffice.data import model
from backoffice.data.database import Database
from backoffice.data.model import ID, KEY
from backoffice.data.sql import insert_many
from backoffice.errors import NotFound

AT = datetime(2026, 11, 21, 10, 0, 0, 123456)
HREF = "file:///srv/media/a%20b.mp4"


def job(token: str = f"{KEY}ep-1") -> model.Job:
    row = model.Job()
    row.token, row.fingerprint, row.title = token, "0" * 64, "Épisode 1 🎬"
    row.workflow, row.version, row.state = "web-video", 1, "queued"
    row.priority, row.submitter, row.submitted, row.message = 50, "alice", AT, ""
    return row


def kept(database: Database, row: Any) -> Any:
    """The row as it comes back from the database."""
    database.transact(lambda store: store.add(row))
    key = row.id
    database.close()
    return database.read(model.get, type(row), key, "row")


def test_a_row_comes_back_as_it_was(database: Database) -> None:
    row = kept(database, job())
    assert (row.title, row.submitted, row.started) == ("Épisode 1 🎬", AT, None)
    assert (row.priority, row.progress, row.state) == (50, 0.0, "queued")


def test_facts_come_out_parsed(database: Database) -> None:
    row = model.File()
    row.href, row.name, row.media_type = HREF, "a b.mp4", "video/mp4"
    row.size, row.state, row.created = 5 << 40, "present", AT
    row.facts_json = model.dump({"duration": 10.0, "title": "größe 🎞"})
    row = kept(database, row)
    assert row.facts == {"duration": 10.0, "title": "größe 🎞"}
    assert (row.size, row.tree, row.role) == (5 << 40, False, "")


@pytest.mark.parametrize(
    ("token", "key"), [(f"{KEY}ep-1", "ep-1"), (f"{KEY}{KEY}x", f"{KEY}x"), (f"{ID}9af", "")]
)
def test_only_a_key_that_was_given_is_shown(token: str, key: str) -> None:
    assert job(token).key == key


def test_what_is_not_there_is_not_found_by_its_name(database: Database) -> None:
    with pytest.raises(NotFound, match=r"there is no worker 5$"):
        database.read(model.get, model.Worker, 5, "worker")


def test_pairs_come_as_a_dict_sorted_by_name(database: Database) -> None:
    rows = [(1, "b", "2 🎬"), (1, "a", ""), (2, "c", "3")]
    database.transact(insert_many, "job_parameter", ("job_id", "name", "value"), rows)
    found = database.read(model.pairs, "job_parameter", "job_id", 1)
    assert list(found.items()) == [("a", ""), ("b", "2 🎬")]


def test_names_that_differ_in_case_or_accent_are_different(database: Database) -> None:
    rows = [(1, "dc:Title", "a"), (1, "dc:title", "b"), (1, "dc:tïtle", "c")]
    database.transact(insert_many, "job_metadata", ("job_id", "name", "value"), rows)
    assert len(database.read(model.pairs, "job_metadata", "job_id", 1)) == 3


def test_json_is_short_and_readable() -> None:
    text = model.dump({"name": "größe", "list": [1, 2]})
    assert text == '{"name":"größe","list":[1,2]}'
    assert json.loads(text) == {"name": "größe", "list": [1, 2]}
