"""Lines of the log, as people and programs read them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from backoffice import logs
from backoffice.config import LogSettings


@pytest.fixture(autouse=True)
def root() -> Iterator[None]:
    """The root logger as it was."""
    logger = logging.getLogger()
    handlers, level = list(logger.handlers), logger.level
    yield
    logger.handlers[:], logger.level = handlers, level


def test_plain_lines_tell_time_level_and_place(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup(LogSettings(level="info", format="plain"))
    logging.getLogger("backoffice.worker").info(logs.line("task.started", task=7, text="a b"))
    line = capsys.readouterr().err
    assert line.endswith(' info backoffice.worker task.started task=7 text="a b"\n')


def test_json_lines_carry_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup(LogSettings(level="info", format="json"))
    try:
        raise ValueError("no")
    except ValueError:
        logging.getLogger("x").exception("failed")
    entry = json.loads(capsys.readouterr().err)
    assert (entry["level"], entry["message"]) == ("error", "failed")
    assert "ValueError: no" in entry["traceback"]


@pytest.mark.parametrize("format", ["plain", "json"])
def test_the_access_log_is_left_as_it_is(capsys: pytest.CaptureFixture[str], format: str) -> None:
    logs.setup(LogSettings(level="info", format=format))
    logging.getLogger(logs.ACCESS).info('127.0.0.1 - - [x] "GET / HTTP/1.1" 200 1')
    assert capsys.readouterr().err == '127.0.0.1 - - [x] "GET / HTTP/1.1" 200 1\n'
