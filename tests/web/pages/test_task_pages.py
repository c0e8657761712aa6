"""A task as a page: its attempts, what differs between them, its log."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import html

from backoffice.config.settings import Settings
from backoffice.engine import jobs
from backoffice.states import FAILED
from backoffice.web.pages import tasks as task_pages
from tests.board import Board, chain
from tests.web.reader import EVIL, LONG, Reader, words
from tests.web.visitor import Visitor

Log = Callable[[bytes], str]


@pytest.fixture
def reader(visitor: Visitor) -> Reader:
    return Reader(visitor)


@pytest.fixture
def log(settings: Settings) -> Log:
    """Write a log where logs lie; returns its path."""

    def write(data: bytes) -> str:
        folder = settings.paths.logs
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{len(list(folder.iterdir()))}.log"
        path.write_bytes(data)
        return str(path)

    return write


def attempt(board: Board, state: str = FAILED, message: str = "it broke", **rest: Any) -> None:
    """One more of task 1, which is the only one there is."""
    (claimed,) = board.claim(board.worker(host=rest.pop("host", "here")))
    board.finish(claimed.claim, state, message, retry=False, **rest)


def again(board: Board) -> None:
    board.do(jobs.retry, 1, "alice")


@pytest.fixture
def task(board: Board) -> int:
    board.submit(chain("one"))
    return 1


# What is there --------------------------------------------------------------


def test_a_task_that_has_not_run_says_why(reader: Reader, task: int) -> None:
    page = reader.open("/tasks/1")
    text = page.text()
    assert "task one is ready, but no worker is active" in text
    assert "It has not been tried yet; above stands why." in text
    assert "There is no log yet" in text
    assert page.root.xpath("//section[@data-running]/@data-newest") == ["0"]
    assert page.root.xpath("//a/@href").count("/jobs/1") == 1


def test_attempts_stand_beside_each_other(board: Board, reader: Reader, task: int) -> None:
    attempt(board, host="old", cpu_seconds=6.0, wall_seconds=3.0, exit_status=1)
    again(board)
    attempt(board, "succeeded", "", host="new", peak_memory=5_000_000, ffmpeg="7.1")
    page = reader.open("/tasks/1")
    rows = [words(one) for one in page.root.xpath("//section[@id='attempts']//tr")]
    assert rows[0] == "Attempt 1 ✗ failed Attempt 2 ✓ succeeded"
    assert "Host old new" in rows
    assert "Exit status 1 –" in rows
    assert "CPUs used 2.0 –" in rows
    assert "Peak memory – 5.0 MB" in rows
    assert "ffmpeg – 7.1" in rows
    assert "Message it broke –" in rows


def test_many_attempts_are_the_newest_ones(board: Board, reader: Reader, task: int) -> None:
    for _ in range(8):
        attempt(board)
        again(board)
    page = reader.open("/tasks/1")
    heads = page.all("//section[@id='attempts']//thead//th")
    assert (len(heads), heads[-1]) == (6, "Attempt 8 ✗ failed")
    assert "2 older stand with all attempts" in page.text()
    whole = reader.open("/tasks/1/attempts")
    assert len(whole.all("//section[@id='attempts']//thead//th")) == 8


def test_odd_messages_and_hosts_are_text(board: Board, reader: Reader, task: int) -> None:
    attempt(board, message=EVIL + LONG, host="<b>host</b>")
    page = reader.open("/tasks/1")
    assert EVIL in page.text("//p[@class='error']")
    assert "Host <b>host</b>" in page.text("//section[@id='attempts']")
    assert not page.root.xpath("//main//b | //main//script")


def test_tasks_of_all_jobs_are_listed(board: Board, reader: Reader, task: int) -> None:
    board.submit(chain("<b>", "two"))
    attempt(board)
    page = reader.open("/tasks")
    assert page.all("//tbody/tr/th") == ["3", "2", "1"]
    assert "2 <b> 2 ○ ready 0 % default – –" in page.all("//tbody/tr")[1]
    page = reader.press(page, "Find", ("state", "failed"))
    assert page.all("//tbody/tr/th") == ["1"]
    page = reader.press(page, "Find", ("state", "running"))
    assert "No task is like this." in page.text()
    assert reader.open("/jobs/2/tasks").all("//tbody/tr/th") == ["2", "3"]
    older = reader.open("/tasks?limit=1").root.xpath("//a[@rel='next']/@href")[0]
    assert reader.open(older).all("//tbody/tr/th") == ["2"]


@pytest.mark.parametrize("path", ["/jobs/1", "/tasks/1"])
def test_why_is_a_page_of_its_own_too(reader: Reader, task: int, path: str) -> None:
    page = reader.open(f"{path}/why")
    assert "task one is ready, but no worker is active" in page.text("//ul")
    assert path in page.root.xpath("//main//a/@href")


def test_a_task_that_is_not_there_is_explained(reader: Reader, task: int) -> None:
    assert "there is no task 7" in reader.open("/tasks/7", 404).root.text_content()


# What differs ---------------------------------------------------------------


def test_what_differs_between_the_newest_two_is_marked(
    board: Board, reader: Reader, task: int
) -> None:
    attempt(board, commands=[["ffmpeg", "-i", "a", "-crf", "23", "out"]], ffmpeg="5.1")
    again(board)
    attempt(board, commands=[["ffmpeg", "-i", "a", "-crf", "20", "-an", "out"]], ffmpeg="7.1")
    page = reader.open("/tasks/1")
    text = page.text("//pre[contains(@class, 'diff')]")
    assert page.all("//pre//del") == ["23"]
    assert page.all("//pre//ins") == ["20 -an"]
    assert text == "ffmpeg -i a -crf 23 20 -an out"
    assert "ffmpeg 5.1 7.1" in page.text("//section[@id='difference']")
    assert "Message" not in page.text("//section[@id='difference']")


def test_the_same_commands_are_said_to_be_the_same(board: Board, reader: Reader, task: int) -> None:
    for _ in range(2):
        attempt(board, commands=[["ls"]])
        again(board)
    assert "Both ran the same commands." in reader.open("/tasks/1").text()


def test_any_two_can_be_compared(board: Board, reader: Reader, task: int) -> None:
    for number in range(3):
        attempt(board, commands=[["run", str(number)]])
        again(board)
    page = reader.press(reader.open("/tasks/1"), "Compare", ("attempt", "1"), ("with", "3"))
    assert page.all("//h1") == ["Task 1: attempts 1 and 3"]
    assert (page.all("//pre//del"), page.all("//pre//ins")) == (["0"], ["2"])


@pytest.mark.parametrize(
    ("query", "status", "told"),
    [
        ("", 200, "attempts 1 and 2"),
        ("?attempt=2&with=1", 200, "attempts 2 and 1"),
        ("?attempt=9", 404, "no attempt 9"),
        ("?attempt=x", 400, "whole number"),
    ],
)
def test_which_ones_are_compared(
    board: Board, reader: Reader, task: int, query: str, status: int, told: str
) -> None:
    attempt(board)
    again(board)
    attempt(board)
    assert told in words(reader.open(f"/tasks/1/compare{query}", status).root)


def test_one_attempt_cannot_be_compared(board: Board, reader: Reader, task: int) -> None:
    attempt(board)
    page = reader.open("/tasks/1/compare", 404)
    assert "nothing to compare" in page.root.text_content()


WORDS = st.lists(st.sampled_from(["a", "b", "<i>", "'", "x y", "\n"]), max_size=12)


@given(WORDS, WORDS)
def test_a_difference_holds_both_texts(before: list[str], after: list[str]) -> None:
    root = html.fragment_fromstring(str(task_pages.difference(before, after)), create_parent="pre")
    for kept, dropped in (("del", "ins"), ("ins", "del")):
        copy = html.fromstring(html.tostring(root))
        for one in list(copy.iter(dropped)):
            one.drop_tree()
        wanted = before if kept == "del" else after
        assert copy.text_content().split() == " ".join(wanted).split()


# The log --------------------------------------------------------------------


def test_the_log_is_shown_as_it_is_but_nothing_in_it_acts(
    board: Board, reader: Reader, task: int, log: Log
) -> None:
    data = f"{EVIL}\x1b[2J\x00 \u202eabc 🎬\r\n50%\r100%\n".encode() + b"\xff\n"
    attempt(board, log=log(data), log_size=len(data))
    (box,) = reader.open("/tasks/1").root.xpath("//pre[@data-log]")
    assert box.text == f"{EVIL}␛[2J␀ ⟨U+202E⟩abc 🎬\n50%␍100%\n\ufffd\n"
    assert box.get("data-log") == "/tasks/1/log"
    assert (box.get("data-attempt"), box.get("data-end")) == ("1", str(len(data)))


def test_of_a_long_log_the_end_is_shown_from_the_start_of_a_line(
    board: Board, reader: Reader, task: int, log: Log
) -> None:
    lines = [f"line {number:06}" for number in range(20_000)]
    attempt(board, log=log("\n".join(lines).encode()))
    page = reader.open("/tasks/1")
    shown = page.root.xpath("//pre[@data-log]")[0].text.split("\n")
    assert shown == lines[-len(shown) :]
    assert 60_000 < sum(map(len, shown)) + len(shown) <= task_pages.TAIL
    assert "The last 66 kB of 240 kB." in page.text()


@pytest.mark.parametrize("name", ["/etc/passwd", "{logs}/../../secret", "{logs}/gone.log"])
def test_a_log_that_cannot_be_read_is_none(
    board: Board, reader: Reader, settings: Settings, task: int, name: str
) -> None:
    (settings.paths.home / "secret").write_text("root:")
    attempt(board, log=name.format(logs=settings.paths.logs))
    page = reader.open("/tasks/1")
    assert "root:" not in page.text("//pre[@data-log]/..")


def test_the_log_of_a_running_attempt_is_followed_from_its_end(
    board: Board, reader: Reader, task: int, log: Log
) -> None:
    (claimed,) = board.claim(board.worker())
    path = log(b"one\n")
    board.do(
        lambda store: store.execute(
            "UPDATE attempt SET log = ? WHERE task_id = ?", (path, claimed.claim.task_id)
        )
    )
    page = reader.open("/tasks/1")
    assert page.root.xpath("//section[@data-running]/@data-newest") == ["1"]
    end = int(page.root.xpath("//pre/@data-end")[0])
    with Path(path).open("ab") as stream:
        stream.write("zwö\n".encode())
    more = reader.visitor.get("/tasks/1/log?attempt=1", HTTP_RANGE=f"bytes={end - 1}-")
    assert (more.status, more.body[1:]) == (206, "zwö\n".encode())


def test_hidden_characters_are_the_same_for_the_script_that_follows() -> None:
    script = (Path(__file__).parents[3] / "static" / "log.js").read_text()
    assert f"/{task_pages.HIDDEN}/g" in script
