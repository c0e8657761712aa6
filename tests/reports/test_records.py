from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from lxml import etree
from storm.locals import Store
from storm.tracer import install_tracer, remove_tracer

from backoffice.config.settings import Settings
from backoffice.data.search import Filter
from backoffice.data.sql import clock
from backoffice.documents import safe_xml, writing
from backoffice.engine import leases, queue_control, submission
from backoffice.engine.workflows import InputSpec, TaskSpec
from backoffice.errors import NotFound
from backoffice.reports import queue_depths, records
from backoffice.states import FAILED, LOST
from backoffice.system import files
from backoffice.tasks import Output, Published
from tests import schemas
from tests.board import ENCODE, SOURCE, Board, chain, made_file, recipe

WITH_INPUT = recipe(
    TaskSpec(name="encode", type="noop", inputs=(SOURCE,)),
    name="encode",
    inputs=(InputSpec("source"),),
)


@pytest.fixture
def board(settings: Settings) -> Iterator[Board]:
    board = Board(settings)
    yield board
    board.close()


def made(path: Path) -> Output:
    return made_file(files.href(path), path.name, "rendition", "video/mp4", False, 9, "a" * 64, {})


def finished_job(board: Board, source: Path) -> int:
    """A job with an input, an output and a publication."""
    job = board.submit(
        WITH_INPUT,
        inputs=[("source", str(source))],
        title="Épisode 1",
        key="ep-1",
        parameters={"colour": "red"},
        metadata={"dc:creator": "Studio"},
    )
    (one,) = board.claim(board.worker())
    work = board.settings.paths.work
    board.finish(
        one.claim,
        outputs=[made(work / "out.mp4")],
        published=[Published(1, "site", "a.mp4", "http://x/a.mp4", False, "a" * 64, 9)],
        report={"speed": 2},
        cpu_seconds=1.5,
    )
    return job


def test_a_job_shows_all_that_belongs_to_it(board: Board, source: Path) -> None:
    job = board.read(records.job, finished_job(board, source))
    assert (job["title"], job["key"], job["state"]) == ("Épisode 1", "ep-1", "succeeded")
    assert job["progress"] == 100
    assert job["inputs"] == [{"role": "source", "file": 1, "href": files.href(source)}]
    assert job["outputs"][0]["task"] == "encode"
    assert job["parameters"] == {"colour": "red"}
    assert job["metadata"] == {"dc:creator": "Studio"}
    assert job["publications"][0]["href"] == "http://x/a.mp4"
    assert job["tasks"][0]["report"] == {"speed": 2}
    assert job["tasks"][0]["host"] == "here"
    assert job["submitted"] <= job["started"] <= job["finished"]


def test_every_record_makes_a_valid_document(board: Board, source: Path) -> None:
    job = finished_job(board, source)
    board.submit(chain("one", tags=frozenset({"gpu"}), queue="slow"))
    made = {
        "job": board.read(records.job, job),
        "jobs": board.read(records.jobs, limit=10),
        "task": board.read(records.task, 1),
        "tasks": board.read(records.tasks, limit=10),
        "attempts": board.read(records.attempts, 1),
        "files": board.read(records.files, limit=10),
        "file": board.read(records.file, 1),
        "workers": board.read(records.workers),
        "queues": board.read(queue_depths.queues),
        "events": board.read(records.events, limit=50),
        "publications": board.read(records.publications, limit=10),
    }
    for kind, record in made.items():
        assert record, kind
        writing.to_json(kind, record)
        root = etree.fromstring(writing.to_xml(kind, record))
        safe_xml.validate(root, schemas.schema_of(kind))


@pytest.mark.parametrize(
    ("function", "noun"),
    [
        (records.job, "job"),
        (records.task, "task"),
        (records.file, "file"),
        (records.attempts, "task"),
    ],
)
def test_what_is_not_there_is_not_found(board: Board, function: object, noun: str) -> None:
    with pytest.raises(NotFound, match=f"there is no {noun} 99"):
        board.read(function, 99)  # type: ignore[arg-type]


def test_jobs_come_newest_first_and_go_on_where_a_page_ended(board: Board) -> None:
    ids = [board.submit() for _ in range(5)]
    first = board.read(records.jobs, limit=2)
    assert [job["id"] for job in first] == ids[:2:-1]
    rest = board.read(records.jobs, limit=9, before=first[-1]["id"])
    assert [job["id"] for job in rest] == ids[2::-1]


def test_where_a_long_list_ends_is_known_beforehand(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "_MANY", 2)
    ids = [board.submit() for _ in range(5)]
    assert board.read(records.last_job, limit=3) == ids[2]
    assert board.read(records.last_job, limit=2, before=ids[2]) == ids[0]
    assert board.read(records.last_job, limit=6) is None


def test_a_page_of_jobs_needs_as_many_queries_as_one_job(board: Board) -> None:
    board.submit()
    one = _statements(board, 1)
    for _ in range(5):
        board.submit()
    assert _statements(board, 6) == one


def _statements(board: Board, expected: int) -> int:
    class Counter:
        count = 0

        def connection_raw_execute(self, *args: object) -> None:
            self.count += 1

    counter = Counter()
    install_tracer(counter)
    try:
        assert len(board.read(records.jobs, limit=50)) == expected
    finally:
        remove_tracer(counter)
    return counter.count


def test_jobs_can_be_filtered(board: Board) -> None:
    worker = board.worker()
    failed = board.submit(title="100% done", submitter="alice")
    board.run(worker, fail={"one": "no"})
    other = board.submit(chain("x", name="other"), title="done", key="Key_1")
    now = board.clock()

    def found(**wanted: object) -> list[int]:
        shown = board.read(records.jobs, Filter(**wanted), limit=10)  # type: ignore[arg-type]
        return [job["id"] for job in shown]

    assert found(states=["failed"]) == [failed]
    assert found(states=["failed", "queued"]) == [other, failed]
    assert found(workflow="other") == [other]
    assert found(submitter="alice") == [failed]
    assert found(text="done") == [other, failed]
    assert found(text="Key_1") == [other]
    assert found(submitted_after=now + timedelta(hours=1)) == []
    assert found(submitted_before=now + timedelta(hours=1)) == [other, failed]


def test_a_running_task_shows_where_and_how_far(board: Board) -> None:
    board.submit()
    (one,) = board.claim(board.worker(host="north", pid=12))
    board.do(leases.report_progress, one.claim, 42.0, "3x", 12.5)
    task = board.read(records.task, one.claim.task_id)
    assert (task["progress"], task["speed"], task["eta"]) == (42, "3x", 12.5)
    assert (task["host"], task["worker"], task["attempt"]) == ("north", one.claim.worker_id, 1)
    (worker,) = board.read(records.workers)
    assert (worker["name"], worker["running"]) == ("north:12", [one.claim.task_id])


def test_tasks_come_newest_first_and_those_of_a_job_in_its_order(board: Board) -> None:
    first, second = board.submit(), board.submit()
    assert [task["id"] for task in board.read(records.tasks, limit=3)] == [4, 3, 2]
    assert [task["id"] for task in board.read(records.tasks, limit=3, before=2)] == [1]
    assert [task["name"] for task in board.read(records.tasks, job=second)] == ["one", "two"]
    ready = board.read(records.tasks, limit=3, state="ready")
    assert [task["job"] for task in ready] == [second, first]
    assert board.read(records.tasks, limit=3, state="failed") == []


def test_every_attempt_is_shown_in_turn(board: Board) -> None:
    board.submit(chain("one", attempts=2))
    worker = board.worker()
    (first,) = board.claim(worker)
    board.finish(first.claim, LOST, "gone")
    (second,) = board.claim(worker)
    board.finish(second.claim, FAILED, "broken", retry=False, exit_status=1)
    shown = board.read(records.attempts, first.claim.task_id)
    assert [(a["number"], a["state"], a["message"]) for a in shown] == [
        (1, "lost", "gone"),
        (2, "failed", "broken"),
    ]


def test_queues_show_what_waits_and_what_runs(board: Board) -> None:
    for tags in (frozenset({"gpu"}), frozenset[str]()):
        board.submit(chain("one", queue="encode", tags=tags))
    board.submit(chain("one", queue="quick"))
    board.do(queue_control.limit, "encode", 3, "admin")
    board.do(queue_control.pause, "quick", "admin")
    board.claim(board.worker(tags=["gpu"], queues=["encode"]), 1)
    encode, quick = board.read(queue_depths.queues)
    assert (encode["name"], encode["limit"], encode["paused"]) == ("encode", 3, False)
    assert (encode["ready"], encode["running"]) == (1, 1)
    assert 0 <= encode["oldest"] < 60
    assert (quick["name"], quick["paused"], quick["ready"]) == ("quick", True, 1)


def test_queues_that_appear_while_they_are_counted_do_no_harm(board: Board) -> None:
    other = Board(board.settings)

    class Busy:
        """Between any two statements somebody submits to a queue of his own."""

        def __init__(self, store: Store) -> None:
            self.store = store
            self.turn = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(self.store, name)

        def execute(self, *args: Any) -> Any:
            found = self.store.execute(*args)
            self.turn += 1
            other.submit(chain("one", queue=f"q{self.turn}"))
            return found

    found = board.read(lambda store: queue_depths.queues(Busy(store)))
    assert {one["ready"] for one in found} <= {0, 1}
    other.close()


def test_a_queue_with_nothing_in_it_is_shown_too(board: Board) -> None:
    board.submit(chain("one"))
    board.run(board.worker())
    assert board.read(queue_depths.queues) == [
        {"name": "default", "paused": False, "limit": None, "ready": 0, "running": 0}
        | {"oldest": None}
    ]


def test_the_history_goes_on_after_an_event(board: Board) -> None:
    first = board.submit()
    second = board.submit()
    everything = board.read(records.events, after=0, limit=100)
    assert [event["id"] for event in everything] == sorted(event["id"] for event in everything)
    assert board.read(records.events, after=everything[0]["id"], limit=1) == everything[1:2]
    assert board.read(records.events, limit=1) == everything[-1:]
    assert {event["job"] for event in board.read(records.events, limit=9, job=second)} == {second}
    assert first != second


def test_schedules_are_shown(board: Board) -> None:
    now = board.clock()
    board.do(
        lambda s: s.execute(
            "INSERT INTO schedule (name, cron, next_run, message) VALUES ('n', '* * * * *', ?, '')",
            (clock(s),),
        )
    )
    (schedule,) = board.read(records.schedules)
    assert schedule["next_run"] >= now
    assert schedule["last_job"] is None


def test_a_job_that_was_just_submitted_is_known_without_a_look(
    board: Board, tmp_path: Path
) -> None:
    (tmp_path / "media").mkdir(exist_ok=True)
    clip = board.settings.paths.roots[0] / "new.mp4"
    clip.parent.mkdir(parents=True, exist_ok=True)
    clip.write_bytes(b"12345")
    asked = submission.JobRequest(
        workflow="encode",
        inputs=[("source", str(clip))],
        key="k",
        parameters={"colour": "red"},
        metadata={"b": "2", "a": "Ü"},
    )
    plan = (*ENCODE.tasks, TaskSpec("last", "noop", needs=("encode",), tags=frozenset("ba")))
    prepared = submission.prepare(
        asked, {"encode": replace(ENCODE, tasks=plan)}, board.settings.paths.roots
    )

    def submit(store: Store) -> tuple[Any, Any]:
        made = submission.add(store, prepared, "anna")
        assert made.tasks
        return records.submitted(store, made), records.job(store, made.job)

    for _ in range(2):  # with a lane that is new, and with those that there are
        told, read = board.do(submit)
        assert told == read
        asked = replace(asked, key="other")
        prepared = replace(prepared, request=asked, token="key:other")
