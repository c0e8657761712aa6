"""Messages to whoever started a process, and from those it started."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from backoffice.system.sd_notify import Notifier, Receiver


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


def test_what_is_sent_is_received_with_the_senders_process_id(receiver: Receiver) -> None:
    Notifier(receiver.address)(READY=1, STATUS="all is well")
    assert list(receiver.receive()) == [(os.getpid(), {"READY": "1", "STATUS": "all is well"})]


def test_a_child_is_told_from_others_by_its_process_id(receiver: Receiver) -> None:
    send = "import os, backoffice.system.sd_notify as s; s.Notifier.take(os.environ)(WATCHDOG=1)"
    environ = {**os.environ, "NOTIFY_SOCKET": receiver.address}
    child = subprocess.Popen([sys.executable, "-c", send], env=environ)
    assert child.wait(30) == 0
    assert list(receiver.receive()) == [(child.pid, {"WATCHDOG": "1"})]


def test_a_socket_with_a_path_is_spoken_to(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path)
        Notifier(path)(STATUS="two\nlines are one")
        assert listener.recv(100) == b"STATUS=two lines are one"


def test_nobody_who_listens_is_no_trouble(tmp_path: Path) -> None:
    for address in ("", str(tmp_path / "none"), "@nobody-has-this-name"):
        Notifier(address)(READY=1)


def test_a_receiver_that_does_not_read_holds_nobody_up(receiver: Receiver) -> None:
    longest = int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text()) + 2
    notify = Notifier(receiver.address)
    began = time.monotonic()
    for number in range(longest):
        notify(STATUS=number)
    assert time.monotonic() - began < 2
    assert len(list(receiver.receive())) < longest


def test_the_environment_is_taken_so_that_children_do_not_speak_for_us() -> None:
    environ = {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1", "A": "b"}
    notify = Notifier.take(environ)
    assert (notify.address, notify.watchdog, environ) == ("@x", 3.0, {"A": "b"})


def test_what_is_no_message_is_ignored(receiver: Receiver) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"\xff\xfe no equals sign", "\0" + receiver.address[1:])
    assert list(receiver.receive()) == [(os.getpid(), {})]


def test_descriptors_that_come_along_are_not_taken(receiver: Receiver) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect("\0" + receiver.address[1:])
        socket.send_fds(sender, [b"READY=1"], [0, 0, 0])
    assert [fields for _, fields in receiver.receive()] == [{"READY": "1"}]
    assert len(os.listdir("/proc/self/fd")) == before
