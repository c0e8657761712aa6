"""sd_notify: a process reports its status to its parent, as systemd expects it.

The message is a datagram of ``NAME=value`` lines to the socket that
``$NOTIFY_SOCKET`` names. Owns sending and receiving; see sd_notify(3) for the names.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, MutableMapping
from contextlib import suppress

SEND_WITHIN = 0.2  # seconds; a parent that does not read must not block the process
LONGEST = 4096  # bytes of a message
_CREDENTIALS = struct.Struct("3i")  # process, user, group


class Notifier:
    """Sends to ``address``; does nothing if it is empty. ``watchdog`` is the number of
    seconds within which the receiver wants a sign of life; 0: it wants none."""

    def __init__(self, address: str = "", watchdog: float = 0.0) -> None:
        self.address = address
        self.watchdog = watchdog

    @classmethod
    def take(cls, environ: MutableMapping[str, str]) -> Notifier:
        """Configured by the environment. The variables are removed from it, so that no
        child reports in this process's name."""
        address = environ.pop("NOTIFY_SOCKET", "")
        environ.pop("WATCHDOG_PID", None)
        limit = environ.pop("WATCHDOG_USEC", "")
        return cls(address, int(limit) / 1e6 if limit.isdecimal() else 0.0)

    def __call__(self, **fields: object) -> None:
        """Send the fields. A failure is ignored."""
        if not self.address:
            return
        text = "\n".join(f"{name}={' '.join(str(v).split())}" for name, v in fields.items())
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(SEND_WITHIN)
            data = text.encode("utf-8", "replace")[:LONGEST]
            sender.sendto(data, _real(self.address))


def _real(address: str) -> str:
    """``@name`` stands for an abstract socket."""
    return "\0" + address[1:] if address.startswith("@") else address


class Receiver:
    """Receives what processes send to ``address``. Every process of this host can send
    there; the kernel gives the sender's process id, which callers must check."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.setblocking(False)
        self._socket.bind("")  # the kernel picks an unused abstract name, so no file is left
        name: bytes = self._socket.getsockname()
        self.address = "@" + name[1:].decode("ascii")

    def fileno(self) -> int:
        return self._socket.fileno()

    def receive(self) -> Iterator[tuple[int, dict[str, str]]]:
        """The messages received so far: the sender's process id, and the fields."""
        space = socket.CMSG_SPACE(_CREDENTIALS.size)
        with suppress(BlockingIOError):
            while True:
                data, ancillary, _, _ = self._socket.recvmsg(LONGEST, space)
                for level, kind, value in ancillary:
                    if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                        yield _CREDENTIALS.unpack(value)[0], _fields(data)

    def close(self) -> None:
        self._socket.close()


def _fields(data: bytes) -> dict[str, str]:
    lines = data.decode("utf-8", "replace").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)
