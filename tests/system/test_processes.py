from __future__ import annotations

import os
import subprocess
import sys

from backoffice.system import processes


def test_a_process_that_is_gone_has_no_start_time() -> None:
    assert processes.start_time(2**22 + 1) == ""


def test_a_process_that_has_ended_has_no_start_time_though_it_is_not_reaped() -> None:
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert processes.start_time(process.pid) == ""
    process.wait()


def test_a_name_with_brackets_and_blanks_does_not_shift_the_fields() -> None:
    script = "import ctypes, sys; ctypes.CDLL(None).prctl(15, b') S 1 (x'); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", script + " if not print(flush=True) else 0"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    before = processes.start_time(process.pid)
    process.stdout.readline()
    assert processes.start_time(process.pid) == before
    assert before.isdigit()
    process.communicate()


def test_a_mark_names_the_process_in_its_namespace_and_boot() -> None:
    namespace, pid, started, boot = processes.mark(os.getpid()).split(":")
    assert namespace == processes.pid_namespace()
    assert (pid, started) == (str(os.getpid()), processes.start_time(os.getpid()))
    assert len(boot) == 36
    assert processes.mark(os.getppid()) != processes.mark(os.getpid())


def test_children_are_those_not_yet_reaped() -> None:
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    assert process.pid in processes.children()
    process.wait()
    assert process.pid not in processes.children()


def test_a_process_that_is_no_child_is_not_reaped() -> None:
    assert processes.reap(os.getppid(), 0.0) is None
