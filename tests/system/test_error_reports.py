"""What Sentry is told of, by which process, and what it is never told."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sentry_sdk

from backoffice.config.settings import LogSettings, Settings
from backoffice.errors import ConfigError
from backoffice.reports import queue_depths
from backoffice.system import logs
from backoffice.web.app import make_app
from tests.board import Board
from tests.sentry import Sentry, receiving
from tests.web.visitor import Visitor


@pytest.fixture
def sentry() -> Iterator[Sentry]:
    """And loggers as they were."""
    loggers = [logging.getLogger(name) for name in ("", "backoffice", "middleware", logs.ACCESS)]
    levels, handlers = [one.level for one in loggers], list(loggers[0].handlers)
    hook = threading.excepthook
    with receiving() as sentry:
        yield sentry
        sentry_sdk.init()  # whose transport is none
    loggers[0].handlers = handlers
    threading.excepthook, logging.raiseExceptions = hook, True
    for one, level in zip(loggers, levels, strict=True):
        one.setLevel(level)


def told(sentry: Sentry) -> list[dict[str, Any]]:
    logs.flush()
    return sentry.events


def setup(dsn: str) -> logging.Logger:
    logs.setup(LogSettings("stderr", Path("/nowhere"), "info", "plain", dsn))
    return logging.getLogger("backoffice.worker")


def fails(text: str) -> None:
    secret = "-".join("hush")  # lines of code go out with a traceback, and no values
    assert secret
    raise ValueError(text)


def test_an_error_goes_out_with_its_traceback_and_nothing_that_is_private(sentry: Sentry) -> None:
    log = setup(sentry.dsn)
    try:
        fails("cannot open mysql://bo:pass" + "word@db/bo")
    except ValueError:
        log.exception(logs.line("task.crashed", task=7, request="r1", path="/srv/x"))
    (event,) = told(sentry)
    (fault,) = event["exception"]["values"]
    assert (fault["type"], fault["value"]) == ("ValueError", "cannot open mysql://bo:***@db/bo")
    assert fault["stacktrace"]["frames"][-1]["function"] == "fails"
    assert event["tags"] == {"logger": "backoffice.worker", "task": "7", "request": "r1"}
    assert event["server_name"] == socket.gethostname()
    assert not {"request", "user", "extra", "breadcrumbs", "modules"} & event.keys()
    text = b"".join(sentry.raw)
    assert b"password" not in text
    assert b"h-u-s-h" not in text


def test_a_line_without_a_traceback_is_one_issue_whatever_its_ids(sentry: Sentry) -> None:
    log = setup(sentry.dsn)
    for part in ("web", "worker"):
        log.error(logs.line("part.died", part=part, status=-9))
    log.warning("nothing to report")
    first, second = told(sentry)
    assert first["logentry"]["message"] == "part.died part=web status=-9"
    assert first["fingerprint"] == second["fingerprint"] == ["backoffice.worker", "part.died"]


def test_the_pages_tell_of_faults_and_not_of_whoever_met_them(
    sentry: Sentry, board: Board, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup(sentry.dsn)
    visitor = Visitor(make_app(settings))
    visitor.get("/jobs/1")
    monkeypatch.setattr(queue_depths, "queues", lambda store: 1 / 0)
    private = {"HTTP_COOKIE": "-".join("cookie"), "HTTP_X_SECRET": "-".join("header")}
    assert visitor.get("/queues", **private).status == 500
    (event,) = told(sentry)
    assert event["exception"]["values"][-1]["type"] == "ZeroDivisionError"
    text = b"".join(sentry.raw)
    assert b"c-o-o-k-i-e" not in text
    assert b"h-e-a-d-e-r" not in text


def test_a_forked_process_that_let_go_of_descriptors_reports_too(sentry: Sentry) -> None:
    log = setup(sentry.dsn)
    log.error("of the parent")
    assert len(told(sentry)) == 1  # so that its connection is open
    lock = sentry_sdk.get_client().transport._worker._lock
    lock.acquire()  # as when it is just sending
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(20)
        null = os.open(os.devnull, os.O_RDWR)
        for name in os.listdir("/proc/self/fd"):
            if int(name) > 2:
                os.dup2(null, int(name))
        logs.start_anew()
        log.error("of the child")
        logs.flush()
        os._exit(0)
    lock.release()
    os.waitpid(pid, 0)
    messages = [one["logentry"]["message"] for one in told(sentry)]
    assert messages == ["of the parent", "of the child"]


def test_a_sentry_that_does_not_answer_holds_up_the_end_for_two_seconds_at_most() -> None:
    code = """
import logging, pathlib, sys, time
from backoffice.system import logs
from backoffice.config.settings import LogSettings
logs.setup(LogSettings("stderr", pathlib.Path("x"), "info", "plain", sys.argv[1]))
begun = time.monotonic()
for _ in range(1000):
    logging.getLogger("backoffice").error("told")
assert time.monotonic() - begun < 5
print(flush=True)
"""
    with socket.create_server(("127.0.0.1", 0)) as hole:
        dsn = f"http://key@127.0.0.1:{hole.getsockname()[1]}/1"
        run = [sys.executable, "-c", code, dsn]
        with subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdout is not None
            process.stdout.readline()
            begun = time.monotonic()
            assert process.wait(60) == 0
            assert time.monotonic() - begun < 4


def test_without_the_library_the_setting_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentry_sdk", None)
    with pytest.raises(ConfigError, match=r"\[log\] sentry: .* pip install 'backoffice\[sentry\]'"):
        setup("https://key@sentry.example.org/1")
