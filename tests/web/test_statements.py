"""Budgets: how many statements a request may send to the database."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from storm.tracer import install_tracer, remove_tracer

from tests.board import Board
from tests.web.visitor import Visitor

BROWSER = {"HTTP_ACCEPT": "text/html,application/xhtml+xml,*/*;q=0.8"}


class _Statements(list[str]):
    """A Storm tracer that keeps each statement."""

    def connection_raw_execute(
        self, connection: Any, cursor: Any, statement: str, params: Any
    ) -> None:
        if statement != "COMMIT":  # which only SQLite tells
            self.append(statement)


@contextmanager
def at_most(budget: int) -> Iterator[None]:
    """Fail if more statements than this are sent meanwhile."""
    statements = _Statements()
    install_tracer(statements)
    try:
        yield
    finally:
        remove_tracer(statements)
    assert len(statements) <= budget, "\n".join([f"{len(statements)} > {budget}", *statements])


@pytest.fixture
def busy(board: Board) -> Board:
    """Jobs of which some ran, with parameters and metadata."""
    worker = board.worker()
    for number in range(5):
        board.submit(title=f"{number}", metadata={"a": "b"}, parameters={"colour": "red"})
    board.run(worker, fail={"two": "it broke"})
    for number in range(5):
        board.submit(title=f"waits {number}", metadata={"a": "b"})
    board.claim(worker)
    return board


@pytest.mark.parametrize("query", ["", "?limit=3", "?state=failed", "?submitter=tester"])
@pytest.mark.parametrize("accept", [{}, BROWSER], ids=["document", "page"])
def test_a_list_of_jobs(busy: Board, visitor: Visitor, query: str, accept: dict[str, str]) -> None:
    visitor.get(f"/jobs{query}", **accept)
    with at_most(3):
        assert visitor.get(f"/jobs{query}", **accept).status == 200


@pytest.mark.parametrize("job", [1, 6, 7], ids=["failed", "running", "queued"])
def test_a_job(busy: Board, visitor: Visitor, job: int) -> None:
    with at_most(8):
        assert visitor.get(f"/jobs/{job}").status == 200


@pytest.mark.parametrize("job", [1, 6, 7], ids=["failed", "running", "queued"])
def test_a_page_of_a_job(busy: Board, visitor: Visitor, job: int) -> None:
    with at_most(10):
        assert visitor.get(f"/jobs/{job}", **BROWSER).status == 200


def test_a_submission(visitor: Visitor, media: Callable[..., Path]) -> None:
    def asked(name: str) -> str:
        inputs = [{"role": "source", "href": media(name).as_uri()}]
        asked = {"workflow": "transcode", "title": "x", "inputs": inputs, "key": name}
        return json.dumps({**asked, "metadata": {"dc:creator": "Studio"}})

    assert visitor.post("/jobs", asked("first.mp4"), "application/json").status == 201
    with at_most(8):
        assert visitor.post("/jobs", asked("next.mp4"), "application/json").status == 201
