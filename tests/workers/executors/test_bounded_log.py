from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from backoffice.workers.executors.bounded_log import LINE, BoundedLog, join

LIMIT = 64 << 10
LINES = 20_000


def text(number: int) -> str:
    return f"line {number:06d} größe"


def flood(path: Path, lines: int = LINES) -> BoundedLog:
    log = BoundedLog(path, LIMIT)
    for number in range(lines):
        log.write(text(number))
    return log


def numbers(path: Path) -> list[int]:
    return [int(found) for found in re.findall(r"^line ([0-9]{6}) größe$", path.read_text(), re.M)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "encode-1-1.log"


def test_a_short_log_has_each_line_and_nothing_else(path: Path) -> None:
    flood(path, 100).close()
    assert path.read_text() == "".join(f"{text(number)}\n" for number in range(100))
    assert [one.name for one in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("lines", [1500, 1800, 2200, 3000, LINES])
def test_of_a_long_log_head_and_tail_are_kept_within_the_limit(path: Path, lines: int) -> None:
    flood(path, lines).close()
    kept = numbers(path)
    assert path.stat().st_size <= LIMIT + 300
    assert (kept[0], kept[-1]) == (0, lines - 1)
    gaps = [(a, b) for a, b in itertools.pairwise(kept) if b != a + 1]
    assert len(gaps) <= 1
    if gaps:
        ((before, after),) = gaps
        assert before > LIMIT // 2 / 20 - 100  # half of it is the head
        assert lines - after > LIMIT // 4 / 20 - 100  # a quarter at least is the tail


def test_the_line_between_says_how_many_bytes_were_left_out(path: Path) -> None:
    flood(path).close()
    (told,) = re.findall(r"^\[([0-9]+) bytes were left out here", path.read_text(), re.M)
    one = len(text(0).encode()) + 1
    assert int(told) == (LINES - len(numbers(path))) * one


def test_a_log_that_fits_with_its_tail_says_of_nothing_left_out(path: Path) -> None:
    flood(path, 1800).close()
    assert numbers(path) == list(range(1800))
    assert "left out" not in path.read_text()


def test_what_a_reader_has_had_stays_as_it_was(path: Path) -> None:
    """So that ranges and ``log --follow`` go on where they were."""
    log, seen = BoundedLog(path, LIMIT), []
    for number in range(LINES):
        log.write(text(number))
        if number % 500 == 0:
            seen.append(path.read_bytes())
    log.close()
    whole = path.read_bytes()
    assert all(whole.startswith(part) for part in seen)


def test_the_disk_never_holds_more_than_the_limit(path: Path) -> None:
    log = BoundedLog(path, LIMIT)
    for number in range(LINES):
        log.write(text(number))
        if number % 500 == 0:
            assert sum(one.stat().st_size for one in path.parent.iterdir()) <= LIMIT + 300
    log.close()


def test_a_killed_attempts_log_is_joined_by_another_process(path: Path) -> None:
    flood(path)
    assert numbers(path)[-1] < LINES - 1
    join(path)
    whole = path.read_bytes()
    assert numbers(path)[-1] == LINES - 1
    join(path)
    assert path.read_bytes() == whole
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_pieces_of_another_log_are_left_alone(path: Path) -> None:
    other = path.with_name("encode-1-10.log")
    log = flood(other)
    flood(path).close()
    assert numbers(other)[-1] < LINES - 1
    log.close()
    assert numbers(other)[-1] == LINES - 1


def test_a_long_line_is_cut_and_says_so(path: Path) -> None:
    log = BoundedLog(path, LIMIT)
    log.write("ö" * 100_000)
    log.write("after")
    log.close()
    first, second = path.read_text().splitlines()
    assert first == "ö" * (LINE // 2) + f" [{200_000 - LINE} bytes of this line were left out]"
    assert second == "after"
