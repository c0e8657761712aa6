"""Why ready tasks wait: the same words for a task, a queue, a page and a command."""

from __future__ import annotations

import pytest

from backoffice.engine import queue_control
from backoffice.reports import obstacles, queue_statistics, why
from backoffice.reports.obstacles import ActiveWorker
from tests.board import Board, chain

PLAIN = frozenset[str]()
GPU = frozenset({"gpu"})


def worker(
    *queues: str, tags: frozenset[str] = PLAIN, slots: int = 1, busy: int = 0
) -> ActiveWorker:
    return ActiveWorker(queues, tags, slots, busy)


@pytest.mark.parametrize(
    ("wanted", "workers", "reason"),
    [
        ([PLAIN], [], ["no worker is active: start one"]),
        ([PLAIN], [worker("x")], ["no active worker serves queue q"]),
        ([GPU], [worker("q")], ["no worker with tag gpu serves queue q"]),
        ([GPU | {"big"}], [worker("q")], ["no worker with tags big and gpu serves queue q"]),
        ([GPU, PLAIN], [worker("*")], ["no worker with tag gpu serves queue q"]),
        ([PLAIN], [worker("*", busy=1)], ["all slots of its workers are busy (1 of 1)"]),
        ([PLAIN], [worker("*", busy=1), worker("q", tags=GPU)], []),
    ],
)
def test_the_first_obstacle_of_the_workers_is_named(
    wanted: list[frozenset[str]], workers: list[ActiveWorker], reason: list[str]
) -> None:
    assert obstacles.of_workers("q", wanted, workers) == reason


def test_a_task_and_its_queue_say_the_same(board: Board) -> None:
    job = board.submit(chain("one"))
    for change in (None, queue_control.pause):
        if change is not None:
            board.do(change, "default", "ann")
        (queue,) = board.read(queue_statistics.queues)
        assert board.read(why.job, job)[0] == f"task one is ready, but {queue['waits']}"
