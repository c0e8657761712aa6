from __future__ import annotations

from datetime import datetime

import pytest

from backoffice.cli import terminal


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ä 影", "plain ä 影"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("two\nlines\r", "two\\x0alines\\x0d"),
        ("turned \u202e round", "turned \\u202e round"),
        ("half \udcff", "half \\udcff"),
    ],
)
def test_nothing_that_could_drive_a_terminal_gets_through(text: str, shown: str) -> None:
    assert terminal.clean(text) == shown


def test_columns_line_up_whatever_letters_are_in_them() -> None:
    columns = [("NAME", lambda r: r["a"]), ("B", lambda r: r["b"])]
    lines = terminal.table(columns, [{"a": "影片", "b": 1}, {"a": "e\u0301", "b": 2}], None)
    assert lines == ["NAME  B", "影片  1", "e\u0301     2"]


def test_a_table_is_cut_to_the_width_of_the_terminal() -> None:
    lines = terminal.table([("A", lambda r: r)], ["x" * 50, "影" * 50], 10)  # type: ignore[list-item]
    assert [terminal.width_of(line) for line in lines] == [1, 10, 9]
    assert lines[1].endswith("…")


def test_a_table_of_nothing_is_nothing() -> None:
    assert terminal.show("jobs", [], 80) == []


def test_values_read_well() -> None:
    assert terminal.cell(None) == ""
    assert terminal.cell(datetime(2026, 11, 21, 10, 0, 0, 5)) == "2026-11-21 10:00:00"
    assert terminal.cell(["a", 2]) == "a 2"


def test_commands_can_be_pasted_into_a_shell() -> None:
    attempt = {
        "number": 1,
        "state": "succeeded",
        "host": "here",
        "started": None,
        "message": "",
        "wall_seconds": 61.0,
        "cpu_seconds": 1.25,
        "peak_memory": 1 << 20,
        "argv": [["ffmpeg", "-i", "file:/a b.mp4"]],
    }
    lines = terminal.show("attempts", [attempt], None)
    assert lines[-1] == "1 $ ffmpeg -i 'file:/a b.mp4'"
