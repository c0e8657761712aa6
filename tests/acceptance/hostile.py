#!/usr/bin/python3
"""A hostile program in the place of ffmpeg: it tries everything that it should not
be able to do, and says of each whether it could, in lines on stderr.

Called as ``hostile.py HOME SETTINGS SOCKET PORT VICTIM OUTSIDE``; run on its own, with
the standard library alone.
"""

import ctypes
import errno
import os
import resource
import socket
import sqlite3
import subprocess
import sys

LIBC = ctypes.CDLL(None, use_errno=True)


def check(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return result


def read(path):
    with open(path, "rb") as stream:
        stream.read(1)


def connect(family, address, kind=socket.SOCK_STREAM):
    with socket.socket(family, kind) as sock:
        sock.settimeout(2)
        sock.connect(address)
        sock.send(b"GET / HTTP/1.0\r\n\r\n")


def forge_token(database):
    with sqlite3.connect(f"file:{database}?mode=rw", uri=True, timeout=1) as connection:
        connection.execute("CREATE TABLE forged (x)")


def listen_abstract():
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind("\0backoffice-hostile")


def link_out(outside):
    """By a link in its own folder."""
    os.symlink(outside, "link")
    read("link/secret")


def run_written():
    with open("program", "w") as stream:
        stream.write("#!/bin/sh\n")
        os.fchmod(stream.fileno(), 0o755)
    subprocess.run(["./program"], check=True)


def run_reader(outside):
    """A child inherits the confinement."""
    subprocess.run(["cat", f"{outside}/secret"], check=True, capture_output=True)


def clone_newuser():
    check(LIBC.unshare(0x10000000))


def trace(victim):
    check(LIBC.ptrace(0x4206, victim, None, None))  # SEIZE, which does not stop it


def read_memory(victim):
    buffer = ctypes.create_string_buffer(8)
    iov = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 8)
    result = LIBC.process_vm_readv(victim, iov, 1, iov, 1, 0)
    # A bad address in the victim: so it was allowed to look.
    if result < 0 and ctypes.get_errno() != errno.EFAULT:
        check(result)


def set_up_uring():
    check(LIBC.syscall(425, 8, ctypes.create_string_buffer(120)))


def shorten(path):
    os.close(os.open(path, os.O_RDONLY | os.O_TRUNC))


def overwrite(path):
    with open(path, "ab") as stream:
        stream.write(b"x")


def attacks(home, settings, web, port, victim, outside):
    victim, port = int(victim), int(port)
    database = f"{home}/database.sqlite"
    secret = f"{outside}/secret"
    yield "read the database", lambda: read(database)
    yield "write the database", lambda: forge_token(database)
    yield "read the settings", lambda: read(settings)
    yield "read the parent's environment", lambda: read(f"/proc/{os.getppid()}/environ")
    yield "read the worker's environment", lambda: read(f"/proc/{victim}/environ")
    yield "read the worker's memory map", lambda: read(f"/proc/{victim}/maps")
    yield "read the worker's memory", lambda: read_memory(victim)
    yield "trace the worker", lambda: trace(victim)
    yield "signal the worker", lambda: os.kill(victim, 0)
    yield "signal through a descriptor", lambda: os.pidfd_open(victim) and os.kill(victim, 0)
    yield "limit the worker", lambda: resource.prlimit(victim, resource.RLIMIT_CORE)
    yield "read outside", lambda: read(secret)
    yield "list outside", lambda: os.listdir(outside)
    yield "read through a link", lambda: link_out(outside)
    yield "read in a child", lambda: run_reader(outside)
    yield "read other jobs' work", lambda: os.listdir(f"{home}/work")
    yield "read logs", lambda: os.listdir(f"{home}/logs")
    yield "write outside", lambda: overwrite(f"{outside}/made")
    yield "write into /tmp", lambda: overwrite("/tmp/backoffice-hostile")
    yield "change outside", lambda: overwrite(secret)
    yield "shorten outside", lambda: shorten(secret)
    yield "shorten by its path", lambda: os.truncate(secret, 0)
    yield "change modes", lambda: os.chmod(secret, 0o666)
    yield "change times", lambda: os.utime(secret, (0, 0))
    yield "change attributes", lambda: os.setxattr(secret, "user.x", b"y")
    yield "remove outside", lambda: os.unlink(f"{outside}/victim")
    yield "rename outside", lambda: os.rename(secret, f"{outside}/renamed")
    yield "run what it wrote", run_written
    yield "connect to the web socket", lambda: connect(socket.AF_UNIX, web)
    yield "connect by TCP", lambda: connect(socket.AF_INET, ("127.0.0.1", port))
    yield "connect by IPv6", lambda: connect(socket.AF_INET6, ("::1", port))
    yield "send by UDP", lambda: connect(socket.AF_INET, ("127.0.0.1", port), socket.SOCK_DGRAM)
    yield "listen", listen_abstract
    yield "make a namespace", clone_newuser
    yield "set up io_uring", set_up_uring


def main():
    for name, attack in attacks(*sys.argv[1:7]):
        try:
            attack()
        except (OSError, sqlite3.Error, subprocess.SubprocessError) as error:
            print(f"refused: {name} ({error})", file=sys.stderr)
        else:
            print(f"done: {name}", file=sys.stderr)
    print("the end", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
