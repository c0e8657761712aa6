"""Lines of the log: how people and programs read them, and where they go."""

from __future__ import annotations

import io
import json
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from backoffice.config.settings import LogSettings
from backoffice.errors import ConfigError
from backoffice.system import logs
from middleware.request_id import current

Captured = pytest.CaptureFixture[str]

LOGGERS = ("", "backoffice", "middleware", logs.ACCESS)


@pytest.fixture(autouse=True)
def root() -> Iterator[None]:
    """Loggers as they were."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    handlers, hook = list(loggers[0].handlers), threading.excepthook
    yield
    for handler in set(loggers[0].handlers) - set(handlers):
        handler.close()
    loggers[0].handlers = handlers
    threading.excepthook, logging.raiseExceptions = hook, True
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


def setup(folder: Path = Path("/nowhere"), **changed: str) -> None:
    wanted = {"to": "stderr", "level": "info", "format": "plain", "sentry": ""} | changed
    logs.setup(LogSettings(folder=folder, **wanted))


def tell(text: str = "told", *values: object) -> None:
    logging.getLogger("backoffice.worker").info(text, *values)


def access(text: str = "GET /") -> None:
    logging.getLogger(logs.ACCESS).info(text)


# How they look --------------------------------------------------------------


def test_plain_lines_tell_time_level_and_place(capfd: Captured) -> None:
    setup()
    tell(logs.line("task.started", task=7, text="a b"))
    line = capfd.readouterr().err
    assert line.endswith(' info backoffice.worker task.started task=7 text="a b"\n')


def test_json_lines_have_each_id_by_its_name(capfd: Captured) -> None:
    setup(format="json")
    tell(logs.line("task.failed", task=7, message="no \x1b", path=Path("/x")))
    entry = json.loads(capfd.readouterr().err)
    assert (entry["task"], entry["path"], entry["level"]) == (7, "/x", "info")
    assert entry["message"] == r'task.failed task=7 message="no \u001b" path=/x'


def test_json_lines_carry_a_traceback(capfd: Captured) -> None:
    setup(format="json")
    try:
        raise ValueError("no")
    except ValueError:
        logging.getLogger("x").exception("failed")
    entry = json.loads(capfd.readouterr().err)
    assert (entry["level"], entry["message"]) == ("error", "failed")
    assert "ValueError: no" in entry["traceback"]


@pytest.mark.parametrize("format", ["plain", "json"])
@pytest.mark.parametrize("level", ["info", "error"])
def test_the_access_log_is_left_as_it_is(capfd: Captured, format: str, level: str) -> None:
    setup(format=format, level=level)
    access('127.0.0.1 - - [x] "GET / HTTP/1.1" 200 1')
    assert capfd.readouterr().err == '127.0.0.1 - - [x] "GET / HTTP/1.1" 200 1\n'


@pytest.mark.parametrize("format", ["plain", "json"])
def test_lines_of_a_request_have_its_id(capfd: Captured, format: str) -> None:
    setup(format=format)
    token = current.set("r1")
    tell("seen")
    tell("GET / failed, request r1")
    current.reset(token)
    tell("later")
    lines = capfd.readouterr().err.splitlines()
    if format == "json":
        assert [json.loads(line).get("request") for line in lines] == ["r1", "r1", None]
    else:
        assert [line.count("r1") for line in lines] == [1, 1, 0]


def test_no_text_of_others_looks_like_a_line_of_ours(capfd: Captured) -> None:
    setup()
    tell("bad name %s", "x\n2026-11-21 error forged\r\x1b[2J")
    try:
        raise ValueError("y\n2026-11-21 error forged")
    except ValueError:
        logging.getLogger("backoffice").exception("z")
    text = capfd.readouterr().err
    assert "\n2026-11-21 error" not in text
    assert "\x1b" not in text
    assert "\r" not in text


@pytest.mark.parametrize("format", ["plain", "json"])
def test_passwords_in_uris_are_masked(capfd: Captured, format: str) -> None:
    setup(format=format)
    try:
        raise ValueError("cannot open mysql://bo:hush@db/bo")
    except ValueError as error:
        logging.getLogger("backoffice").exception(logs.line("x", reason=error))
    tell("sent to https://hush@sentry.example.org/1 and https://example.org/a@b")
    text = capfd.readouterr().err
    assert "hush" not in text
    assert "mysql://bo:***@db/bo" in text
    assert "https://example.org/a@b" in text


def test_libraries_do_not_tell_of_requests_they_make(capfd: Captured) -> None:
    setup(level="debug")
    logging.getLogger("httpx").info("POST https://hooks.example.org/hush")
    logging.getLogger("httpx").warning("odd")
    told = capfd.readouterr().err
    assert told.endswith("warning httpx odd\n")
    assert "hush" not in told


def test_a_call_that_cannot_be_formatted_is_still_a_line(capfd: Captured) -> None:
    setup()
    tell("count %d", "seven")
    text = capfd.readouterr().err
    assert text.endswith("count %d\n")
    assert "Traceback" not in text


def test_what_ends_a_thread_is_a_line(capfd: Captured) -> None:
    setup()
    thread = threading.Thread(target=lambda: 1 / 0, name="aside")
    thread.start()
    thread.join()
    text = capfd.readouterr().err
    assert "error backoffice.logs thread.ended thread=aside\n" in text
    assert "ZeroDivisionError" in text


# Where they go --------------------------------------------------------------


def test_they_go_to_stdout_if_so_wished(capfd: Captured) -> None:
    setup(to="stdout")
    tell()
    assert capfd.readouterr().out.endswith("told\n")


def test_what_a_server_puts_in_the_place_of_stderr_gets_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = io.StringIO()
    monkeypatch.setattr(sys, "stderr", place)
    setup()
    tell()
    assert place.getvalue().endswith("told\n")
    place.close()
    tell("nobody listens")


def test_files_part_access_from_all_else(tmp_path: Path) -> None:
    setup(tmp_path / "new", to="files")
    tell()
    access()
    assert (tmp_path / "new/error.log").read_text().endswith("told\n")
    assert (tmp_path / "new/access.log").read_text() == "GET /\n"
    assert (tmp_path / "new/error.log").stat().st_mode & 0o7 == 0


def test_a_file_that_was_renamed_is_written_no_more(tmp_path: Path) -> None:
    setup(tmp_path, to="files")
    tell("first")
    (tmp_path / "error.log").rename(tmp_path / "error.log.1")
    tell("second")
    (tmp_path / "error.log").unlink()
    tell("third")
    assert (tmp_path / "error.log.1").read_text().endswith("first\n")
    assert (tmp_path / "error.log").read_text().endswith("third\n")


def test_to_reopen_lets_go_of_files_at_once(tmp_path: Path) -> None:
    setup(tmp_path, to="files")
    (tmp_path / "access.log").rename(tmp_path / "access.log.1")
    logs.reopen()
    opened = {os.readlink(one) for one in Path("/proc/self/fd").iterdir() if one.exists()}
    assert str(tmp_path / "access.log") in opened
    assert str(tmp_path / "access.log.1") not in opened


def test_a_folder_that_takes_no_files_is_refused_and_changes_nothing(
    tmp_path: Path, capfd: Captured
) -> None:
    setup()
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"\[log\] folder: cannot be written: .*file"):
        setup(tmp_path / "file/folder", to="files")
    tell()
    assert capfd.readouterr().err.endswith("told\n")


def test_the_same_settings_again_change_nothing(tmp_path: Path) -> None:
    setup(tmp_path, to="files")
    before = list(logging.getLogger().handlers)
    setup(tmp_path, to="files")
    assert logging.getLogger().handlers == before
    setup(tmp_path, to="files", format="json")
    tell()
    assert json.loads((tmp_path / "error.log").read_text())["message"] == "told"


def test_a_process_started_without_stderr_writes_into_no_other_file(tmp_path: Path) -> None:
    code = """
import logging, os, pathlib
from backoffice.system import logs
from backoffice.config.settings import LogSettings
assert [os.open(f"precious{n}", os.O_RDWR | os.O_CREAT) for n in range(3)] == [0, 1, 2]
for to in ("stderr", "stdout", "syslog"):
    logs.setup(LogSettings(to, pathlib.Path("x"), "info", "plain", ""))
    logs.SYSLOG = "/nowhere"
    logging.getLogger("backoffice").error("told")
"""
    run = ["sh", "-c", 'exec "$0" -c "$1" <&- >&- 2>&-', sys.executable, code]
    done = subprocess.run(run, cwd=tmp_path, timeout=60, check=False)
    assert done.returncode == 0
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"", b"", b""]


def test_a_stream_that_nobody_reads_any_more_ends_nothing() -> None:
    code = """
import logging, os, pathlib, sys
from backoffice.system import logs
from backoffice.config.settings import LogSettings
reader, writer = os.pipe()
os.dup2(writer, 2)
os.close(reader)
logs.setup(LogSettings("stderr", pathlib.Path("x"), "info", "plain", ""))
logging.getLogger("backoffice").error("told")
print("alive")
"""
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)
    assert done.stdout == b"alive\n"


# A full disk ----------------------------------------------------------------


def test_lines_that_had_no_room_are_counted_once_there_is(
    tmp_path: Path, capfd: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup(tmp_path, to="files")
    path, write = tmp_path / "error.log", os.write
    room = 60

    def full(number: int, data: bytes) -> int:
        nonlocal room
        if number <= 2:
            return write(number, data)
        if not room:
            raise OSError(28, "No space left on device")
        done = write(number, data[:room])
        room -= done
        return done

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        for number in range(5):
            tell(logs.line("lost", number=number))
        access()
    assert capfd.readouterr().err.count("takes no lines: No space left on device\n") == 2
    tell("found")
    access("GET /2")
    torn, *lines = path.read_text().splitlines()
    assert len(torn) == 60
    assert [line.split(" ", 2)[2] for line in lines] == [
        "backoffice.worker found",
        f"backoffice.logs log.lines-lost log={path} count=5",
        f"backoffice.logs log.lines-lost log={tmp_path}/access.log count=1",
    ]
    assert (tmp_path / "access.log").read_text() == "GET /2\n"


# Syslog ---------------------------------------------------------------------


@pytest.fixture
def syslog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the host's syslog would listen."""
    path = tmp_path / "log"
    monkeypatch.setattr(logs, "SYSLOG", str(path))
    return path


def listening(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    server.bind(str(path))
    server.settimeout(10)
    return server


def test_syslog_gets_severity_and_name(syslog: Path) -> None:
    with listening(syslog) as server:
        setup(to="syslog")
        tell()
        access()
        logging.getLogger("backoffice").error("x" * 200_000)
        found = [server.recv(300_000) for _ in range(3)]
    assert found[0] == f"<30>backoffice[{os.getpid()}]: backoffice.worker told".encode()
    assert found[1] == f"<30>backoffice-access[{os.getpid()}]: GET /".encode()
    assert found[2].startswith(b"<27>backoffice[")


def test_without_syslog_lines_go_to_stderr_until_it_is_there(syslog: Path, capfd: Captured) -> None:
    setup(to="syslog")
    tell("first")
    tell("second")
    text = capfd.readouterr().err
    assert text.count("no syslog at") == 1
    assert [line.split()[-1] for line in text.splitlines()[1:]] == ["first", "second"]
    with listening(syslog) as server:
        tell("third")
        assert server.recv(1000).endswith(b"third")
    with listening(syslog) as server:  # started anew
        tell("fourth")
        assert server.recv(1000).endswith(b"fourth")
    assert capfd.readouterr().err == ""


def test_a_syslog_that_does_not_read_holds_nobody_up(syslog: Path, capfd: Captured) -> None:
    with listening(syslog):
        setup(to="syslog")
        for number in range(5000):
            tell("line %d", number)
    text = capfd.readouterr().err
    assert text.count("no syslog at") == 1
    assert text.endswith("line 4999\n")
