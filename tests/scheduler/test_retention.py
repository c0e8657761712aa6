from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from backoffice.engine import job_folders, jobs
from backoffice.reports import records
from backoffice.scheduler import retention
from backoffice.system import files
from backoffice.tasks import Delivery
from tests.board import ENCODE, Board, chain, made_file

MONTH = timedelta(days=30)
OLD = timedelta(days=31)


def count(board: Board, table: str) -> int:
    (number,) = board.read(lambda s: s.execute(f"SELECT COUNT(*) FROM {table}").get_one())
    return int(number)


def ended(board: Board, number: int = 1) -> list[int]:
    worker = board.worker()
    found = [board.submit(parameters={"colour": "red"}, metadata={"a": "b"}) for _ in range(number)]
    board.run(worker)
    for job in found:
        board.age(job, OLD)
    return found


def encoded(board: Board, source: Path, *, publish: bool = False) -> tuple[int, Path]:
    """An old job with an output and a log on disk, and that output."""
    job = board.submit(ENCODE, inputs=[("source", str(source))])
    (one,) = board.claim(board.worker())
    work, logs = job_folders.of_job(board.settings.paths, job)
    for folder in (work, logs):
        folder.mkdir(parents=True)
    made = work / "out.mp4"
    made.write_bytes(b"video")
    (logs / "encode.log").write_text("log")
    output = made_file(
        files.href(made), "out.mp4", "rendition", "video/mp4", False, 5, "a" * 64, {}
    )
    board.finish(one.claim, outputs=[output], deliveries=[Delivery("http://x", 200, "", 0.1)])
    if publish:
        board.do(_publish, job)
    board.age(job, OLD)
    return job, made


def _publish(store: object, job: int) -> None:
    store.execute(  # type: ignore[attr-defined]
        "INSERT INTO publication (active_key, file_id, job_id, task_id, target, path, href, state,"
        " tree, sha256, size, published) SELECT NULL, id, job_id, task_id, 'site', 'a.mp4', '',"
        " 'published', 0, sha256, size, created FROM file WHERE job_id = ?",
        (job,),
    )


def test_a_job_goes_with_all_that_belongs_to_it(board: Board, source: Path) -> None:
    ended(board)
    encoded(board, source)
    counts = retention.prune(board.database, board.settings, MONTH)
    assert counts["jobs"] == 2
    assert counts["tasks"] == 3
    tables = ("job", "task", "attempt", "delivery", "job_input", "job_parameter", "job_metadata")
    assert {table: count(board, table) for table in tables} == dict.fromkeys(tables, 0)
    assert {e["action"] for e in board.read(records.events, limit=99) if e["job"]} == set()


def test_its_files_and_logs_go_from_the_disk_and_its_input_stays(
    board: Board, source: Path
) -> None:
    job, _ = encoded(board, source)
    retention.prune(board.database, board.settings, MONTH)
    assert [folder.exists() for folder in job_folders.of_job(board.settings.paths, job)] == [
        False,
        False,
    ]
    assert source.exists()
    assert [file["href"] for file in board.read(records.files, limit=9)] == [files.href(source)]


def test_one_event_tells_how_many_went(board: Board) -> None:
    first, second = ended(board, 2)
    retention.prune(board.database, board.settings, MONTH)
    # What was before it is gone, so that it is not given out at once.
    then = board.clock() - timedelta(seconds=9)
    board.do(lambda s: s.execute("UPDATE event SET at = ?", (then,)))
    (event,) = [e for e in board.read(records.events, limit=99) if e["action"] == "job.pruned"]
    assert event["subject"] == f"jobs {first} to {second}"
    assert event["detail"].startswith("2 removed; ")


def test_a_publication_outlives_its_job_with_its_file(board: Board, source: Path) -> None:
    job, made = encoded(board, source, publish=True)
    retention.prune(board.database, board.settings, MONTH)
    (publication,) = board.read(records.publications, limit=9)
    file = board.read(records.file, publication["file"])
    assert (publication["job"], publication["state"]) == (job, "published")
    assert (file["state"], made.exists()) == ("removed", False)


def test_a_retracted_publication_goes(board: Board, source: Path) -> None:
    encoded(board, source, publish=True)
    board.do(lambda s: s.execute("UPDATE publication SET state = 'retracted'"))
    retention.prune(board.database, board.settings, MONTH)
    assert count(board, "publication") == 0
    assert count(board, "file WHERE job_id IS NOT NULL") == 0


def test_what_is_young_or_has_not_ended_stays(board: Board) -> None:
    old, young = ended(board, 2)
    board.age(young, MONTH - timedelta(hours=1))
    waiting = board.submit()
    retention.prune(board.database, board.settings, MONTH)
    assert [job["id"] for job in board.read(records.jobs, limit=9)] == [waiting, young]
    assert old not in (waiting, young)


def test_a_job_that_is_retried_stays(board: Board) -> None:
    job = board.submit()
    board.run(board.worker(), fail={"one": "broken"})
    board.age(job, OLD)
    board.do(jobs.retry, job, "tester")
    assert retention.prune(board.database, board.settings, MONTH).get("jobs") is None


def test_a_job_stays_while_another_uses_its_output(board: Board, source: Path) -> None:
    first, made = encoded(board, source)
    board.settings = replace(
        board.settings,
        paths=replace(board.settings.paths, roots=(board.settings.paths.work,)),
    )
    second = board.submit(ENCODE, inputs=[("source", str(made))])
    assert retention.prune(board.database, board.settings, MONTH) == {}
    assert made.exists()
    board.run(board.worker())
    board.age(second, OLD)
    assert retention.prune(board.database, board.settings, MONTH)["jobs"] == 2
    assert not made.exists()
    assert first != second


def test_batches_are_as_small_as_asked(board: Board) -> None:
    ended(board, 5)
    settings = replace(board.settings, retention=replace(board.settings.retention, batch=1))
    sums: list[int] = []
    retention.prune(
        board.database, settings, MONTH, on_batch=lambda counts: sums.append(counts["jobs"])
    )
    assert sums == [1, 2, 3, 4, 5]


def test_a_dry_run_only_counts(board: Board) -> None:
    ended(board, 3)
    assert retention.prune(board.database, board.settings, MONTH, dry_run=True) == {"jobs": 3}
    assert count(board, "job") == 3


def test_workers_long_gone_are_forgotten(board: Board) -> None:
    gone, here = board.worker(), board.worker()
    then = board.clock() - OLD
    board.do(lambda s: s.execute("UPDATE worker SET heartbeat = ?", (then,)))
    board.do(lambda s: s.execute("UPDATE worker SET state = 'stopped' WHERE id = ?", (gone,)))
    assert retention.prune(board.database, board.settings, MONTH) == {"workers": 1}
    assert [worker["id"] for worker in board.read(records.workers)] == [here]


def test_nothing_to_do_leaves_no_trace(board: Board) -> None:
    board.submit(chain("one"))
    before = count(board, "event")
    assert retention.prune(board.database, board.settings, MONTH) == {}
    assert count(board, "event") == before
