"""The floor under the engine: the same rows, by hand-written SQL and nothing
else. No job is planned, no process is told anything, no state is looked at.
"""

from __future__ import annotations

import multiprocessing
import time
import uuid
from collections.abc import Callable
from multiprocessing.synchronize import Barrier, Event
from typing import Any

import MySQLdb

from bench.place import Failed

NOW = "UTC_TIMESTAMP(6)"
EVENT = "INSERT INTO event (at, actor, action, subject, job_id, task_id, detail) VALUES "
Connect = Callable[[], MySQLdb.Connection]


def run(connect: Connect, count: int, batch: int, processes: int) -> tuple[float, float]:
    """Submit so many jobs, a transaction each, while so many processes claim and
    finish them, ``batch`` tasks a transaction; seconds until all were
    submitted, and until all had ended."""
    connection = connect()
    cursor = connection.cursor()
    cursor.execute("INSERT INTO lane (queue, tags) VALUES ('default', '')")
    lane = cursor.lastrowid
    connection.commit()
    context = multiprocessing.get_context("fork")
    start, all_there = context.Barrier(processes + 1), context.Event()
    workers = [
        context.Process(target=_work, args=(connect, batch, number, start, all_there), daemon=True)
        for number in range(1, processes + 1)
    ]
    for worker in workers:
        worker.start()
    start.wait(30)
    began = time.perf_counter()
    for _ in range(count):
        _submit(cursor, lane)
        connection.commit()
    submitted = time.perf_counter() - began
    all_there.set()
    for worker in workers:
        worker.join(120)
        if worker.exitcode != 0:
            raise Failed("a process of the plain-SQL loop failed or hangs")
    whole = time.perf_counter() - began
    connection.close()
    return submitted, whole


def _submit(cursor: Any, lane: int) -> None:
    token = uuid.uuid4().hex
    cursor.execute(
        "INSERT INTO job (token, fingerprint, title, workflow, version, state, priority,"
        f" submitter, submitted, message) VALUES (%s, %s, 'Nothing', 'noop', 1, 'queued', 50,"
        f" 'bench', {NOW}, '')",
        (f"id:{token}", token * 2),
    )
    job = cursor.lastrowid
    cursor.execute(
        "INSERT INTO task (job_id, name, type, state, lane_id, priority, max_attempts, ready_at,"
        f" message, spec) VALUES (%s, 'nothing', 'noop', 'ready', %s, 50, 3, {NOW}, '', %s)",
        (job, lane, '{"title":"","needs":[],"inputs":[],"parameters":{},"when":[]}'),
    )
    cursor.execute(
        EVENT + f"({NOW}, 'bench', 'job.submitted', %s, %s, NULL, '')", (f"job {job}", job)
    )


def _work(connect: Connect, batch: int, worker: int, start: Barrier, all_there: Event) -> None:
    connection = connect()
    cursor = connection.cursor()
    cursor.execute("SET tx_isolation = 'READ-COMMITTED'")
    start.wait(30)
    held: list[tuple[int, int]] = []
    while True:
        last = all_there.is_set()
        if held:
            _finish(cursor, held)
        held = _claim(cursor, batch, worker)
        connection.commit()
        if not held:
            if last:
                return
            time.sleep(0.001)


def _claim(cursor: Any, batch: int, worker: int) -> list[tuple[int, int]]:
    cursor.execute(
        "SELECT id, job_id, attempt, spec FROM task WHERE state = 'ready' AND lane_id = 1"
        " ORDER BY priority, id LIMIT %s FOR UPDATE SKIP LOCKED",
        (batch,),
    )
    held = [(task, job) for task, job, _, _ in cursor.fetchall()]
    if not held:
        return []
    tasks, jobs = zip(*held, strict=True)
    cursor.execute(
        f"UPDATE task SET state = 'running', attempt = 1, worker_id = %s, started = {NOW},"
        f" lease_until = {NOW} + INTERVAL 60 SECOND WHERE id IN %s",
        (worker, tasks),
    )
    cursor.executemany(
        "INSERT INTO attempt (task_id, number, worker_id, host, state, started, message, commands,"
        f" report) VALUES (%s, 1, %s, 'here', 'running', {NOW}, '', '[]', '{{}}')",
        [(task, worker) for task in tasks],
    )
    cursor.execute(
        f"UPDATE job SET state = 'running', started = {NOW} WHERE id IN %s AND state = 'queued'",
        (jobs,),
    )
    _events(cursor, held, "started")
    return held


def _finish(cursor: Any, held: list[tuple[int, int]]) -> None:
    for task, job in held:
        cursor.execute(
            f"UPDATE task SET state = 'succeeded', progress = 100, finished = {NOW},"
            " lease_until = NULL WHERE id = %s AND attempt = 1 AND state = 'running'",
            (task,),
        )
        cursor.execute(
            f"UPDATE attempt SET state = 'succeeded', finished = {NOW}, cpu_seconds = 0.001,"
            " wall_seconds = 0.001, log = 'x' WHERE task_id = %s AND number = 1",
            (task,),
        )
        cursor.execute(
            f"UPDATE job SET state = 'succeeded', progress = 100, finished = {NOW} WHERE id = %s",
            (job,),
        )
    _events(cursor, held, "succeeded")


def _events(cursor: Any, held: list[tuple[int, int]], verb: str) -> None:
    rows = [
        row
        for task, job in held
        for row in (
            (f"job.{verb}", f"job {job}", job, None, ""),
            (f"task.{verb}", f"task {task}", job, task, "nothing"),
        )
    ]
    cursor.executemany(EVENT + f"({NOW}, 'backoffice', %s, %s, %s, %s, %s)", rows)
