"""How a process tells whoever started it how it is, as systemd's sd_notify does.

A datagram of ``NAME=value`` lines to the socket that ``$NOTIFY_SOCKET`` names.
Owns both ends; what the names mean is their users' business.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, MutableMapping
from contextlib import suppress

SEND_WITHIN = 0.2  # seconds; who does not listen must not hold us up
LONGEST = 4096  # bytes of a message
_CREDENTIALS = struct.Struct("3i")  # process, user, group


class Notifier:
    """Sends; to nobody when ``address`` is empty. ``watchdog`` are the seconds
    within which the receiver wants to hear of us; 0: it does not mind."""

    def __init__(self, address: str = "", watchdog: float = 0.0) -> None:
        self.address = address
        self.watchdog = watchdog

    @classmethod
    def take(cls, environ: MutableMapping[str, str]) -> Notifier:
        """As the environment says; taken out of it, so that no child of ours
        speaks in our name."""
        address = environ.pop("NOTIFY_SOCKET", "")
        environ.pop("WATCHDOG_PID", None)
        limit = environ.pop("WATCHDOG_USEC", "")
        return cls(address, int(limit) / 1e6 if limit.isdecimal() else 0.0)

    def __call__(self, **fields: object) -> None:
        """Whether anybody hears it or not."""
        if not self.address:
            return
        text = "\n".join(f"{name}={' '.join(str(v).split())}" for name, v in fields.items())
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(SEND_WITHIN)
            data = text.encode("utf-8", "replace")[:LONGEST]
            sender.sendto(data, _real(self.address))


def _real(address: str) -> str:
    """``@name`` is how an abstract socket is written down."""
    return "\0" + address[1:] if address.startswith("@") else address


class Receiver:
    """Hears what others send to ``address``. The kernel vouches for who sent it:
    anybody on this host can, so look at the process id."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.setblocking(False)
        self._socket.bind("")  # the kernel finds a name that nobody has, and no file is left
        name: bytes = self._socket.getsockname()
        self.address = "@" + name[1:].decode("ascii")

    def fileno(self) -> int:
        return self._socket.fileno()

    def receive(self) -> Iterator[tuple[int, dict[str, str]]]:
        """Everything that has come: the sender's process id, and its fields."""
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
